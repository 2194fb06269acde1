//! What the ports' state machines synchronise with and draw from; the concurrency models put loom's
//! in its place.

pub(super) use crate::kernel::Random;
pub(super) use foldhash::quality::RandomState as Hasher;
pub(super) use parking_lot::Mutex;
pub(super) use std::sync::atomic::{AtomicU8, Ordering};

/// How many locks share what is looked up by name; a power of two.
pub(super) const SHARDS: usize = 16;

/// As `std`'s, in the form that loom can check.
#[derive(Debug, Default)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(super) const fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(super) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
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
