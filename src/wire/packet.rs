//! The structure of a packet: port name and message.

use super::framing::{NumberText, float_name, int_text, uint_text};
use crate::value::StrRef;
use crate::value::packed::{Elements, Token};
use thiserror::Error;

/// A packet: an array with a port name first (`docs/protocol.md` §2).
#[derive(Debug, Clone, Copy)]
pub enum Packet<'a> {
    /// `[]` or `[""]`: only shows that the connection is alive.
    Keepalive,
    /// A message for a port.
    Message {
        /// The port.
        port: PortName<'a>,
        /// The elements after the port name.
        elements: Elements<'a>,
    },
}

impl<'a> Packet<'a> {
    /// Port name and message, if the name is a short string, as nearly all names are, and there is a
    /// message. The result is the same as that of [`Packet::read`].
    #[inline(always)]
    pub(crate) fn read_usual(array: Elements<'a>) -> Option<(StrRef<'a>, Elements<'a>)> {
        let mut reader = array.reader();
        let port = reader.take_str().filter(|_| array.len() > 1)?;
        Some((port, array.rest(1, reader.rest())))
    }

    /// Parses a received array.
    ///
    /// # Errors
    /// The array does not begin with a string or number.
    #[inline]
    pub fn read(array: Elements<'a>) -> Result<Self, NoPortName> {
        match Packet::read_usual(array) {
            Some((port, elements)) => {
                Ok(Packet::Message { port: PortName { name: Name::Str(port) }, elements })
            }
            None => Packet::read_unusual(array),
        }
    }

    #[inline(never)]
    fn read_unusual(array: Elements<'a>) -> Result<Self, NoPortName> {
        if array.is_empty() {
            return Ok(Packet::Keepalive);
        }
        let mut reader = array.reader();
        let name = match reader.token() {
            Ok(Token::Str(name)) => Name::Str(name),
            Ok(Token::UInt(number)) => Name::Number(uint_text(number)),
            Ok(Token::NInt(number)) => Name::Number(int_text(number)),
            Ok(Token::Float(number)) => Name::Number(float_name(number)),
            _ => return Err(NoPortName),
        };
        let port = PortName { name };
        if array.len() == 1 && port.is_node_port() {
            return Ok(Packet::Keepalive);
        }
        Ok(Packet::Message { port, elements: array.rest(1, reader.rest()) })
    }
}

/// The array of a packet does not begin with a string or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no array with a port name first")]
#[non_exhaustive]
pub struct NoPortName;

/// The name of the port that a packet is for. A number in its place stands for the string of its digits,
/// as in Perl.
#[derive(Debug, Clone, Copy)]
pub struct PortName<'a> {
    name: Name<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Name<'a> {
    Str(StrRef<'a>),
    Number(NumberText),
}

impl PortName<'_> {
    /// The name as a string.
    #[inline]
    pub fn as_str(&self) -> StrRef<'_> {
        match &self.name {
            Name::Str(name) => *name,
            Name::Number(digits) => digits.as_str(),
        }
    }

    /// Whether it is the name of the node port, the empty string.
    pub fn is_node_port(&self) -> bool {
        self.as_str().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::packed;

    fn read(packed: &[u8], len: usize) -> Result<Packet<'_>, NoPortName> {
        Packet::read(Elements::new(len, packed))
    }

    #[test]
    fn the_port_name_comes_first() {
        let mut packed = Vec::new();
        packed::put_octets(&mut packed, b"port1");
        packed::put_int(&mut packed, 42);
        let Ok(Packet::Message { port, elements }) = read(&packed, 2) else {
            panic!("no message");
        };
        assert_eq!(port.as_str(), StrRef::text("port1"));
        assert!(!port.is_node_port());
        assert_eq!(elements.len(), 1);
        assert_eq!(elements.reader().token(), Ok(Token::UInt(42)));
    }

    #[test]
    fn numbers_name_ports_by_their_digits() {
        for (put, digits) in [
            ((|out| packed::put_int(out, -7)) as fn(&mut Vec<u8>), "-7"),
            (|out| packed::put_uint(out, 42), "42"),
            (|out| packed::put_float(out, 1.5), "1.5"),
        ] {
            let mut packed = Vec::new();
            put(&mut packed);
            let Ok(Packet::Message { port, elements }) = read(&packed, 1) else {
                panic!("no message");
            };
            assert_eq!(port.as_str(), StrRef::text(digits));
            assert!(elements.is_empty());
        }
    }

    #[test]
    fn an_empty_array_and_one_with_the_empty_name_are_keepalives() {
        assert!(matches!(read(b"", 0), Ok(Packet::Keepalive)));
        assert!(matches!(read(b"\x40", 1), Ok(Packet::Keepalive)));
        assert!(matches!(read(b"\x60", 1), Ok(Packet::Keepalive)));
        let node_request = read(b"\x40\x41x", 2);
        assert!(matches!(node_request, Ok(Packet::Message { port, .. }) if port.is_node_port()));
    }

    #[test]
    fn anything_else_is_no_packet() {
        for wrong in [&b"\xf6"[..], b"\xf5", b"\x80", b"\xa0", b"", b"\xff"] {
            assert_eq!(read(wrong, 1).err(), Some(NoPortName), "{wrong:x?}");
        }
    }
}
