//! The Storable framing, sent: images in the form of Perl's `nfreeze`.

use super::ops::{
    ARRAY, BLESS, BLESS_AGAIN, BYTE, FLAGGED_HASH, HASH, KEY_IS_UTF8, LONG_SCALAR, LONG_UTF8,
    LONG_VERSION_STRING, NET_INTEGER, OBJECT, OVERLOADED_REF, REF, REGEXP, SCALAR, UNDEF, UTF8,
    VERSION_STRING, WEAK_REF,
};
use super::{ERROR_CLASS, TAGGED_CLASS};
use crate::value::packed::{Elements, Item, Malformed, Reader, Token, UNDEFINED};
use crate::value::tag::{self, INDIRECTION, Storable};
use crate::value::{StrKind, StrRef};
use crate::wire::framing::{EncodeError, Framing, MAX_NESTING, float_text, int_text, uint_text};
use std::collections::HashMap;

/// Major version 2 in network order, minor version 11.
const HEADER: [u8; 2] = [0x05, 0x0b];
const BOOLEAN_CLASS: &[u8] = b"JSON::PP::Boolean";
/// The maximum octets of an image's length.
const LENGTH_ROOM: usize = 5;

/// Appends a packet.
pub(in crate::wire::framing) fn encode(
    elements: Elements<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.reserve(elements.octets().len() + LENGTH_ROOM + 8);
    out.extend_from_slice(&[0; LENGTH_ROOM]);
    out.extend_from_slice(&HEADER);
    let mut image = Image {
        elements,
        reader: elements.reader(),
        classes: HashMap::new(),
        flagged_hashes: None,
        next: 0,
        is_bare: false,
        labels: HashMap::new(),
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

/// An image that is being written.
pub(super) struct Image<'a> {
    elements: Elements<'a>,
    pub(super) reader: Reader<'a>,
    /// The numbers of the classes that were named before.
    classes: HashMap<&'a [u8], u32>,
    /// Whether a key may need a flag; `None` before the first hash.
    flagged_hashes: Option<bool>,
    /// The number of the next value.
    pub(super) next: u32,
    /// The next value is referred to by a hook; if it is a reference, its opcode is left out.
    pub(super) is_bare: bool,
    /// The numbers of the labelled values in the innermost scope.
    pub(super) labels: HashMap<&'a [u8], u32>,
    pub(super) out: &'a mut Vec<u8>,
}

impl<'a> Image<'a> {
    fn array(&mut self, len: usize, depth: usize) -> Result<(), EncodeError> {
        self.out.push(ARRAY);
        self.next += 1;
        self.long_len(len)?;
        for _ in 0..len {
            self.value(depth)?;
        }
        Ok(())
    }

    fn hash(&mut self, len: usize, depth: usize) -> Result<(), EncodeError> {
        let flagged = self.hashes_are_flagged();
        self.next += 1;
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

    /// Whether a string of the packet has code points above 255, and so needs a flag as a key. Decided
    /// once for all hashes, since checking each of them would take long if they are nested.
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

    /// Appends the next value, which is inside `depth` arrays and hashes.
    ///
    /// Recursion is bounded by [`MAX_NESTING`].
    pub(super) fn value(&mut self, depth: usize) -> Result<(), EncodeError> {
        let is_undefined = self.reader.rest().first() == Some(&UNDEFINED);
        let token = match self.reader.item()? {
            Item::Token(Token::Undef) if is_undefined => {
                self.reference(OVERLOADED_REF);
                self.class(ERROR_CLASS)?;
                Token::Undef
            }
            Item::Token(token) => token,
            Item::Tag(tag) => return self.tagged(tag, depth),
        };
        self.token(token, depth)
    }

    fn token(&mut self, token: Token<'a>, depth: usize) -> Result<(), EncodeError> {
        match token {
            Token::Undef => self.undef(),
            Token::Bool(value) => self.boolean(value)?,
            Token::UInt(number) => match i64::try_from(number) {
                Ok(number) => self.int(number)?,
                Err(_) => self.string(uint_text(number).as_str())?,
            },
            Token::NInt(number) => self.int(number)?,
            Token::Float(number) => self.float(number)?,
            Token::Str(string) => self.string(string)?,
            Token::Exact(number) => self.string(StrRef::octets(number.to_string().as_bytes()))?,
            Token::Array(_) | Token::Hash(_) if depth >= MAX_NESTING => {
                return Err(EncodeError::TooDeep);
            }
            Token::Array(len) => {
                self.reference(REF);
                self.array(len, depth + 1)?;
            }
            Token::Hash(len) => {
                self.reference(REF);
                self.hash(len, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Appends the value of a tag.
    #[cold]
    #[inline(never)]
    fn tagged(&mut self, tag: u64, depth: usize) -> Result<(), EncodeError> {
        if depth >= MAX_NESTING {
            return Err(EncodeError::TooDeep);
        }
        if tag == INDIRECTION {
            self.reference(REF);
            return self.value(depth + 1);
        }
        if let Some(kind) = Storable::of(tag)
            && let Some(first) = self.first_of_two()
        {
            return self.storable(kind, first, depth + 1);
        }
        if is_unknown_to_perl(tag) {
            return self.tag_and_value(tag, depth);
        }
        let token = self.reader.token_of(tag)?;
        self.token(token, depth)
    }

    /// Appends an object that consists of a tag and the next value.
    fn tag_and_value(&mut self, tag: u64, depth: usize) -> Result<(), EncodeError> {
        self.reference(REF);
        self.class(TAGGED_CLASS)?;
        self.out.push(ARRAY);
        self.next += 1;
        self.long_len(2)?;
        self.token(Token::UInt(tag), depth)?;
        self.value(depth + 1)
    }

    /// Reads the head of an array of two, and the octets that are its first item.
    fn first_of_two(&mut self) -> Option<&'a [u8]> {
        let mut inside = self.reader.clone();
        let Ok(Item::Token(Token::Array(2))) = inside.item() else {
            return None;
        };
        let Ok(Item::Token(Token::Str(first))) = inside.item() else {
            return None;
        };
        self.reader = inside;
        Some(first.data())
    }

    /// Appends something that only Storable can express; its value is next.
    fn storable(
        &mut self,
        kind: Storable,
        first: &'a [u8],
        depth: usize,
    ) -> Result<(), EncodeError> {
        let mut value = self.reader.clone();
        let item = value.item()?;
        match (kind, item) {
            (
                Storable::Blessed { overloaded },
                Item::Tag(INDIRECTION) | Item::Token(Token::Array(_) | Token::Hash(_)),
            ) => {
                self.reference(if overloaded { OVERLOADED_REF } else { REF });
                self.class(first)?;
                self.reader = value;
                match item {
                    Item::Token(Token::Array(len)) => self.array(len, depth + 1),
                    Item::Token(Token::Hash(len)) => self.hash(len, depth + 1),
                    _ => self.value(depth + 1),
                }
            }
            (Storable::Hook { overloaded, kind }, Item::Token(Token::Array(len @ 1..)))
                if depth < MAX_NESTING =>
            {
                self.reference(if overloaded { OVERLOADED_REF } else { REF });
                self.reader = value;
                self.hook_of_others(kind, first, len, depth + 1)
            }
            (Storable::Scope, _) => {
                let outside = std::mem::take(&mut self.labels);
                let result = self.labelled(first, item, depth);
                self.labels = outside;
                result
            }
            (Storable::Label, _) => self.labelled(first, item, depth),
            (Storable::Again { weak }, Item::Token(Token::Undef)) => {
                self.reader = value;
                match self.labels.get(first).copied() {
                    Some(number) => {
                        self.reference(if weak { WEAK_REF } else { REF });
                        self.out.push(OBJECT);
                        self.out.extend_from_slice(&number.to_be_bytes());
                    }
                    None => self.undef(),
                }
                Ok(())
            }
            (Storable::Hook { overloaded, kind }, Item::Token(Token::Str(frozen))) => {
                self.reference(if overloaded { OVERLOADED_REF } else { REF });
                self.reader = value;
                self.hook(kind, first, frozen.data())
            }
            (Storable::VersionString, Item::Token(Token::Str(_))) => {
                match u8::try_from(first.len()) {
                    Ok(len) => self.out.extend_from_slice(&[VERSION_STRING, len]),
                    Err(_) => {
                        self.out.push(LONG_VERSION_STRING);
                        self.long_len(first.len())?;
                    }
                }
                self.out.extend_from_slice(first);
                self.value(depth)
            }
            (Storable::Regexp, Item::Token(Token::Str(pattern))) => {
                self.reader = value;
                self.regexp(pattern.data(), first)
            }
            (Storable::Tagged, Item::Tag(tag)) => {
                self.reader = value;
                self.tag_and_value(tag, depth)
            }
            // Not in the form that our decoder writes.
            _ => self.value(depth),
        }
    }

    /// Begins a reference to the next value.
    fn reference(&mut self, opcode: u8) {
        if !std::mem::take(&mut self.is_bare) {
            self.out.push(opcode);
            self.next += 1;
        }
    }

    fn regexp(&mut self, pattern: &[u8], flags: &[u8]) -> Result<(), EncodeError> {
        self.next += 1;
        self.out.extend_from_slice(&[REGEXP, u8::from(pattern.len() > 255)]);
        self.len(pattern.len())?;
        self.out.extend_from_slice(pattern);
        let len = u8::try_from(flags.len()).map_err(|_| too_long())?;
        self.out.push(len);
        self.out.extend_from_slice(flags);
        Ok(())
    }

    /// A length in one octet, or in four if one is not enough.
    pub(super) fn len(&mut self, len: usize) -> Result<(), EncodeError> {
        match u8::try_from(len) {
            Ok(len) => {
                self.out.push(len);
                Ok(())
            }
            Err(_) => self.long_len(len),
        }
    }

    /// The number of a class if it was named before; otherwise it is named now.
    pub(super) fn number_of(&mut self, class: &'a [u8]) -> Option<u32> {
        let next = self.classes.len() as u32;
        match self.classes.entry(class) {
            std::collections::hash_map::Entry::Occupied(named) => Some(*named.get()),
            std::collections::hash_map::Entry::Vacant(new) => {
                new.insert(next);
                None
            }
        }
    }

    /// Blesses the next value.
    fn class(&mut self, class: &'a [u8]) -> Result<(), EncodeError> {
        let again = self.number_of(class);
        let number = again.map_or(class.len(), |number| number as usize);
        self.out.push(if again.is_some() { BLESS_AGAIN } else { BLESS });
        match u8::try_from(number) {
            Ok(short @ 0..0x80) => self.out.push(short),
            _ => {
                self.out.push(0x80);
                self.long_len(number)?;
            }
        }
        if again.is_none() {
            self.out.extend_from_slice(class);
        }
        Ok(())
    }

    fn undef(&mut self) {
        self.next += 1;
        self.out.push(UNDEF);
    }

    fn boolean(&mut self, value: bool) -> Result<(), EncodeError> {
        self.reference(REF);
        self.class(BOOLEAN_CLASS)?;
        self.next += 1;
        self.out.extend_from_slice(&[BYTE, 128 + u8::from(value)]);
        Ok(())
    }

    fn int(&mut self, number: i64) -> Result<(), EncodeError> {
        if let -128..=127 = number {
            self.next += 1;
            self.out.extend_from_slice(&[BYTE, (number + 128) as u8]);
        } else if let Ok(number) = i32::try_from(number) {
            self.next += 1;
            self.out.push(NET_INTEGER);
            self.out.extend_from_slice(&number.to_be_bytes());
        } else {
            self.string(int_text(number).as_str())?;
        }
        Ok(())
    }

    /// A float as Perl sends it: as an integer if it is one below 2^53, otherwise as a string.
    fn float(&mut self, number: f64) -> Result<(), EncodeError> {
        let whole = number as i64;
        if whole.unsigned_abs() < 1 << 53 && (whole as f64).to_bits() == number.to_bits() {
            return self.int(whole);
        }
        self.string(float_text(number).as_str())
    }

    fn string(&mut self, string: StrRef<'_>) -> Result<(), EncodeError> {
        let data = string.data();
        let is_octets = string.kind() == StrKind::Octets;
        self.next += 1;
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

    /// A length, which Perl reads as a signed number.
    fn long_len(&mut self, len: usize) -> Result<(), EncodeError> {
        let len = i32::try_from(len).map_err(|_| too_long())?;
        self.out.extend_from_slice(&len.to_be_bytes());
        Ok(())
    }
}

/// Whether Perl's CBOR decoder makes a generic tagged value of this tag, not an object or a number.
pub(super) fn is_unknown_to_perl(tag: u64) -> bool {
    !matches!(tag, 0..=5 | 21..=23 | 25 | 26 | 28..=30 | 32 | 256 | 264 | 265 | 55799)
        && !tag::is_internal(tag)
}
