//! The CBOR framing, received: finds the end of each packet, and lends packets in packed form without
//! copying.
//!
//! Nearly all packets of nodes are in packed form already. A scan, which can stop at any octet and
//! continue later, checks the requirements of packed form. Other CBOR packets are rewritten by
//! [`super::cbor_unusual`].

use super::{
    EncodeError, Framing, FramingError, FramingLimits, Step, begins_with_a_name, cbor_unusual,
    recycle,
};
use crate::value::packed::{self, Elements};
use crate::value::{MAX_NESTING, StrRef, is_ascii, tag};

pub(super) const OCTETS: u8 = 2;
pub(super) const TEXT: u8 = 3;
pub(super) const ARRAY: u8 = 4;
pub(super) const MAP: u8 = 5;
pub(super) const TAG: u8 = 6;
pub(super) const BREAK: u8 = 0xff;

/// The head of an item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) major: u8,
    /// The item has an indefinite length; `argument` has no meaning then.
    pub(super) indefinite: bool,
    pub(super) argument: u64,
    /// The offset of the head's end.
    pub(super) end: usize,
}

/// Reads the head at `at`; `None` if it is incomplete.
#[inline(always)]
pub(super) fn head(octets: &[u8], at: usize) -> Result<Option<Head>, FramingError> {
    let Some((&first, rest)) = octets.get(at..).and_then(<[u8]>::split_first) else {
        return Ok(None);
    };
    let info = first & 0x1f;
    let mut head =
        Head { major: first >> 5, indefinite: false, argument: u64::from(info), end: at + 1 };
    if info < 24 {
        return Ok(Some(head));
    }
    let (argument, len) = match info {
        24 => (rest.first().map(|&octet| u64::from(octet)), 1),
        25 => (rest.first_chunk().map(|&octets| u64::from(u16::from_be_bytes(octets))), 2),
        26 => (rest.first_chunk().map(|&octets| u64::from(u32::from_be_bytes(octets))), 4),
        27 => (rest.first_chunk().map(|&octets| u64::from_be_bytes(octets)), 8),
        31 => {
            head.indefinite = true;
            return Ok(Some(head));
        }
        _ => return Err(malformed("a reserved length")),
    };
    Ok(argument.map(|argument| {
        head.argument = argument;
        head.end += len;
        head
    }))
}

pub(super) const fn malformed(what: &'static str) -> FramingError {
    FramingError::Malformed { framing: Framing::Cbor, what }
}

/// The size of an item by its first octet, for items that are in packed form whatever octets follow; 0
/// for others. A text is in packed form only if it is ASCII, which the caller checks.
const SIMPLE_ITEMS: [u8; 256] = {
    let mut sizes = SIMPLE_KEYS;
    let mut info = 0;
    while info < 24 {
        sizes[info] = 1;
        sizes[0x20 + info] = 1;
        info += 1;
    }
    // Integers and floats of 1, 2, 4 and 8 octets. Negative integers of 8 octets may be too large.
    sizes[0x18] = 2;
    sizes[0x19] = 3;
    sizes[0x1a] = 5;
    sizes[0x1b] = 9;
    sizes[0x38] = 2;
    sizes[0x39] = 3;
    sizes[0x3a] = 5;
    sizes[0xfa] = 5;
    sizes[0xfb] = 9;
    // false, true, null, undefined
    sizes[0xf4] = 1;
    sizes[0xf5] = 1;
    sizes[0xf6] = 1;
    sizes[0xf7] = 1;
    sizes
};

/// As [`SIMPLE_ITEMS`], for keys.
const SIMPLE_KEYS: [u8; 256] = {
    let mut sizes = [0; 256];
    let mut len = 0;
    while len < 24 {
        sizes[0x40 + len] = 1 + len as u8;
        sizes[0x60 + len] = 1 + len as u8;
        len += 1;
    }
    sizes
};

/// The end of the packet at the beginning of `input`, and its number of elements, if the packet is
/// complete, has at most 23 elements in packed form, and nests at most [`SIMPLE_NESTING`] levels, as
/// nearly all packets do. [`Cbor::next_of_any_kind`] handles the others.
#[inline(always)]
pub(super) fn simple_packet(input: &[u8], limit: usize) -> Option<(usize, usize)> {
    let (&first, mut left) = input.split_first()?;
    let len = usize::from(first.checked_sub(ARRAY << 5)?);
    // The first element has to be a string or an integer.
    if len == 0 || len > 23 || *left.first()? >= ARRAY << 5 {
        return None;
    }
    for _ in 0..len {
        left = match *left.first()? {
            0x80..=0xb7 => after_simple_container(left)?,
            _ => after_simple_item(left, &SIMPLE_ITEMS)?,
        };
    }
    let used = input.len() - left.len();
    (used <= limit).then_some((used, len))
}

