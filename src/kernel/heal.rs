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
    /// It talks to us as if we were its master, and is not our slave.
    orphan: bool,
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
    /// Whether the global node that it names as its master has told us all that it knows.
    Barrier { master: NodeId },
    /// Whether it needs one, again, right before it gets one.
    Confirmation {
        /// A global node that had the chance to tell us of the slave, and did not.
        heard: Option<NodeId>,
    },
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
        let is_slave = self.db.global().is_some_and(|global| global.is_slave(node));
        let is_missing = self.db.is_global() && self.db.location(node).is_none();
        let is_orphan = self.peers.get(node).is_some_and(|peer| peer.patient.orphan);
        perl && self.config.heal
            && !self.db.is_peer_global(node)
            && !is_slave
            && (is_missing || is_orphan)
    }

    /// The node's addresses are in the database again.
    pub(super) fn is_located(&mut self, node: &NodeId) {
        if let Some(peer) = self.peers.get_mut(node) {
            peer.patient.due = None;
            peer.patient.masterless = false;
            peer.patient
                .inquiry
                .take_if(|inquiry| !matches!(inquiry.purpose, Purpose::Custody { .. }));
        }
    }

    /// The node takes us for its master and is not our slave: no doubt about it.
    pub(super) fn is_orphan(&mut self, node: &NodeId, request: &str) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        peer.patient.orphan = true;
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
        let number = self.begin_inquiry(node, purpose);
        self.ask_master(node, Question::Master(number));
        // Nobody refuses an echo.
        self.ask_echo(node, Question::Silence(number));
    }

    fn begin_inquiry(&mut self, node: &NodeId, purpose: Purpose) -> u64 {
        self.next_question += 1;
        let number = self.next_question;
        let deadline = self.now.uptime + PATIENCE;
        if let Some(peer) = self.peers.get_mut(node) {
            peer.patient.inquiry = Some(Inquiry { number, purpose, deadline });
        }
        self.look_at(node, PATIENCE);
        number
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
            // The connection is stuck: that says nothing.
            Some(Inquiry { purpose: Purpose::Custody { other }, .. }) => {
                if self.is_claimed(node, &other) {
                    self.inquire(node, Purpose::Custody { other });
                }
            }
            Some(_) => {
                let pause = self.next_pause(node, false);
                self.look_at(node, pause);
            }
            None => {
                let deadline = peer.patient.inquiry.as_ref().map(|inquiry| inquiry.deadline);
                if let Some(deadline) = deadline {
                    self.look_at(node, deadline - now);
                } else if !peer.patient.refuses && self.may_need_healing(node) {
                    self.inquire(node, Purpose::Diagnosis);
                }
            }
        }
    }

    /// A node has heard a question and does not answer: in secure mode it never will.
    pub(super) fn is_silent(&mut self, node: &NodeId, number: u64) {
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let Some(inquiry) = peer.patient.inquiry.take_if(|inquiry| inquiry.number == number) else {
            return;
        };
        if let Purpose::Custody { other } = inquiry.purpose {
            return self.settle_custody_unasked(node, &other);
        }
        peer.patient.refuses = true;
        self.log(
            Level::Warn,
            format!("{node} has lost its master and answers no questions; restart it"),
        );
    }

    fn is_claimed(&self, node: &NodeId, by: &NodeId) -> bool {
        self.db
            .global()
            .is_some_and(|global| global.is_slave(node) && global.announcers(node).contains(by))
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
            Purpose::Barrier { .. } => {}
            Purpose::Diagnosis => self.diagnose(node, master, up, None),
            Purpose::Confirmation { heard } => self.diagnose(node, master, up, Some(heard)),
        }
    }

    /// Heals a node, or asks once more before; `confirmed` is there if this is the second time.
    fn diagnose(
        &mut self,
        node: &NodeId,
        master: &Str,
        up: &[Str],
        confirmed: Option<Option<NodeId>>,
    ) {
        if !self.may_need_healing(node) {
            return;
        }
        let own = self.config.node.as_str();
        let is_us = master.as_ref() == own;
        let other = self.db.globals().find(|global| global.as_str() == master.as_ref()).cloned();
        let Some(peer) = self.peers.get_mut(node) else {
            return;
        };
        let needs_us = if master.is_empty() {
            // It may be about to find one; if it still has none after a pause it never will.
            peer.patient.masterless
        } else {
            is_us || other.is_some() || !up.contains(master)
        };
        peer.patient.orphan &= is_us;
        let pause = self.next_pause(node, master.is_empty());
        match confirmed {
            _ if !needs_us => self.look_at(node, pause),
            // It is not among our slaves only if its master did not tell, so far.
            Some(heard) if other.is_none() || other == heard => self.adopt_orphan(node, pause),
            _ => match other {
                Some(master) => self.await_word(node, master),
                None => self.inquire(node, Purpose::Confirmation { heard: None }),
            },
        }
    }

    fn adopt_orphan(&mut self, node: &NodeId, pause: Duration) {
        if let Some(master) = self.db.master().cloned() {
            self.log(Level::Info, format!("{node} lost its master: it gets {master}"));
            self.adopt(node, &master);
            self.healed += 1;
        }
        self.look_at(node, pause);
    }

    /// Asks another global node for an echo: what it knows of its slaves comes before.
    fn await_word(&mut self, node: &NodeId, master: NodeId) {
        let number = self.begin_inquiry(node, Purpose::Barrier { master: master.clone() });
        self.ask_echo(&master, Question::Barrier(number));
    }

    /// A global node has told all that it knew when it was asked.
    pub(super) fn barrier_passed(&mut self, from: &NodeId, number: u64) {
        let asked = Purpose::Barrier { master: from.clone() };
        let node = self.peers.iter().find_map(|(node, peer)| {
            let inquiry = peer.patient.inquiry.as_ref()?;
            (inquiry.number == number && inquiry.purpose == asked).then(|| node.clone())
        });
        let Some(node) = node else {
            return;
        };
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.patient.inquiry = None;
        }
        if self.may_need_healing(&node) {
            self.inquire(&node, Purpose::Confirmation { heard: Some(from.clone()) });
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

    /// Two global nodes hold the slave, and it does not tell which is right: the smaller ID keeps it.
    fn settle_custody_unasked(&mut self, node: &NodeId, other: &NodeId) {
        if !self.is_claimed(node, other) {
            return;
        }
        if self.config.node < *other {
            let own = self.config.node.clone();
            self.adopt(node, &own);
        } else {
            self.log(Level::Info, format!("{node} is left to {other}"));
            self.db.drop_slave(node, self.now.uptime);
        }
    }

    /// Makes a Perl slave adopt a master and send it its database and requests again.
    fn adopt(&mut self, node: &NodeId, master: &NodeId) {
        let packet = Builder::request(super::request::MASTER_SET).string(master.as_str()).build();
        self.send(node, packet);
    }

    /// How many slaves were told to adopt this node because they had lost their master.
    pub fn healed(&self) -> u64 {
        self.healed
    }
}
