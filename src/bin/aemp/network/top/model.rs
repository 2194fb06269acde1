//! What `top` knows about the network. It does no I/O and has no clock.

use crate::show;
use aemp::node::Status;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many events are kept.
const MAX_EVENTS: usize = 100;

/// The software of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not known yet; never known of a node in secure mode.
    #[default]
    Unknown,
    /// AnyEvent::MP of this version.
    Perl(String),
    /// This crate.
    Ours,
}

/// The answer of a node.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// It answered only the echo.
    Echo,
    Perl {
        master: Option<String>,
        neighbours: Vec<String>,
    },
    Ours(Box<Status>),
    /// It cannot be reached.
    Nothing(String),
}

/// The answers of one node in one round.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) node: String,
    pub(crate) kind: Kind,
    pub(crate) milliseconds: Option<f64>,
    pub(crate) answer: Answer,
}

/// A connection of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Link {
    pub(crate) node: String,
    /// Figures of this connection, which only our nodes report.
    pub(crate) figures: Option<Figures>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) framing: String,
    pub(crate) protection: String,
    pub(crate) waiting: u64,
    packets: u64,
    octets: u64,
    pub(crate) packets_per_second: f64,
    pub(crate) octets_per_second: f64,
}

/// A node of the network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) provider: Option<String>,
    pub(crate) is_global: bool,
    pub(crate) master: Option<String>,
    pub(crate) uptime: Option<f64>,
    pub(crate) ports: Option<u64>,
    pub(crate) links: Vec<Link>,
    pub(crate) milliseconds: Option<f64>,
    /// Why it does not answer.
    pub(crate) problem: Option<String>,
    /// What prevents it from working, as it reports itself.
    pub(crate) warnings: Vec<String>,
    /// Whether it has been asked yet.
    pub(crate) is_known: bool,
}

impl Row {
    /// The sum over all links; `None` for nodes that do not report it.
    pub(crate) fn total(&self, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
        let figures: Vec<f64> =
            self.links.iter().filter_map(|link| link.figures.as_ref()).map(figure).collect();
        (self.kind == Kind::Ours).then(|| figures.iter().sum())
    }

    pub(crate) fn software(&self) -> String {
        match (&self.kind, &self.provider) {
            (Kind::Unknown, _) => "?".into(),
            (Kind::Perl(version), _) => format!("Perl {version}"),
            (Kind::Ours, provider) => provider.clone().unwrap_or_default(),
        }
    }

    pub(crate) fn role(&self) -> String {
        match (self.is_global, &self.master) {
            (true, _) => "global".into(),
            (false, Some(master)) => format!("slave of {master}"),
            (false, None) => "slave".into(),
        }
    }
}

/// An event, with the time of day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: String,
    pub(crate) text: String,
}

/// The known state of the network.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// The node that `top` itself runs, which is not shown.
    itself: String,
    pub(crate) rows: BTreeMap<String, Row>,
    pub(crate) families: BTreeMap<String, u64>,
    pub(crate) events: VecDeque<Event>,
    selected: Option<String>,
}

impl Model {
    pub(crate) fn new(itself: String) -> Self {
        Model { itself, ..Model::default() }
    }

    /// Sets the nodes: those with an entry in the family `'l`.
    pub(crate) fn set_nodes(&mut self, nodes: BTreeSet<String>, at: &str) {
        let is_first = self.rows.is_empty();
        let gone: Vec<String> =
            self.rows.keys().filter(|node| !nodes.contains(*node)).cloned().collect();
        for node in gone {
            self.rows.remove(&node);
            self.happened(at, format!("{node} is gone"));
        }
        for node in nodes {
            if node != self.itself && !self.rows.contains_key(&node) {
                if !is_first {
                    self.happened(at, format!("{node} is there"));
                }
                self.rows.insert(node, Row::default());
            }
        }
    }

    /// Sets the global nodes: those with an entry in the family `'g`.
    pub(crate) fn set_globals(&mut self, globals: &BTreeSet<String>, at: &str) {
        let mut changed = Vec::new();
        for (node, row) in &mut self.rows {
            let is_global = globals.contains(node);
            if row.is_known && row.is_global != is_global {
                let text = if is_global { "is global now" } else { "is no longer global" };
                changed.push(format!("{node} {text}"));
            }
            row.is_global = is_global;
        }
        for text in changed {
            self.happened(at, text);
        }
    }

