//! The only way out to a remote node: a queue until it is connected, a buffer while it is.

use crate::value::packed::{Elements, Reader};
use crate::wire::framing::{self, EncodeError, Framing};

/// How much may wait in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// Octets from which on senders who ask are made to wait; 8 MiB unless told.
    pub soft: usize,
    /// Octets beyond which the node is given up like a broken connection; 256 MiB unless told.
    /// A single packet may be larger.
    pub hard: usize,
}

impl Default for LaneLimits {
    fn default() -> Self {
        LaneLimits { soft: 8 << 20, hard: 256 << 20 }
    }
}

/// What became of a packet that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Appended {
    /// It waits behind others: whoever was told of them will take it along.
    Waits,
    /// It is the first: the writer has to be woken.
    WakeWriter,
    /// It is the first for a node that is not connected: a connection is wanted.
    WantConnection,
    /// The connection is being lost: it was dropped, and monitors fire.
    Dropped,
    /// It was dropped because too much is waiting, and so is all that follows: the connection has
    /// to be given up.
    Overflow,
}

#[derive(Debug)]
enum State {
    Idle,
    Queueing,
    Up(Framing),
    /// Everything is dropped: the connection is being lost, or has to be given up.
    Down,
}

/// The packets on their way to one remote node.
///
/// Sans-I/O: the node drives it with a lock around it, the simulator without.
#[derive(Debug)]
pub struct Lane {
    state: State,
    limits: LaneLimits,
    /// Packets in the framing of the connection, or in [`QUEUE_FRAMING`] while there is none.
    buffer: Vec<u8>,
    /// Octets that the writer took and has not reported as written.
    in_flight: usize,
    generation: u64,
    /// Nobody has to be told again that much waits, until the lane has been empty.
    congestion_told: bool,
    sent: Counters,
}

/// What has passed a lane since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets appended, keepalives included.
    pub packets: u64,
    /// Octets appended in the framing of the connection.
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
            buffer: Vec::new(),
            in_flight: 0,
            generation: 0,
            congestion_told: false,
            sent: Counters { packets: 0, octets: 0, dropped: 0 },
        }
    }

    /// Appends a packet, port name first.
    ///
    /// # Errors
    /// Fails where the framing cannot carry a value; nothing is appended then.
    pub fn append(&mut self, packet: Elements<'_>) -> Result<Appended, EncodeError> {
        let (framing, appended) = match self.state {
            State::Down => {
                self.sent.dropped += 1;
                return Ok(Appended::Dropped);
            }
            _ if self.waiting() > self.limits.hard => {
                // Or what comes next could pass, once the writer has made room: a hole.
                self.state = State::Down;
                self.buffer = Vec::new();
                self.sent.dropped += 1;
                return Ok(Appended::Overflow);
            }
            State::Idle => (QUEUE_FRAMING, Appended::WantConnection),
            State::Queueing => (QUEUE_FRAMING, Appended::Waits),
            State::Up(framing) if self.buffer.is_empty() => (framing, Appended::WakeWriter),
            State::Up(framing) => (framing, Appended::Waits),
        };
        let before = self.buffer.len();
        encode_whole(framing, packet, &mut self.buffer)?;
        if matches!(self.state, State::Idle) {
            self.state = State::Queueing;
        }
        self.sent.packets += 1;
        self.sent.octets += (self.buffer.len() - before) as u64;
        Ok(appended)
    }

    /// The connection is authenticated: what was queued becomes octets, in one step.
    ///
    /// Returns the connection's generation and whether there is something to write. Packets that
    /// the framing cannot carry are left out and reported. A lane that overflowed stays down.
    pub fn connect(&mut self, framing: Framing) -> (u64, bool, Vec<EncodeError>) {
        let mut errors = Vec::new();
        self.in_flight = 0;
        self.generation += 1;
        match self.state {
            State::Down => return (self.generation, false, errors),
            State::Queueing if framing == QUEUE_FRAMING => {}
            State::Queueing => errors = self.translate_queue(framing),
            State::Idle | State::Up(_) => self.buffer.clear(),
        }
        self.state = State::Up(framing);
        (self.generation, !self.buffer.is_empty(), errors)
    }

    fn translate_queue(&mut self, framing: Framing) -> Vec<EncodeError> {
        let queue = std::mem::take(&mut self.buffer);
        let mut reader = Reader::new(&queue);
        let mut errors = Vec::new();
        while let Ok(packet) = reader.array() {
            errors.extend(encode_whole(framing, packet, &mut self.buffer).err());
        }
        errors
    }

    /// The connection is lost, or could not be made: everything that waits is dropped, and so is
    /// all that is appended until [`Lane::reset`].
    pub fn disconnect(&mut self) {
        self.state = State::Down;
        self.buffer = Vec::new();
        self.in_flight = 0;
        self.generation += 1;
        self.congestion_told = false;
    }

    /// All monitors have fired: the lane takes packets for a new connection.
    pub fn reset(&mut self) {
        self.state = State::Idle;
    }

    /// Takes everything that waits, in exchange for an empty buffer whose room is used again.
    ///
    /// Returns false where nothing is there or `generation` is over. What was taken counts as
    /// waiting until the next take of the same generation.
    pub fn take(&mut self, generation: u64, into: &mut Vec<u8>) -> bool {
        into.clear();
        if generation != self.generation {
            return false;
        }
        std::mem::swap(&mut self.buffer, into);
        self.in_flight = into.len();
        self.congestion_told &= self.in_flight > 0;
        !into.is_empty()
    }

    /// How many octets wait, those in the writer's hands included.
    pub fn waiting(&self) -> usize {
        self.buffer.len() + self.in_flight
    }

    /// Whether so much waits that senders who ask should wait.
    pub fn is_congested(&self) -> bool {
        self.waiting() > self.limits.soft
    }

    /// Whether somebody has to be told that much waits: once, until the lane has been empty.
    pub fn congestion_to_tell(&mut self) -> bool {
        let told = self.congestion_told;
        self.congestion_told |= self.is_congested();
        self.congestion_told && !told
    }

    /// Whether nothing waits and no connection is there.
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

    /// What has passed so far.
    pub const fn counters(&self) -> Counters {
        self.sent
    }
}

