//! How a node copes with faulty peers: garbage and malformed requests.

use super::REST;
use crate::conform::check::{Check, Description, check, run};
use crate::conform::context::Ctx;
use crate::conform::shake::Shake;
use crate::conform::stop::Verdict;
use crate::wire::framing::Framing;
use serde_json::{Value as Json, json};

/// The checks of garbage and malformed requests. Closing the connection is ours; the reference does not.
pub(super) const CHECKS: &[Check] = &[
    garbage("bad-json-object", "An object is not a packet: it closes (json).")
        .by(run!(closes(Framing::Json, b"{\"a\":1}"))),
    garbage("bad-json-null", "An array that begins with null is not a packet (json).")
        .by(run!(closes(Framing::Json, b"[null,\"x\"]"))),
    garbage("bad-json-array", "An array that begins with an array is not a packet (json).")
        .by(run!(closes(Framing::Json, b"[[\"x\"],1]"))),
    garbage("bad-json-text", "Invalid JSON closes the connection (json).")
        .by(run!(closes(Framing::Json, b"nonsense"))),
    garbage("bad-json-utf8", "Invalid UTF-8 closes the connection (json).")
        .by(run!(closes(Framing::Json, b"[\"port\",\"\xff\"]"))),
    garbage("bad-json-deep", "More than 512 levels close the connection (json).")
        .by(run!(closes(Framing::Json, &[b'['; 600]))),
    garbage("bad-cbor-map", "A map is not a packet: it closes (cbor).")
        .by(run!(closes(Framing::Cbor, b"\xa1\x41a\x01"))),
    garbage("bad-cbor-null", "An array that begins with null is not a packet (cbor).")
        .by(run!(closes(Framing::Cbor, b"\x82\xf6\x01"))),
    garbage("bad-cbor-break", "A break without a beginning closes the connection (cbor).")
        .by(run!(closes(Framing::Cbor, b"\xff"))),
    garbage("bad-cbor-reserved", "A reserved head closes the connection (cbor).")
        .by(run!(closes(Framing::Cbor, b"\x82\x41x\x1c"))),
    garbage("bad-cbor-deep", "More than 512 levels close the connection (cbor).")
        .by(run!(closes(Framing::Cbor, &[0x81; 600]))),
    garbage("bad-storable-version", "Another version closes the connection (storable).")
        .by(run!(closes(Framing::Storable, b"\x09\x04\x0b\x02\x00\x00\x00\x01\x08\x81"))),
    garbage("bad-storable-hash", "A hash is not a packet: it closes (storable).")
        .by(run!(closes(Framing::Storable, b"\x07\x05\x0b\x03\x00\x00\x00\x00"))),
    garbage("bad-storable-opcode", "An unknown opcode closes the connection (storable).")
        .by(run!(closes(Framing::Storable, b"\x08\x05\x0b\x02\x00\x00\x00\x01\x7f"))),
    garbage("bad-storable-cut", "An image that ends inside a value closes (storable).")
        .by(run!(closes(Framing::Storable, b"\x09\x05\x0b\x02\x00\x00\x00\x01\x0a\x7f"))),
    garbage("bad-storable-code", "Code in an image closes the connection (storable).").by(run!(
        closes(Framing::Storable, b"\x0e\x05\x0b\x02\x00\x00\x00\x01\x04\x1a\x0a\x03{1}\x00")
    )),
    check("bad-before", "2d", "Packets before garbage take effect.")
        .ours()
        .dial()
        .by(run!(before)),
    check("bad-others", "2d", "Garbage on one connection does not affect the others.")
        .ours()
        .dial()
        .by(run!(others)),
    senseless("odd-mon", "Ignores mon1 and mon0 with missing or wrong arguments.").by(run!(ignores(json!([["", "mon1"], ["", "mon0"], ["", "mon0", [1]]])))),
    senseless("odd-kil", "Ignores kil0 and kil1 with missing or wrong arguments.").by(run!(ignores(json!([["", "kil0"], ["", "kil0", {"a": 1}, "x"], ["", "kil1", [], "x"]])))),
    senseless("odd-snd", "Ignores snd with a missing or wrong destination.").by(run!(ignores(json!([["", "snd"], ["", "snd", null, 1], ["", "snd", [1], 1]])))),
    senseless("odd-can", "Ignores can, time and eval with wrong arguments.").by(run!(ignores(json!([["", "can", [1]], ["", "time", {"a": 1}], ["", "eval"]])))),
    senseless("odd-name", "Ignores requests whose name is not a string.").by(run!(ignores(json!([["", null], ["", [1]], ["", {"a": 1}], ["", 42]])))),
    senseless("odd-spawn", "Ignores a spawn with missing or wrong arguments.").by(run!(ignores(json!([["", "AnyEvent::MP::_spawn"], ["", "AnyEvent::MP::_spawn", [1], [2]], ["", "AnyEvent::MP::_spawn", null, "x"]])))),
    senseless("odd-g-slave", "Ignores g_slave with something other than a database.").by(run!(ignores(json!([["", "g_slave", 1], ["", "g_slave", [1]], ["", "g_slave", {"conform": 1}]])))),
    senseless("odd-g-upd", "Ignores g_upd with something other than entries.").by(run!(ignores(json!([["", "g_upd"], ["", "g_upd", "conform", 1], ["", "g_upd", "conform", [1], {"a": 1}], ["", "g_upd", [1], {"a": 1}]])))),
    senseless("odd-g-set", "Ignores g_set with something other than a database.").by(run!(ignores(json!([["", "g_set"], ["", "g_set", 1], ["", "g_set", [1]]])))),
    senseless("odd-g-find", "Ignores searches and queries without arguments.").by(run!(ignores(json!([["", "g_find"], ["", "g_find", [1]], ["", "g_db_family"], ["", "g_db_keys", {"a": 1}], ["", "g_mon1"], ["", "g_mon0"]])))),
    senseless("odd-g-answers", "Ignores answers that nobody asked for.").by(run!(ignores(json!([["", "g_found", "nobody", ["127.0.0.1:1"]], ["", "g_reply", "no such query", {}], ["", "g_chg1", "conform", {"a": 1}], ["", "g_chg2", "conform", {"a": 1}, []]])))),
];

const fn garbage(id: &'static str, sentence: &'static str) -> Description {
    check(id, "2d", sentence).ours()
}

const fn senseless(id: &'static str, sentence: &'static str) -> Description {
    check(id, "3c", sentence).ours()
}

fn only(c: &Ctx, framing: Framing) -> Shake {
    let framing = framing.name().to_owned();
    Shake { framings: vec![framing.clone()], framing: Some(framing), ..c.shake("a") }
}

async fn closes(c: Ctx, framing: Framing, octets: &'static [u8]) -> Verdict {
    let mut session = c.meet_as("a", &only(&c, framing)).await?;
    session.barrier().await?;
    session.raw(octets).await?;
    session.expect_closed(c.target.patience).await
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

/// These packets have no effect.
async fn ignores(c: Ctx, packets: Json) -> Verdict {
    let mut session = c.meet("a").await?;
    for packet in packets.as_array().into_iter().flatten() {
        session.send(packet.clone()).await?;
        session.still_works(&packet.to_string()).await?;
    }
    session.nothing(json!(["", "kil1", REST])).await
}
