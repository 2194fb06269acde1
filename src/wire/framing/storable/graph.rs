//! Values that contain themselves. Packed form is a tree, so such a value is a *scope* in it: inside the
//! scope, values that are referred to have labels, and references name the labels; see
//! [`crate::value::tag::Storable`].
//!
//! Which values need this is known only after the image was read twice; then it is read a third time.

use super::{HEADS, Reading, Reference};
use crate::value::packed::{self, Reader};
use crate::value::tag::{INDIRECTION, STORABLE_HEAD, Storable};
use crate::wire::framing::FramingError;
use crate::wire::framing::shared::{Place, Placement, Shared, grow};
use std::collections::HashSet;
use std::ops::Range;

/// Octets of the tag [`INDIRECTION`].
const INDIRECTION_LEN: usize = 3;

/// The scopes of a packet, while it is read for the last time.
#[derive(Debug, Default)]
pub(super) struct Graph {
    open: Option<Open>,
    /// The complete scopes, in order.
    scopes: Vec<Scope>,
}

/// The scope that is being read.
#[derive(Debug, Clone, Copy)]
struct Open {
    scope: Scope,
    /// The first of the value's places.
    first_place: usize,
}

#[derive(Debug, Clone, Copy)]
struct Scope {
    /// The offset of its tag in the output.
    start: u32,
    /// The number from which labels are counted. The label of a value is twice the difference between
    /// its number and this one. The label of a reference to something that is numbered elsewhere is one
    /// more than twice the difference between the reference's number and this one.
    first: u32,
}

impl Graph {
    /// The value with these places ends.
    pub(super) fn end_value(&mut self, shared: &mut Shared, places: &Range<usize>) {
        if let Some(open) = self.open
            && open.first_place == places.start
            && !places.is_empty()
        {
            self.open = None;
            grow(&mut self.scopes, 1);
            self.scopes.push(open.scope);
            shared.kept_elsewhere += size_of::<Scope>();
        }
    }

    fn is_in_open_scope(&self, at: usize) -> bool {
        self.open.is_some_and(|open| at >= open.scope.start as usize)
    }

    /// The complete scope around this octet of the output, if there is one.
    fn scope_around(&self, shared: &Shared, out: &[u8], at: usize) -> Option<Scope> {
        let after = self.scopes.partition_point(|scope| scope.start as usize <= at);
        let scope = *self.scopes.get(after.checked_sub(1)?)?;
        let Labelled { label, .. } = Labelled::read(out.get(scope.start as usize..)?)?;
        let (_, end) = labelled(shared, out, scope, label)?;
        (at < end).then_some(scope)
    }
}

/// The start and the end of the value with this label in a complete scope, including the label.
fn labelled(shared: &Shared, out: &[u8], scope: Scope, label: u32) -> Option<(usize, usize)> {
    let number = u64::from(scope.first) + u64::from(label / 2);
    if let Ok(place) = shared.place(number) {
        return Some((place.start, place.end?));
    }
    // Only the reference to the value was referred to.
    let place = shared.place(number.checked_sub(1)?).ok()?;
    Some((start_of_value(out, place), place.end?))
}

/// The position of the value itself, after its tags.
fn start_of_value(out: &[u8], place: Place) -> usize {
    let octets = out.get(place.start..).unwrap_or_default();
    match place.stands {
        Placement::Itself | Placement::ByReference => place.start,
        Placement::AfterTags => {
            let label = Labelled::read(octets).map_or(0, |label| label.len);
            place.start + label + INDIRECTION_LEN
        }
    }
}

/// An internal tag, with what precedes its value.
#[derive(Debug, Clone, Copy)]
struct Labelled {
    tag: Storable,
    label: u32,
    /// The number of octets before the value.
    len: usize,
}

