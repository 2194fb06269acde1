//! The configuration of a simulated node.

use aemp::kernel::db::PIECE_SIZE;
use aemp::lane::LaneLimits;
use aemp::value::{NodeId, Str};
use aemp::wire::framing::Framing;
use std::time::Duration;

/// The configuration of a node.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its ID.
    pub node: NodeId,
    /// The addresses on which it listens, and which it announces by default.
    pub addresses: Vec<Str>,
    /// The addresses that it announces, if they differ.
    pub advertised: Option<Vec<Str>>,
    /// The seeds that it dials.
    pub seeds: Vec<Str>,
    /// Whether it is global from the start.
    pub global: bool,
    /// The provider in its greeting if it begins with `AE-`, as that of Perl nodes does; otherwise
    /// it is ours.
    pub provider: Str,
    /// Framings, one of which is chosen for each connection as the first one in the greeting.
    pub framings: Vec<Framing>,
    /// Whether it is in `secure` mode.
    pub secure: bool,
    /// The functions that others can call or spawn.
    pub functions: Vec<Str>,
    /// The limits of its lanes.
    pub limits: LaneLimits,
    /// Octets of the pieces in which it sends its database.
    pub piece: usize,
    /// How long keys that are missing after a change of master are not reported.
    pub grace: Duration,
    /// Whether it heals Perl slaves.
    pub heal: bool,
    /// Whether it has a certificate. Connections between nodes with certificates are encrypted.
    pub tls: bool,
    /// Whether it offers encryption that is bound to the secret.
    pub bound: bool,
    /// Whether its greeting says that it knows the request for one key.
    pub knows_get: bool,
    /// Whether its greeting says which run of the node it is.
    pub names_run: bool,
    /// Whether changes for a node whose connection has no room wait and coalesce.
    pub coalesces: bool,
    /// Whether it is (the model of) a Perl node.
    pub perl: bool,
}

impl Spec {
    /// A node that listens at `NAME:1` and has no seeds.
    pub fn new(name: &str) -> Self {
        Spec {
            node: NodeId::new(name).expect("the test gives a node ID"),
            addresses: vec![Str::from(format!("{name}:1"))],
            advertised: None,
            seeds: Vec::new(),
            global: false,
            provider: Str::from("aemp-0.1"),
            framings: vec![Framing::Cbor],
            secure: false,
            functions: vec![Str::from("f")],
            limits: LaneLimits::default(),
            piece: PIECE_SIZE,
            grace: Duration::from_secs(10),
            heal: true,
            tls: false,
            bound: false,
            knows_get: true,
            names_run: true,
            coalesces: true,
            perl: false,
        }
    }

    /// The same node as the model of a Perl node.
    #[must_use]
    pub fn perl(mut self) -> Self {
        self.perl = true;
        self
    }

    /// The same node with these seeds.
    #[must_use]
    pub fn seeds<'a>(mut self, seeds: impl IntoIterator<Item = &'a str>) -> Self {
        self.seeds = seeds.into_iter().map(Str::from).collect();
        self
    }

    /// The same node, global from the start.
    #[must_use]
    pub fn global(mut self) -> Self {
        self.global = true;
        self
    }
}
