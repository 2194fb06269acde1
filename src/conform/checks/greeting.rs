//! §1.1 and §1.2: the greeting that the node sends, and greetings that it must accept.

use crate::conform::check::{Check, check, run};
use crate::conform::conn::{Conn, Dribbling};
use crate::conform::context::Ctx;
use crate::conform::session::encoded;
use crate::conform::shake::{self, GreetingTiming, Greetings, QUIET_TIME, Shake};
use crate::conform::stop::{Stop, Verdict, ensure, miss, skip};
use crate::wire::auth::AuthMethod;
use crate::wire::framing::Framing;
use serde_json::json;

/// The checks of greetings.
pub(super) const CHECKS: &[Check] = &[
    check("greet-unasked", "1a", "Greets without waiting for the peer's greeting.")
        .by(run!(greets_unasked)),
    check("greet-form", "1.1a", "The first line has the protocol aemp, version 1, an ID.")
        .by(run!(form)),
    check("greet-methods", "1.1c", "The greeting lists a known authentication method.")
        .by(run!(methods)),
    check("greet-framings", "1.1d", "The greeting lists a known framing.").by(run!(framings)),
    check("greet-keys", "1.1h", "The greeting has the keys mproto=1 and gproto=1.")
        .should()
        .by(run!(keys)),
    check("greet-tls-key", "1.1i", "The key tls is there if there is a certificate.")
        .by(run!(tls_key)),
    check("greet-length", "1h", "The greeting fits into the 4096 octets that peers take.")
        .by(run!(length)),
    check("greet-lf", "1d", "Lines end in LF, with no CR before it.").should().by(run!(ends_in_lf)),
    check("greet-nonce-length", "1.2a", "The nonce has at least 32 characters.")
        .should()
        .by(run!(nonce_length)),
    check("greet-nonce-fresh", "1.2a", "No two connections have the same nonce.")
        .dial()
        .by(run!(nonce_fresh)),
    check("take-late", "1a", "Takes a peer that greets second.")
        .by(run!(taken(|s| s.manner = GreetingTiming::Late))),
    check("take-dribble", "1g", "Takes a handshake that comes octet by octet.")
        .dial_or_seeds(2)
        .by(run!(dribbled)),
    check("take-crlf", "1e", "Takes lines that end in CR LF, and does not hash line ends.")
        .by(run!(taken(|s| s.eol = "\r\n"))),
    check("take-3kib", "1h", "Takes a greeting of 3 KiB.")
        .by(run!(taken(|s| s.keys.push(("pad".into(), "x".repeat(3000)))))),
    check("take-version", "1.1b", "Takes version 1.0, which is the number 1.")
        .by(run!(taken(|s| s.version = "1.0".into()))),
    check("take-no-keys", "1.1e", "Takes a greeting without any key.").by(run!(taken(|s| {
        s.keys.clear();
    }))),
    check("take-unknown-keys", "1.1e", "Ignores unknown keys, whatever their values.").by(run!(
        taken(|s| {
            for (key, value) in [("colour", "blue"), ("empty", ""), ("two", "a=b")] {
                s.keys.insert(0, (key.into(), value.into()));
            }
        })
    )),
    check("take-escaped-key", "1.1f", "Takes escapes in values, and a % that begins none.")
        .by(run!(taken(|s| s.keys.push(("odd".into(), "%3b%25%zz%".into()))))),
    check("take-escaped-id", "1.1g", "Takes a node ID as it is written, without decoding escapes.")
        .by(run!(taken(|s| s.node.push_str("%3bid%25")))),
    check("take-octet-id", "1.1g", "Takes a node ID with octets above 127.")
        .should()
        .by(run!(octet_id)),
    check("take-methods", "1.4a", "Skips methods that it does not know.").by(run!(taken(|s| {
        s.auth.splice(0..0, ["hmac_md6_64_256".into(), "x".into()]);
    }))),
    check("take-framings", "1.4b", "Skips framings that it does not know.").by(run!(taken(|s| {
        s.framings.splice(0..0, ["xml".into(), "json2".into()]);
    }))),
    check("take-as-perl", "1.1e", "Takes the greeting that AnyEvent::MP 2.02 sends.").by(run!(
        taken(|s| {
            let keys = [("provider", "AE-2.02"), ("peeraddr", "127.0.0.1:9"), ("gproto", "1")];
            s.keys = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
            s.keys.push(("mproto".into(), "1".into()));
        })
    )),
    check("take-no-nonce", "1.2b", "Takes an empty second line.")
        .by(run!(taken(|s| s.nonce = Some(Vec::new())))),
    check("take-odd-nonce", "1.2b", "Takes any octets as second line.")
        .by(run!(taken(|s| s.nonce = Some(b";=,%; \t\xe9\xff".to_vec())))),
    check(
        "take-claimed-tls",
        "1.4d",
        "Without a certificate it does not use TLS, whoever offers it.",
    )
    .by(run!(claimed_tls)),
    check("take-early", "1f", "Takes packets in the same write as the authentication line.")
        .by(run!(early)),
    check("hold-packets", "1c", "Sends no packet before it has verified the peer.")
        .by(run!(holds_packets)),
];