/// The packet's array, and one level inside it.
const SIMPLE_NESTING: usize = 2;

/// The octets after the first item, if the item is in `sizes` or a string of up to 65535 octets.
#[inline(always)]
fn after_simple_item<'a>(left: &'a [u8], sizes: &[u8; 256]) -> Option<&'a [u8]> {
    let &first = left.first()?;
    let mut head = 1;
    let mut size = usize::from(sizes[usize::from(first)]);
    if size == 0 {
        (head, size) = match first {
            0x58 | 0x78 => (2, usize::from(*left.get(1)?)),
            0x59 | 0x79 => (3, usize::from(u16::from_be_bytes(*left.get(1..)?.first_chunk()?))),
            _ => return None,
        };
        size += head;
    }
    let (item, after) = left.split_at_checked(size)?;
    (first >> 5 != TEXT || is_ascii(item.get(head..)?)).then_some(after)
}

/// The octets after the first item, if the item is an array or hash of at most 23 simple items.
#[inline(never)]
fn after_simple_container(left: &[u8]) -> Option<&[u8]> {
    let (&first, mut left) = left.split_first()?;
    match first {
        0x80..=0x97 => {
            for _ in 0..first & 0x1f {
                left = after_simple_item(left, &SIMPLE_ITEMS)?;
            }
        }
        0xa0..=0xb7 => {
            for _ in 0..first & 0x1f {
                left = after_simple_item(left, &SIMPLE_KEYS)?;
                left = after_simple_item(left, &SIMPLE_ITEMS)?;
            }
        }
        _ => return None,
    }
    Some(left)
}

/// The container of the items at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The packet itself: one item.
    Packet,
    Array,
    Map,
    IndefiniteArray,
    IndefiniteMap,
    /// A string in chunks of this major type.
    Chunks(u8),
}

#[derive(Debug, Clone, Copy)]
struct Level {
    kind: Kind,
    /// The number of items left. In a map of indefinite length: 1 between a key and its value, otherwise
    /// 0.
    left: u64,
    /// The number of arrays, maps and tags around its items.
    depth: usize,
}

const OUTERMOST: Level = Level { kind: Kind::Packet, left: 1, depth: 0 };

/// The decoder of the CBOR framing.
#[derive(Debug)]
pub(super) struct Cbor {
    limits: FramingLimits,
    /// The number of octets of the incomplete packet that were scanned.
    at: usize,
    /// The container at `at`, and the containers around it.
    level: Level,
    outside: Vec<Level>,
    /// The offset of the packet's elements; 0 until the array's head was scanned.
    body: usize,
    len: usize,
    /// Whether everything scanned so far is in packed form.
    plain: bool,
    /// The number of tags scanned before the next value.
    tags: usize,
    rewritten: Vec<u8>,
}

