//! Addresses: where a node listens, where it dials, and what it tells others to dial.
//!
//! The forms are those of `docs/protocol.md` §6: `host:port`, `host`, `[ipv6]:port`, `4040` (the
//! node name's port 4040), `*:4040` (every local address), `*` and `*:*` (there on any free port).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::str::FromStr;
use thiserror::Error;

/// The port of a seed that is given without one.
pub const DEFAULT_SEED_PORT: NonZeroU16 = NonZeroU16::new(4040).unwrap();

/// The error for a text that is not an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not an {what}: {problem}; write {accepted}")]
pub struct AddressError {
    /// The text.
    pub text: String,
    pub(super) what: &'static str,
    pub(super) problem: &'static str,
    pub(super) accepted: &'static str,
}

/// The machine part of an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// `*`: every local address.
    EveryLocal,
    /// No host at all, only a port: the name of this machine (`uname -n`).
    NodeName,
    /// An IP address.
    Address(IpAddr),
    /// A name that has to be resolved.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EveryLocal => f.write_str("*"),
            Self::NodeName => Ok(()),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// An address to listen on or to dial, without wildcards. A name may resolve to several addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An IP address and a port (0: any free one).
    Address(SocketAddr),
    /// A name to resolve, and a port (0: any free one).
    Name(String, u16),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl Host {
    fn endpoints(&self, port: u16, node_name: &str, interfaces: &[IpAddr]) -> Vec<Endpoint> {
        let at = |address| Endpoint::Address(SocketAddr::new(address, port));
        match self {
            Self::EveryLocal => public_addresses(interfaces).into_iter().map(at).collect(),
            Self::NodeName => vec![Endpoint::Name(node_name.into(), port)],
            Self::Address(address) => vec![at(*address)],
            Self::Name(name) => vec![Endpoint::Name(name.clone(), port)],
        }
    }
}

/// The addresses of this machine that `*` stands for: all but loopback, for IPv6 only global
/// (2000::/3) and site-local (fc00::/7) ones; IPv4 first, each once.
#[must_use]
pub fn public_addresses(interfaces: &[IpAddr]) -> Vec<IpAddr> {
    let is_public = |address: &IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback(),
        IpAddr::V6(address) => {
            let first = address.octets()[0];
            first & 0xe0 == 0x20 || first & 0xfe == 0xfc
        }
    };
    let mut public: Vec<IpAddr> = Vec::new();
    for wants_v4 in [true, false] {
        for address in interfaces.iter().filter(|address| address.is_ipv4() == wants_v4) {
            if is_public(address) && !public.contains(address) {
                public.push(*address);
            }
        }
    }
    public
}

/// All addresses of this machine, for the expansion of `*`.
///
/// # Errors
/// If the system cannot list them.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    Ok(if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect())
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BindSpec {
    /// The host.
    pub host: Host,
    /// The port; `None` is any free one.
    pub port: Option<NonZeroU16>,
}

impl BindSpec {
    /// The default: every local address, any free port.
    pub const ANY: Self = Self { host: Host::EveryLocal, port: None };

    /// The addresses to listen on, given this machine's name and addresses. For `*` on a machine
    /// that has only loopback there are none.
    #[must_use]
    pub fn endpoints(&self, node_name: &str, interfaces: &[IpAddr]) -> Vec<Endpoint> {
        self.host.endpoints(self.port.map_or(0, NonZeroU16::get), node_name, interfaces)
    }
}

impl fmt::Display for BindSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::NodeName, port) => write!(f, "{}", port.map_or(0, NonZeroU16::get)),
            (host, Some(port)) => write!(f, "{host}:{port}"),
            (host, None) => write!(f, "{host}:*"),
        }
    }
}

impl FromStr for BindSpec {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (host, port) = parse(text).map_err(|problem| AddressError {
            text: text.into(),
            what: "address to listen on",
            problem,
            accepted: "host:port, host, [ipv6]:port, 4040, *:4040, * or *:*",
        })?;
        let port = match port {
            Port::Missing | Port::Any => None,
            Port::Number(port) => Some(port),
        };
        Ok(Self { host, port })
    }
}

/// An address of a seed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SeedSpec {
    /// The host.
    pub host: Host,
    /// The port, if one was given. (Perl 2.02 documents a default port, but dials port 0.)
    pub port: Option<NonZeroU16>,
}

impl SeedSpec {
    /// The port to dial.
    #[must_use]
    pub fn port_or_default(&self) -> NonZeroU16 {
        self.port.unwrap_or(DEFAULT_SEED_PORT)
    }

    /// The address to dial, given this machine's name and addresses.
    #[must_use]
    pub fn endpoints(&self, node_name: &str, interfaces: &[IpAddr]) -> Vec<Endpoint> {
        self.host.endpoints(self.port_or_default().get(), node_name, interfaces)
    }
}

impl fmt::Display for SeedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::NodeName, _) => write!(f, "{}", self.port_or_default()),
            (host, Some(port)) => write!(f, "{host}:{port}"),
            (host, None) => host.fmt(f),
        }
    }
}

