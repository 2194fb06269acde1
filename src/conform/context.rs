//! The context of a check: the node under test, and the role that the suite plays.

use super::conn::Conn;
use super::host::Host;
use super::position::Position;
use super::session::{EchoMode, Session};
use super::shake::{self, GreetingTiming, Shake, Token};
use super::stop::{Seen, Stop, Verdict, late, miss, skip};
use super::tls::{Identity, Tls};
use super::transcript::{Speaker, Transcript};
use crate::wire::framing::Framing;
use bytes::BytesMut;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

/// What the suite knows about the node under test, apart from its address.
#[derive(Clone, Debug)]
pub struct Target {
    /// The secret of its network.
    pub secret: Option<Vec<u8>>,
    /// Its certificate with the key, if it has one.
    pub identity: Option<Arc<Identity>>,
    /// The framing of all conversations that are not about framings.
    pub framing: Option<Framing>,
    /// How long the node may take for things that it does at once.
    pub patience: Duration,
    /// Its setting `monitor_timeout`.
    pub monitor_timeout: Duration,
    /// Its setting `connect_interval`.
    pub connect_interval: Duration,
    /// The function that makes the port that `docs/conformance.md` describes, if it has one.
    pub service: Option<String>,
}

impl Default for Target {
    /// The reference's defaults, five seconds of patience, and neither secret nor certificate.
    fn default() -> Self {
        Target {
            secret: None,
            identity: None,
            framing: None,
            patience: Duration::from_secs(5),
            monitor_timeout: Duration::from_secs(30),
            connect_interval: Duration::from_secs(2),
            service: None,
        }
    }
}

/// How connections with the node are made.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    /// By dialling its address.
    Dial(String),
    /// By dialling its address from that host.
    From(Host, SocketAddr),
    /// By listening on the addresses that the node has as its seeds.
    Seeds(Vec<Arc<TcpListener>>),
}

/// The context of one check. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ctx {
    pub(crate) target: Arc<Target>,
    pub(crate) transcript: Transcript,
    /// Whether the node lacks the test service that it should have.
    pub(super) lacks_service: bool,
    reach: Reach,
    /// Part of every name that the check uses, so that checks do not disturb each other.
    label: Arc<str>,
    connections: Arc<AtomicUsize>,
    /// Set when the node dials.
    dialled: Arc<AtomicBool>,
    /// The ID of the node under test, once it has been met. All checks share it if there is only one node.
    node: Arc<OnceLock<String>>,
}

impl Ctx {
    /// The check that needs the test service in any case.
    pub(super) const SHOWS_SERVICE: &'static str = "spawn";

    pub(crate) fn new(
        target: Arc<Target>,
        reach: Reach,
        label: String,
        dialled: Arc<AtomicBool>,
        node: Arc<OnceLock<String>>,
    ) -> Ctx {
        Ctx {
            target,
            transcript: Transcript::new(),
            lacks_service: false,
            reach,
            label: label.into(),
            connections: Arc::default(),
            dialled,
            node,
        }
    }

    pub(crate) fn position(&self) -> Position {
        match self.reach {
            Reach::Dial(_) | Reach::From(..) => Position::Dial,
            Reach::Seeds(_) => Position::Listen,
        }
    }

