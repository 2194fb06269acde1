//! Checks of messages between ports of different nodes: in order, without gaps.

use super::fixture::SplitNetwork;
use super::numbers::{are_all, arrived, number, sends};
use super::{NetworkCheck, check};
use crate::conform::check::run;
use crate::conform::network::net::Net;
use crate::conform::pattern::{ANY, REST};
use crate::conform::session::{Packet, is_text};
use crate::conform::stop::{Verdict, ensure, miss};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

pub(super) const CHECKS: &[NetworkCheck] = &[
    check("msg-order", "3.2a", "Messages between slaves of different masters arrive in order.")
        .by(run!(order)),
    check("msg-cut", "3.2a", "When messages are lost, all are lost until the monitor fires.")
        .by(run!(cut)),
    check("msg-pause", "3.2a", "While a node does not run, nothing for it is lost.")
        .by(run!(pause)),
    check("msg-silence", "4.5a", "Packets are lost on the way for a while: no message is lost.")
        .by(run!(silence)),
];

/// How long a node or a connection is stalled; less than all timeouts.
const STALL: Duration = Duration::from_secs(2);

async fn order(net: Net) -> Verdict {
    const MESSAGES: u64 = 1000;
    let mut halves = SplitNetwork::joined(net).await?;
    let SplitNetwork { net, at_left, at_right, .. } = &mut halves;
    sends(at_left, at_right, 1..=MESSAGES).await?;
    are_all(&arrived(net, at_right, MESSAGES).await?, 1..=MESSAGES)?;
    sends(at_right, at_left, 1..=MESSAGES).await?;
    are_all(&arrived(net, at_left, MESSAGES).await?, 1..=MESSAGES)
}

async fn pause(net: Net) -> Verdict {
    let mut halves = SplitNetwork::joined(net).await?;
    let SplitNetwork { net, left, at_left, .. } = &mut halves;
    left.monitors("m", &at_left.port()).await?;
    sends(left, at_left, 1..=1).await?;
    arrived(net, at_left, 1).await?;
    at_left.stop();
    sends(left, at_left, 2..=500).await?;
    sleep(STALL).await;
    at_left.go_on();
    are_all(&arrived(net, at_left, 500).await?, 2..=500)?;
    left.fires_not("m").await?;
    halves.hold(&["left", "right", "at-left", "at-right"], "1").await
}

async fn silence(net: Net) -> Verdict {
    let mut halves = SplitNetwork::bare(net).await?;
    let SplitNetwork { net, left, right, .. } = &mut halves;
    right.monitors("m", &left.port()).await?;
    sends(right, left, 1..=1).await?;
    arrived(net, left, 1).await?;
    halves.freeze()?;
    sends(&mut halves.right, &mut halves.left, 2..=100).await?;
    halves.all_set("2").await?;
    sleep(STALL).await;
    halves.mend()?;
    are_all(&arrived(&halves.net, &mut halves.left, 100).await?, 2..=100)?;
    halves.right.fires_not("m").await?;
    halves.hold(&["left", "right", "at-left", "at-right"], "2").await
}

async fn cut(net: Net) -> Verdict {
    /// The number of messages sent in one go.
    const BATCH: u64 = 50;
    let mut halves = SplitNetwork::joined(net).await?;
    let SplitNetwork { net, left, at_left, to_left, .. } = &mut halves;
    at_left.monitors("m", &left.port()).await?;
    sends(at_left, left, 1..=BATCH).await?;
    arrived(net, left, BATCH).await?;
    // Octets are in transit when the connection is cut.
    to_left.delay(Duration::from_millis(30));
    let mut last = BATCH;
    let mut log: Vec<Packet> = Vec::new();
    let wait = net.wait();
    for batch in 1.. {
        sends(at_left, left, last + 1..=last + BATCH).await?;
        last += BATCH;
        if batch == 3 {
            to_left.cut();
        }
        log.extend(at_left.all(json!([REST])).await?);
        if log.iter().any(is_fired) {
            break;
        }
        wait.after(|| "the monitor has not fired".to_owned()).await?;
    }
    to_left.go_on();
    // From now on messages may come through again.
    let mut came: Vec<u64> = Vec::new();
    let wait = net.wait();
    loop {
        sends(at_left, left, last + 1..=last + 1).await?;
        last += 1;
        came.extend(left.all(json!(["got", ANY])).await?.iter().map(number));
        log.extend(at_left.all(json!([REST])).await?);
        let (end, before) = (came.last().copied().unwrap_or_default(), sent_before_the_end(&log));
        if end > before {
            break;
        }
        wait.after(|| format!("no message came after {end}, {before} were sent at the cut"))
            .await?;
    }
    ensure(log.iter().filter(|report| is_fired(report)).count() == 1, || {
        "the monitor has fired more than once".to_owned()
    })?;
    without_holes(&came, BATCH, sent_before_the_end(&log)).map_or_else(miss, Ok)
}

/// Whether a report says that a monitor has fired.
fn is_fired(report: &Packet) -> bool {
    is_text(report.first(), "fired")
}

/// The last number that was sent before the monitor fired.
fn sent_before_the_end(log: &[Packet]) -> u64 {
    let before = log.iter().take_while(|report| !is_fired(report));
    before.map(number).max().unwrap_or_default()
}

/// Whether the numbers after `first` are consecutive, and end with the first gap: after a gap, none of
/// those up to `last` may follow. Later numbers may begin anywhere.
fn without_holes(numbers: &[u64], first: u64, last: u64) -> Result<(), String> {
    let mut expected = first + 1;
    for number in numbers {
        let is_next = *number == expected;
        let is_after = *number > last && *number > expected;
        if !is_next && !is_after {
            return Err(format!(
                "message {number} came, though {expected} had not, and the monitor fired only after \
                 {last} were sent"
            ));
        }
        expected = number + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_is_a_number_that_comes_behind_a_lost_one_and_before_the_monitor_fires() {
        assert_eq!(without_holes(&[51, 52, 53], 50, 80), Ok(()));
        assert_eq!(without_holes(&[51, 52, 81, 82, 90], 50, 80), Ok(()));
        assert_eq!(without_holes(&[], 50, 80), Ok(()));
        for wrong in [&[51, 53][..], &[52], &[51, 80], &[51, 51], &[51, 85, 84], &[51, 85, 52]] {
            assert!(without_holes(wrong, 50, 80).is_err(), "{wrong:?}");
        }
    }
}
