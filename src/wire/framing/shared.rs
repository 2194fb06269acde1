//! Values to which a packet refers more than once, and the limit for a packet's memory.

use super::{FramingError, FramingLimits};
use crate::value::packed;
use std::ops::Range;

/// The maximum octets of memory for a packet of `wire` octets.
///
/// Vectors grown by [`grow`] have a capacity of up to nine eighths of their length.
pub(super) fn memory_limit(wire: usize) -> usize {
    wire.saturating_mul(4).saturating_add(64 << 10)
}

/// Reserves capacity for `more` items: by doubling while the vector is small, then in small steps.
#[inline]
pub(super) fn grow<T>(vector: &mut Vec<T>, more: usize) {
    if vector.capacity() - vector.len() < more {
        grow_now(vector, more);
    }
}

#[cold]
fn grow_now<T>(vector: &mut Vec<T>, more: usize) {
    const SMALL: usize = 8 << 10;
    if vector.len() * size_of::<T>() < SMALL {
        vector.reserve(more);
    } else {
        vector.reserve_exact(more.max(vector.len() / 8));
    }
}

/// The position of a value in the output.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// Combined with [`BY_REFERENCE`] and [`AFTER_TAGS`].
    start: u32,
    /// [`OPEN`] until the value is complete.
    end: u32,
}

const OPEN: u32 = u32::MAX;
const BY_REFERENCE: u32 = 1 << 31;
const AFTER_TAGS: u32 = 1 << 30;
/// In the list of numbers that are referred to: the value contains a reference to itself.
const CYCLE: u32 = 1 << 31;

/// What begins at the position of a numbered value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// The value.
    Itself,
    /// A reference to the value; in packed form a reference to an array, hash or object looks the same
    /// as its target.
    ByReference,
    /// The tags of a reference, followed by the value.
    AfterTags,
}

/// The position of a numbered value in the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) start: usize,
    /// `None` until the value is complete.
    pub(super) end: Option<usize>,
    pub(super) stands: Placement,
}

/// The positions of the values that can be referred to.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The numbers of the values that are referred to, in ascending order, some with [`CYCLE`]; `None`
    /// if any value may be.
    wanted: Option<Vec<u32>>,
    has_cycles: bool,
    /// The number of the next value.
    next: u32,
    spans: Vec<Span>,
    /// The maximum octets of memory for the packet.
    pub(super) limit: usize,
    /// The octets of memory that the caller uses besides the output.
    pub(super) kept_elsewhere: usize,
}

impl Shared {
    /// Any value may be referred to.
    pub(super) fn any(limit: usize) -> Self {
        Shared { limit, ..Shared::default() }
    }

    /// Only the values with these numbers are referred to.
    pub(super) fn only(wanted: Vec<u32>, limit: usize) -> Self {
        let spans = Vec::with_capacity(wanted.len());
        Shared { wanted: Some(wanted), spans, limit, ..Shared::default() }
    }

    /// Restarts, to read the same packet again.
    pub(super) fn restart(&mut self) {
        self.next = 0;
        self.spans.clear();
    }

    /// The number of values recorded so far.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The number of the next value.
    pub(super) fn next_number(&self) -> u32 {
        self.next
    }

    /// Fails if the packet takes too much memory with `more` octets in its output.
    pub(super) fn check(&self, out: &[u8], more: usize) -> Result<(), FramingError> {
        let wanted = self.wanted.as_ref().map_or(0, Vec::capacity) * size_of::<u32>();
        let kept = self.spans.capacity() * size_of::<Span>() + self.kept_elsewhere;
        let growing = out.len().saturating_add(more).saturating_add(kept);
        if growing.saturating_add(growing / 8).saturating_add(wanted) > self.limit {
            return Err(FramingError::TooExpanded { limit: self.limit });
        }
        Ok(())
    }

