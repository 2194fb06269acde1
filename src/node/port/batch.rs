//! A port's queue of messages, in one buffer.

use crate::value::NodeId;
use crate::value::packed::Elements;

/// Capacity above this is freed once everything was read.
const MAX_KEPT_CAPACITY: usize = 64 << 10;

/// Octets of the header of each message: its number of elements, and its length.
const HEADER: usize = 8;

/// The number of elements in the header of a marker, which is no message.
const MARKER: u32 = u32::MAX;

/// A queue of messages: appended at the end, read from the start, cleared as a whole.
#[derive(Debug, Default)]
pub(super) struct Batch {
    octets: Vec<u8>,
    /// The sender of the messages that begin at this offset or later, up to the next entry's.
    senders: Vec<(usize, NodeId)>,
    /// The offset up to which it was read, and the index of the current sender.
    at: usize,
    sender: usize,
}

/// What [`Batch::next`] reads.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    Message(&'a NodeId, Elements<'a>),
    Marker,
}

impl Batch {
    /// Whether everything was read.
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        self.at >= self.octets.len()
    }

    /// How many octets it holds, read or not.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.octets.len()
    }

    /// Appends a message; false if `limit` octets wait already.
    ///
    /// So a single message may be larger than the limit.
    #[inline]
    pub(super) fn push(&mut self, from: &NodeId, message: Elements<'_>, limit: usize) -> bool {
        let octets = message.octets();
        let start = self.octets.len();
        if start >= limit.max(1) {
            return false;
        }
        let (Ok(count), Ok(len)) = (u32::try_from(message.len()), u32::try_from(octets.len()))
        else {
            return false;
        };
        if count == MARKER {
            return false;
        }
        if !self.senders.last().is_some_and(|(_, last)| same(last, from)) {
            if start == 0 {
                self.senders.clear();
            }
            self.senders.push((start, from.clone()));
        }
        self.head(count, len, octets.len());
        self.octets.extend_from_slice(octets);
        true
    }

    /// Appends a marker.
    pub(super) fn push_marker(&mut self) {
        self.head(MARKER, 0, 0);
    }

    #[inline]
    fn head(&mut self, count: u32, len: u32, room: usize) {
        self.octets.reserve(HEADER + room);
        let header = u64::from(count) << 32 | u64::from(len);
        self.octets.extend_from_slice(&header.to_ne_bytes());
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.octets.capacity()
    }

    /// Reads the next entry.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Entry<'_>> {
        let header = u64::from_ne_bytes(*self.octets.get(self.at..)?.first_chunk::<HEADER>()?);
        let (count, len) = ((header >> 32) as u32, (header & 0xffff_ffff) as usize);
        let start = self.at + HEADER;
        let message = self.octets.get(start..start + len)?;
        if let Some((from, _)) = self.senders.get(self.sender + 1)
            && *from <= self.at
        {
            self.sender += 1;
        }
        self.at = start + len;
        if count == MARKER {
            return Some(Entry::Marker);
        }
        let (_, from) = self.senders.get(self.sender)?;
        Some(Entry::Message(from, Elements::new(count as usize, message)))
    }

    /// Forgets everything, but keeps a buffer of usual size and the last sender for the next time.
    pub(super) fn clear(&mut self) {
        if self.octets.capacity() > MAX_KEPT_CAPACITY {
            *self = Batch::default();
            return;
        }
        self.octets.clear();
        if self.senders.len() > 1 {
            self.senders.clear();
            self.senders.shrink_to(16);
        } else if let Some((start, _)) = self.senders.first_mut() {
            *start = 0;
        }
        self.at = 0;
        self.sender = 0;
    }
}

/// Whether two IDs are the same; fast where they share their octets.
#[inline]
fn same(a: &NodeId, b: &NodeId) -> bool {
    let (a, b) = (a.as_str(), b.as_str());
    a.kind() == b.kind() && (std::ptr::eq(a.data(), b.data()) || a.data() == b.data())
}
