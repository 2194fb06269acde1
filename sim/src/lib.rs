//! A virtual network for the kernels of aemp: many nodes in one thread, in virtual time, with
//! delays, cuts, partitions and crashes. One seed reproduces a run.
//!
//! [`World`] holds the nodes and the network between them; tests drive it by hand. [`chaos`]
//! carries out random operations on a world and checks, after every step and at rest, that the
//! promises of aemp hold.

#![allow(clippy::expect_used, reason = "a simulation that was set up wrongly has to stop")]

pub mod chaos;
mod event;
mod link;
mod net;
mod node;
pub mod offences;
mod perl;
mod program;
mod spec;
mod stranger;
mod wire;
mod world;

pub use event::WorldEvent;
pub use net::{NetworkConditions, SlowLink, Traffic};
pub use node::Node;
pub use perl::PerlNode;
pub use spec::Spec;
pub use stranger::{StrangerBehaviour, Tampering};
pub use world::{HostId, World};
