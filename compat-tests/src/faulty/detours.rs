//! Changes the addresses that a faulty member and the other nodes exchange, so that all connections lead
//! through its relays.

use super::Direction;
use aemp::Value;
use aemp::value::Str;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};

/// Addresses as the faulty node knows them, and as the others do.
#[derive(Debug)]
pub struct Detours {
    /// The address at which the others dial the node.
    outside: String,
    /// The address on which it listens itself.
    inside: OnceLock<String>,
    /// The addresses at which it dials other nodes, by their real addresses.
    relays: Mutex<HashMap<String, String>>,
}

impl Detours {
    /// For a node that the others dial at this address.
    pub fn new(outside: &str) -> Detours {
        let outside = outside.to_owned();
        Detours { outside, inside: OnceLock::new(), relays: Mutex::default() }
    }

    /// The node listens at this address.
    ///
    /// # Panics
    /// If that is said twice.
    pub fn leads_to(&self, inside: &str) {
        self.inside.set(inside.to_owned()).unwrap();
    }

    /// Changes a part of a packet if it is an address; `detour` makes a relay to an address.
    pub(super) fn change(
        &self,
        way: Direction,
        value: &mut Value,
        detour: impl Fn(&str) -> String,
    ) {
        let text = value.to_str().map(|text| text.to_text_lossy().into_owned());
        let Some(address) = text.filter(|text| text.parse::<SocketAddr>().is_ok()) else {
            return;
        };
        let inside = self.inside.get();
        let mut relays = self.relays.lock().unwrap();
        let known = match way {
            Direction::In if address == self.outside => inside.cloned(),
            Direction::In => {
                let relay = relays.entry(address).or_insert_with_key(|address| detour(address));
                Some(relay.clone())
            }
            Direction::Out if Some(&address) == inside => Some(self.outside.clone()),
            Direction::Out => {
                let original = relays.iter().find(|(_, relay)| **relay == address);
                original.map(|(original, _)| original.clone())
            }
        };
        if let Some(known) = known {
            *value = Value::Str(Str::text(&known));
        }
    }
}
