//! §2.2 to §2.4: unusual but legal octets.

use super::{TAGGED, ensure_tags, request, speaking};
use crate::conform::check::{Check, check, run};
use crate::conform::checks::REST;
use crate::conform::context::Ctx;
use crate::conform::pattern;
use crate::conform::session::show_packet;
use crate::conform::stop::{Verdict, ensure, miss};
use crate::value::Value;
use crate::wire::framing::Framing;
use serde_json::{Value as Json, json};

/// The checks of one framing.
pub(in crate::conform::checks) const CHECKS: &[Check] = &[
    check("json-space", "2.2b", "White space is allowed between and inside JSON texts.")
        .by(run!(variants(Framing::Json, JSON_SPACE))),
    check("json-escapes", "2.2a", "Escapes in JSON strings stand for their characters.")
        .by(run!(variants(Framing::Json, JSON_ESCAPES))),
    check("json-numbers", "2.2a", "All notations of JSON numbers are read.")
        .by(run!(variants(Framing::Json, JSON_NUMBERS))),
    check("cbor-indefinite", "2.3a", "Arrays, maps and strings may have no length.")
        .by(run!(variants(Framing::Cbor, CBOR_INDEFINITE))),
    check("cbor-long-heads", "2.3a", "Heads may be longer than they need to be.")
        .by(run!(variants(Framing::Cbor, CBOR_HEADS))),
    check("cbor-floats", "2.3a", "Floats may have 16, 32 or 64 bits.")
        .by(run!(variants(Framing::Cbor, CBOR_FLOATS))),
    check("cbor-tags", "2.3c", "The content of an unknown tag is used.")
        .by(run!(variants(Framing::Cbor, CBOR_TAGS))),
    check("cbor-tags-kept", "2.5a", "A relay hands on tags that it does not know.")
        .by(run!(tags_kept)),
    check("cbor-stringrefs", "2.3b", "References to strings sent before are resolved.")
        .by(run!(variants(Framing::Cbor, CBOR_STRINGREFS))),
    check("cbor-shared", "2.3b", "References to values sent before are resolved.")
        .by(run!(variants(Framing::Cbor, CBOR_SHARED))),
    check("cbor-text-names", "2.1b", "Names of requests and ports may come as text.")
        .by(run!(variants(Framing::Cbor, CBOR_TEXT))),
    check("cbor-surrogates", "2.1d", "Strings that are not Unicode pass unchanged.")
        .by(run!(surrogates)),
    check("storable-strings", "2.4a", "All opcodes of strings are read.")
        .by(run!(variants(Framing::Storable, STORABLE_STRINGS))),
    check("storable-numbers", "2.4b", "All opcodes of integers are read.")
        .by(run!(variants(Framing::Storable, STORABLE_NUMBERS))),
    check("storable-refs", "2.4e", "References to values that came before are resolved.")
        .by(run!(variants(Framing::Storable, STORABLE_REFS))),
    check("storable-cycles", "2.4f", "A relay hands on values that contain themselves.")
        .by(run!(cycles)),
    check("storable-hashes", "2.4d", "Hashes with and without flags are read.")
        .by(run!(variants(Framing::Storable, STORABLE_HASHES))),
    check("storable-undef", "2.4c", "All opcodes of undef are read.")
        .by(run!(variants(Framing::Storable, STORABLE_UNDEF))),
];

/// JSON cannot represent these strings, so octets are compared.
async fn surrogates(c: Ctx) -> Verdict {
    let mut session = speaking(&c, Framing::Cbor).await?;
    for text in [&b"\xed\xa0\x80"[..], b"\xf4\x90\x80\x80"] {
        let head = 0x60 | u8::try_from(text.len()).unwrap_or_default();
        let value = [&[head][..], text].concat();
        session.raw(&request(Framing::Cbor, &session.me, &value)).await?;
        let answer = session.expect(json!(["echo", REST])).await?;
        let back = answer.get(1).and_then(Value::as_str).map(|back| back.data().to_vec());
        ensure(back.as_deref() == Some(text), || format!("{text:02x?} came back as {back:02x?}"))?;
    }
    session.still_works("strings that are no Unicode").await
}

