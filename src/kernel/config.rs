//! What a kernel has to know from the start.

use crate::value::{NodeId, Str};
use std::time::Duration;

/// What the kernel of a node has to know from the start.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// The node's ID.
    pub node: NodeId,
    /// Where others can connect to it: what goes into the database family `'l`.
    pub addresses: Vec<Str>,
    /// The seeds, as `host:port`.
    pub seeds: Vec<Str>,
    /// How long a node is sought before it is given up; Perl's `monitor_timeout`.
    pub monitor_timeout: Duration,
    /// How long one address is tried before the next; Perl's `connect_interval`.
    pub connect_interval: Duration,
    /// Whether peers may make this node run anything; Perl's `secure`.
    pub secure: bool,
    /// Whether Perl slaves that lost their master are healed.
    pub heal: bool,
    /// How long the entries of nodes whose master was lost stay before they count as deleted.
    pub grace: Duration,
    /// What `$$` evaluates to.
    pub process_id: u32,
    /// Where all randomness comes from.
    pub entropy: [u8; 32],
}

impl KernelConfig {
    /// How long keys may be missing after a change of master, unless told.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
}
