//! The Storable framing, received: Perl's images, read as data only.
//!
//! Booleans become booleans, and CBOR::XS's tagged values become tags. Other blessed values keep their
//! class in an internal tag (see [`crate::value::tag`]), as do objects with hooks, patterns and version
//! strings; nothing is ever instantiated. References to anything but arrays and hashes become tags, too.
//! Values that are referred to more than once are repeated, except inside a value that contains itself;
//! see [`graph`]. Code and tied variables are refused. Images are in network order, as made by
//! `nfreeze`, or in the order of 64-bit little-endian machines, as made by `freeze` there.

mod encode;
mod encode_hook;
mod graph;
mod hook;
mod keys;
mod ops;
mod tags;

pub(super) use self::encode::encode;

use self::graph::Graph;
use self::hook::{Hook, HookObject};
use self::keys::Container;
use self::ops::{ARRAY, BLESS, Class, Key, Op, Ops, Order, malformed};
use super::shared::{Placement, Shared, grow, memory_limit};
use super::{FramingError, FramingLimits, Step, begins_with_a_name, recycle};
use crate::value::packed::{self, Elements, OpenLen};
use crate::value::tag;
use std::ops::Range;

/// Major version 2, in network order.
const NETWORK_ORDER_2: u8 = 0x05;
/// Major and minor version.
const HEADER: usize = 2;
/// Major version 2, in native order.
const NATIVE_ORDER_2: u8 = 0x04;
/// What follows the minor version: the order of octets in numbers, and the sizes of four C types.
const MACHINE: &[u8] = b"\x0812345678\x04\x08\x08\x08";
/// Combined with the position of a class: its length is in the four octets before it, not in one.
const LONG_CLASS: u32 = 1 << 31;
/// The maximum octets of tags, heads and a number in the output.
const HEADS: usize = 32;

/// The class of tagged values of Perl's CBOR encoder: an array of tag and value.
pub(super) const TAGGED_CLASS: &[u8] = b"CBOR::XS::Tagged";
/// The class of CBOR's `undefined`.
pub(super) const ERROR_CLASS: &[u8] = b"Types::Serialiser::Error";

/// The decoder of the Storable framing.
#[derive(Debug)]
pub(super) struct Storable {
    limits: FramingLimits,
    packed: Vec<u8>,
    scratch: Scratch,
}

/// Vectors that are kept between images, so that they need not be allocated for each.
#[derive(Debug, Default)]
struct Scratch {
    levels: Vec<Level>,
    /// The positions of the classes named so far, combined with [`LONG_CLASS`].
    classes: Vec<u32>,
    /// The numbers of the values that are referred to.
    targets: Vec<u32>,
    /// The positions of the keys of hash values that are not plain scalars, from the next value on.
    keys: Vec<u32>,
    next_key: usize,
    /// The arrays and hashes around the position at which keys are searched.
    containers: Vec<Container>,
    /// The objects that were frozen with other values, in the order of their beginnings.
    hooks: Vec<HookObject>,
    next_hook: usize,
}

impl Scratch {
    fn clear(&mut self) {
        self.levels.clear();
        self.next_key = 0;
        recycle(&mut self.classes);
        recycle(&mut self.targets);
        recycle(&mut self.keys);
        self.containers.clear();
        self.next_hook = 0;
    }
}

impl Storable {
    pub(super) fn new(limits: FramingLimits) -> Self {
        Storable { limits, packed: Vec::new(), scratch: Scratch::default() }
    }

