//! The asking side of a stream: announces it, waits until the announcement has arrived, and dials.

use super::table::Expectation;
use super::{CONNECT, DataStream, EXPECT, StreamError, packed, session};
use crate::config::node_id::unique_string;
use crate::kernel::db::LOCATIONS;
use crate::node::core::Shared;
use crate::node::{KillReason, MessageRef, Node, Port, RecvError, SendError};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, Str};
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Shortest time for which each of several addresses is tried.
const MIN_DIAL_TIME: Duration = Duration::from_secs(2);
/// Octets that may wait between the ends of a stream within one node.
const LOCAL_BUFFER: usize = 256 << 10;

/// A stream that is being connected; awaiting it yields the stream.
#[must_use = "nothing happens until it is awaited"]
#[derive(Debug)]
pub struct ConnectStream {
    node: Node,
    to: NodeId,
    function: String,
    arguments: Result<Packed, SendError>,
    limit: Option<Duration>,
}

impl ConnectStream {
    pub(super) fn new(
        node: Node,
        to: NodeId,
        function: &str,
        arguments: Result<Packed, SendError>,
    ) -> Self {
        ConnectStream { node, to, function: function.to_owned(), arguments, limit: None }
    }

    /// Limits how long connecting may take. The other node is told to wait no longer either.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    async fn run(self) -> Result<DataStream, StreamError> {
        let ConnectStream { node, to, function, arguments, limit } = self;
        let arguments = arguments?;
        if to == *node.id() {
            return connect_here(&node, &function, &arguments);
        }
        let limit = limit.unwrap_or(node.shared().settings.monitor_timeout);
        let attempt = connect(&node, &to, &function, &arguments, limit);
        match tokio::time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => Err(StreamError::Timeout { node: to, limit }),
        }
    }
}

impl IntoFuture for ConnectStream {
    type Output = Result<DataStream, StreamError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

async fn connect(
    node: &Node,
    to: &NodeId,
    function: &str,
    arguments: &Packed,
    limit: Duration,
) -> Result<DataStream, StreamError> {
    let id = new_id(node).ok_or(StreamError::Shutdown)?;
    // The other node kills this port if it cannot continue.
    let mut port = node.port();
    let lost = node.monitor(to);
    let request = ("", EXPECT, &id, port.id(), limit.as_secs_f64(), function);
    send(node, to, &packed(&request)?, arguments)?;
    // The echo of this message proves that the request has arrived, as both take the same way.
    node.snd(to, ("snd", port.id(), "expected"))?;
    let attempt = async {
        wait_for_echo(&mut port, to).await?;
        tokio::select! {
            biased;
            refused = wait_for_refusal(&mut port, to) => Err(refused),
            stream = reach(node, to, &id) => stream,
        }
    };
    tokio::select! {
        biased;
        result = attempt => result,
        reason = lost => Err(StreamError::Lost { node: to.clone(), reason }),
    }
}

/// Sends a request that is followed by elements in packed form.
fn send(node: &Node, to: &NodeId, request: &Packed, arguments: &Packed) -> Result<(), StreamError> {
    // The first element is the node port.
    let mut octets = request.as_elements().after(1).octets().to_vec();
    octets.extend_from_slice(arguments.as_elements().octets());
    let elements = Elements::new(request.len() - 1 + arguments.len(), &octets);
    Ok(node.snd_elements(&to.node_port(), elements)?)
}

async fn wait_for_echo(port: &mut Port, to: &NodeId) -> Result<(), StreamError> {
    match port.recv_message().await {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(to, error)),
    }
}

async fn wait_for_refusal(port: &mut Port, to: &NodeId) -> StreamError {
    loop {
        if let Err(error) = port.recv_message().await {
            return refused(to, error);
        }
    }
}

