//! The benchmark cases: names, processes, sizes and goals.

use crate::goal::{Goal, at_least, at_most};
use crate::sides::Side;

/// A case.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Its processes, in the order in which they are started.
    pub(crate) parts: &'static [&'static str],
    /// The results of a measurement.
    pub(crate) figures: &'static [Figure],
    /// The size of a measurement for each participating side.
    sizes: &'static [(Side, usize)],
}

/// One result of a measurement.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) goals: &'static [Goal],
}

/// How much a side has to do.
pub(crate) struct Sized {
    pub(crate) side: Side,
    pub(crate) size: usize,
}

impl Case {
    /// The sides that take part; an earlier version does what this one does.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = Sized> {
        self.sizes.iter().flat_map(|&(side, size)| {
            let before = (side == Aemp).then_some(Sized { side: Before, size });
            std::iter::once(Sized { side, size }).chain(before)
        })
    }
}

const fn figure(name: &'static str, unit: &'static str, goals: &'static [Goal]) -> Figure {
    Figure { name, unit, goals }
}

const PAIR: &[&str] = &["receiver", "sender"];

use Goal::{Either, Is};
use Side::{Aemp, Before, Erlang, Nats, Perl, Ractor, Raw, Zeromq};

/// All cases.
pub(crate) const ALL: &[Case] = &[
    Case {
        name: "oneway_cbor",
        parts: PAIR,
        figures: &[figure(
            "oneway_cbor",
            "M/s",
            &[
                Is(at_least(0.25).times(Raw)),
                Is(at_least(20.0).times(Erlang)),
                Is(at_least(20.0).times(Ractor)),
            ],
        )],
        sizes: &[
            (Aemp, 8_000_000),
            (Raw, 50_000_000),
            (Zeromq, 8_000_000),
            (Nats, 3_000_000),
            (Erlang, 400_000),
            (Ractor, 300_000),
            (Perl, 100_000),
        ],
    },
    Case {
        name: "oneway_json",
        parts: PAIR,
        figures: &[figure("oneway_json", "M/s", &[Is(at_least(0.6).times_figure("oneway_cbor"))])],
        sizes: &[(Aemp, 4_000_000), (Perl, 100_000)],
    },
    Case {
        name: "oneway_tls",
        parts: PAIR,
        figures: &[figure("oneway_tls", "M/s", &[Is(at_least(0.7).times_figure("oneway_cbor"))])],
        sizes: &[(Aemp, 8_000_000)],
    },
    Case {
        name: "oneway_bound",
        parts: PAIR,
        figures: &[figure("oneway_bound", "M/s", &[Is(at_least(0.7).times_figure("oneway_cbor"))])],
        sizes: &[(Aemp, 8_000_000)],
    },
    Case {
        name: "oneway_8to1",
        parts: PAIR,
        figures: &[figure("oneway_8to1", "M/s", &[Is(at_least(1.0).times_figure("oneway_cbor"))])],
        sizes: &[(Aemp, 8_000_000)],
    },
    Case {
        name: "oneway_8to8",
        parts: &["alone"],
        figures: &[figure("oneway_8to8", "M/s", &[Is(at_least(1.0).times_figure("oneway_cbor"))])],
        sizes: &[(Aemp, 8_000_000)],
    },
    Case {
        name: "oneway_4k",
        parts: PAIR,
        figures: &[figure("oneway_4k", "MB/s", &[Is(at_least(0.8).times(Raw))])],
        sizes: &[(Aemp, 600_000), (Raw, 1_000_000)],
    },
    Case {
        name: "oneway_4k_vec",
        parts: PAIR,
        figures: &[figure("oneway_4k_vec", "MB/s", &[Is(at_least(0.8).times(Raw))])],
        sizes: &[(Aemp, 600_000), (Raw, 1_000_000)],
    },
    Case {
        name: "rtt",
        parts: PAIR,
        figures: &[
            figure("rtt", "us", &[Is(at_most(1.15).times(Raw))]),
            figure("rtt_p99", "us", &[Is(at_most(2.0).times(Raw))]),
        ],
        sizes: &[
            (Aemp, 30_000),
            (Raw, 30_000),
            (Zeromq, 30_000),
            (Nats, 20_000),
            (Erlang, 20_000),
            (Ractor, 20_000),
            (Perl, 20_000),
        ],
    },
    Case {
        name: "rtt_bound",
        parts: PAIR,
        figures: &[
            figure("rtt_bound", "us", &[Is(at_most(1.25).times_figure("rtt"))]),
            figure("rtt_bound_p99", "us", &[]),
        ],
        sizes: &[(Aemp, 30_000)],
    },
    Case {
        name: "echo_beside_flood",
        parts: &["receiver", "flooder", "sender"],
        figures: &[
            figure("echo_beside_flood", "us", &[]),
            figure("echo_beside_flood_p99", "us", &[Is(at_most(1.5).times(Raw))]),
        ],
        sizes: &[(Aemp, 20_000), (Raw, 20_000)],
    },
    Case {
        name: "local_callback",
        parts: &["alone"],
        figures: &[figure(
            "local_callback",
            "M/s",
            &[Either(at_least(20.0), at_least(2.0).times(Before))],
        )],
        sizes: &[(Aemp, 20_000_000), (Perl, 300_000)],
    },
    Case {
        name: "local_8to8",
        parts: &["alone"],
        figures: &[figure(
            "local_8to8",
            "M/s",
            &[Is(at_least(1.0).times_figure("local_callback"))],
        )],
        sizes: &[(Aemp, 20_000_000)],
    },
    Case {
        name: "local_mailbox",
        parts: &["alone"],
        figures: &[figure("local_mailbox", "M/s", &[Is(at_least(8.0))])],
        sizes: &[(Aemp, 10_000_000), (Erlang, 2_000_000), (Ractor, 500_000)],
    },
    Case {
        name: "to_perl",
        parts: PAIR,
        figures: &[figure("to_perl", "M/s", &[Is(at_least(1.0).times(Perl))])],
        sizes: &[(Aemp, 100_000), (Perl, 100_000)],
    },
    Case {
        name: "calls",
        parts: PAIR,
        figures: &[figure("calls", "M/s", &[Is(at_least(0.6))])],
        sizes: &[
            (Aemp, 500_000),
            (Zeromq, 500_000),
            (Nats, 200_000),
            (Erlang, 200_000),
            (Perl, 30_000),
        ],
    },
    Case {
        name: "stream",
        parts: PAIR,
        figures: &[figure("stream", "MB/s", &[Is(at_least(0.9).times(Raw))])],
        sizes: &[(Aemp, 1024), (Raw, 1024)],
    },
    Case {
        name: "stream_tls",
        parts: PAIR,
        figures: &[figure("stream_tls", "MB/s", &[Is(at_least(0.9).times(Raw))])],
        sizes: &[(Aemp, 1024), (Raw, 1024)],
    },
    Case {
        name: "db_propagate",
        parts: &["master", "watcher", "setter"],
        figures: &[figure(
            "db_propagate",
            "M/s",
            &[Is(at_least(2.0).times(Before)), Is(at_least(20.0).times(Perl))],
        )],
        sizes: &[(Aemp, 10_000), (Perl, 10_000)],
    },
    Case {
        name: "db_node_loss",
        parts: &["alone"],
        figures: &[
            figure("db_loss_100", "us", &[]),
            figure("db_loss_10k", "us", &[Is(at_most(8.0).times_figure("db_loss_100"))]),
        ],
        sizes: &[(Aemp, 100)],
    },
    Case {
        name: "fanout_1k",
        parts: &["center", "subscribers"],
        figures: &[
            figure("fanout_1k_lone", "ms", &[Is(at_most(10.0))]),
            figure("fanout_1k", "M/s", &[Is(at_least(1.5).times(Before))]),
        ],
        sizes: &[(Aemp, 1_000), (Zeromq, 1_000), (Nats, 1_000)],
    },
    Case {
        name: "slaves_10k",
        parts: &["center", "slaves"],
        figures: &[
            figure("slaves_10k_join", "s", &[Is(at_most(0.7).times(Before))]),
            figure("slaves_10k_mem", "KiB", &[Is(at_most(24.0))]),
            // Earlier versions do not measure the last one.
            figure("slaves_10k_known", "s", &[]),
        ],
        sizes: &[(Aemp, 10_000)],
    },
    Case {
        name: "joins",
        parts: &["center", "slaves"],
        figures: &[figure("joins", "1/s", &[]), figure("joins_mem", "KiB", &[Is(at_most(24.0))])],
        sizes: &[(Aemp, 2_000), (Raw, 2_000), (Zeromq, 2_000), (Nats, 2_000)],
    },
    Case {
        name: "joins_bound",
        parts: &["center", "slaves"],
        figures: &[
            figure("joins_bound", "1/s", &[]),
            figure("joins_bound_mem", "KiB", &[Is(at_most(32.0))]),
        ],
        sizes: &[(Aemp, 2_000)],
    },
    Case {
        name: "idle",
        parts: &[],
        figures: &[
            figure("idle_start", "ms", &[Is(at_most(20.0))]),
            figure("idle_memory", "MB", &[Is(at_most(4.5))]),
        ],
        sizes: &[(Aemp, 1), (Perl, 1)],
    },
];