    pub(super) fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, FramingError> {
        recycle(&mut self.packed);
        self.scratch.clear();
        recycle(&mut self.scratch.hooks);
        let Some((len, prefix)) = self.length(input)? else {
            return Ok(Step::More { used: 0 });
        };
        let used = prefix + len;
        let arrived = input.get(prefix..).unwrap_or_default();
        let Some(start) = check_beginning(arrived, len)? else {
            return Ok(Step::More { used: 0 });
        };
        let Some(image) = arrived.get(..len) else {
            return Ok(Step::More { used: 0 });
        };
        let limit = memory_limit(image.len());
        let (mut elements, _) = self.read(image, start, None, None)?;
        let mut targets = std::mem::take(&mut self.scratch.targets);
        if !targets.is_empty() {
            // Read the image again, now that the values that are referred to are known.
            targets.sort_unstable();
            targets.dedup();
            let mut shared = Shared::only(targets, limit);
            shared.kept_elsewhere = self.scratch.hooks.len() * size_of::<HookObject>();
            let again = self.read(image, start, Some(shared), None)?;
            elements = again.0;
            if let Some(mut shared) = again.1.filter(Shared::has_cycles) {
                // Read it once more, now that the values that contain themselves are known.
                shared.restart();
                elements = self.read(image, start, Some(shared), Some(Graph::default()))?.0;
            }
        }
        let elements = Elements::new(elements, &self.packed);
        if !begins_with_a_name(elements) {
            return Err(FramingError::NotAPacket);
        }
        Ok(Step::Packet { used, elements })
    }

    /// The length of the image, and the octets that this length takes (Perl's `pack "w"`).
    fn length(&self, input: &[u8]) -> Result<Option<(usize, usize)>, FramingError> {
        let mut len = 0_usize;
        for (at, &octet) in input.iter().enumerate() {
            if at == 0 && octet == 0x80 {
                return Err(malformed("a length with leading zeros"));
            }
            len = len << 7 | usize::from(octet & 0x7f);
            if len > self.limits.packet.saturating_sub(at + 1) {
                return Err(FramingError::TooLong { limit: self.limits.packet });
            }
            if octet < 0x80 {
                return Ok(Some((len, at + 1)));
            }
        }
        Ok(None)
    }

    fn read(
        &mut self,
        image: &[u8],
        (start, order): (usize, Order),
        shared: Option<Shared>,
        graph: Option<Graph>,
    ) -> Result<(usize, Option<Shared>), FramingError> {
        self.packed.clear();
        self.scratch.clear();
        if self.packed.capacity() < image.len() {
            self.packed.reserve_exact(image.len());
        }
        let mut reading = Reading {
            image,
            ops: Ops::new(image, start, order),
            out: &mut self.packed,
            scratch: &mut self.scratch,
            shared,
            graph,
            limits: self.limits,
            limit: memory_limit(image.len()),
        };
        let elements = reading.packet()?;
        Ok((elements, reading.shared))
    }
}

/// The position of the packet's array, and the order of numbers; `None` if more octets are needed.
/// Refuses anything but an array before the whole image has arrived.
fn check_beginning(arrived: &[u8], len: usize) -> Result<Option<(usize, Order)>, FramingError> {
    if len <= HEADER {
        return Err(malformed("an empty image"));
    }
    let (start, order) = match arrived.first() {
        None => return Ok(None),
        Some(&NETWORK_ORDER_2) => (HEADER, Order::Network),
        Some(&NATIVE_ORDER_2) => {
            let machine = arrived.get(HEADER..).unwrap_or_default();
            if !machine.iter().zip(MACHINE).all(|(octet, ours)| octet == ours) {
                return Err(malformed("an image of a machine that is not 64-bit little-endian"));
            }
            (HEADER + MACHINE.len(), Order::Native)
        }
        Some(_) => return Err(malformed("not an image of version 2")),
    };
    match arrived.get(start) {
        _ if len <= start => Err(malformed("an empty image")),
        None => Ok(None),
        Some(&(ARRAY | BLESS)) => Ok(Some((start, order))),
        Some(_) => Err(FramingError::NotAPacket),
    }
}

/// The container that is being read.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The packet's own array.
    Packet,
    /// The value of a tag.
    Tag,
    Array(OpenLen),
    Hash {
        open: OpenLen,
        /// Whether its keys have flags.
        flagged: bool,
    },
    Hook(Hook),
}

