//! §4.1 and §5.1: a node with seeds, one of which is its master. The suite takes the part of the seeds.

pub(super) mod database;
pub(super) mod failover;
mod master;
pub(super) mod pieces;
pub(super) mod seeds;
