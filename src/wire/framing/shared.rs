//! Values that a packet sends once and refers to later, and what memory a packet may take.

use super::{FramingError, FramingLimits};
use crate::value::packed;
use std::ops::Range;

/// How many octets of memory a packet of `wire` octets may take, all in all.
///
/// Vectors that are grown by [`grow`] have up to an eighth more than what is in them.
pub(super) fn memory_limit(wire: usize) -> usize {
    wire.saturating_mul(4).saturating_add(64 << 10)
}

/// Makes room for `more` items in a vector: by doubling it while it is small, then in small steps.
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

/// Where a value stands in the output.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// With [`BY_REFERENCE`] and [`AFTER_TAGS`].
    start: u32,
    /// [`OPEN`] until the value is complete.
    end: u32,
}

const OPEN: u32 = u32::MAX;
const BY_REFERENCE: u32 = 1 << 31;
const AFTER_TAGS: u32 = 1 << 30;
/// In the list of numbers that are referred to: the value is referred to from inside itself.
const CYCLE: u32 = 1 << 31;

/// What stands in the output where a numbered value begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// The value.
    Itself,
    /// A reference to the value, which packed form does not tell from it: an array, hash or object.
    ByReference,
    /// A reference to the value, which comes behind the tags of the reference.
    AfterTags,
}

/// Where a numbered value stands in the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) start: usize,
    /// Nothing as long as the value is not complete.
    pub(super) end: Option<usize>,
    pub(super) stands: Placement,
}

/// Where the values that can be referred to stand in the output.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The numbers of the values that are referred to, in order, some with [`CYCLE`]; nothing if all
    /// may be.
    wanted: Option<Vec<u32>>,
    has_cycles: bool,
    /// The number of the next value.
    next: u32,
    spans: Vec<Span>,
    /// Octets of memory that the packet may take.
    pub(super) limit: usize,
    /// Octets of memory that the caller keeps beside the output.
    pub(super) kept_elsewhere: usize,
}

impl Shared {
    /// Any value may be referred to.
    pub(super) fn any(limit: usize) -> Self {
        Shared { limit, ..Shared::default() }
    }

    /// Only values with these numbers are referred to.
    pub(super) fn only(wanted: Vec<u32>, limit: usize) -> Self {
        let spans = Vec::with_capacity(wanted.len());
        Shared { wanted: Some(wanted), spans, limit, ..Shared::default() }
    }

    /// For reading the same packet again.
    pub(super) fn restart(&mut self) {
        self.next = 0;
        self.spans.clear();
    }

    /// How many values are kept so far.
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

    /// Gives the next number to the value that begins at `start` of the output.
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

    /// The values kept in these places end at `end` of the output.
    pub(super) fn end(&mut self, places: Range<usize>, end: usize) {
        for span in self.spans.get_mut(places).unwrap_or_default() {
            span.end = u32::try_from(end).unwrap_or(OPEN);
        }
    }

    /// The place of this number among those that are referred to.
    fn index(&self, number: u64) -> Option<usize> {
        match &self.wanted {
            Some(wanted) => {
                let number = u32::try_from(number).ok()?;
                wanted.binary_search_by_key(&number, |wanted| wanted & !CYCLE).ok()
            }
            None => usize::try_from(number).ok(),
        }
    }

    /// Whether the value of this number is referred to.
    pub(super) fn is_wanted(&self, number: u32) -> bool {
        self.index(number.into()).is_some()
    }

    /// Whether the value of this number was found to be referred to from inside itself.
    pub(super) fn is_cycle(&self, number: u32) -> bool {
        let wanted = self.wanted.as_ref().zip(self.index(number.into()));
        wanted.and_then(|(wanted, index)| wanted.get(index)).is_some_and(|flags| flags & CYCLE != 0)
    }

    /// Whether some value is referred to from inside itself.
    pub(super) fn has_cycles(&self) -> bool {
        self.has_cycles
    }

    /// The value of this number is referred to from inside itself.
    pub(super) fn mark_cycle(&mut self, number: u32) {
        let index = self.index(number.into());
        if let Some((wanted, index)) = self.wanted.as_mut().zip(index)
            && let Some(flags) = wanted.get_mut(index)
        {
            *flags |= CYCLE;
            self.has_cycles = true;
        }
    }

    /// Where the value of this number stands.
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

    /// Appends the value `number` again, `depth` being the number of levels it will stand in.
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

    /// Appends a value that stands in the output, `depth` being the number of levels it will stand in.
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
