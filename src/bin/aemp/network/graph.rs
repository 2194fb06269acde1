//! The network as text, a tree, Graphviz, SVG or JSON.

use crate::show::{self, Style};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const START: &str = "#272";
const SILENT: &str = "#c44";

/// Nodes with their neighbours, in the order in which they answered. Names are unescaped here; each
/// output format escapes them.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    start: String,
    nodes: Vec<String>,
    neighbours: BTreeMap<String, Vec<String>>,
    silent: BTreeSet<String>,
}

impl Graph {
    pub(crate) fn new(start: String) -> Self {
        Graph { start, ..Graph::default() }
    }

    pub(crate) fn add(&mut self, node: String, neighbours: Vec<String>) {
        self.nodes.push(node.clone());
        self.neighbours.insert(node, neighbours);
    }

    /// Adds a node that did not answer.
    pub(crate) fn add_silent(&mut self, node: String) {
        self.nodes.push(node.clone());
        self.silent.insert(node);
    }

    fn of(&self, node: &str) -> &[String] {
        self.neighbours.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// Pairs of connected nodes, and whether both of them report the connection.
    fn links(&self) -> BTreeMap<(&str, &str), bool> {
        let mut links: BTreeMap<(&str, &str), u8> = BTreeMap::new();
        for (node, neighbours) in &self.neighbours {
            for other in neighbours {
                let pair = match node < other {
                    true => (node.as_str(), other.as_str()),
                    false => (other.as_str(), node.as_str()),
                };
                *links.entry(pair).or_default() += 1;
            }
        }
        links.into_iter().map(|(pair, count)| (pair, count > 1)).collect()
    }

    /// A tree in which each node stands below one to which it is connected; links to nodes that
    /// were shown before are listed in brackets.
    pub(crate) fn tree(&self) -> String {
        // Breadth first, so that every node is shown at its shortest distance from the start.
        let mut parent: BTreeMap<&str, &str> = BTreeMap::new();
        let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([self.start.as_str()]);
        let mut seen = BTreeSet::from([self.start.as_str()]);
        while let Some(node) = queue.pop_front() {
            let mut neighbours: Vec<&str> = self.of(node).iter().map(String::as_str).collect();
            neighbours.sort_unstable();
            for other in neighbours {
                if seen.insert(other) {
                    parent.insert(other, node);
                    children.entry(node).or_default().push(other);
                    queue.push_back(other);
                }
            }
        }
        let mut out = String::new();
        let mut stack = vec![(self.start.as_str(), String::new(), String::new())];
        while let Some((node, branch, margin)) = stack.pop() {
            let others: Vec<&str> = self
                .of(node)
                .iter()
                .map(String::as_str)
                .filter(|other| parent.get(other) != Some(&node) && parent.get(node) != Some(other))
                .collect();
            let silent = if self.silent.contains(node) { " (no answer)" } else { "" };
            let also = match others.is_empty() {
                true => String::new(),
                false => format!("  [also {}]", show::escaped(&others.join(" "))),
            };
            let name = show::escaped(node);
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{branch}{name}{silent}{also}");
            let below = children.get(node).map(Vec::as_slice).unwrap_or_default();
            for (index, child) in below.iter().enumerate().rev() {
                let (corner, line) = match index + 1 == below.len() {
                    true => ("└─ ", "   "),
                    false => ("├─ ", "│  "),
                };
                stack.push((child, format!("{margin}{corner}"), format!("{margin}{line}")));
            }
        }
        out
    }

    /// The network for Graphviz; a link that only one side reports is dashed.
    pub(crate) fn dot(&self) -> String {
        let mut out = String::from("graph aemp {\n");
        for node in &self.nodes {
            let style = if self.silent.contains(node) { " [style=dashed]" } else { "" };
            let _ = writeln!(out, "   {}{style};", dot_quoted(node));
        }
        for ((a, b), both) in self.links() {
            let style = if both || self.silent.contains(a) || self.silent.contains(b) {
                ""
            } else {
                " [style=dashed]"
            };
            let _ = writeln!(out, "   {} -- {}{style};", dot_quoted(a), dot_quoted(b));
        }
        out.push_str("}\n");
        out
    }

    /// All nodes on a circle, with lines between them, names outside, and a legend below.
    pub(crate) fn svg(&self) -> String {
        /// Space on the left and on the right for names outside the circle.
        const MARGIN: f64 = 260.0;
        const ABOVE: f64 = 50.0;
        const LEGEND: f64 = 60.0;
        let count = self.nodes.len().max(1) as f64;
        let radius = (count * 7.0).max(160.0);
        let (width, height) = (2.0 * (radius + MARGIN), 2.0 * (radius + ABOVE) + LEGEND);
        let (centre_x, centre_y) = (width / 2.0, radius + ABOVE);
        let places: BTreeMap<&str, (f64, f64)> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| {
                let angle = std::f64::consts::TAU * index as f64 / count;
                (node.as_str(), (angle.sin(), -angle.cos()))
            })
            .collect();
        let at =
            |(x, y): (f64, f64), distance: f64| (centre_x + x * distance, centre_y + y * distance);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
            xml_escaped(&format!("The network of {}", self.start))
        );
        for ((a, b), both) in self.links() {
            let (Some(a), Some(b)) = (places.get(a), places.get(b)) else { continue };
            let dashes = if both { "" } else { " stroke-dasharray=\"5 4\"" };
            let ((x1, y1), (x2, y2)) = (at(*a, radius), at(*b, radius));
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
                 stroke=\"#888\"{dashes}/>"
            );
        }
        for (node, place) in &places {
            let ((x, y), (label_x, label_y)) = (at(*place, radius), at(*place, radius + 14.0));
            let anchor = match place.0 {
                side if side > 0.1 => "start",
                side if side < -0.1 => "end",
                _ => "middle",
            };
            let _ = writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7\" fill=\"{}\"/>\
                 <text x=\"{label_x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                self.colour(node),
                label_y + 4.0,
                xml_escaped(node)
            );
        }
        let line = height - 20.0;
        let _ = writeln!(
            out,
            "<g fill=\"#666\" font-size=\"11\"><circle cx=\"20\" cy=\"{0:.0}\" r=\"5\" \
             fill=\"{START}\"/><text x=\"30\" y=\"{1:.0}\">asked first</text><circle cx=\"120\" \
             cy=\"{0:.0}\" r=\"5\" fill=\"{SILENT}\"/><text x=\"130\" y=\"{1:.0}\">no \
             answer</text><line x1=\"210\" y1=\"{0:.0}\" x2=\"245\" y2=\"{0:.0}\" stroke=\"#888\" \
             stroke-dasharray=\"5 4\"/><text x=\"250\" y=\"{1:.0}\">reported by one side \
             only</text></g>",
            line,
            line + 4.0
        );
        out.push_str("</svg>\n");
        out
    }

    fn colour(&self, node: &str) -> &'static str {
        match (self.silent.contains(node), node == self.start) {
            (true, _) => SILENT,
            (false, true) => START,
            (false, false) => "#369",
        }
    }

    pub(crate) fn json(&self) -> String {
        let nodes: serde_json::Map<String, serde_json::Value> = self
            .nodes
            .iter()
            .map(|node| {
                let neighbours = match self.silent.contains(node) {
                    true => serde_json::Value::Null,
                    false => self.of(node).into(),
                };
                (node.clone(), neighbours)
            })
            .collect();
        let graph = serde_json::json!({ "start": self.start, "nodes": nodes });
        let graph = aemp::Value::of(&graph).unwrap_or_default();
        show::json(&graph, Style::Compact) + "\n"
    }
}

