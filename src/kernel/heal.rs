//! Perl slaves that lost their master for good: finding them, asking them, healing them.
//!
//! A Perl slave survives one change of master only (`docs/protocol.md` §7). Nothing is done on a
//! timer alone: the node is asked which master it has, and asked again right before acting, because
//! telling a healthy slave to change its master uses up the one change that it survives.

use super::effect::{Builder, Level};
use super::service::Question;
use super::{Kernel, Task};
use crate::value::{NodeId, Str};
use std::time::Duration;

/// How long a connected node's addresses may be missing before it is asked; a random share of it
/// goes on top.
const SUSPICION: Duration = Duration::from_secs(2);
/// How long an answer is awaited.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause between attempts, which doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What is known of the health of a connected node.
#[derive(Debug, Default)]
pub(super) struct Patient {
    inquiry: Option<Inquiry>,
    /// When the node is looked at next.
    due: Option<Duration>,
    pause: Duration,
    /// It did not answer: in secure mode every further question would be logged there.
    refuses: bool,
    /// It had no master when it was asked last.
    masterless: bool,
}

#[derive(Debug, Clone)]
struct Inquiry {
    number: u64,
    purpose: Purpose,
    deadline: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    /// Whether it needs a new master.
    Diagnosis,
    /// The same again, right before it gets one.
    Confirmation,
    /// Whose slave it is, as another global node claims it too.
    Custody { other: NodeId },
}

impl Kernel {
    /// Looks at a connected node again in a while, if its addresses are in nobody's database.
    pub(super) fn suspect(&mut self, node: &NodeId) {
        if !self.may_need_healing(node) {
            return;
        }
        let delay = SUSPICION.mul_f64(1.0 + self.random.fraction());
        self.look_at(node, delay);
    }

    fn look_at(&mut self, node: &NodeId, delay: Duration) {
        let at = self.now.uptime + delay;
        if let Some(peer) = self.peers.get_mut(node) {
            peer.patient.due = Some(at);
            self.agenda.add(at, Task::Heal(node.clone()));
        }
    }

    /// Whether the node is a connected Perl slave that is in nobody's database.
    fn may_need_healing(&self, node: &NodeId) -> bool {
        let perl = self
            .peers
            .get(node)
            .and_then(|peer| peer.link.as_ref())
            .is_some_and(|link| link.provider.to_text_lossy().starts_with("AE-2"));
        perl && self.config.heal
            && self.db.is_global()
            && !self.db.is_peer_global(node)
            && self.db.location(node).is_none()
    }

