//! The Storable framing, sent: images as Perl's `nfreeze` makes them.

use super::storable_ops::{
    ARRAY, BLESS, BLESS_AGAIN, BYTE, FLAGGED_HASH, HASH, KEY_IS_UTF8, LONG_SCALAR, LONG_UTF8,
    NET_INTEGER, REF, SCALAR, UNDEF, UTF8,
};
use super::{EncodeError, Framing, MAX_NESTING, float_text, int_text, uint_text};
use crate::value::packed::{Elements, Malformed, Reader, Token};
use crate::value::{StrKind, StrRef};

/// Major version 2 in network order, minor version 11.
const HEADER: [u8; 2] = [0x05, 0x0b];
const BOOLEAN_CLASS: &[u8] = b"JSON::PP::Boolean";
/// Octets that the length of an image may take.
const LENGTH_ROOM: usize = 5;

/// Appends a packet.
pub(super) fn encode(elements: Elements<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    out.reserve(elements.octets().len() + LENGTH_ROOM + 8);
    out.extend_from_slice(&[0; LENGTH_ROOM]);
    out.extend_from_slice(&HEADER);
    let mut image = Image {
        elements,
        reader: elements.reader(),
        boolean_named: false,
        flagged_hashes: None,
        out,
    };
    image.array(elements.len(), 1)?;
    put_length(out, start)
}

/// Writes the length of the image before it (Perl's `pack "w"`), and closes the gap.
fn put_length(out: &mut Vec<u8>, start: usize) -> Result<(), EncodeError> {
    let len = (out.len() - start - LENGTH_ROOM) as u64;
    if len >> (7 * LENGTH_ROOM) != 0 {
        return Err(too_long());
    }
    let mut length = [0; LENGTH_ROOM];
    let mut at = LENGTH_ROOM;
    let mut rest = len;
    let mut more = 0;
    for octet in length.iter_mut().rev() {
        *octet = (rest & 0x7f) as u8 | more;
        more = 0x80;
        at -= 1;
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    let length = length.get(at..).unwrap_or_default();
    out.splice(start..start + LENGTH_ROOM, length.iter().copied());
    Ok(())
}

const fn too_long() -> EncodeError {
    EncodeError::TooLong { framing: Framing::Storable }
}

struct Image<'a> {
    elements: Elements<'a>,
    reader: Reader<'a>,
    /// The class of booleans was named and can be referred to.
    boolean_named: bool,
    /// Whether some key may need a flag; nothing as long as there was no hash.
    flagged_hashes: Option<bool>,
    out: &'a mut Vec<u8>,
}

impl Image<'_> {
    fn array(&mut self, len: usize, depth: usize) -> Result<(), EncodeError> {
        self.out.push(ARRAY);
        self.long_len(len)?;
        for _ in 0..len {
            self.value(depth)?;
        }
        Ok(())
    }

    fn hash(&mut self, len: usize, depth: usize) -> Result<(), EncodeError> {
        let flagged = self.hashes_are_flagged();
        if flagged {
            self.out.extend_from_slice(&[FLAGGED_HASH, 0]);
        } else {
            self.out.push(HASH);
        }
        self.long_len(len)?;
        for _ in 0..len {
            let Token::Str(key) = self.reader.token()? else {
                return Err(Malformed { at: self.reader.position() }.into());
            };
            self.value(depth)?;
            let octets = key.to_octets();
            if flagged {
                self.out.push(if octets.is_some() { 0 } else { KEY_IS_UTF8 });
            }
            let name = octets.as_deref().unwrap_or(key.data());
            self.long_len(name.len())?;
            self.out.extend_from_slice(name);
        }
        Ok(())
    }

    /// Whether some string of the packet has code points above 255, so that it could not be a key
    /// without a flag. One answer for all hashes: looking at each on its own would take long where
    /// they are nested.
    fn hashes_are_flagged(&mut self) -> bool {
        let elements = self.elements;
        *self.flagged_hashes.get_or_insert_with(|| {
            let mut reader = elements.reader();
            while let Ok(token) = reader.token() {
                if let Token::Str(string) = token
                    && string.kind() == StrKind::Text
                    && string.data().iter().any(|&octet| octet >= 0xc4)
                {
                    return true;
                }
            }
            false
        })
    }

    /// Appends the next value, which stands in `depth` arrays and hashes.
    ///
    /// Recursion is bounded by [`MAX_NESTING`].
    fn value(&mut self, depth: usize) -> Result<(), EncodeError> {
        match self.reader.token()? {
            Token::Undef => self.out.push(UNDEF),
            Token::Bool(value) => self.boolean(value),
            Token::UInt(number) => match i64::try_from(number) {
                Ok(number) => self.int(number)?,
                Err(_) => self.string(uint_text(number).as_str())?,
            },
            Token::NInt(number) => self.int(number)?,
            Token::Float(number) => self.string(float_text(number).as_str())?,
            Token::Str(string) => self.string(string)?,
            Token::Array(_) | Token::Hash(_) if depth >= MAX_NESTING => {
                return Err(EncodeError::TooDeep);
            }
            Token::Array(len) => {
                self.out.push(REF);
                self.array(len, depth + 1)?;
            }
            Token::Hash(len) => {
                self.out.push(REF);
                self.hash(len, depth + 1)?;
            }
        }
        Ok(())
    }

    fn boolean(&mut self, value: bool) {
        if self.boolean_named {
            self.out.extend_from_slice(&[REF, BLESS_AGAIN, 0]);
        } else {
            self.boolean_named = true;
            self.out.extend_from_slice(&[REF, BLESS, BOOLEAN_CLASS.len() as u8]);
            self.out.extend_from_slice(BOOLEAN_CLASS);
        }
        self.out.extend_from_slice(&[BYTE, 128 + u8::from(value)]);
    }

    fn int(&mut self, number: i64) -> Result<(), EncodeError> {
        if let -128..=127 = number {
            self.out.extend_from_slice(&[BYTE, (number + 128) as u8]);
        } else if let Ok(number) = i32::try_from(number) {
            self.out.push(NET_INTEGER);
            self.out.extend_from_slice(&number.to_be_bytes());
        } else {
            self.string(int_text(number).as_str())?;
        }
        Ok(())
    }

    fn string(&mut self, string: StrRef<'_>) -> Result<(), EncodeError> {
        let data = string.data();
        let is_octets = string.kind() == StrKind::Octets || data.is_ascii();
        match (u8::try_from(data.len()), is_octets) {
            (Ok(len), true) => self.out.extend_from_slice(&[SCALAR, len]),
            (Ok(len), false) => self.out.extend_from_slice(&[UTF8, len]),
            (Err(_), true) => {
                self.out.push(LONG_SCALAR);
                self.long_len(data.len())?;
            }
            (Err(_), false) => {
                self.out.push(LONG_UTF8);
                self.long_len(data.len())?;
            }
        }
        self.out.extend_from_slice(data);
        Ok(())
    }

    /// A length; Perl reads it as a signed number.
    fn long_len(&mut self, len: usize) -> Result<(), EncodeError> {
        let len = i32::try_from(len).map_err(|_| too_long())?;
        self.out.extend_from_slice(&len.to_be_bytes());
        Ok(())
    }
}
