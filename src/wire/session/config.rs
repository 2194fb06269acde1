//! What a node brings into its handshakes, checked once so that no connection can fail by it.

use std::sync::Arc;

use super::lines::PERL_LINE_LIMIT;
use super::{Connection, Session};
use crate::wire::auth::{AuthMethod, Nonce, Secret};
use crate::wire::framing::Framing;
use crate::wire::greeting::{self, BoundOffer, Greeting, Role, printable};

/// Where a node with a secret offers encryption that is bound to it (`docs/protocol.md` §1.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encrypt {
    /// Everywhere; but where both ends of a connection have loopback addresses it is not used.
    #[default]
    Auto,
    /// Everywhere, and it is used wherever the peer offers it too.
    Always,
    /// Nowhere.
    Never,
}

/// The ends of a connection, as far as greetings depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends<'a> {
    /// The peer's address (`host:port`), which only tells the peer how it is seen here.
    pub peer: &'a str,
    /// Whether our own end has a loopback address.
    pub own_is_loopback: bool,
}

impl<'a> From<&'a str> for Ends<'a> {
    /// A peer that is not known to be on this machine.
    fn from(peer: &'a str) -> Ends<'a> {
        Ends { peer, own_is_loopback: false }
    }
}

impl<'a> From<&'a String> for Ends<'a> {
    fn from(peer: &'a String) -> Ends<'a> {
        Ends::from(peer.as_str())
    }
}

/// Everything that a node decides about its handshakes.
///
/// [`HandshakeConfig::new`] has Perl's defaults; `auth_offer`, `auth_accept` and `framing_format`
/// are Perl's names for the lists (`docs/protocol.md` §6).
#[derive(Clone, Debug)]
pub struct HandshakeConfig {
    /// Our node ID in written form.
    pub node_id: Vec<u8>,
    /// Methods that we may send. [`AuthMethod::Cleartext`] is never sent, even if listed.
    pub auth_offer: Vec<AuthMethod>,
    /// Methods that we accept, best first. Those that need a secret are left out if there is none.
    pub auth_accept: Vec<AuthMethod>,
    /// Framings that we send and accept, best first.
    pub framings: Vec<Framing>,
    /// What all nodes of the network know.
    pub secret: Option<Secret>,
    /// Whether there is a certificate: TLS with every peer that has one too.
    pub certificate: bool,
    /// Where encryption is offered that is bound to the secret; never unless told, as in Perl.
    ///
    /// It is not offered unless the secret may prove who a node is, in both directions: both lists
    /// have to contain [`AuthMethod::HmacSha3_512`].
    pub encrypt: Encrypt,
    /// Whether connections that would not be encrypted are refused. Loopback is no exception then.
    pub encryption_required: bool,
    /// Octets that one line of the peer may have, its line end included; 4096 unless told, as in
    /// Perl.
    pub line_limit: usize,
    /// What tells this run of the node from all others, if the greeting is to say it.
    pub instance: Option<String>,
    /// Whether the greeting says that the node knows the request `g_get`.
    pub knows_get: bool,
    /// More keys for our greeting. One of a name that we send anyway takes the place of ours.
    pub keys: Vec<(String, String)>,
}

impl HandshakeConfig {
    /// Perl's defaults for a node of this ID, without secret and certificate.
    pub fn new(node_id: impl Into<Vec<u8>>) -> HandshakeConfig {
        HandshakeConfig {
            node_id: node_id.into(),
            auth_offer: vec![AuthMethod::TlsSha3_512, AuthMethod::HmacSha3_512],
            auth_accept: AuthMethod::LISTED.to_vec(),
            framings: Framing::ALL.to_vec(),
            secret: None,
            certificate: false,
            encrypt: Encrypt::Never,
            encryption_required: false,
            line_limit: PERL_LINE_LIMIT,
            instance: None,
            knows_get: false,
            keys: Vec::new(),
        }
    }
}

