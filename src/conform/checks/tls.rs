//! §1.4 to §1.6: TLS, in both roles, whoever dialled.

use crate::conform::check::{Check, check, run};
use crate::conform::context::Ctx;
use crate::conform::session::encoded;
use crate::conform::shake::{self, CompletedHandshake, Shake, Token};
use crate::conform::stop::{Verdict, ensure, skip};
use crate::conform::tls::{Identity, Tls, is_trusted};
use crate::wire::framing::Framing;
use serde_json::json;
use std::sync::Arc;

/// A nonce that is smaller than any node's, so that the suite is the TLS client.
pub(super) const SMALLEST: &[u8] = b"!";
/// A nonce that is greater than any node's, so that the suite is the TLS server.
pub(super) const GREATEST: &[u8] = b"~";

/// The checks of TLS.
pub(super) const CHECKS: &[Check] = &[
    check("tls-server", "1.6c", "Is the TLS server if its nonce is the greater one.")
        .by(run!(up(SMALLEST, |_| {}))),
    check("tls-client", "1.6c", "Is the TLS client if its nonce is the smaller one.")
        .by(run!(up(GREATEST, |_| {}))),
    check("tls-token", "1.5d", "Inside TLS tls_sha3_512 is the hash of its greeting, then ours.")
        .by(run!(token)),
    check("tls-presents", "1.6a", "Presents the certificate of the network as server.")
        .by(run!(presents(SMALLEST))),
    check("tls-client-presents", "1.6a", "Presents the certificate of the network as client.")
        .by(run!(presents(GREATEST))),
    check("tls-hmac", "1.5c", "Takes hmac_sha3_512 inside TLS too.").by(run!(hmac)),
    check(
        "tls-only-hmac",
        "1.4a",
        "Sends hmac_sha3_512 inside TLS to a peer that lists only that.",
    )
    .ours()
    .by(run!(only_hmac)),
    check("tls-13", "1.6d", "Speaks TLS 1.3.")
        .should()
        .by(run!(up(SMALLEST, |tls| tls.only = Some(&rustls::version::TLS13)))),
    check("tls-12", "1.6d", "Speaks TLS 1.2.")
        .should()
        .by(run!(up(SMALLEST, |tls| tls.only = Some(&rustls::version::TLS12)))),
    check("tls-early", "1f", "Takes packets after the authentication line inside TLS.")
        .by(run!(early)),
    check("tls-1.7", "1.4d", "Any tls=1.x wants TLS.").by(run!(minor_version)),
    check("tls-2.0", "1.4d", "A key tls=2.0 is no wish for this TLS.").by(run!(without("2.0"))),
    check("tls-absent", "1.4d", "Does not use TLS with a peer that does not offer it.")
        .by(run!(without(""))),
    check("tls-stranger", "1.6b", "As server refuses a certificate that nobody trusts.")
        .by(run!(stranger(SMALLEST))),
    check("tls-client-stranger", "1.6b", "As client refuses a certificate that nobody trusts.")
        .by(run!(stranger(GREATEST))),
    check("tls-anonymous", "1.6b", "Refuses a client without a certificate.").by(run!(anonymous)),
    check("tls-swapped", "1.5d", "Refuses a tls_sha3_512 token with the greetings exchanged.")
        .by(run!(refused_token(Some("tls_sha3_512"), Token::Swapped))),
    check("tls-empty", "1.5d", "Refuses an empty tls_sha3_512 token.")
        .by(run!(refused_token(Some("tls_sha3_512"), Token::Exactly(String::new())))),
    check("tls-wrong-secret", "1.5g", "Refuses a wrong HMAC inside TLS.")
        .by(run!(refused_token(Some("hmac_sha3_512"), Token::Swapped))),
    check("tls-plain", "1.4d", "Refuses a peer that offered TLS and goes on without it.")
        .by(run!(goes_on_plain)),
];

fn in_tls(c: &Ctx, nonce: &[u8]) -> Verdict<Shake> {
    let tls = Tls::new(c.identity()?);
    Ok(Shake { tls: Some(tls), nonce: Some(nonce.to_vec()), ..c.shake("a") })
}

async fn up(c: Ctx, nonce: &[u8], change: fn(&mut Tls)) -> Verdict {
    let mut shake = in_tls(&c, nonce)?;
    if let Some(tls) = &mut shake.tls {
        change(tls);
    }
    c.is_taken(&shake).await
}

async fn agreed(c: &Ctx, shake: &Shake) -> Verdict<CompletedHandshake> {
    let mut conn = c.connect("a").await?;
    let agreed = shake::agree(&mut conn, shake).await?;
    ensure(agreed.in_tls, || "its greeting does not offer TLS".to_owned())?;
    Ok(agreed)
}

