//! Timers: send a message to a port later, once or repeatedly, for as long as the port lives.
//!
//! ```
//! use aemp::{Node, patterns::timer};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().alone().start().await?;
//! let mut port = node.port();
//! timer::after(&node, port.id(), Duration::from_millis(1), ("hello",))?.detach();
//! assert_eq!(port.recv::<(String,)>().await?.0, "hello");
//!
//! let ticks = timer::every(&node, port.id(), Duration::from_millis(1), ("tick",))?;
//! for _ in 0..3 {
//!     assert_eq!(port.recv::<(String,)>().await?.0, "tick");
//! }
//! drop(ticks);
//! # Ok(()) }
//! ```

use crate::node::{Node, SendError, ToPort};
use crate::value::{Packed, PortId};
use serde::Serialize;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

/// A running timer; dropping it ends it.
#[must_use = "dropping it ends the timer; Timer::detach lets it run for as long as the port lives"]
#[derive(Debug)]
pub struct Timer(AbortOnDropHandle<()>);

impl Timer {
    /// Lets the timer run until its port dies.
    pub fn detach(self) {
        drop(self.0.detach());
    }
}

/// Sends a message after a delay, unless the port has died by then. An actor can send itself one
/// with [`ActorContext::id`](super::actor::ActorContext::id).
///
/// # Errors
/// As [`Node::snd`], except for errors of the connection's framing.
pub fn after(
    node: &Node,
    to: impl ToPort,
    pause: Duration,
    message: impl Serialize,
) -> Result<Timer, SendError> {
    start(node, to, message, move |node, to, message| async move {
        sleep(pause).await;
        let _ = node.snd(to, &message);
    })
}

/// Sends a message every `period`, the first one after one period, until the port dies. Messages
/// that were due while the process was stopped are not sent later.
///
/// # Errors
/// As [`Node::snd`], except for errors of the connection's framing.
pub fn every(
    node: &Node,
    to: impl ToPort,
    period: Duration,
    message: impl Serialize,
) -> Result<Timer, SendError> {
    start(node, to, message, move |node, to, message| async move {
        let mut ticks = interval(period.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is immediate.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let _ = node.snd(&to, &message);
        }
    })
}

fn start<Fut: Future<Output = ()> + Send + 'static>(
    node: &Node,
    to: impl ToPort,
    message: impl Serialize,
    run: impl FnOnce(Node, PortId, Packed) -> Fut + Send + 'static,
) -> Result<Timer, SendError> {
    let (to, message) = (to.to_port()?, Packed::of(&message)?);
    let death = node.monitor(&to);
    let weak = node.weak();
    let task = node.runtime().spawn(async move {
        tokio::select! {
            _ = death => {}
            () = run(weak, to, message) => {}
        }
    });
    Ok(Timer(AbortOnDropHandle::new(task)))
}