/// Why a node with this configuration could not shake hands with anybody.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeConfigError {
    /// The node ID is empty or would break the greeting line.
    #[error("node ID {0} cannot be used: it must not be empty nor contain ';' or line ends")]
    NodeId(String),
    /// The name of an extra key is empty or would break the greeting line.
    #[error(
        "greeting key {0:?} cannot be used: it must not be empty nor contain ';', '=', line ends"
    )]
    Key(String),
    /// Neither secret nor certificate.
    #[error("no secret and no certificate: nobody could talk to this node; configure one of them")]
    NoCredentials,
    /// No method in `auth_offer` can be used with the secret or certificate that there is.
    #[error("auth_offer has no method that the configured secret or certificate can be used with")]
    NothingToOffer,
    /// No method in `auth_accept` can be used with the secret or certificate that there is.
    #[error("auth_accept has no method that the configured secret or certificate can be used with")]
    NothingAccepted,
    /// Unencrypted connections are to be refused, and there are no others.
    #[error(
        "encryption is required, but this node can encrypt nothing: it has no certificate, and no \
         secret with which encryption may be bound (encrypt, auth_offer, auth_accept)"
    )]
    NothingEncrypted,
    /// The list of framings is empty.
    #[error("framing_format is empty: list cbor, json or storable")]
    NoFraming,
    /// Peers would refuse the greeting for its length.
    #[error(
        "our greeting would have {octets} octets, peers take {PERL_LINE_LIMIT}: use fewer or shorter keys"
    )]
    GreetingTooLong {
        /// The length of the longest greeting that we might send.
        octets: usize,
    },
}

/// What the address of a peer and the ID of a data connection may add to a greeting.
const VARYING: usize = 1024;

/// Begins sessions: a checked [`HandshakeConfig`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handshaker {
    config: Arc<HandshakeConfig>,
}

impl Handshaker {
    /// Checks the configuration.
    pub fn new(mut config: HandshakeConfig) -> Result<Handshaker, HandshakeConfigError> {
        let node_id = &config.node_id;
        if node_id.is_empty() || node_id.iter().copied().any(greeting::breaks_a_greeting) {
            return Err(HandshakeConfigError::NodeId(printable(node_id)));
        }
        for (key, _) in &config.keys {
            let breaks = |octet| octet == b'=' || greeting::breaks_a_greeting(octet);
            if key.is_empty() || key.bytes().any(breaks) {
                return Err(HandshakeConfigError::Key(key.clone()));
            }
        }
        if config.framings.is_empty() {
            return Err(HandshakeConfigError::NoFraming);
        }
        let has_secret = config.secret.is_some();
        if !has_secret && !config.certificate {
            return Err(HandshakeConfigError::NoCredentials);
        }
        // Unlike methods inside TLS, whose absence the missing key `tls` tells, peers could not
        // know that these are of no use here.
        config.auth_accept.retain(|method| has_secret || !method.needs_secret());
        if config.auth_accept.is_empty() {
            return Err(HandshakeConfigError::NothingAccepted);
        }
        let has_certificate = config.certificate;
        config.auth_offer.retain(|method| {
            method.may_be_sent()
                && (has_secret || !method.needs_secret())
                && (has_certificate || !method.needs_certificate())
        });
        if config.auth_offer.is_empty() {
            return Err(HandshakeConfigError::NothingToOffer);
        }
        let plain_hmac = AuthMethod::HmacSha3_512;
        if !config.auth_accept.contains(&plain_hmac) || !config.auth_offer.contains(&plain_hmac) {
            config.encrypt = Encrypt::Never;
        }
        if config.encryption_required && !has_certificate && config.encrypt == Encrypt::Never {
            return Err(HandshakeConfigError::NothingEncrypted);
        }
        let handshaker = Handshaker { config: Arc::new(config) };
        let octets =
            handshaker.greeting(&Connection::Node, Role::Accepts, "".into()).compose().len()
                + VARYING;
        if octets > PERL_LINE_LIMIT {
            return Err(HandshakeConfigError::GreetingTooLong { octets });
        }
        Ok(handshaker)
    }

