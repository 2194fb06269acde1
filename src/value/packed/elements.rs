//! The elements of a message in packed form, borrowed.

use super::{Reader, Token};
use crate::value::string::StrRef;

/// The number of values, and whether it is known that none of them has an internal tag (see
/// [`crate::value::tag`]), so that their octets can be sent as CBOR without being searched for one.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// The number, and [`PLAIN`].
    marked: usize,
}

/// The bit that marks values without internal tags. No message has this many elements.
const PLAIN: usize = 1 << (usize::BITS - 1);

impl Count {
    /// One value without internal tags.
    pub(crate) const ONE: Count = Count::plain(1);

    /// This many values, about whose tags nothing is known.
    pub(crate) const fn of(len: usize) -> Self {
        Count { marked: len & !PLAIN }
    }

    /// This many values without internal tags.
    pub(crate) const fn plain(len: usize) -> Self {
        Count { marked: len | PLAIN }
    }

    /// The number of values.
    #[inline]
    pub const fn get(self) -> usize {
        self.marked & !PLAIN
    }

    /// Whether it is known that no value has an internal tag.
    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        self.marked & PLAIN != 0
    }

    /// One value that contains these values and `other`.
    #[inline]
    #[must_use]
    pub(crate) const fn joined(self, other: Count) -> Self {
        Count { marked: self.marked & other.marked & PLAIN | 1 }
    }

    /// Another number of values, with the same knowledge about tags.
    #[inline]
    #[must_use]
    pub(crate) const fn with(self, len: usize) -> Self {
        Count { marked: self.marked & PLAIN | len & !PLAIN }
    }

    /// `octets` as elements: these values, and `more` values without internal tags before or after them.
    #[inline]
    pub const fn elements(self, more: usize, octets: &[u8]) -> Elements<'_> {
        Elements { count: self.with(self.get() + more), octets }
    }
}

/// A borrowed list of values in packed form: the elements of a message.
#[derive(Debug, Clone, Copy)]
pub struct Elements<'a> {
    count: Count,
    octets: &'a [u8],
}

impl<'a> Elements<'a> {
    /// Elements from `octets`, which have to be exactly `len` values in packed form.
    #[inline]
    pub const fn new(len: usize, octets: &'a [u8]) -> Self {
        Elements { count: Count::of(len), octets }
    }

    /// As [`Elements::new`], for values without internal tags.
    #[inline]
    pub(crate) const fn plain(len: usize, octets: &'a [u8]) -> Self {
        Elements { count: Count::plain(len), octets }
    }

    /// The number of values, and what is known about their tags.
    #[inline]
    pub(crate) const fn count(self) -> Count {
        self.count
    }

    /// No elements.
    pub const EMPTY: Elements<'static> = Elements::plain(0, &[]);

    /// The number of values.
    #[inline]
    pub const fn len(self) -> usize {
        self.count.get()
    }

    /// Whether there are no values.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.count.get() == 0
    }

    /// The octets of the values, in packed form.
    #[inline]
    pub const fn octets(self) -> &'a [u8] {
        self.octets
    }

    /// A reader positioned at the first value.
    #[inline]
    pub const fn reader(self) -> Reader<'a> {
        Reader::new(self.octets)
    }

    /// The first value, if it is a string.
    #[inline]
    pub fn first_str(self) -> Option<StrRef<'a>> {
        if self.is_empty() {
            return None;
        }
        self.reader().take_str().or_else(|| self.first_token_str())
    }

    #[inline(never)]
    fn first_token_str(self) -> Option<StrRef<'a>> {
        match self.reader().token() {
            Ok(Token::Str(string)) => Some(string),
            _ => None,
        }
    }

    /// The rest of these elements after the first `count`, which begins with `octets`.
    #[inline]
    pub(crate) const fn rest(self, count: usize, octets: &'a [u8]) -> Elements<'a> {
        Elements { count: self.count.with(self.len().saturating_sub(count)), octets }
    }

    /// The elements before the last one, and the last one; `None` if there are none.
    pub fn split_last(self) -> Option<(Elements<'a>, Elements<'a>)> {
        let before = self.len().checked_sub(1)?;
        let last = self.after(before);
        let octets = self.octets.split_at_checked(self.octets.len() - last.octets.len())?.0;
        Some((Elements { count: self.count.with(before), octets }, last))
    }

    /// The elements after the first `count`; empty if there are fewer.
    pub fn after(self, count: usize) -> Elements<'a> {
        let mut reader = self.reader();
        for _ in 0..count.min(self.len()) {
            if reader.skip().is_err() {
                return Elements::EMPTY;
            }
        }
        self.rest(count, reader.rest())
    }
}
