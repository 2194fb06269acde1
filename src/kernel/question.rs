//! What the kernel asks its peers by itself, and what the answers mean.
//!
//! Answers come to a port of the kernel's own, with the kind and number of the question in front.

use super::effect::Builder;
use super::request::scalar;
use crate::value::packed::Elements;
use crate::value::{Packed, PortId, Str};

/// A question to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) about: About,
    /// Tells questions about the same thing apart.
    pub(super) number: u64,
}

/// What is asked. All but [`About::Master`] are echoes, whose arrival is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Whether the peer is alive.
    Life,
    /// Which master the peer has, and which nodes it sees.
    Master,
    /// Nothing: what the peer had to tell before comes before the answer.
    Order,
    /// Nothing: the answer to [`About::Master`] came before, or will never come.
    Silence,
}

/// What a Perl node evaluates to tell its master and its neighbours.
pub(super) const MASTER_EXPRESSION: &str =
    "($AnyEvent::MP::Kernel::MASTER, AnyEvent::MP::Kernel::up_nodes())";

impl About {
    const ALL: [About; 4] = [About::Life, About::Master, About::Order, About::Silence];

    const fn word(self) -> &'static str {
        match self {
            About::Life => "probe",
            About::Master => "master",
            About::Order => "barrier",
            About::Silence => "silence",
        }
    }
}

impl Question {
    /// The packet to the peer's node port that asks; the answer goes to `reply_to`.
    pub(super) fn packet(self, reply_to: &PortId) -> Packed {
        let request = match self.about {
            About::Master => Builder::request("eval").text(MASTER_EXPRESSION),
            About::Life | About::Order | About::Silence => Builder::request("snd"),
        };
        let number = self.number.to_string();
        request.string(reply_to.as_str()).name(self.about.word()).name(&number).build()
    }

    /// The question that a message to the kernel's own port answers, and the rest of the message;
    /// `None` if it answers none.
    pub(super) fn answered_by(message: Elements<'_>) -> Option<(Question, Vec<Str>)> {
        let mut reader = message.reader();
        let mut next = || {
            if reader.is_done() { None } else { scalar(&mut reader) }
        };
        let word = next()?;
        let about = About::ALL.into_iter().find(|about| word == *about.word())?;
        let number = next()?.to_text_lossy().parse().ok()?;
        Some((Question { about, number }, std::iter::from_fn(next).collect()))
    }
}
