//! The benchmark cases: names, processes, sizes and goals.

use crate::process::Group;
use crate::report::Report;
use crate::sides::{Role, Side};
use crate::{idle, node_loss};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// A case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Its processes, in the order in which they are started.
    parts: &'static [&'static str],
    /// The results of a measurement: name, unit and goal of each figure.
    figures: &'static [(&'static str, &'static str, &'static str)],
    /// The size of a measurement for each participating side.
    sizes: &'static [(Side, usize)],
}

const PAIR: &[&str] = &["receiver", "sender"];

use Side::{Aemp, Erlang, Perl, Ractor, Raw};

/// All cases.
pub(crate) const ALL: &[Case] = &[
    Case {
        name: "oneway_cbor",
        parts: PAIR,
        figures: &[("oneway_cbor", "M/s", ">= 8, 15% of raw, 20x erlang, 20x ractor")],
        sizes: &[
            (Aemp, 8_000_000),
            (Raw, 50_000_000),
            (Erlang, 400_000),
            (Ractor, 300_000),
            (Perl, 100_000),
        ],
    },
    Case {
        name: "oneway_json",
        parts: PAIR,
        figures: &[("oneway_json", "M/s", ">= 4")],
        sizes: &[(Aemp, 4_000_000), (Perl, 100_000)],
    },
    Case {
        name: "oneway_tls",
        parts: PAIR,
        figures: &[("oneway_tls", "M/s", ">= 70% of oneway_cbor")],
        sizes: &[(Aemp, 8_000_000)],
    },
    Case {
        name: "oneway_bound",
        parts: PAIR,
        figures: &[("oneway_bound", "M/s", ">= 70% of oneway_cbor")],
        sizes: &[(Aemp, 8_000_000)],
    },
    Case {
        name: "oneway_4k",
        parts: PAIR,
        figures: &[("oneway_4k", "MB/s", ">= 80% of raw")],
        sizes: &[(Aemp, 600_000), (Raw, 1_000_000)],
    },
    Case {
        name: "oneway_4k_vec",
        parts: PAIR,
        figures: &[("oneway_4k_vec", "MB/s", ">= 70% of raw")],
        sizes: &[(Aemp, 600_000), (Raw, 1_000_000)],
    },
    Case {
        name: "rtt",
        parts: PAIR,
        figures: &[("rtt", "us", "<= 1.15x raw"), ("rtt_p99", "us", "<= 2x raw")],
        sizes: &[(Aemp, 30_000), (Raw, 30_000), (Erlang, 20_000), (Ractor, 20_000), (Perl, 20_000)],
    },
    Case {
        name: "rtt_bound",
        parts: PAIR,
        figures: &[("rtt_bound", "us", "<= 1.25x rtt"), ("rtt_bound_p99", "us", "")],
        sizes: &[(Aemp, 30_000)],
    },
    Case {
        name: "echo_beside_flood",
        parts: &["receiver", "flooder", "sender"],
        figures: &[("echo_beside_flood", "us", ""), ("echo_beside_flood_p99", "us", "<= 5000")],
        sizes: &[(Aemp, 20_000)],
    },
    Case {
        name: "local_callback",
        parts: &["alone"],
        figures: &[("local_callback", "M/s", ">= 15")],
        sizes: &[(Aemp, 20_000_000), (Perl, 300_000)],
    },
    Case {
        name: "local_mailbox",
        parts: &["alone"],
        figures: &[("local_mailbox", "M/s", ">= 8")],
        sizes: &[(Aemp, 10_000_000), (Erlang, 2_000_000), (Ractor, 500_000)],
    },
    Case {
        name: "to_perl",
        parts: PAIR,
        figures: &[("to_perl", "M/s", ">= perl")],
        sizes: &[(Aemp, 100_000), (Perl, 100_000)],
    },
    Case {
        name: "calls",
        parts: PAIR,
        figures: &[("calls", "M/s", ">= 0.6")],
        sizes: &[(Aemp, 500_000), (Erlang, 200_000), (Perl, 30_000)],
    },
    Case {
        name: "stream",
        parts: PAIR,
        figures: &[("stream", "MB/s", ">= 90% of raw")],
        sizes: &[(Aemp, 1024), (Raw, 1024)],
    },
    Case {
        name: "stream_tls",
        parts: PAIR,
        figures: &[("stream_tls", "MB/s", ">= 90% of raw")],
        sizes: &[(Aemp, 1024), (Raw, 1024)],
    },
    Case {
        name: "db_propagate",
        parts: &["master", "watcher", "setter"],
        figures: &[("db_propagate", "M/s", ">= 1, 20x perl")],
        sizes: &[(Aemp, 10_000), (Perl, 10_000)],
    },
    Case {
        name: "db_node_loss",
        parts: &["alone"],
        figures: &[
            ("db_loss_100", "us", "one slave of 100 is lost"),
            ("db_loss_10k", "us", "<= 8x db_loss_100"),
        ],
        sizes: &[(Aemp, 100)],
    },
    Case {
        name: "fanout_1k",
        parts: &["center", "subscribers"],
        figures: &[("fanout_1k_lone", "ms", "<= 10"), ("fanout_1k", "M/s", ">= 3")],
        sizes: &[(Aemp, 1_000)],
    },
    Case {
        name: "slaves_10k",
        parts: &["center", "slaves"],
        figures: &[("slaves_10k_join", "s", "<= 5"), ("slaves_10k_mem", "KiB", "<= 24 each")],
        sizes: &[(Aemp, 10_000)],
    },
    Case {
        name: "joins",
        parts: &["center", "slaves"],
        figures: &[("joins", "1/s", ""), ("joins_mem", "KiB", "<= 24 each")],
        sizes: &[(Aemp, 2_000)],
    },
    Case {
        name: "joins_bound",
        parts: &["center", "slaves"],
        figures: &[("joins_bound", "1/s", ""), ("joins_bound_mem", "KiB", "<= 32 each")],
        sizes: &[(Aemp, 2_000)],
    },
    Case {
        name: "idle",
        parts: &[],
        figures: &[("idle_start", "ms", "<= 20"), ("idle_memory", "MB", "<= 6")],
        sizes: &[(Aemp, 1), (Perl, 1)],
    },
];

