//! The limit for nesting, and how serializer and deserializer keep to it.

use super::error::{DecodeError, EncodeError};

/// The maximum number of nested arrays, hashes and tags, including the packet itself.
///
/// Perl's decoders refuse deeper nesting of arrays and hashes (docs/protocol.md §2).
pub const MAX_NESTING: usize = 512;

/// The number of levels that are left.
///
/// `Option`s and newtypes add no level to the octets, but use stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    levels: u16,
    wrappers: u16,
}

impl Room {
    /// The levels of one value.
    pub(super) const VALUE: Room =
        Room { levels: MAX_NESTING as u16, wrappers: MAX_NESTING as u16 };

    /// The levels of each element of a message, which takes one itself.
    pub(super) const ELEMENT: Room =
        Room { levels: MAX_NESTING as u16 - 1, wrappers: MAX_NESTING as u16 };

    /// The levels of a value that will be inside `around` arrays and hashes.
    pub(super) fn within(around: usize) -> Room {
        Room { levels: MAX_NESTING.saturating_sub(around) as u16, ..Room::VALUE }
    }

    /// The number of levels left.
    pub(super) fn levels(self) -> usize {
        usize::from(self.levels)
    }

    /// The levels inside an array, a hash or a tag.
    #[inline]
    pub(super) fn deeper(self) -> Result<Room, TooDeep> {
        Ok(Room { levels: self.levels.checked_sub(1).ok_or(TooDeep)?, ..self })
    }

    /// The levels inside an `Option` or newtype.
    #[inline]
    pub(super) fn wrapped(self) -> Result<Room, TooDeep> {
        Ok(Room { wrappers: self.wrappers.checked_sub(1).ok_or(TooDeep)?, ..self })
    }
}

/// The nesting is too deep.
#[derive(Debug)]
pub(super) struct TooDeep;

impl From<TooDeep> for EncodeError {
    #[cold]
    fn from(TooDeep: TooDeep) -> Self {
        EncodeError::TooDeep
    }
}

impl From<TooDeep> for DecodeError {
    #[cold]
    fn from(TooDeep: TooDeep) -> Self {
        DecodeError::too_deep()
    }
}