fn refused(node: &NodeId, error: RecvError) -> StreamError {
    match error {
        RecvError::Died(reason) if !reason.is_normal() => {
            StreamError::Refused { node: node.clone(), reason }
        }
        _ => StreamError::Shutdown,
    }
}

/// Dials the node, or asks it to dial us if it does not listen anywhere.
async fn reach(node: &Node, to: &NodeId, id: &Str) -> Result<DataStream, StreamError> {
    let shared = node.shared();
    if !addresses(node, to).await.is_empty() {
        return dial_node(shared, to, id).await;
    }
    if node.addresses().is_empty() {
        return Err(unreachable(to, "neither it nor this node listens anywhere"));
    }
    let mut expectation = Expectation::new(&shared.streams, id, &shared.id, 0)
        .map_err(|why| unreachable(to, &why))?;
    node.snd(to, (CONNECT, id, node.id()))?;
    expectation.stream().await.ok_or(StreamError::Shutdown)
}

fn unreachable(node: &NodeId, problems: &str) -> StreamError {
    StreamError::Unreachable { node: node.clone(), problems: problems.to_owned() }
}

/// Dials the addresses of a node one after another.
pub(super) async fn dial_node(
    shared: &Arc<Shared>,
    to: &NodeId,
    id: &Str,
) -> Result<DataStream, StreamError> {
    let addresses = addresses(&Node::inner(shared.clone()), to).await;
    let limit = shared.settings.monitor_timeout / addresses.len().max(1) as u32;
    let limit = limit.max(MIN_DIAL_TIME);
    let mut problems = Vec::new();
    for address in addresses {
        let dialled = session::dial(shared, to, &address, id);
        match tokio::time::timeout(limit, dialled).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => problems.push(format!("{address}: {error}")),
            Err(_) => problems.push(format!("{address}: no answer")),
        }
    }
    if problems.is_empty() {
        problems.push("no known address".to_owned());
    }
    Err(unreachable(to, &problems.join("; ")))
}

/// The addresses at which a node listens: those in the database, or else the address of the seed
/// that led to it.
async fn addresses(node: &Node, of: &NodeId) -> Vec<Str> {
    let known = node.db().get::<Vec<Str>>(LOCATIONS, Str::from(of.clone())).await;
    let mut addresses = known.ok().flatten().unwrap_or_default();
    for seed in node.seeds() {
        if seed.node.as_ref() == Some(of) && !addresses.contains(&seed.address) {
            addresses.push(seed.address);
        }
    }
    addresses
}

/// An ID that nobody can guess, in the form that Perl uses.
fn new_id(node: &Node) -> Option<Str> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    let unique = unique_string(u128::from_ne_bytes(random));
    let mut id = unique.into_bytes();
    id.push(b'@');
    id.extend_from_slice(node.id().as_str().data());
    Some(Str::octets(id))
}

/// Connects a stream to a function of this node.
fn connect_here(
    node: &Node,
    function: &str,
    arguments: &Packed,
) -> Result<DataStream, StreamError> {
    let shared = node.shared();
    let own = node.id();
    let refused = |why: &str| StreamError::Refused {
        node: own.clone(),
        reason: KillReason::new(super::TAG, why),
    };
    let Some(task) = shared.streams.function(&Str::from(function)) else {
        return Err(refused(&format!("no function {function} for streams is registered here")));
    };
    let (near, far) = tokio::io::duplex(LOCAL_BUFFER);
    let [near, far] = [near, far].map(|end| DataStream::new(own.clone(), end, Vec::new()));
    let task = task(MessageRef::new(own, arguments.as_elements()), far)
        .map_err(|problem| refused(&problem))?;
    let (shared, function) = (shared.clone(), function.to_owned());
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        let ended = shared.ended.clone();
        tokio::select! {
            outcome = task => if let Err(problem) = outcome {
                tracing::warn!(node = %shared.id, "stream for {function}: {problem}");
            },
            () = ended.cancelled() => {}
        }
    });
    Ok(near)
}
