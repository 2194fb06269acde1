//! The elements of a Storable image: opcodes with their arguments.

use crate::value::{StrKind, StrRef};
use crate::wire::framing::{Framing, FramingError};

pub(super) const OBJECT: u8 = 0;
pub(super) const LONG_SCALAR: u8 = 1;
pub(super) const ARRAY: u8 = 2;
pub(super) const HASH: u8 = 3;
pub(super) const REF: u8 = 4;
pub(super) const UNDEF: u8 = 5;
const INTEGER: u8 = 6;
const DOUBLE: u8 = 7;
pub(super) const BYTE: u8 = 8;
pub(super) const NET_INTEGER: u8 = 9;
pub(super) const SCALAR: u8 = 10;
const TIED_ARRAY: u8 = 11;
const TIED_HASH: u8 = 12;
const TIED_SCALAR: u8 = 13;
const STATIC_UNDEF: u8 = 14;
const STATIC_YES: u8 = 15;
const STATIC_NO: u8 = 16;
pub(super) const BLESS: u8 = 17;
pub(super) const BLESS_AGAIN: u8 = 18;
pub(super) const HOOK: u8 = 19;
pub(super) const OVERLOADED_REF: u8 = 20;
const TIED_KEY: u8 = 21;
const TIED_INDEX: u8 = 22;
pub(super) const UTF8: u8 = 23;
pub(super) const LONG_UTF8: u8 = 24;
pub(super) const FLAGGED_HASH: u8 = 25;
const CODE: u8 = 26;
pub(super) const WEAK_REF: u8 = 27;
const WEAK_OVERLOADED_REF: u8 = 28;
pub(super) const VERSION_STRING: u8 = 29;
pub(super) const LONG_VERSION_STRING: u8 = 30;
const STATIC_UNDEF_ELEMENT: u8 = 31;
pub(super) const REGEXP: u8 = 32;
const BOOLEAN_TRUE: u8 = 34;
const BOOLEAN_FALSE: u8 = 35;

pub(super) const HOOK_KIND: u8 = 0x03;
pub(super) const HOOK_LONG_CLASS: u8 = 0x04;
pub(super) const HOOK_LONG_STRING: u8 = 0x08;
pub(super) const HOOK_CLASS_AGAIN: u8 = 0x20;
pub(super) const HOOK_LONG_LIST: u8 = 0x10;
pub(super) const HOOK_RECURSES: u8 = 0x40;
pub(super) const HOOK_HAS_LIST: u8 = 0x80;

pub(super) const KEY_IS_UTF8: u8 = 1;
const KEY_IS_SCALAR: u8 = 8;
const KEY_IS_PLACEHOLDER: u8 = 16;

/// One opcode.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op<'a> {
    Undef,
    Int(i64),
    Float(f64),
    Str(StrRef<'a>),
    /// A value that was sent before, by its number.
    Object(u32),
    Array(usize),
    Hash {
        len: usize,
        flagged: bool,
    },
    /// A reference; its target follows.
    Ref {
        overloaded: bool,
        weak: bool,
    },
    /// A blessed object of this class; the value follows.
    Bless(&'a [u8]),
    /// A blessed object of a class named before; the value follows.
    BlessAgain(u32),
    /// A version string as it was written; the string follows.
    Version(&'a [u8]),
    /// The content of `qr//`.
    Regexp {
        pattern: StrRef<'a>,
        flags: &'a [u8],
    },
    /// An object that its class has frozen.
    Hook {
        kind: u8,
        class: Class<'a>,
        frozen: &'a [u8],
    },
    /// An object that its class has frozen with references to other values; these follow, if the flags
    /// say so, and then the object's end.
    HookOfOthers {
        flags: u8,
    },
}

/// The end of an object that its class has frozen.
#[derive(Debug, Clone, Copy)]
pub(super) struct HookEnd<'a> {
    pub(super) kind: u8,
    pub(super) class: Class<'a>,
    pub(super) frozen: &'a [u8],
    /// The position in the image of the numbers of the values that it refers to.
    pub(super) list: usize,
    pub(super) count: usize,
}

/// How a class is named.
#[derive(Debug, Clone, Copy)]
pub(super) enum Class<'a> {
    New(&'a [u8]),
    /// By its number among the classes named before.
    Again(u32),
}

impl Op<'_> {
    /// Whether the value consists of this opcode only.
    pub(super) const fn is_leaf(self) -> bool {
        matches!(
            self,
            Op::Undef
                | Op::Int(_)
                | Op::Float(_)
                | Op::Str(_)
                | Op::Object(_)
                | Op::Regexp { .. }
                | Op::Hook { .. }
        )
    }

    /// Whether the value itself follows.
    pub(super) const fn is_prefix(self) -> bool {
        matches!(self, Op::Ref { .. } | Op::Bless(_) | Op::BlessAgain(_) | Op::Version(_))
    }
}

