//! What functions accept that need to know a port.

use super::{CallbackPort, Port};
use crate::value::{InvalidId, NodeId, PortId, Str};

/// Something that names a port: a port, its ID, a node (its node port), or the text of an ID.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = aemp::Node::builder().alone().start().await?;
/// let mut port = node.port();
/// let text = port.id().to_string();
/// node.snd(&port, "by the port itself")?;
/// node.snd(port.id(), "by its ID")?;
/// node.snd(text.as_str(), "by the text of its ID")?;
/// for _ in 0..3 {
///     println!("{}", port.recv::<String>().await?);
/// }
/// # Ok(()) }
/// ```
pub trait ToPort {
    /// The port's ID.
    ///
    /// # Errors
    /// Fails if the text is not a port ID.
    fn to_port(&self) -> Result<PortId, InvalidId>;

    /// Calls `f` with the port's ID, borrowed if there is one already.
    ///
    /// # Errors
    /// Fails if the text is not a port ID.
    fn with_port<R>(&self, f: impl FnOnce(&PortId) -> R) -> Result<R, InvalidId> {
        Ok(f(&self.to_port()?))
    }
}

impl ToPort for PortId {
    fn to_port(&self) -> Result<PortId, InvalidId> {
        Ok(self.clone())
    }

    #[inline]
    fn with_port<R>(&self, f: impl FnOnce(&PortId) -> R) -> Result<R, InvalidId> {
        Ok(f(self))
    }
}

impl ToPort for NodeId {
    fn to_port(&self) -> Result<PortId, InvalidId> {
        Ok(self.node_port())
    }
}

impl ToPort for str {
    fn to_port(&self) -> Result<PortId, InvalidId> {
        self.parse()
    }
}

impl ToPort for String {
    fn to_port(&self) -> Result<PortId, InvalidId> {
        self.parse()
    }
}

impl ToPort for Port {
    fn to_port(&self) -> Result<PortId, InvalidId> {
        Ok(self.id())
    }
}

impl ToPort for CallbackPort {
    fn to_port(&self) -> Result<PortId, InvalidId> {
        Ok(self.id())
    }
}

/// For keys of the database, which are strings.
impl ToPort for Str {
    fn to_port(&self) -> Result<PortId, InvalidId> {
        PortId::parse(self.clone())
    }
}

impl<T: ToPort + ?Sized> ToPort for &T {
    fn to_port(&self) -> Result<PortId, InvalidId> {
        (**self).to_port()
    }

    #[inline]
    fn with_port<R>(&self, f: impl FnOnce(&PortId) -> R) -> Result<R, InvalidId> {
        (**self).with_port(f)
    }
}
