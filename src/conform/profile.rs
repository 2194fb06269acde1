//! Known deviations of other implementations.

use super::position::Position;

/// An implementation whose deviations are known.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// The name on the command line.
    pub name: &'static str,
    /// The implementation.
    pub about: &'static str,
    /// Which checks it misses, and why.
    pub deviations: &'static [Deviation],
}

/// A check that an implementation is known to miss.
#[derive(Clone, Copy, Debug)]
pub struct Deviation {
    /// The check, or with a final `*` all checks whose names begin like this.
    pub id: &'static str,
    /// The position, if it does not miss it in both.
    pub position: Option<Position>,
    /// Why the implementation misses it, and the consequence for others.
    pub explanation: &'static str,
    /// Whether it keeps the statement most of the time, so that a pass is not unexpected.
    pub sometimes: bool,
    /// Whether the check must not be run, since it would break the node for the others.
    pub breaks_node: bool,
}

const fn misses(id: &'static str, explanation: &'static str) -> Deviation {
    Deviation { id, position: None, explanation, sometimes: false, breaks_node: false }
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

    /// The known deviation for a check in a position.
    pub fn deviation(&self, id: &str, position: Position) -> Option<&'static Deviation> {
        self.deviations.iter().find(|deviation| {
            let is_it = match deviation.id.strip_suffix('*') {
                Some(start) => id.starts_with(start),
                None => deviation.id == id,
            };
            is_it && deviation.position.is_none_or(|only| only == position)
        })
    }
}

const fn may_miss(id: &'static str, explanation: &'static str) -> Deviation {
    Deviation { sometimes: true, ..misses(id, explanation) }
}

const fn breaks(id: &'static str, explanation: &'static str) -> Deviation {
    Deviation { id, position: None, explanation, sometimes: false, breaks_node: true }
}

const STOPS_READING: &str =
    "it stays connected, but may process nothing more from that connection (§7.3)";

const PARTLY_EXECUTED: &str =
    "an error ends its loop over the database, and it may send no g_set any more";

const ITERATION: &str =
    "when many nodes come and go, its loop over a database may end early (§7.9)";

const NAMELESS_SEED: &str =
    "it waits for monitor_timeout if the greeting of a seed has no node ID (§7.10)";

const PERL_2_02: &[Deviation] = &[
    misses(
        "refuse-unlisted",
        "it checks that it knows the method, not that its greeting lists it (§7.4)",
    ),
    misses("spawn-reason", "it does not keep the reason, and a monitor gets no_such_port (§3.4)"),
    misses("spawn-name-taken", "it runs the function on the existing port (§3.4)"),
    misses("mesh-nowhere", "a monitor on a node that is not connected does not connect (§7.7)"),
    misses("mesh-dead", "it keeps the first connection until TCP gives up (§4.4)"),
    misses("failover-unchanged", "it reports each key that is in both as changed (§5.1)"),
    misses("g-slave-replaces", "it adds the second database to the first (§5.2)"),
    misses("g-set-replaces", "it adds the second database to the first (§5.2)"),
    may_miss("g-set-no-address", "it sets undef as the address (§5.2)"),
    misses("tls-only-hmac", "inside TLS it can only send tls_sha3_512 (§1.4)"),
    Deviation { position: Some(Position::Listen), ..may_miss("refuse-http", NAMELESS_SEED) },
    Deviation { position: Some(Position::Listen), ..may_miss("refuse-no-id", NAMELESS_SEED) },
    misses("g-down-monitors", "it never ends a subscription (§7.8)"),
    may_miss("g-set", ITERATION),
    may_miss("g-set-itself", ITERATION),
    may_miss("g-set-own", ITERATION),
    may_miss("g-set-pieces", ITERATION),
    may_miss("g-down", ITERATION),
    may_miss("g-down-owner", ITERATION),
    may_miss("g-down-address", ITERATION),
    may_miss("g-global-down", ITERATION),
    may_miss("g-global-down-g", ITERATION),
    may_miss("g-global-turns", ITERATION),
    may_miss("g-tells-down", ITERATION),
    may_miss("g-stranger", ITERATION),
    breaks("odd-g-slave", PARTLY_EXECUTED),
    breaks("odd-g-upd", PARTLY_EXECUTED),
    breaks("odd-g-set", PARTLY_EXECUTED),
    misses("bad-json-*", STOPS_READING),
    misses("bad-cbor-*", STOPS_READING),
    misses("bad-storable-cut", STOPS_READING),
    misses("bad-before", STOPS_READING),
    misses("bad-others", STOPS_READING),
    breaks("kil1-node-port", "it kills its own node port (§3.1)"),
    breaks("spawn-node-port", "it replaces its own node port (§3.4)"),
];
