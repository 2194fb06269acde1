//! Conclusions from a slave's answers: whether it needs a new master, and which one it gets.

use super::{DbStatus, FIRST_PAUSE, Healing, HealingOutput, MAX_PAUSE, OWNERSHIP_CHECK, Purpose};
use crate::kernel::effect::Level;
use crate::kernel::lines::HealingLine;
use crate::mutation::{self, Mutation};
use crate::value::{NodeId, Str};
use std::time::Duration;

impl Healing {
    /// A node has told its master and the nodes that it is connected to; `answers` begin with an error
    /// text. `named` is the master, if it is a connected node that announced that it is global.
    pub(in crate::kernel) fn master_answered(
        &mut self,
        node: &NodeId,
        number: u64,
        answers: &[Str],
        named: Option<NodeId>,
        status: &DbStatus,
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
            self.log(Level::Warn, HealingLine::DoesNotTell(node.clone(), error.as_ref().cut()));
            if let Purpose::Ownership { claimed_by } = purpose {
                self.settle_ownership_unasked(node, claimed_by.as_ref(), status);
            }
            return;
        }
        let has_changed = health.changed;
        self.log(Level::Debug, HealingLine::Tells(node.clone(), master.as_ref().cut()));
        match purpose {
            Purpose::Ownership { .. } => {
                let is_others = master.as_ref() != self.own.as_str() && !master.is_empty();
                if is_others && status.is_slave {
                    self.log(
                        Level::Info,
                        HealingLine::HasMaster(node.clone(), master.as_ref().cut()),
                    );
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
                if self.may_need_healing(node, status) {
                    let answer = Answer { master, up, named };
                    self.diagnose(node, answer, confirmed, status, now);
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
        status: &DbStatus,
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
        let new_master = seen.or(status.our_master.as_ref());
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
            self.log(Level::Info, HealingLine::Healed(node.clone(), master.clone()));
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
    pub(in crate::kernel) fn waits_for_barrier(
        &self,
        from: &NodeId,
        number: u64,
    ) -> Option<NodeId> {
        self.slaves.iter().find_map(|(node, health)| {
            let question = health.question.as_ref()?;
            let asked =
                matches!(&question.purpose, Purpose::Barrier { master } if *master == *from);
            (question.number == number && asked).then(|| node.clone())
        })
    }

    /// A global node has sent everything it knew when it was asked; the check of `node` was waiting for
    /// that.
    pub(in crate::kernel) fn barrier_passed(
        &mut self,
        node: &NodeId,
        from: &NodeId,
        status: &DbStatus,
        now: Duration,
    ) {
        if let Some(health) = self.slaves.get_mut(node) {
            health.question = None;
        }
        if self.may_need_healing(node, status) {
            self.inquire(node, Purpose::Confirmation { heard: Some(from.clone()) }, now);
        }
    }

    pub(super) fn next_pause(&mut self, node: &NodeId, masterless: bool) -> Duration {
        let Some(health) = self.slaves.get_mut(node) else {
            return MAX_PAUSE;
        };
        health.masterless = masterless;
        health.pause = (health.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
        health.pause
    }

    /// Two global nodes have the slave, and it does not tell which is its master: the smaller ID keeps
    /// it.
    pub(super) fn settle_ownership_unasked(
        &mut self,
        node: &NodeId,
        claimed_by: Option<&NodeId>,
        status: &DbStatus,
    ) {
        let Some(other) = claimed_by.filter(|other| is_claimed(status, other)) else {
            return;
        };
        let node = node.clone();
        if self.own < *other {
            let master = self.own.clone();
            self.outputs.push(HealingOutput::Adopt { node, master });
        } else {
            self.log(Level::Info, HealingLine::KeptBy(node.clone(), other.clone()));
            self.outputs.push(HealingOutput::DropSlave(node));
        }
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
fn is_claimed(status: &DbStatus, by: &NodeId) -> bool {
    status.is_slave && status.announcers.contains(by)
}
