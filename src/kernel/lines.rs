//! The kernel's log lines as data. Whoever writes a line turns it into text, with no lock held, and no
//! more of it than fits into a line. What a peer chose is cut when the line is made.

use super::db::DbProblem;
use super::effect::Reason;
use super::request::Refused;
use crate::value::{NodeId, Str};
use std::fmt::{self, Write as _};
use std::time::Duration;

/// Octets of a log line.
const LONGEST_LINE: usize = 1000;

/// One line for the log; what came from peers is escaped when it is displayed.
#[derive(Debug, Clone)]
pub struct Line {
    pub(super) what: What,
    /// How many lines were left out before it.
    pub(super) unlogged: u64,
}

/// What a line says.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// A text of the host.
    Text(String),
    Mesh(MeshLine),
    Healing(HealingLine),
    /// A node is connected.
    Up(NodeId),
    /// The connection to a node was lost.
    Down(NodeId, String),
    /// A node was chosen as our master.
    Master(NodeId),
    /// This node has become global because this node asked for it, or one of its seeds is itself.
    Global(Option<NodeId>),
    /// A port died and nobody monitored it.
    Unnoticed(Str, Reason),
    /// A request has no name.
    NoName(NodeId),
    /// A request was refused. Its name is cut.
    Refused(NodeId, Str, Refused),
    /// The database refused a request, or a part of it.
    Problem(NodeId, DbProblem),
    /// A message to the node named last would have to wait for a connection.
    MayNotWait(NodeId, Str),
    /// An answer to no question.
    NotAsked(NodeId),
}

/// What the mesh has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MeshLine {
    /// A node that was sought cannot be reached.
    GaveUp(NodeId, String),
    /// The seed at this address is this node.
    SeedIsOurselves(Str),
    /// No seed can be reached, for these reasons, and they are tried again at least this often.
    NoSeed(Vec<String>, Duration),
    /// So many connections in a row ended within `lasting`, and the next one is tried after `pause`.
    Unsteady { node: NodeId, count: u32, lasting: Duration, pause: Duration },
    /// So many connections in the name of a node that is connected were refused.
    Refused(NodeId, u32),
}

/// What healing has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HealingLine {
    /// A node sends a request for masters, and is no slave of ours.
    Orphan(NodeId, &'static str),
    /// The node named last speaks for our slave.
    Conflict(NodeId, NodeId),
    /// A node without a master answers no questions.
    Silent(NodeId),
    /// A node does not tell its master; its error is cut.
    DoesNotTell(NodeId, Str),
    /// A node says which master it has; the name is cut.
    Tells(NodeId, Str),
    /// A slave has another master; the name is cut.
    HasMaster(NodeId, Str),
    /// A node without a master gets this one.
    Healed(NodeId, NodeId),
    /// A slave is kept by another global node.
    KeptBy(NodeId, NodeId),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_cut(f, format_args!("{}", self.what), LONGEST_LINE)?;
        match self.unlogged {
            0 => Ok(()),
            unlogged => write!(f, " (and {unlogged} more that were not logged)"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Text(text) => f.write_str(text),
            What::Mesh(line) => line.fmt(f),
            What::Healing(line) => line.fmt(f),
            What::Up(node) => write!(f, "{node} is up"),
            What::Down(node, why) => write!(f, "{node} is down: {why}"),
            What::Master(node) => write!(f, "{node} is our master"),
            What::Global(None) => f.write_str("this node is global now"),
            What::Global(Some(from)) => write!(f, "this node is global now: {from} asked for it"),
            What::Unnoticed(port, reason) => {
                let port = port.as_ref().beginning();
                write!(f, "port {port} died and nobody monitored it: {reason}")
            }
            What::NoName(from) => write!(f, "request from {from}: its name is not a string"),
            What::Refused(from, name, why) => {
                write!(f, "request {} from {from}: {why}", name.as_ref().beginning())
            }
            What::Problem(from, problem) => write!(f, "request from {from}: {problem}"),
            What::MayNotWait(from, sought) => write!(
                f,
                "message from {from} to {} dropped: too many octets are pending for unconnected nodes already \
                 (peer_limit)",
                sought.as_ref().beginning()
            ),
            What::NotAsked(from) => write!(f, "{from} sent an unexpected answer"),
        }
    }
}

