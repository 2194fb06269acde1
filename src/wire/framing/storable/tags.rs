//! Parts of a Storable image that become tags: references, classes, tagged values, values sent before.

use super::hook::HookObject;
use super::ops::Op;
use super::{HEADS, Reading, Reference};
use crate::value::packed;
use crate::value::tag::{self, INDIRECTION};
use crate::wire::framing::FramingError;
use crate::wire::framing::cbor_unusual::is_rewritten;
use crate::wire::framing::shared::{Placement, grow};

impl<'a> Reading<'a> {
    /// Writes a reference to something other than an array or hash, and assigns the number to it.
    pub(super) fn referent(
        &mut self,
        reference: Option<Reference<'a>>,
        first_place: usize,
        tags: &mut usize,
    ) -> Result<(), FramingError> {
        grow(self.out, HEADS);
        let start = self.out.len();
        let Some(Reference { overloaded, class, .. }) = reference else {
            return self.number(start, Placement::Itself);
        };
        self.label(reference, first_place, tags)?;
        if let Some(class) = class {
            self.put_tagged(tag::Storable::Blessed { overloaded }, class, tags)?;
        }
        self.put_tag(INDIRECTION, tags)?;
        // A reference to an object looks the same as the object, other references do not.
        self.number(
            start,
            if class.is_some() { Placement::ByReference } else { Placement::AfterTags },
        )
    }

    pub(super) fn leaf(
        &mut self,
        op: Op<'a>,
        version: Option<&'a [u8]>,
        tags: &mut usize,
    ) -> Result<(), FramingError> {
        match op {
            Op::Int(number) => packed::put_int(self.out, number),
            Op::Float(number) => packed::put_float(self.out, number),
            Op::Str(text) => {
                if let Some(version) = version {
                    self.put_tagged(tag::Storable::VersionString, version, tags)?;
                }
                grow(self.out, text.data().len() + HEADS);
                packed::put_str(self.out, text);
            }
            Op::Regexp { pattern, flags } => {
                self.put_tagged(tag::Storable::Regexp, flags, tags)?;
                grow(self.out, pattern.data().len() + HEADS);
                packed::put_str(self.out, pattern);
            }
            _ => packed::put_undef(self.out),
        }
        Ok(())
    }

    /// Reads the number of a tag, if the next value is a tag that may be passed on.
    pub(super) fn tag_ahead(&mut self) -> Result<Option<u64>, FramingError> {
        let mut ahead = self.ops.clone();
        let tag = match ahead.op()? {
            Op::Int(number) => u64::try_from(number).ok(),
            Op::Str(digits) => {
                std::str::from_utf8(digits.data()).ok().and_then(|text| text.parse().ok())
            }
            _ => None,
        };
        let tag = tag.filter(|&tag| !is_rewritten(tag));
        if tag.is_some() {
            self.ops = ahead;
            self.number(self.out.len(), Placement::Itself)?;
        }
        Ok(tag)
    }

    /// A value that was sent before, or a reference to it.
    pub(super) fn object(
        &mut self,
        number: u32,
        reference: Option<Reference<'_>>,
        first_place: usize,
        tags: usize,
    ) -> Result<(), FramingError> {
        if self.shared.is_some() {
            return self.again(number, reference, first_place, tags);
        }
        grow(&mut self.scratch.targets, 1);
        self.scratch.targets.push(number);
        packed::put_undef(self.out);
        Ok(())
    }

    pub(super) fn put_tag(&mut self, tag: u64, tags: &mut usize) -> Result<(), FramingError> {
        *tags += 1;
        self.check_depth(*tags)?;
        grow(self.out, HEADS);
        packed::put_tag(self.out, tag);
        Ok(())
    }

    /// Writes an internal tag with its first part; the value follows.
    pub(super) fn put_tagged(
        &mut self,
        tag: tag::Storable,
        first: &[u8],
        tags: &mut usize,
    ) -> Result<(), FramingError> {
        self.put_tag(tag.tag(), tags)?;
        // A class that is named once may be repeated often.
        let len = first.len() + HEADS;
        let classes = self.scratch.classes.len() * size_of::<u32>();
        match &self.shared {
            Some(shared) => shared.check(self.out, len + classes)?,
            None => {
                let targets = self.scratch.targets.len() * size_of::<u32>();
                let hooks = self.scratch.hooks.len() * size_of::<HookObject>();
                let growing = self.out.len() + len + classes + targets + hooks;
                if growing + growing / 8 > self.limit {
                    return Err(FramingError::TooExpanded { limit: self.limit });
                }
            }
        }
        grow(self.out, len);
        packed::put_array(self.out, 2);
        packed::put_octets(self.out, first);
        Ok(())
    }
}
