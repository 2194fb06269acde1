//! Frozen objects, and labels of values that contain themselves, sent.

use super::encode::Image;
use super::ops::{
    HOOK, HOOK_CLASS_AGAIN, HOOK_HAS_LIST, HOOK_KIND, HOOK_LONG_CLASS, HOOK_LONG_LIST,
    HOOK_LONG_STRING, HOOK_RECURSES,
};
use crate::value::packed::{Item, Token};
use crate::value::tag::Storable;
use crate::wire::framing::EncodeError;

impl<'a> Image<'a> {
    /// Appends an object that was frozen to a string.
    pub(super) fn hook(
        &mut self,
        kind: u8,
        class: &'a [u8],
        frozen: &[u8],
    ) -> Result<(), EncodeError> {
        self.next += 1;
        self.out.push(HOOK);
        self.hook_end(kind, class, frozen, &[])
    }

    /// Appends an object that was frozen to a string and references, of which there are `len`; they are
    /// next.
    pub(super) fn hook_of_others(
        &mut self,
        kind: u8,
        class: &'a [u8],
        len: usize,
        depth: usize,
    ) -> Result<(), EncodeError> {
        let frozen = match self.reader.item()? {
            Item::Token(Token::Str(frozen)) => frozen.data(),
            // Not in the form that our decoder writes.
            _ => &[],
        };
        self.next += 1;
        self.out.push(HOOK);
        let mut numbers = Vec::new();
        for _ in 1..len {
            if let Some(number) = self.number_of_next() {
                numbers.push(number);
                continue;
            }
            self.out.push(HOOK_RECURSES | kind & HOOK_KIND);
            numbers.push(self.next);
            self.is_bare = true;
            self.value(depth)?;
            self.is_bare = false;
        }
        self.hook_end(kind, class, frozen, &numbers)
    }

    /// The number of the next value, if it is a reference to a value that was sent before.
    fn number_of_next(&mut self) -> Option<u32> {
        let mut inside = self.reader.clone();
        let Ok(Item::Tag(tag)) = inside.item() else { return None };
        let Some(Storable::Again { .. }) = Storable::of(tag) else { return None };
        let Ok(Item::Token(Token::Array(2))) = inside.item() else { return None };
        let Ok(Item::Token(Token::Str(label))) = inside.item() else { return None };
        let number = self.labels.get(label.data()).copied()?;
        inside.skip().ok()?;
        self.reader = inside;
        Some(number)
    }

    fn hook_end(
        &mut self,
        kind: u8,
        class: &'a [u8],
        frozen: &[u8],
        numbers: &[u32],
    ) -> Result<(), EncodeError> {
        let again = self.number_of(class);
        let class_len = again.map_or(class.len(), |number| number as usize);
        let mut flags = kind;
        flags |= if again.is_some() { HOOK_CLASS_AGAIN } else { 0 };
        flags |= if class_len > 255 { HOOK_LONG_CLASS } else { 0 };
        flags |= if frozen.len() > 255 { HOOK_LONG_STRING } else { 0 };
        flags |= if numbers.is_empty() { 0 } else { HOOK_HAS_LIST };
        flags |= if numbers.len() > 255 { HOOK_LONG_LIST } else { 0 };
        self.out.push(flags);
        self.len(class_len)?;
        if again.is_none() {
            self.out.extend_from_slice(class);
        }
        self.len(frozen.len())?;
        self.out.extend_from_slice(frozen);
        if !numbers.is_empty() {
            self.len(numbers.len())?;
        }
        for number in numbers {
            self.out.extend_from_slice(&number.to_be_bytes());
        }
        Ok(())
    }

    /// Appends the value of a scope or label, which is `item`.
    pub(super) fn labelled(
        &mut self,
        label: &'a [u8],
        item: Item<'a>,
        depth: usize,
    ) -> Result<(), EncodeError> {
        let number = self.next + u32::from(!self.is_bare);
        if matches!(item, Item::Tag(_) | Item::Token(Token::Array(_) | Token::Hash(_))) {
            self.labels.insert(label, number);
        }
        self.value(depth)?;
        if self.next <= number {
            // It was not a reference.
            self.labels.remove(label);
        }
        Ok(())
    }
}
