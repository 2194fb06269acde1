//! §2: values in each framing, and packets split at any octet.

use super::{request, speaking};
use crate::conform::check::{Check, check, run};
use crate::conform::checks::REST;
use crate::conform::context::Ctx;
use crate::conform::pattern;
use crate::conform::session::{encoded, show_packet};
use crate::conform::stop::{Verdict, ensure};
use crate::value::Value;
use crate::wire::framing::{Decoder, Framing, FramingLimits, Step};
use crate::wire::hex;
use serde_json::{Value as Json, json};

/// Values as Perl's own encoders write them in `["port1","tag",VALUE]`.
const VALUES: &str = include_str!("../../../../fixtures/values.jsonl");

macro_rules! for_each_framing {
    ($($id:literal $statement:literal $sentence:literal $run:ident;)*) => {
        &[$(
            check(concat!($id, "-json"), $statement, concat!($sentence, " (json)"))
                .by(run!($run(Framing::Json))),
            check(concat!($id, "-cbor"), $statement, concat!($sentence, " (cbor)"))
                .by(run!($run(Framing::Cbor))),
            check(concat!($id, "-storable"), $statement, concat!($sentence, " (storable)"))
                .by(run!($run(Framing::Storable))),
        )*]
    };
}

/// The checks that are the same for every framing.
pub(in crate::conform::checks) const CHECKS: &[Check] = for_each_framing! {
    "strings" "2.1a" "Strings of octets and of characters pass unchanged." strings;
    "numbers" "2.1c" "Numbers pass as the same numbers." numbers;
    "structures" "2.1a" "Arrays, hashes, undef and booleans pass unchanged." structures;
    "cut" "2a" "A packet may be cut at any of its octets." cut;
    "packed" "2a" "A hundred packets may come in one read, the last one cut." packed;
    "large" "2.1f" "A string of one MiB passes." large;
    "deep" "2.1e" "Five hundred levels pass." deep;
    "hash-large" "2.1f" "A hash of a thousand keys passes." large_hash;
};

/// How a value that comes back is compared.
enum Comparison {
    Exactly,
    Number,
}

