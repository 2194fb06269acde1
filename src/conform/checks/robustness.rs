//! What a node does with peers that err: garbage and requests that make no sense.

use super::REST;
use crate::conform::check::{Check, check};
use crate::conform::context::Ctx;
use crate::conform::shake::Shake;
use crate::conform::stop::Verdict;
use crate::wire::framing::Framing;
use serde_json::{Value as Json, json};
use std::pin::Pin;

/// Those about garbage: closing is ours, and more than the reference does.
pub(super) const CHECKS: &[Check] = &[
    garbage("bad-json-object", "An object is no packet: it closes (json).", |c| {
        closes(c, Framing::Json, b"{\"a\":1}")
    }),
    garbage("bad-json-null", "An array that begins with null is none (json).", |c| {
        closes(c, Framing::Json, b"[null,\"x\"]")
    }),
    garbage("bad-json-array", "An array that begins with an array is none (json).", |c| {
        closes(c, Framing::Json, b"[[\"x\"],1]")
    }),
    garbage("bad-json-text", "What is no JSON closes the connection (json).", |c| {
        closes(c, Framing::Json, b"nonsense")
    }),
    garbage("bad-json-utf8", "Octets that are no UTF-8 close the connection (json).", |c| {
        closes(c, Framing::Json, b"[\"port\",\"\xff\"]")
    }),
    garbage("bad-json-deep", "More than 512 levels close the connection (json).", |c| {
        closes(c, Framing::Json, &[b'['; 600])
    }),
    garbage("bad-cbor-map", "A map is no packet: it closes (cbor).", |c| {
        closes(c, Framing::Cbor, b"\xa1\x41a\x01")
    }),
    garbage("bad-cbor-null", "An array that begins with null is none (cbor).", |c| {
        closes(c, Framing::Cbor, b"\x82\xf6\x01")
    }),
    garbage("bad-cbor-break", "A break without a beginning closes the connection (cbor).", |c| {
        closes(c, Framing::Cbor, b"\xff")
    }),
    garbage("bad-cbor-reserved", "A reserved head closes the connection (cbor).", |c| {
        closes(c, Framing::Cbor, b"\x82\x41x\x1c")
    }),
    garbage("bad-cbor-deep", "More than 512 levels close the connection (cbor).", |c| {
        closes(c, Framing::Cbor, &[0x81; 600])
    }),
    garbage("bad-storable-version", "Another version closes the connection (storable).", |c| {
        closes(c, Framing::Storable, b"\x09\x04\x0b\x02\x00\x00\x00\x01\x08\x81")
    }),
    garbage("bad-storable-hash", "A hash is no packet: it closes (storable).", |c| {
        closes(c, Framing::Storable, b"\x07\x05\x0b\x03\x00\x00\x00\x00")
    }),
    garbage("bad-storable-opcode", "An unknown opcode closes the connection (storable).", |c| {
        closes(c, Framing::Storable, b"\x08\x05\x0b\x02\x00\x00\x00\x01\x7f")
    }),
    garbage(
        "bad-storable-cut",
        "An image that is shorter than its values closes (storable).",
        |c| closes(c, Framing::Storable, b"\x09\x05\x0b\x02\x00\x00\x00\x01\x0a\x7f"),
    ),
    garbage("bad-storable-code", "Code in an image closes the connection (storable).", |c| {
        closes(c, Framing::Storable, b"\x0e\x05\x0b\x02\x00\x00\x00\x01\x04\x1a\x0a\x03{1}\x00")
    }),
    check("bad-before", "2", "What came before garbage takes effect.", |c| Box::pin(before(c)))
        .ours()
        .dial(),
    check("bad-others", "2", "Garbage on one connection does not touch the others.", |c| {
        Box::pin(others(c))
    })
    .ours()
    .dial(),
    senseless("odd-mon", "Ignores mon1 and mon0 without or with odd arguments.", |c| {
        ignores(c, vec![json!(["", "mon1"]), json!(["", "mon0"]), json!(["", "mon0", [1]])])
    }),
    senseless("odd-kil", "Ignores kil0 and kil1 without or with odd arguments.", |c| {
        ignores(
            c,
            vec![
                json!(["", "kil0"]),
                json!(["", "kil0", {"a": 1}, "x"]),
                json!(["", "kil1", [], "x"]),
            ],
        )
    }),
    senseless("odd-snd", "Ignores snd without or with an odd destination.", |c| {
        ignores(
            c,
            vec![json!(["", "snd"]), json!(["", "snd", null, 1]), json!(["", "snd", [1], 1])],
        )
    }),
    senseless("odd-can", "Ignores can, time and eval with odd arguments.", |c| {
        ignores(
            c,
            vec![json!(["", "can", [1]]), json!(["", "time", {"a": 1}]), json!(["", "eval"])],
        )
    }),
    senseless("odd-name", "Ignores requests whose name is no string.", |c| {
        ignores(
            c,
            vec![json!(["", null]), json!(["", [1]]), json!(["", {"a": 1}]), json!(["", 42])],
        )
    }),
    senseless("odd-spawn", "Ignores a spawn without or with odd arguments.", |c| {
        ignores(
            c,
            vec![
                json!(["", "AnyEvent::MP::_spawn"]),
                json!(["", "AnyEvent::MP::_spawn", [1], [2]]),
                json!(["", "AnyEvent::MP::_spawn", null, "x"]),
            ],
        )
    }),
    senseless("odd-g-slave", "Ignores g_slave with what is no database.", |c| {
        ignores(
            c,
            vec![
                json!(["", "g_slave", 1]),
                json!(["", "g_slave", [1]]),
                json!(["", "g_slave", {"conform": 1}]),
            ],
        )
    }),
    senseless("odd-g-upd", "Ignores g_upd with what are no entries.", |c| {
        ignores(
            c,
            vec![
                json!(["", "g_upd"]),
                json!(["", "g_upd", "conform", 1]),
                json!(["", "g_upd", "conform", [1], {"a": 1}]),
                json!(["", "g_upd", [1], {"a": 1}]),
            ],
        )
    }),
    senseless("odd-g-set", "Ignores g_set with what is no database.", |c| {
        ignores(c, vec![json!(["", "g_set"]), json!(["", "g_set", 1]), json!(["", "g_set", [1]])])
    }),
    senseless("odd-g-find", "Ignores searches and queries without arguments.", |c| {
        ignores(
            c,
            vec![
                json!(["", "g_find"]),
                json!(["", "g_find", [1]]),
                json!(["", "g_db_family"]),
                json!(["", "g_db_keys", {"a": 1}]),
                json!(["", "g_mon1"]),
                json!(["", "g_mon0"]),
            ],
        )
    }),
    senseless("odd-g-answers", "Ignores answers that nobody asked for.", |c| {
        ignores(
            c,
            vec![
                json!(["", "g_found", "nobody", ["127.0.0.1:1"]]),
                json!(["", "g_reply", "no such query", {}]),
                json!(["", "g_chg1", "conform", {"a": 1}]),
                json!(["", "g_chg2", "conform", {"a": 1}, []]),
            ],
        )
    }),
];

