//! Checks of a network that is split into two halves and joined again.

use super::fixture::{FAMILY, SplitNetwork, entries};
use super::numbers::{are_all, are_the_first, arrived, number, sends};
use super::{NetworkCheck, check};
use crate::conform::check::run;
use crate::conform::network::net::Net;
use crate::conform::pattern::ANY;
use crate::conform::stop::{Verdict, ensure};
use serde_json::json;
use tokio::time::sleep;

pub(super) const CHECKS: &[NetworkCheck] = &[
    check(
        "split-apart",
        "5.2f",
        "Each half of a split network has its own entries, and no others.",
    )
    .by(run!(apart)),
    check(
        "split-heals",
        "4.1b",
        "After a split there is one network, with what changed meanwhile.",
    )
    .by(run!(heals)),
    check(
        "split-dead",
        "5.2c",
        "Entries of a node that died during a split are not back after it.",
    )
    .by(run!(dead)),
    check(
        "split-silent",
        "4.5b",
        "After a split in which nothing was closed there is one network; monitors fired once.",
    )
    .by(run!(silent)),
    check("split-again", "5.2f", "The second split of a network ends like the first one.")
        .by(run!(again)),
];

/// A network whose halves have noticed the split.
async fn split(net: Net) -> Verdict<SplitNetwork> {
    let mut halves = SplitNetwork::divisible(net).await?;
    cut(&mut halves, "1").await?;
    Ok(halves)
}

/// Cuts the halves apart, and waits until they have noticed.
async fn cut(halves: &mut SplitNetwork, value: &str) -> Verdict {
    halves.cut().await?;
    let (left, right) = (["left", "at-left"], ["right", "at-right"]);
    halves.hold_apart(&entries(&left, value), &entries(&right, value)).await
}

async fn apart(net: Net) -> Verdict {
    let mut halves = split(net).await?;
    // Each half continues to work.
    halves.all_set("2").await?;
    let (left, right) = (["left", "at-left"], ["right", "at-right"]);
    halves.hold_apart(&entries(&left, "2"), &entries(&right, "2")).await
}

async fn heals(net: Net) -> Verdict {
    let mut halves = split(net).await?;
    halves.all_set("2").await?;
    halves.at_left.sets(FAMILY, "from-left", "2").await?;
    halves.at_right.sets(FAMILY, "from-right", "2").await?;
    halves.mend()?;
    let all = ["left", "right", "at-left", "at-right", "from-left", "from-right"];
    halves.hold(&all, "2").await
}

async fn dead(net: Net) -> Verdict {
    let mut halves = split(net).await?;
    halves.at_right.kill();
    halves.mend()?;
    halves.hold(&["left", "right", "at-left"], "1").await
}

async fn again(net: Net) -> Verdict {
    let mut halves = split(net).await?;
    for value in ["2", "3"] {
        halves.mend()?;
        halves.all_set(value).await?;
        halves.hold(&["left", "right", "at-left", "at-right"], value).await?;
        cut(&mut halves, value).await?;
    }
    halves.mend()?;
    halves.hold(&["left", "right", "at-left", "at-right"], "3").await
}

/// All packets between the halves are lost for longer than `monitor_timeout`, and nobody closes a connection:
/// nodes find out by themselves, and some never do.
async fn silent(net: Net) -> Verdict {
    const LABEL: &str = "m";
    const MANY: u64 = 100;
    let silence = net.common.monitor_timeout + net.common.patience;
    let mut halves = SplitNetwork::bare(net).await?;
    let SplitNetwork { net, left, right, .. } = &mut halves;
    left.monitors(LABEL, &right.port()).await?;
    right.monitors(LABEL, &left.port()).await?;
    sends(left, right, 1..=1).await?;
    sends(right, left, 1..=1).await?;
    arrived(net, right, 1).await?;
    arrived(net, left, 1).await?;
    halves.freeze()?;
    let SplitNetwork { left, right, .. } = &mut halves;
    sends(left, right, 2..=MANY).await?;
    sends(right, left, 2..=MANY).await?;
    halves.all_set("2").await?;
    sleep(silence).await;
    halves.mend()?;
    halves.all_set("3").await?;
    halves.hold_after(silence, &["left", "right", "at-left", "at-right"], "3").await?;
    let SplitNetwork { net, left, right, .. } = &mut halves;
    let fired =
        [left.times_fired(LABEL, &right.node).await?, right.times_fired(LABEL, &left.node).await?];
    // The connection is another one, or it has outlived the silence.
    ensure(matches!(fired, [1, 1] | [0, 0]), || {
        format!("the monitor of left has fired {} times, that of right {}", fired[0], fired[1])
    })?;
    for member in [left, right] {
        if fired == [0, 0] {
            are_all(&arrived(net, member, MANY).await?, 2..=MANY)?;
        } else {
            let came = member.all(json!(["got", ANY])).await?;
            are_the_first(&came.iter().map(number).collect::<Vec<_>>(), 2..=MANY)?;
        }
    }
    Ok(())
}
