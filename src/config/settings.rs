//! The typed, checked settings of a node. Errors name the key, where it comes from, and a remedy.

use super::address::{AdvertiseSpec, BindSpec, SeedSpec};
use super::coerce;
use super::metrics_address::MetricsAddress;
use super::node_id::NodeIdTemplate;
use super::octets::to_octets;
use super::profile::{Effective, Entry, Origin};
use super::reader::Reader;
use super::redacted::Redacted;
use super::service::Service;
use super::similar::nearest;
use super::warning::Warning;
use crate::wire::auth::AuthMethod;
use crate::wire::framing::Framing;
use crate::wire::session::Encrypt;
use serde_json::Value;
use std::time::Duration;

pub use super::setting_error::{CredentialsError, Problem, SettingError};

/// Every key that a node understands.
pub const KNOWN_KEYS: &[&str] = &[
    "nodeid",
    "secret",
    "cert",
    "seeds",
    "binds",
    "services",
    "eval",
    "monitor_timeout",
    "connect_interval",
    "framing_format",
    "auth_offer",
    "auth_accept",
    "autocork",
    "nodelay",
    "secure",
    "tls_required",
    "encrypt",
    "advertise",
    "metrics",
    "metrics_values",
    "handshake_limit",
    "handshake_limit_per_address",
    "peer_limit",
    "database_limit",
    "heal",
    "heartbeat",
    "shutdown",
    "log_level",
];

/// Keys that are part of the rc file's structure.
const STRUCTURE_KEYS: &[&str] = &["version", "profile", "parent"];

/// Service managers kill a process that takes longer to end.
const MAX_SHUTDOWN: Duration = Duration::from_secs(3600);

/// Everything that a node needs in order to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The profile's name.
    pub profile: String,
    /// The node ID before expansion; `PROFILE/` if none is configured.
    pub node_id: NodeIdTemplate,
    /// The shared secret, as octets. An empty one counts as none.
    pub secret: Option<Redacted<Vec<u8>>>,
    /// Private key and certificates, one PEM text.
    pub cert: Option<Redacted<String>>,
    /// Where to listen; `*` if nothing is configured, empty if an empty list is configured.
    pub binds: Vec<BindSpec>,
    /// Which seeds to dial.
    pub seeds: Vec<SeedSpec>,
    /// The services to start.
    pub services: Vec<Service>,
    /// How long to try to reach a node, and how long a handshake may take.
    pub monitor_timeout: Duration,
    /// How long one address is tried before the next one.
    pub connect_interval: Duration,
    /// Framings that we offer and accept, the preferred one first. Never empty.
    pub framing_format: Vec<Framing>,
    /// Methods that we use, the preferred one first. Never empty, never `Cleartext`.
    pub auth_offer: Vec<AuthMethod>,
    /// Methods that others may use, the preferred one first. Never empty.
    pub auth_accept: Vec<AuthMethod>,
    /// Whether many small writes are combined; off if not configured.
    pub autocork: bool,
    /// Whether TCP sends without delay (`TCP_NODELAY`); on if not configured.
    pub nodelay: bool,
    /// Whether other nodes are refused to run functions and code on this node; off if not
    /// configured.
    pub secure: bool,
    /// Code that Perl nodes evaluate after their start.
    pub eval: Option<String>,
    /// Whether connections that would not be encrypted are refused. Only our nodes know this key.
    pub tls_required: bool,
    /// Whether encryption that is bound to the secret is offered. Only our nodes know this key.
    pub encrypt: Encrypt,
    /// The addresses that others are told to dial, instead of those that the node listens on. Only our
    /// nodes know this key.
    pub advertise: Vec<AdvertiseSpec>,
    /// Where metrics, the health check and the status page are served; nowhere if not configured.
    /// Only our nodes know this key.
    pub metrics: Option<MetricsAddress>,
    /// Whether the status page shows values of the database. Only our nodes know this key.
    pub metrics_values: bool,
    /// The maximum number of incoming connections in the handshake. Only our nodes know these keys.
    pub handshake_limits: HandshakeLimits,
    /// Octets that are kept on account of one peer in each table; 16 MiB if not configured. Only our
    /// nodes know this key.
    pub peer_limit: usize,
    /// Octets of database entries that are kept of one peer; 1 GiB if not configured. Only our nodes
    /// know this key.
    pub database_limit: usize,
    /// Whether to repair Perl slaves that have permanently lost their master; on if not configured.
    /// Only our nodes know this key.
    pub heal: bool,
    /// How long the node may give no sign of life before the watchdog of `aemp run` restarts it;
    /// a minute if not configured, never if it is 0. Only our nodes know this key.
    pub heartbeat: Option<Duration>,
    /// How long a node that ends may take to write what was sent; 5 s if not configured, not at all
    /// if it is 0. Only our nodes know this key.
    pub shutdown: Duration,
    /// The log level of `aemp run`, with AnyEvent's numbers (4 is error, 5 warn, 7 info, 8 debug, 9
    /// trace), unless it is set elsewhere. Only our nodes know this key.
    pub log_level: Option<u8>,
}

