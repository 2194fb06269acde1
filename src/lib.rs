//! Erlang-style message passing between nodes: the AEMP 2 protocol, wire-compatible with Perl's
//! AnyEvent::MP 2.02.
//!
//! This example runs two nodes in one program: the second one joins through the first, finds the
//! port that is registered there, and calls it. The README has such a pair as two programs, and in
//! Perl; in this repository, `cargo run --example readme_receiver` and, in another terminal, `cargo
//! run --example readme_sender` run them.
//!
//! ```
//! use aemp::{Node, PortId};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let first = Node::builder().node_id("first").secret("geheim").bind("127.0.0.1:0").start().await?;
//! let doubler = first.port_of_tags();
//! doubler.on("double", |ctx, (n, reply): (u32, PortId)| ctx.snd(reply, (2 * n,)));
//! let _entry = first.db().register("doublers", &doubler)?;
//!
//! let seed = first.addresses()[0].to_string();
//! let second = Node::builder().node_id("second").secret("geheim").seed(&seed).start().await?;
//! let port = second.db().wait_for_key("doublers").await.ok_or("shut down")?;
//! assert_eq!(second.call::<u32>(&port, ("double", 21)).await?, 42);
//! # Ok(()) }
//! ```
//!
//! From here, see [`Node`] for what a node can do, [`patterns`] for the building blocks of whole
//! programs (actors, supervisors, services, replicas, timers, topics), and [`value`] for how Rust types
//! become messages. The tutorial is `docs/tutorial.md`.
//!
//! The crate is built in layers, each of which uses only those before it: [`value`] (Perl's data
//! model), [`wire`] (octets of the protocol, no I/O), `kernel` (the node's logic as state
//! machines), `lane` (what is queued for a remote node), [`codec`] (the wire layer for tokio), and
//! [`node`], whose types are re-exported at the top of the crate. [`services`] are on top of a
//! node: raw streams, logs of other nodes, and metrics.
//!
//! `kernel` and `lane` are public for the simulator and the tests only. They are not part of the
//! stable interface: they may change in any version, and are not documented here.

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
pub mod patterns;
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
