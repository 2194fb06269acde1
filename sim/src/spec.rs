//! What a node of the simulation is started with.

use aemp::kernel::db::PIECE;
use aemp::lane::LaneLimits;
use aemp::value::{NodeId, Str};
use aemp::wire::framing::Framing;
use std::time::Duration;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its ID.
    pub node: NodeId,
    /// Where it listens, and what it says of that.
    pub addresses: Vec<Str>,
    /// What it says of its addresses, where that differs.
    pub advertised: Option<Vec<Str>>,
    /// The seeds that it dials.
    pub seeds: Vec<Str>,
    /// Whether it is global from the start.
    pub global: bool,
    /// As in its greeting, if it begins with `AE-` as those of Perl nodes do; else it is ours.
    pub provider: Str,
    /// One of these, chosen for each connection, is what the greeting names first.
    pub framings: Vec<Framing>,
    /// As in its configuration.
    pub secure: bool,
    /// What others can call or spawn.
    pub functions: Vec<Str>,
    /// How much its lanes take.
    pub limits: LaneLimits,
    /// Octets of the pieces in which it sends its database.
    pub piece: usize,
    /// How long missing keys are not reported after a change of master.
    pub grace: Duration,
    /// Whether it heals Perl slaves.
    pub heal: bool,
    /// Whether it has a certificate: connections between nodes that have one are encrypted.
    pub tls: bool,
    /// Whether it offers encryption that is bound to the secret.
    pub bound: bool,
    /// Whether it says that it knows the request for one key.
    pub knows_get: bool,
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
            piece: PIECE,
            grace: Duration::from_secs(10),
            heal: true,
            tls: false,
            bound: false,
            knows_get: true,
            perl: false,
        }
    }

    /// The same as the model of a Perl node.
    #[must_use]
    pub fn perl(mut self) -> Self {
        self.perl = true;
        self
    }

    /// The same with these seeds.
    #[must_use]
    pub fn seeds<'a>(mut self, seeds: impl IntoIterator<Item = &'a str>) -> Self {
        self.seeds = seeds.into_iter().map(Str::from).collect();
        self
    }

    /// The same, global from the start.
    #[must_use]
    pub fn global(mut self) -> Self {
        self.global = true;
        self
    }
}
