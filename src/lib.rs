//! Erlang-style message passing between nodes: the AEMP 2 protocol, wire-compatible with Perl's
//! AnyEvent::MP 2.02.
//!
//! The crate is built in layers, each knowing only those before it: [`value`] (Perl's data model),
//! [`wire`] (octets of the protocol, no I/O), [`kernel`] (the node's logic as state machines), and
//! the node itself.

pub mod codec;
pub mod config;
pub mod kernel;
pub mod value;
pub mod wire;
