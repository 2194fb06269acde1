//! Own entries that change while the master's connection has no room: their changes are held back and
//! merged.

use super::Local;
use crate::kernel::db::effect::DbEffect;
use crate::kernel::db::held::{HeldBack, HoldsUntil, Knows};
use crate::value::Str;

impl Local {
    /// The number of changes held back for the master.
    pub(crate) fn held(&self) -> usize {
        self.held.as_ref().map_or(0, HeldBack::len)
    }

    /// The master's connection has no room: changes of our entries are held back until
    /// [`Local::has_room_again`].
    pub(crate) fn has_no_room(&mut self, effects: &mut Vec<DbEffect>) {
        if self.held.is_none()
            && let Some(master) = self.master().cloned()
        {
            let number = self.new_transfer();
            self.held = Some(HeldBack::begin(&master, number, HoldsUntil::Room, effects));
        }
    }

    /// The connection has room for changes that were held back, or for some of them.
    pub(super) fn has_room_again(
        &mut self,
        number: u64,
        piece: usize,
        effects: &mut Vec<DbEffect>,
    ) {
        if let (Some(held), Some([master])) = (&mut self.held, self.master.as_deref())
            && held.number() == number
            && !held.go_on(master, piece, effects)
        {
            self.held = None;
        }
    }

    /// Sends all changes held back, since a packet follows that must not overtake them.
    pub(crate) fn flush(&mut self, effects: &mut Vec<DbEffect>) {
        if let (Some(held), Some([master])) = (&mut self.held, self.master.as_deref()) {
            held.flush(master, effects);
        }
    }

    /// A key is about to be set. One that does not exist cannot have been sent while changes are held back;
    /// it is noted as new, so that no deletion is reported of a key that was never sent.
    pub(super) fn note_if_new(&mut self, family: &Str, key: &Str) {
        if let Some(held) = &mut self.held
            && self.own.get(family).is_none_or(|own| !own.entries.contains_key(key))
        {
            held.note_new(Knows::Master, family, key.clone());
        }
    }
}

#[cfg(test)]
#[path = "slow_tests.rs"]
mod tests;
