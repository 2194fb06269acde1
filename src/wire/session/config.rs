//! The configuration of handshakes, checked once so that it cannot make a connection fail.

use std::sync::Arc;

use super::lines::PERL_LINE_LIMIT;
use super::{Connection, Session};
use crate::wire::auth::{AuthMethod, Nonce, Secret};
use crate::wire::framing::Framing;
use crate::wire::greeting::{self, BoundOffer, Greeting, Role, printable};

/// When a node with a secret offers encryption that is bound to it (`docs/protocol.md` §1.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encrypt {
    /// Always; it is not used if both ends of a connection have loopback addresses.
    #[default]
    Auto,
    /// Always; it is used whenever the peer offers it too.
    Always,
    /// Never.
    Never,
}

/// The addresses of a connection, as far as greetings depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends<'a> {
    /// The peer's address (`host:port`), sent to the peer for its information.
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

/// The configuration of a node's handshakes.
///
/// [`HandshakeConfig::new`] has Perl's defaults; `auth_offer`, `auth_accept` and `framing_format` are
/// Perl's names of the lists (`docs/protocol.md` §6).
#[derive(Clone, Debug)]
pub struct HandshakeConfig {
    /// Our node ID in escaped form.
    pub node_id: Vec<u8>,
    /// The methods that we may send. [`AuthMethod::Cleartext`] is never sent, even if it is listed.
    pub auth_offer: Vec<AuthMethod>,
    /// The methods that we accept, best first. Those that need a secret are ignored if there is none.
    pub auth_accept: Vec<AuthMethod>,
    /// The framings that we send and accept, best first.
    pub framings: Vec<Framing>,
    /// The secret of the network.
    pub secret: Option<Secret>,
    /// Whether there is a certificate, and so TLS with every peer that has one too.
    pub certificate: bool,
    /// When encryption that is bound to the secret is offered; [`Encrypt::Never`] by default, as in
    /// Perl.
    ///
    /// It is offered only if the secret may be used to authenticate in both directions: both lists have
    /// to contain [`AuthMethod::HmacSha3_512`].
    pub encrypt: Encrypt,
    /// Whether unencrypted connections are refused, including those on loopback.
    pub encryption_required: bool,
    /// The maximum octets of one line of the peer, including its line end; 4096 by default, as in Perl.
    pub line_limit: usize,
    /// An ID of this run of the node, if the greeting is to have one.
    pub instance: Option<String>,
    /// Whether the greeting announces the request `g_get`.
    pub knows_get: bool,
    /// More keys for our greeting. A key with the name of one of ours replaces it.
    pub keys: Vec<(String, String)>,
}

impl HandshakeConfig {
    /// Perl's defaults for a node with this ID, without secret and certificate.
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

/// Why no handshake could succeed with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeConfigError {
    /// The node ID is empty or contains a character that greetings cannot have.
    #[error("node ID {0} cannot be used: it must not be empty nor contain ';' or line ends")]
    NodeId(String),
    /// The name of an extra key is empty or contains a character that greetings cannot have.
    #[error(
        "greeting key {0:?} cannot be used: it must not be empty nor contain ';', '=', line ends"
    )]
    Key(String),
    /// There is neither a secret nor a certificate.
    #[error("no secret and no certificate: nobody could talk to this node; configure one of them")]
    NoCredentials,
    /// The secret or certificate cannot be used with any method in `auth_offer`.
    #[error("auth_offer has no method that the configured secret or certificate can be used with")]
    NothingToOffer,
    /// The secret or certificate cannot be used with any method in `auth_accept`.
    #[error("auth_accept has no method that the configured secret or certificate can be used with")]
    NothingAccepted,
    /// Unencrypted connections are refused, but no connection could be encrypted.
    #[error(
        "encryption is required, but this node can encrypt nothing: it has no certificate, and no \
         secret with which encryption may be bound (encrypt, auth_offer, auth_accept)"
    )]
    NothingEncrypted,
    /// The list of framings is empty.
    #[error("framing_format is empty: list cbor, json or storable")]
    NoFraming,
    /// The greeting is too long for peers.
    #[error(
        "our greeting would have {octets} octets, peers accept {PERL_LINE_LIMIT}: use fewer or shorter keys"
    )]
    GreetingTooLong {
        /// The length of the longest greeting that we might send.
        octets: usize,
    },
}

/// The maximum octets that the address of a peer and the ID of a data connection add to a greeting.
const VARYING: usize = 1024;

/// A checked [`HandshakeConfig`], which begins sessions. Cheap to clone.
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
        // Peers ignore methods that need TLS if the key `tls` is missing, but they cannot know that
        // these need a secret.
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

    /// The configuration; its lists have only usable methods.
    pub fn config(&self) -> &HandshakeConfig {
        &self.config
    }

    /// The session of an accepted connection.
    pub fn listen<'a>(&self, nonce: Nonce, ends: impl Into<Ends<'a>>) -> Session {
        let greeting = self.greeting(&Connection::Node, Role::Accepts, ends.into());
        Session::new(self.config.clone(), None, greeting, nonce)
    }

    /// The session of a connection dialled to a node.
    pub fn dial<'a>(&self, nonce: Nonce, ends: impl Into<Ends<'a>>) -> Session {
        let greeting = self.greeting(&Connection::Node, Role::Dials, ends.into());
        Session::new(self.config.clone(), Some(Connection::Node), greeting, nonce)
    }

    /// The session of a dialled data connection, which the peer expects under this ID.
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

    /// Our offer of encryption that is bound to the secret, at this end of a connection.
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
                // The ID contains a node ID, which is in escaped form already.
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
            // A node that imitates another implementation sends only the keys of that one.
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
