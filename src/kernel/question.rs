//! The kernel's own questions to peers, and the interpretation of the answers.
//!
//! Answers go to a port of the kernel; they begin with the kind and number of the question.

use super::effect::Builder;
use super::request::scalar;
use crate::value::packed::Elements;
use crate::value::{Packed, PortId, Str};

/// A question to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) about: QuestionKind,
    /// Distinguishes questions of the same kind.
    pub(super) number: u64,
}

/// The kind of a question. All but [`QuestionKind::Master`] are echoes: the arrival of the answer is all
/// that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuestionKind {
    /// Is the peer alive?
    Life,
    /// Which master has the peer, and which nodes is it connected to?
    Master,
    /// The answer arrives after everything that the peer has sent before.
    Order,
    /// Once this is answered, an answer to [`QuestionKind::Master`] has arrived or will never arrive.
    Silence,
}

/// The Perl expression for a node's master and the nodes that it is connected to.
pub(super) const MASTER_EXPRESSION: &str =
    "($AnyEvent::MP::Kernel::MASTER, AnyEvent::MP::Kernel::up_nodes())";

impl QuestionKind {
    const ALL: [QuestionKind; 4] =
        [QuestionKind::Life, QuestionKind::Master, QuestionKind::Order, QuestionKind::Silence];

    const fn word(self) -> &'static str {
        match self {
            QuestionKind::Life => "probe",
            QuestionKind::Master => "master",
            QuestionKind::Order => "barrier",
            QuestionKind::Silence => "silence",
        }
    }
}

impl Question {
    /// The packet to the peer's node port; the answer goes to `reply_to`.
    pub(super) fn packet(self, reply_to: &PortId) -> Packed {
        let request = match self.about {
            QuestionKind::Master => Builder::request("eval").text(MASTER_EXPRESSION),
            QuestionKind::Life | QuestionKind::Order | QuestionKind::Silence => {
                Builder::request("snd")
            }
        };
        let number = self.number.to_string();
        request.string(reply_to.as_str()).name(self.about.word()).name(&number).build()
    }

    /// The question that a message to the kernel's own port answers, and the rest of the message; `None`
    /// if the message is no answer.
    pub(super) fn answered_by(message: Elements<'_>) -> Option<(Question, Vec<Str>)> {
        let mut reader = message.reader();
        let mut next = || {
            if reader.is_done() { None } else { scalar(&mut reader) }
        };
        let word = next()?;
        let about = QuestionKind::ALL.into_iter().find(|about| word == *about.word())?;
        let number = next()?.to_text_lossy().parse().ok()?;
        Some((Question { about, number }, std::iter::from_fn(next).collect()))
    }
}
