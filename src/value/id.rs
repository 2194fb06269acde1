//! The IDs of nodes and ports.

use super::string::{Str, StrRef};
use indexmap::Equivalent;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use thiserror::Error;

/// A string that is not the ID of a node or port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidId {
    /// An empty node ID.
    #[error("a node ID must not be empty")]
    EmptyNodeId,
    /// `#` ends the node ID in a port ID.
    #[error("a node ID must not contain '#', which begins the port name in a port ID")]
    HashInNodeId,
    /// A port ID without a node ID, such as the empty string or `#port`.
    #[error("a port ID must begin with a node ID, as in node#port")]
    PortIdWithoutNode,
}

/// The ID of a node, unique in its network; compared as a string (docs/protocol.md §1.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Str);

impl NodeId {
    /// A node ID.
    ///
    /// # Errors
    /// The string is empty or contains a `#`.
    pub fn new(id: impl Into<Str>) -> Result<Self, InvalidId> {
        let id = id.into();
        let data = id.as_ref().data();
        if data.is_empty() {
            return Err(InvalidId::EmptyNodeId);
        }
        if data.contains(&b'#') {
            return Err(InvalidId::HashInNodeId);
        }
        Ok(NodeId(id))
    }

    /// The ID as a string.
    pub fn as_str(&self) -> StrRef<'_> {
        self.0.as_ref()
    }

    /// The ID of the node's own port: the same string.
    pub fn node_port(&self) -> PortId {
        self.into()
    }
}

/// The address of a port: `nodeid#portname`, or just the node ID for the node port.
///
/// ```
/// use aemp::value::PortId;
///
/// let port: PortId = "node/abc#port1".parse()?;
/// assert_eq!(port.node().to_string(), "node/abc");
/// assert_eq!(port.port(), "port1");
/// assert!("#port1".parse::<PortId>().is_err());
/// # Ok::<(), aemp::value::InvalidId>(())
/// ```
#[derive(Clone)]
pub struct PortId {
    id: Str,
    /// The length of the node's ID, which is the whole string for a node port.
    node_len: usize,
}

impl PortId {
    /// The ID of the port `port` on `node`; the empty name is the node port's.
    pub fn new<'p>(node: &NodeId, port: impl Into<StrRef<'p>>) -> Self {
        let port = port.into();
        if port.is_empty() {
            return node.into();
        }
        PortId::split_at_hash(StrRef::concat(&[node.as_str(), "#".into(), port]))
    }

    /// Parses a port ID. The first `#` ends the node ID; at the very end it has no meaning and is
    /// removed.
    ///
    /// # Errors
    /// [`InvalidId::PortIdWithoutNode`] is the only possible error.
    pub fn parse(id: impl Into<Str>) -> Result<Self, InvalidId> {
        let id = id.into();
        let data = id.as_ref().data();
        match memchr::memchr(b'#', data) {
            Some(0) => Err(InvalidId::PortIdWithoutNode),
            None if data.is_empty() => Err(InvalidId::PortIdWithoutNode),
            Some(at) if at + 1 == data.len() => {
                Ok(PortId { id: part(id.as_ref(), ..at).to_owned(), node_len: at })
            }
            at => Ok(PortId { node_len: at.unwrap_or(data.len()), id }),
        }
    }

    fn split_at_hash(id: Str) -> Self {
        let data = id.as_ref().data();
        PortId { node_len: memchr::memchr(b'#', data).unwrap_or(data.len()), id }
    }

    /// The ID as a string.
    pub fn as_str(&self) -> StrRef<'_> {
        self.id.as_ref()
    }

    /// The node that the port is on.
    pub fn node(&self) -> NodeId {
        NodeId(match self.is_node_port() {
            true => self.id.clone(),
            false => self.node_str().to_owned(),
        })
    }

    /// The ID of the node that the port is on, borrowed.
    #[inline]
    pub fn node_str(&self) -> StrRef<'_> {
        part(self.as_str(), ..self.node_len)
    }

    /// The name of the port on its node; empty for the node port.
    #[inline]
    pub fn port(&self) -> StrRef<'_> {
        match self.is_node_port() {
            true => "".into(),
            false => part(self.as_str(), self.node_len + 1..),
        }
    }

    /// Whether this is the node's own port.
    #[inline]
    pub fn is_node_port(&self) -> bool {
        self.node_len == self.as_str().data().len()
    }
}

