//! What a change of the merge did, and who has to be told of it.

use super::super::entries::Entries;
use crate::value::Str;
use std::ops::Deref;

/// What an update did besides setting what it sets, and who has to be told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Whether the change came from a slave of ours and other global nodes have to hear of it.
    pub tell_globals: bool,
    /// Nearly all updates only set keys: then there is none.
    pub(super) by_deletions: Option<Box<ByDeletions>>,
}

/// What deletions did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByDeletions {
    /// Keys that are set by deletions: another slave's value is the merged one now.
    pub set: Entries,
    /// Keys that fell back to another global node's value; other global nodes know it already.
    pub set_for_subscribers: Entries,
    /// Keys of which other global nodes were told a slave's value that is gone; what another slave
    /// has is the merged value already. (The reference tells nobody, so that they keep a value that
    /// no node has any longer.)
    pub set_for_globals: Entries,
    /// Keys that are gone from the merge.
    pub deletions_for_subscribers: Vec<Str>,
    /// Keys that none of our slaves has any longer.
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
    /// Whether subscribers of the family have to hear of it.
    pub fn tell_subscribers(&self) -> bool {
        !self.set.is_empty()
            || !self.set_for_subscribers.is_empty()
            || !self.deletions_for_subscribers.is_empty()
    }
}
