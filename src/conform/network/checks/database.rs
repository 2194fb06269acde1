//! Checks of the database as all nodes of a network see it.

use super::fixture::{FAMILY, SplitNetwork, entries};
use super::{NetworkCheck, check};
use crate::conform::check::run;
use crate::conform::network::member::{Member, hold, sorted};
use crate::conform::network::net::Net;
use crate::conform::pattern::{self, ANY};
use crate::conform::stop::{Verdict, ensure};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) const CHECKS: &[NetworkCheck] = &[
    check("net-join", "4.2b", "Two global nodes, each the other's seed, and slaves of both join.")
        .by(run!(join)),
    check("db-agree", "5.2l", "After sets and deletions on all nodes all databases are equal.")
        .by(run!(agree)),
    check("db-slow", "5.2m", "They are equal, too, if every packet is under way for 0.1 s.")
        .by(run!(slow)),
    check("db-family", "5.1j", "A slave is told of each change in the other half once.")
        .by(run!(family)),
    check(
        "db-dead",
        "5.2f",
        "The entries of a killed node vanish, and no others, even for a while.",
    )
    .by(run!(dead)),
    check("db-dead-again", "5.1b", "A node that is back has its new entries, and no old ones.")
        .by(run!(dead_again)),
];

async fn join(net: Net) -> Verdict {
    let mut halves = SplitNetwork::joined(net).await?;
    // Slaves get this from their masters.
    let wanted = entries(&["left", "right", "at-left", "at-right"], "1");
    let SplitNetwork { net, at_left, at_right, .. } = &mut halves;
    let wait = net.wait();
    for slave in [at_left, at_right] {
        loop {
            let seen = sorted(slave.sees(FAMILY).await?);
            if seen == wanted {
                break;
            }
            wait.after(|| format!("{} sees {seen}, not {wanted}", slave.role)).await?;
        }
    }
    Ok(())
}

async fn agree(net: Net) -> Verdict {
    changes(SplitNetwork::joined(net).await?).await
}

async fn slow(net: Net) -> Verdict {
    let halves = SplitNetwork::joined(net).await?;
    halves.delay(Duration::from_millis(100));
    changes(halves).await
}

/// Each node sets entries of its own, changes them, and deletes some, all at the same time.
async fn changes(mut halves: SplitNetwork) -> Verdict {
    let SplitNetwork { net, left, right, at_left, at_right, .. } = &mut halves;
    let mut wanted = BTreeMap::new();
    for member in [&mut *left, right, at_left, at_right] {
        let mut messages = Vec::new();
        for number in 0..30 {
            let key = format!("{}-{number:02}", member.role);
            messages.push(json!(["db_set", "many", key, "first"]));
            match number % 3 {
                0 => messages.push(json!(["db_del", "many", key])),
                1 => {
                    messages.push(json!(["db_set", "many", key, "second"]));
                    wanted.insert(key, "second");
                }
                _ => {
                    wanted.insert(key, "first");
                }
            }
        }
        member.lets_all(&messages).await?;
    }
    hold(net, &mut [left, right], "many", &json!(wanted)).await
}

/// The reports of a family that a node has received: the content, and the numbers of added, changed and
/// deleted keys.
#[derive(Default)]
struct Told {
    content: Json,
    added: BTreeMap<String, u32>,
    changed: BTreeMap<String, u32>,
    deleted: BTreeMap<String, u32>,
}

impl Told {
    /// Adds the reports that have arrived.
    async fn hear(&mut self, member: &mut Member) -> Verdict {
        for report in member.all(json!(["told", ANY, ANY, ANY, ANY, ANY])).await? {
            let mut parts = report.iter().skip(2).map(pattern::to_json);
            self.content = sorted(parts.next().unwrap_or_default());
            for counts in [&mut self.added, &mut self.changed, &mut self.deleted] {
                let keys = parts.next().unwrap_or_default();
                for key in keys.as_array().into_iter().flatten().filter_map(Json::as_str) {
                    *counts.entry(key.to_owned()).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    /// Waits until the content is this.
    async fn until(&mut self, net: &Net, member: &mut Member, wanted: &Json) -> Verdict {
        let wait = net.wait();
        loop {
            self.hear(member).await?;
            if self.content == *wanted {
                return Ok(());
            }
            let content = &self.content;
            wait.after(|| format!("{} was told of {content}, not {wanted}", member.role)).await?;
        }
    }
}

/// Makes a node's service report the changes of a family.
async fn follow(member: &mut Member, family: &str) -> Verdict {
    let to = member.suite_port("told")?;
    member.lets(json!(["db_mon", "family", family, to])).await
}

async fn family(net: Net) -> Verdict {
    let mut halves = SplitNetwork::joined(net).await?;
    let SplitNetwork { net, at_left, at_right, .. } = &mut halves;
    let mut told = Told::default();
    follow(at_left, "news").await?;
    let keys: Vec<String> = (0..20).map(|number| format!("key-{number:02}")).collect();
    let (leave, stay) = keys.split_at(5);
    let content = |keys: &[String]| -> Json {
        json!(keys.iter().map(|key| (key.clone(), "x")).collect::<BTreeMap<_, _>>())
    };
    let sets = keys.iter().map(|key| json!(["db_set", "news", key, "x"]));
    at_right.lets_all(&sets.collect::<Vec<_>>()).await?;
    told.until(net, at_left, &content(&keys)).await?;
    let deletions = leave.iter().map(|key| json!(["db_del", "news", key]));
    at_right.lets_all(&deletions.collect::<Vec<_>>()).await?;
    told.until(net, at_left, &content(stay)).await?;
    let once = |keys: &[String]| keys.iter().map(|key| (key.clone(), 1)).collect();
    ensure(told.added == once(&keys), || format!("added, and how often: {:?}", told.added))?;
    ensure(told.changed.is_empty(), || format!("changed, and how often: {:?}", told.changed))?;
    ensure(told.deleted == once(leave), || format!("deleted, and how often: {:?}", told.deleted))
}

async fn dead(net: Net) -> Verdict {
    let mut halves = SplitNetwork::joined(net).await?;
    let mut told = Told::default();
    follow(&mut halves.at_right, FAMILY).await?;
    let all = entries(&["left", "right", "at-left", "at-right"], "1");
    told.until(&halves.net, &mut halves.at_right, &all).await?;
    halves.at_left.kill();
    let living = ["left", "right", "at-right"];
    halves.hold(&living, "1").await?;
    told.until(&halves.net, &mut halves.at_right, &entries(&living, "1")).await?;
    let deleted = told.deleted.keys().map(String::as_str).collect::<Vec<_>>();
    ensure(deleted == ["at-left"], || format!("at-right was told that {deleted:?} were deleted"))
}

async fn dead_again(net: Net) -> Verdict {
    let mut halves = SplitNetwork::joined(net).await?;
    halves.at_left.sets(FAMILY, "old", "1").await?;
    halves.hold(&["left", "right", "at-left", "at-right", "old"], "1").await?;
    halves.at_left.kill();
    halves.at_left.start_again();
    halves.at_left.ready().await?;
    halves.at_left.sets(FAMILY, "new", "1").await?;
    halves.hold(&["left", "right", "at-right", "new"], "1").await
}