    pub(crate) fn happened(&mut self, at: &str, text: String) {
        self.events.push_front(Event { at: at.to_owned(), text });
        self.events.truncate(MAX_EVENTS);
    }

    /// Adds the answers of a node.
    pub(crate) fn report(&mut self, report: Report, at: &str) {
        let itself = self.itself.clone();
        let Some(row) = self.rows.get_mut(&report.node) else {
            return;
        };
        let had_problem = row.problem.take().is_some();
        row.is_known = true;
        row.kind = report.kind;
        row.milliseconds = report.milliseconds;
        let mut event = had_problem.then(|| format!("{} answers again", report.node));
        match report.answer {
            Answer::Echo => {}
            Answer::Perl { master, neighbours } => {
                row.master = master;
                let others = neighbours.into_iter().filter(|node| *node != itself);
                row.links = others.map(|node| Link { node, figures: None }).collect();
            }
            Answer::Ours(status) => {
                let warnings: Vec<String> =
                    status.warnings.iter().map(|text| show::text(text.as_ref())).collect();
                if warnings != row.warnings {
                    event = warnings.first().map(|text| format!("{}: {text}", report.node));
                    row.warnings = warnings;
                }
                let families = status.families.iter();
                for (family, keys) in families {
                    self.families.insert(show::text(family.as_ref()), *keys);
                }
                row.take_status(&status, &itself);
            }
            Answer::Nothing(problem) => {
                event = (!had_problem).then(|| format!("{} does not answer", report.node));
                row.problem = Some(problem);
                row.links.clear();
            }
        }
        if let Some(text) = event {
            self.happened(at, text);
        }
    }

    pub(crate) fn selected(&self) -> Option<(usize, &str, &Row)> {
        let wanted = self.selected.as_ref();
        let mut rows = self.rows.iter().enumerate();
        let found = rows.find(|(_, (node, _))| wanted.is_none_or(|wanted| *node >= wanted));
        let found = found.or_else(|| self.rows.iter().enumerate().next_back());
        found.map(|(index, (node, row))| (index, node.as_str(), row))
    }

    /// Moves the selection down by this many rows.
    pub(crate) fn select(&mut self, by: isize) {
        let now = self.selected().map_or(0, |(index, ..)| index);
        let last = self.rows.len().saturating_sub(1);
        let next = now.saturating_add_signed(by).min(last);
        self.selected = self.rows.keys().nth(next).cloned();
    }

    /// The number of pairs of connected nodes.
    pub(crate) fn link_count(&self) -> usize {
        let pairs = self.rows.iter().flat_map(|(node, row)| {
            row.links.iter().map(move |link| match node < &link.node {
                true => (node.as_str(), link.node.as_str()),
                false => (link.node.as_str(), node.as_str()),
            })
        });
        pairs.collect::<BTreeSet<_>>().len()
    }

    /// Everything, as JSON for programs.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let nodes = self.rows.iter().map(|(node, row)| {
            let links = row.links.iter().map(|link| match &link.figures {
                None => serde_json::json!({ "node": link.node }),
                Some(figures) => serde_json::json!({
                    "node": link.node,
                    "framing": figures.framing,
                    "protection": figures.protection,
                    "waiting": figures.waiting,
                    "packets_per_second": figures.packets_per_second,
                    "octets_per_second": figures.octets_per_second,
                }),
            });
            serde_json::json!({
                "node": node,
                "software": row.software(),
                "global": row.is_global,
                "master": row.master,
                "uptime": row.uptime,
                "ports": row.ports,
                "milliseconds": row.milliseconds,
                "problem": row.problem,
                "warnings": row.warnings,
                "links": links.collect::<Vec<_>>(),
            })
        });
        serde_json::json!({
            "nodes": nodes.collect::<Vec<_>>(),
            "families": self.families,
        })
    }
}

