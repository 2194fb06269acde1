//! §1.3 to §1.5: handshakes that the node must refuse.

use crate::conform::check::{Check, check, run};
use crate::conform::context::Ctx;
use crate::conform::position::Position;
use crate::conform::shake::{self, GreetingTiming, Shake, Token};
use crate::conform::stop::{Verdict, ensure, skip};
use serde_json::json;

/// The checks of refused handshakes.
pub(super) const CHECKS: &[Check] = &[
    check("refuse-protocol", "1.3a", "Refuses another protocol.")
        .by(run!(refused(|s| s.protocol = "http".into()))),
    check("refuse-no-protocol", "1.3a", "Refuses a greeting without a protocol.")
        .by(run!(refused(|s| s.protocol.clear()))),
    check("refuse-http", "1.3a", "Refuses somebody who speaks HTTP.").ours().by(run!(http)),
    check("refuse-version-2", "1.3b", "Refuses version 2.")
        .by(run!(refused(|s| s.version = "2".into()))),
    check("refuse-version-0", "1.3b", "Refuses version 0.")
        .by(run!(refused(|s| s.version = "0".into()))),
    check("refuse-no-version", "1.3b", "Refuses a greeting without a version.")
        .by(run!(refused(|s| s.version.clear()))),
    check("refuse-no-id", "1.3c", "Refuses a greeting without a node ID.")
        .ours()
        .by(run!(refused(|s| s.node.clear()))),
    check("refuse-own-id", "1.3c", "Refuses a peer with its own node ID.").by(run!(own_id)),
    check("refuse-mirror", "1.2c", "Refuses its own greeting, echoed to it.")
        .by(run!(refused(|s| s.manner = GreetingTiming::Mirror))),
    check("refuse-second", "1.3d", "Closes a second connection of a node, keeps the first.")
        .dial()
        .by(run!(second)),
    check("refuse-methods", "1.4a", "Closes if it supports none of our methods.")
        .by(run!(refused(|s| s.auth = vec!["hmac_md6_64_256".into()]))),
    check("refuse-no-methods", "1.4a", "Closes if we list no method.")
        .by(run!(refused(|s| s.auth.clear()))),
    check("refuse-framings", "1.4b", "Closes if it speaks none of our framings.")
        .by(run!(refused(|s| s.framings = vec!["xml".into()]))),
    check("refuse-no-framings", "1.4b", "Closes if we list no framing.")
        .by(run!(refused(|s| s.framings.clear()))),
    check("refuse-8kib", "1h", "Refuses a greeting of 8 KiB.")
        .by(run!(refused(|s| s.keys.push(("pad".into(), "x".repeat(8192)))))),
    check("refuse-endless", "1h", "Refuses a greeting that has no end after 8 KiB.").by(run!(
        refused(|s| {
            s.keys.push(("pad".into(), "x".repeat(8192)));
            s.eol = "";
        })
    )),
    check("refuse-secret", "1.5g", "Refuses a token made with a wrong secret.")
        .by(run!(secret(|secret| *secret = b"wrong".to_vec(), "hmac_sha3_512"))),
    check("refuse-longer", "1.5g", "Refuses a token made with a longer secret.")
        .by(run!(secret(|secret| secret.push(b's'), "hmac_sha3_512"))),
    check("refuse-shorter", "1.5g", "Refuses a token made with a part of the secret.")
        .by(run!(secret(|secret| secret.truncate(secret.len() - 1), "hmac_sha3_512"))),
    check("refuse-cleartext", "1.5g", "Refuses a wrong secret in clear.")
        .by(run!(secret(|secret| *secret = b"wrong".to_vec(), "cleartext"))),
    check("refuse-clear-empty", "1.5g", "Refuses an empty secret in clear.")
        .by(run!(token("cleartext", Token::Exactly(String::new())))),
    check("refuse-empty", "1.5g", "Refuses an empty token.")
        .by(run!(token("hmac_sha3_512", Token::Exactly(String::new())))),
    check("refuse-cut", "1.5g", "Refuses a token that is cut short.")
        .by(run!(token("hmac_sha3_512", Token::Cut))),
    check("refuse-swapped", "1.5g", "Refuses a token with the greetings exchanged.")
        .by(run!(token("hmac_sha3_512", Token::Swapped))),
    check("refuse-joined", "1.5g", "Refuses a token of lines without their ends.")
        .by(run!(token("hmac_sha3_512", Token::WithoutLineEnds))),
    check("refuse-anon", "1.5e", "Refuses tls_anon without TLS.")
        .by(run!(token("tls_anon", Token::Exactly(String::new())))),
    check("refuse-tls-token", "1.5d", "Refuses tls_sha3_512 without TLS.")
        .by(run!(token("tls_sha3_512", Token::Right))),
    check("refuse-method", "1.5a", "Refuses an unknown method.")
        .by(run!(token("hmac_md6_64_256", Token::Exactly("00".repeat(64))))),
    check("refuse-no-method", "1.5a", "Refuses an authentication line without a method.")
        .by(run!(token("", Token::Exactly(String::new())))),
    check("refuse-unlisted", "1.5h", "Refuses a method that its greeting does not list.")
        .ours()
        .by(run!(unlisted)),
    check("refuse-framing", "1.5a", "Refuses a framing that it does not know.")
        .by(run!(refused(|s| s.framing = Some("xml".into())))),
    check("refuse-no-framing", "1.5a", "Refuses an authentication line without a framing.")
        .by(run!(refused(|s| s.framing = Some(String::new())))),
    check("refuse-no-auth", "1.5a", "Refuses packets in the place of authentication.")
        .by(run!(no_auth)),
    check("refuse-silence", "1i", "Closes if a peer sends nothing for monitor_timeout.")
        .by(run!(silence(GreetingTiming::Never))),
    check("refuse-half", "1i", "Closes if a peer greets and then sends nothing.")
        .by(run!(silence(GreetingTiming::AtOnce))),
    check("refuse-spares", "1.3e", "Refusing one peer does not disturb the others.")
        .dial()
        .by(run!(spares)),
];