/// An array of 1 and itself.
async fn cycles(c: Ctx) -> Verdict {
    let mut session = speaking(&c, Framing::Storable).await?;
    let array = b"\x04\x02\x00\x00\x00\x02\x08\x81\x04\x00\x00\x00\x00\x05";
    session.raw(&request(Framing::Storable, &session.me, array)).await?;
    let answer = session.expect(json!(["echo", REST])).await?;
    let back = answer.get(1).map(Value::to_string);
    ensure(back.as_deref() == Some("[1, ...]"), || {
        format!("an array of 1 and itself came back as {}", show_packet(&answer))
    })
}

async fn tags_kept(c: Ctx) -> Verdict {
    let mut session = speaking(&c, Framing::Cbor).await?;
    for octets in TAGGED {
        session.raw(&request(Framing::Cbor, &session.me, octets)).await?;
        let answer = session.expect(json!(["echo", REST])).await?;
        ensure_tags(octets, answer.get(1))?;
    }
    Ok(())
}

/// A value in an unusual encoding, and the same value as JSON.
type Variant = (&'static [u8], &'static str);

/// Sends values in unusual encodings to the node and back.
async fn variants(c: Ctx, framing: Framing, variants: &[Variant]) -> Verdict {
    let mut session = speaking(&c, framing).await?;
    for (octets, meaning) in variants {
        let whole = octets.strip_prefix(b"!");
        let octets = match whole {
            // The whole packet, with placeholders for our port.
            Some(packet) => fill_in(packet, &session.me),
            None => request(framing, &session.me, octets),
        };
        session.raw(&octets).await?;
        let Ok(meaning) = serde_json::from_str::<Json>(meaning) else {
            return miss(format!("the suite cannot read its own {meaning}"));
        };
        let answer = session.expect(json!(["echo", REST])).await;
        let answer = answer.map_err(|stop| stop.about(|what| format!("for {meaning}: {what}")))?;
        let is_same = match &answer[..] {
            [_, back] if meaning.is_number() => {
                pattern::matches(&meaning, back) || {
                    let number = back.to_number().map(|number| number.to_f64());
                    number == meaning.as_f64()
                }
            }
            [_, back] => pattern::matches(&meaning, back),
            _ => false,
        };
        ensure(is_same, || format!("{meaning} came back as {}", show_packet(&answer)))?;
    }
    Ok(())
}

/// Replaces `{ME}` by the port's ID and `{LEN}` by its length.
fn fill_in(packet: &[u8], me: &str) -> Vec<u8> {
    let to = format!("{me}#echo");
    let length = [u8::try_from(to.len()).unwrap_or(u8::MAX)];
    let mut octets = Vec::new();
    let mut rest = packet;
    while let Some((octet, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"{ME}") {
            octets.extend_from_slice(to.as_bytes());
            rest = after;
        } else if let Some(after) = rest.strip_prefix(b"{LEN}") {
            octets.extend_from_slice(&length);
            rest = after;
        } else {
            octets.push(*octet);
            rest = after;
        }
    }
    octets
}

const JSON_SPACE: &[Variant] = &[
    (b"!  [\"\" , \"snd\"\t,\n\"{ME}\" , [ 1 , { \"k\" : null } ] ] \r\n", "[1,{\"k\":null}]"),
    (b"!\n\n\t [\"\",\"snd\",\"{ME}\",[]]", "[]"),
    (b"!\r\n[\"\",\"snd\",\"{ME}\",{ } ]", "{}"),
];

