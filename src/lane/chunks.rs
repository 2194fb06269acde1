//! A queue of outgoing octets, in reused buffers of a size that suits one write, with places for packets
//! that are made later.

use super::later::Later;
use std::collections::VecDeque;

/// Consecutive octets, and how many of them have been written.
#[derive(Debug, Default)]
pub struct Chunk {
    octets: Vec<u8>,
    written: usize,
}

impl Chunk {
    /// The octets that have not been written yet.
    pub fn unwritten(&self) -> &[u8] {
        self.octets.get(self.written..).unwrap_or_default()
    }

    /// Marks this many more octets as written.
    pub fn advance(&mut self, octets: usize) {
        self.written += octets;
    }
}

/// One place in the queue.
#[derive(Debug)]
enum Place {
    Octets(Chunk),
    Later(Later),
    /// A packet that somebody is making, and the octets that are counted for it meanwhile.
    BeingMade(usize),
}

/// A queue of octets.
#[derive(Debug)]
pub(super) struct Chunks {
    /// Octets per chunk. A chunk that begins with something longer is as long as that.
    usual: usize,
    /// Everything before `last`. At most one place is being made.
    full: VecDeque<Place>,
    /// The chunk to which octets are appended.
    last: Vec<u8>,
    /// Empty buffers for later chunks.
    spares: Vec<Vec<u8>>,
    len: usize,
}

impl Chunks {
    pub(super) const fn new(usual: usize) -> Self {
        Chunks { usual, full: VecDeque::new(), last: Vec::new(), spares: Vec::new(), len: 0 }
    }

    /// The number of octets in the queue, including those that packets to be made may have.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Appends the octets that `put` writes, about `expected` of them, to a single chunk. If it
    /// fails, nothing is appended.
    #[inline]
    pub(super) fn append<E>(
        &mut self,
        expected: usize,
        put: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut before = self.last.len();
        if before >= self.usual || (before > 0 && expected > self.usual) {
            self.begin_chunk();
            before = 0;
        } else if self.last.capacity() == 0 {
            self.last = self.spares.pop().unwrap_or_default();
        }
        put(&mut self.last).inspect_err(|_| self.last.truncate(before))?;
        let appended = self.last.len() - before;
        self.len += appended;
        Ok(appended)
    }

    #[cold]
    fn begin_chunk(&mut self) {
        let next = self.spares.pop().unwrap_or_default();
        let octets = std::mem::replace(&mut self.last, next);
        self.full.push_back(Place::Octets(Chunk { octets, written: 0 }));
        // Much is queued, so more is likely to follow. The last packet of a chunk may extend beyond
        // its usual end.
        self.last.reserve(self.usual + self.usual / 8);
    }

    /// Puts octets before all others, but after the rest of a chunk that was partly written. Returns
    /// the number of octets in that rest.
    pub(super) fn put_first(&mut self, octets: Vec<u8>) -> usize {
        let rest = match self.full.front() {
            Some(Place::Octets(chunk)) if chunk.written > 0 => chunk.unwritten().len(),
            _ => 0,
        };
        self.len += octets.len();
        let chunk = Chunk { octets, written: 0 };
        self.full.insert(usize::from(rest > 0), Place::Octets(chunk));
        rest
    }

    /// Appends a packet that is made later. Returns the number of octets that are counted for it.
    pub(super) fn append_later(&mut self, later: Later) -> usize {
        if !self.last.is_empty() {
            let octets = std::mem::take(&mut self.last);
            self.full.push_back(Place::Octets(Chunk { octets, written: 0 }));
        }
        let octets = later.octets();
        self.len += octets;
        self.full.push_back(Place::Later(later));
        octets
    }

    /// Takes the first packet if it has yet to be made; it keeps its place.
    pub(super) fn take_later(&mut self) -> Option<Later> {
        let place = self.full.front_mut()?;
        let Place::Later(later) = place else { return None };
        let being_made = Place::BeingMade(later.octets());
        match std::mem::replace(place, being_made) {
            Place::Later(later) => Some(later),
            Place::Octets(_) | Place::BeingMade(_) => None,
        }
    }

