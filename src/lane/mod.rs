//! Lanes: everything that is queued for one remote node, and the only way out to it. Before a
//! connection is up a lane is a queue of packets, then a buffer of octets.
//!
//! Sans-I/O: the node puts a lock around each lane, the simulator does not.

mod chunks;
mod copies;
mod later;

use self::chunks::Chunks;
use crate::mutation::{self, Mutation};
use crate::value::packed::{Elements, Reader};
use crate::value::tag::is_cbor;
use crate::wire::framing::{self, EncodeError, Framing};

pub use self::chunks::Chunk;
pub(crate) use self::copies::Copies;
pub use self::later::{Later, Made};

/// How many octets a lane may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// Octets from which on [`Lane::is_congested`] is true, so that senders can wait; 8 MiB by
    /// default.
    pub soft: usize,
    /// Octets beyond which the node is given up like a broken connection; 256 MiB by default. A
    /// single packet may be larger.
    pub hard: usize,
}

impl Default for LaneLimits {
    fn default() -> Self {
        LaneLimits { soft: 8 << 20, hard: 256 << 20 }
    }
}

/// The result of appending a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Appended {
    /// The packet is queued behind others, which the writer has yet to write.
    Waits,
    /// The packet is the first in the queue: the writer has to be woken.
    WakeWriter,
    /// The packet is the first for a node that is not connected: a connection has to be made.
    WantConnection,
    /// The packet was dropped, because the connection is being lost; monitors fire.
    Dropped,
    /// The packet was dropped because too much is queued, and so are all later ones: the connection
    /// has to be given up.
    Overflow,
}

/// What was queued when a connection was lost. To free it may take long: drop it without locks.
#[derive(Debug)]
pub struct Unsent {
    queue: Chunks,
    overflowed: Option<Chunks>,
}

impl Unsent {
    /// The octets that were queued, including those that packets to be made might have had.
    pub fn octets(&self) -> usize {
        self.queue.len() + self.overflowed.as_ref().map_or(0, Chunks::len)
    }
}

#[derive(Debug)]
enum State {
    Idle,
    Queueing,
    Up(Framing),
    /// Everything is dropped: the connection is being lost, or has to be given up.
    Down,
}

/// The packets that are queued for one remote node.
#[derive(Debug)]
pub struct Lane {
    state: State,
    limits: LaneLimits,
    /// Packets in the framing of the connection, or in packed form while there is none.
    chunks: Chunks,
    /// What was queued when it became too much, until [`Lane::disconnect`].
    overflowed: Option<Chunks>,
    /// Octets of the chunk that was taken to be written, if one was.
    in_hand: Option<usize>,
    generation: u64,
    /// Octets written to this connection.
    written: u64,
    /// The value of `written` at which the packet of [`Lane::append_first`] has been written.
    first_ends: Option<u64>,
    /// Whether the queue, which is in packed form, can be sent unchanged as CBOR.
    queue_is_cbor: bool,
    /// Set when more than the soft limit is queued; cleared when half of that is left.
    congested: bool,
    /// Whether congestion was reported. It is reported again only after the lane has been empty.
    congestion_told: bool,
    sent: Counters,
}

/// Totals of a lane since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets appended, keepalives included.
    pub packets: u64,
    /// Octets appended in the framing of the connection; those of a [`Later`] once it is made.
    pub octets: u64,
    /// Packets dropped because the connection was being lost.
    pub dropped: u64,
}

impl Lane {
    /// A lane to a node that is not connected.
    pub const fn new(limits: LaneLimits) -> Self {
        Lane {
            state: State::Idle,
            limits,
            chunks: Chunks::new(chunk_size(limits)),
            overflowed: None,
            in_hand: None,
            generation: 0,
            written: 0,
            first_ends: None,
            queue_is_cbor: true,
            congested: false,
            congestion_told: false,
            sent: Counters { packets: 0, octets: 0, dropped: 0 },
        }
    }

    /// Appends a packet, which begins with the port name.
    ///
    /// # Errors
    /// Fails if the framing cannot carry a value; nothing is appended then.
    #[inline]
    pub fn append(&mut self, packet: Elements<'_>) -> Result<Appended, EncodeError> {
        self.append_with(packet.octets().len(), |framing, out| {
            framing::encode_as(framing, packet, out)
        })
    }