/// The node accepts a handshake with this change.
pub(super) async fn taken(c: Ctx, change: fn(&mut Shake)) -> Verdict {
    let mut shake = c.shake("a");
    change(&mut shake);
    c.is_taken(&shake).await
}

async fn dribbled(c: Ctx) -> Verdict {
    let other = c.meet("b").await?;
    let (mut conn, shake) = (c.connect("a").await?, c.shake("a"));
    conn.dribble = Dribbling::beside(other, c.target.monitor_timeout);
    shake::meet(conn, &shake).await?.barrier().await
}

async fn greeting(c: &Ctx) -> Verdict<Greetings> {
    let mut conn = c.connect("a").await?;
    Ok(shake::greet(&mut conn, &c.shake("a")).await?)
}

async fn greets_unasked(c: Ctx) -> Verdict {
    let mut conn = c.connect("a").await?;
    let silent = Shake { manner: GreetingTiming::Never, ..c.shake("a") };
    shake::greet(&mut conn, &silent).await?;
    Ok(())
}

async fn form(c: Ctx) -> Verdict {
    let Greetings { peer, .. } = greeting(&c).await?;
    let protocol = String::from_utf8_lossy(&peer.protocol);
    ensure(protocol == "aemp", || format!("the protocol is called {protocol:?}"))?;
    let version = String::from_utf8_lossy(&peer.version);
    ensure(peer.has_version(1), || format!("the version is {version:?}"))?;
    let breaks = |octet: &u8| matches!(octet, b' ' | b'#' | 0..=31);
    ensure(!peer.node_id.iter().any(breaks), || "no node ID has spaces or # in it".to_owned())
}

async fn methods(c: Ctx) -> Verdict {
    let Greetings { peer, .. } = greeting(&c).await?;
    let known = peer.auth_methods.iter().any(|name| AuthMethod::from_name(name).is_some());
    ensure(known, || "none of its methods is known".to_owned())
}

async fn framings(c: Ctx) -> Verdict {
    let Greetings { peer, .. } = greeting(&c).await?;
    let known = framings_of(&peer.framings);
    ensure(!known.is_empty(), || "none of its framings is known".to_owned())
}

/// The known framings in a greeting.
pub(super) fn framings_of(names: &[Vec<u8>]) -> Vec<Framing> {
    let names = names.iter().filter_map(|name| std::str::from_utf8(name).ok());
    names.filter_map(Framing::from_name).collect()
}

async fn keys(c: Ctx) -> Verdict {
    let Greetings { peer, .. } = greeting(&c).await?;
    for key in ["mproto", "gproto"] {
        ensure(peer.written(key) == Some(b"1"), || format!("there is no {key}=1"))?;
    }
    Ok(())
}

