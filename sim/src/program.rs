//! What runs at a place: a node of this implementation, or the model of a Perl node.

use crate::event::{Happening, Timer};
use crate::link::{LinkEnd, Segment};
use crate::node::{Around, Node};
use crate::perl::PerlNode;
use aemp::kernel::ConnId;

#[derive(Debug)]
pub(crate) enum Program {
    Ours(Box<Node>),
    Perl(Box<PerlNode>),
}

impl Program {
    pub(crate) fn dialled(&mut self, around: &mut Around<'_>, conn: u64, end: LinkEnd) {
        match self {
            Program::Ours(node) => node.dialled(around, conn, end),
            Program::Perl(node) => node.dialled(around, conn, end),
        }
    }

    pub(crate) fn accepted(&mut self, around: &mut Around<'_>, end: LinkEnd) -> u64 {
        match self {
            Program::Ours(node) => node.accepted(around, end),
            Program::Perl(node) => node.accepted(around, end),
        }
    }

    pub(crate) fn received(&mut self, around: &mut Around<'_>, conn: u64, segment: Segment) {
        match self {
            Program::Ours(node) => node.received(around, conn, segment),
            Program::Perl(node) => node.received(around, conn, segment),
        }
    }

    pub(crate) fn ended(&mut self, around: &mut Around<'_>, conn: u64, why: &str) {
        match self {
            Program::Ours(node) => node.ended(around, ConnId(conn), why),
            Program::Perl(node) => node.ended(around, conn, why),
        }
    }

    pub(crate) fn timer(&mut self, around: &mut Around<'_>, what: Timer) {
        match self {
            Program::Ours(node) => node.timer(around, what),
            Program::Perl(node) => node.timer(around, what),
        }
    }

    pub(crate) fn take_happenings(&mut self) -> Vec<Happening> {
        match self {
            Program::Ours(node) => node.take_happenings(),
            Program::Perl(node) => node.take_happenings(),
        }
    }
}
