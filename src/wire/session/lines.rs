//! The lines of one side of a connection before its packets: three, read as they arrive.
//!
//! A [`Session`](super::Session) reads its peer's lines with it, and a
//! [`Conversation`](crate::wire::conversation::Conversation), a third party, those of both sides. Only
//! the form of the lines is checked here.

use crate::wire::framing::Framing;
use crate::wire::greeting::Greeting;
use bytes::{Buf as _, BytesMut};

/// The maximum octets of a line that Perl nodes accept, including its line end.
pub(crate) const PERL_LINE_LIMIT: usize = 4096;

/// One of the three lines.
#[derive(Debug)]
pub(crate) enum Line {
    Greeting(Greeting),
    Nonce(Vec<u8>),
    Authentication(AuthLine),
}

/// The third line, `method;token;framing`, with the names as they were sent.
#[derive(Debug)]
pub(crate) struct AuthLine {
    pub(crate) method: Vec<u8>,
    pub(crate) token: Vec<u8>,
    pub(crate) framing: Vec<u8>,
}

impl AuthLine {
    fn parse(line: &[u8]) -> Option<AuthLine> {
        let mut fields = line.split(|&octet| octet == b';').map(<[u8]>::to_vec);
        Some(AuthLine { method: fields.next()?, token: fields.next()?, framing: fields.next()? })
    }

    /// The framing of the packets that follow, if it is known.
    pub(crate) fn known_framing(&self) -> Option<Framing> {
        framing_named(&self.framing)
    }
}

/// The framing with this name, if it is one of the three.
pub(crate) fn framing_named(name: &[u8]) -> Option<Framing> {
    std::str::from_utf8(name).ok().and_then(Framing::from_name)
}

/// A line without its line end, LF or CR LF.
pub(crate) fn without_end(raw: &[u8]) -> &[u8] {
    let line = raw.strip_suffix(b"\n").unwrap_or(raw);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Octets that are not the expected line.
#[derive(Debug)]
pub(crate) enum BadLine {
    TooLong(Vec<u8>),
    NotAGreeting(Vec<u8>),
    NotAuthentication(Vec<u8>),
}

/// The lines of one side. Reads up to the end of the expected line, stores no more of it than a line may
/// have, and leaves everything after it in the input.
#[derive(Debug)]
pub(crate) struct Lines {
    limit: usize,
    /// The beginning of the expected line.
    partial: Vec<u8>,
    due: ExpectedLine,
    greeting: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpectedLine {
    Greeting,
    Nonce,
    Authentication,
}

impl Lines {
    /// The lines of a side that has sent nothing yet; each may have `limit` octets, including its line
    /// end.
    pub(crate) fn new(limit: usize) -> Self {
        Lines { limit, partial: Vec::new(), due: ExpectedLine::Greeting, greeting: Vec::new() }
    }

    /// The lines of the greeting so far, as they are hashed: each with LF, whatever line end was
    /// received.
    pub(crate) fn greeting(&self) -> &[u8] {
        &self.greeting
    }

    /// Whether both lines of the greeting were read.
    pub(crate) fn is_greeted(&self) -> bool {
        self.due == ExpectedLine::Authentication
    }

    /// Removes the expected line from the front of `input`. `None` if it is incomplete.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Line>, BadLine> {
        let Some(raw) = self.raw(input)? else {
            return Ok(None);
        };
        let line = without_end(&raw);
        match self.due {
            ExpectedLine::Greeting => {
                let Ok(greeting) = Greeting::parse(line) else {
                    return Err(BadLine::NotAGreeting(raw));
                };
                self.hash(line);
                self.due = ExpectedLine::Nonce;
                Ok(Some(Line::Greeting(greeting)))
            }
            ExpectedLine::Nonce => {
                self.hash(line);
                self.due = ExpectedLine::Authentication;
                Ok(Some(Line::Nonce(line.to_vec())))
            }
            ExpectedLine::Authentication => match AuthLine::parse(line) {
                Some(line) => Ok(Some(Line::Authentication(line))),
                None => Err(BadLine::NotAuthentication(raw)),
            },
        }
    }

    /// Takes the incomplete line, to display it.
    pub(crate) fn take_partial(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    fn hash(&mut self, line: &[u8]) {
        self.greeting.extend_from_slice(line);
        self.greeting.push(b'\n');
    }

    /// The next line with its line end.
    fn raw(&mut self, input: &mut BytesMut) -> Result<Option<Vec<u8>>, BadLine> {
        let end = memchr::memchr(b'\n', input);
        let taken = end.map_or(input.len(), |position| position + 1);
        if self.partial.len() + taken > self.limit {
            return Err(BadLine::TooLong(self.take_partial()));
        }
        self.partial.extend_from_slice(input.get(..taken).unwrap_or_default());
        input.advance(taken);
        Ok(end.map(|_| self.take_partial()))
    }
}