impl Cbor {
    pub(super) fn new(limits: FramingLimits) -> Self {
        Cbor {
            limits,
            at: 0,
            level: OUTERMOST,
            outside: Vec::new(),
            body: 0,
            len: 0,
            plain: true,
            tags: 0,
            rewritten: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, FramingError> {
        if let Some(limit) = self.limit_of_simple_packets()
            && let Some((used, len)) = simple_packet(input, limit)
        {
            let elements = Elements::plain(len, input.get(1..used).unwrap_or_default());
            return Ok(Step::Packet { used, elements });
        }
        self.next_of_any_kind(input)
    }

    /// The maximum size of packets that are read without state; 0 while a packet is being scanned.
    #[inline]
    pub(super) fn limit_of_simple_packets(&self) -> Option<usize> {
        (self.at == 0 && self.limits.nesting >= SIMPLE_NESTING).then_some(self.limits.packet)
    }

    #[inline(never)]
    fn next_of_any_kind<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, FramingError> {
        if self.at == 0 {
            self.level = OUTERMOST;
            self.body = 0;
            self.plain = true;
            self.tags = 0;
            self.outside.clear();
            recycle(&mut self.rewritten);
        }
        let complete = (self.body > 0 || self.scan_array_head(input)?) && self.scan(input)?;
        if self.at > self.limits.packet || (!complete && input.len() > self.limits.packet) {
            return Err(self.too_long());
        }
        if !complete {
            self.refuse_wrong_first_element(input)?;
            return Ok(Step::More { used: 0 });
        }
        let used = std::mem::take(&mut self.at);
        if self.plain {
            let elements =
                Elements::plain(self.len, input.get(self.body..used).unwrap_or_default());
            if !begins_with_a_name(elements) {
                return Err(FramingError::NotAPacket);
            }
            return Ok(Step::Packet { used, elements });
        }
        let packet = input.get(..used).unwrap_or_default();
        let len = cbor_unusual::rewrite(packet, self.limits, &mut self.rewritten)?;
        let elements = Elements::plain(len, &self.rewritten);
        if !begins_with_a_name(elements) {
            return Err(FramingError::NotAPacket);
        }
        Ok(Step::Packet { used, elements })
    }

    fn too_long(&self) -> FramingError {
        FramingError::TooLong { limit: self.limits.packet }
    }

    /// Scans the head of the packet's array; false if it is incomplete.
    fn scan_array_head(&mut self, input: &[u8]) -> Result<bool, FramingError> {
        while let Some(&first) = input.get(self.at) {
            if !matches!(first >> 5, ARRAY | TAG) {
                return Err(FramingError::NotAPacket);
            }
            let Some(head) = head(input, self.at)? else {
                break;
            };
            match head.major {
                TAG if !head.indefinite => {
                    self.plain = false;
                    self.count_tag()?;
                    self.at = head.end;
                }
                ARRAY => {
                    // Tags of the packet itself are dropped.
                    self.tags = 0;
                    self.body = head.end;
                    self.enter(head)?;
                    self.at = head.end;
                    self.len = head.argument as usize;
                    return Ok(true);
                }
                _ => return Err(FramingError::NotAPacket),
            }
        }
        Ok(false)
    }

    /// Refuses a first element that is neither a string nor a number, before the rest of the packet has
    /// arrived.
    fn refuse_wrong_first_element(&self, input: &[u8]) -> Result<(), FramingError> {
        match input.get(self.body) {
            Some(0x80..=0xbf | 0xe0..=0xf8) if self.body > 0 => Err(FramingError::NotAPacket),
            _ => Ok(()),
        }
    }

    /// Enters the array or map with this head, unless it has no items.
    fn enter(&mut self, head: Head) -> Result<(), FramingError> {
        let depth = self.level.depth + self.tags + 1;
        if depth > self.limits.nesting {
            return Err(FramingError::TooDeep { limit: self.limits.nesting });
        }
        let is_map = head.major == MAP;
        let level = if head.indefinite {
            self.plain = false;
            Level {
                kind: if is_map { Kind::IndefiniteMap } else { Kind::IndefiniteArray },
                left: 0,
                depth,
            }
        } else {
            let each = 1 + u64::from(is_map);
            // Every item takes at least one octet.
            if head.argument > (self.limits.packet.saturating_sub(head.end) as u64) / each {
                return Err(self.too_long());
            }
            let kind = if is_map { Kind::Map } else { Kind::Array };
            Level { kind, left: head.argument * each, depth }
        };
        self.outside.push(std::mem::replace(&mut self.level, level));
        Ok(())
    }

    /// Scans the most frequent items: integers, short strings, literals. It stops before any other item,
    /// which [`Cbor::scan`] handles.
    #[inline]
    fn scan_simple_items(&mut self, input: &[u8]) {
        let is_map = match self.level.kind {
            Kind::Array => false,
            Kind::Map => true,
            _ => return,
        };
        let mut at = self.at;
        let mut left = self.level.left;
        while left > 0 {
            let Some(&first) = input.get(at) else { break };
            let is_key = is_map && left.is_multiple_of(2);
            let sizes: &[u8; 256] = if is_key { &SIMPLE_KEYS } else { &SIMPLE_ITEMS };
            let size = usize::from(sizes[usize::from(first)]);
            let Some(item) = input.get(at..at + size) else {
                break;
            };
            let is_text = first >> 5 == TEXT;
            if size == 0 || is_text && !item.get(1..).is_some_and(<[u8]>::is_ascii) {
                break;
            }
            at += size;
            left -= 1;
        }
        self.at = at;
        self.level.left = left;
    }

    /// Continues to scan after the head of the packet's array; true when the packet is complete.
    fn scan(&mut self, input: &[u8]) -> Result<bool, FramingError> {
        loop {
            if self.tags == 0 {
                self.scan_simple_items(input);
            }
            // Leave complete containers.
            while self.level.left == 0 && matches!(self.level.kind, Kind::Array | Kind::Map) {
                self.leave();
            }
            if self.level.kind == Kind::Packet {
                return Ok(true);
            }
            let Some(head) = head(input, self.at)? else {
                return Ok(false);
            };
            if let Kind::Chunks(major) = self.level.kind
                && (head.major != major || head.indefinite)
                && !is_break(head)
            {
                return Err(malformed("wrong chunks in a string of indefinite length"));
            }
            if self.level.kind == Kind::Map
                && self.level.left.is_multiple_of(2)
                && !matches!(head.major, OCTETS | TEXT)
            {
                self.plain = false;
            }
            let mut end = head.end;
            match head.major {
                ARRAY | MAP => {
                    self.enter(head)?;
                    self.at = end;
                    self.tags = 0;
                    continue;
                }
                OCTETS | TEXT if head.indefinite => {
                    self.plain = false;
                    let depth = self.level.depth;
                    let chunks = Level { kind: Kind::Chunks(head.major), left: 0, depth };
                    self.outside.push(std::mem::replace(&mut self.level, chunks));
                    self.at = end;
                    self.tags = 0;
                    continue;
                }
                OCTETS | TEXT => {
                    if head.argument > self.limits.packet.saturating_sub(end) as u64 {
                        return Err(self.too_long());
                    }
                    end += head.argument as usize;
                    let Some(string) = input.get(head.end..end) else {
                        return Ok(false);
                    };
                    if head.major == TEXT
                        && !string.is_ascii()
                        && StrRef::generalized(string).is_none()
                    {
                        return Err(FramingError::NotUtf8);
                    }
                }
                _ if is_break(head) => {
                    if self.tags > 0 || self.level.left == 1 {
                        return Err(malformed("a break in the middle of a pair or tag"));
                    }
                    if matches!(self.level.kind, Kind::Array | Kind::Map) {
                        return Err(malformed("a break in a list of definite length"));
                    }
                    self.at = end;
                    self.leave();
                    continue;
                }
                _ if head.indefinite => return Err(malformed("an indefinite number")),
                TAG => {
                    self.plain &= !cbor_unusual::is_rewritten(head.argument);
                    self.count_tag()?;
                    self.at = end;
                    continue;
                }
                0 => {}
                1 => self.plain &= head.argument <= i64::MAX as u64,
                _ => match head.end - self.at {
                    1 => self.plain &= matches!(head.argument, 20..=23),
                    2 if head.argument < 32 => return Err(malformed("a simple value")),
                    2 | 3 => self.plain = false,
                    _ => {}
                },
            }
            self.at = end;
            self.tags = 0;
            self.count_item();
        }
    }

    /// A tag is a level of nesting.
    fn count_tag(&mut self) -> Result<(), FramingError> {
        self.tags += 1;
        if self.level.depth + self.tags > self.limits.nesting {
            return Err(FramingError::TooDeep { limit: self.limits.nesting });
        }
        Ok(())
    }

    fn count_item(&mut self) {
        match self.level.kind {
            Kind::Packet | Kind::Array | Kind::Map => self.level.left -= 1,
            Kind::IndefiniteMap => self.level.left ^= 1,
            Kind::IndefiniteArray | Kind::Chunks(_) => {}
        }
    }

    /// Leaves a container, which counts as one item of the one around it.
    fn leave(&mut self) {
        self.level = self.outside.pop().unwrap_or(OUTERMOST);
        if self.level.kind != Kind::Packet {
            self.count_item();
        }
    }
}

fn is_break(head: Head) -> bool {
    head.major == 7 && head.indefinite
}

/// Appends a packet: packed form is CBOR, except for internal tags.
#[inline]
pub(super) fn encode(elements: Elements<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if elements.count().is_plain() { keep(elements, out) } else { search(elements, out) }
}

/// As [`encode`], when internal tags have to be searched for.
#[inline(never)]
fn search(elements: Elements<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match tag::without_internal(elements.octets())? {
        None => keep(elements, out),
        Some(octets) => keep(Elements::plain(elements.len(), &octets), out),
    }
}

/// Appends a packet unchanged, including internal tags, to be translated later.
#[inline]
pub(super) fn keep(elements: Elements<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    // The packet's own array is a level too.
    if packed::is_deeper_than(elements.octets(), MAX_NESTING - 1)? {
        return Err(EncodeError::TooDeep);
    }
    packed::put_list(out, elements);
    Ok(())
}