    /// As [`Lane::append`], for a packet of about `expected` octets. `put` appends it in the
    /// framing that it gets, or in packed form if it gets none because the framing is not known
    /// yet.
    ///
    /// # Errors
    /// Fails if `put` does.
    #[inline]
    pub fn append_with(
        &mut self,
        expected: usize,
        put: impl FnOnce(Option<Framing>, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Appended, EncodeError> {
        self.append_by(|lane, framing| lane.put(framing, expected, put))
    }

    /// Appends a packet by calling `append`, unless the connection is being lost or too much is
    /// queued. It gets the framing, if there is a connection, and returns the octets to count.
    #[inline]
    fn append_by(
        &mut self,
        append: impl FnOnce(&mut Self, Option<Framing>) -> Result<usize, EncodeError>,
    ) -> Result<Appended, EncodeError> {
        let waiting = self.waiting();
        let (framing, appended) = match self.state {
            State::Down => {
                self.sent.dropped += 1;
                return Ok(Appended::Dropped);
            }
            _ if waiting > self.limits.hard && mutation::is_on(Mutation::LeaveHolesInLanes) => {
                self.sent.dropped += 1;
                return Ok(Appended::Dropped);
            }
            _ if waiting > self.limits.hard => {
                // Otherwise a later packet could be sent once the writer has made room, leaving a
                // gap.
                self.state = State::Down;
                self.overflowed = Some(self.chunks.take_all());
                self.sent.dropped += 1;
                return Ok(Appended::Overflow);
            }
            State::Idle => (None, Appended::WantConnection),
            State::Queueing => (None, Appended::Waits),
            State::Up(framing) if waiting == 0 => (Some(framing), Appended::WakeWriter),
            State::Up(framing) => (Some(framing), Appended::Waits),
        };
        let octets = append(self, framing)?;
        if matches!(self.state, State::Idle) {
            self.state = State::Queueing;
        }
        self.congested |= waiting + octets > self.limits.soft;
        self.sent.packets += 1;
        Ok(appended)
    }

    /// Appends the octets that `put` writes; returns their number.
    #[inline]
    fn put(
        &mut self,
        framing: Option<Framing>,
        expected: usize,
        put: impl FnOnce(Option<Framing>, &mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<usize, EncodeError> {
        let queue_is_cbor = &mut self.queue_is_cbor;
        let octets = self.chunks.append(expected + FRAMING_OVERHEAD, |out| {
            let start = out.len();
            put(framing, out)?;
            if framing.is_none() {
                *queue_is_cbor &= is_cbor(out.get(start..).unwrap_or_default());
            }
            Ok::<(), EncodeError>(())
        })?;
        self.sent.octets += octets as u64;
        Ok(octets)
    }

    /// Puts a packet before all others in the queue, but after the chunk that is being written or
    /// was written in part. Returns false if there is no connection.
    ///
    /// # Errors
    /// Fails if the framing cannot carry a value; nothing is appended then.
    pub fn append_first(&mut self, packet: Elements<'_>) -> Result<bool, EncodeError> {
        let State::Up(framing) = self.state else { return Ok(false) };
        let mut octets = Vec::with_capacity(packet.octets().len() + FRAMING_OVERHEAD);
        framing::encode(framing, packet, &mut octets)?;
        self.sent.packets += 1;
        self.sent.octets += octets.len() as u64;
        let len = octets.len();
        let before = self.in_hand.unwrap_or(0) + self.chunks.put_first(octets);
        self.first_ends = Some(self.written + (before + len) as u64);
        Ok(true)
    }

    /// Whether the packet of [`Lane::append_first`] was written to the connection of this
    /// generation.
    pub fn first_is_written(&self, generation: u64) -> bool {
        generation == self.generation && self.first_ends.is_some_and(|ends| self.written >= ends)
    }

    /// Marks the connection as authenticated; the queued packets become octets in its framing in
    /// the same step.
    ///
    /// Returns the connection's generation, whether there is something to write, and an error for
    /// each packet that was left out because the framing cannot carry it. A lane that overflowed
    /// stays down.
    pub fn connect(&mut self, framing: Framing) -> (u64, bool, Vec<EncodeError>) {
        let mut errors = Vec::new();
        self.in_hand = None;
        self.generation += 1;
        (self.written, self.first_ends) = (0, None);
        match self.state {
            State::Down => return (self.generation, false, errors),
            State::Queueing if framing == Framing::Cbor && self.queue_is_cbor => {}
            State::Queueing => errors = self.translate_queue(framing),
            State::Idle | State::Up(_) => self.chunks.clear(),
        }
        self.queue_is_cbor = true;
        self.state = State::Up(framing);
        (self.generation, self.chunks.len() > 0, errors)
    }

    fn translate_queue(&mut self, framing: Framing) -> Vec<EncodeError> {
        let mut errors = Vec::new();
        let mut queue = self.chunks.take_all();
        while let Some(chunk) = queue.take() {
            let mut reader = Reader::new(chunk.unwritten());
            while let Ok(packet) = reader.array() {
                errors.extend(append_packet(&mut self.chunks, framing, packet).err());
            }
        }
        errors
    }

    /// Marks the connection as lost, or as impossible to make: takes everything out of the queue, and
    /// drops everything appended until [`Lane::reset`].
    pub fn disconnect(&mut self) -> Unsent {
        self.state = State::Down;
        let unsent = Unsent { queue: self.chunks.take_all(), overflowed: self.overflowed.take() };
        self.in_hand = None;
        self.generation += 1;
        self.congested = false;
        self.congestion_told = false;
        unsent
    }

    /// Accepts packets for a new connection, now that all monitors have fired.
    pub fn reset(&mut self) {
        self.state = State::Idle;
    }

    /// Takes the chunk to write next; [`Lane::give_back`] must follow.
    ///
    /// `None` if nothing is queued, a chunk is being written, the first packet has yet to be made
    /// ([`Lane::take_later`]), or `generation` is over.
    #[inline]
    pub fn take(&mut self, generation: u64) -> Option<Chunk> {
        if generation != self.generation || self.in_hand.is_some() {
            return None;
        }
        let chunk = self.chunks.take()?;
        self.in_hand = Some(chunk.unwritten().len());
        Some(chunk)
    }

    /// Returns a chunk that was taken, written or not. Returns whether there is more to write.
    pub fn give_back(&mut self, generation: u64, chunk: Chunk) -> bool {
        if generation != self.generation {
            return false;
        }
        let taken = self.in_hand.take().unwrap_or(0);
        self.written += taken.saturating_sub(chunk.unwritten().len()) as u64;
        if matches!(self.state, State::Up(_)) {
            self.chunks.give_back(chunk);
        }
        self.less_waits();
        self.chunks.len() > 0
    }

    fn less_waits(&mut self) {
        self.congested &= self.waiting() > self.limits.soft / 2;
        self.congestion_told &= self.waiting() > 0;
    }

    /// Whether senders should write what is queued themselves.
    #[inline]
    pub fn is_worth_writing(&self) -> bool {
        self.chunks.len() >= chunk_size(self.limits)
    }

    /// Octets that are queued, including the chunk that is being written, and those that packets to
    /// be made may have.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.chunks.len() + self.in_hand.unwrap_or(0)
    }

    /// Whether senders should wait: true from the soft limit on, until half of that is written.
    #[inline]
    pub fn is_congested(&self) -> bool {
        self.congested
    }

    /// Whether so much is queued that whatever can be delayed should be: more than an eighth of the
    /// soft limit.
    #[inline]
    pub fn is_crowded(&self) -> bool {
        self.waiting() > self.limits.soft / 8
    }

    /// Whether this many octets can be appended without exceeding the soft limit, while at most half
    /// of what makes a lane crowded is queued; or nothing is queued.
    pub fn has_room(&self, octets: usize) -> bool {
        let waiting = self.waiting();
        let soft = self.limits.soft;
        waiting == 0 || waiting <= soft / 16 && waiting.saturating_add(octets) <= soft
    }

    /// Whether congestion should be reported now: once, until the lane has been empty.
    pub fn congestion_to_tell(&mut self) -> bool {
        let told = self.congestion_told;
        self.congestion_told |= self.congested;
        self.congestion_told && !told
    }

    /// Whether nothing is queued and there is no connection.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// The framing and generation of the connection, if there is one.
    pub fn connection(&self) -> Option<(Framing, u64)> {
        match self.state {
            State::Up(framing) => Some((framing, self.generation)),
            _ => None,
        }
    }

    /// The totals so far.
    pub const fn counters(&self) -> Counters {
        self.sent
    }
}

/// Octets from which on senders write themselves. With fewer, they would only do the work of the
/// connection's writer, which runs in parallel since the first packet, and would be woken more often.
const CHUNK: usize = 512 << 10;

const fn chunk_size(limits: LaneLimits) -> usize {
    if limits.soft < CHUNK { limits.soft } else { CHUNK }
}

/// Encodes a packet; returns its number of octets.
#[inline]
fn append_packet(
    chunks: &mut Chunks,
    framing: Framing,
    packet: Elements<'_>,
) -> Result<usize, EncodeError> {
    let expected = packet.octets().len() + FRAMING_OVERHEAD;
    chunks.append(expected, |out| framing::encode(framing, packet, out))
}

/// The maximum octets that a framing usually adds to a packet.
const FRAMING_OVERHEAD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Packed;

    const LIMITS: LaneLimits = LaneLimits { soft: 30, hard: 60 };

    fn packet(number: u32) -> Packed {
        Packed::of(&("port", number)).unwrap()
    }

    /// Appends a packet of ten octets in JSON, or seven in the queue.
    fn append(lane: &mut Lane, number: u32) -> Appended {
        lane.append(packet(number).as_elements()).unwrap()
    }

    /// Takes everything that is queued, and marks it as written.
    fn taken(lane: &mut Lane, generation: u64) -> String {
        let mut octets = Vec::new();
        while let Some(mut chunk) = lane.take(generation) {
            octets.extend_from_slice(chunk.unwritten());
            chunk.advance(chunk.unwritten().len());
            let _ = lane.give_back(generation, chunk);
        }
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn what_is_queued_comes_in_the_framing_of_the_connection() {
        let mut lane = Lane::new(LIMITS);
        assert_eq!(append(&mut lane, 1), Appended::WantConnection);
        assert_eq!(append(&mut lane, 2), Appended::Waits);
        let (generation, some, errors) = lane.connect(Framing::Json);
        assert!(some && errors.is_empty());
        assert_eq!(taken(&mut lane, generation), r#"["port",1]["port",2]"#);
        assert_eq!(append(&mut lane, 3), Appended::WakeWriter);
        assert_eq!(append(&mut lane, 4), Appended::Waits);
        assert_eq!(lane.counters().packets, 4);
    }

    #[test]
    fn what_somebody_has_in_hand_still_waits_and_nobody_else_takes_anything() {
        let mut lane = Lane::new(LIMITS);
        let (generation, ..) = lane.connect(Framing::Json);
        let _ = append(&mut lane, 1);
        let mut chunk = lane.take(generation).unwrap();
        assert_eq!(lane.waiting(), 10);
        assert_eq!(append(&mut lane, 2), Appended::Waits);
        assert!(lane.take(generation).is_none());
        chunk.advance(10);
        assert!(lane.give_back(generation, chunk), "the second waits");
        assert_eq!(taken(&mut lane, generation), r#"["port",2]"#);
        assert_eq!(lane.waiting(), 0);
    }

    #[test]
    fn what_was_not_written_is_taken_again() {
        let mut lane = Lane::new(LIMITS);
        let (generation, ..) = lane.connect(Framing::Json);
        let _ = append(&mut lane, 1);
        let mut chunk = lane.take(generation).unwrap();
        let _ = append(&mut lane, 2);
        chunk.advance(3);
        assert!(lane.give_back(generation, chunk));
        assert_eq!(lane.waiting(), 17);
        assert_eq!(taken(&mut lane, generation), r#"ort",1]["port",2]"#);
    }

    #[test]
    fn packets_are_not_split_between_chunks_and_a_long_one_has_its_own() {
        let mut lane = Lane::new(LaneLimits { soft: 60, hard: 1000 });
        let (generation, ..) = lane.connect(Framing::Json);
        for number in 1..=9 {
            let _ = append(&mut lane, number);
        }
        let long = Packed::of(&("port", "x".repeat(100))).unwrap();
        let _ = lane.append(long.as_elements());
        let mut lengths = Vec::new();
        while let Some(mut chunk) = lane.take(generation) {
            lengths.push(chunk.unwritten().len());
            chunk.advance(chunk.unwritten().len());
            let _ = lane.give_back(generation, chunk);
        }
        assert_eq!(lengths.iter().sum::<usize>(), 90 + 111);
        assert_eq!(lengths.last(), Some(&111));
        assert!(lengths.len() < 5 && lengths.iter().all(|len| len % 10 == 0 || *len == 111));
    }

    #[test]
    fn a_lost_connection_drops_everything_until_the_reset() {
        let mut lane = Lane::new(LIMITS);
        let (old, ..) = lane.connect(Framing::Json);
        let _ = append(&mut lane, 1);
        lane.disconnect();
        assert_eq!(append(&mut lane, 2), Appended::Dropped);
        assert_eq!((lane.waiting(), lane.counters().dropped), (0, 1));
        lane.reset();
        assert_eq!(append(&mut lane, 3), Appended::WantConnection);
        let (new, ..) = lane.connect(Framing::Json);
        assert_eq!(taken(&mut lane, old), "", "the old connection's writer gets nothing");
        assert_eq!(taken(&mut lane, new), r#"["port",3]"#);
    }

    #[test]
    fn one_packet_may_exceed_the_hard_limit_and_the_next_takes_the_lane_down() {
        let mut lane = Lane::new(LIMITS);
        let (generation, ..) = lane.connect(Framing::Json);
        let large = Packed::of(&("port", "x".repeat(100))).unwrap();
        assert_eq!(lane.append(large.as_elements()), Ok(Appended::WakeWriter));
        assert_eq!(append(&mut lane, 2), Appended::Overflow);
        assert_eq!(append(&mut lane, 3), Appended::Dropped, "the kernel is told once");
        assert_eq!(taken(&mut lane, generation), "");
        // The kernel does not know of the overflow yet.
        let (generation, some, _) = lane.connect(Framing::Json);
        assert!(!some);
        assert_eq!(append(&mut lane, 4), Appended::Dropped);
        assert_eq!(taken(&mut lane, generation), "");
    }

    #[test]
    fn a_packet_that_goes_first_follows_what_is_being_written_and_passes_what_waits() {
        let mut lane = Lane::new(LaneLimits { soft: 1000, hard: 1000 });
        assert_eq!(lane.append_first(packet(0).as_elements()), Ok(false), "not connected");
        let (generation, ..) = lane.connect(Framing::Json);
        let _ = append(&mut lane, 1);
        let mut chunk = lane.take(generation).unwrap();
        let _ = append(&mut lane, 2);
        assert_eq!(lane.append_first(packet(3).as_elements()), Ok(true));
        chunk.advance(4);
        assert!(lane.give_back(generation, chunk));
        let mut written = String::new();
        while let Some(mut chunk) = lane.take(generation) {
            assert_eq!(lane.first_is_written(generation), written.contains('3'));
            written.push_str(std::str::from_utf8(chunk.unwritten()).unwrap());
            chunk.advance(chunk.unwritten().len());
            let _ = lane.give_back(generation, chunk);
        }
        assert_eq!(written, r#"rt",1]["port",3]["port",2]"#);
        assert!(lane.first_is_written(generation));
        assert_eq!(lane.counters().packets, 3);
        let (next, ..) = lane.connect(Framing::Json);
        assert!(!lane.first_is_written(next) && !lane.first_is_written(generation));
    }

    #[test]
    fn a_packet_that_goes_first_does_not_split_one_that_was_written_in_part() {
        let mut lane = Lane::new(LIMITS);
        let (generation, ..) = lane.connect(Framing::Json);
        let _ = append(&mut lane, 1);
        let mut chunk = lane.take(generation).unwrap();
        let _ = append(&mut lane, 2);
        chunk.advance(4);
        // As a sender does when the socket takes no more.
        assert!(lane.give_back(generation, chunk));
        assert_eq!(lane.append_first(packet(3).as_elements()), Ok(true));
        let mut rest = lane.take(generation).unwrap();
        assert_eq!(rest.unwritten(), br#"rt",1]"#);
        rest.advance(6);
        assert!(lane.give_back(generation, rest) && !lane.first_is_written(generation));
        assert_eq!(taken(&mut lane, generation), r#"["port",3]["port",2]"#);
        assert!(lane.first_is_written(generation));
    }

    #[test]
    fn congestion_is_told_once_until_the_lane_has_been_empty() {
        let mut lane = Lane::new(LIMITS);
        let (generation, ..) = lane.connect(Framing::Json);
        let mut told = Vec::new();
        for number in 1..=5 {
            let _ = append(&mut lane, number);
            told.push(lane.congestion_to_tell());
        }
        assert_eq!(told, [false, false, false, true, false]);
        let mut chunk = lane.take(generation).unwrap();
        chunk.advance(10);
        let _ = lane.give_back(generation, chunk);
        assert!(lane.is_congested() && !lane.congestion_to_tell());
        taken(&mut lane, generation);
        assert!(!lane.is_congested() && !lane.congestion_to_tell());
        for number in 1..=4 {
            let _ = append(&mut lane, number);
        }
        assert!(lane.congestion_to_tell());
    }
}
