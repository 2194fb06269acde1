//! Perl's data model: one string type, numbers that are strings and back, arrays and hashes.

pub mod packed;
mod string;

pub use string::{CodePoints, Str, StrKind, StrRef};
