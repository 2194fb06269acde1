//! The result of a change of the merge, and who has to be told.

use super::super::entries::Entries;
use crate::value::Str;
use std::ops::Deref;

/// The effects of an update besides the keys it sets, and who has to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Whether the change is of a slave of ours, so that other global nodes have to be told.
    pub tell_globals: bool,
    /// `None` if the update only sets keys, which is nearly always the case.
    pub(super) by_deletions: Option<Box<ByDeletions>>,
}

/// The effects of deletions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByDeletions {
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

static NOTHING: ByDeletions = ByDeletions {
    set: Entries::new(),
    set_for_subscribers: Entries::new(),
    set_for_globals: Entries::new(),
    deletions_for_subscribers: Vec::new(),
    deletions_for_globals: Vec::new(),
};

impl Deref for Change {
    type Target = ByDeletions;

    fn deref(&self) -> &ByDeletions {
        self.by_deletions.as_deref().unwrap_or(&NOTHING)
    }
}

impl Change {
    /// Whether subscribers of the family have to be told.
    pub fn tell_subscribers(&self) -> bool {
        !self.set.is_empty()
            || !self.set_for_subscribers.is_empty()
            || !self.deletions_for_subscribers.is_empty()
    }
}
