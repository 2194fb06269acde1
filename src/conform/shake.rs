//! Handshakes: valid ones, and ones with a single fault.

use super::conn::Conn;
use super::session::{EchoMode, Session};
use super::stop::Seen;
use super::tls::Tls;
use super::transcript::Speaker;
use crate::wire::auth::{AuthMethod, Nonce, Secret};
use crate::wire::framing::Framing;
use crate::wire::greeting::Greeting;
use rustls::pki_types::CertificateDer;
use std::time::Duration;

/// The suite's side of a handshake. Each field can be made invalid.
#[derive(Clone, Debug)]
pub(crate) struct Shake {
    pub(crate) node: String,
    pub(crate) protocol: String,
    pub(crate) version: String,
    /// The methods that the greeting accepts.
    pub(crate) auth: Vec<String>,
    /// The framings that the greeting accepts.
    pub(crate) framings: Vec<String>,
    /// Further keys of the greeting; `tls` is added automatically.
    pub(crate) keys: Vec<(String, String)>,
    /// The second line; random if it is `None`.
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) eol: &'static str,
    pub(crate) secret: Option<Vec<u8>>,
    pub(crate) tls: Option<Tls>,
    /// The greeting's key `tls`, if it shall differ from the truth.
    pub(crate) claims_tls: Option<String>,
    /// The method to send, instead of what the node prefers.
    pub(crate) method: Option<String>,
    pub(crate) token: Token,
    /// The framing to send, instead of what the node prefers.
    pub(crate) framing: Option<String>,
    /// What follows the framing in the authentication line.
    pub(crate) more: String,
    /// Octets in the same write as the authentication line.
    pub(crate) early: Vec<u8>,
    pub(crate) manner: GreetingTiming,
    /// Whether the session answers the node's echo requests.
    pub(crate) pace: EchoMode,
}

/// How the token of the authentication line is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Right,
    /// With the two greetings exchanged.
    Swapped,
    /// Of greetings without their line ends.
    WithoutLineEnds,
    /// The correct one without its last characters.
    Cut,
    Exactly(String),
}

/// How the greeting is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GreetingTiming {
    AtOnce,
    /// After the node's.
    Late,
    /// The node's own greeting is echoed.
    Mirror,
    /// In two parts, the second one line late.
    Never,
}

/// Both greetings.
#[derive(Debug)]
pub(crate) struct Greetings {
    pub(crate) own: Vec<u8>,
    pub(crate) own_nonce: Vec<u8>,
    pub(crate) peer: Greeting,
    pub(crate) peer_line: Vec<u8>,
    pub(crate) peer_nonce: Vec<u8>,
    pub(crate) ends_in_cr: bool,
}

impl Greetings {
    /// The node's two lines, as they are hashed.
    pub(crate) fn peer_lines(&self) -> Vec<u8> {
        lines(&[&self.peer_line, &self.peer_nonce])
    }

    /// The node's ID as it is written.
    pub(crate) fn node(&self) -> String {
        String::from_utf8_lossy(&self.peer.node_id).into_owned()
    }

    pub(crate) fn we_are_client(&self) -> bool {
        self.own_nonce < self.peer_nonce
    }
}

/// The node's authentication line.
#[derive(Clone, Debug)]
pub(crate) struct AuthLine {
    pub(crate) method: String,
    pub(crate) token: String,
    pub(crate) framing: String,
    /// Whether the token is correct.
    pub(crate) is_proof: bool,
}

/// The result of a complete handshake.
pub(crate) struct CompletedHandshake {
    pub(crate) greeted: Greetings,
    pub(crate) auth: AuthLine,
    pub(crate) sends: Option<Framing>,
    pub(crate) presented: Option<CertificateDer<'static>>,
    pub(crate) in_tls: bool,
}

