//! §1.8: encryption that is bound to the secret, in both roles of TLS, whoever dialled.

use super::tls::{GREATEST, SMALLEST};
use crate::conform::check::{Check, check, run};
use crate::conform::conn::Conn;
use crate::conform::context::Ctx;
use crate::conform::shake::{self, CompletedHandshake, Greetings, Shake, Token};
use crate::conform::stop::{Seen, Stop, Verdict, ensure, miss, skip};
use crate::conform::tls::{Identity, Tls};
use crate::wire::auth::{self, AuthMethod, Exporter, Secret, TlsRole};
use std::sync::Arc;

const METHOD: &str = AuthMethod::HmacBoundSha3_512.name();

/// The checks of encryption that is bound to the secret.
pub(super) const CHECKS: &[Check] = &[
    check("bound-server", "1.8a", "Encrypts by the secret if both sides offer it.")
        .ours()
        .by(run!(up(SMALLEST))),
    check("bound-unknown", "1.8b", "Stays plain with a peer that offers it in an unknown form.")
        .ours()
        .by(run!(unknown)),
    check("bound-client", "1.8c", "Is the TLS client there if its nonce is the smaller one.")
        .ours()
        .by(run!(up(GREATEST))),
    check(
        "bound-tls-12",
        "1.8d",
        "Refuses TLS 1.2 where nothing but the secret proves who is there.",
    )
    .ours()
    .by(run!(old_tls)),
    check("bound-token", "1.8e", "Its token covers the TLS session, its role, and both greetings.")
        .ours()
        .by(run!(token)),
    check("bound-other-session", "1.8f", "Refuses the token of another TLS session.")
        .ours()
        .by(run!(other_session)),
    check("bound-hmac", "1.8g", "Refuses hmac_sha3_512 where it has to be bound.")
        .ours()
        .by(run!(plain_token)),
    check("bound-elsewhere", "1.8h", "Refuses hmac_bound_sha3_512 on a plain connection.")
        .ours()
        .by(run!(elsewhere)),
];

/// A connection in TLS, whose sides have not authenticated yet.
struct Bound {
    conn: Conn,
    shake: Shake,
    greeted: Greetings,
    secret: Secret,
    exporter: Exporter,
    own_role: TlsRole,
}

fn no_certificate_counts() -> Verdict<Tls> {
    let identity = Identity::stranger()
        .map_err(|error| Stop::Skip(format!("cannot make a certificate: {error}")))?;
    Ok(Tls { presents: Some(Arc::new(identity)), only: Some(&rustls::version::TLS13) })
}

async fn greeted(c: &Ctx, nonce: &[u8]) -> Verdict<(Conn, Shake, Greetings)> {
    let mut shake = Shake { nonce: Some(nonce.to_vec()), ..c.plain("a")? };
    shake.keys.push(("bound".to_owned(), "1".to_owned()));
    let mut conn = c.connect("a").await?;
    let greeted = shake::greet(&mut conn, &shake).await?;
    match greeted.peer.bound() {
        Some(_) => Ok((conn, shake, greeted)),
        None => skip("its greeting does not offer encryption by the secret (bound)"),
    }
}

async fn bound(c: &Ctx, nonce: &[u8]) -> Verdict<Bound> {
    let Some(secret) = Secret::new(c.secret()?) else { return skip("the secret is empty") };
    let (mut conn, shake, greeted) = greeted(c, nonce).await?;
    conn.start_tls(greeted.we_are_client(), &no_certificate_counts()?).await?;
    let exporter = conn.exporter.clone();
    let exporter = exporter.ok_or(Seen::Wrong("its TLS exports nothing".to_owned()))?;
    let own_role = if greeted.we_are_client() { TlsRole::Client } else { TlsRole::Server };
    Ok(Bound { conn, shake, greeted, secret, exporter, own_role })
}

impl Bound {
    /// Sends our authentication line, reads the node's, and tells whether its token is right.
    async fn agree(mut self) -> Verdict<(Conn, Shake, CompletedHandshake)> {
        let own = &self.greeted.own;
        let peer = self.greeted.peer_lines();
        let (secret, exporter) = (&self.secret, &self.exporter);
        let token = auth::bound_token(secret, exporter, self.own_role, own, &peer);
        self.shake.method = Some(METHOD.to_owned());
        self.shake.token = Token::Exactly(token.unwrap_or_default());
        let sends = shake::say_auth(&mut self.conn, &self.shake, &self.greeted, false).await?;
        let mut auth = shake::hear_auth(&mut self.conn, &self.shake, &self.greeted, false).await?;
        let its_role = self.own_role.other();
        auth.is_proof = auth.method == METHOD
            && auth::verify_bound(secret, auth.token.as_bytes(), exporter, its_role, &peer, own);
        let greeted = self.greeted;
        let agreed = CompletedHandshake { greeted, auth, sends, presented: None, in_tls: true };
        Ok((self.conn, self.shake, agreed))
    }

    /// The node closes the connection when it is sent this.
    async fn refuses(mut self, c: &Ctx, method: &str, token: Token) -> Verdict {
        self.shake.method = Some(method.to_owned());
        self.shake.token = token;
        shake::say_auth(&mut self.conn, &self.shake, &self.greeted, false).await?;
        Ok(self.conn.wait_closed(c.target.patience).await?)
    }
}

async fn up(c: Ctx, nonce: &[u8]) -> Verdict {
    let (conn, shake, agreed) = bound(&c, nonce).await?.agree().await?;
    let mut session = shake::into_session(conn, &shake, agreed)?;
    session.barrier().await
}

async fn unknown(c: Ctx) -> Verdict {
    let mut shake = c.plain("a")?;
    shake.keys.push(("bound".to_owned(), "2".to_owned()));
    c.is_taken(&shake).await
}

async fn old_tls(c: Ctx) -> Verdict {
    let (mut conn, _, greeted) = greeted(&c, SMALLEST).await?;
    let tls = Tls { only: Some(&rustls::version::TLS12), ..no_certificate_counts()? };
    match conn.start_tls(greeted.we_are_client(), &tls).await {
        Err(Seen::Closed(_)) => Ok(()),
        Err(seen) => Err(seen.into()),
        Ok(_) => miss("it speaks TLS 1.2 there"),
    }
}

async fn token(c: Ctx) -> Verdict {
    let (_, _, CompletedHandshake { auth, .. }) = bound(&c, SMALLEST).await?.agree().await?;
    ensure(auth.method == METHOD, || format!("it sends {:?}", auth.method))?;
    ensure(auth.is_proof, || "the token is not the one that is asked for".to_owned())
}

async fn other_session(c: Ctx) -> Verdict {
    let bound = bound(&c, SMALLEST).await?;
    let other = Exporter::new([0; Exporter::OCTETS]);
    let (own, peer) = (&bound.greeted.own, bound.greeted.peer_lines());
    let token = auth::bound_token(&bound.secret, &other, bound.own_role, own, &peer);
    bound.refuses(&c, METHOD, Token::Exactly(token.unwrap_or_default())).await
}

async fn plain_token(c: Ctx) -> Verdict {
    bound(&c, SMALLEST).await?.refuses(&c, "hmac_sha3_512", Token::Right).await
}

async fn elsewhere(c: Ctx) -> Verdict {
    let token = Token::Exactly("0".repeat(128));
    c.is_refused(&Shake { method: Some(METHOD.to_owned()), token, ..c.plain("a")? }).await
}
