//! The data connections that a node expects, and the functions that take them.

use super::stream::DataStream;
use crate::node::message::MessageRef;
use crate::value::{NodeId, Str};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Data connections that may be expected at a time, so that no peer can fill the memory with them.
const MAX_EXPECTED: usize = 4096;

/// What calling a registered function yields: a task, or an error if its arguments do not decode.
pub(super) type StreamTask = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;
pub(super) type StreamFunction =
    Arc<dyn Fn(MessageRef<'_>, DataStream) -> Result<StreamTask, String> + Send + Sync>;

/// The expected data connections and registered stream functions of a node.
pub(crate) struct Streams {
    /// Octets that may be held on account of one peer.
    most_octets: usize,
    functions: RwLock<HashMap<Str, StreamFunction>>,
    expected: Mutex<Expected>,
}

#[derive(Default)]
struct Expected {
    by_id: HashMap<Str, oneshot::Sender<DataStream>>,
    /// Octets that are held on account of each peer.
    octets: HashMap<NodeId, usize>,
}

impl Streams {
    pub(crate) fn new(most_octets: usize) -> Arc<Self> {
        Arc::new(Streams { most_octets, functions: RwLock::default(), expected: Mutex::default() })
    }

    #[must_use]
    pub(super) fn register(&self, name: Str, function: StreamFunction) -> Option<StreamFunction> {
        self.functions.write().insert(name, function)
    }

    #[must_use]
    pub(super) fn unregister(&self, name: &Str) -> Option<StreamFunction> {
        self.functions.write().remove(name)
    }

    pub(super) fn function(&self, name: &Str) -> Option<StreamFunction> {
        self.functions.read().get(name).cloned()
    }

    pub(super) fn is_expected(&self, id: &Str) -> bool {
        self.expected.lock().by_id.contains_key(id)
    }

    /// Hands a stream to the task that expects it.
    ///
    /// # Errors
    /// Returns the stream if none does.
    pub(super) fn complete(&self, id: &Str, stream: DataStream) -> Result<(), DataStream> {
        let sender = self.expected.lock().by_id.remove(id);
        match sender {
            Some(sender) => sender.send(stream),
            None => Err(stream),
        }
    }

    /// Octets held for data connections that peers have announced.
    pub(crate) fn octets(&self) -> usize {
        self.expected.lock().octets.values().sum()
    }

    pub(crate) fn end(&self) {
        let functions = std::mem::take(&mut *self.functions.write());
        let expected = std::mem::take(&mut self.expected.lock().by_id);
        drop((functions, expected));
    }
}

/// A data connection that is expected until this is dropped.
pub(super) struct Expectation {
    streams: Arc<Streams>,
    id: Str,
    peer: NodeId,
    octets: usize,
    stream: oneshot::Receiver<DataStream>,
}

/// Octets that an expected connection is assumed to take besides its ID and arguments.
const OVERHEAD: usize = 2000;

impl Expectation {
    /// Expects a data connection with this ID, on account of `peer`, whose request has `octets`
    /// octets of arguments.
    ///
    /// # Errors
    /// Fails if a connection with this ID is expected already, if too many connections are
    /// expected, or if too much is held for this peer.
    pub(super) fn new(
        streams: &Arc<Streams>,
        id: &Str,
        peer: &NodeId,
        octets: usize,
    ) -> Result<Self, String> {
        let octets = octets + id.as_ref().data().len() + OVERHEAD;
        let mut expected = streams.expected.lock();
        let expected = &mut *expected;
        if expected.by_id.len() >= MAX_EXPECTED {
            return Err("too many data connections are expected here".to_owned());
        }
        let of_peer = expected.octets.get(peer).copied().unwrap_or(0) + octets;
        if of_peer > streams.most_octets {
            return Err("the arguments of expected data connections take too much".to_owned());
        }
        match expected.by_id.entry(id.clone()) {
            Entry::Occupied(_) => Err("this data connection is expected already".to_owned()),
            Entry::Vacant(vacant) => {
                let (sender, stream) = oneshot::channel();
                vacant.insert(sender);
                expected.octets.insert(peer.clone(), of_peer);
                let (streams, id, peer) = (streams.clone(), id.clone(), peer.clone());
                Ok(Expectation { streams, id, peer, octets, stream })
            }
        }
    }

    /// Waits for the connection; `None` if the node ends first.
    pub(super) async fn stream(&mut self) -> Option<DataStream> {
        (&mut self.stream).await.ok()
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        self.stream.close();
        let mut expected = self.streams.expected.lock();
        // Once this one is fulfilled, another one with the same ID may be expected.
        if expected.by_id.get(&self.id).is_some_and(oneshot::Sender::is_closed) {
            expected.by_id.remove(&self.id);
        }
        if let Some(octets) = expected.octets.get_mut(&self.peer) {
            *octets = octets.saturating_sub(self.octets);
            if *octets == 0 {
                expected.octets.remove(&self.peer);
            }
        }
    }
}
