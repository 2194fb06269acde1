//! §2: the three framings.

pub(super) mod each;
pub(super) mod unusual;

use super::greeting::framings_of;
use crate::conform::context::Ctx;
use crate::conform::session::Session;
use crate::conform::shake;
use crate::conform::stop::{Stop, Verdict, ensure, skip};
use crate::value::Value;
use crate::value::packed::Reader;
use crate::wire::framing::Framing;
use serde_json::Value as Json;

/// A handshake that lists only this framing and sends only this one.
pub(super) async fn speaking(c: &Ctx, framing: Framing) -> Verdict<Session> {
    let mut shake = c.shake("a");
    shake.framings = vec![framing.name().to_owned()];
    shake.framing = Some(framing.name().to_owned());
    let mut conn = c.connect("a").await?;
    let agreed = shake::agree(&mut conn, &shake).await;
    if let Ok(agreed) = &agreed
        && !framings_of(&agreed.greeted.peer.framings).contains(&framing)
    {
        return skip(format!("it does not speak {framing}"));
    }
    shake::into_session(conn, &shake, agreed?).map_err(Stop::from)
}

/// Octets of `["", "snd", "ME#echo", VALUE]`, of which VALUE is given in the framing.
fn request(framing: Framing, me: &str, value: &[u8]) -> Vec<u8> {
    let to = format!("{me}#echo");
    match framing {
        Framing::Json => [br#"["","snd","#, to_json(&to).as_bytes(), b",", value, b"]"].concat(),
        Framing::Cbor => {
            let name = u8::try_from(to.len()).unwrap_or(u8::MAX);
            [b"\x84\x40\x43snd\x58", &[name][..], to.as_bytes(), value].concat()
        }
        Framing::Storable => {
            let name = u8::try_from(to.len()).unwrap_or(u8::MAX);
            let items: &[&[u8]] = &[b"\x0a\x00\x0a\x03snd\x0a", &[name], to.as_bytes(), value];
            image(4, &items.concat())
        }
    }
}

/// Values with unregistered tags, or with nested tags.
pub(super) const TAGGED: &[&[u8]] = &[
    b"\xd9\x03\xe8\x82\x01\x41x",
    b"\xd8\x64\xd8\x65\xa1\x41a\xd8\x66\x01",
    b"\x82\xd9\x01\x02\x82\x01\x02\xda\x00\x01\x00\x00\x80",
];

/// Fails if what came back is not the value in packed form, tags included.
pub(super) fn ensure_tags(octets: &[u8], back: Option<&Value>) -> Verdict {
    let sent = Value::from_packed(&mut Reader::new(octets));
    let sent = sent.map_err(|error| Stop::Miss(error.to_string()))?;
    ensure(back.is_some_and(|back| sent.perl_eq(back)), || {
        let back = back.map_or_else(|| "nothing".to_owned(), Value::to_string);
        format!("{sent} came back as {back}")
    })
}

fn to_json(text: &str) -> String {
    Json::from(text).to_string()
}

/// A Storable image of an array, preceded by its length.
fn image(count: u8, items: &[u8]) -> Vec<u8> {
    let body = [b"\x05\x0b\x02\x00\x00\x00", &[count][..], items].concat();
    let mut length = vec![u8::try_from(body.len() & 127).unwrap_or_default()];
    let mut rest = body.len() >> 7;
    while rest > 0 {
        length.insert(0, 128 | u8::try_from(rest & 127).unwrap_or_default());
        rest >>= 7;
    }
    [length, body].concat()
}
