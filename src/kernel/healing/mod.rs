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

mod diagnosis;

use super::effect::Level;
use super::lines::HealingLine;
use super::random::Random;
use super::{HashMap, mesh};
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str};
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
    Log { level: Level, line: HealingLine },
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
    question: Option<PendingQuestion>,
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
        status: &DbStatus,
        now: Duration,
        random: &mut Random,
    ) {
        if self.may_need_healing(node, status) {
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
    fn may_need_healing(&self, node: &NodeId, status: &DbStatus) -> bool {
        let Some(health) = self.slaves.get(node).filter(|health| health.is_perl) else {
            return false;
        };
        self.enabled
            && !status.is_global
            && !status.is_slave
            && (status.is_missing || health.orphan)
    }

    /// Whether the node is our slave and has changed its master.
    ///
    /// Another global node may have made it adopt another master a moment later, and that master may
    /// have lost it before we could learn of it. The slave would keep the lost master for ever, and we
    /// an outdated copy of its database.
    fn may_have_been_healed_by_others(&self, node: &NodeId, status: &DbStatus) -> bool {
        status.is_slave && self.slaves.get(node).is_some_and(|health| health.changed)
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
            health
                .question
                .take_if(|question| !matches!(question.purpose, Purpose::Ownership { .. }));
        }
    }

    /// The node treats this node as its master without being its slave: it certainly needs healing.
    pub(super) fn is_orphan(
        &mut self,
        node: &NodeId,
        request: &'static str,
        status: &DbStatus,
        now: Duration,
    ) {
        let Some(health) = self.slaves.get_mut(node) else {
            return;
        };
        health.orphan = true;
        // The pause after an attempt is kept.
        let is_new = health.question.is_none() && health.pause.is_zero();
        if is_new && self.may_need_healing(node, status) {
            self.log(Level::Debug, HealingLine::Orphan(node.clone(), request));
            self.look_at(node, Duration::ZERO, now);
        }
    }

    /// Another global node claims one of our slaves.
    pub(super) fn has_conflict(&mut self, node: &NodeId, other: &NodeId, now: Duration) {
        let Some(health) = self.slaves.get(node) else {
            return;
        };
        if health.question.is_none() && !mutation::is_on(Mutation::KeepStaleSlaves) {
            self.log(Level::Debug, HealingLine::Conflict(node.clone(), other.clone()));
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
            health.question = Some(PendingQuestion { number, purpose, deadline });
        }
        self.look_at(node, ANSWER_TIMEOUT, now);
        number
    }

    /// The time of a [`HealingOutput::Wake`] has come.
    pub(super) fn look_at_due(&mut self, node: &NodeId, status: &DbStatus, now: Duration) {
        let Some(health) = self.slaves.get_mut(node) else {
            return;
        };
        if health.due.is_none_or(|due| due > now) {
            return;
        }
        health.due = None;
        match health.question.take_if(|question| question.deadline <= now) {
            // The connection is stuck, which does not tell whose slave it is.
            Some(PendingQuestion { purpose: Purpose::Ownership { claimed_by }, .. }) => {
                if status.is_slave {
                    self.inquire(node, Purpose::Ownership { claimed_by }, now);
                }
            }
            Some(_) => {
                let pause = self.next_pause(node, false);
                self.look_at(node, pause, now);
            }
            None => {
                let deadline = health.question.as_ref().map(|question| question.deadline);
                if let Some(deadline) = deadline {
                    self.look_at(node, deadline - now, now);
                    return;
                }
                if health.refuses {
                    return;
                }
                if self.may_need_healing(node, status) {
                    self.has_changed(node);
                    self.inquire(node, Purpose::Diagnosis, now);
                } else if self.may_have_been_healed_by_others(node, status) {
                    self.inquire(node, Purpose::Ownership { claimed_by: None }, now);
                }
            }
        }
    }

    fn take_inquiry(&mut self, node: &NodeId, number: u64) -> Option<Purpose> {
        let health = self.slaves.get_mut(node)?;
        Some(health.question.take_if(|question| question.number == number)?.purpose)
    }

    /// A node has received a question but does not answer it, as nodes in secure mode do.
    pub(super) fn is_silent(&mut self, node: &NodeId, number: u64, status: &DbStatus) {
        let Some(purpose) = self.take_inquiry(node, number) else {
            return;
        };
        if let Purpose::Ownership { claimed_by } = purpose {
            return self.settle_ownership_unasked(node, claimed_by.as_ref(), status);
        }
        if let Some(health) = self.slaves.get_mut(node) {
            health.refuses = true;
        }
        self.log(Level::Warn, HealingLine::Silent(node.clone()));
    }

    fn log(&mut self, level: Level, line: HealingLine) {
        self.outputs.push(HealingOutput::Log { level, line });
    }
}

#[cfg(test)]
mod tests;
