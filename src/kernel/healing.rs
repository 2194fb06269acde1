//! Perl slaves that lost their master for good: how they are found, asked and healed.
//!
//! A Perl slave survives only one change of master (`docs/protocol.md` §7). No action follows from a
//! timeout alone: the node is asked for its master, and asked again right before it gets a new one,
//! because a healthy slave that is told to change its master has then used up the one change that it
//! survives.
//!
//! A machine of its own: its inputs are methods, its outputs are [`HealingOutput`]s, which have to be
//! handled in order before the next input. The database's knowledge about a node is passed with each
//! input.

use super::effect::Level;
use super::log::line;
use super::random::Random;
use super::{HashMap, mesh};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str};
use std::fmt;
use std::time::Duration;

/// How long a connected node's addresses may be missing before it is asked; a random part of the same
/// length is added.
const GRACE_PERIOD: Duration = Duration::from_secs(2);
/// How long to wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause between attempts; the pauses after it double, up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const MAX_PAUSE: Duration = Duration::from_secs(600);
/// The interval at which a slave that has changed its master is asked whether it is still ours.
const OWNERSHIP_CHECK: Duration = Duration::from_secs(60);

/// The connected nodes of other implementations, and their health.
#[derive(Debug)]
pub(super) struct Healing {
    own: NodeId,
    enabled: bool,
    slaves: HashMap<NodeId, SlaveHealth>,
    next_question: u64,
    healed: u64,
    outputs: Vec<HealingOutput>,
}

/// An output of healing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HealingOutput {
    /// Ask a node for its master and for the nodes that it is connected to:
    /// [`Healing::master_answered`].
    AskMaster { node: NodeId, number: u64 },
    /// Ask a node for an echo, after the question for its master: [`Healing::is_silent`].
    AskSilence { node: NodeId, number: u64 },
    /// Ask a global node for an echo: [`Healing::barrier_passed`].
    AskBarrier { node: NodeId, number: u64 },
    /// Make a Perl slave adopt a master, and send it its database and requests again.
    Adopt { node: NodeId, master: NodeId },
    /// Drop the database of this slave: it has another master.
    DropSlave(NodeId),
    /// Call [`Healing::look_at_due`] for this node at this time.
    Wake { at: Duration, node: NodeId },
    /// A line for the log.
    Log { level: Level, text: String },
}

/// The database's knowledge about a node.
#[derive(Debug, Clone, Default)]
pub(super) struct DbStatus {
    /// The node announced that it is global.
    pub(super) is_global: bool,
    /// It is our slave.
    pub(super) is_slave: bool,
    /// This node is global, and no node announces the other one's addresses.
    pub(super) is_missing: bool,
    /// The nodes that announce its addresses.
    pub(super) announcers: Vec<NodeId>,
    /// Our own master.
    pub(super) our_master: Option<NodeId>,
}

/// The health of a connected node.
#[derive(Debug, Default)]
struct SlaveHealth {
    is_perl: bool,
    inquiry: Option<PendingQuestion>,
    /// When the node is checked next.
    due: Option<Duration>,
    pause: Duration,
    /// It did not answer. A node in secure mode logs every question, so it is not asked again.
    refuses: bool,
    /// It had no master when it was last asked.
    masterless: bool,
    /// It treats this node as its master without being its slave.
    orphan: bool,
    /// It has, or may have, changed its master since it connected: no node announced its addresses for a
    /// while, or two nodes did. Another node may make it adopt yet another master because of an answer
    /// that it gave before the change, and it no longer notices when it loses a master.
    changed: bool,
}

#[derive(Debug, Clone)]
struct PendingQuestion {
    number: u64,
    purpose: Purpose,
    deadline: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    /// Does it need a new master?
    Diagnosis,
    /// Has the global node that it names as its master sent us everything it knows?
    Barrier { master: NodeId },
    /// Does it still need one? Asked right before it gets one.
    Confirmation {
        /// A global node that could have told us of the slave, and has not.
        heard: Option<NodeId>,
    },
    /// Whose slave is it? Another global node claims it too, or may have healed it as well.
    Ownership { claimed_by: Option<NodeId> },
}

impl Healing {
    pub(super) fn new(own: NodeId, enabled: bool) -> Self {
        Healing {
            own,
            enabled,
            slaves: HashMap::default(),
            next_question: 0,
            healed: 0,
            outputs: Vec::new(),
        }
    }

    /// Takes the outputs since the last call, in order.
    pub(super) fn take_outputs(&mut self) -> Vec<HealingOutput> {
        std::mem::take(&mut self.outputs)
    }

    /// The number of slaves that this node has healed, by making them adopt it.
    pub(super) fn healed(&self) -> u64 {
        self.healed
    }

