//! §4.1 and §5.1: a node with seeds, of which one is its master. The suite is those seeds.

pub(super) mod database;
pub(super) mod failover;
mod master;
pub(super) mod seeds;