    /// The configuration; its lists have only methods that can be used.
    pub fn config(&self) -> &HandshakeConfig {
        &self.config
    }

    /// The session of a connection that a peer made to us.
    pub fn listen<'a>(&self, nonce: Nonce, ends: impl Into<Ends<'a>>) -> Session {
        let greeting = self.greeting(&Connection::Node, Role::Accepts, ends.into());
        Session::new(self.config.clone(), None, greeting, nonce)
    }

    /// The session of a connection that we made to a node.
    pub fn dial<'a>(&self, nonce: Nonce, ends: impl Into<Ends<'a>>) -> Session {
        let greeting = self.greeting(&Connection::Node, Role::Dials, ends.into());
        Session::new(self.config.clone(), Some(Connection::Node), greeting, nonce)
    }

    /// The session of a data connection that we made, which the peer expects under this ID.
    pub fn dial_data<'a>(
        &self,
        nonce: Nonce,
        ends: impl Into<Ends<'a>>,
        id: impl Into<Vec<u8>>,
    ) -> Session {
        let connection = Connection::Data { id: id.into() };
        let greeting = self.greeting(&connection, Role::Dials, ends.into());
        Session::new(self.config.clone(), Some(connection), greeting, nonce)
    }

    /// What we say of encryption that is bound to the secret, at this end of a connection.
    fn bound_offer(&self, own_is_loopback: bool) -> Option<BoundOffer> {
        let HandshakeConfig { encrypt, encryption_required, .. } = *self.config;
        match encrypt {
            Encrypt::Never => None,
            Encrypt::Auto if own_is_loopback && !encryption_required => Some(BoundOffer::Local),
            Encrypt::Auto | Encrypt::Always => Some(BoundOffer::Wanted),
        }
    }

    fn greeting(&self, connection: &Connection, role: Role, ends: Ends<'_>) -> Greeting {
        let config = &*self.config;
        let mut keys = vec![
            ("provider", greeting::PROVIDER.as_bytes().to_vec()),
            ("peeraddr", greeting::escape(ends.peer.as_bytes())),
        ];
        let protocol = match connection {
            Connection::Node => {
                keys.extend([("mproto", b"1".to_vec()), ("gproto", b"1".to_vec())]);
                greeting::AEMP
            }
            Connection::Data { id } => {
                // An ID contains a node ID, and those are in written form already.
                keys.push((greeting::DATACONN_ID, greeting::escape_breaks(id)));
                greeting::AEMP_DATACONN
            }
        };
        if config.certificate {
            keys.push(("tls", b"1.0".to_vec()));
        }
        if let Some(offer) = self.bound_offer(ends.own_is_loopback) {
            keys.push((greeting::BOUND, offer.name().to_vec()));
        }
        if config.keys.iter().all(|(name, _)| name != "provider") {
            // Who passes for another implementation says what that one says.
            keys.push((greeting::ROLE, role.name().to_vec()));
            if let (Connection::Node, Some(instance)) = (connection, &config.instance) {
                keys.push((greeting::INSTANCE, greeting::escape(instance.as_bytes())));
            }
            if *connection == Connection::Node && config.knows_get {
                keys.push((greeting::G_GET, b"1".to_vec()));
            }
        }
        keys.retain(|(name, _)| config.keys.iter().all(|(extra, _)| extra != name));
        let extra =
            config.keys.iter().map(|(name, value)| (&**name, greeting::escape(value.as_bytes())));
        keys.extend(extra);
        Greeting {
            protocol: protocol.to_vec(),
            version: greeting::VERSION.to_string().into_bytes(),
            node_id: config.node_id.clone(),
            auth_methods: config.auth_accept.iter().map(|method| method.name().into()).collect(),
            framings: config.framings.iter().map(|framing| framing.name().into()).collect(),
            keys: keys.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        }
    }
}
