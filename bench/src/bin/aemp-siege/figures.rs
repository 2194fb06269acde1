//! What a round has cost others, the bounds, and the table of the worst.

use super::round::Attack;
use std::fmt;
use std::time::Duration;

/// What the attackers have sent: packets (or connections of strangers), and octets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) packets: usize,
    pub(super) octets: u64,
    /// Connections that the node has closed, and those on which it did not answer in time, of members
    /// that wait for an answer.
    pub(super) closed: usize,
    pub(super) unanswered: usize,
}

/// What a round has cost others.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    /// How long another member waited for an echo: median, 99th percentile, maximum.
    pub(super) waited: [Duration; 3],
    /// Octets in use when the last packet had been sent, more than before the attack.
    pub(super) held: u64,
    /// Octets in use some time after the attackers had left, more than before the attack.
    pub(super) kept: u64,
    pub(super) log_lines: u64,
    pub(super) log_octets: u64,
}

impl Figures {
    /// The larger one of each figure.
    fn worst(self, other: Figures) -> Figures {
        let [median, p99, longest] = self.waited;
        let [other_median, other_p99, other_longest] = other.waited;
        Figures {
            waited: [median.max(other_median), p99.max(other_p99), longest.max(other_longest)],
            held: self.held.max(other.held),
            kept: self.kept.max(other.kept),
            log_lines: self.log_lines.max(other.log_lines),
            log_octets: self.log_octets.max(other.log_octets),
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mebibytes(octets: u64) -> f64 {
    octets as f64 / f64::from(1 << 20)
}

/// A bound that a round can break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// How long others wait; a busy machine breaks it too.
    Waiting,
    /// Octets of database entries that are held for a member.
    Database,
    /// Octets that are kept for a member that is gone.
    Memory,
    Log,
    /// Characters in the log that change how a line is laid out.
    Escaping,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Waiting => "others waited for too long",
            Bound::Database => "too much of a database was held",
            Bound::Memory => "too much memory was kept",
            Bound::Log => "too much was logged",
            Bound::Escaping => "something was not escaped in the log",
        })
    }
}

/// The result of one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) sent: Sent,
    pub(super) figures: Figures,
    pub(super) broken: Option<Bound>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { waited, held, kept, log_lines, log_octets } = self.figures;
        let [median, p99, longest] = waited.map(milliseconds);
        write!(
            f,
            "{} packets, {:.1} MiB; others waited {median:.1} ms (p50), {p99:.1} ms (p99), \
             {longest:.1} ms at most; {:.1} MiB held, {:.1} MiB kept; {log_lines} lines, {:.1} KiB \
             logged",
            self.sent.packets,
            mebibytes(self.sent.octets),
            mebibytes(held),
            mebibytes(kept),
            log_octets as f64 / 1024.0
        )?;
        let Sent { closed, unanswered, .. } = self.sent;
        if closed > 0 {
            write!(f, "; connections closed by the node: {closed}")?;
        }
        if unanswered > 0 {
            write!(f, "; connections without an answer: {unanswered}")?;
        }
        self.broken.map_or(Ok(()), |bound| write!(f, "; FAILED: {bound}"))
    }
}

/// The worst figures of all rounds, for each attack.
#[derive(Default)]
pub(super) struct Table([(usize, Figures); Attack::ALL.len()]);

impl Table {
    pub(super) fn add(&mut self, attack: Attack, outcome: &Outcome) {
        if let Some((rounds, worst)) = self.0.get_mut(attack as usize) {
            *rounds += 1;
            *worst = worst.worst(outcome.figures);
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The worst of all rounds:\n")?;
        writeln!(
            f,
            "| attack | rounds | echo p50 of others, ms | p99 | max | memory held, MiB | kept | log \
             lines | KiB logged |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for (attack, (rounds, worst)) in Attack::ALL.iter().zip(&self.0) {
            if *rounds == 0 {
                continue;
            }
            let [median, p99, longest] = worst.waited.map(milliseconds);
            writeln!(
                f,
                "| {} | {rounds} | {median:.1} | {p99:.1} | {longest:.1} | {:.0} | {:.0} | {} | {:.0} |",
                attack.name(),
                mebibytes(worst.held),
                mebibytes(worst.kept),
                worst.log_lines,
                worst.log_octets as f64 / 1024.0
            )?;
        }
        Ok(())
    }
}

/// The figures of the known offences, in the order in which they were committed.
#[derive(Default)]
pub(super) struct KnownTable(Vec<(&'static str, Figures)>);

impl KnownTable {
    pub(super) fn add(&mut self, name: &'static str, outcome: &Outcome) {
        self.0.push((name, outcome.figures));
    }
}

impl fmt::Display for KnownTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what one member sends | p50, p99, max in ms | kept, held in MiB | lines |")?;
        writeln!(f, "|---|---|---|---|")?;
        for (name, figures) in &self.0 {
            let [median, p99, longest] = figures.waited.map(|time| brief(milliseconds(time)));
            let [kept, held] = [figures.kept, figures.held].map(mebibytes);
            let lines = figures.log_lines;
            writeln!(
                f,
                "| {name} | {median}, {p99}, {longest} | {kept:.0}, {held:.0} | {lines} |"
            )?;
        }
        Ok(())
    }
}

/// A number with a decimal place if it is small.
fn brief(number: f64) -> String {
    if number < 1.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}
