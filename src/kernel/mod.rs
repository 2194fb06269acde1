//! The node's logic as deterministic state machines: no sockets, no clock, no randomness.

pub mod db;
