//! Values that a packet sends once and refers to later, as CBOR tags 28/29 and Storable do.

use super::{FramingError, FramingLimits, nesting};
use std::ops::Range;

/// How many octets the references of a packet of `wire` octets may expand it to.
///
/// Generous for sharing as programs do it, but a small packet cannot ask for a large memory.
pub(super) fn expansion_limit(wire: usize, limits: FramingLimits) -> usize {
    wire.saturating_mul(64).saturating_add(1 << 20).min(limits.packet.max(wire))
}

/// Where the values that can be referred to stand in the output.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Start and end; the end is `OPEN` until the value is complete.
    spans: Vec<(usize, usize)>,
}

const OPEN: usize = usize::MAX;

impl Shared {
    /// How many values can be referred to so far: the number of the next one.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Gives the next number to the value that begins at `start` of the output.
    pub(super) fn begin(&mut self, start: usize) {
        self.spans.push((start, OPEN));
    }

    /// The values of these numbers end at `end` of the output.
    pub(super) fn end(&mut self, numbers: Range<usize>, end: usize) {
        for span in self.spans.get_mut(numbers).unwrap_or_default() {
            span.1 = end;
        }
    }

    /// Appends the value `number` again, `depth` being the number of levels it will stand in.
    pub(super) fn repeat(
        &self,
        number: u64,
        depth: usize,
        out: &mut Vec<u8>,
        expansion: usize,
        limits: FramingLimits,
    ) -> Result<(), FramingError> {
        let span = usize::try_from(number).ok().and_then(|number| self.spans.get(number));
        let &(start, end) = span
            .filter(|(start, end)| start != end)
            .ok_or(FramingError::Refused { what: "a reference to a value that was not sent" })?;
        if end == OPEN {
            return Err(FramingError::Refused { what: "a value that contains itself" });
        }
        let value = out.get(start..end).unwrap_or_default();
        if out.len() + value.len() > expansion {
            return Err(FramingError::TooExpanded { limit: expansion });
        }
        if depth + nesting(value).unwrap_or(limits.nesting) > limits.nesting {
            return Err(FramingError::TooDeep { limit: limits.nesting });
        }
        out.extend_from_within(start..end);
        Ok(())
    }
}