    /// A node has connected.
    pub(super) fn node_up(&mut self, node: &NodeId, provider: &Str) {
        // A node of this implementation finds a master by itself, and changes it only when the
        // connection to the old one is lost.
        if !mesh::is_ours(provider) {
            let is_perl = provider.to_text_lossy().starts_with("AE-2");
            self.slaves.insert(node.clone(), SlaveHealth { is_perl, ..SlaveHealth::default() });
        }
    }

    /// The connection to a node is lost.
    pub(super) fn node_down(&mut self, node: &NodeId) {
        self.slaves.remove(node);
    }

    /// Whether the health of a node is recorded; if not, inputs about it have no effect.
    pub(super) fn knows(&self, node: &NodeId) -> bool {
        self.slaves.contains_key(node)
    }

    /// Schedules a check of a connected node, if no node announces its addresses.
    pub(super) fn suspect(
        &mut self,
        node: &NodeId,
        standing: &DbStatus,
        now: Duration,
        random: &mut Random,
    ) {
        if self.may_need_healing(node, standing) {
            let delay = GRACE_PERIOD.mul_f64(1.0 + random.fraction());
            self.look_at(node, delay, now);
        }
    }

    fn look_at(&mut self, node: &NodeId, delay: Duration, now: Duration) {
        let at = now + delay;
        if let Some(health) = self.slaves.get_mut(node) {
            health.due = Some(at);
            self.outputs.push(HealingOutput::Wake { at, node: node.clone() });
        }
    }

    /// Whether the node is a connected Perl slave whose addresses no node announces.
    fn may_need_healing(&self, node: &NodeId, standing: &DbStatus) -> bool {
        let Some(health) = self.slaves.get(node).filter(|health| health.is_perl) else {
            return false;
        };
        self.enabled
            && !standing.is_global
            && !standing.is_slave
            && (standing.is_missing || health.orphan)
    }

    /// Whether the node is our slave and has changed its master.
    ///
    /// Another global node may have made it adopt another master a moment later, and that master may
    /// have lost it before we could learn of it. The slave would keep the lost master for ever, and we
    /// an outdated copy of its database.
    fn may_have_been_healed_by_others(&self, node: &NodeId, standing: &DbStatus) -> bool {
        standing.is_slave && self.slaves.get(node).is_some_and(|health| health.changed)
    }

    /// The node is connected, and its addresses were removed from the database: its master has lost it,
    /// or it has lost its master.
    pub(super) fn is_unlocated(&mut self, node: &NodeId) {
        self.has_changed(node);
    }

    fn has_changed(&mut self, node: &NodeId) {
        if let Some(health) = self.slaves.get_mut(node) {
            health.changed = true;
        }
    }

    /// The node's addresses are in the database again.
    pub(super) fn is_located(&mut self, node: &NodeId) {
        if let Some(health) = self.slaves.get_mut(node) {
            health.masterless = false;
            health.inquiry.take_if(|inquiry| !matches!(inquiry.purpose, Purpose::Ownership { .. }));
        }
    }

    /// The node treats this node as its master without being its slave: it certainly needs healing.
    pub(super) fn is_orphan(
        &mut self,
        node: &NodeId,
        request: &str,
        standing: &DbStatus,
        now: Duration,
    ) {
        let Some(health) = self.slaves.get_mut(node) else {
            return;
        };
        health.orphan = true;
        // The pause after an attempt is kept.
        let is_new = health.inquiry.is_none() && health.pause.is_zero();
        if is_new && self.may_need_healing(node, standing) {
            self.log(Level::Debug, format_args!("{node} sends {request} without being our slave"));
            self.look_at(node, Duration::ZERO, now);
        }
    }

    /// Another global node claims one of our slaves.
    pub(super) fn has_conflict(&mut self, node: &NodeId, other: &NodeId, now: Duration) {
        let Some(health) = self.slaves.get(node) else {
            return;
        };
        if health.inquiry.is_none() && !mutation::is_on(Mutation::KeepStaleSlaves) {
            self.log(Level::Debug, format_args!("{other} speaks for our slave {node}"));
            self.has_changed(node);
            self.inquire(node, Purpose::Ownership { claimed_by: Some(other.clone()) }, now);
        }
    }

    fn inquire(&mut self, node: &NodeId, purpose: Purpose, now: Duration) {
        let number = self.begin_inquiry(node, purpose, now);
        self.outputs.push(HealingOutput::AskMaster { node: node.clone(), number });
        // An echo is never refused.
        self.outputs.push(HealingOutput::AskSilence { node: node.clone(), number });
    }

    fn begin_inquiry(&mut self, node: &NodeId, purpose: Purpose, now: Duration) -> u64 {
        self.next_question += 1;
        let number = self.next_question;
        let deadline = now + ANSWER_TIMEOUT;
        if let Some(health) = self.slaves.get_mut(node) {
            health.inquiry = Some(PendingQuestion { number, purpose, deadline });
        }
        self.look_at(node, ANSWER_TIMEOUT, now);
        number
    }

