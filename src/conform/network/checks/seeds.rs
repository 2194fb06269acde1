//! Checks of seeds that start late, are lost, and are replaced one after another.

use super::fixture::{FAMILY, entries};
use super::numbers::{are_all, arrived, sends};
use super::{NetworkCheck, check};
use crate::conform::check::run;
use crate::conform::network::hosts::Side;
use crate::conform::network::member::{Member, hold};
use crate::conform::network::net::Net;
use crate::conform::stop::Verdict;
use std::net::SocketAddr;

pub(super) const CHECKS: &[NetworkCheck] = &[
    check("seed-late", "4.1b", "A node joins when its seed is there, also if that starts later.")
        .by(run!(late)),
    check(
        "seed-lost",
        "5.1b",
        "A slave whose master is killed gets another, and its entries stay.",
    )
    .by(run!(lost)),
    check(
        "seeds-replaced",
        "5.1b",
        "Seeds of the first kind are replaced by the second, no entry lost.",
    )
    .by(run!(replaced)),
    check("seeds-quiet", "3.2a", "Slaves that talk do not notice that all seeds are replaced.")
        .by(run!(quiet)),
];

/// The family of entries that are set once. Those of [`FAMILY`] change while seeds are lost.
const FIXED: &str = "fixed";
/// The roles of the slaves.
const SLAVES: [&str; 2] = ["slave-1", "slave-2"];

async fn late(net: Net) -> Verdict {
    let (mut seed, mut slave) =
        (Member::first(&net, "seed", Side::Left)?, Member::second(&net, "slave", Side::Right)?);
    let nobody = net.relay(seed.address)?;
    nobody.cut();
    slave.start(&[seed.address]);
    slave.ready().await?;
    slave.sets(FAMILY, "slave", "1").await?;
    seed.start(&[nobody.address()]);
    seed.ready().await?;
    hold(&net, &mut [&mut seed], FAMILY, &entries(&["slave"], "1")).await
}

async fn lost(net: Net) -> Verdict {
    let mut network = Seeds::joined(net, 2).await?;
    network.without(0, "2").await
}

async fn replaced(net: Net) -> Verdict {
    let mut network = Seeds::joined(net, 3).await?;
    for index in 0..3 {
        network.replace(index).await?;
    }
    Ok(())
}

async fn quiet(net: Net) -> Verdict {
    let mut network = Seeds::joined(net, 3).await?;
    let mut sent = 0;
    let [first, second] = &mut network.slaves;
    let ports = [second.port(), first.port()];
    first.monitors("m", &ports[0]).await?;
    second.monitors("m", &ports[1]).await?;
    network.talk(&mut sent).await?;
    for index in 0..3 {
        network.replace(index).await?;
        network.talk(&mut sent).await?;
    }
    for slave in &mut network.slaves {
        slave.fires_not("m").await?;
    }
    Ok(())
}

/// Seeds of the first implementation, each with all others as its seeds, and a slave of either kind.
struct Seeds {
    net: Net,
    seeds: Vec<Member>,
    slaves: [Member; 2],
}

impl Seeds {
    /// All nodes started and joined. The first seed is the master of both slaves, since it was there first.
    async fn joined(net: Net, count: usize) -> Verdict<Seeds> {
        let roles = ["seed-1", "seed-2", "seed-3"].into_iter().take(count);
        let seeds =
            roles.map(|role| Member::first(&net, role, Side::Left)).collect::<Verdict<_>>()?;
        let slaves = [
            Member::first(&net, "slave-1", Side::Left)?,
            Member::second(&net, "slave-2", Side::Right)?,
        ];
        let mut network = Seeds { net, seeds, slaves };
        let addresses: Vec<SocketAddr> = network.seeds.iter().map(|seed| seed.address).collect();
        let Seeds { net, seeds, slaves } = &mut network;
        if let Some(first) = seeds.first_mut() {
            first.start(&addresses);
            first.ready().await?;
            for slave in &mut *slaves {
                slave.start(&addresses);
                slave.ready().await?;
                slave.sets(FAMILY, slave.role, "1").await?;
                slave.sets(FIXED, slave.role, "1").await?;
            }
            hold(net, &mut [first], FAMILY, &entries(&SLAVES, "1")).await?;
        }
        for seed in seeds.iter_mut().skip(1) {
            seed.start(&addresses);
            seed.ready().await?;
        }
        network.hold("1").await?;
        Ok(network)
    }

    /// Waits until all seeds have the entries of all slaves.
    async fn hold(&mut self, value: &str) -> Verdict {
        let mut seeds: Vec<&mut Member> = self.seeds.iter_mut().collect();
        hold(&self.net, &mut seeds, FAMILY, &entries(&SLAVES, value)).await?;
        hold(&self.net, &mut seeds, FIXED, &entries(&SLAVES, "1")).await
    }

    /// Kills a seed, changes the slaves' entries, and waits until the other seeds have them.
    async fn without(&mut self, index: usize, value: &str) -> Verdict {
        if let Some(seed) = self.seeds.get_mut(index) {
            seed.kill();
        }
        for slave in &mut self.slaves {
            slave.sets(FAMILY, slave.role, value).await?;
        }
        let others = self.seeds.iter_mut().enumerate().filter(|(other, _)| *other != index);
        let mut others: Vec<&mut Member> = others.map(|(_, seed)| seed).collect();
        hold(&self.net, &mut others, FAMILY, &entries(&SLAVES, value)).await?;
        hold(&self.net, &mut others, FIXED, &entries(&SLAVES, "1")).await
    }

    /// Replaces a seed by one of the second implementation.
    async fn replace(&mut self, index: usize) -> Verdict {
        let value = format!("{}", index + 2);
        self.without(index, &value).await?;
        if let Some(seed) = self.seeds.get_mut(index) {
            seed.start_as(&self.net.pair.1);
            seed.ready().await?;
        }
        self.hold(&value).await
    }

    /// The slaves send each other messages, which all arrive in order.
    async fn talk(&mut self, sent: &mut u64) -> Verdict {
        const MESSAGES: u64 = 100;
        let Seeds { net, slaves: [one, other], .. } = self;
        let numbers = *sent + 1..=*sent + MESSAGES;
        sends(one, other, numbers.clone()).await?;
        sends(other, one, numbers.clone()).await?;
        *sent += MESSAGES;
        are_all(&arrived(net, other, *sent).await?, numbers.clone())?;
        are_all(&arrived(net, one, *sent).await?, numbers)?;
        Ok(())
    }
}
