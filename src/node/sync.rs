//! The synchronisation primitives of lanes; the concurrency model replaces them with loom's.

use foldhash::quality::RandomState;
pub(super) use parking_lot::Mutex;
use std::hash::Hash;
pub(super) use tokio::sync::Notify;

/// A socket to which senders may write without waiting.
pub(super) type DirectOutput = std::sync::Arc<tokio::net::tcp::OwnedWriteHalf>;

/// A map that threads share without a lock.
#[derive(Debug)]
pub(super) struct Table<K: Hash + Eq, V>(papaya::HashMap<K, V, RandomState>);

impl<K: Hash + Eq + Clone, V: Clone> Table<K, V> {
    pub(super) fn new() -> Self {
        Table(papaya::HashMap::default())
    }

    /// The value of `key`, created with `make` if there is none. All threads get the same value.
    pub(super) fn get_or_insert(&self, key: &K, make: impl FnOnce() -> V) -> V {
        let map = self.0.pin();
        if let Some(value) = map.get(key) {
            return value.clone();
        }
        map.get_or_insert_with(key.clone(), make).clone()
    }

    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.0.pin().get(key).cloned()
    }

    pub(super) fn remove(&self, key: &K) {
        self.0.pin().remove(key);
    }

    /// Calls `f` with every entry that existed before, and some of those added meanwhile.
    pub(super) fn for_each(&self, mut f: impl FnMut(&K, &V)) {
        for (key, value) in &self.0.pin() {
            f(key, value);
        }
    }
}

/// A thread-local variable.
macro_rules! local {
    ($name:ident: $type:ty = $init:expr) => {
        std::thread_local! {
            static $name: $type = const { $init };
        }
    };
}
pub(super) use local;
