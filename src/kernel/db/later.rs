//! Packets of the database as data: to make large ones takes long, and needs no kernel.

use super::global::FamilyAnswer;
use super::held::HeldChanges;
use crate::value::Packed;

/// Packets that are made later, for a node port.
#[derive(Debug, Clone)]
pub struct LaterPackets(Content);

#[derive(Debug, Clone)]
enum Content {
    Answer(FamilyAnswer),
    Changes(HeldChanges),
}

impl LaterPackets {
    /// The octets of the packets in packed form, or some more.
    pub fn octets(&self) -> usize {
        match &self.0 {
            Content::Answer(answer) => answer.octets(),
            Content::Changes(changes) => changes.octets(),
        }
    }

    /// The packets, in order.
    pub fn into_packets(self) -> Vec<Packed> {
        match self.0 {
            Content::Answer(answer) => vec![answer.to_packet()],
            Content::Changes(changes) => changes.into_packets(),
        }
    }
}

impl From<FamilyAnswer> for LaterPackets {
    fn from(answer: FamilyAnswer) -> Self {
        LaterPackets(Content::Answer(answer))
    }
}

impl From<HeldChanges> for LaterPackets {
    fn from(changes: HeldChanges) -> Self {
        LaterPackets(Content::Changes(changes))
    }
}
