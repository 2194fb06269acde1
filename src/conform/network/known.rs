//! Known deviations of other implementations in networks.

use super::plan::Pair;
use super::wiring::Wiring;

/// A check that networks with a node of an implementation are known to miss. Which master a slave
/// chooses, and which node dials first, depends on chance, so a pass is not unexpected.
#[derive(Debug)]
pub(super) struct KnownMiss {
    /// The implementation's profile.
    profile: &'static str,
    /// The check.
    check: &'static str,
    /// The role in which the implementation misses it.
    role: Role,
    /// Whether it misses it only if all nodes are on loopback.
    only_on_loopback: bool,
    /// The reason, and the consequence.
    pub(super) explanation: &'static str,
}

/// The position of the implementation in the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Second,
    Both,
    Either,
}

impl KnownMiss {
    /// The known miss of a check in networks of this pair, if there is one.
    pub(super) fn about(
        check: &str,
        (first, second): &Pair,
        wiring: &Wiring,
    ) -> Option<&'static KnownMiss> {
        KNOWN.iter().find(|known| {
            let is_it = |profile: Option<&'static crate::conform::profile::Profile>| {
                profile.is_some_and(|profile| profile.name == known.profile)
            };
            let (first, second) = (is_it(first.profile), is_it(second.profile));
            known.check == check
                && !(known.only_on_loopback && *wiring == Wiring::Namespaces)
                && match known.role {
                    Role::Second => second,
                    Role::Both => first && second,
                    Role::Either => first || second,
                }
        })
    }
}

const fn perl(check: &'static str, role: Role, explanation: &'static str) -> KnownMiss {
    KnownMiss { profile: "perl-2.02", check, role, only_on_loopback: false, explanation }
}

const fn past_the_relays(check: &'static str) -> KnownMiss {
    KnownMiss { only_on_loopback: true, ..perl(check, Role::Either, PAST_THE_RELAYS) }
}

const ONE_CHANGE: &str =
    "from the second loss of a master on, a slave tells its entries to nobody (§7.1)";

const CROSSING: &str =
    "two nodes that dial each other at once close each other's connections (§4.4)";

const PAST_THE_RELAYS: &str = "it dials the announced address of a node that it has lost, past the suite's \
                               relays, so that the cut may not last";

const KNOWN: &[KnownMiss] = &[
    past_the_relays("split-apart"),
    past_the_relays("split-heals"),
    past_the_relays("split-dead"),
    past_the_relays("split-again"),
    // Our nodes heal such slaves, as long as some of the seeds are ours.
    perl("seeds-replaced", Role::Second, ONE_CHANGE),
    perl("seeds-quiet", Role::Second, ONE_CHANGE),
    perl("msg-order", Role::Both, CROSSING),
    perl("mon-port", Role::Both, CROSSING),
];
