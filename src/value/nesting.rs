//! How deep values may nest, and the account that serializer and deserializer keep of it.

use super::error::{DecodeError, EncodeError};

/// How many arrays, hashes and tags may stand inside each other, the packet itself included.
///
/// Perl's decoders refuse more arrays and hashes (docs/protocol.md §2).
pub const MAX_NESTING: usize = 512;

/// How many levels are left on the way down.
///
/// `Option`s and newtypes add no level to the octets, but they do to the stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    levels: u16,
    wrappers: u16,
}

impl Room {
    /// Room for one value.
    pub(super) const VALUE: Room =
        Room { levels: MAX_NESTING as u16, wrappers: MAX_NESTING as u16 };

    /// Room for each element of a message: the message takes one level.
    pub(super) const ELEMENT: Room =
        Room { levels: MAX_NESTING as u16 - 1, wrappers: MAX_NESTING as u16 };

    /// Room for one value that will stand inside of `around` arrays and hashes.
    pub(super) fn within(around: usize) -> Room {
        Room { levels: MAX_NESTING.saturating_sub(around) as u16, ..Room::VALUE }
    }

    /// How many levels are left.
    pub(super) fn levels(self) -> usize {
        usize::from(self.levels)
    }

    /// Inside of an array, a hash or a tag.
    #[inline]
    pub(super) fn deeper(self) -> Result<Room, TooDeep> {
        Ok(Room { levels: self.levels.checked_sub(1).ok_or(TooDeep)?, ..self })
    }

    /// Inside of an `Option` or newtype.
    #[inline]
    pub(super) fn wrapped(self) -> Result<Room, TooDeep> {
        Ok(Room { wrappers: self.wrappers.checked_sub(1).ok_or(TooDeep)?, ..self })
    }
}

/// There is no room left.
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