/// Measures a case on all sides, round by round.
pub(crate) fn measure(
    case: &Case,
    sides: &[Side],
    rounds: usize,
    quick: bool,
    report: &mut Report,
) {
    let mut figures = vec![BTreeMap::<Side, Vec<f64>>::new(); case.figures.len()];
    for _ in 0..rounds {
        for (side, size) in case.sizes {
            if !sides.contains(side) {
                continue;
            }
            let size = if quick && *size > 20_000 { size / 10 } else { *size };
            match measure_once(case, *side, size) {
                Ok(values) => {
                    for (figure, value) in figures.iter_mut().zip(values) {
                        figure.entry(*side).or_default().push(value);
                    }
                }
                Err(error) => eprintln!("{} of {}: {error:#}", case.name, side.name()),
            }
        }
    }
    for ((name, unit, goal), values) in case.figures.iter().zip(figures) {
        report.add(name, unit, goal, values);
    }
}

fn measure_once(case: &Case, side: Side, size: usize) -> Result<Vec<f64>> {
    match case.name {
        "idle" => return idle::measure(side),
        "db_node_loss" => return node_loss::measure(size),
        _ => {}
    }
    let mut group = Group::new(Duration::from_secs(60));
    let mut said = Vec::new();
    for part in case.parts {
        let role = Role { case: case.name, part, size, arguments: &said };
        // If two systems are combined, the receiver is Perl's.
        let side = match (case.name, *part) {
            ("to_perl", "receiver") => Perl,
            _ => side,
        };
        group.start(side.command(&role)?).context(side.name())?;
        if Some(part) != case.parts.last() {
            said.extend(group.expect("READY")?);
        }
    }
    let result = group.expect("RESULT")?;
    result.iter().map(|value| Ok(value.parse()?)).collect()
}
