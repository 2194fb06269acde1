//! What a callback port does with its messages: tagged receivers, and one for all others.

use crate::value::packed::{self, Elements, Token};
use crate::value::{NodeId, Packed, Str, same};
use std::borrow::Cow;
use std::collections::HashMap;

/// Up to so many tags are compared one by one, which is faster than to look them up.
const LINEAR_SEARCH_LIMIT: usize = 8;

/// How many characters of an unmatched tag its port's reason of death shows.
const SHOWN_TAG: usize = 30;

/// A message as a handler gets it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    /// The node that sent it.
    pub(crate) from: &'a NodeId,
    /// The name of the port that runs.
    pub(crate) port: &'a Str,
    /// What follows the tag; for the default receiver, the whole message.
    pub(crate) message: Elements<'a>,
    /// The whole message.
    pub(crate) whole: Elements<'a>,
}

/// What is run for a message; an error or a panic kills the port.
pub(crate) type Handler = Box<dyn FnMut(Incoming<'_>) -> Result<(), String> + Send>;

/// What becomes of a message for which there is no receiver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// The port dies with the reason `unhandled_message`: so does a port made without a default.
    #[default]
    Die,
    /// It is dropped: so does a spawned port that has tags only.
    Drop,
}

/// Why a port that handled a message, or ran something, has to die.
#[derive(Debug)]
pub(super) enum Failure {
    /// It returned an error or panicked.
    Died(String),
    /// It has no receiver for a message; the text names its tag and sender.
    Unhandled(String),
}

impl Failure {
    /// The reason as its monitors get it.
    pub(super) fn into_reason(self) -> Packed {
        let (kind, text) = match self {
            Failure::Died(text) => ("die", text),
            Failure::Unhandled(text) => ("unhandled_message", text),
        };
        let mut octets = Vec::with_capacity(kind.len() + text.len() + 8);
        packed::put_octets(&mut octets, kind.as_bytes());
        // Perl's own `die` has the line's end in its text, which does not belong to the reason.
        packed::put_text(&mut octets, text.trim_end_matches('\n'));
        Packed::new(2, octets.into())
    }
}

/// The receivers of one port.
#[derive(Default)]
pub(super) struct Receivers {
    tagged: Tagged,
    default: Option<Handler>,
}

/// Handlers by the canonical octets of their tag.
enum Tagged {
    Few(Vec<(Box<[u8]>, Handler)>),
    Many(HashMap<Box<[u8]>, Handler, foldhash::fast::RandomState>),
}

impl Default for Tagged {
    fn default() -> Self {
        Tagged::Few(Vec::new())
    }
}

/// A change to the receivers of a port.
pub(super) enum Edit {
    /// Sets or removes the receiver of a tag, given in canonical octets.
    Tag(Box<[u8]>, Option<Handler>),
    /// Sets the default receiver.
    Default(Handler),
}

impl Receivers {
    /// Applies a change and returns what it replaced.
    pub(super) fn apply(&mut self, edit: Edit) -> Option<Handler> {
        match edit {
            Edit::Default(handler) => self.default.replace(handler),
            Edit::Tag(tag, Some(handler)) => self.tagged.insert(tag, handler),
            Edit::Tag(tag, None) => self.tagged.remove(&tag),
        }
    }

    /// Runs the receiver for a message.
    #[inline]
    pub(super) fn handle(
        &mut self,
        from: &NodeId,
        port: &Str,
        whole: Elements<'_>,
        unmatched: Unmatched,
    ) -> Result<(), Failure> {
        let mut message = whole;
        let mut receiver = None;
        if !self.tagged.is_empty() {
            let rest;
            (receiver, rest) = match split_short_tag(whole) {
                Some((tag, rest)) => (self.tagged.get(tag), rest),
                None => {
                    let (tag, rest) = split_tag(whole);
                    (self.tagged.get(&tag), rest)
                }
            };
            if receiver.is_some() {
                message = rest;
            }
        }
        match (receiver.or(self.default.as_mut()), unmatched) {
            (Some(handler), _) => {
                handler(Incoming { from, port, message, whole }).map_err(Failure::Died)
            }
            (None, Unmatched::Drop) => Ok(()),
            (None, Unmatched::Die) => {
                let tag = shown_tag(whole);
                let text = format!("no callback found for message '{tag}' from {from}");
                Err(Failure::Unhandled(text))
            }
        }
    }
}

