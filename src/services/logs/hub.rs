//! The registry of ports that want log lines of this program.

use super::backlog::Backlog;
use super::{LogEntry, LogLevel};
use crate::value::{NodeId, PortId};
use parking_lot::RwLock;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A port, on any node, that gets the lines of one node of this program.
#[derive(Debug)]
pub(super) struct Catcher {
    pub(super) node: NodeId,
    pub(super) port: PortId,
    pub(super) level: LogLevel,
    pub(super) backlog: Arc<Backlog>,
}

/// All catchers. There is one registry per program, since `tracing` has one log per program.
#[derive(Debug)]
struct Hub {
    catchers: RwLock<Vec<Catcher>>,
    /// The number of the most detailed level that a catcher wants; 0 if there is none.
    level: AtomicU8,
}

static HUB: Hub = Hub { catchers: RwLock::new(Vec::new()), level: AtomicU8::new(0) };

/// The maximum number of catchers for one node; another one replaces the oldest.
const MAX_CATCHERS: usize = 256;

thread_local! {
    /// Whether this thread is currently sending log lines.
    static SENDING: Cell<bool> = const { Cell::new(false) };
}

/// Runs code whose own log lines are not sent, since otherwise each line that is sent could cause more.
pub(super) fn unlogged<T>(code: impl FnOnce() -> T) -> T {
    let before = SENDING.replace(true);
    let result = code();
    SENDING.set(before);
    result
}

/// Whether log lines of this thread are currently not sent to catchers.
pub(super) fn is_unlogged() -> bool {
    SENDING.get()
}

/// Whether a catcher wants lines of this level.
pub(super) fn wants(level: LogLevel) -> bool {
    level.number() <= HUB.level.load(Ordering::Relaxed)
}

/// The most detailed level that a catcher wants.
pub(super) fn level() -> Option<LogLevel> {
    LogLevel::from_number(HUB.level.load(Ordering::Relaxed).into())
}

/// Adds a catcher; one with the same port is replaced.
pub(super) fn add(catcher: Catcher) {
    change(|catchers| {
        let same = |other: &Catcher| other.node == catcher.node;
        if let Some(old) =
            catchers.iter().position(|other| same(other) && other.port == catcher.port)
        {
            catchers.remove(old).backlog.end();
        } else if catchers.iter().filter(|other| same(other)).count() >= MAX_CATCHERS
            && let Some(oldest) = catchers.iter().position(same)
        {
            catchers.remove(oldest).backlog.end();
        }
        catchers.push(catcher);
    });
}

/// Removes the catcher that has this backlog.
pub(super) fn remove(backlog: &Arc<Backlog>) {
    change(|catchers| catchers.retain(|other| !Arc::ptr_eq(&other.backlog, backlog)));
}

fn change(edit: impl FnOnce(&mut Vec<Catcher>)) {
    let changed = {
        let mut catchers = HUB.catchers.write();
        edit(&mut catchers);
        let level = catchers.iter().map(|catcher| catcher.level.number()).max().unwrap_or(0);
        HUB.level.swap(level, Ordering::Relaxed) != level
    };
    if changed {
        // `tracing` caches for each call site whether anybody wants its lines.
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Gives a line to all catchers that want it. If `of` names a node of this program, only catchers of that
/// node get the line.
pub(super) fn offer(of: Option<&str>, level: LogLevel, context: &str, text: &str) {
    let catchers = HUB.catchers.read();
    for catcher in catchers.iter().filter(|catcher| level <= catcher.level) {
        if of.is_none_or(|of| catcher.node.as_str() == *of) {
            catcher.backlog.push(LogEntry {
                node: catcher.node.clone(),
                time: super::now(),
                context: context.to_owned(),
                level,
                text: text.to_owned(),
            });
        }
    }
}
