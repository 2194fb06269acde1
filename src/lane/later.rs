//! Packets that are made when their turn to be written has come, since that takes long: their place in
//! a lane is taken at once, under whatever lock the sender holds, and they are made without it.

use super::{Appended, FRAMING_OVERHEAD, Lane, State};
use crate::value::Packed;
use crate::wire::framing::{self, EncodeError, Framing};
use std::fmt;

/// Consecutive packets that are made when their turn to be written has come.
pub struct Later {
    octets: usize,
    make: Box<dyn FnOnce() -> Vec<Packed> + Send>,
}

/// The octets of packets that were made.
#[derive(Debug, Default)]
pub struct Made {
    octets: Vec<u8>,
    packets: u64,
    left_out: Option<EncodeError>,
}

impl Made {
    /// Why a packet was left out: the framing cannot carry it.
    pub const fn left_out(&self) -> Option<EncodeError> {
        self.left_out
    }
}

impl Later {
    /// Packets of about this many octets, which are counted for the limits of the lane until they are
    /// made. At least one octet is counted.
    ///
    /// `make` is called once, or never if the connection is lost before. It must neither send nor take
    /// the kernel's lock: if the node is not connected, it is called at once, under that of the lane.
    pub fn new(octets: usize, make: impl FnOnce() -> Vec<Packed> + Send + 'static) -> Self {
        Later { octets: octets.max(1), make: Box::new(make) }
    }

    /// The octets that are counted.
    pub const fn octets(&self) -> usize {
        self.octets
    }

    /// Makes the packets, in the framing of a connection. Those that it cannot carry are left out.
    pub fn encode(self, framing: Framing) -> Made {
        let packets = (self.make)();
        let expected = packets.iter().map(|packet| packet.octets_len() + FRAMING_OVERHEAD).sum();
        let mut made = Made { octets: Vec::with_capacity(expected), ..Made::default() };
        for packet in packets {
            let before = made.octets.len();
            match framing::encode(framing, packet.as_elements(), &mut made.octets) {
                Ok(()) => made.packets += 1,
                Err(error) => {
                    made.octets.truncate(before);
                    made.left_out = Some(error);
                }
            }
        }
        made
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Later").field("octets", &self.octets).finish_non_exhaustive()
    }
}

impl Lane {
    /// As [`Lane::append`], for packets that are made when their turn to be written has come, or at
    /// once if the node is not connected.
    ///
    /// If they are dropped because the connection is being lost, they are left in `later`, since to free
    /// them may take long.
    ///
    /// # Errors
    /// If they are made at once, and the framing can carry none of them; nothing is appended then.
    pub fn append_later(&mut self, later: &mut Option<Later>) -> Result<Appended, EncodeError> {
        self.append_by(|lane, framing| {
            let Some(later) = later.take() else { return Ok(0) };
            if framing.is_some() {
                return Ok(lane.chunks.append_later(later));
            }
            let packets = (later.make)();
            let (mut octets, mut left_out) = (0, None);
            for packet in packets {
                let put = lane.put(framing, packet.octets_len(), |framing, out| {
                    framing::encode_as(framing, packet.as_elements(), out)
                });
                match put {
                    Ok(put) => {
                        // The caller counts one packet.
                        lane.sent.packets += u64::from(octets > 0);
                        octets += put;
                    }
                    Err(error) => left_out = Some(error),
                }
            }
            left_out.filter(|_| octets == 0).map_or(Ok(octets), Err)
        })
    }

    /// Takes what has to be made before anything else is written, and the framing for it; [`Lane::made`]
    /// must follow. Until then it keeps its place, and nothing behind it is taken.
    ///
    /// `None` if the first packet in the queue is there, or is being made, or `generation` is over.
    pub fn take_later(&mut self, generation: u64) -> Option<(Framing, Later)> {
        match self.state {
            State::Up(framing) if generation == self.generation => {
                Some((framing, self.chunks.take_later()?))
            }
            _ => None,
        }
    }

    /// Puts packets that were taken to be made into their place. If there are none, the place is removed.
    pub fn made(&mut self, generation: u64, made: Made) {
        if generation != self.generation {
            return;
        }
        // One was counted when they got their place.
        self.sent.packets += made.packets.saturating_sub(1);
        self.sent.octets += self.chunks.made(made.octets) as u64;
        self.congested |= self.waiting() > self.limits.soft;
        self.less_waits();
    }