    /// The node's addresses are in the database again.
    pub(super) fn is_located(&mut self, node: &NodeId) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.patient.due = None;
            peer.patient.masterless = false;
            peer.patient.inquiry.take_if(|inquiry| {
                matches!(inquiry.purpose, Purpose::Diagnosis | Purpose::Confirmation)
            });
        }
    }

    /// The node takes us for its master and is not our slave: no doubt about it.
    pub(super) fn is_orphan(&mut self, node: &NodeId, request: &str) {
        if !self.may_need_healing(node) {
            return;
        }
        let Some(peer) = self.peers.get(node) else {
            return;
        };
        // A pause after an attempt is kept.
        if peer.patient.inquiry.is_none() && peer.patient.pause.is_zero() {
            self.log(Level::Debug, format!("{node} sends {request} without being our slave"));
            self.look_at(node, Duration::ZERO);
        }
    }

    /// Another global node claims one of our slaves.
    pub(super) fn has_conflict(&mut self, node: &NodeId, other: &NodeId) {
        let Some(peer) = self.peers.get(node) else {
            return;
        };
        // A node of this implementation changes its master only when the old one has lost it.
        let may_be_elsewhere =
            peer.link.as_ref().is_some_and(|link| !super::mesh::is_ours(&link.provider));
        if may_be_elsewhere && peer.patient.inquiry.is_none() {
            self.log(Level::Debug, format!("{other} speaks for our slave {node}"));
            self.inquire(node, Purpose::Custody { other: other.clone() });
        }
    }

    fn inquire(&mut self, node: &NodeId, purpose: Purpose) {
        self.next_question += 1;
        let number = self.next_question;
        let deadline = self.now.uptime + PATIENCE;
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        peer.patient.inquiry = Some(Inquiry { number, purpose, deadline });
        self.ask_master(node, Question::Master(number));
        self.look_at(node, PATIENCE);
    }

    /// It is time to look at a node.
    pub(super) fn heal_due(&mut self, node: &NodeId) {
        let now = self.now.uptime;
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        if peer.link.is_none() || peer.patient.due.is_none_or(|due| due > now) {
            return;
        }
        peer.patient.due = None;
        match peer.patient.inquiry.take_if(|inquiry| inquiry.deadline <= now) {
            Some(Inquiry { purpose: Purpose::Custody { other }, .. }) => {
                self.settle_custody_unasked(node, &other);
            }
            Some(_) => {
                peer.patient.refuses = true;
                self.log(
                    Level::Warn,
                    format!("{node} has lost its master and answers no questions; restart it"),
                );
            }
            None if peer.patient.inquiry.is_some() || peer.patient.refuses => {}
            None => {
                if self.may_need_healing(node) {
                    self.inquire(node, Purpose::Diagnosis);
                }
            }
        }
    }

    /// A node has told its master and the nodes that it sees; `answers` begin with an error text.
    pub(super) fn master_answered(&mut self, node: &NodeId, number: u64, answers: &[Str]) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let Some(inquiry) = peer.patient.inquiry.take_if(|inquiry| inquiry.number == number) else {
            return;
        };
        peer.patient.due = None;
        let (error, master, up) = match answers {
            [error, master, up @ ..] => (error, master, up),
            [error] => (error, error, &[][..]),
            [] => return,
        };
        if !error.is_empty() {
            peer.patient.refuses = true;
            self.log(Level::Warn, format!("{node} does not tell its master: {error}"));
            return;
        }
        self.log(Level::Debug, format!("{node} says that its master is {master}"));
        let own = self.config.node.as_str();
        match inquiry.purpose {
            Purpose::Custody { .. } => {
                if master.as_ref() != own && !master.is_empty() {
                    self.log(Level::Info, format!("{node} has {master} as its master now"));
                    self.db.drop_slave(node, self.now.uptime);
                }
            }
            purpose => {
                if !self.may_need_healing(node) {
                    return;
                }
                let was_masterless =
                    self.peers.get(node).is_some_and(|peer| peer.patient.masterless);
                let needs_us = if master.is_empty() {
                    // It may be about to find one; if it still has none after a pause it never will.
                    was_masterless
                } else {
                    master.as_ref() == own
                        || self.db.globals().any(|global| global.as_str() == master.as_ref())
                        || !up.contains(master)
                };
                let pause = self.next_pause(node, master.is_empty());
                if !needs_us {
                    self.look_at(node, pause);
                } else if purpose == Purpose::Diagnosis {
                    self.inquire(node, Purpose::Confirmation);
                } else {
                    self.log(Level::Info, format!("{node} lost its master: adopting it"));
                    self.adopt(node);
                    self.healed += 1;
                    self.look_at(node, pause);
                }
            }
        }
    }

    fn next_pause(&mut self, node: &NodeId, masterless: bool) -> Duration {
        let Some(peer) = self.peers.get_mut(node) else {
            return LONGEST_PAUSE;
        };
        peer.patient.masterless = masterless;
        peer.patient.pause = (peer.patient.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        peer.patient.pause
    }

    /// Neither of two global nodes could ask the slave that both hold: the smaller ID keeps it.
    fn settle_custody_unasked(&mut self, node: &NodeId, other: &NodeId) {
        let still_claimed =
            self.db.global().is_some_and(|global| global.announcers(node).contains(other));
        if !still_claimed {
            return;
        }
        if self.config.node < *other {
            self.adopt(node);
        } else {
            self.log(Level::Info, format!("{node} is left to {other}"));
            self.db.drop_slave(node, self.now.uptime);
        }
    }

    /// Makes a Perl slave adopt us as its master and send its database and requests again.
    fn adopt(&mut self, node: &NodeId) {
        let packet =
            Builder::request(super::request::MASTER_SET).string(self.config.node.as_str()).build();
        self.send(node, packet);
    }

    /// How many slaves were told to adopt this node because they had lost their master.
    pub fn healed(&self) -> u64 {
        self.healed
    }
}
