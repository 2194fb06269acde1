//! The Storable framing, received: Perl's images read as data only.
//!
//! References are transparent, blessed values lose their class (booleans become booleans), values
//! sent once and referred to again are repeated. What would run code in Perl is refused: hooks,
//! code, tied variables. Only images in network order are read, as `nfreeze` makes them.

use super::shared::{Shared, expansion_limit};
use super::storable_ops::{ARRAY, BLESS, Key, Op, Ops, malformed};
use super::{FramingError, FramingLimits, Step, begins_with_a_name, recycle};
use crate::value::packed::{self, Elements, OpenLen};
use std::ops::Range;

/// Major version 2, and network order.
const NETWORK_ORDER_2: u8 = 0x05;
/// Major and minor version.
const HEADER: usize = 2;

/// Reads the Storable framing.
#[derive(Debug)]
pub(super) struct Storable {
    limits: FramingLimits,
    packed: Vec<u8>,
    scratch: Scratch,
}

/// What reading an image needs for itself, kept so that it need not be allocated for each.
#[derive(Debug, Default)]
struct Scratch {
    levels: Vec<Level>,
    /// Of each class named so far: whether its objects are booleans.
    classes: Vec<bool>,
    /// Where the keys are of the hash values, from the next one on, that are no plain scalars.
    keys: Vec<usize>,
    next_key: usize,
    /// The arrays and hashes around the place in which keys are looked for.
    containers: Vec<Container>,
}

impl Scratch {
    fn clear(&mut self) {
        self.levels.clear();
        self.next_key = 0;
        recycle(&mut self.classes);
        recycle(&mut self.keys);
        self.containers.clear();
    }
}

impl Storable {
    pub(super) fn new(limits: FramingLimits) -> Self {
        Storable { limits, packed: Vec::new(), scratch: Scratch::default() }
    }

    pub(super) fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<Step<'a>, FramingError> {
        recycle(&mut self.packed);
        self.scratch.clear();
        let Some((len, prefix)) = self.length(input)? else {
            return Ok(Step::More { used: 0 });
        };
        let used = prefix + len;
        let arrived = input.get(prefix..).unwrap_or_default();
        check_beginning(arrived, len)?;
        let Some(image) = arrived.get(..len) else {
            return Ok(Step::More { used: 0 });
        };
        let mut outcome = self.read(image, None);
        if let Err(Stop::HasReferences) = outcome {
            outcome = self.read(image, Some(Shared::default()));
        }
        let elements = outcome.map_err(|stop| match stop {
            Stop::Wrong(error) => error,
            Stop::HasReferences => malformed("a reference"),
        })?;
        let elements = Elements::new(elements, &self.packed);
        if !begins_with_a_name(elements) {
            return Err(FramingError::NotAPacket);
        }
        Ok(Step::Packet { used, elements })
    }

    /// The length of the image and of its own octets (Perl's `pack "w"`).
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

    fn read(&mut self, image: &[u8], shared: Option<Shared>) -> Result<usize, Stop> {
        self.packed.clear();
        self.scratch.clear();
        Reading {
            image,
            ops: Ops::new(image, HEADER),
            out: &mut self.packed,
            scratch: &mut self.scratch,
            shared,
            limits: self.limits,
            expansion: expansion_limit(image.len(), self.limits),
        }
        .packet()
    }
}

/// Refuses what is no array before all of it is there.
fn check_beginning(arrived: &[u8], len: usize) -> Result<(), FramingError> {
    match arrived {
        _ if len <= HEADER => Err(malformed("an empty image")),
        [first, ..] if *first != NETWORK_ORDER_2 => {
            Err(malformed("not an image of version 2 in network order"))
        }
        [_, _, root, ..] if !matches!(*root, ARRAY | BLESS) => Err(FramingError::NotAPacket),
        _ => Ok(()),
    }
}

/// Why reading an image stopped.
enum Stop {
    Wrong(FramingError),
    /// It refers to values that were sent before, so that those have to be numbered.
    HasReferences,
}

impl From<FramingError> for Stop {
    fn from(error: FramingError) -> Self {
        Stop::Wrong(error)
    }
}

/// An array or hash that is being read.
#[derive(Debug)]
struct Level {
    /// Nothing for the packet's own array.
    open: Option<OpenLen>,
    /// For a hash: whether its keys have flags.
    hash: Option<bool>,
    left: usize,
    len: usize,
    /// The key, which was read ahead, comes after the value that is being read.
    key_follows: bool,
    /// The numbers by which it can be referred to.
    numbers: Range<usize>,
}