async fn token(c: Ctx) -> Verdict {
    let mut shake = in_tls(&c, SMALLEST)?;
    shake.auth.retain(|method| method == "tls_sha3_512");
    let CompletedHandshake { auth, .. } = agreed(&c, &shake).await?;
    ensure(auth.method == "tls_sha3_512", || format!("it sends {:?}", auth.method))?;
    ensure(auth.is_proof, || "the token is not the one that the greetings ask for".to_owned())
}

async fn presents(c: Ctx, nonce: &[u8]) -> Verdict {
    let identity = c.identity()?;
    let CompletedHandshake { presented, .. } = agreed(&c, &in_tls(&c, nonce)?).await?;
    let is_trusted = presented.is_some_and(|presented| is_trusted(&identity, &presented));
    ensure(is_trusted, || "it presents no certificate that --cert trusts".to_owned())
}

async fn hmac(c: Ctx) -> Verdict {
    c.secret()?;
    let method = Some("hmac_sha3_512".to_owned());
    c.is_taken(&Shake { method, ..in_tls(&c, SMALLEST)? }).await
}

async fn only_hmac(c: Ctx) -> Verdict {
    c.secret()?;
    let auth = vec!["hmac_sha3_512".to_owned()];
    c.is_taken(&Shake { auth, ..in_tls(&c, SMALLEST)? }).await
}

async fn early(c: Ctx) -> Verdict {
    let mut shake = in_tls(&c, SMALLEST)?;
    let framing = c.target.framing.unwrap_or(Framing::Json);
    shake.framing = Some(framing.name().to_owned());
    let to = format!("{}#early", shake.node);
    shake.early = encoded(framing, &json!(["", "snd", to, "hello"]))?;
    let mut session = c.meet_as("a", &shake).await?;
    session.expect(json!(["early", "hello"])).await?;
    Ok(())
}

async fn minor_version(c: Ctx) -> Verdict {
    let mut shake = in_tls(&c, SMALLEST)?;
    shake.keys.push(("tls".to_owned(), "1.7".to_owned()));
    // Otherwise the greeting would have the key twice.
    let tls = shake.tls.take();
    let mut conn = c.connect("a").await?;
    let greeted = shake::greet(&mut conn, &shake).await?;
    let Some(tls) = tls else { return Ok(()) };
    conn.start_tls(greeted.we_are_client(), &tls).await?;
    let sends = shake::say_auth(&mut conn, &shake, &greeted, true).await?;
    let auth = shake::hear_auth(&mut conn, &shake, &greeted, true).await?;
    let agreed = CompletedHandshake { greeted, auth, sends, presented: None, in_tls: true };
    let mut session = shake::into_session(conn, &shake, agreed)?;
    session.barrier().await
}

async fn without(c: Ctx, claim: &str) -> Verdict {
    c.identity()?;
    let shake = Shake { claims_tls: Some(claim.to_owned()), ..c.plain("a")? };
    c.is_taken(&shake).await
}

async fn stranger(c: Ctx, nonce: &'static [u8]) -> Verdict {
    let mut shake = in_tls(&c, nonce)?;
    let stranger = Identity::stranger().map_err(|error| {
        crate::conform::stop::Stop::Skip(format!("cannot make a certificate: {error}"))
    })?;
    shake.tls = Some(Tls::new(Arc::new(stranger)));
    c.is_refused(&shake).await
}

async fn anonymous(c: Ctx) -> Verdict {
    let mut shake = in_tls(&c, SMALLEST)?;
    shake.tls = Some(Tls { presents: None, only: None });
    shake.method = Some("tls_sha3_512".to_owned());
    c.is_refused(&shake).await
}

async fn refused_token(c: Ctx, method: Option<&str>, token: Token) -> Verdict {
    if method == Some("hmac_sha3_512") {
        c.secret()?;
    }
    let method = method.map(str::to_owned);
    c.is_refused(&Shake { method, token, ..in_tls(&c, SMALLEST)? }).await
}

async fn goes_on_plain(c: Ctx) -> Verdict {
    c.identity()?;
    if c.target.secret.is_none() {
        return skip("needs the secret of the network: --secret");
    }
    // With the greatest nonce the node does not wait for a TLS client.
    let shake = Shake {
        claims_tls: Some("1.0".to_owned()),
        nonce: Some(SMALLEST.to_vec()),
        ..c.plain("a")?
    };
    c.is_refused(&shake).await
}
