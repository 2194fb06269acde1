//! Erlang-style message passing between nodes: the AEMP 2 protocol, wire-compatible with Perl's
//! AnyEvent::MP 2.02.
//!
//! The crate is built in layers, each knowing only those before it: [`value`] (Perl's data model),
//! [`wire`] (octets of the protocol, no I/O), `kernel` (the node's logic as state machines), `lane`
//! (what waits for a remote node), [`codec`] (the wire layer for tokio), and [`node`], whose types stand
//! at the top of the crate. [`services`] are what nodes offer each other beyond messages, raw streams and
//! logs, and what they show to those who watch over them.
//!
//! `kernel` and `lane` are public for the simulator and the tests. They are not part of the crate's
//! promise: they may change in any version, and are not documented here.

mod builder;
pub mod codec;
pub mod config;
#[cfg(feature = "conform")]
pub mod conform;
#[doc(hidden)]
pub mod kernel;
#[doc(hidden)]
pub mod lane;
#[doc(hidden)]
pub mod mutation;
pub mod node;
mod rewind;
pub mod services;
pub mod value;
pub mod wire;

pub use builder::NodeBuilder;
pub use node::{
    Call, CallError, CallbackPort, Change, Context, Db, DbError, DbMonitor, Entry, KillReason,
    Message, MessageRef, Monitor, MonitorGuard, Node, NodeEvent, NodeEvents, Outcome, Port,
    RecvError, Reply, SendError, StartError, Timer, ToPort,
};
pub use value::{NodeId, PortId, Value};

/// The programs in the documentation are compiled, and those that end are run.
#[cfg(doctest)]
mod documentation {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/tutorial.md")]
    struct Tutorial;
    #[doc = include_str!("../docs/scaling.md")]
    struct Scaling;
}
