//! An actor for the tests of patterns.

#![allow(dead_code, reason = "each test uses some of it")]

use aemp::patterns::Failure;
use aemp::patterns::actor::{Actor, ActorContext};
use aemp::{KillReason, Reply};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An actor that counts, fails and panics as it is told, and counts its own ends.
pub(crate) struct Counter {
    pub(crate) count: i64,
    pub(crate) ended: Arc<AtomicUsize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Count {
    Add(i64),
    Get(Reply<i64>),
    Plus(i64, Reply<i64>),
    Fail(String),
    Panic,
    Stop,
    Keep(Reply<()>),
    Ignore(String),
}

impl Actor for Counter {
    type Message = Count;
    const MAILBOX: usize = 64 << 10;

    async fn handle(&mut self, ctx: &ActorContext, message: Count) -> Result<(), Failure> {
        match message {
            Count::Add(n) => self.count += n,
            Count::Get(reply) => reply.send(self.count)?,
            Count::Plus(n, reply) => {
                self.count += n;
                reply.send(self.count)?;
            }
            Count::Fail(text) => return Err(text.into()),
            Count::Panic => panic!("as told"),
            Count::Stop => ctx.stop(),
            Count::Keep(reply) => reply.cancelled().await,
            Count::Ignore(_) => {}
        }
        Ok(())
    }

    async fn stopped(&mut self, _: &ActorContext, _: &KillReason) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

pub(crate) fn counter(count: i64) -> (Counter, Arc<AtomicUsize>) {
    let ended = Arc::new(AtomicUsize::new(0));
    (Counter { count, ended: ended.clone() }, ended)
}