    /// Puts the octets of the packet that was being made into its place; without octets, the place is
    /// removed. Returns their number, or zero if the place was dropped meanwhile.
    pub(super) fn made(&mut self, octets: Vec<u8>) -> usize {
        let places = self.full.iter().enumerate();
        let mut being_made = places.filter_map(|(at, place)| match place {
            Place::BeingMade(counted) => Some((at, *counted)),
            Place::Octets(_) | Place::Later(_) => None,
        });
        let Some((at, counted)) = being_made.next() else { return 0 };
        let made = octets.len();
        self.len = self.len - counted + made;
        if made == 0 {
            self.full.remove(at);
        } else if let Some(place) = self.full.get_mut(at) {
            *place = Place::Octets(Chunk { octets, written: 0 });
        }
        made
    }

    /// Takes the first chunk; `None` if there is none, or if a packet before it has yet to be made.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        let chunk = match self.full.front_mut() {
            Some(Place::Octets(first)) => {
                let first = std::mem::take(first);
                self.full.pop_front();
                first
            }
            Some(Place::Later(_) | Place::BeingMade(_)) => return None,
            None if self.last.is_empty() => return None,
            None => Chunk { octets: std::mem::take(&mut self.last), written: 0 },
        };
        self.len -= chunk.unwritten().len();
        Some(chunk)
    }

    /// Returns a chunk that was taken; what is left of it is taken next.
    pub(super) fn give_back(&mut self, chunk: Chunk) {
        let left = chunk.unwritten().len();
        if left > 0 {
            self.len += left;
            self.full.push_front(Place::Octets(chunk));
            return;
        }
        let mut octets = chunk.octets;
        let mut most = 2 * self.usual;
        if self.len == 0 {
            // Nothing else is queued. Only this buffer is kept, if its capacity suits what is sent
            // now, so that a lane that was busy frees its memory with its next keepalive.
            self.spares.clear();
            most = most.min(MAX_IDLE_CAPACITY.max(MAX_CAPACITY_FACTOR * octets.len()));
        }
        if self.spares.len() < MAX_SPARE_BUFFERS && octets.capacity() <= most {
            octets.clear();
            self.spares.push(octets);
        }
    }

    /// Drops all octets.
    pub(super) fn clear(&mut self) {
        *self = Chunks::new(self.usual);
    }

    /// Takes the whole queue, leaving an empty one.
    pub(super) fn take_all(&mut self) -> Chunks {
        let usual = self.usual;
        std::mem::replace(self, Chunks::new(usual))
    }
}

/// The maximum number of empty buffers kept while much is queued.
const MAX_SPARE_BUFFERS: usize = 16;

/// The maximum capacity, in octets, that is kept while nothing is queued.
const MAX_IDLE_CAPACITY: usize = 16 << 10;

/// A larger capacity is kept as well if it is at most this many times the octets written last.
const MAX_CAPACITY_FACTOR: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(chunks: &mut Chunks, octets: usize) {
        let put = |out: &mut Vec<u8>| -> Result<(), ()> {
            out.resize(out.len() + octets, 0);
            Ok(())
        };
        chunks.append(octets, put).unwrap();
    }

    fn write_all(chunks: &mut Chunks) {
        while let Some(mut chunk) = chunks.take() {
            chunk.advance(chunk.unwritten().len());
            chunks.give_back(chunk);
        }
    }

    fn room(chunks: &Chunks) -> usize {
        chunks.spares.iter().chain([&chunks.last]).map(Vec::capacity).sum()
    }

    #[test]
    fn room_is_kept_while_much_is_sent_and_given_back_with_the_next_small_packet() {
        let mut chunks = Chunks::new(512 << 10);
        for _ in 0..1000 {
            pass(&mut chunks, 4 << 10);
        }
        assert_eq!(chunks.len(), 4000 << 10);
        write_all(&mut chunks);
        assert!((512 << 10..2 << 20).contains(&room(&chunks)));
        pass(&mut chunks, 2);
        write_all(&mut chunks);
        assert!(room(&chunks) <= MAX_IDLE_CAPACITY);
    }
}