impl Shake {
    pub(crate) fn first_line(&self) -> Vec<u8> {
        let fixed = [
            &*self.protocol,
            &*self.version,
            &*self.node,
            &self.auth.join(","),
            &self.framings.join(","),
        ];
        let mut line = fixed.join(";");
        for (key, value) in &self.keys {
            line.push_str(&format!(";{key}={value}"));
        }
        match (&self.claims_tls, &self.tls) {
            (Some(claim), _) if claim.is_empty() => {}
            (Some(claim), _) => line.push_str(&format!(";tls={claim}")),
            (None, Some(_)) => line.push_str(";tls=1.0"),
            (None, None) => {}
        }
        // The node ID may hold octets above 127 as characters of the same number.
        line.chars()
            .flat_map(|c| match u8::try_from(u32::from(c)) {
                Ok(octet) => vec![octet],
                Err(_) => c.to_string().into_bytes(),
            })
            .collect()
    }
}

/// Lines as they are hashed, each with its LF.
pub(crate) fn lines(lines: &[&[u8]]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect()
}

fn random_nonce() -> Result<Vec<u8>, Seen> {
    let mut octets = [0; Nonce::OCTETS];
    getrandom::fill(&mut octets).map_err(|error| Seen::Wrong(format!("no randomness: {error}")))?;
    Ok(Nonce::from_random(&octets).as_bytes().to_vec())
}

/// Exchanges greetings.
pub(crate) async fn greet(conn: &mut Conn, shake: &Shake) -> Result<Greetings, Seen> {
    let own_nonce = match &shake.nonce {
        Some(nonce) => nonce.clone(),
        None => random_nonce()?,
    };
    let first = shake.first_line();
    let eol = shake.eol.as_bytes();
    let said = [&first[..], eol, &own_nonce[..], eol].concat();
    match shake.manner {
        GreetingTiming::AtOnce => conn.say(&said).await?,
        GreetingTiming::Late | GreetingTiming::Mirror | GreetingTiming::Never => {}
    }
    let (peer_line, ends_in_cr) = conn.line_and_end("its greeting").await?;
    let peer_nonce = conn.line("its nonce").await?;
    match shake.manner {
        GreetingTiming::Late => conn.say(&said).await?,
        GreetingTiming::Mirror => conn.say(&lines(&[&peer_line, &peer_nonce])).await?,
        GreetingTiming::AtOnce | GreetingTiming::Never => {}
    }
    let peer = Greeting::parse(&peer_line)
        .map_err(|error| Seen::Wrong(format!("what it said is no greeting: {error}")))?;
    Ok(Greetings {
        own: lines(&[&first, &own_nonce]),
        own_nonce,
        peer,
        peer_line,
        peer_nonce,
        ends_in_cr,
    })
}

/// Sends our authentication line; returns the framing that it announces.
pub(crate) async fn say_auth(
    conn: &mut Conn,
    shake: &Shake,
    greeted: &Greetings,
    in_tls: bool,
) -> Result<Option<Framing>, Seen> {
    let secret = shake.secret.clone().and_then(Secret::new);
    let usable = |method: &AuthMethod| {
        (in_tls || !method.needs_certificate())
            && (secret.is_some() || !method.needs_secret())
            && matches!(method, AuthMethod::TlsSha3_512 | AuthMethod::HmacSha3_512)
    };
    let wanted = || {
        let methods = greeted.peer.auth_methods.iter();
        methods.filter_map(|name| AuthMethod::from_name(name)).find(usable)
    };
    let method = match &shake.method {
        Some(name) => name.clone(),
        None => wanted().map_or_else(String::new, |method| method.name().to_owned()),
    };
    let framing = match &shake.framing {
        Some(name) => name.clone(),
        None => {
            let names = greeted.peer.framings.iter();
            let known = names.filter_map(|name| std::str::from_utf8(name).ok());
            known
                .filter_map(Framing::from_name)
                .next()
                .map_or_else(String::new, |framing| framing.name().to_owned())
        }
    };
    let peer = greeted.peer_lines();
    let token = |own: &[u8], peer: &[u8]| {
        AuthMethod::from_name(method.as_bytes())
            .and_then(|method| method.token(secret.as_ref(), own, peer))
            .unwrap_or_default()
    };
    let token = match &shake.token {
        Token::Right => token(&greeted.own, &peer),
        Token::Swapped => token(&peer, &greeted.own),
        Token::WithoutLineEnds => {
            let stripped = |lines: &[u8]| -> Vec<u8> {
                lines.iter().copied().filter(|octet| *octet != b'\n').collect()
            };
            token(&stripped(&greeted.own), &stripped(&peer))
        }
        Token::Cut => {
            let whole = token(&greeted.own, &peer);
            whole.get(..whole.len().saturating_sub(2)).unwrap_or_default().to_owned()
        }
        Token::Exactly(text) => text.clone(),
    };
    let mut line = format!("{method};{token};{framing}{}{}", shake.more, shake.eol).into_bytes();
    line.extend_from_slice(&shake.early);
    conn.say(&line).await?;
    Ok(Framing::from_name(&framing))
}

