//! Preconditions of a run: somebody listens, greets as a node, and belongs to the network whose secret the
//! suite has. If one does not hold, that is not a miss: the run ends with one line that says what to do.

use super::context::Ctx;
use super::echo;
use super::session::Session;
use super::shake;
use super::stop::Seen;
use serde_json::json;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Why a node cannot be tested.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// The node's address refuses connections.
    #[error("cannot connect to {address}: {reason}; start the node first, or correct the address")]
    Unreachable {
        /// The address.
        address: String,
        /// The reason.
        reason: String,
    },
    /// The listener there does not greet as a node.
    #[error("no AEMP 2 node answers at {place}: {reason}")]
    NoNode {
        /// The address.
        place: String,
        /// What arrived instead.
        reason: String,
    },
    /// The node and the suite do not accept each other as members of one network.
    #[error(
        "the node at {place} and the suite cannot authenticate: {reason}; give the secret or the \
         certificate of its network (--secret, --cert); if it has them, `--only 'greet-*,auth-*'` \
         tests how it authenticates"
    )]
    NotAuthenticated {
        /// The address.
        place: String,
        /// What happened.
        reason: String,
    },
    /// The node has ended during the run.
    #[error(
        "the node at {address} no longer accepts connections: it ended, or hangs, after {checks} \
         checks; these were running: {running}"
    )]
    Gone {
        /// The address.
        address: String,
        /// The number of checks that had ended.
        checks: usize,
        /// The names of the others.
        running: String,
    },
    /// The command that starts the node has ended before a node has dialled.
    #[error("the command ended ({status}) before a node dialled{}", behind(said))]
    CommandEnded {
        /// How it ended.
        status: ExitStatus,
        /// The last line on its standard error.
        said: String,
    },
    /// No node has dialled.
    #[error(
        "no node dialled within {waited:?}; was it started with the given seeds?{}",
        behind(said)
    )]
    NobodyDials {
        /// How long the suite waited.
        waited: Duration,
        /// The last line of the standard error of the command that starts the node, if there is one.
        said: String,
    },
}

impl Obstacle {
    /// The target in messages, if no node was expected to dial.
    pub(super) fn of_command(&self) -> String {
        match self {
            Obstacle::CommandEnded { status, said } => {
                format!("the command ended ({status}){}", behind(said))
            }
            other => other.to_string(),
        }
    }
}

/// A command's last output, to append to a message.
fn behind(said: &str) -> String {
    match said {
        "" => String::new(),
        said => format!("; it says: {}", said.escape_debug()),
    }
}

/// The extent of a precondition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// A connection: the selected checks are about the handshake.
    Connects,
    /// A valid handshake, too.
    Authenticates,
}

impl Depth {
    /// The extent that the checks with these names need.
    pub(super) fn of(only: &[String]) -> Depth {
        let is_of_handshakes = |name: &String| {
            let families = ["greet-", "auth-", "choose-", "tls-", "take-", "refuse-"];
            name == "*" || families.iter().any(|family| name.starts_with(family))
        };
        match only.iter().any(is_of_handshakes) {
            true => Depth::Connects,
            false => Depth::Authenticates,
        }
    }
}

/// The properties of a node that can be tested.
#[derive(Clone, Copy, Debug)]
pub(super) struct TestableNode {
    /// The factor by which its times are extended.
    pub(super) slowness: f64,
    /// Whether it lacks the test service that it should have.
    pub(super) lacks_service: bool,
}

impl TestableNode {
    /// The values before anything is known.
    pub(super) const UNKNOWN: TestableNode = TestableNode { slowness: 1.0, lacks_service: false };
}

/// Fails unless a handshake with the node succeeds; `place` is its address in messages.
pub(super) async fn meets(ctx: &Ctx, place: &str, extent: Depth) -> Result<TestableNode, Obstacle> {
    let mut conn = ctx.connect("first").await.map_err(|seen| Obstacle::Unreachable {
        address: place.to_owned(),
        reason: without_prefix(&seen, place),
    })?;
    if extent == Depth::Connects {
        return Ok(TestableNode::UNKNOWN);
    }
    let place = place.to_owned();
    let shake = ctx.shake("first");
    let greeted = match shake::greet(&mut conn, &shake).await {
        Ok(greeted) => greeted,
        Err(seen) => return Err(Obstacle::NoNode { place, reason: seen.to_string() }),
    };
    let agreed = shake::authenticate(&mut conn, &shake, greeted).await;
    match agreed.and_then(|agreed| shake::into_session(conn, &shake, agreed)) {
        Ok(mut session) => {
            // A node that answers no echo misses many statements; the checks report that.
            let slowness = echo::slowest(&mut session).await.map_or(1.0, echo::slowness);
            let lacks_service = match &ctx.target.service {
                Some(function) => {
                    let within = ctx.target.patience.mul_f64(slowness);
                    !has_service(ctx, &mut session, function, within).await
                }
                None => false,
            };
            Ok(TestableNode { slowness, lacks_service })
        }
        Err(seen) => Err(Obstacle::NotAuthenticated { place, reason: seen.to_string() }),
    }
}

/// Whether the function makes a port of the test service.
async fn has_service(ctx: &Ctx, session: &mut Session, function: &str, within: Duration) -> bool {
    let (port, to) = (ctx.port_name(), session.port("up"));
    let spawn = json!(["", "AnyEvent::MP::_spawn", port, function, to, "up"]);
    let sent = session.send(spawn).await;
    let has = sent.is_ok() && session.expect_within(json!(["up", "up"]), within).await.is_ok();
    // It is not needed any more; a failure would show in the checks.
    let _ = session.send(json!(["", "kil1", port])).await;
    has
}

fn without_prefix(seen: &Seen, address: &str) -> String {
    let text = seen.to_string();
    let prefix = format!("cannot connect to {address}: ");
    text.strip_prefix(&prefix).map_or(text.clone(), str::to_owned)
}

/// Waits until nobody listens at an address any more; false if a node is only being restarted.
pub(super) async fn is_gone(address: &str, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return false,
            Ok(Err(_)) | Err(_) if Instant::now() >= deadline => return true,
            Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}
