//! Actors: a type with state whose messages are handled one at a time.
//!
//! The messages are an enum. On the wire a message has the form that Perl expects: the variant is
//! the first element, its fields are the following ones. A variant whose last field is a [`Reply`]
//! is a call.
//!
//! ```
//! use aemp::patterns::actor::{self, Actor, ActorContext};
//! use aemp::patterns::Failure;
//! use aemp::{Node, Reply};
//! use serde::{Deserialize, Serialize};
//!
//! struct Counter(i64);
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(rename_all = "lowercase")]
//! enum Count {
//!     Add(i64),        // Perl: snd $counter, add => 5
//!     Get(Reply<i64>), // Perl: cal $counter, get => sub { print "$_[0]\n" }
//! }
//!
//! impl Actor for Counter {
//!     type Message = Count;
//!
//!     async fn handle(&mut self, _: &ActorContext, message: Count) -> Result<(), Failure> {
//!         match message {
//!             Count::Add(n) => self.0 += n,
//!             Count::Get(reply) => reply.send(self.0)?,
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().alone().start().await?;
//! let counter = actor::start(&node, Counter(40));
//! counter.snd(Count::Add(2))?;
//! assert_eq!(counter.call(Count::Get).await?, 42);
//!
//! // What other nodes may spawn here: spawn $node, "Counter::new", 5 in Perl. Several arguments are
//! // a tuple on both sides.
//! node.expose("Counter::new", actor::init(|n: i64| Ok(Counter(n))));
//! let spawned = actor::spawn::<Count>(&node, node.id(), "Counter::new", 5)?;
//! assert_eq!(spawned.call(Count::Get).await?, 5);
//!
//! // Others find it in the database for as long as it lives: db_mon counters => ... in Perl.
//! let _entry = node.db().register("counters", &counter)?;
//! # Ok(()) }
//! ```

mod life;

use super::Failure;
use crate::node::{
    Call, CallError, CallbackPort, Context, DbError, KillReason, Message, MessageRef, Monitor,
    Node, Reply, SendError, ToPort,
};
use crate::value::{DecodeError, InvalidId, NodeId, Packed, PortId, Str};
use life::{inbox, run};
use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A message that asks an actor to stop. It is handled in order with the others.
pub(super) const STOP: &str = "'stop";

/// A message that links an actor to a port: when the port dies, for whatever reason, the actor
/// stops.
pub(super) const LINK: &str = "'link";

/// A call that asks how many octets of messages one sender may send without asking again. It is
/// answered after everything that was sent before has been handled.
const ROOM: &str = "'room";

/// How many senders that wait for room fill a mailbox together.
const SENDERS: usize = 16;

/// Octets that a queued message counts in addition to its own.
const OVERHEAD: usize = 64;

