//! The network of most checks: two halves, each a global node with a slave.

use crate::conform::network::hosts::Hosts;
use crate::conform::network::hosts::Side::{Left, Right};
use crate::conform::network::member::{Member, hold_after};
use crate::conform::network::net::Net;
use crate::conform::network::relay::Relay;
use crate::conform::stop::{Stop, Verdict, skip};
use serde_json::{Map, Value as Json, json};
use std::time::Duration;

/// The family in which each node has an entry, whose key is its role.
pub(super) const FAMILY: &str = "members";

/// The maximum number of starts of a network on loopback until its halves are connected by a relay.
const MAX_ATTEMPTS: usize = 4;
const PAST_THE_RELAYS: &str = "the nodes dial each other's announced addresses, past the relays, so that the \
                               suite cannot cut them apart";

/// Two global nodes of different implementations, and a slave of each, which is of the other implementation
/// than its master. The seeds that they have are relays to each other.
pub(super) struct SplitNetwork {
    pub(super) net: Net,
    pub(super) left: Member,
    pub(super) right: Member,
    pub(super) at_left: Member,
    pub(super) at_right: Member,
    /// From each global node to the other one.
    between: [Relay; 2],
    /// From each slave to its master.
    pub(super) to_left: Relay,
    pub(super) to_right: Relay,
}

/// Which of the global nodes has the other one as its seed, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dials {
    /// Both.
    Both,
    /// Only the right one. If both dialled at the same moment and lost a connection, nodes might dial
    /// the announced addresses directly, not the relays, so that nothing could be cut on loopback.
    Right,
    /// The right one, and not through a relay, which would take in what it does not pass on.
    RightItself,
}

impl SplitNetwork {
    /// All nodes started and joined, each with an entry; both global nodes dial each other.
    pub(super) async fn joined(net: Net) -> Verdict<SplitNetwork> {
        SplitNetwork::started(net, Dials::Both).await
    }

    /// The same where the halves can be cut apart: they are hosts of their own, or the connection between
    /// them leads through a relay.
    pub(super) async fn divisible(net: Net) -> Verdict<SplitNetwork> {
        if net.hosts().is_some() {
            return SplitNetwork::joined(net).await;
        }
        for _ in 0..MAX_ATTEMPTS {
            let halves = SplitNetwork::started(net.clone(), Dials::Right).await?;
            if halves.are_joined_by_a_relay() {
                return Ok(halves);
            }
        }
        skip(PAST_THE_RELAYS)
    }

    /// The same where nothing is between the halves that could acknowledge what is lost on the way. On
    /// loopback, where nothing is lost, a relay between them keeps it.
    pub(super) async fn bare(net: Net) -> Verdict<SplitNetwork> {
        match net.hosts() {
            Some(_) => SplitNetwork::started(net, Dials::RightItself).await,
            None => SplitNetwork::divisible(net).await,
        }
    }

    fn are_joined_by_a_relay(&self) -> bool {
        self.between.iter().any(Relay::is_used)
    }

    async fn started(net: Net, dials: Dials) -> Verdict<SplitNetwork> {
        let (mut left, mut right) =
            (Member::first(&net, "left", Left)?, Member::second(&net, "right", Right)?);
        let (mut at_left, mut at_right) =
            (Member::second(&net, "at-left", Left)?, Member::first(&net, "at-right", Right)?);
        let between = [net.relay(left.address)?, net.relay(right.address)?];
        let (to_left, to_right) = (net.relay(left.address)?, net.relay(right.address)?);
        let nowhere = net.relay(right.address)?;
        nowhere.cut();
        let [from_right, from_left] = &between;
        match dials {
            Dials::Both => left.start(&[from_left.address()]),
            Dials::Right | Dials::RightItself => left.start(&[nowhere.address()]),
        }
        match dials {
            Dials::Both | Dials::Right => right.start(&[from_right.address()]),
            Dials::RightItself => right.start(&[left.address]),
        }
        at_left.start(&[to_left.address()]);
        at_right.start(&[to_right.address()]);
        let mut halves =
            SplitNetwork { net, left, right, at_left, at_right, between, to_left, to_right };
        for member in halves.members() {
            member.ready().await?;
        }
        halves.all_set("1").await?;
        halves.hold(&["left", "right", "at-left", "at-right"], "1").await?;
        Ok(halves)
    }

    fn members(&mut self) -> [&mut Member; 4] {
        [&mut self.left, &mut self.right, &mut self.at_left, &mut self.at_right]
    }

    /// Each node sets its entry to this value.
    pub(super) async fn all_set(&mut self, value: &str) -> Verdict {
        for member in self.members() {
            let role = member.role;
            member.sets(FAMILY, role, value).await?;
        }
        Ok(())
    }

    /// Waits until the databases of both global nodes have the entries of exactly these nodes.
    pub(super) async fn hold(&mut self, roles: &[&str], value: &str) -> Verdict {
        self.hold_after(Duration::ZERO, roles, value).await
    }

    /// The same after a silence of this length.
    pub(super) async fn hold_after(
        &mut self,
        silence: Duration,
        roles: &[&str],
        value: &str,
    ) -> Verdict {
        let wanted = entries(roles, value);
        let globals = &mut [&mut self.left, &mut self.right];
        hold_after(&self.net, silence, globals, FAMILY, &wanted).await
    }

    /// Waits until the databases have the entries of their own half, and not those of the other one.
    pub(super) async fn hold_apart(&mut self, left: &Json, right: &Json) -> Verdict {
        let (net, none) = (&self.net, Duration::ZERO);
        hold_after(net, none, &mut [&mut self.left], FAMILY, left).await?;
        hold_after(net, none, &mut [&mut self.right], FAMILY, right).await
    }

    /// Closes the connections between the halves, and refuses new ones.
    pub(super) async fn cut(&self) -> Verdict {
        self.net.note("the halves are cut apart".to_owned());
        match self.net.hosts() {
            Some(hosts) => hosts.cut().await.map_err(Stop::Skip)?,
            None if self.are_joined_by_a_relay() => {}
            None => return skip(PAST_THE_RELAYS),
        }
        self.between.iter().for_each(Relay::cut);
        Ok(())
    }

    /// Stops all traffic between the halves, without closing connections.
    pub(super) fn freeze(&self) -> Verdict {
        self.net.note("nothing passes between the halves".to_owned());
        self.between.iter().for_each(Relay::freeze);
        self.net.hosts().map_or(Ok(()), Hosts::freeze).map_err(Stop::Skip)
    }

    /// Reverts [`SplitNetwork::cut`] and [`SplitNetwork::freeze`].
    pub(super) fn mend(&self) -> Verdict {
        self.net.note("the halves are connected".to_owned());
        self.between.iter().for_each(Relay::go_on);
        self.net.hosts().map_or(Ok(()), Hosts::mend).map_err(Stop::Skip)
    }

    /// Delays everything on all relays by this time.
    pub(super) fn delay(&self, delay: Duration) {
        let relays = self.between.iter().chain([&self.to_left, &self.to_right]);
        relays.for_each(|relay| relay.delay(delay));
    }
}

/// Entries of the family, each with the same value.
pub(super) fn entries(roles: &[&str], value: &str) -> Json {
    let mut roles = roles.to_vec();
    roles.sort_unstable();
    let entries = roles.into_iter().map(|role| (role.to_owned(), json!(value)));
    Json::Object(entries.collect::<Map<_, _>>())
}