const JSON_ESCAPES: &[Variant] = &[
    (br#""\"\\\/\b\f\n\r\t""#, r#""\"\\/\b\f\n\r\t""#),
    (br#""\u00e9\u20AC""#, "\"\u{e9}\u{20ac}\""),
    (br#""\ud83d\ude00""#, "\"\u{1f600}\""),
    ("\"\u{e9}\u{20ac}\u{1f600}\"".as_bytes(), "\"\u{e9}\u{20ac}\u{1f600}\""),
    (br#""[\"]\",{}]""#, r#""[\"]\",{}]""#),
    (b"![\"\\u0000\",\"x\"][\"\",\"\\u0073nd\",\"{ME}\",\"name\"]", "\"name\""),
];

const JSON_NUMBERS: &[Variant] = &[
    (b"0", "0"),
    (b"-0", "0"),
    (b"1e3", "1000"),
    (b"1E+3", "1000"),
    (b"-2.5e-1", "-0.25"),
    (b"123456789012345678", "123456789012345678"),
    (b"18446744073709551615", "18446744073709551615"),
];

const CBOR_INDEFINITE: &[Variant] = &[
    (b"\x9f\x01\x02\xff", "[1,2]"),
    (b"\x9f\xff", "[]"),
    (b"\xbf\x41k\x01\xff", "{\"k\":1}"),
    (b"\x5f\x42ab\x41c\xff", "\"abc\""),
    (b"\x7f\x62\xc3\xa9\x61b\xff", "\"\u{e9}b\""),
    (b"\x5f\xff", "\"\""),
    (b"!\x9f\x40\x43snd\x58{LEN}{ME}\x41x\xff", "\"x\""),
];

const CBOR_HEADS: &[Variant] = &[
    (b"\x18\x01", "1"),
    (b"\x19\x00\x01", "1"),
    (b"\x1b\x00\x00\x00\x00\x00\x00\x00\x01", "1"),
    (b"\x38\x00", "-1"),
    (b"\x58\x03abc", "\"abc\""),
    (b"\x5a\x00\x00\x00\x03abc", "\"abc\""),
    (b"\x98\x01\x01", "[1]"),
    (b"\xb9\x00\x01\x41k\x01", "{\"k\":1}"),
    (b"!\x9a\x00\x00\x00\x04\x40\x43snd\x58{LEN}{ME}\x41x", "\"x\""),
];

const CBOR_FLOATS: &[Variant] = &[
    (b"\xf9\x3e\x00", "1.5"),
    (b"\xf9\x04\x00", "0.00006103515625"),
    (b"\xf9\xc4\x00", "-4"),
    (b"\xfa\x3f\xc0\x00\x00", "1.5"),
    (b"\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00", "1.5"),
];

const CBOR_TAGS: &[Variant] = &[
    (b"\xd9\x03\xe8\x43abc", "\"abc\""),
    (b"\xc1\x18\x2a", "42"),
    (b"\xd9\xd9\xf7\x81\x01", "[1]"),
    (b"\x82\xd8\x20\x41u\xda\x00\x01\x00\x00\x02", "[\"u\",2]"),
];

const CBOR_STRINGREFS: &[Variant] = &[
    (b"\xd9\x01\x00\x82\x45hello\xd8\x19\x00", "[\"hello\",\"hello\"]"),
    (b"\xd9\x01\x00\x83\x45hello\x46second\xd8\x19\x01", "[\"hello\",\"second\",\"second\"]"),
    (
        b"!\xd9\x01\x00\x84\x40\x43snd\x58{LEN}{ME}\x82\x45hello\xd8\x19\x02",
        "[\"hello\",\"hello\"]",
    ),
];

const CBOR_SHARED: &[Variant] = &[
    (b"\x82\xd8\x1c\x81\x01\xd8\x1d\x00", "[[1],[1]]"),
    (b"\x82\xd8\x1c\xa1\x41k\x02\xd8\x1d\x00", "[{\"k\":2},{\"k\":2}]"),
];

const CBOR_TEXT: &[Variant] = &[
    (b"!\x84\x60\x63snd\x78{LEN}{ME}\x61x", "\"x\""),
    (b"!\x84\x60\x43snd\x58{LEN}{ME}\x61x", "\"x\""),
    (b"!\x84\x40\x63snd\x58{LEN}{ME}\xa1\x61k\x61v", "{\"k\":\"v\"}"),
];

const STORABLE_STRINGS: &[Variant] = &[
    (b"\x0a\x03abc", "\"abc\""),
    (b"\x01\x00\x00\x00\x03abc", "\"abc\""),
    (b"\x17\x02\xc3\xa9", "\"\u{e9}\""),
    (b"\x18\x00\x00\x00\x03\xe2\x82\xac", "\"\u{20ac}\""),
    (b"\x0a\x00", "\"\""),
];

const STORABLE_NUMBERS: &[Variant] = &[
    (b"\x08\x81", "1"),
    (b"\x08\x00", "-128"),
    (b"\x09\x00\x01\x00\x00", "65536"),
    (b"\x09\xff\xff\xff\xff", "-1"),
    (b"\x0a\x0a4294967296", "4294967296"),
    (b"\x0a\x031.5", "1.5"),
];

const STORABLE_REFS: &[Variant] = &[
    // Values are numbered in the order in which they begin: the packet is 0, its first string 1, and so on.
    (b"\x04\x02\x00\x00\x00\x02\x0a\x05hello\x00\x00\x00\x00\x06", "[\"hello\",\"hello\"]"),
    (
        b"\x04\x02\x00\x00\x00\x02\x04\x02\x00\x00\x00\x01\x08\x81\x04\x00\x00\x00\x00\x07",
        "[[1],[1]]",
    ),
];

const STORABLE_HASHES: &[Variant] = &[
    (b"\x04\x03\x00\x00\x00\x01\x08\x81\x00\x00\x00\x01k", "{\"k\":1}"),
    (b"\x04\x19\x00\x00\x00\x00\x01\x08\x81\x00\x00\x00\x00\x01k", "{\"k\":1}"),
    (b"\x04\x19\x00\x00\x00\x00\x01\x08\x81\x01\x00\x00\x00\x02\xc3\xa9", "{\"\u{e9}\":1}"),
    (b"\x04\x03\x00\x00\x00\x00", "{}"),
];

const STORABLE_UNDEF: &[Variant] =
    &[(b"\x05", "null"), (b"\x0e", "null"), (b"\x04\x02\x00\x00\x00\x02\x05\x0e", "[null,null]")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::framing::{Decoder, FramingLimits, Step};

    fn meaning(framing: Framing, octets: &[u8]) -> Json {
        let mut decoder = Decoder::new(framing, FramingLimits::default());
        let mut at = 0;
        loop {
            match decoder.next(&octets[at..]) {
                Ok(Step::Packet { used, elements }) => {
                    at += used;
                    let values = elements.to_values().unwrap();
                    if values.len() == 4 {
                        assert!(pattern::matches_packet(
                            &json!(["", "snd", "me#echo", crate::conform::checks::ANY]),
                            &values
                        ));
                        return pattern::to_json(&values[3]);
                    }
                }
                other => panic!("{octets:x?}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_unusual_encodings_mean_the_stated_values() {
        let all = [
            (Framing::Json, [JSON_SPACE, JSON_ESCAPES, JSON_NUMBERS].concat()),
            (
                Framing::Cbor,
                [
                    CBOR_INDEFINITE,
                    CBOR_HEADS,
                    CBOR_FLOATS,
                    CBOR_TAGS,
                    CBOR_STRINGREFS,
                    CBOR_SHARED,
                    CBOR_TEXT,
                ]
                .concat(),
            ),
            (
                Framing::Storable,
                [
                    STORABLE_STRINGS,
                    STORABLE_NUMBERS,
                    STORABLE_REFS,
                    STORABLE_HASHES,
                    STORABLE_UNDEF,
                ]
                .concat(),
            ),
        ];
        for (framing, variants) in all {
            for (octets, said) in variants {
                let packet = match octets.strip_prefix(b"!") {
                    Some(packet) => fill_in(packet, "me"),
                    None => request(framing, "me", octets),
                };
                let said: Json = serde_json::from_str(said).unwrap();
                let found = meaning(framing, &packet);
                let same = found == said
                    || found.as_f64().is_some_and(|number| Some(number) == said.as_f64())
                    || found.as_str() == Some(&*said.to_string());
                assert!(same, "{framing} {packet:x?}: {found} is not {said}");
            }
        }
    }
}