/// A type whose messages are handled one at a time. An error or a panic kills its port with the
/// reason `die, text`.
pub trait Actor: Sized + Send + 'static {
    /// The type of its messages: usually an enum.
    type Message: DeserializeOwned + Send + 'static;

    /// Octets of messages that may be queued; one more message kills the actor, so that no message
    /// is ever skipped. Senders that might be faster than the actor use [`ActorRef::snd_wait`], or
    /// calls: of these, a quarter of the default may be pending for each calling node.
    const MAILBOX: usize = 64 << 20;

    /// Runs before the first message is handled.
    fn started(&mut self, _: &ActorContext) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Ok(()) }
    }

    /// Handles a message. If the actor is killed, this is dropped at its next `await`.
    fn handle(
        &mut self,
        ctx: &ActorContext,
        message: Self::Message,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Handles a message that is not an [`Actor::Message`]. By default the actor dies.
    ///
    /// # Errors
    /// The reason for which the actor dies.
    fn unknown(
        &mut self,
        ctx: &ActorContext,
        _: Message,
        error: DecodeError,
    ) -> Result<(), Failure> {
        Err(format!("unexpected message from {}: {error}", ctx.from()).into())
    }

    /// Runs when the actor ends, before monitors fire. If the port was killed they have already
    /// fired.
    fn stopped(&mut self, _: &ActorContext, _: &KillReason) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// The actor's port and its node, as its methods see them.
pub struct ActorContext {
    node: Node,
    id: PortId,
    from: NodeId,
    is_stopping: AtomicBool,
}

impl ActorContext {
    /// The node of the actor.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// The ID of the actor's port. Perl calls this `$SELF`.
    pub const fn id(&self) -> &PortId {
        &self.id
    }

    /// The node that sent the current message.
    pub const fn from(&self) -> &NodeId {
        &self.from
    }

    /// Sends a message; see [`Node::snd`].
    ///
    /// # Errors
    /// As [`Node::snd`].
    pub fn snd(&self, to: impl ToPort, message: impl Serialize) -> Result<(), SendError> {
        self.node.snd(to, message)
    }

    /// Adds the actor to a family of the database for as long as it lives, usually in
    /// [`Actor::started`]; see [`Db::register`](crate::Db::register).
    ///
    /// # Errors
    /// As [`Db::set`](crate::Db::set).
    pub fn register(&self, family: impl Into<Str>) -> Result<(), DbError> {
        self.register_with(family, ())
    }

    /// As [`ActorContext::register`], with a value.
    ///
    /// # Errors
    /// As [`Db::set`](crate::Db::set).
    pub fn register_with(
        &self,
        family: impl Into<Str>,
        value: impl Serialize,
    ) -> Result<(), DbError> {
        self.node.db().register_with(family, &self.id, value)?.detach();
        Ok(())
    }

    /// Kills the actor when this port dies, with the same reason, be it a normal end or not. (A
    /// [link](Node::link) leaves the actor alive when the port ends normally.)
    pub fn die_with(&self, port: impl ToPort) {
        let (node, own) = (self.node.weak(), self.id.clone());
        self.node.on_death(port, move |reason| node.kil(own, &reason)).detach();
    }

    /// Ends the actor normally after the current message has been handled.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for ActorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorContext").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A port that accepts messages of type `M`: an actor here or elsewhere, or a Perl port that
/// understands the same messages. It does not keep its node running.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aemp::{Node, PortId, Reply, patterns::actor::ActorRef};
/// use serde::{Deserialize, Serialize};
///
/// /// What some Perl port understands: $_[0] is "square", and the last element is a port.
/// #[derive(Serialize, Deserialize)]
/// #[serde(rename_all = "lowercase")]
/// enum Calculate {
///     Square(f64, Reply<f64>),
/// }
///
/// let node = Node::builder().alone().start().await?;
/// # let port = node.port_of_tags();
/// # port.on("square", |ctx, (n, reply): (f64, PortId)| ctx.snd(reply, n * n));
/// # let found_in_the_database = port.id();
/// let calculator = ActorRef::<Calculate>::at(&node, found_in_the_database)?;
/// assert_eq!(calculator.call(|reply| Calculate::Square(3.0, reply)).await?, 9.0);
/// # Ok(()) }
/// ```
pub struct ActorRef<M> {
    node: Node,
    port: PortId,
    /// How much [`ActorRef::snd_wait`] may send before it asks again; clones share it.
    room: Arc<tokio::sync::Mutex<usize>>,
    messages: PhantomData<fn(M)>,
}

impl<M> ActorRef<M> {
    fn new(node: &Node, port: PortId) -> Self {
        ActorRef { node: node.weak(), port, room: Arc::default(), messages: PhantomData }
    }

    /// The actor at this port.
    ///
    /// # Errors
    /// Fails if the text is not a port ID.
    pub fn at(node: &Node, port: impl ToPort) -> Result<Self, InvalidId> {
        Ok(ActorRef::new(node, port.to_port()?))
    }

    /// The port's ID.
    pub const fn id(&self) -> &PortId {
        &self.port
    }

    /// The same actor with another message type.
    pub fn retyped<N>(&self) -> ActorRef<N> {
        let (node, port, room) = (self.node.weak(), self.port.clone(), self.room.clone());
        ActorRef { node, port, room, messages: PhantomData }
    }

    /// Asks the actor to stop after the queued messages. Only actors of this module understand
    /// that; others can be killed with [`Node::kil`].
    ///
    /// # Errors
    /// As [`Node::snd`].
    pub fn stop(&self) -> Result<(), SendError> {
        self.node.snd(&self.port, (STOP,))
    }

    /// Monitors the actor.
    pub fn monitor(&self) -> Monitor {
        self.node.monitor(&self.port)
    }
}

impl<M: Serialize> ActorRef<M> {
    /// Sends a message.
    ///
    /// # Errors
    /// As [`Node::snd`].
    pub fn snd(&self, message: M) -> Result<(), SendError> {
        self.node.snd(&self.port, message)
    }

    /// Sends a message, but first waits until the actor has handled what was sent in this way
    /// before, if that is more than a sixteenth of its [mailbox](Actor::MAILBOX). So a sender is
    /// never much faster than the actor, on whichever node that is. Clones of a reference share
    /// their sixteenth.
    ///
    /// Only actors of this module answer; other ports do not understand the question.
    ///
    /// # Errors
    /// As [`Node::call`].
    pub async fn snd_wait(&self, message: M) -> Result<(), CallError> {
        let message = Packed::of(&message).map_err(SendError::from)?;
        let size = message.as_elements().octets().len() + OVERHEAD;
        let mut room = self.room.lock().await;
        if *room < size {
            *room = self.node.call(&self.port, (ROOM,)).await?;
        }
        *room = room.saturating_sub(size);
        Ok(self.node.snd(&self.port, &message)?)
    }

    /// Sends a message whose last field is the [`Reply`], and waits for the answer: for a variant
    /// `Get(Reply<i64>)`, `call(Message::Get)`; with more fields, `call(|reply| Message::Add(1, reply))`.
    pub fn call<A: DeserializeOwned>(&self, message: impl FnOnce(Reply<A>) -> M) -> Call<A> {
        self.node.call(&self.port, WithoutReply(message(Reply::placeholder())))
    }
}

impl<M> Clone for ActorRef<M> {
    fn clone(&self) -> Self {
        self.retyped()
    }
}

impl<M> fmt::Debug for ActorRef<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorRef({})", self.port)
    }
}