/// A hash key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) name: StrRef<'a>,
    /// Whether the hash has no such key, but could have it (Perl's restricted hashes).
    pub(super) absent: bool,
}

pub(super) const fn malformed(what: &'static str) -> FramingError {
    FramingError::Malformed { framing: Framing::Storable, what }
}

const fn refused(what: &'static str) -> FramingError {
    FramingError::Refused { what }
}

/// The order of the octets in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As written by `nfreeze`: big-endian.
    Network,
    /// As written by `freeze` on a little-endian machine.
    Native,
}

/// Reads an image opcode by opcode.
#[derive(Debug, Clone)]
pub(super) struct Ops<'a> {
    image: &'a [u8],
    pub(super) at: usize,
    pub(super) order: Order,
}

impl<'a> Ops<'a> {
    pub(super) const fn new(image: &'a [u8], at: usize, order: Order) -> Self {
        Ops { image, at, order }
    }

    pub(super) const fn is_done(&self) -> bool {
        self.at >= self.image.len()
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FramingError> {
        let rest = self.image.get(self.at..).unwrap_or_default();
        let octets = rest.first_chunk().ok_or(malformed("it ends early"))?;
        self.at += N;
        Ok(*octets)
    }

    #[inline]
    fn octet(&mut self) -> Result<u8, FramingError> {
        self.take().map(|[octet]| octet)
    }

    fn long_len(&mut self) -> Result<usize, FramingError> {
        self.take().map(|octets| self.u32(octets) as usize)
    }

    pub(super) const fn u32(&self, octets: [u8; 4]) -> u32 {
        match self.order {
            Order::Network => u32::from_be_bytes(octets),
            Order::Native => u32::from_le_bytes(octets),
        }
    }

    /// The number of a value, which is in network order in all images.
    pub(super) fn number(&mut self) -> Result<u32, FramingError> {
        self.take().map(u32::from_be_bytes)
    }

    fn short_len(&mut self) -> Result<usize, FramingError> {
        self.octet().map(usize::from)
    }

    /// The length of a class name, or the number of a class: one octet if below 128.
    fn class_number(&mut self) -> Result<u32, FramingError> {
        match self.octet()? {
            short @ 0..0x80 => Ok(u32::from(short)),
            _ => self.take().map(|octets| self.u32(octets)),
        }
    }

    /// A count of values that take at least `each` octets each.
    fn count(&mut self, each: usize) -> Result<usize, FramingError> {
        let count = self.long_len()?;
        if count > (self.image.len() - self.at) / each {
            return Err(malformed("more values than octets"));
        }
        Ok(count)
    }

    #[inline]
    fn slice(&mut self, len: usize) -> Result<&'a [u8], FramingError> {
        let end = self.at.saturating_add(len);
        let slice = self.image.get(self.at..end).ok_or(malformed("it ends early"))?;
        self.at = end;
        Ok(slice)
    }

