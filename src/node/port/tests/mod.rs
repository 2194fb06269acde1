//! What ports promise, tried from outside.

mod callback;
mod contention;
mod mailbox;
mod model;
mod queue;
mod replies;
mod replies_model;
mod table;

use super::mailbox::Received;
use super::receivers::{Handler, Incoming};
use super::run_queue::{self, Running, WaitingPorts};
use super::*;
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed};
use parking_lot::Mutex;
use serde::Serialize;
use std::iter::once;

/// What was noted, in order.
type Notes = Arc<Mutex<Vec<String>>>;

fn notes() -> Notes {
    Arc::default()
}

fn noted(notes: &Notes) -> Vec<String> {
    std::mem::take(&mut notes.lock())
}

fn table() -> PortTable {
    PortTable::new(Arc::new(Replies::new([7; 32])))
}

fn node() -> NodeId {
    NodeId::new("other/node").unwrap()
}

fn message<T: Serialize>(value: T) -> Packed {
    Packed::of(&value).unwrap()
}

/// Hooks that note every death.
fn hooks(notes: &Notes) -> Arc<Hooks> {
    let notes = Arc::clone(notes);
    let died = move |port: &PortName, reason: Packed| notes.lock().push(format!("{port} {reason}"));
    Arc::new(Hooks { died: Arc::new(died), run_elsewhere: None })
}

/// A callback port that notes deaths and what its handlers get.
fn port(unmatched: Unmatched) -> (Arc<CallbackCell>, Notes) {
    let notes = notes();
    let cell = CallbackCell::new("port".into(), hooks(&notes), unmatched, DEFAULT_LIMIT);
    (cell, notes)
}

/// A handler that notes what it gets.
fn noting(name: &'static str, notes: &Notes) -> Handler {
    let notes = Arc::clone(notes);
    Box::new(move |incoming| {
        notes.lock().push(format!("{name} {}", incoming.message));
        Ok(())
    })
}

fn send<T: Serialize>(cell: &Arc<CallbackCell>, value: T) -> Delivery {
    cell.deliver(&node(), &mut once(message(value).as_elements()))
}

/// Runs a future to its end; everything in these tests wakes from other threads or at once.
fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Notes when it is dropped.
struct DropNote(&'static str, Notes);

impl DropNote {
    fn name(&self) -> String {
        self.0.to_owned()
    }
}

impl Drop for DropNote {
    fn drop(&mut self) {
        self.1.lock().push(format!("dropped {}", self.0));
    }
}

fn elements(packed: &Packed) -> Elements<'_> {
    packed.as_elements()
}
