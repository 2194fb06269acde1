//! A connection as its node sees it: a real session, in which only TLS is a model.

use crate::link::LinkEnd;
use crate::net::Progress;
use aemp::kernel::{PeerGreeting, Pulse};
use aemp::value::{NodeId, Packed, Str};
use aemp::wire::auth::{Exporter, Nonce, Secret};
use aemp::wire::framing::{Framing, FramingError, FramingLimits};
use aemp::wire::greeting::{G_GET, INSTANCE};
use aemp::wire::session::{
    AuthOrder, Encrypt, Event, HandshakeConfig, HandshakeError, Handshaker, Packets, Session,
    TlsPeer,
};
use std::time::Duration;

/// One connection of a node.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) end: Option<LinkEnd>,
    /// Whether we made it.
    pub(crate) dialled: bool,
    /// The first framing in our greeting; once the session is established, the one in which we
    /// send.
    pub(crate) framing: Framing,
    pub(crate) peer: Option<NodeId>,
    /// Our authentication line was sent. Until this time by the node's clock no other connection to
    /// the same node continues.
    pub(crate) others_wait_until: Option<Duration>,
    pub(crate) peer_has_authenticated: bool,
    pub(crate) established: bool,
    /// The kernel has asked to close it, which is under way: nothing is read any more.
    pub(crate) closing: bool,
    /// The number of the last probe that was checked, and the count of arrived octets that shows
    /// its arrival, once it was sent.
    probe: (u64, Option<u64>),
    stage: Stage,
    tls: SharedSecret,
    /// Whether the connection is bound to the network's secret, or encrypted by certificates.
    bound: bool,
}

#[derive(Debug)]
enum Stage {
    /// The connection is being made.
    Dialling,
    Session(Box<Session>),
    Packets(Box<Packets>),
}

/// The model of TLS: a secret that both ends know after exchanging their parts, and no other
/// process. A process between two connections has a different secret with each end.
#[derive(Debug, Default)]
struct SharedSecret {
    own: Option<u64>,
    theirs: Option<u64>,
}

impl Wire {
    pub(crate) fn new(end: Option<LinkEnd>, framing: Framing) -> Self {
        Wire {
            dialled: end.is_none(),
            end,
            framing,
            peer: None,
            others_wait_until: None,
            peer_has_authenticated: false,
            established: false,
            closing: false,
            probe: (0, None),
            stage: Stage::Dialling,
            tls: SharedSecret::default(),
            bound: false,
        }
    }

    /// The connection's signs of life; `written` says whether the packet of this probe was sent.
    pub(crate) fn pulse(&mut self, number: u64, written: bool, progress: Progress) -> Pulse {
        if self.probe.0 != number {
            self.probe = (number, None);
        }
        if written && self.probe.1.is_none() {
            self.probe.1 = Some(progress.sent);
        }
        let Progress { arrived, received, .. } = progress;
        let probe_arrived = self.probe_arrived(progress);
        Pulse { received, acknowledged: arrived, probe_arrived }
    }

    fn probe_arrived(&self, progress: Progress) -> bool {
        self.probe.1.is_some_and(|ends| progress.arrived >= ends)
    }

    /// Whether arriving octets have shown within this time that the peer is alive: octets of its
    /// own, or of ours as long as the probe has not arrived.
    pub(crate) fn has_shown_life(
        &self,
        progress: Progress,
        after: Duration,
        before: Duration,
    ) -> bool {
        let within = |at: Option<Duration>| at.is_some_and(|at| after < at && at < before);
        within(progress.received_at)
            || (!self.probe_arrived(progress) && within(progress.arrived_at))
    }

    pub(crate) fn begin(&mut self, session: Session) {
        self.stage = Stage::Session(Box::new(session));
    }

    pub(crate) fn received(&mut self, octets: &[u8]) {
        match &mut self.stage {
            Stage::Dialling => {}
            Stage::Session(session) => session.input().extend_from_slice(octets),
            Stage::Packets(packets) => packets.input().extend_from_slice(octets),
        }
    }

    /// The octets that the session has to send.
    pub(crate) fn transmit(&mut self) -> Option<Vec<u8>> {
        match &mut self.stage {
            Stage::Session(session) => session.transmit(),
            Stage::Dialling | Stage::Packets(_) => None,
        }
    }

    /// The session's next event.
    pub(crate) fn poll(&mut self) -> Result<Option<Event>, HandshakeError> {
        let Stage::Session(session) = &mut self.stage else {
            return Ok(None);
        };
        let event = session.poll()?;
        match &event {
            Some(Event::Greeted) => {
                let peer = session.peer().map(|peer| NodeId::new(peer.node_id.as_slice()));
                self.peer = peer.and_then(Result::ok);
            }
            Some(Event::StartBoundTls { .. }) => self.bound = true,
            Some(Event::StartTls { .. }) => {}
            Some(Event::Proven) => self.peer_has_authenticated = true,
            Some(Event::Established(agreement)) => {
                self.peer_has_authenticated = true;
                self.framing = agreement.send_framing;
                if let Stage::Session(session) = std::mem::replace(&mut self.stage, Stage::Dialling)
                    && let Some(packets) = session.into_packets(FramingLimits::default())
                {
                    self.stage = Stage::Packets(Box::new(packets));
                }
            }
            None => {}
        }
        Ok(event)
    }