/// An array, hash or tag that is being read.
#[derive(Debug)]
struct Level {
    kind: Kind,
    left: usize,
    len: usize,
    /// Whether the key, which was read in advance, follows the current value.
    key_follows: bool,
    /// Its places among the values that are referred to.
    places: Range<usize>,
    /// The number of arrays, hashes and tags around its items.
    depth: usize,
}

/// A reference whose target was not read yet.
#[derive(Debug, Clone, Copy)]
struct Reference<'a> {
    overloaded: bool,
    weak: bool,
    /// Its own number as a value; `None` if numbers are not known, or if it has none.
    number: Option<u32>,
    class: Option<&'a [u8]>,
}

struct Reading<'a> {
    image: &'a [u8],
    ops: Ops<'a>,
    out: &'a mut Vec<u8>,
    scratch: &'a mut Scratch,
    /// The values that are referred to; `None` while they are not known.
    shared: Option<Shared>,
    /// The scopes; `None` while it is not known which values contain themselves.
    graph: Option<Graph>,
    limits: FramingLimits,
    /// The maximum octets of memory for the packet.
    limit: usize,
}

impl<'a> Reading<'a> {
    /// Reads the whole image, and returns the number of the packet's elements.
    fn packet(&mut self) -> Result<usize, FramingError> {
        let mut op = self.ops.op()?;
        while let Op::Bless(class) = op {
            self.name(class)?;
            op = self.ops.op()?;
        }
        let Op::Array(len) = op else {
            return Err(FramingError::NotAPacket);
        };
        self.number(0, Placement::ByReference)?;
        self.enter(Kind::Packet, len, 0..self.places(), 1)?;
        while let Some(level) = self.scratch.levels.last_mut() {
            if level.left == 0 {
                if let Kind::Hook(_) = level.kind {
                    self.between_hook_values()?;
                    if self.scratch.levels.last().is_some_and(|level| level.left > 0) {
                        continue;
                    }
                }
                if let Some(len) = self.leave()? {
                    return Ok(len);
                }
                continue;
            }
            level.left -= 1;
            level.len += 1;
            match level.kind {
                Kind::Hash { flagged, .. } => self.pair(flagged)?,
                Kind::Hook(_) => {
                    self.between_hook_values()?;
                    self.hook_value()?;
                }
                _ => {
                    let op = self.ops.op()?;
                    self.value(op)?;
                }
            }
        }
        Err(FramingError::NotAPacket)
    }

    fn depth(&self) -> usize {
        self.scratch.levels.last().map_or(0, |level| level.depth)
    }

    /// Fails if `more` levels are too many here.
    fn check_depth(&self, more: usize) -> Result<usize, FramingError> {
        let depth = self.depth() + more;
        if depth > self.limits.nesting {
            return Err(FramingError::TooDeep { limit: self.limits.nesting });
        }
        Ok(depth)
    }

    /// Enters an array, hash or tag, whose items are `levels` levels deeper.
    fn enter(
        &mut self,
        kind: Kind,
        left: usize,
        places: Range<usize>,
        levels: usize,
    ) -> Result<(), FramingError> {
        let depth = self.check_depth(levels)?;
        self.scratch.levels.push(Level { kind, left, len: 0, key_follows: false, places, depth });
        Ok(())
    }

    /// Leaves the innermost array, hash or tag; returns its length if it was the packet's own array.
    fn leave(&mut self) -> Result<Option<usize>, FramingError> {
        let Some(level) = self.scratch.levels.pop() else {
            return Ok(None);
        };
        match level.kind {
            Kind::Packet => {
                if !self.ops.is_done() {
                    return Err(malformed("octets after the image"));
                }
                return Ok(Some(level.len));
            }
            Kind::Tag => {}
            Kind::Hook(hook) => self.leave_hook(hook)?,
            Kind::Array(open) | Kind::Hash { open, .. } => {
                packed::close_len(self.out, open, level.len);
            }
        }
        self.end_value(level.places)?;
        Ok(None)
    }

