//! The result of a change of the merge, and who has to be told.

use super::super::entries::Entries;
use crate::value::Str;
use std::collections::BTreeSet;
use std::ops::Deref;

/// The effects of an update besides the keys it sets, and who has to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Whether the change is of a slave of ours, so that other global nodes have to be told.
    pub tell_globals: bool,
    /// `None` if the update only sets keys, which is nearly always the case.
    pub(super) besides: Option<Box<Besides>>,
}

/// The effects of deletions, and of entries taken over from a lost global node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Besides {
    /// Keys that the update has set and that a lost global node had, if their merged value is still the
    /// same: subscribers know it already.
    pub taken_over: BTreeSet<Str>,
    /// Keys whose merged value is now that of another slave.
    pub set: Entries,
    /// Keys whose merged value is now that of another global node; other global nodes know it already.
    pub set_for_subscribers: Entries,
    /// Keys for which other global nodes were sent the deleted value of a slave, while the value of
    /// another slave is the merged one already. (The reference does not send this, so its other global
    /// nodes keep a value that no node has any longer.)
    pub set_for_globals: Entries,
    /// Keys that are no longer in the merge.
    pub deletions_for_subscribers: Vec<Str>,
    /// Keys that no slave of ours has any longer.
    pub deletions_for_globals: Vec<Str>,
}

static NOTHING: Besides = Besides {
    taken_over: BTreeSet::new(),
    set: Entries::new(),
    set_for_subscribers: Entries::new(),
    set_for_globals: Entries::new(),
    deletions_for_subscribers: Vec::new(),
    deletions_for_globals: Vec::new(),
};

impl Deref for Change {
    type Target = Besides;

    fn deref(&self) -> &Besides {
        self.besides.as_deref().unwrap_or(&NOTHING)
    }
}

impl Change {
    /// Whether subscribers of the family have to be told of more than the keys that the update sets.
    pub fn tell_subscribers(&self) -> bool {
        !self.set.is_empty()
            || !self.set_for_subscribers.is_empty()
            || !self.deletions_for_subscribers.is_empty()
    }
}
