//! Prometheus' text format.

use super::figures::{Kind, figures};
use super::shown::shown;
use crate::node::{Link, Metrics};
use crate::value::Str;
use crate::wire::protection::{Protection, WhyPlain};
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

/// The media type of [`render`]'s result.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How many peers, and how many families, have series of their own. The others are added up as
/// the peer or family `other`.
pub const MAX_SERIES: usize = 1_000;

/// All figures of a node in Prometheus' text format, as `/metrics` returns them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let text = aemp::services::metrics::render(&node.metrics());
/// assert!(text.contains("\naemp_connections 0\n"));
/// # Ok(()) }
/// ```
pub fn render(metrics: &Metrics) -> String {
    let mut text = Text(String::new());
    text.family("aemp_info", Kind::Gauge, "The node and its software; always 1.");
    let node = shown(&metrics.node);
    text.sample("aemp_info", &[("node", &node), ("version", env!("CARGO_PKG_VERSION"))], 1);
    for figure in figures(metrics) {
        text.family(figure.name, figure.kind, figure.help);
        text.sample(figure.name, &[], figure.value);
    }
    if let Some(expires) = metrics.certificate_expires {
        let name = "aemp_certificate_expires_timestamp_seconds";
        let help = "When other nodes begin to refuse the node's certificate, since the epoch.";
        text.family(name, Kind::Gauge, help);
        text.sample(name, &[], expires);
    }
    text.family("aemp_handshakes_total", Kind::Counter, "Handshakes by how they ended.");
    for handshakes in &metrics.handshakes {
        let dialled = if handshakes.dialled { "1" } else { "0" };
        let labels = [("dialled", dialled), ("outcome", handshakes.outcome.name())];
        text.sample("aemp_handshakes_total", &labels, handshakes.count);
    }
    text.protections(&metrics.links);
    text.peers(&metrics.links);
    text.families(&metrics.families);
    text.process();
    text.0
}

/// Figures of one connection.
type OfPeer = (&'static str, Kind, &'static str, fn(&Link) -> u64);

const OF_PEERS: [OfPeer; 6] = [
    ("aemp_peer_up", Kind::Gauge, "Connections with the peer: 1.", |_| 1),
    ("aemp_peer_sent_packets_total", Kind::Counter, "Packets sent to the peer.", |l| l.packets),
    ("aemp_peer_sent_bytes_total", Kind::Counter, "Octets sent to the peer.", |l| l.octets),
    ("aemp_peer_received_packets_total", Kind::Counter, "Packets from the peer.", |l| {
        l.received_packets
    }),
    ("aemp_peer_received_bytes_total", Kind::Counter, "Octets from the peer.", |l| {
        l.received_octets
    }),
    ("aemp_peer_waiting_bytes", Kind::Gauge, "Octets queued for the peer.", |l| l.waiting),
];

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            push_escaped(&mut self.0, value);
            self.0.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// All kinds of protection, so that an alarm for plain connections has a series to look at.
    fn protections(&mut self, links: &[Link]) {
        const NAME: &str = "aemp_connections_by_protection";
        let plain = Protection::Plain(WhyPlain::Local);
        self.family(NAME, Kind::Gauge, "Connections by how they are protected.");
        for kind in [Protection::Certificates, Protection::Bound, plain].map(Protection::name) {
            let of_kind = links.iter().filter(|link| link.protection == *kind);
            self.sample(NAME, &[("protection", kind)], of_kind.count());
        }
    }

    fn peers(&mut self, links: &[Link]) {
        for (name, kind, help, figure) in OF_PEERS {
            self.family(name, kind, help);
            let values = links.iter().map(|link| (&link.node, figure(link)));
            self.each(name, "peer", values);
        }
    }

    fn families(&mut self, families: &BTreeMap<Str, u64>) {
        self.family("aemp_database_keys", Kind::Gauge, "Keys of each family of the database.");
        self.each(
            "aemp_database_keys",
            "family",
            families.iter().map(|(name, keys)| (name, *keys)),
        );
    }

    /// One sample for each label; those beyond the limit, and those with equal shown names, are added up.
    fn each<'a>(&mut self, name: &str, label: &str, values: impl Iterator<Item = (&'a Str, u64)>) {
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for (index, (of, value)) in values.enumerate() {
            let of = if index < MAX_SERIES { shown(of) } else { "other".to_owned() };
            *sums.entry(of).or_default() += value;
        }
        for (of, value) in &sums {
            self.sample(name, &[(label, of)], value);
        }
    }

    /// The usual figures of a process, as far as the system provides them.
    fn process(&mut self) {
        let used = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        if let Some(kilobytes) = used {
            let name = "process_resident_memory_bytes";
            self.family(name, Kind::Gauge, "Resident memory of the process.");
            self.sample(name, &[], kilobytes * 1024);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            let name = "process_open_fds";
            self.family(name, Kind::Gauge, "Open files and sockets of the process.");
            // One of them is the handle that reads the directory.
            self.sample(name, &[], files.count().saturating_sub(1));
        }
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let name = "process_cpu_seconds_total";
        self.family(name, Kind::Counter, "Processor time of the process.");
        self.sample(name, &[], cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9);
    }
}

/// The value of a label, with backslashes, quotes and line ends escaped.
fn push_escaped(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(node: &str, packets: u64) -> Link {
        Link { node: Str::octets(node.as_bytes()), packets, ..Link::default() }
    }

    fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        text.lines().filter(|line| line.starts_with(name)).collect()
    }

    #[test]
    fn labels_are_escaped() {
        let links = vec![link("a\\b\"c\nd\u{1b}", 1)];
        let text = render(&Metrics { links, ..Metrics::default() });
        assert_eq!(
            lines(&text, "aemp_peer_sent_packets_total"),
            [r#"aemp_peer_sent_packets_total{peer="a\\b\"c\\u{a}d\\u{1b}"} 1"#]
        );
    }

    #[test]
    fn peers_beyond_the_limit_are_summed_up() {
        let links = (0..MAX_SERIES + 3).map(|number| link(&format!("n{number:05}"), 2)).collect();
        let text = render(&Metrics { links, ..Metrics::default() });
        let samples = lines(&text, "aemp_peer_sent_packets_total{");
        assert_eq!(samples.len(), MAX_SERIES + 1);
        assert_eq!(samples.last(), Some(&r#"aemp_peer_sent_packets_total{peer="other"} 6"#));
    }

    #[test]
    fn peers_whose_names_look_the_same_have_one_series() {
        let links = vec![link("\u{1b}", 1), link("\\u{1b}", 2)];
        let text = render(&Metrics { links, ..Metrics::default() });
        assert_eq!(
            lines(&text, "aemp_peer_sent_packets_total{"),
            [r#"aemp_peer_sent_packets_total{peer="\\u{1b}"} 3"#]
        );
    }

    #[test]
    fn every_sample_belongs_to_the_family_above_it() {
        let families = [(Str::text("eg"), 3)].into();
        let metrics = Metrics { links: vec![link("a", 1)], families, ..Metrics::default() };
        let text = render(&metrics);
        let mut family = "";
        let mut seen = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
                assert!(seen.insert(family), "{family} comes once");
                assert_eq!(family.ends_with("_total"), rest.ends_with(" counter"), "{rest}");
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(name, family);
                let value = line.rsplit(' ').next().unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.contains("\naemp_database_keys{family=\"eg\"} 3\n"));
    }
}