/// The value in a recorded packet `["port1","tag",VALUE]`: its octets and its meaning.
fn recorded(framing: Framing, packet: &[u8]) -> Option<(Vec<u8>, Value)> {
    let value = match framing {
        Framing::Json => packet.strip_prefix(br#"["port1","tag","#)?.strip_suffix(b"]")?.to_vec(),
        Framing::Cbor => packet.strip_prefix(b"\x83\x45port1\x43tag")?.to_vec(),
        Framing::Storable => {
            let body = packet.iter().position(|octet| octet & 128 == 0)? + 1;
            let body = packet.get(body..)?;
            let array = body.strip_prefix(b"\x05\x0b\x02\x00\x00\x00\x03")?;
            array.strip_prefix(b"\x0a\x05port1\x0a\x03tag")?.to_vec()
        }
    };
    let mut decoder = Decoder::new(framing, FramingLimits::default());
    let Ok(Step::Packet { elements, .. }) = decoder.next(packet) else {
        return None;
    };
    let meaning = elements.to_values().ok()?.pop()?;
    Some((value, meaning))
}

/// Sends all recorded values of a kind to the node and back.
async fn values(c: Ctx, framing: Framing, is_kind: fn(&str) -> bool, same: Comparison) -> Verdict {
    let mut session = speaking(&c, framing).await?;
    let mut count = 0;
    for line in VALUES.lines() {
        let Ok(recording) = serde_json::from_str::<Json>(line) else {
            continue;
        };
        let name = recording.get("name").and_then(Json::as_str).unwrap_or_default();
        if !is_kind(name) || matches!(name, "inf" | "nan") {
            continue;
        }
        let octets = recording.get(framing.name()).and_then(Json::as_str).and_then(hex::decode);
        let Some((octets, meaning)) = octets.and_then(|octets| recorded(framing, &octets)) else {
            continue;
        };
        count += 1;
        session.raw(&request(framing, &session.me, &octets)).await?;
        let answer = session.expect(json!(["echo", REST])).await?;
        let is_same = match (&same, &answer[..]) {
            (Comparison::Exactly, [_, back]) => arrives_as(&meaning, back),
            (Comparison::Number, [_, back]) => is_same_number(&meaning, back),
            _ => false,
        };
        ensure(is_same, || {
            let sent = show_packet(std::slice::from_ref(&meaning));
            format!(
                "the value {name:?} was sent as {sent} and came back in {}",
                show_packet(&answer)
            )
        })?;
    }
    ensure(count > 0, || "the suite lost its values".to_owned())
}

/// Equal, apart from what framings may change: booleans in Storable, and numbers as strings.
fn arrives_as(sent: &Value, back: &Value) -> bool {
    match (sent, back) {
        (Value::Array(sent), Value::Array(back)) => {
            sent.len() == back.len() && sent.iter().zip(back).all(|(s, b)| arrives_as(s, b))
        }
        (Value::Hash(sent), Value::Hash(back)) => {
            sent.len() == back.len()
                && sent
                    .iter()
                    .all(|(key, sent)| back.get(key).is_some_and(|back| arrives_as(sent, back)))
        }
        // A reference to a number is a boolean in some framings, and a number in others.
        (Value::Bool(_), _) | (_, Value::Bool(_)) => {
            sent.is_true() == back.is_true() && !sent.is_undef() && !back.is_undef()
        }
        _ => sent.perl_eq(back),
    }
}

/// Equal to fifteen digits, the precision with which Perl writes numbers.
fn is_same_number(sent: &Value, back: &Value) -> bool {
    let number = |value: &Value| value.to_number().map(|number| number.to_f64());
    match (sent.to_integer(), back.to_integer(), number(sent), number(back)) {
        (Some(sent), Some(back), ..) => sent == back,
        (_, _, Some(sent), Some(back)) => (sent - back).abs() <= sent.abs() * 1e-14,
        _ => sent.perl_eq(back),
    }
}

async fn strings(c: Ctx, framing: Framing) -> Verdict {
    let is_kind =
        |name: &str| !name.starts_with("int ") && !name.starts_with("float") && !is_structure(name);
    values(c, framing, is_kind, Comparison::Exactly).await
}

fn is_structure(name: &str) -> bool {
    ["array", "hash", "undef", "true", "false", "scalar ref"]
        .iter()
        .any(|word| name.contains(word) && !name.contains("perl "))
}

async fn numbers(c: Ctx, framing: Framing) -> Verdict {
    let is_kind = |name: &str| name.starts_with("int ") || name.starts_with("float");
    values(c, framing, is_kind, Comparison::Number).await
}

async fn structures(c: Ctx, framing: Framing) -> Verdict {
    values(c, framing, is_structure, Comparison::Exactly).await
}

async fn cut(c: Ctx, framing: Framing) -> Verdict {
    let mut session = speaking(&c, framing).await?;
    let (to, read) = (session.port("cut"), session.port("read"));
    let packet = json!(["", "snd", to, "\u{e9}\u{20ac}", [1, -500, {"k": null}]]);
    let whole = encoded(framing, &packet)?;
    for at in 1..whole.len() {
        let (first, rest) = whole.split_at(at);
        // The answer shows that the node has read this, and so the first part without the rest.
        let mut octets = encoded(framing, &json!(["", "snd", read, at]))?;
        octets.extend(first);
        session.raw(&octets).await?;
        session.expect(json!(["read", at])).await?;
        session.raw(rest).await?;
        session.expect(json!(["cut", "\u{e9}\u{20ac}", [1, -500, {"k": null}]])).await?;
    }
    Ok(())
}

async fn packed(c: Ctx, framing: Framing) -> Verdict {
    let mut session = speaking(&c, framing).await?;
    let to = session.port("packed");
    let mut octets = Vec::new();
    for number in 0..=100 {
        octets.extend(encoded(framing, &json!(["", "snd", to, number]))?);
    }
    let (most, end) = octets.split_at(octets.len() - 3);
    session.raw(most).await?;
    for number in 0..100 {
        session.expect_first(json!(["packed", REST]), json!(["packed", number])).await?;
    }
    session.raw(end).await?;
    session.expect_first(json!(["packed", REST]), json!(["packed", 100])).await?;
    Ok(())
}

async fn large(c: Ctx, framing: Framing) -> Verdict {
    let mut session = speaking(&c, framing).await?;
    let text = "large".repeat(200_000);
    session.send(json!(["", "snd", session.port("large"), text])).await?;
    let back = session.expect(json!(["large", REST])).await?;
    let is_same = pattern::matches_packet(&json!(["large", text]), &back);
    ensure(is_same, || "the string came back otherwise".to_owned())
}

async fn deep(c: Ctx, framing: Framing) -> Verdict {
    let mut session = speaking(&c, framing).await?;
    let mut value = json!("bottom");
    for _ in 0..499 {
        value = json!([value]);
    }
    session.send(json!(["", "snd", session.port("deep"), value])).await?;
    let back = session.expect(json!(["deep", REST])).await?;
    let is_same = pattern::matches_packet(&json!(["deep", value]), &back);
    ensure(is_same, || "the arrays came back otherwise".to_owned())
}

async fn large_hash(c: Ctx, framing: Framing) -> Verdict {
    let mut session = speaking(&c, framing).await?;
    let pairs = (0..1000).map(|number| (format!("key {number}"), json!(number)));
    let hash = Json::Object(pairs.collect());
    session.send(json!(["", "snd", session.port("hash"), hash])).await?;
    let back = session.expect(json!(["hash", REST])).await?;
    let is_same = pattern::matches_packet(&json!(["hash", hash]), &back);
    ensure(is_same, || "the hash came back otherwise".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_value_is_found_in_its_packet() {
        for framing in Framing::ALL {
            let found = VALUES.lines().filter(|line| {
                let recording: Json = serde_json::from_str(line).unwrap();
                let octets =
                    recording[framing.name()].as_str().and_then(hex::decode).unwrap_or_default();
                recorded(framing, &octets).is_some()
            });
            assert!(found.count() >= 50, "{framing}");
        }
    }
}