impl PartialEq for PortId {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for PortId {}

impl PartialOrd for PortId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PortId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

impl Hash for PortId {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// A part of a string, which begins and ends at ASCII characters.
#[inline]
fn part<R>(whole: StrRef<'_>, range: R) -> StrRef<'_>
where
    R: std::slice::SliceIndex<[u8], Output = [u8]>,
{
    StrRef::trusted(whole.kind(), whole.data().get(range).unwrap_or_default())
}

impl From<&NodeId> for PortId {
    fn from(node: &NodeId) -> Self {
        node.clone().into()
    }
}

impl From<NodeId> for PortId {
    fn from(node: NodeId) -> Self {
        PortId { node_len: node.as_str().data().len(), id: node.0 }
    }
}

macro_rules! ids {
    ($($id:ident($string:tt) by $parse:path;)*) => {
        $(
            /// Shows the ID on one line: control characters are escaped.
            impl fmt::Display for $id {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Display::fmt(&self.$string, f)
                }
            }

            impl fmt::Debug for $id {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    fmt::Debug::fmt(&self.$string, f)
                }
            }

            impl FromStr for $id {
                type Err = InvalidId;

                fn from_str(id: &str) -> Result<Self, InvalidId> {
                    $parse(id)
                }
            }

            impl TryFrom<&str> for $id {
                type Error = InvalidId;

                fn try_from(id: &str) -> Result<Self, InvalidId> {
                    $parse(id)
                }
            }

            impl TryFrom<Str> for $id {
                type Error = InvalidId;

                fn try_from(id: Str) -> Result<Self, InvalidId> {
                    $parse(id)
                }
            }

            /// For lookups of database keys.
            impl TryFrom<&Str> for $id {
                type Error = InvalidId;

                fn try_from(id: &Str) -> Result<Self, InvalidId> {
                    $parse(id.clone())
                }
            }

            impl TryFrom<StrRef<'_>> for $id {
                type Error = InvalidId;

                fn try_from(id: StrRef<'_>) -> Result<Self, InvalidId> {
                    $parse(id)
                }
            }

            impl From<$id> for Str {
                fn from(id: $id) -> Str {
                    id.$string
                }
            }

            impl<'a> From<&'a $id> for StrRef<'a> {
                fn from(id: &'a $id) -> StrRef<'a> {
                    id.as_str()
                }
            }

            /// Looks up an ID in a map by its string, without an owned ID.
            impl Equivalent<$id> for StrRef<'_> {
                #[inline]
                fn equivalent(&self, id: &$id) -> bool {
                    *self == id.as_str()
                }
            }

            impl Serialize for $id {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    self.$string.serialize(serializer)
                }
            }

            impl<'de> Deserialize<'de> for $id {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    $parse(Str::deserialize(deserializer)?).map_err(D::Error::custom)
                }
            }
        )*
    };
}

ids! {
    NodeId(0) by NodeId::new;
    PortId(id) by PortId::parse;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Packed;

    #[test]
    fn a_port_id_splits_at_its_first_hash() {
        let port: PortId = "a/b#c#d".parse().unwrap();
        assert_eq!(port.node(), "a/b".parse().unwrap());
        assert_eq!(port.node_str(), "a/b");
        assert_eq!(port.port(), "c#d");
        assert!(!port.is_node_port());
    }

    #[test]
    fn the_node_ports_id_is_the_node_id() {
        let node: NodeId = "a/b".parse().unwrap();
        for port in [
            node.node_port(),
            node.clone().into(),
            PortId::new(&node, ""),
            "a/b".try_into().unwrap(),
            "a/b#".try_into().unwrap(),
        ] {
            assert_eq!(port.to_string(), "a/b");
            assert_eq!(port.node(), node);
            assert!(port.is_node_port());
            assert!(port.port().is_empty());
        }
        assert_eq!(PortId::new(&node, "c").to_string(), "a/b#c");
    }

    #[test]
    fn octets_and_text_name_the_same() {
        let octets = NodeId::new(&b"caf\xe9"[..]).unwrap();
        let text = NodeId::new("café").unwrap();
        assert_eq!(octets, text);
        assert_eq!(PortId::new(&octets, "€"), PortId::new(&text, "€"));
        assert_eq!(PortId::new(&octets, "€").to_string(), "café#€");
        assert_eq!(PortId::new(&octets, &Str::octets(&b"p"[..])).node(), text);
        let index = indexmap::IndexMap::from([(octets, 1)]);
        assert_eq!(index.get(&text.as_str()), Some(&1));
        let index = indexmap::IndexMap::from([(text.node_port(), 1)]);
        assert_eq!(index.get(&StrRef::octets(b"caf\xe9")), Some(&1));
    }

    #[test]
    fn malformed_ids_are_refused() {
        assert_eq!(NodeId::new(""), Err(InvalidId::EmptyNodeId));
        assert_eq!(NodeId::try_from("a#b"), Err(InvalidId::HashInNodeId));
        for id in ["", "#", "#port"] {
            assert_eq!(PortId::parse(id), Err(InvalidId::PortIdWithoutNode));
        }
        let message = Packed::of(&("tag", "#x")).unwrap();
        let error = message.decode::<(Str, PortId)>().unwrap_err();
        assert!(error.to_string().starts_with("element 1: a port ID must begin"));
    }

    #[test]
    fn ids_travel_as_strings() {
        let port: PortId = "node/abc#port1".parse().unwrap();
        let message = Packed::of(&(&port, port.node(), 42)).unwrap();
        let (again, node, number): (PortId, NodeId, NodeId) = message.decode().unwrap();
        assert_eq!(again, port);
        assert_eq!(node, port.node());
        assert_eq!(number.as_str(), "42");
        assert_eq!(format!("{node:?} {port}"), "\"node/abc\" node/abc#port1");
        assert_eq!(Str::from(port.clone()), Str::from("node/abc#port1"));
        assert_eq!(StrRef::from(&port), "node/abc#port1");
        assert_eq!(NodeId::try_from(Str::text("n")), NodeId::try_from(StrRef::text("n")));
        assert_eq!(NodeId::try_from(&Str::text("n")), NodeId::try_from("n"));
        assert_eq!(serde_json::to_string(&port).unwrap(), "\"node/abc#port1\"");
    }

    #[test]
    fn ids_show_on_one_line() {
        assert_eq!(NodeId::new("a\nb").unwrap().to_string(), "a\\u{a}b");
    }
}