fn dot_quoted(text: &str) -> String {
    format!("\"{}\"", show::escaped(text).replace('\\', "\\\\").replace('"', "\\\""))
}

fn xml_escaped(text: &str) -> String {
    show::escaped(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Graph {
        let mut graph = Graph::new("a".into());
        graph.add("a".into(), vec!["b".into(), "c".into()]);
        graph.add("b".into(), vec!["a".into(), "c".into()]);
        graph.add("c".into(), vec!["a".into(), "b".into(), "d\"<".into()]);
        graph.add_silent("d\"<".into());
        graph
    }

    #[test]
    fn a_tree_shows_each_node_once() {
        let tree = "a\n├─ b  [also c]\n└─ c  [also b]\n   └─ d\"< (no answer)\n";
        assert_eq!(network().tree(), tree);
    }

    #[test]
    fn every_link_is_drawn_once() {
        let dot = network().dot();
        assert_eq!(dot.matches(" -- ").count(), 4);
        assert!(dot.contains(r#""c" -- "d\"<""#));
        let svg = network().svg();
        assert_eq!(svg.matches("<line").count(), 4 + 1, "with the one of the legend");
        assert!(svg.contains("d\"&lt;"));
    }

    #[test]
    fn json_tells_silent_nodes_from_lonely_ones() {
        let json: serde_json::Value = serde_json::from_str(&network().json()).unwrap();
        assert_eq!(json["nodes"]["d\"<"], serde_json::Value::Null);
        assert_eq!(json["nodes"]["a"], serde_json::json!(["b", "c"]));
    }
}
