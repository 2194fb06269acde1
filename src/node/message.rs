//! Messages as ports receive them: kept as octets, and decoded on request.

use crate::value::packed::Elements;
use crate::value::{DecodeError, NodeId, Packed, Str, Value};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// A received message, borrowed while a callback runs; [`MessageRef::keep`] keeps it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let (sender, kept) = std::sync::mpsc::channel();
/// let port = node.port_with(move |_, message| match message.tag() {
///     Some(tag) if tag == "keep" => drop(sender.send(message.keep())),
///     _ => println!("{:?} from {}", message.values(), message.from()),
/// });
/// node.snd(&port, ("keep", 42))?;
/// assert_eq!(kept.recv()?.decode::<(String, u32)>()?.1, 42);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy)]
pub struct MessageRef<'a> {
    from: &'a NodeId,
    elements: Elements<'a>,
}

impl<'a> MessageRef<'a> {
    pub(crate) const fn new(from: &'a NodeId, elements: Elements<'a>) -> Self {
        MessageRef { from, elements }
    }

    /// The node that sent the message. Perl calls this `$AnyEvent::MP::Kernel::SRCNODE`.
    pub const fn from(self) -> &'a NodeId {
        self.from
    }

    /// The elements in packed form.
    pub const fn elements(self) -> Elements<'a> {
        self.elements
    }

    /// The first element, if it is a string: what [`CallbackPort::on`](super::CallbackPort::on) looks at.
    pub fn tag(self) -> Option<Str> {
        self.elements.first_str().map(Str::from)
    }

    /// The message as a Rust value, which may borrow from it.
    ///
    /// # Errors
    /// Fails with the path and the two types if an element does not have the requested type.
    pub fn decode<T: Deserialize<'a>>(self) -> Result<T, DecodeError> {
        crate::value::from_elements(self.elements)
    }

    /// All elements.
    ///
    /// # Errors
    /// Fails only if values are nested deeper than the decoder allows.
    pub fn values(self) -> Result<Vec<Value>, DecodeError> {
        self.decode()
    }

    /// A copy that outlives the callback.
    pub fn keep(self) -> Message {
        Message { from: self.from.clone(), elements: self.elements.to_packed() }
    }
}

impl fmt::Debug for MessageRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keep().fmt(f)
    }
}

/// A received message.
///
/// It keeps the types that arrived: octets or text, integer or float. [`Message::decode`] coerces
/// as Perl does, so a number that was sent as a string can still be decoded as a number.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let mut port = node.port();
/// node.snd(&port, ("add", 2, "40"))?;
/// let message = port.recv_message().await?;
/// assert_eq!(message.from(), node.id());
/// assert_eq!(message.tag().unwrap(), "add");
/// assert_eq!(message.decode::<(String, u32, u32)>()?.2, 40);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Message {
    from: NodeId,
    elements: Packed,
}

impl Message {
    /// The node that sent the message. Perl calls this `$AnyEvent::MP::Kernel::SRCNODE`.
    pub const fn from(&self) -> &NodeId {
        &self.from
    }

    /// The same message, borrowed.
    pub fn as_ref(&self) -> MessageRef<'_> {
        MessageRef { from: &self.from, elements: self.elements.as_elements() }
    }

    /// The first element, if it is a string.
    pub fn tag(&self) -> Option<Str> {
        self.as_ref().tag()
    }

    /// The message as a Rust value.
    ///
    /// # Errors
    /// Fails with the path and the two types if an element does not have the requested type; the
    /// message is still there and can be decoded as another type.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, DecodeError> {
        self.as_ref().decode()
    }

    /// All elements.
    ///
    /// # Errors
    /// Fails only if values are nested deeper than the decoder allows.
    pub fn values(&self) -> Result<Vec<Value>, DecodeError> {
        self.as_ref().values()
    }

    /// The elements in packed form, for sending them on without decoding.
    pub const fn packed(&self) -> &Packed {
        &self.elements
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("from", &self.from)
            .field("elements", &self.elements)
            .finish()
    }
}

/// Why a port died: the elements that its monitors get.
///
/// No elements mean that it ended normally. Otherwise the first one is a tag, such as `die`,
/// `no_such_port`, `transport_error` or `unhandled_message`, followed by a text.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use aemp::KillReason;
///
/// let reason = KillReason::new("failure", "too hot");
/// assert_eq!(reason.to_string(), r#"["failure", "too hot"]"#);
/// assert_eq!(reason.decode::<(String, String)>()?.1, "too hot");
/// assert!(KillReason::normal().is_normal());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct KillReason(Packed);

impl KillReason {
    /// The port ended as planned; links do not pass this on.
    pub fn normal() -> Self {
        KillReason(Packed::default())
    }

    /// A reason with a tag and a text.
    pub fn new(tag: &str, text: &str) -> Self {
        KillReason(crate::kernel::build_reason(&[tag, text]))
    }

    pub(crate) const fn from_packed(packed: Packed) -> Self {
        KillReason(packed)
    }

    pub(crate) fn into_packed(self) -> Packed {
        self.0
    }

    pub(crate) const fn packed(&self) -> &Packed {
        &self.0
    }

    /// Whether the port ended as planned.
    pub fn is_normal(&self) -> bool {
        self.0.is_empty()
    }

    /// The first element, if it is a string.
    pub fn tag(&self) -> Option<Str> {
        self.0.as_elements().first_str().map(Str::from)
    }

    /// Whether the connection to the port's node was lost, or could not be made.
    pub fn is_transport_error(&self) -> bool {
        self.tag().is_some_and(|tag| tag == "transport_error")
    }

    /// The elements as a Rust value.
    ///
    /// # Errors
    /// As [`Message::decode`].
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        crate::value::from_elements(self.0.as_elements())
    }
}

impl fmt::Debug for KillReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KillReason({:?})", self.0)
    }
}

/// The elements in order, on one line.
impl fmt::Display for KillReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_normal() {
            return f.write_str("normal end");
        }
        write!(f, "{}", self.0)
    }
}

impl std::error::Error for KillReason {}
