//! How the nodes of a network are connected: by network namespaces where the machine can make them, else on
//! loopback.

use super::hosts::Hosts;
use super::plan::NetworkError;
use std::fmt;

/// How the nodes of a run are connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Each half of a network is a host of its own, a network namespace, with a router in between that can
    /// cut the halves apart, whatever addresses their nodes dial.
    Namespaces,
    /// All nodes are on loopback. Only connections through the suite's relays can be cut.
    Loopback {
        /// Why namespaces are not available.
        why: String,
    },
}

impl Wiring {
    /// Its name in the file and in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Wiring::Namespaces => "namespaces",
            Wiring::Loopback { .. } => "loopback",
        }
    }
}

impl fmt::Display for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wiring::Namespaces => f.write_str("network namespaces, one for each half"),
            Wiring::Loopback { why } => write!(f, "relays on loopback, since {why}"),
        }
    }
}

/// The requested wiring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Namespaces if they are available.
    Best,
    Namespaces,
    Loopback,
}

impl Wanted {
    pub(super) fn from_name(name: &str) -> Option<Wanted> {
        match name {
            "namespaces" => Some(Wanted::Namespaces),
            "loopback" => Some(Wanted::Loopback),
            _ => None,
        }
    }

    /// The wiring that is available on this machine.
    pub(super) async fn here(self) -> Result<Wiring, NetworkError> {
        if self == Wanted::Loopback {
            return Ok(Wiring::Loopback { why: "the file says so".to_owned() });
        }
        match (Hosts::work().await, self) {
            (Ok(()), _) => Ok(Wiring::Namespaces),
            (Err(why), Wanted::Namespaces) => Err(NetworkError::NoNamespaces { why }),
            (Err(why), _) => Ok(Wiring::Loopback { why }),
        }
    }
}