    /// The peer's greeting.
    pub(crate) fn greeting(&self) -> Option<PeerGreeting> {
        let Stage::Session(session) = &self.stage else { return None };
        let peer = session.peer()?;
        let value = |key| Str::octets(peer.written(key).unwrap_or_default());
        let (provider, instance) = (value("provider"), value(INSTANCE));
        let knows_get = peer.written(G_GET) == Some(b"1");
        Some(PeerGreeting { node: self.peer.clone()?, provider, instance, knows_get })
    }

    /// Lets the session continue: after the greeting, or with our own proof.
    pub(crate) fn proceed(&mut self, order: AuthOrder) {
        if let Stage::Session(session) = &mut self.stage {
            match self.peer_has_authenticated {
                true => session.authenticate(),
                false => session.proceed(order),
            }
        }
    }

    /// Records our part of the TLS handshake.
    pub(crate) fn tls_begun(&mut self, own: u64) {
        self.tls.own = Some(own);
        self.finish_tls();
    }

    /// Records the peer's part of the TLS handshake.
    pub(crate) fn tls_heard(&mut self, theirs: u64) {
        self.tls.theirs = Some(theirs);
        self.finish_tls();
    }

    fn finish_tls(&mut self) {
        if let Some(secret) = self.tls_secret()
            && let Stage::Session(session) = &mut self.stage
        {
            match self.bound {
                true => session.bound_tls_established(exporter(secret)),
                false => session.tls_established(TlsPeer::Verified),
            }
        }
    }

    /// The secret that both ends of the TLS session share, and no other process.
    pub(crate) fn tls_secret(&self) -> Option<u64> {
        Some(self.tls.own? ^ self.tls.theirs?)
    }

    /// The next whole packet, which begins with the port name.
    pub(crate) fn next_packet(&mut self) -> Result<Option<Packed>, FramingError> {
        match &mut self.stage {
            Stage::Packets(packets) => Ok(packets.poll()?.map(|elements| elements.to_packed())),
            Stage::Dialling | Stage::Session(_) => Ok(None),
        }
    }
}

/// The model of the exporter of a TLS session.
fn exporter(secret: u64) -> Exporter {
    let mut octets = [0; Exporter::OCTETS];
    octets.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&secret.to_be_bytes()));
    Exporter::new(octets)
}

/// The parameters of a simulated node's handshakes.
#[derive(Debug)]
pub(crate) struct HandshakeParams {
    /// One handshaker for each framing that the greeting may list first.
    handshakers: Vec<(Framing, Handshaker)>,
}

impl HandshakeParams {
    /// A node with this ID and provider, in its run `instance` if it tells. It supports `framings`, has a
    /// certificate if `tls`, offers encryption that is bound to the secret if `bound`, and says that
    /// it knows the request for one key if `knows_get`.
    pub(crate) fn new(
        node: &NodeId,
        provider: &Str,
        instance: Option<&str>,
        framings: &[Framing],
        (tls, bound): (bool, bool),
        knows_get: bool,
    ) -> Self {
        let handshaker = |first: Framing| {
            let mut config = HandshakeConfig::new(node.as_str().data());
            config.secret = Secret::new("simulated");
            config.certificate = tls;
            config.instance = instance.map(str::to_owned);
            config.knows_get = knows_get;
            config.encrypt = if bound { Encrypt::Always } else { Encrypt::Never };
            let others = Framing::ALL.into_iter().filter(|other| *other != first);
            let others = others.filter(|other| framings.contains(other));
            config.framings = [first].into_iter().chain(others).collect();
            let provider = provider.to_text_lossy().into_owned();
            if provider.starts_with("AE-") {
                config.keys = vec![("provider".to_owned(), provider)];
            }
            (first, Handshaker::new(config).expect("the simulation configures nodes rightly"))
        };
        HandshakeParams { handshakers: framings.iter().copied().map(handshaker).collect() }
    }

    /// The session of a connection, with a nonce made from `chance`.
    pub(crate) fn session(&self, wire: &Wire, chance: [u8; 16]) -> Session {
        let named = self.handshakers.iter().find(|(framing, _)| *framing == wire.framing);
        let (_, handshaker) = named.expect("the framing is one of the node's");
        let mut octets = [0; Nonce::OCTETS];
        for (octet, chance) in octets.iter_mut().zip(chance.into_iter().cycle()) {
            *octet = chance;
        }
        let nonce = Nonce::from_random(&octets);
        match wire.dialled {
            true => handshaker.dial(nonce, "simulated:1"),
            false => handshaker.listen(nonce, "simulated:1"),
        }
    }
}
