//! Where panics of the program's code end: each becomes an error text.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the program.
///
/// # Errors
/// What the code said if it panicked. Whatever it left half done is the caller's to give up.
#[inline]
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(code)).map_err(text_of)
}

/// What a panic said.
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

/// Drops what belongs to the program; a panic in it was reported by the panic hook and harms nobody
/// here.
pub(crate) fn drop_quietly<T>(value: T) {
    // What a second panic holds is leaked, or its drop could panic again.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(value))) {
        std::mem::forget(panic);
    }
}