    /// The time of a [`HealingOutput::Wake`] has come.
    pub(super) fn look_at_due(&mut self, node: &NodeId, standing: &DbStatus, now: Duration) {
        let Some(health) = self.slaves.get_mut(node) else {
            return;
        };
        if health.due.is_none_or(|due| due > now) {
            return;
        }
        health.due = None;
        match health.inquiry.take_if(|inquiry| inquiry.deadline <= now) {
            // The connection is stuck, which does not tell whose slave it is.
            Some(PendingQuestion { purpose: Purpose::Ownership { claimed_by }, .. }) => {
                if standing.is_slave {
                    self.inquire(node, Purpose::Ownership { claimed_by }, now);
                }
            }
            Some(_) => {
                let pause = self.next_pause(node, false);
                self.look_at(node, pause, now);
            }
            None => {
                let deadline = health.inquiry.as_ref().map(|inquiry| inquiry.deadline);
                if let Some(deadline) = deadline {
                    self.look_at(node, deadline - now, now);
                    return;
                }
                if health.refuses {
                    return;
                }
                if self.may_need_healing(node, standing) {
                    self.has_changed(node);
                    self.inquire(node, Purpose::Diagnosis, now);
                } else if self.may_have_been_healed_by_others(node, standing) {
                    self.inquire(node, Purpose::Ownership { claimed_by: None }, now);
                }
            }
        }
    }

    fn take_inquiry(&mut self, node: &NodeId, number: u64) -> Option<Purpose> {
        let health = self.slaves.get_mut(node)?;
        Some(health.inquiry.take_if(|inquiry| inquiry.number == number)?.purpose)
    }

    /// A node has received a question but does not answer it, as nodes in secure mode do.
    pub(super) fn is_silent(&mut self, node: &NodeId, number: u64, standing: &DbStatus) {
        let Some(purpose) = self.take_inquiry(node, number) else {
            return;
        };
        if let Purpose::Ownership { claimed_by } = purpose {
            return self.settle_ownership_unasked(node, claimed_by.as_ref(), standing);
        }
        if let Some(health) = self.slaves.get_mut(node) {
            health.refuses = true;
        }
        self.log(
            Level::Warn,
            format_args!("{node} has lost its master and answers no questions; restart it"),
        );
    }

    /// A node has told its master and the nodes that it is connected to; `answers` begin with an error
    /// text. `named` is the master, if it is a connected node that announced that it is global.
    pub(super) fn master_answered(
        &mut self,
        node: &NodeId,
        number: u64,
        answers: &[Str],
        named: Option<NodeId>,
        standing: &DbStatus,
        now: Duration,
    ) {
        let Some(purpose) = self.take_inquiry(node, number) else {
            return;
        };
        let Some(health) = self.slaves.get_mut(node) else {
            return;
        };
        health.due = None;
        let (error, master, up) = match answers {
            [error, master, up @ ..] => (error, master, up),
            [error] => (error, error, &[][..]),
            [] => return,
        };
        if !error.is_empty() {
            health.refuses = true;
            self.log(Level::Warn, format_args!("{node} does not tell its master: {error}"));
            if let Purpose::Ownership { claimed_by } = purpose {
                self.settle_ownership_unasked(node, claimed_by.as_ref(), standing);
            }
            return;
        }
        let has_changed = health.changed;
        self.log(Level::Debug, format_args!("{node} says that its master is {master}"));
        match purpose {
            Purpose::Ownership { .. } => {
                let is_others = master.as_ref() != self.own.as_str() && !master.is_empty();
                if is_others && standing.is_slave {
                    self.log(Level::Info, format_args!("{node} has {master} as its master now"));
                    self.outputs.push(HealingOutput::DropSlave(node.clone()));
                } else if has_changed {
                    self.look_at(node, OWNERSHIP_CHECK, now);
                }
            }
            Purpose::Barrier { .. } => {}
            Purpose::Diagnosis | Purpose::Confirmation { .. } => {
                let confirmed = match purpose {
                    Purpose::Confirmation { heard } => Some(heard),
                    _ => None,
                };
                if self.may_need_healing(node, standing) {
                    let answer = Answer { master, up, named };
                    self.diagnose(node, answer, confirmed, standing, now);
                }
            }
        }
    }

