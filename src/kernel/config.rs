//! The configuration of a kernel.

use crate::value::{NodeId, Str};
use std::time::Duration;

/// The configuration of a node's kernel.
#[derive(Debug, Clone)]
pub struct KernelConfig {
    /// The node's ID.
    pub node: NodeId,
    /// The addresses that the node announces in the database family `'l`.
    pub addresses: Vec<Str>,
    /// The seeds, as `host:port`.
    pub seeds: Vec<Str>,
    /// How long to try to reach a node before it is given up; Perl's `monitor_timeout`.
    pub monitor_timeout: Duration,
    /// How long to try one address before the next is tried; Perl's `connect_interval`.
    pub connect_interval: Duration,
    /// Whether requests to run functions are refused; Perl's `secure`.
    pub secure: bool,
    /// Whether Perl slaves that lost their master are healed.
    pub heal: bool,
    /// How long the entries of slaves whose master was lost are kept before they are deleted.
    pub grace: Duration,
    /// The value of `$$`.
    pub process_id: u32,
    /// The seed of all random numbers.
    pub entropy: [u8; 32],
}

impl KernelConfig {
    /// The default of [`KernelConfig::grace`].
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

    /// A node without addresses and seeds, with Perl's default times and without healing, whose random
    /// numbers are the same in every run: for tests and measurements.
    pub fn repeatable(node: NodeId) -> Self {
        KernelConfig {
            node,
            addresses: Vec::new(),
            seeds: Vec::new(),
            monitor_timeout: Duration::from_secs(30),
            connect_interval: Duration::from_secs(2),
            secure: false,
            heal: false,
            grace: Self::DEFAULT_GRACE,
            process_id: 1,
            entropy: [7; 32],
        }
    }
}
