//! Packets to the node port that are too large to be handled at once, or that ask for too much.
//!
//! The host alternates between [`LargePacket::prepare`], which needs no kernel, and
//! [`LargePacket::work`], which does a bounded amount of work, so that other threads get the kernel in
//! between. The peer's next packet has to wait until this one is done, so the order of its packets is
//! kept.

use super::Kernel;
use super::db::{self, DbProblem, Piece, Pieces, Question};
use super::effect::Builder;
use super::relay::{Relay, RelayStep};
use super::request::{Handler, RequestInfo};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, PortId};

/// The size in octets above which each packet to the node port is large.
pub const LARGE_PACKET: usize = 64 << 10;

/// The size in octets above which a whole database is large, as 64 KiB may have 20,000 keys. (An update is
/// one change for monitors, so it is not divided up to [`LARGE_PACKET`].)
const LARGE_DATABASE: usize = 8 << 10;

/// Whether a packet to the node port has to be handled as a [`LargePacket`].
#[inline]
pub fn is_large(packet: Elements<'_>) -> bool {
    let octets = packet.octets().len();
    octets > LARGE_DATABASE && (octets > LARGE_PACKET || is_whole_database(packet))
}

fn is_whole_database(packet: Elements<'_>) -> bool {
    let name = packet.first_str();
    name.is_some_and(|name| matches!(name.data(), b"g_slave" | b"g_set"))
}

/// The number of relays to this node itself that are followed in one piece.
const RELAYS_AT_A_TIME: usize = 256;

/// A packet that is handled in pieces.
#[derive(Debug)]
pub struct LargePacket {
    /// The node that sent the packet.
    origin: NodeId,
    /// The node whose request is being handled: this node itself, if the request was relayed.
    from: NodeId,
    /// The whole packet.
    body: Packed,
    /// The offset of the request that is being handled.
    at: usize,
    /// The number of elements of this request, without the results.
    left: usize,
    results: Builder,
    state: State,
    /// What the database has refused of it.
    refused: Vec<DbProblem>,
}

#[derive(Debug)]
enum State {
    /// The request was not read yet.
    Relays,
    /// A message has to be sent.
    Send(PortId),
    /// The results have to be appended to the request.
    Join,
    /// The request is for the database.
    Database(db::Name),
    /// The next piece of a database request, if it was read already, and the rest.
    Pieces(Option<Piece>, Box<Pieces>),
    Malformed(db::MalformedRequest),
    /// A question about a large family is being answered.
    Answer(Question),
    /// What is left of a request that ends early, to be freed while the kernel is not locked.
    Spent {
        _rest: Box<State>,
    },
    Done,
}

/// The next step.
#[derive(Debug)]
pub enum NextPiece {
    /// Call [`LargePacket::work`].
    Kernel,
    /// Send a message, as this node.
    Send {
        /// The receiver, a port of this node or of another one.
        to: PortId,
        /// The message.
        message: Packed,
    },
    /// The packet is done.
    Done,
}

impl LargePacket {
    /// A packet of `from` to the node port.
    pub fn new(from: &NodeId, elements: Elements<'_>) -> Self {
        LargePacket {
            origin: from.clone(),
            from: from.clone(),
            left: elements.len(),
            body: elements.to_packed(),
            at: 0,
            results: Builder::default(),
            state: State::Relays,
            refused: Vec::new(),
        }
    }

    /// What is left of a packet that was not large itself.
    pub(super) fn unfinished(from: &NodeId, question: Question) -> Self {
        let mut packet = LargePacket::new(from, Elements::new(0, &[]));
        packet.state = State::Answer(question);
        packet
    }

    fn rest(&self) -> Elements<'_> {
        let octets = self.body.as_elements().octets();
        Elements::new(self.left, octets.get(self.at..).unwrap_or_default())
    }

    fn move_to(&mut self, at: usize, left: usize) {
        (self.at, self.left) = (at, left);
    }

    /// Does the work that needs no kernel, and returns the next step.
    pub fn prepare(&mut self) -> NextPiece {
        match std::mem::replace(&mut self.state, State::Relays) {
            State::Send(to) => {
                let results = std::mem::take(&mut self.results);
                let message = Builder::new().elements(self.rest()).append(results).build();
                self.state = State::Done;
                NextPiece::Send { to, message }
            }
            State::Join => {
                let results = std::mem::take(&mut self.results);
                self.body = Builder::new().elements(self.rest()).append(results).build();
                self.move_to(0, self.body.len());
                NextPiece::Kernel
            }
            State::Database(name) => {
                let arguments = self.body.share(self.rest().after(1));
                self.body = Packed::default();
                self.state = match Pieces::read(&self.from, name, arguments) {
                    Ok(pieces) => State::Pieces(None, Box::new(pieces)),
                    Err(error) => State::Malformed(error),
                };
                self.prepare()
            }
            State::Pieces(None, mut pieces) => match pieces.next() {
                Some(piece) => {
                    self.state = State::Pieces(Some(piece), pieces);
                    NextPiece::Kernel
                }
                None => NextPiece::Done,
            },
            State::Spent { .. } | State::Done => {
                self.state = State::Done;
                NextPiece::Done
            }
            state @ (State::Relays
            | State::Pieces(Some(_), _)
            | State::Malformed(_)
            | State::Answer(_)) => {
                self.state = state;
                NextPiece::Kernel
            }
        }
    }
}