/// How many incoming connections may be unauthenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HandshakeLimits {
    /// All of them together, except those from this machine: `handshake_limit`.
    pub total: usize,
    /// Those from one address, or one IPv6 network of 64 bits: `handshake_limit_per_address`.
    pub per_address: usize,
}

impl Default for HandshakeLimits {
    /// 1024, and 128 from one address.
    fn default() -> Self {
        HandshakeLimits { total: 1024, per_address: 128 }
    }
}

/// The names of log levels, with AnyEvent's numbers.
const LOG_LEVELS: &[(&str, u8)] =
    &[("error", 4), ("warn", 5), ("note", 6), ("info", 7), ("debug", 8), ("trace", 9)];

impl Settings {
    /// How long a node that ends may take to write what was sent, unless configured.
    pub const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(5);

    /// Checks that the secret or certificate that the offered methods need is configured.
    ///
    /// # Errors
    /// If the node could not talk to any other node.
    pub fn check_credentials(&self) -> Result<(), CredentialsError> {
        let profile = self.profile.clone();
        if self.secret.is_none() && self.cert.is_none() {
            return Err(CredentialsError::Missing { profile });
        }
        let is_usable = |method: &AuthMethod| match method.needs_certificate() {
            true => self.cert.is_some(),
            false => self.secret.is_some(),
        };
        if self.auth_offer.iter().any(is_usable) {
            return Ok(());
        }
        let offered = self.auth_offer.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ");
        let needed = if self.cert.is_some() { "a secret" } else { "a certificate" };
        Err(CredentialsError::Unusable { profile, offered, needed })
    }
}

impl Effective {
    /// The typed settings, and warnings about them.
    ///
    /// # Errors
    /// The first value that is not usable.
    pub fn settings(&self) -> Result<(Settings, Vec<Warning>), SettingError> {
        let mut reader = Reader { effective: self, warnings: self.warnings.clone() };
        reader.look_for_unknown_keys();
        let settings = reader.read()?;
        Ok((settings, reader.warnings))
    }
}