impl Row {
    fn take_status(&mut self, status: &Status, itself: &str) {
        let elapsed = status.uptime - self.uptime.unwrap_or(status.uptime);
        let links = status.links.iter().map(|link| {
            let node = show::text(link.node.as_ref());
            let before = self.links.iter().find(|before| before.node == node);
            let before = before.and_then(|before| before.figures.as_ref());
            let per_second = |now: u64, before: Option<u64>| match before {
                Some(before) if elapsed > 0.0 && now >= before => (now - before) as f64 / elapsed,
                _ => 0.0,
            };
            let figures = Figures {
                framing: show::text(link.framing.as_ref()),
                protection: show::text(link.protection.as_ref()),
                waiting: link.waiting,
                packets: link.packets,
                octets: link.octets,
                packets_per_second: per_second(link.packets, before.map(|b| b.packets)),
                octets_per_second: per_second(link.octets, before.map(|b| b.octets)),
            };
            Link { node, figures: Some(figures) }
        });
        let links: Vec<Link> = links.filter(|link| link.node != itself).collect();
        self.links = links;
        self.uptime = Some(status.uptime);
        self.ports = Some(status.ports);
        self.provider = Some(show::text(status.provider.as_ref()));
        self.master = status.master.as_ref().map(|master| show::text(master.as_ref()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aemp::Value;

    const NOW: &str = "12:00:00";

    fn nodes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn status(uptime: f64, packets: u64, octets: u64) -> Answer {
        let value = serde_json::json!({
            "node": "a", "provider": "aemp-0.1.0", "uptime": uptime, "ports": 3, "master": "b",
            "links": [
                { "node": "b", "framing": "cbor", "packets": packets, "octets": octets },
                { "node": "top", "packets": 1, "octets": 1 },
            ],
            "families": { "rooms": 2 },
        });
        Answer::Ours(Box::new(Value::of(&value).unwrap().decode().unwrap()))
    }

    fn answer(node: &str, kind: Kind, answer: Answer) -> Report {
        Report { node: node.into(), kind, milliseconds: Some(1.0), answer }
    }

    fn model() -> Model {
        let mut model = Model::new("top".into());
        model.set_nodes(nodes(&["a", "b", "top"]), NOW);
        model
    }

    #[test]
    fn rates_come_from_two_answers() {
        let mut model = model();
        model.report(answer("a", Kind::Ours, status(10.0, 100, 1000)), NOW);
        assert_eq!(model.rows["a"].total(|f| f.packets_per_second), Some(0.0));
        model.report(answer("a", Kind::Ours, status(12.0, 110, 3000)), NOW);
        let row = &model.rows["a"];
        assert_eq!(row.total(|f| f.packets_per_second), Some(5.0));
        assert_eq!(row.total(|f| f.octets_per_second), Some(1000.0));
        assert_eq!(row.links.len(), 1, "the link with top itself is not shown");
        assert_eq!(model.families["rooms"], 2);
    }

    #[test]
    fn a_restarted_node_has_no_negative_rates() {
        let mut model = model();
        model.report(answer("a", Kind::Ours, status(10.0, 100, 1000)), NOW);
        model.report(answer("a", Kind::Ours, status(1.0, 1, 10)), NOW);
        assert_eq!(model.rows["a"].total(|f| f.octets_per_second), Some(0.0));
    }

    #[test]
    fn what_changes_is_an_event() {
        let mut model = model();
        let neighbours = vec!["a".into(), "top".into()];
        let perl = Answer::Perl { master: Some("a".into()), neighbours };
        model.report(answer("b", Kind::Perl("2.02".into()), perl), NOW);
        model.set_globals(&nodes(&["b"]), NOW);
        model.report(answer("b", Kind::Unknown, Answer::Nothing("gone".into())), NOW);
        model.report(answer("b", Kind::Unknown, Answer::Echo), NOW);
        model.set_nodes(nodes(&["a", "c"]), NOW);
        let events: Vec<&str> = model.events.iter().map(|event| event.text.as_str()).collect();
        let wanted =
            ["c is there", "b is gone", "b answers again", "b does not answer", "b is global now"];
        assert_eq!(events, wanted);
    }

    #[test]
    fn the_selection_stays_within_the_rows() {
        let mut model = model();
        assert_eq!(model.selected().unwrap().1, "a");
        model.select(5);
        assert_eq!(model.selected().unwrap().1, "b");
        model.set_nodes(nodes(&["a"]), NOW);
        assert_eq!(model.selected().unwrap().1, "a");
        model.set_nodes(nodes(&[]), NOW);
        assert!(model.selected().is_none());
        model.select(-1);
    }

    #[test]
    fn links_are_counted_once() {
        let mut model = model();
        model.report(answer("a", Kind::Ours, status(1.0, 1, 1)), NOW);
        let perl = Answer::Perl { master: None, neighbours: vec!["a".into()] };
        model.report(answer("b", Kind::Perl("2.02".into()), perl), NOW);
        assert_eq!(model.link_count(), 1);
    }
}
