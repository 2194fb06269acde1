//! The JSON framing, sent: any packed form as JSON that Perl's decoder accepts.

use super::json_string::plain_len;
use super::{EncodeError, MAX_NESTING, float_text, int_text, uint_text};
use crate::value::packed::{Elements, Item, Malformed, Reader, Token};
use crate::value::tag::INDIRECTION;
use crate::value::{StrKind, StrRef};
use std::io::Write;

/// Appends a packet.
pub(super) fn encode(elements: Elements<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.reserve(elements.octets().len() + 2);
    array(&mut elements.reader(), elements.len(), 1, out)
}

fn array(
    reader: &mut Reader<'_>,
    len: usize,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    out.push(b'[');
    for at in 0..len {
        if at > 0 {
            out.push(b',');
        }
        value(reader, depth, out)?;
    }
    out.push(b']');
    Ok(())
}

fn hash(
    reader: &mut Reader<'_>,
    len: usize,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    out.push(b'{');
    for at in 0..len {
        if at > 0 {
            out.push(b',');
        }
        let Token::Str(key) = reader.token()? else {
            return Err(Malformed { at: reader.position() }.into());
        };
        string(key, out);
        out.push(b':');
        value(reader, depth, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// Appends the next value, which is inside `depth` arrays and hashes.
///
/// Recursion is bounded by [`MAX_NESTING`].
#[inline]
fn value(reader: &mut Reader<'_>, depth: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    // Most values are short strings.
    if let Some(text) = reader.take_str() {
        string(text, out);
        return Ok(());
    }
    let token = match reader.item()? {
        Item::Token(token) => token,
        Item::Tag(INDIRECTION) => referent(reader)?,
        Item::Tag(tag) => reader.token_of(tag)?,
    };
    match token {
        Token::Undef => out.extend_from_slice(b"null"),
        Token::Bool(true) => out.extend_from_slice(b"true"),
        Token::Bool(false) => out.extend_from_slice(b"false"),
        Token::UInt(number) => out.extend_from_slice(uint_text(number).as_bytes()),
        Token::NInt(number) => out.extend_from_slice(int_text(number).as_bytes()),
        Token::Float(number) => float(number, out),
        Token::Str(text) => string(text, out),
        Token::Exact(number) => {
            // All its digits, as a string that Perl's big numbers parse.
            let _ = write!(out, "\"{number}\"");
        }
        Token::Array(_) | Token::Hash(_) if depth >= MAX_NESTING => {
            return Err(EncodeError::TooDeep);
        }
        Token::Array(len) => array(reader, len, depth + 1, out)?,
        Token::Hash(len) => hash(reader, len, depth + 1, out)?,
    }
    Ok(())
}

/// Appends the target of a reference: `\1` and `\0` are `true` and `false`, as in Perl; any other target
/// replaces the reference.
#[cold]
fn referent<'a>(reader: &mut Reader<'a>) -> Result<Token<'a>, Malformed> {
    Ok(match reader.token()? {
        Token::UInt(number @ 0..=1) => Token::Bool(number == 1),
        Token::Str(text) if text.data() == b"1" => Token::Bool(true),
        Token::Str(text) if text.data() == b"0" => Token::Bool(false),
        token => token,
    })
}

#[inline(never)]
fn float(number: f64, out: &mut Vec<u8>) {
    if number.is_finite() {
        // Rust's shortest form is valid JSON, and keeps the decimal point of an integral float.
        let _ = write!(out, "{number:?}");
    } else {
        out.push(b'"');
        out.extend_from_slice(float_text(number).as_bytes());
        out.push(b'"');
    }
}

fn string(string: StrRef<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    let is_octets = string.kind() == StrKind::Octets;
    let mut rest = string.data();
    loop {
        let len = if is_octets { plain_len::<true>(rest) } else { plain_len::<false>(rest) };
        let (plain, special) = rest.split_at(len);
        out.extend_from_slice(plain);
        let Some((&octet, after)) = special.split_first() else {
            break;
        };
        match octet {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x80.. => out.extend_from_slice(&[0xc0 | octet >> 6, 0x80 | octet & 0x3f]),
            _ => {
                let digit = |nibble: u8| b"0123456789abcdef".get(usize::from(nibble)).copied();
                let high = digit(octet >> 4).unwrap_or(b'0');
                let low = digit(octet & 0x0f).unwrap_or(b'0');
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
        rest = after;
    }
    out.push(b'"');
}
