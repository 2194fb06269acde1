//! Checks of monitors across a network.

use super::fixture::SplitNetwork;
use super::{NetworkCheck, check};
use crate::conform::check::run;
use crate::conform::network::member::Member;
use crate::conform::network::net::Net;
use crate::conform::stop::Verdict;
use serde_json::json;

pub(super) const CHECKS: &[NetworkCheck] = &[
    check("mon-port", "3.1g", "When a port is killed, each monitor on every node fires once.")
        .by(run!(port)),
    check("mon-node", "3.1o", "When a node is killed, each monitor of its ports fires once.")
        .by(run!(node)),
    check("mon-cut", "3.1o", "When a connection is cut, monitors on both sides fire once.")
        .by(run!(cut)),
];

/// The label of the monitors.
const LABEL: &str = "m";
/// A port that can be killed.
const VICTIM: &str = "Victim0a";

/// Makes a node's service monitor a port of another node, and waits until the two are connected, for
/// which a message is needed.
async fn watches(member: &mut Member, of: &mut Member, port: &str) -> Verdict {
    member.monitors(LABEL, port).await?;
    passes(member, of).await
}

/// Waits for a message from one node's service to that of another node, and so for everything that the
/// node sent before.
async fn passes(from: &mut Member, to: &mut Member) -> Verdict {
    let within = from.settle();
    let (port, suite, role) = (to.port(), to.suite_port("passed")?, from.role);
    from.lets(json!(["snd", port, "echo", suite, role])).await?;
    to.service()?.expect_within(json!(["passed", role]), within).await?;
    Ok(())
}

async fn port(net: Net) -> Verdict {
    let mut halves = SplitNetwork::joined(net).await?;
    let SplitNetwork { net, left, right, at_left, at_right, .. } = &mut halves;
    let function = &net.common.service;
    let victim = format!("{}#{VICTIM}", at_left.node);
    let to = at_left.suite_port("victim")?;
    let spawn = json!(["", "AnyEvent::MP::_spawn", VICTIM, function, to, "up"]);
    at_left.service()?.send(spawn).await?;
    at_left.service()?.expect(json!(["victim", "up"])).await?;
    let mut others = [left, right, at_right];
    for other in &mut others {
        watches(other, at_left, &victim).await?;
    }
    at_left.service()?.send(json!(["", "kil1", VICTIM, "told", "to die"])).await?;
    for other in &mut others {
        other.fires(LABEL, &["told", "to die"]).await?;
        passes(at_left, other).await?;
        other.fires_not(LABEL).await?;
    }
    Ok(())
}

async fn node(net: Net) -> Verdict {
    let mut halves = SplitNetwork::joined(net).await?;
    let SplitNetwork { left, right, at_left, at_right, .. } = &mut halves;
    for other in [&mut *left, right, at_right] {
        watches(other, at_left, &at_left.port()).await?;
    }
    at_left.kill();
    for other in [&mut *left, right, at_right] {
        other.fires(LABEL, &["transport_error", &at_left.node]).await?;
    }
    // The monitors have nothing to do with its next run.
    at_left.start_again();
    at_left.ready().await?;
    halves.all_set("2").await?;
    halves.hold(&["left", "right", "at-left", "at-right"], "2").await?;
    for other in [&mut halves.left, &mut halves.right, &mut halves.at_right] {
        other.fires_not(LABEL).await?;
    }
    Ok(())
}

async fn cut(net: Net) -> Verdict {
    let mut halves = SplitNetwork::joined(net).await?;
    for _ in 0..2 {
        let SplitNetwork { left, at_left, to_left, .. } = &mut halves;
        let (left_port, at_left_port) = (left.port(), at_left.port());
        watches(at_left, left, &left_port).await?;
        watches(left, at_left, &at_left_port).await?;
        to_left.cut();
        at_left.fires(LABEL, &["transport_error", &left.node]).await?;
        left.fires(LABEL, &["transport_error", &at_left.node]).await?;
        to_left.go_on();
        halves.hold(&["left", "right", "at-left", "at-right"], "1").await?;
        let SplitNetwork { left, at_left, .. } = &mut halves;
        passes(left, at_left).await?;
        passes(at_left, left).await?;
        at_left.fires_not(LABEL).await?;
        left.fires_not(LABEL).await?;
    }
    Ok(())
}