impl Tagged {
    #[inline]
    fn is_empty(&self) -> bool {
        match self {
            Tagged::Few(few) => few.is_empty(),
            Tagged::Many(many) => many.is_empty(),
        }
    }

    #[inline]
    fn get(&mut self, tag: &[u8]) -> Option<&mut Handler> {
        match self {
            Tagged::Few(few) => {
                few.iter_mut().find(|(known, _)| same(known, tag)).map(|(_, handler)| handler)
            }
            Tagged::Many(many) => many.get_mut(tag),
        }
    }

    fn insert(&mut self, tag: Box<[u8]>, handler: Handler) -> Option<Handler> {
        if let Some(known) = self.get(&tag) {
            return Some(std::mem::replace(known, handler));
        }
        match self {
            Tagged::Few(few) if few.len() < LINEAR_SEARCH_LIMIT => few.push((tag, handler)),
            Tagged::Few(few) => {
                let mut many: HashMap<_, _, _> = few.drain(..).collect();
                many.insert(tag, handler);
                *self = Tagged::Many(many);
            }
            Tagged::Many(many) => {
                many.insert(tag, handler);
            }
        }
        None
    }

    fn remove(&mut self, tag: &[u8]) -> Option<Handler> {
        match self {
            Tagged::Few(few) => {
                let at = few.iter().position(|(known, _)| **known == *tag)?;
                Some(few.remove(at).1)
            }
            Tagged::Many(many) => many.remove(tag),
        }
    }
}

/// As [`split_tag`] for nearly all tags: of less than 24 octets, so that kind and length are one
/// octet, and needing no conversion.
#[inline]
fn split_short_tag(whole: Elements<'_>) -> Option<(&[u8], Elements<'_>)> {
    let (&head, after) = whole.octets().split_first()?;
    let (tag, rest) = match head {
        0x40..=0x57 | 0x60..=0x77 => after.split_at_checked(usize::from(head & 0x1f))?,
        _ => return None,
    };
    let canonical = head >= 0x60 || tag.is_ascii();
    (canonical && !whole.is_empty()).then(|| (tag, whole.rest(1, rest)))
}

/// The first element as the string that Perl makes of it, in canonical octets, and the others.
#[cold]
fn split_tag(whole: Elements<'_>) -> (Cow<'_, [u8]>, Elements<'_>) {
    let mut reader = whole.reader();
    match reader.token() {
        Ok(Token::Str(tag)) if !whole.is_empty() => (tag.canonical(), whole.rest(1, reader.rest())),
        _ => (Cow::Owned(string_of_first(whole).into_bytes()), whole.after(1)),
    }
}

/// A first element that is not a string, as a string: numbers match tags that look like them.
fn string_of_first(whole: Elements<'_>) -> String {
    let first = || {
        let octets = whole.reader().skip().ok().filter(|_| !whole.is_empty())?;
        Some(Elements::new(1, octets))
    };
    match whole.reader().token() {
        Ok(Token::Array(_)) => "ARRAY".into(),
        Ok(Token::Hash(_)) => "HASH".into(),
        // Nothing, and undef, are the empty string.
        _ => first().and_then(|first| first.decode::<String>().ok()).unwrap_or_default(),
    }
}

/// The first element as a reason of death shows it.
fn shown_tag(whole: Elements<'_>) -> String {
    let shown = |point: u64| {
        let printable = u8::try_from(point).ok().filter(|octet| matches!(octet, b' '..=b'~'));
        printable.map_or('.', char::from)
    };
    match whole.first_str() {
        Some(tag) => tag.code_points().take(SHOWN_TAG).map(shown).collect(),
        None => string_of_first(whole).chars().take(SHOWN_TAG).map(|c| shown(c.into())).collect(),
    }
}