impl Reader<'_> {
    fn read(&mut self) -> Result<Settings, SettingError> {
        let (secret, cert) = (self.secret()?, self.cert()?);
        let auth_offer = self.auth_offer()?;
        let auth_accept = self.names("auth_accept", &AuthMethod::LISTED)?;
        let (tls_required, encrypt) = (self.truth("tls_required", false), self.encrypt()?);
        let by_secret = [&auth_offer, &auth_accept]
            .iter()
            .all(|methods| methods.contains(&AuthMethod::HmacSha3_512));
        let binds = secret.is_some() && by_secret && encrypt != Encrypt::Never;
        if tls_required && cert.is_none() && !binds {
            return Err(self.error("tls_required", Problem::NothingEncrypted));
        }
        Ok(Settings {
            profile: self.effective.profile.clone(),
            node_id: self.node_id()?,
            secret,
            cert,
            binds: self.parsed_list("binds", Problem::Address)?.unwrap_or(vec![BindSpec::ANY]),
            seeds: self.seeds()?,
            services: self.services()?,
            monitor_timeout: self.seconds("monitor_timeout", 30)?,
            connect_interval: self.seconds("connect_interval", 2)?,
            framing_format: self.names("framing_format", &Framing::ALL)?,
            auth_offer,
            auth_accept,
            autocork: self.truth("autocork", false),
            nodelay: self.truth("nodelay", true),
            secure: self.truth("secure", false),
            eval: self.eval()?,
            tls_required,
            encrypt,
            advertise: self.parsed_list("advertise", Problem::Address)?.unwrap_or_default(),
            metrics: self.metrics()?,
            metrics_values: self.truth("metrics_values", false),
            handshake_limits: self.handshake_limits()?,
            peer_limit: self.count("peer_limit", 16 << 20)?,
            database_limit: self.count("database_limit", 1 << 30)?,
            heal: self.truth("heal", true),
            heartbeat: self.seconds_or_never("heartbeat", 60)?,
            shutdown: self.shutdown()?,
            log_level: self.log_level()?,
        })
    }

    fn handshake_limits(&self) -> Result<HandshakeLimits, SettingError> {
        let default = HandshakeLimits::default();
        Ok(HandshakeLimits {
            total: self.count("handshake_limit", default.total)?,
            per_address: self.count("handshake_limit_per_address", default.per_address)?,
        })
    }

    fn encrypt(&self) -> Result<Encrypt, SettingError> {
        const KEY: &str = "encrypt";
        let text = match self.entry(KEY).map(|entry| &entry.value) {
            None => return Ok(Encrypt::Auto),
            Some(Value::Bool(true)) => Some("1".to_owned()),
            Some(Value::Bool(false)) => Some("0".to_owned()),
            Some(value) => coerce::to_text(value),
        };
        match text.as_deref() {
            Some(text) if text.eq_ignore_ascii_case("auto") => Ok(Encrypt::Auto),
            Some("1") => Ok(Encrypt::Always),
            Some("0") => Ok(Encrypt::Never),
            _ => Err(self.error(KEY, Problem::NotEncrypt)),
        }
    }

    fn shutdown(&self) -> Result<Duration, SettingError> {
        const KEY: &str = "shutdown";
        let seconds = match self.entry(KEY).map(|entry| coerce::to_number(&entry.value)) {
            None => Some(Settings::DEFAULT_SHUTDOWN),
            Some(number) => number.and_then(|number| Duration::try_from_secs_f64(number).ok()),
        };
        seconds
            .filter(|seconds| *seconds <= MAX_SHUTDOWN)
            .ok_or_else(|| self.error(KEY, Problem::NotShutdown))
    }

    fn log_level(&self) -> Result<Option<u8>, SettingError> {
        const KEY: &str = "log_level";
        let Some(text) = self.text(KEY)? else {
            return Ok(None);
        };
        let named = LOG_LEVELS.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
        let number = text.trim().parse().ok().filter(|number| *number <= 9);
        match named.map(|(_, number)| *number).or(number) {
            Some(level) => Ok(Some(level)),
            None => Err(self.error(KEY, Problem::NotLogLevel)),
        }
    }

    /// Perl code, which this node does not evaluate.
    fn eval(&mut self) -> Result<Option<String>, SettingError> {
        const KEY: &str = "eval";
        let code = self.text(KEY)?.filter(|code| !code.trim().is_empty());
        if code.is_some() {
            self.warnings.push(Warning::PerlCode { origin: self.origin(KEY) });
        }
        Ok(code)
    }

    fn auth_offer(&mut self) -> Result<Vec<AuthMethod>, SettingError> {
        const SENDABLE: &[AuthMethod] = &[AuthMethod::TlsSha3_512, AuthMethod::HmacSha3_512];
        if self.entry("auth_offer").is_none() {
            return Ok(SENDABLE.to_vec());
        }
        let mut offered = self.names("auth_offer", SENDABLE)?;
        if offered.contains(&AuthMethod::Cleartext) {
            offered.retain(|method| *method != AuthMethod::Cleartext);
            self.warnings.push(Warning::CleartextOffered { origin: self.origin("auth_offer") });
        }
        match offered.is_empty() {
            true => Err(self.nothing_known("auth_offer", SENDABLE)),
            false => Ok(offered),
        }
    }

    fn node_id(&self) -> Result<NodeIdTemplate, SettingError> {
        let template = match self.text("nodeid")? {
            Some(text) => text.parse(),
            None => NodeIdTemplate::for_profile(&self.effective.profile),
        };
        template.map_err(|error| self.error("nodeid", Problem::NodeId(error)))
    }

    fn secret(&self) -> Result<Option<Redacted<Vec<u8>>>, SettingError> {
        let octets = to_octets(&self.text("secret")?.unwrap_or_default())
            .map_err(|error| self.error("secret", Problem::Secret(error)))?;
        Ok((!octets.is_empty()).then(|| Redacted::new(octets)))
    }

    fn cert(&self) -> Result<Option<Redacted<String>>, SettingError> {
        let pem = self.text("cert")?.unwrap_or_default();
        if pem.is_empty() {
            return Ok(None);
        }
        let has = |label: &str| {
            pem.lines().any(|line| {
                let begin = line.trim().strip_prefix("-----BEGIN ");
                begin
                    .and_then(|begin| begin.strip_suffix("-----"))
                    .is_some_and(|l| l.ends_with(label))
            })
        };
        match has("PRIVATE KEY") && has("CERTIFICATE") {
            true => Ok(Some(Redacted::new(pem))),
            false => Err(self.error("cert", Problem::Cert)),
        }
    }

    fn seeds(&mut self) -> Result<Vec<SeedSpec>, SettingError> {
        let seeds: Vec<SeedSpec> = self.parsed_list("seeds", Problem::Address)?.unwrap_or_default();
        for seed in seeds.iter().filter(|seed| seed.port.is_none()) {
            let origin = self.origin("seeds");
            self.warnings.push(Warning::SeedWithoutPort { origin, seed: seed.clone() });
        }
        Ok(seeds)
    }

    fn metrics(&self) -> Result<Option<MetricsAddress>, SettingError> {
        let text = self.text("metrics")?.filter(|text| !text.is_empty());
        let address = text.map(|text| text.parse()).transpose();
        address.map_err(|error| self.error("metrics", Problem::Address(error)))
    }

    fn services(&self) -> Result<Vec<Service>, SettingError> {
        let items = self.list("services")?.unwrap_or_default();
        let services = items.iter().map(Service::from_json).collect::<Result<_, _>>();
        services.map_err(|error| self.error("services", Problem::Service(error)))
    }

    fn look_for_unknown_keys(&mut self) {
        if KNOWN_KEYS.contains(&self.effective.profile.as_str()) {
            let profile = self.effective.profile.clone();
            self.warnings.push(Warning::ProfileNamedLikeKey { profile });
        }
        for Entry { key, origin, .. } in &self.effective.entries {
            if KNOWN_KEYS.contains(&key.as_str()) || STRUCTURE_KEYS.contains(&key.as_str()) {
                continue;
            }
            let nearest = nearest(key, KNOWN_KEYS.iter().copied());
            // Perl services may store keys of their own in the file.
            if nearest.is_some() || *origin == Origin::Arguments {
                let (key, origin) = (key.clone(), origin.clone());
                self.warnings.push(Warning::UnknownKey { key, origin, nearest });
            }
        }
    }
}