type Code = fn(Ctx) -> Pin<Box<dyn Future<Output = Verdict> + Send>>;

const fn garbage(id: &'static str, sentence: &'static str, run: Code) -> Check {
    check(id, "2", sentence, run).ours()
}

const fn senseless(id: &'static str, sentence: &'static str, run: Code) -> Check {
    check(id, "3", sentence, run).ours()
}

fn only(c: &Ctx, framing: Framing) -> Shake {
    let framing = framing.name().to_owned();
    Shake { framings: vec![framing.clone()], framing: Some(framing), ..c.shake("a") }
}

fn closes(
    c: Ctx,
    framing: Framing,
    octets: &'static [u8],
) -> Pin<Box<dyn Future<Output = Verdict> + Send>> {
    Box::pin(async move {
        let mut session = c.meet_as("a", &only(&c, framing)).await?;
        session.barrier().await?;
        session.raw(octets).await?;
        session.expect_closed(c.target.patience).await
    })
}

async fn before(c: Ctx) -> Verdict {
    let mut witness = c.meet("witness").await?;
    let mut session = c.meet_as("a", &only(&c, Framing::Json)).await?;
    session.barrier().await?;
    let request = json!(["", "snd", witness.port("before"), "hello"]);
    session.raw(format!("{request}nonsense").as_bytes()).await?;
    witness.expect(json!(["before", "hello"])).await?;
    Ok(())
}

async fn others(c: Ctx) -> Verdict {
    let mut witness = c.meet("witness").await?;
    let mut session = c.meet_as("a", &only(&c, Framing::Json)).await?;
    session.barrier().await?;
    session.raw(b"nonsense").await?;
    session.expect_closed(c.target.patience).await?;
    witness.still_works("garbage of another node").await
}

/// None of these packets has an effect.
fn ignores(c: Ctx, packets: Vec<Json>) -> Pin<Box<dyn Future<Output = Verdict> + Send>> {
    Box::pin(async move {
        let mut session = c.meet("a").await?;
        for packet in packets {
            let shown = packet.to_string();
            session.send(packet).await?;
            session.still_works(&shown).await?;
        }
        session.nothing(json!(["", "kil1", REST])).await
    })
}