    fn utf8(&mut self, len: usize) -> Result<Op<'a>, FramingError> {
        StrRef::generalized(self.slice(len)?).map(Op::Str).ok_or(FramingError::NotUtf8)
    }

    #[inline]
    pub(super) fn op(&mut self) -> Result<Op<'a>, FramingError> {
        Ok(match self.octet()? {
            OBJECT => Op::Object(self.number()?),
            SCALAR => {
                let len = self.short_len()?;
                Op::Str(StrRef::octets(self.slice(len)?))
            }
            LONG_SCALAR => {
                let len = self.long_len()?;
                Op::Str(StrRef::octets(self.slice(len)?))
            }
            UTF8 => {
                let len = self.short_len()?;
                self.utf8(len)?
            }
            LONG_UTF8 => {
                let len = self.long_len()?;
                self.utf8(len)?
            }
            ARRAY => Op::Array(self.count(1)?),
            HASH => Op::Hash { len: self.count(5)?, flagged: false },
            FLAGGED_HASH => {
                // Whether the hash is restricted does not matter.
                self.octet()?;
                Op::Hash { len: self.count(6)?, flagged: true }
            }
            REF => Op::Ref { overloaded: false, weak: false },
            OVERLOADED_REF => Op::Ref { overloaded: true, weak: false },
            WEAK_REF => Op::Ref { overloaded: false, weak: true },
            WEAK_OVERLOADED_REF => Op::Ref { overloaded: true, weak: true },
            UNDEF | STATIC_UNDEF | STATIC_UNDEF_ELEMENT => Op::Undef,
            BYTE => Op::Int(i64::from(self.octet()?) - 128),
            NET_INTEGER => Op::Int(i64::from(self.take().map(i32::from_be_bytes)?)),
            // Perl's own true and false are these strings in the other framings, too.
            STATIC_YES | BOOLEAN_TRUE => Op::Str(StrRef::octets(b"1")),
            STATIC_NO | BOOLEAN_FALSE => Op::Str(StrRef::octets(b"")),
            BLESS => {
                let len = self.class_number()? as usize;
                Op::Bless(self.slice(len)?)
            }
            BLESS_AGAIN => Op::BlessAgain(self.class_number()?),
            VERSION_STRING => {
                let len = self.short_len()?;
                Op::Version(self.slice(len)?)
            }
            LONG_VERSION_STRING => {
                let len = self.long_len()?;
                Op::Version(self.slice(len)?)
            }
            REGEXP => {
                let has_long_len = self.octet()? & 1 == 1;
                let len = if has_long_len { self.long_len()? } else { self.short_len()? };
                let pattern = self.slice(len)?;
                let pattern = StrRef::generalized(pattern).unwrap_or(StrRef::octets(pattern));
                let len = self.short_len()?;
                Op::Regexp { pattern, flags: self.slice(len)? }
            }
            INTEGER if self.order == Order::Native => Op::Int(self.take().map(i64::from_le_bytes)?),
            DOUBLE if self.order == Order::Native => {
                Op::Float(self.take().map(f64::from_le_bytes)?)
            }
            INTEGER | DOUBLE => return Err(malformed("a native number in network order")),
            TIED_ARRAY | TIED_HASH | TIED_SCALAR | TIED_KEY | TIED_INDEX => {
                return Err(refused("a tied variable"));
            }
            HOOK => self.hook()?,
            CODE => return Err(refused("Perl code")),
            _ => return Err(malformed("an unknown opcode")),
        })
    }

    /// An object with a hook, in most cases frozen to one string.
    fn hook(&mut self) -> Result<Op<'a>, FramingError> {
        let flags = self.hook_flags()?;
        if flags & (HOOK_RECURSES | HOOK_HAS_LIST) != 0 {
            return Ok(Op::HookOfOthers { flags });
        }
        let HookEnd { kind, class, frozen, .. } = self.hook_end(flags)?;
        Ok(Op::Hook { kind, class, frozen })
    }

    /// The flags before the values that such an object refers to, and before its end.
    pub(super) fn hook_flags(&mut self) -> Result<u8, FramingError> {
        let flags = self.octet()?;
        if flags & HOOK_KIND == HOOK_KIND {
            return Err(refused("a tied variable with a Storable hook"));
        }
        Ok(flags)
    }

    /// The end of such an object, after its last flags.
    pub(super) fn hook_end(&mut self, flags: u8) -> Result<HookEnd<'a>, FramingError> {
        let number = match flags & HOOK_LONG_CLASS {
            0 => self.short_len()?,
            _ => self.long_len()?,
        };
        let class = match flags & HOOK_CLASS_AGAIN {
            0 => Class::New(self.slice(number)?),
            _ => Class::Again(number as u32),
        };
        let len = match flags & HOOK_LONG_STRING {
            0 => self.short_len()?,
            _ => self.long_len()?,
        };
        let frozen = self.slice(len)?;
        let count = match flags & (HOOK_HAS_LIST | HOOK_LONG_LIST) {
            HOOK_HAS_LIST => self.short_len()?,
            0 | HOOK_LONG_LIST => 0,
            _ => self.long_len()?,
        };
        let list = self.at;
        self.slice(count.saturating_mul(size_of::<u32>()))?;
        Ok(HookEnd { kind: flags & HOOK_KIND, class, frozen, list, count })
    }

    pub(super) fn key(&mut self, flagged: bool) -> Result<Key<'a>, FramingError> {
        let flags = if flagged { self.octet()? } else { 0 };
        if flags & KEY_IS_SCALAR != 0 {
            return Err(refused("a hash key that is not a string"));
        }
        let len = self.long_len()?;
        let name = self.slice(len)?;
        let kind = if flags & KEY_IS_UTF8 == 0 {
            StrKind::Octets
        } else if StrRef::generalized(name).is_some() {
            StrKind::Text
        } else {
            return Err(FramingError::NotUtf8);
        };
        Ok(Key { name: StrRef::trusted(kind, name), absent: flags & KEY_IS_PLACEHOLDER != 0 })
    }
}