/// While no framing is agreed on, packets are kept in the framing that needs no translation.
const QUEUE_FRAMING: Framing = Framing::Cbor;

/// Encodes a packet, or leaves `out` as it was.
fn encode_whole(
    framing: Framing,
    packet: Elements<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let before = out.len();
    framing::encode(framing, packet, out).inspect_err(|_| out.truncate(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Packed;

    const LIMITS: LaneLimits = LaneLimits { soft: 30, hard: 60 };

    fn packet(number: u32) -> Packed {
        Packed::of(&("port", number)).unwrap()
    }

    /// Of ten octets in JSON, and of seven in the queue.
    fn append(lane: &mut Lane, number: u32) -> Appended {
        lane.append(packet(number).as_elements()).unwrap()
    }

    fn taken(lane: &mut Lane, generation: u64) -> String {
        let mut octets = Vec::new();
        lane.take(generation, &mut octets);
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
    fn what_the_writer_has_in_hand_still_waits() {
        let mut lane = Lane::new(LIMITS);
        let (generation, ..) = lane.connect(Framing::Json);
        let _ = append(&mut lane, 1);
        assert!(!taken(&mut lane, generation).is_empty());
        assert_eq!(lane.waiting(), 10);
        assert!(taken(&mut lane, generation).is_empty());
        assert_eq!(lane.waiting(), 0);
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
        // The kernel has not heard of it yet.
        let (generation, some, _) = lane.connect(Framing::Json);
        assert!(!some);
        assert_eq!(append(&mut lane, 4), Appended::Dropped);
        assert_eq!(taken(&mut lane, generation), "");
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
        taken(&mut lane, generation);
        assert!(lane.is_congested() && !lane.congestion_to_tell());
        taken(&mut lane, generation);
        assert!(!lane.is_congested() && !lane.congestion_to_tell());
        for number in 1..=4 {
            let _ = append(&mut lane, number);
        }
        assert!(lane.congestion_to_tell());
    }
}
