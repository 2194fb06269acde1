//! Numbered messages from the service of one node to that of another, which reports them to the suite.

use crate::conform::network::member::Member;
use crate::conform::network::net::Net;
use crate::conform::pattern::{self, ANY};
use crate::conform::session::Packet;
use crate::conform::stop::{Verdict, ensure, miss};
use serde_json::{Value as Json, json};
use std::ops::RangeInclusive;

/// Makes the service of one node send numbers to that of another node, which reports them to the suite, and
/// tell the suite after each that it was sent.
pub(super) async fn sends(
    from: &mut Member,
    to: &mut Member,
    numbers: RangeInclusive<u64>,
) -> Verdict {
    let (port, got, sent) = (to.port(), to.suite_port("got")?, from.suite_port("sent")?);
    let messages = numbers.flat_map(|number| {
        [json!(["snd", port, "echo", got, number]), json!(["echo", sent, number])]
    });
    from.lets_all(&messages.collect::<Vec<_>>()).await
}

/// The number in a report.
pub(super) fn number(report: &Packet) -> u64 {
    match report.get(1).map(pattern::to_json) {
        Some(Json::Number(number)) => number.as_u64().unwrap_or_default(),
        Some(Json::String(text)) => text.parse().unwrap_or_default(),
        _ => 0,
    }
}

/// All numbers received up to this one.
pub(super) async fn arrived(net: &Net, at: &mut Member, last: u64) -> Verdict<Vec<u64>> {
    let mut numbers: Vec<u64> = Vec::new();
    let wait = net.wait();
    loop {
        numbers.extend(at.all(json!(["got", ANY])).await?.iter().map(number));
        let end = numbers.last().copied().unwrap_or_default();
        if end >= last {
            return Ok(numbers);
        }
        wait.after(|| format!("{end} of {last} messages have come to {}", at.role)).await?;
    }
}

/// Some of these numbers, from the first one on and each once, or none.
pub(super) fn are_the_first(numbers: &[u64], of: RangeInclusive<u64>) -> Verdict {
    match numbers.iter().copied().zip(of).find(|(found, wanted)| found != wanted) {
        Some((found, wanted)) => miss(format!("message {found} came instead of {wanted}")),
        None => Ok(()),
    }
}

/// Fails unless exactly these numbers were received, in this order.
pub(super) fn are_all(numbers: &[u64], wanted: RangeInclusive<u64>) -> Verdict {
    match numbers.iter().copied().zip(wanted.clone()).find(|(found, wanted)| found != wanted) {
        Some((found, wanted)) => miss(format!("message {found} came instead of {wanted}")),
        None => {
            ensure(numbers.len() == wanted.count(), || format!("{} messages came", numbers.len()))
        }
    }
}