    /// A name that no other check uses: for nodes, families and keys.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.label)
    }

    /// The name of a port that the check may make on the node, which other checks share.
    pub(crate) fn port_name(&self) -> String {
        self.name("Port0a")
    }

    /// A connection on which nothing has been sent yet.
    pub(crate) async fn connect(&self, name: &str) -> Result<Conn, Seen> {
        let (stream, said) = match &self.reach {
            Reach::Dial(address) => {
                (self.dial(address, TcpStream::connect(address)).await?, BytesMut::new())
            }
            Reach::From(host, address) => {
                let connecting = host.connect(*address);
                (self.dial(&address.to_string(), connecting).await?, BytesMut::new())
            }
            Reach::Seeds(seeds) => self.accept(self.next_seed(seeds)?).await?,
        };
        Conn::new(stream, said, name, &self.transcript, self.target.patience)
    }

    /// A connection that the node makes to that seed of the check.
    pub(crate) async fn connect_at(&self, name: &str, seed: usize) -> Verdict<Conn> {
        let Reach::Seeds(seeds) = &self.reach else {
            return skip("only where the suite is the seed");
        };
        let Some(seed) = seeds.get(seed) else {
            return miss("the check has no such seed");
        };
        let (stream, said) = self.accept(seed).await?;
        Ok(Conn::new(stream, said, name, &self.transcript, self.target.patience)?)
    }

    async fn dial(
        &self,
        address: &str,
        connecting: impl Future<Output = io::Result<TcpStream>>,
    ) -> Result<TcpStream, Seen> {
        match timeout(self.target.patience, connecting).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Seen::Closed(format!("cannot connect to {address}: {error}"))),
            Err(_) => {
                Err(Seen::Late(format!("no connection to {address} in {:?}", self.target.patience)))
            }
        }
    }

    /// How long a node may take until it dials a seed again.
    pub(super) fn until_dialled(&self) -> Duration {
        self.target.patience * 3
    }

    /// A connection that the node makes to a listener, and what it has already sent on it.
    async fn accept(&self, listener: &TcpListener) -> Result<(TcpStream, BytesMut), Seen> {
        let deadline = Instant::now() + self.until_dialled();
        loop {
            let stream = match timeout_at(deadline, listener.accept()).await {
                Ok(Ok((stream, _))) => stream,
                Ok(Err(error)) => return Err(Seen::Wrong(format!("cannot accept: {error}"))),
                Err(_) => {
                    let waited = self.until_dialled();
                    return Err(Seen::Late(format!("the node did not dial within {waited:?}")));
                }
            };
            self.dialled.store(true, Ordering::Relaxed);
            // It may have been waiting for so long that the node has given it up.
            if let Some(said) = said_so_far(&stream) {
                return Ok((stream, said));
            }
        }
    }

    /// A valid handshake as the node of that name.
    pub(crate) fn shake(&self, name: &str) -> Shake {
        let target = &self.target;
        let mut auth = Vec::new();
        if target.identity.is_some() {
            auth.push("tls_sha3_512".to_owned());
        }
        if target.secret.is_some() {
            auth.push("hmac_sha3_512".to_owned());
        }
        let all = Framing::ALL.into_iter();
        let framings = match target.framing {
            Some(framing) => vec![framing.name().to_owned()],
            None => all.map(|framing| framing.name().to_owned()).collect(),
        };
        let keys = [("provider", "conform-1"), ("mproto", "1"), ("gproto", "1")];
        Shake {
            node: self.name(name),
            protocol: "aemp".to_owned(),
            version: "1".to_owned(),
            auth,
            framing: target.framing.map(|framing| framing.name().to_owned()),
            framings,
            keys: keys.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(),
            nonce: None,
            eol: "\n",
            secret: target.secret.clone(),
            tls: target.identity.clone().map(Tls::new),
            claims_tls: None,
            method: None,
            token: Token::Right,
            more: String::new(),
            early: Vec::new(),
            manner: GreetingTiming::AtOnce,
            pace: EchoMode::Relays,
        }
    }

    /// A connection with a valid handshake, as the node of that name.
    pub(crate) async fn meet(&self, name: &str) -> Verdict<Session> {
        self.meet_as(name, &self.shake(name)).await
    }

    /// A connection with that handshake, which must succeed.
    pub(crate) async fn meet_as(&self, name: &str, shake: &Shake) -> Verdict<Session> {
        Ok(self.try_meet(name, shake).await?)
    }

    pub(crate) async fn try_meet(&self, name: &str, shake: &Shake) -> Result<Session, Seen> {
        if let Reach::Seeds(seeds) = &self.reach {
            let seed = self.next_seed(seeds)?;
            return self.dialled_at(seed, name, shake).await;
        }
        let conn = self.connect(name).await?;
        let session = shake::meet(conn, shake).await?;
        self.node.get_or_init(|| session.node.clone());
        Ok(session)
    }

    /// The check's seeds take turns.
    fn next_seed<'a>(&self, seeds: &'a [Arc<TcpListener>]) -> Result<&'a TcpListener, Seen> {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        let seed = seeds.get(number % seeds.len().max(1));
        seed.map(|seed| &**seed).ok_or_else(|| Seen::Wrong("the check has no seed".to_owned()))
    }

    /// Like [`Ctx::meet`], for a name whose connection was just closed; the node may not have noticed
    /// yet.
    pub(crate) async fn meet_again(&self, name: &str) -> Verdict<Session> {
        for _ in 0..20 {
            if let Ok(session) = self.try_meet(name, &self.shake(name)).await {
                return Ok(session);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.meet(name).await
    }

    /// A connection that the node makes to that seed of the check.
    pub(crate) async fn meet_at(&self, name: &str, seed: usize) -> Verdict<Session> {
        let Reach::Seeds(seeds) = &self.reach else {
            return skip("only where the suite is the seed");
        };
        let Some(seed) = seeds.get(seed) else {
            return miss("the check has no such seed");
        };
        self.dialled(seed, name, &self.shake(name)).await
    }

    /// The node accepts this handshake: it relays a message afterwards.
    pub(crate) async fn is_taken(&self, shake: &Shake) -> Verdict {
        let mut session = self.meet_as("a", shake).await?;
        session.barrier().await
    }

    /// The node closes the connection after this handshake.
    pub(crate) async fn is_refused(&self, shake: &Shake) -> Verdict {
        let mut conn = match self.connect("a").await {
            Ok(conn) => conn,
            Err(seen) => return Err(seen.into()),
        };
        match shake::agree(&mut conn, shake).await {
            Err(Seen::Closed(_)) => Ok(()),
            Err(Seen::Late(_)) => late("the node neither went on nor closed the connection"),
            Err(Seen::Wrong(what)) => miss(what),
            Ok(_) => Ok(conn.wait_closed(self.target.patience).await?),
        }
    }

    /// A listener at which other nodes can dial the suite.
    pub(crate) async fn listen(&self, session: &Session) -> Verdict<TcpListener> {
        let host: IpAddr = session.local.ip();
        TcpListener::bind((host, 0))
            .await
            .map_err(|error| Stop::Skip(format!("cannot listen on {host}: {error}")))
    }

    /// The connection that the node makes to a listener of the suite.
    pub(crate) async fn dialled(
        &self,
        listener: &TcpListener,
        name: &str,
        shake: &Shake,
    ) -> Verdict<Session> {
        Ok(self.dialled_at(listener, name, shake).await?)
    }

    async fn dialled_at(
        &self,
        listener: &TcpListener,
        name: &str,
        shake: &Shake,
    ) -> Result<Session, Seen> {
        loop {
            let (stream, said) = self.accept(listener).await?;
            let mut conn = Conn::new(stream, said, name, &self.transcript, self.target.patience)?;
            let greeted = shake::greet(&mut conn, shake).await?;
            // Ports are reused: this may be the node of another suite on this host.
            if self.node.get().is_some_and(|node| *node != greeted.node()) {
                conn.note(Speaker::Nobody, format!("{} is another node", greeted.node()));
                continue;
            }
            let agreed = shake::authenticate(&mut conn, shake, greeted).await?;
            let session = shake::into_session(conn, shake, agreed)?;
            self.node.get_or_init(|| session.node.clone());
            return Ok(session);
        }
    }

    pub(crate) fn secret(&self) -> Verdict<&[u8]> {
        match &self.target.secret {
            Some(secret) => Ok(secret),
            None => skip("needs the secret of the network: --secret"),
        }
    }

    pub(crate) fn identity(&self) -> Verdict<Arc<Identity>> {
        match &self.target.identity {
            Some(identity) => Ok(identity.clone()),
            None => skip("needs the certificate of the network: --cert"),
        }
    }

    /// The function of the test service.
    pub(crate) fn service(&self) -> Verdict<&str> {
        match &self.target.service {
            Some(function) if self.lacks_service => skip(format!(
                "the function {function:?} does not make a port of the test service, as the check \
                 `{}` shows; correct --service, see docs/conformance.md",
                Ctx::SHOWS_SERVICE
            )),
            Some(function) => Ok(function),
            None => skip("needs the test service: --service, see docs/conformance.md"),
        }
    }

    /// A valid handshake without TLS, even if both sides support it.
    pub(crate) fn plain(&self, name: &str) -> Verdict<Shake> {
        self.secret()?;
        let shake = self.shake(name);
        Ok(Shake { tls: None, auth: vec!["hmac_sha3_512".to_owned()], ..shake })
    }
}

/// What arrived on a connection so far; `None` if the connection was then closed.
fn said_so_far(stream: &TcpStream) -> Option<BytesMut> {
    let mut said = BytesMut::new();
    loop {
        match stream.try_read_buf(&mut said) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Some(said),
            Err(_) => return None,
        }
    }
}
