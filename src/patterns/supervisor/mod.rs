//! Supervisors: start children, start them again when they die, and give up when that does not help.
//!
//! Terms and semantics are those of Erlang/OTP's [supervisor
//! behaviour](https://www.erlang.org/doc/system/sup_princ.html), with these differences:
//!
//! - Restarts are delayed more and more: the first within the period is immediate, the second comes
//!   after 100 ms, then twice as long each time, up to 5 s ([`Supervisor::backoff`]).
//! - A child that cannot be started counts as one that died, also at the first start.
//! - A supervisor that gives up dies with the reason `die`, so that its own supervisor treats that
//!   as a failure; OTP's ends with `shutdown`.
//! - Children of a [`Strategy::OneForOne`] supervisor do not wait for each other to start.
//!
//! # A child whose node is lost
//!
//! It is started on another node at once, but it may still be alive on the one that was lost. An
//! actor that was spawned with [`Child::spawned_actor`] ends by itself when it loses its supervisor.
//! Any other port is killed by the supervisor as soon as the two nodes are connected again, and the
//! supervisor asks for that connection at least every five seconds. So with the usual
//! `monitor_timeout` of 30 s:
//!
//! - As long as the nodes are connected there is one of each child. When a connection is lost, there
//!   may be two of an actor until both of its ends have noticed, which is at once if a process ends
//!   or a connection is reset, and within `monitor_timeout` if nothing arrives any more; and until
//!   the actor has handled the message at hand.
//! - When a network that was cut apart is whole again, there is one of each child within
//!   `monitor_timeout` plus five seconds, and usually at once.
//! - A process that stands still (SIGSTOP, for example) is not lost while its machine answers for it, and
//!   its children are not replaced.
//! - If the supervisor's process is killed, its spawned actors end in the same way. Other ports that
//!   it spawned on other nodes live on.
//!
//! ```
//! use aemp::Node;
//! use aemp::patterns::supervisor::{Child, Place, Strategy, Supervisor};
//! # use aemp::patterns::{Failure, actor::{Actor, ActorContext}};
//! # struct Counter(i64);
//! # impl Actor for Counter {
//! #     type Message = (String,);
//! #     async fn handle(&mut self, _: &ActorContext, _: (String,)) -> Result<(), Failure> { Ok(()) }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().alone().start().await?;
//! let supervisor = Supervisor::new(Strategy::OneForOne)
//!     .child(Child::actor("counter", || Counter(0)).registered("counters"))
//!     .child(Child::spawned("remote", Place::Family("hosts".into()), "My::Worker::new", (1, 2)))
//!     .start(&node);
//! supervisor.stop()?;
//! assert!(supervisor.monitor().await.is_normal());
//! # Ok(()) }
//! ```

mod child;
mod plan;
mod running;

pub use child::{Child, Place};

use super::actor::{self, ActorRef};
use crate::node::{Node, Reply};
use crate::value::PortId;
use running::Supervising;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Which children are restarted when one of them dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Only that one.
    OneForOne,
    /// All: the others are stopped first, in reverse order.
    OneForAll,
    /// That one and those that were started after it.
    RestForOne,
}

/// When a child is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// Unless it ended normally or with the reason `shutdown`.
    Transient,
    /// Never, not even when others are restarted.
    Temporary,
}

/// Children, and what happens when they die; see the [module](self).
#[derive(Debug)]
pub struct Supervisor {
    strategy: Strategy,
    intensity: (usize, Duration),
    backoff: (Duration, Duration),
    children: Vec<Child>,
}

/// The requests that a supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// The children in order, each with its port if it is running.
    Children(Reply<Vec<(String, Option<PortId>)>>),
}

impl Supervisor {
    /// A supervisor without children. By default it gives up at the second restart within 5 s, like
    /// OTP's.
    pub const fn new(strategy: Strategy) -> Self {
        Supervisor {
            strategy,
            intensity: (1, Duration::from_secs(5)),
            backoff: (Duration::from_millis(100), Duration::from_secs(5)),
            children: Vec::new(),
        }
    }

    /// Gives up when more than `restarts` are needed within `period`.
    #[must_use]
    pub const fn intensity(mut self, restarts: usize, period: Duration) -> Self {
        self.intensity = (restarts, period);
        self
    }

    /// Sets the pause before the second restart within the period, and the longest pause.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = (first, longest);
        self
    }

    /// Adds a child, which is started after the others and stopped before them.
    #[must_use]
    pub fn child(mut self, child: Child) -> Self {
        self.children.push(child);
        self
    }

    /// Starts the supervisor and its children.
    pub fn start(self, node: &Node) -> ActorRef<Request> {
        actor::start(node, Supervising::new(self)).retyped()
    }
}