    /// Reads a value and its key, and writes them in the opposite order.
    fn pair(&mut self, flagged: bool) -> Result<(), FramingError> {
        let value = self.ops.at;
        let op = self.ops.op()?;
        if op.is_leaf() {
            let key = self.ops.key(flagged)?;
            if key.absent {
                self.number(self.out.len(), Placement::Itself)?;
                if let Some(level) = self.scratch.levels.last_mut() {
                    level.len -= 1;
                }
                return Ok(());
            }
            self.string(key);
            return self.value(op);
        }
        let key = self.key_ahead(value, flagged)?;
        self.string(key);
        if let Some(level) = self.scratch.levels.last_mut() {
            level.key_follows = true;
        }
        self.value(op)
    }

    #[inline]
    fn string(&mut self, key: Key<'a>) {
        grow(self.out, key.name.data().len() + HEADS);
        packed::put_str(self.out, key.name);
    }

    /// Reads a value that begins with `op`, or enters it.
    #[inline]
    fn value(&mut self, op: Op<'a>) -> Result<(), FramingError> {
        if self.shared.is_none() {
            match op {
                Op::Str(text) => {
                    grow(self.out, text.data().len() + HEADS);
                    packed::put_str(self.out, text);
                    return Ok(());
                }
                Op::Int(number) => {
                    grow(self.out, HEADS);
                    packed::put_int(self.out, number);
                    return Ok(());
                }
                _ => {}
            }
        }
        self.compound_value(op, None)
    }

    /// Reads a value that begins with `op` and is the target of `reference`, which has no number.
    fn compound_value(
        &mut self,
        op: Op<'a>,
        reference: Option<Reference<'a>>,
    ) -> Result<(), FramingError> {
        let mut op = op;
        let first_place = self.places();
        let mut reference = reference;
        let mut version = None;
        let mut tags = 0;
        loop {
            match op {
                Op::Ref { overloaded, weak } => {
                    let outer = reference.take();
                    self.referent(outer, first_place, &mut tags)?;
                    let number = self.shared.as_ref().map(|shared| shared.next_number() - 1);
                    reference = Some(Reference { overloaded, weak, number, class: None });
                }
                Op::Bless(class) => {
                    self.name(class)?;
                    reference.iter_mut().for_each(|reference| reference.class = Some(class));
                }
                Op::BlessAgain(number) => {
                    let class = Some(self.class(number)?);
                    reference.iter_mut().for_each(|reference| reference.class = class);
                }
                Op::Version(text) => version = Some(text),
                _ => break,
            }
            op = self.ops.op()?;
        }
        grow(self.out, HEADS);
        let start = self.out.len();
        let class = reference.and_then(|reference| reference.class);
        match op {
            Op::Array(_) | Op::Hash { .. } => {
                return self.container(op, reference, first_place, tags);
            }
            Op::HookOfOthers { flags } => {
                return self.hook_of_others(flags, reference, first_place, tags);
            }
            Op::Object(number) => self.object(number, reference, first_place, tags)?,
            Op::Hook { kind, class, frozen } => {
                let class = match class {
                    Class::New(class) => {
                        self.name(class)?;
                        class
                    }
                    Class::Again(number) => self.class(number)?,
                };
                self.label(reference, first_place, &mut tags)?;
                self.number(start, Placement::ByReference)?;
                let overloaded = reference.is_some_and(|reference| reference.overloaded);
                self.put_tagged(tag::Storable::Hook { overloaded, kind }, class, &mut tags)?;
                grow(self.out, frozen.len() + HEADS);
                packed::put_octets(self.out, frozen);
            }
            Op::Int(number) if class.is_some_and(is_boolean) => {
                self.number(start, Placement::ByReference)?;
                packed::put_bool(self.out, number != 0);
            }
            Op::Str(text) if class.is_some_and(is_boolean) => {
                self.number(start, Placement::ByReference)?;
                packed::put_bool(self.out, !matches!(text.data(), b"" | b"0"));
            }
            Op::Undef if class == Some(ERROR_CLASS) => {
                self.number(start, Placement::ByReference)?;
                packed::put_undefined(self.out);
            }
            _ => {
                self.referent(reference, first_place, &mut tags)?;
                self.leaf(op, version, &mut tags)?;
            }
        }
        self.end_value(first_place..self.places())
    }