impl fmt::Display for MeshLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MeshLine::GaveUp(node, why) => write!(f, "{node}: {why}"),
            MeshLine::SeedIsOurselves(address) => {
                write!(f, "seed {address} is this node: now global")
            }
            MeshLine::NoSeed(reasons, retry) => {
                f.write_str("no seed can be reached: ")?;
                for (at, reason) in reasons.iter().enumerate() {
                    write!(f, "{}{reason}", if at == 0 { "" } else { ", " })?;
                }
                write!(
                    f,
                    ". Until one of them runs this node is alone; they are tried again at least \
                     every {}",
                    Seconds(*retry)
                )
            }
            MeshLine::Unsteady { node, count, lasting, pause } => write!(
                f,
                "{count} connections with {node} in a row ended within {} of their beginning; the \
                 next one is tried in {}. Its log may say why",
                Seconds(*lasting),
                Seconds(*pause)
            ),
            MeshLine::Refused(node, count) => write!(
                f,
                "{count} connections in the name of {node} were refused, as that node is connected \
                 and answers: do two nodes have this node ID?"
            ),
        }
    }
}

impl fmt::Display for HealingLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HealingLine::Orphan(node, request) => {
                write!(f, "{node} sends {request} without being our slave")
            }
            HealingLine::Conflict(node, other) => write!(f, "{other} claims our slave {node}"),
            HealingLine::Silent(node) => {
                write!(f, "{node} has lost its master and answers no questions; restart it")
            }
            HealingLine::DoesNotTell(node, error) => {
                write!(f, "{node} does not tell its master: {}", error.as_ref().beginning())
            }
            HealingLine::Tells(node, master) => {
                write!(f, "{node} says that its master is {}", master.as_ref().beginning())
            }
            HealingLine::HasMaster(node, master) => {
                write!(f, "{node} has {} as its master now", master.as_ref().beginning())
            }
            HealingLine::Healed(node, master) => {
                write!(f, "{node} lost its master: it gets {master}")
            }
            HealingLine::KeptBy(node, other) => write!(f, "{node} is kept by {other}"),
        }
    }
}

/// How long a duration is, for people.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}

/// The first octets of a text, so many at most, and a sign if there are more. These are not formatted.
pub(crate) fn cut(text: fmt::Arguments<'_>, longest: usize) -> String {
    let mut short = String::new();
    // Writing to a string does not fail.
    let _ = write_cut(&mut short, text, longest);
    short
}

/// As [`cut`], for a text that goes into the log.
pub(crate) fn cut_line(text: fmt::Arguments<'_>) -> String {
    cut(text, LONGEST_LINE)
}

fn write_cut(to: &mut impl fmt::Write, text: fmt::Arguments<'_>, longest: usize) -> fmt::Result {
    let mut short = Short { to, room: longest, is_cut: false };
    match short.write_fmt(text) {
        Err(_) if short.is_cut => to.write_str("..."),
        outcome => outcome,
    }
}

/// Writes so many octets, and fails at what does not fit, so that the rest is not formatted.
struct Short<'a, W> {
    to: &'a mut W,
    room: usize,
    is_cut: bool,
}

impl<W: fmt::Write> fmt::Write for Short<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() <= self.room {
            self.room -= text.len();
            return self.to.write_str(text);
        }
        let end = (0..=self.room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.is_cut = true;
        self.to.write_str(text.get(..end).unwrap_or_default())?;
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_formatted_no_further_than_it_is_logged() {
        struct Counts<'a>(&'a std::cell::Cell<usize>);
        impl fmt::Display for Counts<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (0..1_000_000).try_for_each(|_| {
                    self.0.set(self.0.get() + 1);
                    f.write_str("é")
                })
            }
        }
        let pieces = std::cell::Cell::new(0);
        let text = cut_line(format_args!("x{}", Counts(&pieces)));
        assert!(text.len() <= LONGEST_LINE + 3 && text.ends_with("é..."), "{text}");
        assert!(pieces.get() <= LONGEST_LINE);
    }

    #[test]
    fn a_line_of_a_peers_strings_is_short_and_counts_those_left_out() {
        let long = Str::octets(b"\x1b".repeat(1_000_000));
        let from = NodeId::new("peer").unwrap();
        let reason = crate::value::Packed::of(&("die", "x".repeat(10_000))).unwrap();
        for what in [
            What::Unnoticed(long.clone(), reason),
            What::MayNotWait(from.clone(), long.clone()),
            What::Refused(from.clone(), long.clone(), Refused::PortExists(long.clone())),
            What::Healing(HealingLine::DoesNotTell(from, long)),
        ] {
            let text = Line { what, unlogged: 3 }.to_string();
            assert!(text.ends_with("... (and 3 more that were not logged)"), "{text}");
            assert!(text.len() <= LONGEST_LINE + 40 && !text.contains('\x1b'), "{text}");
        }
    }
}
