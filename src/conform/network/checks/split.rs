//! Checks of a network that is split into two halves and joined again.

use super::fixture::{FAMILY, SplitNetwork, entries};
use super::{NetworkCheck, check};
use crate::conform::check::run;
use crate::conform::network::net::Net;
use crate::conform::stop::Verdict;

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