/// Reads the node's authentication line, and checks its token.
pub(crate) async fn hear_auth(
    conn: &mut Conn,
    shake: &Shake,
    greeted: &Greetings,
    in_tls: bool,
) -> Result<AuthLine, Seen> {
    let line = conn.line("its authentication line").await?;
    let text = String::from_utf8_lossy(&line).into_owned();
    let mut fields = text.split(';').map(str::to_owned);
    let mut field = || fields.next().unwrap_or_default();
    let (name, token, framing) = (field(), field(), field());
    let secret = shake.secret.clone().and_then(Secret::new);
    let is_proof = AuthMethod::from_name(name.as_bytes()).is_some_and(|method| {
        (in_tls || !method.needs_certificate())
            && method.verify(secret.as_ref(), token.as_bytes(), &greeted.peer_lines(), &greeted.own)
    });
    Ok(AuthLine { method: name, token, framing, is_proof })
}

/// The whole handshake, up to the first packet.
pub(crate) async fn agree(conn: &mut Conn, shake: &Shake) -> Result<CompletedHandshake, Seen> {
    let greeted = greet(conn, shake).await?;
    authenticate(conn, shake, greeted).await
}

/// The handshake after the greetings: TLS if both support it, and the authentication lines.
pub(crate) async fn authenticate(
    conn: &mut Conn,
    shake: &Shake,
    greeted: Greetings,
) -> Result<CompletedHandshake, Seen> {
    let mut presented = None;
    let in_tls = match &shake.tls {
        Some(tls) if shake.claims_tls.is_none() && greeted.peer.offers_tls() => {
            presented = conn.start_tls(greeted.we_are_client(), tls).await?;
            true
        }
        _ => false,
    };
    let sends = say_auth(conn, shake, &greeted, in_tls).await?;
    let auth = hear_auth(conn, shake, &greeted, in_tls).await?;
    Ok(CompletedHandshake { greeted, auth, sends, presented, in_tls })
}

/// The whole handshake, after which both sides have authenticated.
pub(crate) async fn meet(mut conn: Conn, shake: &Shake) -> Result<Session, Seen> {
    let agreed = agree(&mut conn, shake).await?;
    into_session(conn, shake, agreed)
}

/// Continues with packets if the node's side of the handshake was correct.
pub(crate) fn into_session(
    conn: Conn,
    shake: &Shake,
    agreed: CompletedHandshake,
) -> Result<Session, Seen> {
    let CompletedHandshake { greeted, auth, sends, .. } = agreed;
    if !auth.is_proof {
        return Err(Seen::Wrong(format!(
            "the token of its authentication line ({}) is wrong",
            auth.method
        )));
    }
    let Some(receives) = Framing::from_name(&auth.framing) else {
        return Err(Seen::Wrong(format!("it announces the framing {:?}", auth.framing)));
    };
    if !shake.framings.contains(&auth.framing) {
        return Err(Seen::Wrong(format!(
            "it announces the framing {receives}, which the suite did not list"
        )));
    }
    let Some(sends) = sends else {
        return Err(Seen::Wrong("its greeting lists no framing that exists".to_owned()));
    };
    conn.note(Speaker::Nobody, format!("packets: {sends} to the node, {receives} from it"));
    Ok(Session::new(conn, &shake.node, &greeted.node(), receives, sends, shake.pace))
}

/// How long to wait for something that a node does at once, when no echo can prove that it is done.
pub(crate) const QUIET_TIME: Duration = Duration::from_millis(200);