async fn tls_key(c: Ctx) -> Verdict {
    let Greetings { peer, .. } = greeting(&c).await?;
    match (c.target.identity.is_some(), peer.offers_tls()) {
        (true, false) => miss("it has a certificate, and its greeting has no tls=1.0"),
        (false, true) => skip("it offers TLS: give its certificate with --cert"),
        _ => Ok(()),
    }
}

async fn length(c: Ctx) -> Verdict {
    let greeted = greeting(&c).await?;
    let octets = greeted.peer_lines().len();
    ensure(octets <= 4096, || format!("its greeting has {octets} octets"))
}

async fn ends_in_lf(c: Ctx) -> Verdict {
    let greeted = greeting(&c).await?;
    ensure(!greeted.ends_in_cr, || "its first line ends in CR LF".to_owned())
}

async fn nonce_length(c: Ctx) -> Verdict {
    let greeted = greeting(&c).await?;
    let length = greeted.peer_nonce.len();
    ensure(length >= 32, || format!("its nonce has {length} characters"))
}

async fn nonce_fresh(c: Ctx) -> Verdict {
    let mut nonces = Vec::new();
    for _ in 0..3 {
        nonces.push(greeting(&c).await?.peer_nonce);
    }
    nonces.sort();
    nonces.dedup();
    ensure(nonces.len() == 3, || "two of three connections have the same nonce".to_owned())
}

async fn octet_id(c: Ctx) -> Verdict {
    // The check's helpers cannot express such an ID: that something comes back is enough.
    let mut shake = c.shake("a");
    shake.node.push('\u{e9}');
    let mut session = c.meet_as("a", &shake).await?;
    session.send(json!(["", "can", "snd", session.port("octets"), "known"])).await?;
    session.expect(json!(["octets", "known", "1"])).await?;
    Ok(())
}

async fn claimed_tls(c: Ctx) -> Verdict {
    if c.target.identity.is_some() {
        return skip("it has a certificate");
    }
    let shake = Shake { claims_tls: Some("1.0".to_owned()), ..c.shake("a") };
    c.is_taken(&shake).await
}

async fn early(c: Ctx) -> Verdict {
    let mut shake = c.shake("a");
    let framing = c.target.framing.unwrap_or(Framing::Json);
    shake.framing = Some(framing.name().to_owned());
    for word in ["first", "second"] {
        let to = format!("{}#early", shake.node);
        shake.early.extend(encoded(framing, &json!(["", "snd", to, word]))?);
    }
    let mut session = c.meet_as("a", &shake).await?;
    for word in ["first", "second"] {
        session.expect_first(json!(["early", super::REST]), json!(["early", word])).await?;
    }
    Ok(())
}

/// A connection on which the node has sent its authentication line, and we have not.
pub(super) async fn hears_auth(c: &Ctx) -> Verdict<Conn> {
    let shake = c.shake("a");
    let mut conn = c.connect("a").await?;
    let greeted = shake::greet(&mut conn, &shake).await?;
    let tls = shake.tls.as_ref().filter(|_| greeted.peer.offers_tls());
    if let Some(tls) = tls {
        conn.start_tls(greeted.we_are_client(), tls).await?;
    }
    shake::hear_auth(&mut conn, &shake, &greeted, tls.is_some()).await?;
    Ok(conn)
}

async fn holds_packets(c: Ctx) -> Verdict {
    let mut conn = hears_auth(&c).await?;
    if !conn.unread.is_empty() {
        return miss("octets came with its authentication line, before ours was said");
    }
    // Its silence cannot be proven with an echo: it does not process packets yet.
    let patience = tokio::time::Instant::now() + QUIET_TIME;
    match conn.read(patience, "packets").await {
        Ok(()) => miss("octets came behind its authentication line, before ours was said"),
        Err(crate::conform::stop::Seen::Late(_)) => Ok(()),
        Err(seen) => Err(Stop::from(seen)),
    }
}