    /// Enters an array or hash.
    fn container(
        &mut self,
        op: Op<'a>,
        reference: Option<Reference<'a>>,
        first_place: usize,
        tags: usize,
    ) -> Result<(), FramingError> {
        let mut tags = tags;
        let start = self.out.len();
        self.label(reference, first_place, &mut tags)?;
        self.number(start, Placement::ByReference)?;
        if let Some(Reference { overloaded, class: Some(class), .. }) = reference {
            if class == TAGGED_CLASS
                && let Op::Array(2) = op
                && let Some(tag) = self.tag_ahead()?
            {
                if !encode::is_unknown_to_perl(tag) {
                    // Without this it would be sent in Storable as what Perl makes of the CBOR tag.
                    self.put_tagged(tag::Storable::Tagged, b"", &mut tags)?;
                }
                self.put_tag(tag, &mut tags)?;
                return self.enter(Kind::Tag, 1, first_place..self.places(), tags);
            }
            self.put_tagged(tag::Storable::Blessed { overloaded }, class, &mut tags)?;
        }
        let (kind, len) = match op {
            Op::Hash { len, flagged } => {
                (Kind::Hash { open: packed::open_hash(self.out), flagged }, len)
            }
            Op::Array(len) => (Kind::Array(packed::open_array(self.out)), len),
            _ => return Err(malformed("neither an array nor a hash")),
        };
        self.enter(kind, len, first_place..self.places(), tags + 1)
    }

    /// Records the name of a class, which is a part of the image.
    fn name(&mut self, class: &[u8]) -> Result<(), FramingError> {
        let start = (class.as_ptr() as usize).wrapping_sub(self.image.as_ptr() as usize);
        let too_long = FramingError::TooLong { limit: self.limits.packet };
        let start = u32::try_from(start).ok().filter(|&start| start < LONG_CLASS);
        let long = if class.len() > 255 { LONG_CLASS } else { 0 };
        grow(&mut self.scratch.classes, 1);
        self.scratch.classes.push(start.ok_or(too_long)? | long);
        Ok(())
    }

    /// The class with this number.
    fn class(&self, number: u32) -> Result<&'a [u8], FramingError> {
        let place = self.scratch.classes.get(number as usize);
        place.and_then(|&place| self.class_at(place)).ok_or(malformed("a class that was not named"))
    }

    fn class_at(&self, place: u32) -> Option<&'a [u8]> {
        let (before, class) = self.image.split_at_checked((place & !LONG_CLASS) as usize)?;
        let len = match place & LONG_CLASS {
            0 => usize::from(*before.last()?),
            _ => self.ops.u32(*before.last_chunk()?) as usize,
        };
        class.get(..len)
    }

    fn places(&self) -> usize {
        self.shared.as_ref().map_or(0, Shared::len)
    }

    /// Assigns a number to the value that begins at `start`; see [`Shared::begin`].
    fn number(&mut self, start: usize, stands: Placement) -> Result<(), FramingError> {
        match &mut self.shared {
            Some(shared) => shared.begin(self.out, start, stands),
            None => Ok(()),
        }
    }

    /// The value with these places is complete.
    fn end_value(&mut self, places: Range<usize>) -> Result<(), FramingError> {
        if let Some(shared) = &mut self.shared {
            if let Some(graph) = &mut self.graph {
                graph.end_value(shared, &places);
            }
            shared.end(places, self.out.len());
        }
        if let Some(level) = self.scratch.levels.last_mut()
            && std::mem::take(&mut level.key_follows)
            && let Kind::Hash { flagged, .. } = level.kind
        {
            self.ops.key(flagged)?;
        }
        Ok(())
    }
}

/// Whether objects of the class are booleans.
fn is_boolean(class: &[u8]) -> bool {
    matches!(class, b"JSON::PP::Boolean" | b"Types::Serialiser::Boolean" | b"JSON::XS::Boolean")
}
