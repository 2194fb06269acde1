//! Which entries the database takes: those that can be sent on, in every request that carries them.

use super::InternalFamily;
use crate::value::packed::nesting;
use crate::value::{MAX_NESTING, StrRef};
use thiserror::Error;

/// Levels that a request has around a value: the packet, families, keys.
const LEVELS_AROUND: usize = 3;

/// Arrays, hashes and tags inside each other that a value of the database has at most.
pub const MAX_ENTRY_NESTING: usize = MAX_NESTING - LEVELS_AROUND;

/// Octets of family, key and value that an entry has at most: a packet may have 256 MiB, and JSON needs
/// up to six octets for one.
pub const MAX_ENTRY: usize = 32 << 20;

/// An entry that the database does not take, as it could not be sent to all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// The value nests too deep.
    #[error(
        "the value has more than {MAX_ENTRY_NESTING} arrays, hashes and tags inside each other"
    )]
    TooDeep,
    /// The entry is too large.
    #[error("family, key and value together have more than {MAX_ENTRY} octets")]
    TooLarge,
}

/// Why an entry was not set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SetError {
    /// The family is the protocol's own.
    #[error(transparent)]
    Internal(#[from] InternalFamily),
    /// The entry could not be sent.
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
}

/// Whether an entry can be sent on; `value` is in packed form.
pub(crate) fn check(family: StrRef<'_>, key: StrRef<'_>, value: &[u8]) -> Result<(), Unsendable> {
    // Each level takes an octet.
    if value.len() > MAX_ENTRY_NESTING
        && nesting(value).is_ok_and(|levels| levels > MAX_ENTRY_NESTING)
    {
        return Err(Unsendable::TooDeep);
    }
    if family.data().len() + key.data().len() + value.len() > MAX_ENTRY {
        return Err(Unsendable::TooLarge);
    }
    Ok(())
}