/// An array or hash that keys are looked for in.
#[derive(Debug)]
struct Container {
    left: usize,
    /// For a hash: whether its keys have flags.
    hash: Option<bool>,
    /// Which of the keys is that of the value that is being passed.
    slot: Option<usize>,
}

struct Reading<'a> {
    image: &'a [u8],
    ops: Ops<'a>,
    out: &'a mut Vec<u8>,
    scratch: &'a mut Scratch,
    /// The numbers of all values; nothing as long as nothing refers to them.
    shared: Option<Shared>,
    limits: FramingLimits,
    expansion: usize,
}

impl<'a> Reading<'a> {
    /// Reads the whole image, and returns how many elements the packet has.
    fn packet(mut self) -> Result<usize, Stop> {
        let mut op = self.ops.op()?;
        while let Op::Bless(class) = op {
            self.scratch.classes.push(is_boolean(class));
            op = self.ops.op()?;
        }
        let Op::Array(len) = op else {
            return Err(FramingError::NotAPacket.into());
        };
        if let Some(shared) = &mut self.shared {
            shared.begin(0);
        }
        self.enter(None, None, len, 0..1)?;
        while let Some(level) = self.scratch.levels.last_mut() {
            if level.left == 0 {
                if let Some(len) = self.leave()? {
                    return Ok(len);
                }
                continue;
            }
            level.left -= 1;
            level.len += 1;
            match level.hash {
                Some(flagged) => self.pair(flagged)?,
                None => {
                    let op = self.ops.op()?;
                    self.value(op)?;
                }
            }
        }
        Err(FramingError::NotAPacket.into())
    }

    fn enter(
        &mut self,
        open: Option<OpenLen>,
        hash: Option<bool>,
        left: usize,
        numbers: Range<usize>,
    ) -> Result<(), FramingError> {
        if self.scratch.levels.len() >= self.limits.nesting {
            return Err(self.too_deep());
        }
        self.scratch.levels.push(Level { open, hash, left, len: 0, key_follows: false, numbers });
        Ok(())
    }

    fn too_deep(&self) -> FramingError {
        FramingError::TooDeep { limit: self.limits.nesting }
    }

    /// Goes out of the innermost array or hash; its length if it was the packet's own.
    fn leave(&mut self) -> Result<Option<usize>, Stop> {
        let Some(level) = self.scratch.levels.pop() else {
            return Ok(None);
        };
        let Some(open) = level.open else {
            if !self.ops.is_done() {
                return Err(malformed("octets after the image").into());
            }
            return Ok(Some(level.len));
        };
        packed::close_len(self.out, open, level.len);
        self.end_value(level.numbers)?;
        Ok(None)
    }

    /// Reads a value and its key, and writes them the other way round.
    fn pair(&mut self, flagged: bool) -> Result<(), Stop> {
        let value = self.ops.at;
        let op = self.ops.op()?;
        if op.is_leaf() {
            let key = self.ops.key(flagged)?;
            if key.absent {
                self.number();
                if let Some(level) = self.scratch.levels.last_mut() {
                    level.len -= 1;
                }
                return Ok(());
            }
            packed::put_str(self.out, key.name);
            return self.value(op);
        }
        let key = self.key_ahead(value, flagged)?;
        packed::put_str(self.out, key.name);
        if let Some(level) = self.scratch.levels.last_mut() {
            level.key_follows = true;
        }
        self.value(op)
    }

    /// Reads a value that begins with `op`, or goes into it.
    #[inline]
    fn value(&mut self, op: Op<'a>) -> Result<(), Stop> {
        if self.shared.is_none() {
            match op {
                Op::Str(text) => {
                    packed::put_str(self.out, text);
                    return Ok(());
                }
                Op::Int(number) => {
                    packed::put_int(self.out, number);
                    return Ok(());
                }
                _ => {}
            }
        }
        self.compound_value(op)
    }