/// The node refuses a handshake with this change.
async fn refused(c: Ctx, change: fn(&mut Shake)) -> Verdict {
    let mut shake = c.shake("a");
    change(&mut shake);
    c.is_refused(&shake).await
}

/// The node refuses this token, without TLS.
async fn token(c: Ctx, method: &'static str, token: Token) -> Verdict {
    let shake = Shake { method: Some(method.to_owned()), token, ..c.plain("a")? };
    c.is_refused(&shake).await
}

async fn secret(c: Ctx, change: fn(&mut Vec<u8>), method: &str) -> Verdict {
    let mut secret = c.secret()?.to_vec();
    if secret.len() < 2 {
        return skip("needs a longer secret");
    }
    change(&mut secret);
    let shake = Shake { secret: Some(secret), method: Some(method.to_owned()), ..c.plain("a")? };
    c.is_refused(&shake).await
}

async fn http(c: Ctx) -> Verdict {
    let mut conn = c.connect("a").await?;
    conn.say(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n").await?;
    Ok(conn.wait_closed(c.target.patience).await?)
}

async fn own_id(c: Ctx) -> Verdict {
    let mut conn = c.connect("a").await?;
    let late = Shake { manner: GreetingTiming::Never, ..c.shake("a") };
    let greeted = shake::greet(&mut conn, &late).await?;
    let node = greeted.node();
    let line = Shake { node, ..c.shake("a") }.first_line();
    conn.say(&shake::lines(&[&line, b"another nonce than its own"])).await?;
    Ok(conn.wait_closed(c.target.patience).await?)
}

async fn second(c: Ctx) -> Verdict {
    let mut first = c.meet("twin").await?;
    first.barrier().await?;
    c.is_refused(&c.shake("twin")).await?;
    first.still_works("the second connection").await
}

async fn unlisted(c: Ctx) -> Verdict {
    let shake = Shake { method: Some("cleartext".to_owned()), ..c.plain("a")? };
    let mut conn = c.connect("a").await?;
    let greeted = shake::greet(&mut conn, &shake).await?;
    if greeted.peer.auth_methods.iter().any(|method| method == b"cleartext") {
        return skip("it lists cleartext");
    }
    // The connection may already be closed.
    let _ = shake::say_auth(&mut conn, &shake, &greeted, false).await;
    Ok(conn.wait_closed(c.target.patience).await?)
}

async fn no_auth(c: Ctx) -> Verdict {
    let shake = c.plain("a")?;
    let mut conn = c.connect("a").await?;
    shake::greet(&mut conn, &shake).await?;
    let request = json!(["", "snd", format!("{}#x", shake.node), "hello"]).to_string();
    conn.say(format!("{request}\n").as_bytes()).await?;
    Ok(conn.wait_closed(c.target.patience).await?)
}

async fn silence(c: Ctx, manner: GreetingTiming) -> Verdict {
    let mut conn = c.connect("a").await?;
    let shake = Shake { manner, ..c.shake("a") };
    shake::greet(&mut conn, &shake).await?;
    // The reference counts from the last octet that arrived.
    let longest = c.target.monitor_timeout * 3 / 2 + c.target.patience;
    Ok(conn.wait_closed(longest).await?)
}

async fn spares(c: Ctx) -> Verdict {
    ensure(c.position() == Position::Dial, String::new)?;
    let mut witness = c.meet("witness").await?;
    witness.barrier().await?;
    let shakes = [
        Shake { version: "2".to_owned(), ..c.shake("a") },
        Shake { auth: Vec::new(), ..c.shake("b") },
        Shake { framing: Some("xml".to_owned()), ..c.shake("c") },
    ];
    for shake in &shakes {
        c.is_refused(shake).await?;
        witness.still_works("a refusal").await?;
    }
    Ok(())
}
