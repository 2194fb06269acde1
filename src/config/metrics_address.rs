//! Where a node serves its metrics: an address to listen on, of which loopback is the default.

use super::address::{AddressError, Host, Port, parse};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

/// The port of an address without one.
pub const DEFAULT_METRICS_PORT: u16 = 9464;

/// An address to serve metrics on: `127.0.0.1:9464`, `[::1]:9464`, `name:9464`, `9464` (on
/// 127.0.0.1), or one without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MetricsAddress {
    /// An IP address, or a name.
    host: Result<IpAddr, String>,
    /// 0 is any free one.
    port: u16,
}

impl MetricsAddress {
    /// The IP address, or the name that has to be resolved.
    pub fn host(&self) -> Result<IpAddr, &str> {
        self.host.as_ref().copied().map_err(String::as_str)
    }

    /// The port; 0 is any free one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Ok(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Ok(address) => write!(f, "{address}:{}", self.port),
            Err(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for MetricsAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |problem| AddressError {
            text: text.into(),
            what: "address to serve metrics on",
            problem,
            accepted: "9464 (on 127.0.0.1), 127.0.0.1:9464, [::1]:9464 or host:9464",
        };
        let (host, port) = parse(text).map_err(error)?;
        let host = match host {
            Host::NodeName => Ok(Ipv4Addr::LOCALHOST.into()),
            Host::Address(address) => Ok(address),
            Host::Name(name) => Err(name),
            Host::EveryLocal => {
                return Err(error("to listen on all addresses write 0.0.0.0 or [::]"));
            }
        };
        let port = match port {
            Port::Missing => DEFAULT_METRICS_PORT,
            Port::Any => 0,
            Port::Number(port) => port.get(),
        };
        Ok(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_the_default() {
        for (text, shown) in [
            ("9464", "127.0.0.1:9464"),
            ("127.0.0.1", "127.0.0.1:9464"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:80", "[::1]:80"),
            ("::1", "[::1]:9464"),
            ("0.0.0.0:9464", "0.0.0.0:9464"),
            ("localhost:1", "localhost:1"),
        ] {
            assert_eq!(text.parse::<MetricsAddress>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn wildcards_and_malformed_addresses_are_refused() {
        let error = "*:9464".parse::<MetricsAddress>().unwrap_err().to_string();
        assert!(error.contains("0.0.0.0") && error.contains("metrics"), "{error}");
        for text in ["", ":9464", "a b:1", "::1:x", "host:65536"] {
            assert!(text.parse::<MetricsAddress>().is_err(), "{text}");
        }
    }
}
