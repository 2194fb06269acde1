//! The packed form: values as octets, for storing, queueing and decoding messages.
//!
//! It is a subset of CBOR that needs no context to read: integers from -2^63 to 2^64-1, byte
//! strings, text strings (generalized UTF-8), arrays and maps of definite length, false, true,
//! null, undefined, single and double floats, and tags. Map keys are strings without tags. There
//! are no indefinite lengths and no tags that refer to other values (25, 256, 28, 29). Lengths need
//! not be in their shortest form. Each framing is translated to and from it, so that there is one
//! serializer, one deserializer and one kind of message.
//!
//! [`Reader::token`] skips tags, for decoding values; [`Reader::item`] returns them, for passing values
//! on. The module `tag` defines their meaning.

mod elements;
mod put;
mod reader;

pub use self::elements::{Count, Elements};
pub use self::put::{
    OpenLen, close_len, open_array, open_hash, put_array, put_bool, put_float, put_hash, put_int,
    put_octets, put_str, put_tag, put_text, put_uint, put_undef,
};
pub(crate) use self::put::{
    begin_str, head_len, is_scalar, put_joined, put_list, put_undefined, string_len,
};
pub use self::reader::{Item, Malformed, Reader, Token, is_deeper_than, nesting};

const UINT: u8 = 0 << 5;
const NINT: u8 = 1 << 5;
const BYTES: u8 = 2 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;
const TAG: u8 = 6 << 5;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;
/// CBOR's `undefined`, which Perl's encoder writes for `Types::Serialiser::error`. It is read as undef.
pub(crate) const UNDEFINED: u8 = 0xf7;
const SINGLE: u8 = 0xfa;
const DOUBLE: u8 = 0xfb;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::StrRef;

    #[test]
    fn tokens_come_back_as_they_were_put() {
        let mut out = Vec::new();
        put_array(&mut out, 9);
        put_undef(&mut out);
        put_bool(&mut out, true);
        put_int(&mut out, -500);
        put_uint(&mut out, u64::MAX);
        put_float(&mut out, 0.1);
        put_float(&mut out, 1.5);
        put_octets(&mut out, b"\xff");
        put_text(&mut out, "é");
        let open = open_hash(&mut out);
        put_text(&mut out, "k");
        put_int(&mut out, i64::MIN);
        close_len(&mut out, open, 1);
        let mut reader = Reader::new(&out);
        let mut tokens = Vec::new();
        while !reader.is_done() {
            tokens.push(reader.token().unwrap());
        }
        assert_eq!(
            tokens,
            [
                Token::Array(9),
                Token::Undef,
                Token::Bool(true),
                Token::NInt(-500),
                Token::UInt(u64::MAX),
                Token::Float(0.1),
                Token::Float(1.5),
                Token::Str(StrRef::octets(b"\xff")),
                Token::Str(StrRef::text("é")),
                Token::Hash(1),
                Token::Str(StrRef::text("k")),
                Token::NInt(i64::MIN),
            ]
        );
        assert_eq!(Reader::new(&out).skip().unwrap(), out);
    }

    #[test]
    fn lengths_beyond_the_octets_are_malformed() {
        for octets in [&[0x9a, 0xff, 0xff, 0xff, 0xff][..], &[0xa1, 0x41], &[0x5b], &[0x9f], &[]] {
            assert!(Reader::new(octets).skip().is_err(), "{octets:x?}");
        }
    }

    #[test]
    fn elements_after_the_last_are_none() {
        let mut out = Vec::new();
        put_text(&mut out, "tag");
        put_int(&mut out, 1);
        let elements = Elements::new(2, &out);
        assert_eq!(elements.first_str(), Some(StrRef::text("tag")));
        assert_eq!(elements.after(1).len(), 1);
        assert_eq!(elements.after(1).reader().token(), Ok(Token::UInt(1)));
        assert!(elements.after(2).is_empty());
        assert!(elements.after(9).is_empty());
    }
}
