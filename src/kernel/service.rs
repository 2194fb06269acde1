//! The kernel's own port: answers to the questions that it asks its peers.

use super::Kernel;
use super::effect::{Builder, Level, PortName};
use super::request::scalar;
use crate::value::packed::Elements;
use crate::value::{NodeId, PortId, Str};

/// Something that a peer answers to the kernel's own port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether it is alive: an echo.
    Probe(u64),
    /// Which master it has, and which nodes it sees.
    Master(u64),
    /// Nothing: what it had to tell came before the answer.
    Barrier(u64),
    /// Nothing: its answer to [`Question::Master`] came before, or will never come.
    Silence(u64),
}

/// What a Perl node evaluates to tell its master and its neighbours.
pub(super) const MASTER_EXPRESSION: &str =
    "($AnyEvent::MP::Kernel::MASTER, AnyEvent::MP::Kernel::up_nodes())";

impl Kernel {
    /// The port to which answers to the kernel come; hand its messages to
    /// [`Kernel::service_message`].
    pub fn service_port(&self) -> &PortName {
        &self.service_port
    }

    pub(super) fn ask_echo(&mut self, node: &NodeId, question: Question) {
        let reply = self.answer_to(question);
        let request = Builder::request("snd").elements(reply.build().as_elements());
        self.send(node, request.build());
    }

    pub(super) fn ask_master(&mut self, node: &NodeId, question: Question) {
        let reply = self.answer_to(question);
        let request =
            Builder::request("eval").text(MASTER_EXPRESSION).elements(reply.build().as_elements());
        self.send(node, request.build());
    }

    fn answer_to(&self, question: Question) -> Builder {
        let (kind, number) = match question {
            Question::Probe(number) => ("probe", number),
            Question::Master(number) => ("master", number),
            Question::Barrier(number) => ("barrier", number),
            Question::Silence(number) => ("silence", number),
        };
        let port = PortId::new(&self.config.node, &self.service_port);
        Builder::new().string(port.as_str()).name(kind).name(&number.to_string())
    }

    /// A message to the kernel's own port.
    pub fn service_message(&mut self, from: &NodeId, message: Elements<'_>) {
        let mut reader = message.reader();
        let mut next = || {
            if reader.is_done() { None } else { scalar(&mut reader) }
        };
        let (kind, number) = (next(), next());
        let number = number.and_then(|number| number.to_text_lossy().parse().ok());
        match (kind, number) {
            (Some(kind), Some(number)) if kind == "probe" => self.probe_answered(from, number),
            (Some(kind), Some(number)) if kind == "barrier" => self.barrier_passed(from, number),
            (Some(kind), Some(number)) if kind == "silence" => self.is_silent(from, number),
            (Some(kind), Some(number)) if kind == "master" => {
                let answers: Vec<Str> = std::iter::from_fn(next).collect();
                self.master_answered(from, number, &answers);
            }
            _ => self.log(Level::Debug, format!("{from} answered something that nobody asked")),
        }
    }
}
