//! The same packet to many nodes: they are looked up once, and it is encoded once.

use super::lanes::{Lanes, SharedLane};
use crate::value::NodeId;
use crate::value::packed::Elements;
use crate::wire::framing::{self, EncodeError, Framing};
use std::sync::Arc;

/// So many lists are known at a time.
const MOST_LISTS: usize = 16;

/// The lanes of the lists of nodes that were sent to last, in the order of the nodes.
#[derive(Debug, Default)]
pub(crate) struct FanOuts(Vec<(Arc<[NodeId]>, SharedLanes)>);

type SharedLanes = Arc<[Arc<SharedLane>]>;

impl FanOuts {
    /// The lanes of these nodes. Those that retire meanwhile stay in the list.
    pub(crate) fn of(&mut self, nodes: &Arc<[NodeId]>, lanes: &Lanes) -> SharedLanes {
        if let Some((_, known)) = self.0.iter().find(|(known, _)| Arc::ptr_eq(known, nodes)) {
            return known.clone();
        }
        let resolved: SharedLanes = nodes.iter().map(|node| lanes.of(node)).collect();
        // Lists of which nobody else knows do not come again.
        self.0.retain(|(known, _)| Arc::strong_count(known) > 1);
        if self.0.len() >= MOST_LISTS {
            self.0.remove(0);
        }
        self.0.push((nodes.clone(), resolved.clone()));
        resolved
    }
}

/// A packet in the framings in which it was needed so far.
#[derive(Debug)]
pub(crate) struct Copies<'a> {
    packet: Elements<'a>,
    encoded: [Option<Result<Vec<u8>, EncodeError>>; Framing::ALL.len()],
}

impl<'a> Copies<'a> {
    pub(crate) fn of(packet: Elements<'a>) -> Self {
        Copies { packet, encoded: Default::default() }
    }

    /// About how many octets it has.
    pub(crate) fn expected(&self) -> usize {
        self.packet.octets().len()
    }

    /// The packet as octets of a connection.
    ///
    /// # Errors
    /// As [`framing::encode`].
    #[inline]
    pub(crate) fn in_framing(&mut self, framing: Framing) -> Result<&[u8], EncodeError> {
        let copy = match framing {
            Framing::Cbor => &mut self.encoded[0],
            Framing::Json => &mut self.encoded[1],
            Framing::Storable => &mut self.encoded[2],
        };
        let encoded = copy.get_or_insert_with(|| {
            let mut octets = Vec::new();
            framing::encode(framing, self.packet, &mut octets).map(|()| octets)
        });
        match encoded {
            Ok(octets) => Ok(octets),
            Err(error) => Err(*error),
        }
    }
}