    /// Assigns the next number to the value that begins at `start` of the output.
    pub(super) fn begin(
        &mut self,
        out: &[u8],
        start: usize,
        stands: Placement,
    ) -> Result<(), FramingError> {
        let number = self.next;
        self.next += 1;
        if let Some(wanted) = &self.wanted
            && wanted.get(self.spans.len()).is_none_or(|wanted| wanted & !CYCLE != number)
        {
            return Ok(());
        }
        self.check(out, size_of::<Span>())?;
        let start = u32::try_from(start).ok().filter(|start| *start < AFTER_TAGS);
        let start = start.ok_or(FramingError::TooExpanded { limit: self.limit })?;
        grow(&mut self.spans, 1);
        let stands = match stands {
            Placement::Itself => 0,
            Placement::ByReference => BY_REFERENCE,
            Placement::AfterTags => AFTER_TAGS,
        };
        self.spans.push(Span { start: start | stands, end: OPEN });
        Ok(())
    }

    /// The values recorded at these places end at `end` of the output.
    pub(super) fn end(&mut self, places: Range<usize>, end: usize) {
        for span in self.spans.get_mut(places).unwrap_or_default() {
            span.end = u32::try_from(end).unwrap_or(OPEN);
        }
    }

    /// The index of this number among those that are referred to.
    fn index(&self, number: u64) -> Option<usize> {
        match &self.wanted {
            Some(wanted) => {
                let number = u32::try_from(number).ok()?;
                wanted.binary_search_by_key(&number, |wanted| wanted & !CYCLE).ok()
            }
            None => usize::try_from(number).ok(),
        }
    }

    /// Whether the value with this number is referred to.
    pub(super) fn is_wanted(&self, number: u32) -> bool {
        self.index(number.into()).is_some()
    }

    /// Whether the value with this number contains a reference to itself.
    pub(super) fn is_cycle(&self, number: u32) -> bool {
        let wanted = self.wanted.as_ref().zip(self.index(number.into()));
        wanted.and_then(|(wanted, index)| wanted.get(index)).is_some_and(|flags| flags & CYCLE != 0)
    }

    /// Whether any value contains a reference to itself.
    pub(super) fn has_cycles(&self) -> bool {
        self.has_cycles
    }

    /// Records that the value with this number contains a reference to itself.
    pub(super) fn mark_cycle(&mut self, number: u32) {
        let index = self.index(number.into());
        if let Some((wanted, index)) = self.wanted.as_mut().zip(index)
            && let Some(flags) = wanted.get_mut(index)
        {
            *flags |= CYCLE;
            self.has_cycles = true;
        }
    }

    /// The position of the value with this number.
    pub(super) fn place(&self, number: u64) -> Result<Place, FramingError> {
        let span = self
            .index(number)
            .and_then(|index| self.spans.get(index))
            .ok_or(FramingError::Refused { what: "a reference to a value that was not sent" })?;
        let stands = match span.start & (BY_REFERENCE | AFTER_TAGS) {
            BY_REFERENCE => Placement::ByReference,
            AFTER_TAGS => Placement::AfterTags,
            _ => Placement::Itself,
        };
        Ok(Place {
            start: (span.start & !(BY_REFERENCE | AFTER_TAGS)) as usize,
            end: (span.end != OPEN).then_some(span.end as usize),
            stands,
        })
    }

    /// Appends the value `number` again, inside `depth` levels.
    pub(super) fn repeat(
        &self,
        number: u64,
        depth: usize,
        out: &mut Vec<u8>,
        limits: FramingLimits,
    ) -> Result<(), FramingError> {
        let place = self.place(number)?;
        let Some(end) = place.end else {
            return Err(FramingError::Refused { what: "a value that contains itself" });
        };
        self.copy(place.start..end, depth, out, limits)
    }

    /// Appends a copy of a value in the output, inside `depth` levels.
    pub(super) fn copy(
        &self,
        value: Range<usize>,
        depth: usize,
        out: &mut Vec<u8>,
        limits: FramingLimits,
    ) -> Result<(), FramingError> {
        let octets = out.get(value.clone()).unwrap_or_default();
        if octets.is_empty() {
            return Err(FramingError::Refused { what: "a reference to a value that was not sent" });
        }
        self.check(out, octets.len())?;
        if depth + packed::nesting(octets).unwrap_or(limits.nesting) > limits.nesting {
            return Err(FramingError::TooDeep { limit: limits.nesting });
        }
        grow(out, value.len());
        out.extend_from_within(value);
        Ok(())
    }
}
