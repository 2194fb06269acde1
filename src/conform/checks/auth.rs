//! §1.4 and §1.5: the node's choice of method and framing, and authentication.

use super::greeting::{framings_of, hears_auth, taken};
use crate::conform::check::{Check, check, run};
use crate::conform::context::Ctx;
use crate::conform::position::Position;
use crate::conform::shake::{self, CompletedHandshake, Shake};
use crate::conform::stop::{Verdict, ensure, skip};
use crate::wire::framing::Framing;
use serde_json::json;

/// The checks of choices and tokens.
pub(super) const CHECKS: &[Check] = &[
    check("auth-unasked", "1b", "Sends its authentication line without waiting for ours.")
        .by(run!(says_unasked)),
    check("auth-hmac", "1.5c", "hmac_sha3_512 is the HMAC of its greeting, then ours.")
        .by(run!(hmac)),
    check("auth-form", "1.5c", "The token is in lower case hex, 128 digits.").by(run!(form)),
    check("auth-more", "1.5b", "Ignores further fields of the authentication line.")
        .by(run!(taken(|s| s.more = ";key=value;more".into()))),
    check("auth-cleartext", "1.5f", "Takes the secret itself, if it lists cleartext.")
        .should()
        .by(run!(cleartext)),
    check("auth-never-clear", "1.5f", "Never sends cleartext, even if it is listed first.")
        .should()
        .by(run!(never_clear)),
    check("auth-choice", "1.4a", "Sends the first method of our list that it supports.")
        .by(run!(choice)),
    check("choose-json", "1.4b", "Sends json to a peer that lists it first.")
        .by(run!(chooses(Framing::Json))),
    check("choose-cbor", "1.4b", "Sends cbor to a peer that lists it first.")
        .by(run!(chooses(Framing::Cbor))),
    check("choose-storable", "1.4b", "Sends storable to a peer that lists it first.")
        .by(run!(chooses(Framing::Storable))),
    check("mix-json-cbor", "1.4c", "Takes json while it sends cbor.")
        .by(run!(mixes(Framing::Json, Framing::Cbor))),
    check("mix-json-storable", "1.4c", "Takes json while it sends storable.")
        .by(run!(mixes(Framing::Json, Framing::Storable))),
    check("mix-cbor-json", "1.4c", "Takes cbor while it sends json.")
        .by(run!(mixes(Framing::Cbor, Framing::Json))),
    check("mix-cbor-storable", "1.4c", "Takes cbor while it sends storable.")
        .by(run!(mixes(Framing::Cbor, Framing::Storable))),
    check("mix-storable-json", "1.4c", "Takes storable while it sends json.")
        .by(run!(mixes(Framing::Storable, Framing::Json))),
    check("mix-storable-cbor", "1.4c", "Takes storable while it sends cbor.")
        .by(run!(mixes(Framing::Storable, Framing::Cbor))),
];

async fn says_unasked(c: Ctx) -> Verdict {
    hears_auth(&c).await?;
    Ok(())
}

/// A complete handshake without TLS.
async fn plain(c: &Ctx) -> Verdict<CompletedHandshake> {
    let shake = c.plain("a")?;
    let mut conn = c.connect("a").await?;
    Ok(shake::agree(&mut conn, &shake).await?)
}

async fn hmac(c: Ctx) -> Verdict {
    let CompletedHandshake { auth, .. } = plain(&c).await?;
    ensure(auth.method == "hmac_sha3_512", || format!("it sends {:?}", auth.method))?;
    ensure(auth.is_proof, || "the token is not the one that its greeting asks for".to_owned())
}

async fn form(c: Ctx) -> Verdict {
    let CompletedHandshake { auth, .. } = plain(&c).await?;
    let is_lower_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    ensure(auth.token.len() == 128 && auth.token.chars().all(is_lower_hex), || {
        format!("the token is {:?}", auth.token)
    })
}

async fn cleartext(c: Ctx) -> Verdict {
    let shake = Shake { method: Some("cleartext".to_owned()), ..c.plain("a")? };
    let mut conn = c.connect("a").await?;
    let agreed = shake::agree(&mut conn, &shake).await;
    if let Ok(CompletedHandshake { greeted, .. }) = &agreed
        && !greeted.peer.auth_methods.iter().any(|method| method == b"cleartext")
    {
        return skip("it does not list cleartext");
    }
    let mut session = shake::into_session(conn, &shake, agreed?)?;
    session.barrier().await
}

async fn never_clear(c: Ctx) -> Verdict {
    let mut shake = c.plain("a")?;
    shake.auth.insert(0, "cleartext".to_owned());
    let mut conn = c.connect("a").await?;
    let CompletedHandshake { auth, .. } = shake::agree(&mut conn, &shake).await?;
    ensure(auth.method != "cleartext", || "it sends the secret in clear".to_owned())
}

async fn choice(c: Ctx) -> Verdict {
    let mut shake = c.plain("a")?;
    shake.auth = ["x", "tls_sha3_512", "hmac_sha3_512", "cleartext"].map(str::to_owned).to_vec();
    let mut conn = c.connect("a").await?;
    let agreed = shake::agree(&mut conn, &shake).await?;
    let method = &agreed.auth.method;
    ensure(method == "hmac_sha3_512", || format!("it sends {method:?} outside of TLS"))
}

async fn chooses(c: Ctx, framing: Framing) -> Verdict {
    let mut shake = c.shake("a");
    let mut order: Vec<String> = Framing::ALL.map(|framing| framing.name().to_owned()).to_vec();
    order.sort_by_key(|name| name != framing.name());
    shake.framings = order;
    let mut conn = c.connect("a").await?;
    let agreed = shake::agree(&mut conn, &shake).await?;
    if !framings_of(&agreed.greeted.peer.framings).contains(&framing) {
        return skip(format!("it does not speak {framing}"));
    }
    let announced = &agreed.auth.framing;
    ensure(announced == framing.name(), || format!("it announces {announced:?}"))
}

async fn mixes(c: Ctx, sends: Framing, receives: Framing) -> Verdict {
    let mut shake = c.shake("a");
    shake.framings = vec![receives.name().to_owned()];
    shake.framing = Some(sends.name().to_owned());
    let mut session = match c.position() {
        Position::Dial => {
            // Its greeting is read on the connection that is then used: one before it, as the same node,
            // may still be open where the node is behind a relay, and would then be a duplicate.
            let mut conn = c.connect("a").await?;
            let greeted = shake::greet(&mut conn, &shake).await?;
            let known = framings_of(&greeted.peer.framings);
            if !known.contains(&sends) || !known.contains(&receives) {
                return skip(format!("it does not speak both {sends} and {receives}"));
            }
            let agreed = shake::authenticate(&mut conn, &shake, greeted).await?;
            shake::into_session(conn, &shake, agreed)?
        }
        // There is only one connection, on which nodes that lack a framing show it.
        Position::Listen => c.meet_as("a", &shake).await?,
    };
    let message = json!(["", "snd", session.port("mix"), "value", 1, [2, {"three": null}]]);
    session.send(message).await?;
    session.expect(json!(["mix", "value", 1, [2, {"three": null}]])).await?;
    Ok(())
}