impl<M> ToPort for ActorRef<M> {
    fn to_port(&self) -> Result<PortId, InvalidId> {
        Ok(self.port.clone())
    }
}

/// A message without its last element, which a call replaces with its reply port.
struct WithoutReply<M>(M);

impl<M: Serialize> Serialize for WithoutReply<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = Packed::of(&self.0).map_err(S::Error::custom)?;
        match message.as_elements().split_last() {
            Some((before, last)) if last.reader().is_at_undef() => {
                before.to_packed().serialize(serializer)
            }
            _ => Err(S::Error::custom("the Reply has to be the last field of the variant")),
        }
    }
}

/// Starts an actor with a port of its own.
pub fn start<A: Actor>(node: &Node, actor: A) -> ActorRef<A::Message> {
    let (sender, inbox) = inbox(A::MAILBOX);
    let port = node.port_with(move |_: &Context<'_>, message: MessageRef<'_>| sender.put(message));
    run(node, port.id(), inbox, actor);
    ActorRef::new(node, port.id())
}

/// Spawns an actor on a node that [exposes](Node::expose) this function, which may be this node.
/// That returns at once; if spawning fails, [`ActorRef::monitor`] and calls report it.
///
/// # Errors
/// As [`Node::spawn`].
pub fn spawn<M>(
    node: &Node,
    on: impl ToPort,
    function: &str,
    arguments: impl Serialize,
) -> Result<ActorRef<M>, SendError> {
    Ok(ActorRef::new(node, node.spawn(on, function, arguments)?))
}

/// A function for [`Node::expose`] or [`NodeBuilder::expose`](crate::NodeBuilder::expose)
/// with which others spawn actors here; `make` makes an actor from the arguments.
pub fn init<T, A: Actor>(
    make: impl Fn(T) -> Result<A, Failure> + Send + Sync + 'static,
) -> impl Fn(&Context<'_>, T) -> Result<(), Failure> + Send + Sync + 'static {
    move |ctx, arguments| {
        let port: CallbackPort = ctx.port().ok_or("an actor has to be spawned, not called")?;
        let actor = make(arguments)?;
        let (sender, inbox) = inbox(A::MAILBOX);
        port.on_default(move |_: &Context<'_>, message: MessageRef<'_>| sender.put(message));
        run(ctx.node(), ctx.port_id(), inbox, actor);
        Ok(())
    }
}