    /// Makes the first packets if they have yet to be made. Returns false if there are none to make.
    ///
    /// # Errors
    /// Fails if the framing cannot carry a packet, which is left out then.
    pub fn make_next(&mut self, generation: u64) -> Result<bool, EncodeError> {
        let Some((framing, later)) = self.take_later(generation) else { return Ok(false) };
        let made = later.encode(framing);
        let left_out = made.left_out();
        self.made(generation, made);
        left_out.map_or(Ok(true), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::LaneLimits;
    use crate::value::{MAX_NESTING, packed};
    use std::sync::Arc;

    const LIMITS: LaneLimits = LaneLimits { soft: 30, hard: 60 };
    const ROOMY: LaneLimits = LaneLimits { soft: 1000, hard: 1000 };

    fn packet(number: u32) -> Packed {
        Packed::of(&("port", number)).unwrap()
    }

    /// A packet of ten octets in JSON, of which twenty are expected.
    fn later(number: u32) -> Later {
        Later::new(20, move || vec![packet(number)])
    }

    fn append(lane: &mut Lane, number: u32) -> Appended {
        lane.append(packet(number).as_elements()).unwrap()
    }

    fn up(limits: LaneLimits, framing: Framing) -> (Lane, u64) {
        let mut lane = Lane::new(limits);
        let (generation, ..) = lane.connect(framing);
        (lane, generation)
    }

    /// Takes what can be taken without making anything, and marks it as written.
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
    fn a_packet_that_is_made_later_keeps_its_place_among_the_others() {
        let (mut lane, generation) = up(ROOMY, Framing::Json);
        let _ = append(&mut lane, 1);
        assert_eq!(lane.append_later(&mut Some(later(2))), Ok(Appended::Waits));
        let _ = append(&mut lane, 3);
        assert!(lane.take_later(generation).is_none(), "it is not its turn");
        assert_eq!(taken(&mut lane, generation), r#"["port",1]"#);
        let (framing, second) = lane.take_later(generation).unwrap();
        let _ = lane.append_later(&mut Some(later(4)));
        assert!(lane.take_later(generation).is_none(), "one at a time");
        assert_eq!(taken(&mut lane, generation), "", "nothing passes it");
        lane.made(generation, second.encode(framing));
        assert_eq!(taken(&mut lane, generation), r#"["port",2]["port",3]"#);
        assert_eq!(lane.make_next(generation), Ok(true));
        assert_eq!(taken(&mut lane, generation), r#"["port",4]"#);
        assert_eq!(lane.make_next(generation), Ok(false));
        assert_eq!(lane.waiting(), 0);
        assert_eq!((lane.counters().packets, lane.counters().octets), (4, 40));
        assert_eq!(lane.append_later(&mut Some(later(5))), Ok(Appended::WakeWriter));
    }

    #[test]
    fn a_packet_is_made_while_what_precedes_it_is_written() {
        let (mut lane, generation) = up(ROOMY, Framing::Json);
        let _ = append(&mut lane, 1);
        let _ = lane.append_later(&mut Some(later(2)));
        let mut first = lane.take(generation).unwrap();
        assert_eq!(lane.make_next(generation), Ok(true));
        assert!(lane.take(generation).is_none(), "the first is being written");
        first.advance(4);
        assert!(lane.give_back(generation, first));
        assert_eq!(taken(&mut lane, generation), r#"rt",1]["port",2]"#);
    }

    #[test]
    fn what_goes_first_passes_a_packet_even_while_that_is_made() {
        let (mut lane, generation) = up(ROOMY, Framing::Json);
        let _ = lane.append_later(&mut Some(later(1)));
        assert_eq!(lane.append_first(packet(2).as_elements()), Ok(true));
        assert!(lane.take_later(generation).is_none(), "it is not its turn");
        assert!(!lane.first_is_written(generation));
        assert_eq!(taken(&mut lane, generation), r#"["port",2]"#);
        assert!(lane.first_is_written(generation));

        let (framing, first) = lane.take_later(generation).unwrap();
        assert_eq!(lane.append_first(packet(3).as_elements()), Ok(true));
        assert!(!lane.first_is_written(generation));
        lane.made(generation, first.encode(framing));
        let mut chunk = lane.take(generation).unwrap();
        assert_eq!(chunk.unwritten(), br#"["port",3]"#);
        chunk.advance(10);
        assert!(lane.give_back(generation, chunk) && lane.first_is_written(generation));
        assert_eq!(taken(&mut lane, generation), r#"["port",1]"#);
    }

    #[test]
    fn the_limits_count_what_a_packet_may_have_until_it_is_made() {
        let (mut lane, generation) = up(LIMITS, Framing::Json);
        let _ = lane.append_later(&mut Some(later(1)));
        assert!(!lane.is_congested());
        let _ = lane.append_later(&mut Some(later(2)));
        assert!(lane.is_congested() && lane.waiting() == 40);
        let (framing, first) = lane.take_later(generation).unwrap();
        assert_eq!(lane.waiting(), 40, "also while it is made");
        lane.made(generation, first.encode(framing));
        assert_eq!((lane.waiting(), lane.counters().octets), (30, 10));
        assert_eq!(taken(&mut lane, generation), r#"["port",1]"#);
        assert_eq!(lane.make_next(generation), Ok(true));
        assert!(lane.waiting() == 10 && !lane.is_congested(), "since it has fewer");

        assert_eq!(
            lane.append_later(&mut Some(Later::new(100, || vec![packet(3)]))),
            Ok(Appended::Waits)
        );
        assert_eq!(taken(&mut lane, generation), r#"["port",2]"#);
        let (framing, third) = lane.take_later(generation).unwrap();
        assert_eq!(lane.append_later(&mut Some(later(4))), Ok(Appended::Overflow));
        assert_eq!(append(&mut lane, 5), Appended::Dropped);
        lane.made(generation, third.encode(framing));
        assert_eq!((lane.waiting(), lane.counters().octets), (0, 20));
    }

    #[test]
    fn nothing_is_made_for_a_connection_that_is_lost() {
        let witness = Arc::new(());
        let never = |witness: &Arc<()>| {
            let witness = witness.clone();
            Later::new(20, move || unreachable!("made for nothing: {witness:?}"))
        };
        let (mut lane, old) = up(ROOMY, Framing::Json);
        let _ = lane.append_later(&mut Some(later(1)));
        let _ = lane.append_later(&mut Some(never(&witness)));
        let (framing, first) = lane.take_later(old).unwrap();
        lane.disconnect();
        assert_eq!(lane.append_later(&mut Some(never(&witness))), Ok(Appended::Dropped));
        assert_eq!(Arc::strong_count(&witness), 1, "they are dropped");
        lane.reset();
        let (new, ..) = lane.connect(framing);
        let _ = lane.append_later(&mut Some(later(2)));
        assert_eq!(lane.make_next(old), Ok(false));
        let (_, second) = lane.take_later(new).unwrap();
        lane.made(old, first.encode(framing));
        assert_eq!(taken(&mut lane, new), "", "this one is not made yet");
        lane.made(new, second.encode(framing));
        assert_eq!(taken(&mut lane, new), r#"["port",2]"#);

        let _ = lane.append_later(&mut Some(never(&witness)));
        let (next, ..) = lane.connect(framing);
        assert_eq!((lane.make_next(next), Arc::strong_count(&witness)), (Ok(false), 1));
    }

    #[test]
    fn a_packet_for_a_node_that_is_not_connected_is_made_at_once() {
        let mut lane = Lane::new(ROOMY);
        assert_eq!(lane.append_later(&mut Some(later(1))), Ok(Appended::WantConnection));
        assert_eq!(append(&mut lane, 2), Appended::Waits);
        assert_eq!(lane.append_later(&mut Some(later(3))), Ok(Appended::Waits));
        assert_eq!(lane.waiting(), 21, "in packed form");
        let (generation, some, errors) = lane.connect(Framing::Json);
        assert!(some && errors.is_empty());
        assert_eq!(lane.make_next(generation), Ok(false));
        assert_eq!(taken(&mut lane, generation), r#"["port",1]["port",2]["port",3]"#);
    }

    #[test]
    fn packets_that_are_made_together_keep_their_place_and_are_counted() {
        let (mut lane, generation) = up(ROOMY, Framing::Json);
        let _ = append(&mut lane, 1);
        let some = || Later::new(40, || vec![packet(2), deep(), packet(3)]);
        assert_eq!(lane.append_later(&mut Some(some())), Ok(Appended::Waits));
        let _ = append(&mut lane, 4);
        assert_eq!(taken(&mut lane, generation), r#"["port",1]"#);
        assert_eq!(lane.make_next(generation), Err(EncodeError::TooDeep));
        assert_eq!(taken(&mut lane, generation), r#"["port",2]["port",3]["port",4]"#);
        assert_eq!((lane.counters().packets, lane.counters().octets), (4, 40));

        let mut lane = Lane::new(ROOMY);
        assert_eq!(lane.append_later(&mut Some(some())), Ok(Appended::WantConnection));
        assert_eq!(lane.counters().packets, 2);
        let (generation, ..) = lane.connect(Framing::Json);
        assert_eq!(taken(&mut lane, generation), r#"["port",2]["port",3]"#);
    }

    /// A packet that JSON cannot carry.
    fn deep() -> Packed {
        let mut octets = Vec::new();
        packed::put_text(&mut octets, "port");
        (0..=MAX_NESTING).for_each(|_| packed::put_array(&mut octets, 1));
        packed::put_undef(&mut octets);
        Packed::new(2, octets.into())
    }

    #[test]
    fn a_packet_that_the_framing_cannot_carry_leaves_no_hole() {
        let (mut lane, generation) = up(ROOMY, Framing::Json);
        let _ = append(&mut lane, 1);
        let _ = lane.append_later(&mut Some(Later::new(1, || vec![deep()])));
        let _ = append(&mut lane, 2);
        assert_eq!(taken(&mut lane, generation), r#"["port",1]"#);
        assert_eq!(lane.make_next(generation), Err(EncodeError::TooDeep));
        assert_eq!(lane.make_next(generation), Ok(false));
        assert_eq!(taken(&mut lane, generation), r#"["port",2]"#);
        assert_eq!((lane.waiting(), lane.counters().octets), (0, 20));
    }
}