impl FromStr for SeedSpec {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |problem| AddressError {
            text: text.into(),
            what: "address of a seed",
            problem,
            accepted: "host:port, [ipv6]:port, 4040 (on this machine) or *:4040",
        };
        let (host, port) = parse(text).map_err(error)?;
        match port {
            Port::Missing => Ok(Self { host, port: None }),
            Port::Number(port) => Ok(Self { host, port: Some(port) }),
            Port::Any => Err(error("a seed needs a port that is known before it is dialled")),
        }
    }
}

/// An address that others are told to dial, instead of those that the node listens on (for
/// containers and NAT).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AdvertiseSpec {
    /// A name or an IP address without brackets.
    pub host: String,
    /// The port; `None` is the port that the node listens on.
    pub port: Option<NonZeroU16>,
}

impl AdvertiseSpec {
    /// The address as it is announced to others.
    #[must_use]
    pub fn with_port(&self, listening_port: u16) -> String {
        let port = self.port.map_or(listening_port, NonZeroU16::get);
        format!("{}:{port}", self.bracketed_host())
    }

    fn bracketed_host(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        }
    }
}

impl fmt::Display for AdvertiseSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.bracketed_host()),
            None => f.write_str(&self.bracketed_host()),
        }
    }
}

impl FromStr for AdvertiseSpec {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |problem| AddressError {
            text: text.into(),
            what: "address to advertise",
            problem,
            accepted: "host:port, [ipv6]:port, or host for the port that is listened on",
        };
        let (host, port) = parse(text).map_err(error)?;
        let host = match host {
            Host::Name(name) => name,
            Host::Address(address) if !address.is_unspecified() => address.to_string(),
            _ => {
                return Err(error("others need one host name or IP address that they can reach"));
            }
        };
        match port {
            Port::Missing => Ok(Self { host, port: None }),
            Port::Number(port) => Ok(Self { host, port: Some(port) }),
            Port::Any => Err(error("others need a port that they can dial")),
        }
    }
}

pub(super) enum Port {
    Missing,
    Any,
    Number(NonZeroU16),
}

pub(super) fn parse(text: &str) -> Result<(Host, Port), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Ok((Host::NodeName, port(text)?));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((Host::Address(address), Port::Missing));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or("the bracket is never closed")?;
        return match after.strip_prefix(':') {
            Some(number) => Ok((host(inside)?, port(number)?)),
            None if after.is_empty() => Ok((host(inside)?, Port::Missing)),
            None => Err("only `:port` may follow the bracket"),
        };
    }
    match text.rsplit_once(':') {
        Some((name, _)) if name.contains(':') => {
            Err("an IPv6 address with a port needs brackets, and no scope is possible")
        }
        Some((name, number)) => Ok((host(name)?, port(number)?)),
        None => Ok((host(text)?, Port::Missing)),
    }
}

fn host(text: &str) -> Result<Host, &'static str> {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    match text {
        "" => Err("the host is missing"),
        "*" => Ok(Host::EveryLocal),
        _ if text.bytes().all(|octet| octet.is_ascii_digit()) => match text.parse::<u32>() {
            // `0:4040` is an old way to write 0.0.0.0.
            Ok(number) => Ok(Host::Address(IpAddr::V4(number.into()))),
            Err(_) => Err("this cannot be a host name"),
        },
        _ => match text.parse() {
            Ok(address) => Ok(Host::Address(address)),
            Err(_) if text.chars().all(fits) => Ok(Host::Name(text.into())),
            Err(_) => Err("this cannot be a host name"),
        },
    }
}