    fn compound_value(&mut self, op: Op<'a>) -> Result<(), Stop> {
        let mut op = op;
        let mut is_boolean_object = false;
        let first_number = self.shared.as_ref().map_or(0, Shared::len);
        loop {
            match op {
                Op::Ref => self.number(),
                Op::Bless(class) => {
                    is_boolean_object = is_boolean(class);
                    self.scratch.classes.push(is_boolean_object);
                }
                Op::BlessAgain(number) => {
                    is_boolean_object = *self
                        .scratch
                        .classes
                        .get(number as usize)
                        .ok_or(malformed("a class that was not named"))?;
                }
                Op::Version => {}
                _ => break,
            }
            op = self.ops.op()?;
        }
        if !matches!(op, Op::Object(_)) {
            self.number();
        }
        let numbers = first_number..self.shared.as_ref().map_or(0, Shared::len);
        match op {
            Op::Array(len) => {
                let open = packed::open_array(self.out);
                return Ok(self.enter(Some(open), None, len, numbers)?);
            }
            Op::Hash { len, flagged } => {
                let open = packed::open_hash(self.out);
                return Ok(self.enter(Some(open), Some(flagged), len, numbers)?);
            }
            Op::Object(number) => {
                let shared = self.shared.as_ref().ok_or(Stop::HasReferences)?;
                shared.repeat(
                    u64::from(number),
                    self.scratch.levels.len(),
                    self.out,
                    self.expansion,
                    self.limits,
                )?;
            }
            Op::Int(number) if is_boolean_object => packed::put_bool(self.out, number != 0),
            Op::Str(text) if is_boolean_object => {
                packed::put_bool(self.out, !matches!(text.data(), b"" | b"0"));
            }
            Op::Int(number) => packed::put_int(self.out, number),
            Op::Str(text) => packed::put_str(self.out, text),
            _ => packed::put_undef(self.out),
        }
        self.end_value(numbers)
    }

    /// Numbers the value that is read next.
    fn number(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.begin(self.out.len());
        }
    }

    /// The value with these numbers was written.
    fn end_value(&mut self, numbers: Range<usize>) -> Result<(), Stop> {
        if let Some(shared) = &mut self.shared {
            shared.end(numbers, self.out.len());
        }
        if let Some(level) = self.scratch.levels.last_mut()
            && std::mem::take(&mut level.key_follows)
            && let Some(flagged) = level.hash
        {
            self.ops.key(flagged)?;
        }
        Ok(())
    }

    /// The key of the value that begins at `value`, which it comes after.
    fn key_ahead(&mut self, value: usize, flagged: bool) -> Result<Key<'a>, FramingError> {
        if self.scratch.next_key == self.scratch.keys.len() {
            self.find_keys(value, flagged)?;
        }
        let at = self.scratch.keys.get(self.scratch.next_key).copied().unwrap_or_default();
        self.scratch.next_key += 1;
        Ops::new(self.image, at).key(flagged)
    }

    /// Finds the keys of the hash value that begins at `value` and of all in it, in the order in
    /// which they will be asked for, so that each octet is passed only once more.
    fn find_keys(&mut self, value: usize, flagged: bool) -> Result<(), FramingError> {
        let Scratch { levels, keys, next_key, containers, .. } = &mut *self.scratch;
        keys.clear();
        *next_key = 0;
        let mut ops = Ops::new(self.image, value);
        containers.clear();
        containers.push(Container { left: 1, hash: Some(flagged), slot: None });
        while let Some(container) = containers.last_mut() {
            let mut op = ops.op()?;
            if container.hash.is_some() && !op.is_leaf() {
                container.slot = Some(keys.len());
                keys.push(0);
            }
            while op.is_prefix() {
                op = ops.op()?;
            }
            let (left, hash) = match op {
                Op::Array(len) => (len, None),
                Op::Hash { len, flagged } => (len, Some(flagged)),
                _ => (0, None),
            };
            if left > 0 {
                if levels.len() + containers.len() > self.limits.nesting {
                    return Err(self.too_deep());
                }
                containers.push(Container { left, hash, slot: None });
                continue;
            }
            while let Some(container) = containers.last_mut() {
                if let Some(flagged) = container.hash {
                    let slot = container.slot.take().and_then(|slot| keys.get_mut(slot));
                    if let Some(slot) = slot {
                        *slot = ops.at;
                    }
                    ops.key(flagged)?;
                }
                container.left -= 1;
                if container.left > 0 {
                    break;
                }
                containers.pop();
            }
        }
        Ok(())
    }
}

/// Whether objects of the class are booleans.
fn is_boolean(class: &[u8]) -> bool {
    matches!(
        class,
        b"JSON::PP::Boolean" | b"Types::Serialiser::Boolean" | b"JSON::XS::Boolean" | b"boolean"
    )
}
