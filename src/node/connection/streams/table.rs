//! Which data connections are expected, and which functions take them.

use super::{DataStream, StreamFunction};
use crate::node::core::Shared;
use crate::value::Str;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use tokio::sync::oneshot;

/// As many may be expected at a time, so that no peer can fill the memory with expectations.
const MOST_EXPECTED: usize = 4096;

/// The streams of a node.
#[derive(Default)]
pub(crate) struct Streams {
    functions: RwLock<HashMap<Str, StreamFunction>>,
    expected: Mutex<HashMap<Str, oneshot::Sender<DataStream>>>,
}

impl Streams {
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
        self.expected.lock().contains_key(id)
    }

    /// Hands a stream to whoever expects it.
    ///
    /// # Errors
    /// Gives the stream back if nobody does.
    pub(super) fn complete(&self, id: &Str, stream: DataStream) -> Result<(), DataStream> {
        let sender = self.expected.lock().remove(id);
        match sender {
            Some(sender) => sender.send(stream),
            None => Err(stream),
        }
    }

    pub(crate) fn end(&self) {
        let functions = std::mem::take(&mut *self.functions.write());
        let expected = std::mem::take(&mut *self.expected.lock());
        drop((functions, expected));
    }
}

/// One data connection that is expected, until this is dropped.
pub(super) struct Expectation {
    shared: Arc<Shared>,
    id: Str,
    stream: oneshot::Receiver<DataStream>,
}

impl Expectation {
    /// Expects a data connection under this ID.
    ///
    /// # Errors
    /// Fails if one is expected under this ID already, or too many are.
    pub(super) fn new(shared: &Arc<Shared>, id: &Str) -> Result<Self, String> {
        let mut expected = shared.streams.expected.lock();
        if expected.len() >= MOST_EXPECTED {
            return Err("too many data connections are expected here".to_owned());
        }
        match expected.entry(id.clone()) {
            Entry::Occupied(_) => Err(format!("data connection {id} is expected already")),
            Entry::Vacant(vacant) => {
                let (sender, stream) = oneshot::channel();
                vacant.insert(sender);
                Ok(Expectation { shared: shared.clone(), id: id.clone(), stream })
            }
        }
    }

    /// Waits for the connection; `None` if the node ends.
    pub(super) async fn stream(&mut self) -> Option<DataStream> {
        (&mut self.stream).await.ok()
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        self.stream.close();
        let mut expected = self.shared.streams.expected.lock();
        // Another one may have the same ID once this one is fulfilled.
        if expected.get(&self.id).is_some_and(oneshot::Sender::is_closed) {
            expected.remove(&self.id);
        }
    }
}
