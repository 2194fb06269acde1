//! Consecutive packets for the same port, delivered together.

use super::cbor::simple_packet;
use crate::value::packed::{Elements, Reader};
use crate::value::{StrRef, same};

/// Consecutive messages for one port, borrowed from the input; see
/// [`Decoder::packet_run`](super::Decoder::packet_run).
#[derive(Debug, Clone)]
pub struct PacketRun<'a> {
    input: &'a [u8],
    limit: usize,
    /// The port's name, and the name as it is encoded.
    port: StrRef<'a>,
    name: &'a [u8],
    /// The first message and the end of its packet, until the message was taken.
    first: Option<(usize, Elements<'a>)>,
    used: usize,
    packets: u64,
}

impl<'a> PacketRun<'a> {
    /// `None` if `input` does not begin with a plain packet of at most `limit` octets for a port with a
    /// name.
    #[inline]
    pub(super) fn begin(input: &'a [u8], limit: usize) -> Option<Self> {
        if matches!(input.get(1), None | Some(0x40 | 0x60)) {
            // It is for the node port.
            return None;
        }
        let (end, len) = simple_packet(input, limit)?;
        let elements = input.get(1..end)?;
        let mut reader = Reader::new(elements);
        let port = reader.take_str()?;
        let rest = reader.rest();
        let name = elements.get(..elements.len() - rest.len())?;
        let first = Some((end, Elements::plain(len - 1, rest)));
        Some(PacketRun { input, limit, port, name, first, used: 0, packets: 0 })
    }

    /// The port of the messages.
    #[inline]
    pub fn port(&self) -> StrRef<'a> {
        self.port
    }

    /// The octets of the input that were consumed by the messages taken so far.
    #[inline]
    pub fn used(&self) -> usize {
        self.used
    }

    /// The number of messages taken so far.
    #[inline]
    pub fn packets(&self) -> u64 {
        self.packets
    }
}

impl<'a> Iterator for PacketRun<'a> {
    type Item = Elements<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Elements<'a>> {
        let (used, elements) = match self.first.take() {
            Some(first) => first,
            None => {
                let input = self.input.get(self.used..)?;
                let (used, len) = simple_packet(input, self.limit)?;
                let elements = input.get(1..used)?;
                let (name, message) = elements.split_at_checked(self.name.len())?;
                if !same(name, self.name) {
                    return None;
                }
                (used, Elements::plain(len - 1, message))
            }
        };
        self.used += used;
        self.packets += 1;
        Some(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Decoder, Framing, FramingLimits, Step, encode};
    use super::*;
    use crate::value::Packed;
    use crate::wire::packet::Packet;

    fn wire(packets: &[Packed]) -> Vec<u8> {
        let mut wire = Vec::new();
        for packet in packets {
            encode(Framing::Cbor, packet.as_elements(), &mut wire).unwrap();
        }
        wire
    }

    fn decoder() -> Decoder {
        Decoder::new(Framing::Cbor, FramingLimits::default())
    }

    fn message(port: &str, number: u32) -> Packed {
        Packed::of(&(port, number, "text")).unwrap()
    }

    #[test]
    fn messages_for_one_port_are_taken_until_one_for_another_comes() {
        let numbers = [("one", 1), ("one", 2), ("one", 3), ("two", 4), ("one", 5)];
        let wire = wire(&numbers.map(|(port, number)| message(port, number)));
        let mut run = decoder().packet_run(&wire).unwrap();
        assert_eq!(run.port(), StrRef::text("one"));
        let taken: Vec<u32> =
            run.by_ref().map(|message| message.decode::<(u32,)>().unwrap().0).collect();
        assert_eq!((taken, run.packets()), (vec![1, 2, 3], 3));
        let rest = decoder().packet_run(&wire[run.used()..]).unwrap();
        assert_eq!(rest.port(), StrRef::text("two"));
    }

    #[test]
    fn what_was_not_taken_is_not_used_up() {
        let wire = wire(&[message("one", 1), message("one", 2)]);
        let mut run = decoder().packet_run(&wire).unwrap();
        assert_eq!((run.used(), run.packets()), (0, 0));
        run.next();
        assert_eq!((run.used(), run.packets()), (wire.len() / 2, 1));
    }

    #[test]
    fn a_run_ends_before_a_packet_that_is_cut_off_anywhere() {
        let wire = wire(&[message("one", 1), message("one", 2)]);
        for end in 0..wire.len() {
            let taken = decoder().packet_run(&wire[..end]).map_or(0, Iterator::count);
            assert_eq!(taken, usize::from(end >= wire.len() / 2));
        }
    }

    #[test]
    fn what_is_no_plain_message_is_left_to_the_decoder() {
        for packet in [
            Packed::of(&("", "mon1", "x")).unwrap(),
            Packed::of(&("",)).unwrap(),
            Packed::of(&("one", [[1, 2]])).unwrap(),
            Packed::of(&(42, "one")).unwrap(),
            Packed::of(&("one", "\u{e4}")).unwrap(),
        ] {
            assert!(
                decoder().packet_run(&wire(std::slice::from_ref(&packet))).is_none(),
                "{packet}"
            );
        }
    }

    #[test]
    fn a_run_takes_what_the_decoder_would_find() {
        let lengths = [0, 1, 23, 24, 255, 256, 65535, 65536];
        let packets: Vec<Packed> = lengths
            .iter()
            .map(|len| Packed::of(&("one", -1, 1.5, true, (), "x".repeat(*len))).unwrap())
            .collect();
        let wire = wire(&packets);
        let (mut at, mut found) = (0, 0);
        while at < wire.len() {
            let mut decoder = decoder();
            let (taken, used) = match decoder.packet_run(&wire[at..]) {
                Some(mut run) => (run.next().unwrap().to_packed(), run.used()),
                None => (Packed::default(), 0),
            };
            let Step::Packet { used: all, elements } = decoder.next(&wire[at..]).unwrap() else {
                panic!("no packet");
            };
            let Packet::Message { port, elements } = Packet::read(elements).unwrap() else {
                panic!("no message");
            };
            assert_eq!(port.as_str(), StrRef::text("one"));
            if used > 0 {
                assert_eq!((taken.to_string(), used), (elements.to_string(), all));
                found += 1;
            }
            at += all;
        }
        assert_eq!(found, lengths.len() - 1, "all but the longest");
    }
}
