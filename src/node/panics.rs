//! Where panics of the program's code are caught and become error texts.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the program.
///
/// # Errors
/// Returns the panic's message. The caller must discard whatever the code left half done.
#[inline]
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(text_of)
}

/// The message of a panic.
#[cold]
pub(crate) fn text_of(panic: Box<dyn Any + Send>) -> String {
    let panic = match panic.downcast::<String>() {
        Ok(text) => return *text,
        Err(panic) => panic,
    };
    if let Some(text) = panic.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    drop_quietly(panic);
    "panic".to_owned()
}

/// Drops a value of the program. A panic in that was reported by the panic hook and has no further
/// effect.
pub(crate) fn drop_quietly<T>(value: T) {
    // The payload of this panic is leaked, since dropping it could panic again.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(value))) {
        std::mem::forget(panic);
    }
}
