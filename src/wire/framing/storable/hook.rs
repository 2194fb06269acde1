//! Objects that their class has frozen to a string and references to other values.
//!
//! In an image the other values come first, then the class, the string, and the numbers of all values
//! that are referred to. Packed form has the class first, so it is recorded when the image is read for
//! the first time, and used when it is read again. As the object refers to values by number, the image
//! is always read again.

use super::ops::{Class, HOOK_RECURSES, HookEnd, Ops, malformed};
use super::{Kind, Reading, Reference};
use crate::value::packed;
use crate::value::tag;
use crate::wire::framing::FramingError;
use crate::wire::framing::shared::{Placement, grow};

/// The end of such an object, which includes its class.
#[derive(Debug, Clone, Copy)]
pub(super) struct HookObject {
    /// The offset of the flags before it.
    end: u32,
    /// As in [`super::Scratch::classes`].
    class: u32,
}

/// A reference in a hook, which is not a value of its own and has no number.
const SUB_REFERENCE: Reference<'static> =
    Reference { overloaded: false, weak: false, number: None, class: None };

/// Such an object while it is being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    /// Its index among the recorded objects.
    noted: usize,
    /// The offset of the next number in its list.
    list: usize,
    /// Another value precedes the object's end in the image.
    more: bool,
    /// The current value is in the image, and followed by flags.
    flags_follow: bool,
}

impl<'a> Reading<'a> {
    /// Enters an object that begins with these flags.
    pub(super) fn hook_of_others(
        &mut self,
        flags: u8,
        reference: Option<Reference<'a>>,
        first_place: usize,
        tags: usize,
    ) -> Result<(), FramingError> {
        let mut tags = tags;
        let more = flags & HOOK_RECURSES != 0;
        let is_first_time = self.shared.is_none();
        let noted = self.scratch.next_hook;
        self.scratch.next_hook += 1;
        let (list, count) = if is_first_time {
            grow(&mut self.scratch.hooks, 1);
            let end = u32::try_from(self.ops.at - 1).unwrap_or(u32::MAX);
            self.scratch.hooks.push(HookObject { end, class: u32::MAX });
            (0, usize::from(more))
        } else {
            let start = self.out.len();
            self.label(reference, first_place, &mut tags)?;
            self.number(start, Placement::ByReference)?;
            let HookObject { end, class } = self.noted(noted)?;
            let class = self.class_at(class).ok_or(malformed("an object without a class"))?;
            let HookEnd { kind, frozen, list, count, .. } = self.hook_end(end)?.0;
            let overloaded = reference.is_some_and(|reference| reference.overloaded);
            self.put_tagged(tag::Storable::Hook { overloaded, kind }, class, &mut tags)?;
            grow(self.out, frozen.len() + super::HEADS);
            packed::put_array(self.out, count + 1);
            packed::put_octets(self.out, frozen);
            (list, count)
        };
        let hook = Hook { noted, list, more, flags_follow: false };
        let places = first_place..self.places();
        self.enter(Kind::Hook(hook), count, places, tags + 1)
    }

    fn noted(&self, noted: usize) -> Result<HookObject, FramingError> {
        self.scratch.hooks.get(noted).copied().ok_or(malformed("an object without an end"))
    }

    /// The end of an object whose last flags are here, and the offset after it.
    fn hook_end(&self, flags: u32) -> Result<(HookEnd<'a>, usize), FramingError> {
        let mut ops = Ops::new(self.image, flags as usize, self.ops.order);
        let flags = ops.hook_flags()?;
        Ok((ops.hook_end(flags)?, ops.at))
    }

    /// Called before the next value of such an object, and before its end.
    pub(super) fn between_hook_values(&mut self) -> Result<(), FramingError> {
        let Some(level) = self.scratch.levels.last_mut() else { return Ok(()) };
        let Kind::Hook(hook) = &mut level.kind else { return Ok(()) };
        if !std::mem::take(&mut hook.flags_follow) {
            return Ok(());
        }
        let at = self.ops.at;
        hook.more = self.ops.hook_flags()? & HOOK_RECURSES != 0;
        if self.shared.is_none() {
            level.left = usize::from(hook.more);
            if let Some(noted) = self.scratch.hooks.get_mut(hook.noted) {
                noted.end = u32::try_from(at).unwrap_or(u32::MAX);
            }
        }
        Ok(())
    }

    /// Reads the next value, which is counted already.
    pub(super) fn hook_value(&mut self) -> Result<(), FramingError> {
        let Some(level) = self.scratch.levels.last_mut() else { return Ok(()) };
        let Kind::Hook(hook) = &mut level.kind else { return Ok(()) };
        if let Some(shared) = &self.shared {
            let number = Ops::new(self.image, hook.list, self.ops.order).number()?;
            hook.list += size_of::<u32>();
            if !hook.more || number != shared.next_number() {
                let places = self.places();
                self.object(number, Some(SUB_REFERENCE), places, 0)?;
                return self.end_value(places..places);
            }
        }
        hook.flags_follow = true;
        hook.more = false;
        let op = self.ops.op()?;
        self.compound_value(op, Some(SUB_REFERENCE))
    }

    /// All values of such an object were read.
    pub(super) fn leave_hook(&mut self, hook: Hook) -> Result<(), FramingError> {
        if hook.more {
            return Err(malformed("an object does not refer to a value that was frozen with it"));
        }
        let (end, after) = self.hook_end(self.noted(hook.noted)?.end)?;
        self.ops.at = after;
        if let Class::New(class) = end.class {
            self.name(class)?;
        }
        if self.shared.is_some() {
            return Ok(());
        }
        let class = match end.class {
            Class::New(_) => self.scratch.classes.last().copied(),
            Class::Again(number) => self.scratch.classes.get(number as usize).copied(),
        };
        let class = class.ok_or(malformed("a class that was not named"))?;
        if let Some(noted) = self.scratch.hooks.get_mut(hook.noted) {
            noted.class = class;
        }
        if end.count == 0 {
            return Err(malformed("an object that refers to no values"));
        }
        let mut list = Ops::new(self.image, end.list, self.ops.order);
        grow(&mut self.scratch.targets, end.count);
        for _ in 0..end.count {
            let number = list.number()?;
            self.scratch.targets.push(number);
        }
        packed::put_undef(self.out);
        Ok(())
    }
}