    /// Heals a node, or asks it once more before that; `confirmed` is set if it was asked twice.
    fn diagnose(
        &mut self,
        node: &NodeId,
        Answer { master, up, named }: Answer<'_>,
        confirmed: Option<Option<NodeId>>,
        standing: &DbStatus,
        now: Duration,
    ) {
        let is_us = master.as_ref() == self.own.as_str();
        let Some(health) = self.slaves.get_mut(node) else {
            return;
        };
        let needs_us = if master.is_empty() {
            // It may be about to find a master; if it still has none after a pause, it will not find
            // one.
            health.masterless
        } else {
            is_us
                || named.is_some()
                || !up.contains(master)
                || mutation::is_on(Mutation::HealWhateverTheAnswer)
        };
        health.orphan &= is_us;
        // Its entries may still be on their way to the master that it names. If it got another one, two
        // nodes would have them.
        let seen = named.as_ref().filter(|_| up.contains(master));
        let new_master = seen.or(standing.our_master.as_ref());
        let pause = self.next_pause(node, master.is_empty());
        match confirmed {
            _ if !needs_us => self.look_at(node, pause, now),
            // Its master had the chance to announce it, and has not done so.
            Some(heard) if named.is_none() || named == heard => {
                self.adopt_orphan(node, new_master, pause, now);
            }
            _ => match named {
                Some(_) if mutation::is_on(Mutation::HealWithoutBarrier) => {
                    self.adopt_orphan(node, new_master, pause, now);
                }
                Some(master) => self.await_barrier(node, master, now),
                None => self.inquire(node, Purpose::Confirmation { heard: None }, now),
            },
        }
    }

    fn adopt_orphan(
        &mut self,
        node: &NodeId,
        master: Option<&NodeId>,
        pause: Duration,
        now: Duration,
    ) {
        if let Some(master) = master.cloned() {
            self.log(Level::Info, format_args!("{node} lost its master: it gets {master}"));
            self.outputs.push(HealingOutput::Adopt { node: node.clone(), master });
            self.healed += 1;
            self.has_changed(node);
        }
        self.look_at(node, pause, now);
    }

    /// Asks another global node for an echo, which arrives after all it has sent about its slaves.
    fn await_barrier(&mut self, node: &NodeId, master: NodeId, now: Duration) {
        let number = self.begin_inquiry(node, Purpose::Barrier { master: master.clone() }, now);
        self.outputs.push(HealingOutput::AskBarrier { node: master, number });
    }

    /// The node whose check waits for this echo of a global node.
    pub(super) fn waits_for_barrier(&self, from: &NodeId, number: u64) -> Option<NodeId> {
        self.slaves.iter().find_map(|(node, health)| {
            let inquiry = health.inquiry.as_ref()?;
            let asked = matches!(&inquiry.purpose, Purpose::Barrier { master } if *master == *from);
            (inquiry.number == number && asked).then(|| node.clone())
        })
    }

    /// A global node has sent everything it knew when it was asked; the check of `node` was waiting for
    /// that.
    pub(super) fn barrier_passed(
        &mut self,
        node: &NodeId,
        from: &NodeId,
        standing: &DbStatus,
        now: Duration,
    ) {
        if let Some(health) = self.slaves.get_mut(node) {
            health.inquiry = None;
        }
        if self.may_need_healing(node, standing) {
            self.inquire(node, Purpose::Confirmation { heard: Some(from.clone()) }, now);
        }
    }

    fn next_pause(&mut self, node: &NodeId, masterless: bool) -> Duration {
        let Some(health) = self.slaves.get_mut(node) else {
            return MAX_PAUSE;
        };
        health.masterless = masterless;
        health.pause = (health.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
        health.pause
    }

    /// Two global nodes have the slave, and it does not tell which is its master: the smaller ID keeps
    /// it.
    fn settle_ownership_unasked(
        &mut self,
        node: &NodeId,
        claimed_by: Option<&NodeId>,
        standing: &DbStatus,
    ) {
        let Some(other) = claimed_by.filter(|other| is_claimed(standing, other)) else {
            return;
        };
        let node = node.clone();
        if self.own < *other {
            let master = self.own.clone();
            self.outputs.push(HealingOutput::Adopt { node, master });
        } else {
            self.log(Level::Info, format_args!("{node} is left to {other}"));
            self.outputs.push(HealingOutput::DropSlave(node));
        }
    }

    fn log(&mut self, level: Level, text: fmt::Arguments<'_>) {
        self.outputs.push(HealingOutput::Log { level, text: line(text) });
    }
}

/// The answer of a node to the question for its master.
struct Answer<'a> {
    master: &'a Str,
    /// The nodes that it is connected to.
    up: &'a [Str],
    /// The master, if it is a connected node that announced that it is global.
    named: Option<NodeId>,
}

/// Whether the node is our slave, and another global node announces it too.
fn is_claimed(standing: &DbStatus, by: &NodeId) -> bool {
    standing.is_slave && standing.announcers.contains(by)
}

#[cfg(test)]
#[path = "healing_tests.rs"]
mod tests;
