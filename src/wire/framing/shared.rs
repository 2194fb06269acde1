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
    start: u32,
    /// [`OPEN`] until the value is complete.
    end: u32,
}

const OPEN: u32 = u32::MAX;
/// In a span's start: what stands there is a reference to the value, not the value itself.
const BY_REFERENCE: u32 = 1 << 31;

/// Where the values that can be referred to stand in the output.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The numbers of the values that are referred to, in order; nothing if all may be.
    wanted: Option<Vec<u32>>,
    /// The number of the next value.
    next: u32,
    spans: Vec<Span>,
    /// Octets of memory that the packet may take.
    pub(super) limit: usize,
}

impl Shared {
    /// Any value may be referred to.
    pub(super) fn any(limit: usize) -> Self {
        Shared { limit, ..Shared::default() }
    }

    /// Only values with these numbers are referred to.
    pub(super) fn only(wanted: Vec<u32>, limit: usize) -> Self {
        let spans = Vec::with_capacity(wanted.len());
        Shared { wanted: Some(wanted), next: 0, spans, limit }
    }

    /// How many values are kept so far.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Fails if the packet takes too much memory with `more` octets in its output.
    pub(super) fn check(&self, out: &[u8], more: usize) -> Result<(), FramingError> {
        let wanted = self.wanted.as_ref().map_or(0, Vec::capacity) * size_of::<u32>();
        let kept = self.spans.capacity() * size_of::<Span>();
        let growing = out.len().saturating_add(more).saturating_add(kept);
        if growing.saturating_add(growing / 8).saturating_add(wanted) > self.limit {
            return Err(FramingError::TooExpanded { limit: self.limit });
        }
        Ok(())
    }

    /// Gives the next number to the value that begins at `start` of the output, where it stands
    /// itself or, `by_reference`, a reference to it.
    pub(super) fn begin(
        &mut self,
        out: &[u8],
        start: usize,
        by_reference: bool,
    ) -> Result<(), FramingError> {
        let number = self.next;
        self.next += 1;
        if let Some(wanted) = &self.wanted
            && wanted.get(self.spans.len()) != Some(&number)
        {
            return Ok(());
        }
        self.check(out, size_of::<Span>())?;
        let start = u32::try_from(start).ok().filter(|start| *start < BY_REFERENCE);
        let start = start.ok_or(FramingError::TooExpanded { limit: self.limit })?;
        grow(&mut self.spans, 1);
        let start = if by_reference { start | BY_REFERENCE } else { start };
        self.spans.push(Span { start, end: OPEN });
        Ok(())
    }

    /// The values kept in these places end at `end` of the output.
    pub(super) fn end(&mut self, places: Range<usize>, end: usize) {
        for span in self.spans.get_mut(places).unwrap_or_default() {
            span.end = u32::try_from(end).unwrap_or(OPEN);
        }
    }

    fn span(&self, number: u64) -> Option<Span> {
        let place = match &self.wanted {
            Some(wanted) => wanted.binary_search(&u32::try_from(number).ok()?).ok()?,
            None => usize::try_from(number).ok()?,
        };
        self.spans.get(place).copied()
    }

    /// Whether a reference to the value `number` is what stands in the output.
    pub(super) fn is_by_reference(&self, number: u64) -> bool {
        self.span(number).is_some_and(|span| span.start & BY_REFERENCE != 0)
    }

    /// Appends the value `number` again, `depth` being the number of levels it will stand in.
    pub(super) fn repeat(
        &self,
        number: u64,
        depth: usize,
        out: &mut Vec<u8>,
        limits: FramingLimits,
    ) -> Result<(), FramingError> {
        let span = self
            .span(number)
            .ok_or(FramingError::Refused { what: "a reference to a value that was not sent" })?;
        if span.end == OPEN {
            return Err(FramingError::Refused { what: "a value that contains itself" });
        }
        let start = (span.start & !BY_REFERENCE) as usize;
        let value = out.get(start..span.end as usize).unwrap_or_default();
        if value.is_empty() {
            return Err(FramingError::Refused { what: "a reference to a value that was not sent" });
        }
        let len = value.len();
        self.check(out, len)?;
        if depth + packed::nesting(value).unwrap_or(limits.nesting) > limits.nesting {
            return Err(FramingError::TooDeep { limit: limits.nesting });
        }
        grow(out, len);
        out.extend_from_within(start..start + len);
        Ok(())
    }
}