impl Labelled {
    /// The internal tag at the beginning of `octets`, if there is one.
    fn read(octets: &[u8]) -> Option<Labelled> {
        const ARRAY_OF_TWO: u8 = 0x82;
        const OCTETS: u8 = 0x40;
        let rest = octets.strip_prefix(&STORABLE_HEAD)?;
        let (&[low, two, len], rest) = rest.split_first_chunk()?;
        let tag = Storable::of(u64::from(u32::from_be_bytes([0x61, 0x65, 0x6d, low])))?;
        if two != ARRAY_OF_TWO
            || !matches!(tag, Storable::Scope | Storable::Label | Storable::Again { .. })
        {
            return None;
        }
        let len = usize::from(len.checked_sub(OCTETS).filter(|&len| len <= 4)?);
        let label = rest.get(..len)?.iter().fold(0, |label, &octet| label << 8 | u32::from(octet));
        Some(Labelled { tag, label, len: STORABLE_HEAD.len() + 3 + len })
    }
}

impl Reading<'_> {
    /// Called before the target of a reference: opens a scope or writes a label, if the next value, or
    /// the reference to it, needs one.
    pub(super) fn label(
        &mut self,
        reference: Option<Reference<'_>>,
        first_place: usize,
        tags: &mut usize,
    ) -> Result<(), FramingError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let next = shared.next_number();
        self.label_if(
            [Some(next), reference.and_then(|reference| reference.number)],
            |first| {
                (first.unwrap_or(next), next.wrapping_sub(first.unwrap_or(next)).wrapping_mul(2))
            },
            first_place,
            tags,
        )
    }

    /// As [`Reading::label`], before a reference to something that is numbered elsewhere.
    fn label_reference(
        &mut self,
        reference: Reference<'_>,
        first_place: usize,
        tags: &mut usize,
    ) -> Result<(), FramingError> {
        let Some(number) = reference.number else { return Ok(()) };
        self.label_if(
            [Some(number), None],
            |first| {
                let first = first.unwrap_or(number);
                (first, number.wrapping_sub(first).wrapping_mul(2) | 1)
            },
            first_place,
            tags,
        )
    }

    /// If one of these numbers needs a label, writes the one that `label` computes from the scope's
    /// first number. Opens a scope if there is none.
    fn label_if(
        &mut self,
        numbers: [Option<u32>; 2],
        label: impl Fn(Option<u32>) -> (u32, u32),
        first_place: usize,
        tags: &mut usize,
    ) -> Result<(), FramingError> {
        let (Some(graph), Some(shared)) = (&mut self.graph, &self.shared) else {
            return Ok(());
        };
        let mut numbers = numbers.into_iter().flatten();
        match graph.open {
            Some(open) => {
                if numbers.any(|number| shared.is_wanted(number)) {
                    let (_, label) = label(Some(open.scope.first));
                    self.put_labelled(Storable::Label, label, tags)?;
                }
            }
            None => {
                if numbers.any(|number| shared.is_cycle(number)) {
                    let too_long = FramingError::TooExpanded { limit: self.limit };
                    let start = u32::try_from(self.out.len()).map_err(|_| too_long)?;
                    let (first, label) = label(None);
                    let scope = Scope { start, first };
                    graph.open = Some(Open { scope, first_place });
                    self.put_labelled(Storable::Scope, label, tags)?;
                }
            }
        }
        Ok(())
    }

    fn put_labelled(
        &mut self,
        tag: Storable,
        label: u32,
        tags: &mut usize,
    ) -> Result<(), FramingError> {
        let octets = label.to_be_bytes();
        let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
        self.put_tagged(tag, octets.get(zeros..).unwrap_or_default(), tags)
    }

    fn put_again(&mut self, label: u32, weak: bool, tags: &mut usize) -> Result<(), FramingError> {
        self.put_labelled(Storable::Again { weak }, label, tags)?;
        packed::put_undef(self.out);
        Ok(())
    }

    /// Writes the value with this number again, or a reference to it.
    pub(super) fn again(
        &mut self,
        number: u32,
        reference: Option<Reference<'_>>,
        first_place: usize,
        tags: usize,
    ) -> Result<(), FramingError> {
        let Some(shared) = &mut self.shared else { return Ok(()) };
        let mut tags = tags;
        let place = shared.place(number.into())?;
        let weak = reference.is_some_and(|reference| reference.weak);
        if place.end.is_none() && self.graph.is_none() && number > 0 {
            shared.mark_cycle(number);
            packed::put_undef(self.out);
            return Ok(());
        }
        let mut at = place.start;
        match (place.stands, reference) {
            (Placement::Itself, Some(reference)) => {
                self.label_reference(reference, first_place, &mut tags)?;
                self.put_tag(INDIRECTION, &mut tags)?;
            }
            (Placement::AfterTags, None) => at = start_of_value(self.out, place),
            _ => {}
        }
        let (Some(graph), Some(shared)) = (&self.graph, &self.shared) else {
            return self.copy(at, place.end, tags);
        };
        if graph.is_in_open_scope(at) {
            let octets = self.out.get(at..).unwrap_or_default();
            return match Labelled::read(octets) {
                Some(Labelled { label, .. }) => self.put_again(label, weak, &mut tags),
                None => self.copy(at, place.end, tags),
            };
        }
        match (graph.scope_around(shared, self.out, at), place.end) {
            (Some(scope), Some(end)) => self.piece(scope, at..end, tags),
            _ => self.copy(at, place.end, tags),
        }
    }

    fn copy(&mut self, start: usize, end: Option<usize>, tags: usize) -> Result<(), FramingError> {
        let end = end.ok_or(FramingError::Refused { what: "a packet that contains itself" })?;
        let depth = self.depth() + tags;
        match &self.shared {
            Some(shared) => shared.copy(start..end, depth, self.out, self.limits),
            None => Ok(()),
        }
    }

    /// Copies a value inside a complete scope as a scope of its own. A value outside the copy is written
    /// at the first reference to it.
    fn piece(
        &mut self,
        scope: Scope,
        value: Range<usize>,
        tags: usize,
    ) -> Result<(), FramingError> {
        let start = self.out.len();
        let mut written: HashSet<u32> = HashSet::new();
        let mut left = vec![value];
        // The number of ranges left when the new scope began.
        let mut outside = None;
        while let Some(range) = left.last_mut() {
            if range.start >= range.end {
                left.pop();
                if outside.is_some_and(|outside| left.len() <= outside) {
                    outside = None;
                    written.clear();
                }
                continue;
            }
            let at = range.start;
            let shared = self.shared.as_ref().ok_or(FramingError::NotAPacket)?;
            shared.check(self.out, HEADS + written.capacity() * 2 * size_of::<u32>())?;
            let octets = self.out.get(range.clone()).unwrap_or_default();
            let mut reader = Reader::new(octets);
            let labelled_here = Labelled::read(octets);
            let (label, end) = match labelled_here {
                // A scope that was copied into this one has its own labels.
                Some(Labelled { tag: Storable::Scope, .. }) if at != scope.start as usize => {
                    let len = reader.skip().map_err(|_| FramingError::NotAPacket)?.len();
                    range.start += len;
                    shared.check(self.out, len)?;
                    grow(self.out, len);
                    self.out.extend_from_within(at..at + len);
                    continue;
                }
                Some(Labelled { tag: Storable::Again { weak }, label, len }) => {
                    range.start += len + 1;
                    if written.contains(&label) {
                        self.put_again(label, weak, &mut 0)?;
                        continue;
                    }
                    let (start, end) =
                        labelled(shared, self.out, scope, label).ok_or(FramingError::NotAPacket)?;
                    left.push(start..end);
                    continue;
                }
                Some(Labelled { label, .. }) => {
                    let (_, end) =
                        labelled(shared, self.out, scope, label).ok_or(FramingError::NotAPacket)?;
                    (label, end)
                }
                None => {
                    reader.item().map_err(|_| FramingError::NotAPacket)?;
                    let len = reader.position();
                    range.start += len;
                    shared.check(self.out, len)?;
                    grow(self.out, len);
                    self.out.extend_from_within(at..at + len);
                    continue;
                }
            };
            range.start = end;
            if !written.insert(label) {
                self.put_again(label, false, &mut 0)?;
                continue;
            }
            let tag = match outside {
                Some(_) => Storable::Label,
                None => {
                    outside = Some(left.len());
                    Storable::Scope
                }
            };
            let len = labelled_here.map_or(0, |labelled| labelled.len);
            self.put_labelled(tag, label, &mut 0)?;
            left.push(at + len..end);
        }
        let depth = self.depth() + tags;
        let written = self.out.get(start..).unwrap_or_default();
        if depth + packed::nesting(written).unwrap_or(self.limits.nesting) > self.limits.nesting {
            return Err(FramingError::TooDeep { limit: self.limits.nesting });
        }
        Ok(())
    }
}
