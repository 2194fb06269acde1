//! The program at a place: a node of this implementation, the model of a Perl node, or a stranger.

use crate::event::{Timer, WorldEvent};
use crate::link::{LinkEnd, Segment};
use crate::node::{HandlerContext, Node};
use crate::perl::PerlNode;
use crate::stranger::Stranger;
use aemp::kernel::ConnId;

#[derive(Debug)]
pub(crate) enum Program {
    Ours(Box<Node>),
    Perl(Box<PerlNode>),
    Stranger(Box<Stranger>),
}

impl Program {
    pub(crate) fn dialled(&mut self, around: &mut HandlerContext<'_>, conn: u64, end: LinkEnd) {
        match self {
            Program::Ours(node) => node.dialled(around, conn, end),
            Program::Perl(node) => node.dialled(around, conn, end),
            Program::Stranger(stranger) => stranger.dialled(around, conn, end),
        }
    }

    pub(crate) fn accepted(&mut self, around: &mut HandlerContext<'_>, end: LinkEnd) -> u64 {
        match self {
            Program::Ours(node) => node.accepted(around, end),
            Program::Perl(node) => node.accepted(around, end),
            Program::Stranger(stranger) => stranger.accepted(around, end),
        }
    }

    pub(crate) fn received(
        &mut self,
        around: &mut HandlerContext<'_>,
        conn: u64,
        segment: Segment,
    ) {
        match self {
            Program::Ours(node) => node.received(around, conn, segment),
            Program::Perl(node) => node.received(around, conn, segment),
            Program::Stranger(stranger) => stranger.received(around, conn, segment),
        }
    }

    pub(crate) fn ended(&mut self, around: &mut HandlerContext<'_>, conn: u64, why: &str) {
        match self {
            Program::Ours(node) => node.ended(around, ConnId(conn), why),
            Program::Perl(node) => node.ended(around, conn, why),
            Program::Stranger(stranger) => stranger.ended(around, conn),
        }
    }

    pub(crate) fn timer(&mut self, around: &mut HandlerContext<'_>, what: Timer) {
        match self {
            Program::Ours(node) => node.timer(around, what),
            Program::Perl(node) => node.timer(around, what),
            Program::Stranger(stranger) => {
                if let Timer::Close { conn, .. } = what {
                    stranger.ended(around, conn.0);
                }
            }
        }
    }

    pub(crate) fn take_happenings(&mut self) -> Vec<WorldEvent> {
        match self {
            Program::Ours(node) => node.take_happenings(),
            Program::Perl(node) => node.take_happenings(),
            Program::Stranger(_) => Vec::new(),
        }
    }
}
