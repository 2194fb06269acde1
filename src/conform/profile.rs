//! Known deviations of implementations that are as they are.

use super::check::Position;

/// An implementation whose deviations are known.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// The name on the command line.
    pub name: &'static str,
    /// Whose profile it is.
    pub about: &'static str,
    /// Which checks it misses, and why.
    pub deviations: &'static [Deviation],
}

/// A check that an implementation is known to miss.
#[derive(Clone, Copy, Debug)]
pub struct Deviation {
    /// The check.
    pub id: &'static str,
    /// Where, if not in both positions.
    pub position: Option<Position>,
    /// Why it misses it, and what that means for others.
    pub explanation: &'static str,
    /// Whether the check must not even be tried, as it would break the node for the others.
    pub breaks_node: bool,
}

const fn misses(id: &'static str, explanation: &'static str) -> Deviation {
    Deviation { id, position: None, explanation, breaks_node: false }
}

impl Profile {
    /// All profiles.
    pub const ALL: &'static [Profile] = &[Profile {
        name: "perl-2.02",
        about: "Perl's AnyEvent::MP 2.02, the reference",
        deviations: PERL_2_02,
    }];

    /// The profile of that name.
    pub fn named(name: &str) -> Option<&'static Profile> {
        Profile::ALL.iter().find(|profile| profile.name == name)
    }

    /// What is known about a check in a position.
    pub fn deviation(&self, id: &str, position: Position) -> Option<&'static Deviation> {
        self.deviations.iter().find(|deviation| {
            deviation.id == id && deviation.position.is_none_or(|only| only == position)
        })
    }
}

const PERL_2_02: &[Deviation] = &[misses(
    "refuse-unlisted",
    "it checks that it knows the method, not that its greeting lists it (§7.4)",
)];
