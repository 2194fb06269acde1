//! Stand-ins for what the value layer is about to have.

use crate::value::Str;
use crate::value::packed::{Elements, Token};
use std::sync::Arc;

/// The name of a node.
pub type NodeId = crate::value::Str;

/// Elements in packed form; cloning shares the octets.
#[derive(Clone, PartialEq, Debug)]
pub struct Packed {
    len: usize,
    octets: Arc<[u8]>,
}

impl Packed {
    /// `octets` hold exactly `len` values in packed form.
    pub fn new(len: usize, octets: Vec<u8>) -> Self {
        Packed { len, octets: octets.into() }
    }

    /// The elements.
    pub fn elements(&self) -> Elements<'_> {
        Elements::new(self.len, &self.octets)
    }
}

pub(crate) fn perl_number(token: Token<'_>) -> Option<String> {
    match token {
        Token::UInt(n) => Some(n.to_string()),
        Token::NInt(n) => Some(n.to_string()),
        Token::Float(x) => Some(x.to_string()),
        _ => None,
    }
}

pub(crate) fn node_key(node: &NodeId) -> Str {
    node.clone()
}

pub(crate) fn node_of(key: &Str) -> NodeId {
    key.clone()
}