fn port(text: &str) -> Result<Port, &'static str> {
    if text == "*" {
        return Ok(Port::Any);
    }
    if text.is_empty() || !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err("the port has to be a number");
    }
    match text.parse::<u16>() {
        Ok(number) => Ok(NonZeroU16::new(number).map_or(Port::Any, Port::Number)),
        Err(_) => Err("ports end at 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bind(text: &str) -> BindSpec {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn shown(endpoints: Vec<Endpoint>) -> Vec<String> {
        endpoints.iter().map(Endpoint::to_string).collect()
    }

    #[test]
    fn every_form_of_a_bind_is_read() {
        let name = |name: &str| Host::Name(name.into());
        for (text, host, port) in [
            ("eg.example:4040", name("eg.example"), 4040),
            ("eg", name("eg"), 0),
            ("eg:*", name("eg"), 0),
            ("eg:0", name("eg"), 0),
            ("10.0.0.1:4040", Host::Address(ip("10.0.0.1")), 4040),
            ("[::1]:4040", Host::Address(ip("::1")), 4040),
            ("[::1]", Host::Address(ip("::1")), 0),
            ("::1", Host::Address(ip("::1")), 0),
            ("[eg]:1", name("eg"), 1),
            ("4040", Host::NodeName, 4040),
            ("0", Host::NodeName, 0),
            ("0:4040", Host::Address(ip("0.0.0.0")), 4040),
            ("127.1:4040", name("127.1"), 4040),
            ("*:4040", Host::EveryLocal, 4040),
            ("*", Host::EveryLocal, 0),
            ("*:*", Host::EveryLocal, 0),
        ] {
            assert_eq!(bind(text), BindSpec { host, port: NonZeroU16::new(port) }, "{text}");
        }
    }

    #[test]
    fn an_invalid_address_is_reported_with_the_accepted_forms() {
        for text in [
            "",
            ":4040",
            "eg:",
            "eg:http",
            "eg:65536",
            "65536",
            "eg:-1",
            "a:b:1",
            "[::1",
            "[::1]x",
            "[::1]4040",
            "fe80::1%eth0",
            "[fe80::1%eth0]:1",
            "two words:1",
            "/run/eg",
            "*.eg:1",
            "eg:\u{663}",
            "unix/:1",
            "eg:1#",
        ] {
            let error = text.parse::<BindSpec>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
            assert!(
                error.ends_with("; write host:port, host, [ipv6]:port, 4040, *:4040, * or *:*")
            );
        }
    }

    #[test]
    fn a_seed_needs_a_port_that_can_be_dialled() {
        for text in ["eg:*", "eg:0", "0", "*:*"] {
            assert!(text.parse::<SeedSpec>().is_err(), "{text}");
        }
        let seed: SeedSpec = "eg".parse().unwrap();
        assert_eq!((seed.port, seed.port_or_default().get()), (None, 4040));
    }

    #[test]
    fn advertised_addresses_have_no_wildcards() {
        for text in ["*:1", "4040", "eg:*", "0.0.0.0:1", "[::]:1"] {
            assert!(text.parse::<AdvertiseSpec>().is_err(), "{text}");
        }
        let with_port = |text: &str| text.parse::<AdvertiseSpec>().unwrap().with_port(99);
        assert_eq!(with_port("eg"), "eg:99");
        assert_eq!(with_port("eg:1"), "eg:1");
        assert_eq!(with_port("::1"), "[::1]:99");
        assert_eq!(with_port("[::1]:1"), "[::1]:1");
    }

    #[test]
    fn the_star_is_every_address_but_loopback_and_link_local_ipv6() {
        let interfaces = [
            "fe80::1",
            "2001:db8::1",
            "::1",
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "fd00::1",
            "192.168.1.1",
            "10.0.0.1",
            "fc00::1",
            "3fff::1",
            "4000::1",
            "ff02::1",
            "fec0::1",
        ]
        .map(ip);
        assert_eq!(
            public_addresses(&interfaces),
            ["10.0.0.1", "192.168.1.1", "2001:db8::1", "fd00::1", "fc00::1", "3fff::1"].map(ip)
        );
    }

    #[test]
    fn wildcards_and_the_node_name_are_expanded() {
        let interfaces = ["127.0.0.1", "10.0.0.1", "fd00::1"].map(ip);
        let binds = |text: &str| shown(bind(text).endpoints("rain", &interfaces));
        assert_eq!(binds("*:4040"), ["10.0.0.1:4040", "[fd00::1]:4040"]);
        assert_eq!(binds("*"), ["10.0.0.1:0", "[fd00::1]:0"]);
        assert_eq!(binds("4040"), ["rain:4040"]);
        assert_eq!(binds("[::1]:1"), ["[::1]:1"]);
        assert_eq!(binds("eg"), ["eg:0"]);
        let seed: SeedSpec = "eg".parse().unwrap();
        assert_eq!(shown(seed.endpoints("rain", &interfaces)), ["eg:4040"]);
    }

    #[test]
    fn this_machine_has_addresses() {
        assert!(interface_addresses().is_ok());
    }

    fn any_host() -> impl Strategy<Value = Host> {
        prop_oneof![
            Just(Host::EveryLocal),
            Just(Host::NodeName),
            any::<IpAddr>().prop_map(Host::Address),
            "[a-z][a-z0-9_.-]{0,20}".prop_map(Host::Name),
        ]
    }

    proptest! {
        #[test]
        fn a_bind_survives_being_shown(host in any_host(), port in any::<u16>()) {
            let spec = BindSpec { host, port: NonZeroU16::new(port) };
            prop_assert_eq!(spec.to_string().parse::<BindSpec>().unwrap(), spec);
        }

        #[test]
        fn a_seed_survives_being_shown(host in any_host(), port in 1..=u16::MAX) {
            let spec = SeedSpec { host, port: NonZeroU16::new(port) };
            prop_assert_eq!(spec.to_string().parse::<SeedSpec>().unwrap(), spec);
        }

        #[test]
        fn a_parsed_address_means_the_same_when_shown(text in r"[\[\]:*.%0-9a-f# ]{0,24}|\PC{0,24}") {
            if let Ok(spec) = text.parse::<BindSpec>() {
                prop_assert_eq!(spec.to_string().parse::<BindSpec>().unwrap(), spec);
            }
            if let Ok(spec) = text.parse::<SeedSpec>() {
                prop_assert_eq!(spec.to_string().parse::<SeedSpec>().unwrap(), spec);
            }
            if let Ok(spec) = text.parse::<AdvertiseSpec>() {
                prop_assert_eq!(spec.to_string().parse::<AdvertiseSpec>().unwrap(), spec);
            }
        }
    }
}
