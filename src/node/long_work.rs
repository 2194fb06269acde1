//! Work that occupies a thread for so long that other tasks should not wait for it.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Performs work that may take long while another thread runs the other tasks of this one. On a
/// runtime with a single thread, the other tasks wait.
pub(super) fn without_keeping_others<R>(work: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Drops what takes long to free on a thread of its own, so that no task waits for it.
pub(super) fn drop_elsewhere(runtime: &Handle, garbage: impl Send + 'static) {
    runtime.spawn_blocking(move || drop(garbage));
}