impl LargePacket {
    /// Handles the next piece; its effects are in [`Kernel::take_effects`] when this returns. A packet
    /// of a node that is no longer connected is ignored.
    pub fn work(&mut self, kernel: &mut Kernel) {
        if !kernel.is_up(&self.origin) {
            self.end();
            return;
        }
        kernel.refused_of_packet = Some(std::mem::take(&mut self.refused));
        self.piece(kernel);
        kernel.settle();
        self.refused = kernel.refused_of_packet.take().unwrap_or_default();
    }

    fn piece(&mut self, kernel: &mut Kernel) {
        match &mut self.state {
            State::Relays => self.follow_some(kernel),
            // What was replaced before is deleted first: its entries are not part of the database any
            // more, and one request after another would pile them up.
            State::Pieces(Some(Piece::Replace(_)), _) if kernel.db.is_giving_up() => {
                kernel.db.give_up_some(kernel.now.uptime);
            }
            State::Pieces(piece, _) => {
                let from = self.from.clone();
                let goes_on = piece.take().is_none_or(|piece| {
                    kernel.tell_database(&from, |db, now| db.handle_piece(&from, piece, now))
                });
                if !goes_on {
                    self.end();
                }
            }
            State::Malformed(error) => {
                let error = *error;
                kernel.db.problem(&self.from, error.into());
                self.state = State::Done;
            }
            State::Answer(question) => {
                if !kernel.db.go_on_answering(&self.from, question, kernel.now.uptime) {
                    self.end();
                }
            }
            State::Send(_)
            | State::Join
            | State::Database(_)
            | State::Spent { .. }
            | State::Done => {}
        }
        if let Some(question) = kernel.db.take_unfinished() {
            self.state = State::Answer(question);
        }
    }

    /// Does all that is left of what [`Kernel::take_unfinished`] has returned, for a host that need not let
    /// others have the kernel in between.
    pub fn finish(mut self, kernel: &mut Kernel) {
        while matches!(self.prepare(), NextPiece::Kernel) {
            self.work(kernel);
        }
    }

    /// Nothing more is done; [`LargePacket::prepare`] frees what is left.
    fn end(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Done);
        self.state = State::Spent { _rest: Box::new(state) };
    }

    fn follow_some(&mut self, kernel: &mut Kernel) {
        let body = self.body.clone();
        let end = body.as_elements().octets().len();
        let rest = Elements::new(
            self.left,
            body.as_elements().octets().get(self.at..).unwrap_or_default(),
        );
        let mut relay = Relay::new(rest);
        relay.results = std::mem::take(&mut self.results);
        let place = |rest: Elements<'_>| (end - rest.octets().len(), rest.len());
        for _ in 0..RELAYS_AT_A_TIME {
            match kernel.follow(&relay) {
                RelayStep::Here { rest, results } => relay.take_head(rest, results),
                RelayStep::Elsewhere { to, message, results } => {
                    let (at, left) = place(message);
                    self.move_to(at, left);
                    self.results = relay.results.append(results);
                    self.state = State::Done;
                    if kernel.may_wait(&self.origin, &to, message.octets().len()) {
                        if to.node() != kernel.node {
                            kernel.want_connection(&to.node());
                            kernel.db.flush(&to.node(), kernel.now.uptime);
                        }
                        self.state = State::Send(to);
                    }
                    return;
                }
                RelayStep::Request => {
                    let (at, left) = place(relay.rest);
                    if !relay.is_first() {
                        self.from = kernel.node.clone();
                    }
                    self.move_to(at, left);
                    return self.begin_with(kernel, relay, &body);
                }
            }
        }
        let (at, left) = place(relay.rest);
        self.move_to(at, left);
        self.from = kernel.node.clone();
        self.results = relay.results;
    }

    fn begin_with(&mut self, kernel: &mut Kernel, relay: Relay<'_>, body: &Packed) {
        let rest = relay.rest;
        if !relay.results.is_empty() {
            self.results = relay.results;
            self.state = State::Join;
            return;
        }
        let name = rest.first_str();
        let info = name.and_then(RequestInfo::find);
        if info.is_some_and(|info| info.handled_by == Handler::Database)
            && let Some(name) = name.and_then(db::Name::known)
            && self.from != kernel.node
        {
            self.state = match kernel.db.refuses(&self.from, name) {
                true => State::Done,
                false => State::Database(name),
            };
            return;
        }
        self.state = State::Done;
        kernel.large_body = Some(body.clone());
        let from = self.from.clone();
        kernel.carry_out(&from, rest);
        kernel.large_body = None;
    }
}

#[cfg(test)]
#[path = "large_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "question_tests.rs"]
mod question_tests;
