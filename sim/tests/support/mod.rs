//! Helpers that the tests of kernels in a virtual network share.
#![allow(dead_code, clippy::unwrap_used)]

use aemp::kernel::{MonitorId, OnDeath};
use aemp::value::{NodeId, Packed, PortId};
use aemp_sim::{HostId, Spec, World, WorldEvent};
use std::time::Duration;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn id(node: &str) -> NodeId {
    NodeId::new(node).unwrap()
}

/// A seed called `s`, and `slaves` called `a`, `b`, ... that have joined it.
pub(crate) fn family(slaves: usize) -> (World, HostId, Vec<HostId>) {
    let mut world = World::calm();
    let seed = world.add(Spec::new("s").seeds(["s:1"]));
    let names = ["a", "b", "c", "d", "e", "f"];
    let slaves =
        names[..slaves].iter().map(|name| world.add(Spec::new(name).seeds(["s:1"]))).collect();
    world.run_for(secs(3));
    for host in world.hosts() {
        world.happenings(host);
    }
    (world, seed, slaves)
}

pub(crate) fn monitor(world: &mut World, host: HostId, target: &PortId) -> MonitorId {
    world.kernel(host, |kernel| kernel.monitor(target, OnDeath::Host))
}

pub(crate) fn is_up(world: &World, host: HostId, node: &str) -> bool {
    world.node(host).kernel().is_up(&id(node))
}

/// The monitors that have fired since the last call, each with its reason.
pub(crate) fn fired(world: &mut World, host: HostId) -> Vec<(MonitorId, String)> {
    let fired = world.happenings(host).into_iter().filter_map(|happening| match happening {
        WorldEvent::Fired { monitor, reason } => Some((monitor, reason.to_string())),
        _ => None,
    });
    fired.collect()
}

/// The messages that arrived at a node's ports since the last call, as text.
pub(crate) fn messages(world: &mut World, host: HostId) -> Vec<String> {
    let messages = world.happenings(host).into_iter().filter_map(|happening| match happening {
        WorldEvent::Delivered { message, .. } => Some(message.to_string()),
        _ => None,
    });
    messages.collect()
}

pub(crate) fn dialled(world: &mut World, host: HostId) -> Vec<String> {
    let dialled = world.happenings(host).into_iter().filter_map(|happening| match happening {
        WorldEvent::Dialled { address, .. } => Some(address.to_string()),
        _ => None,
    });
    dialled.collect()
}

pub(crate) fn text(reason: &impl std::fmt::Display) -> String {
    reason.to_string()
}

pub(crate) fn packed<T: serde::Serialize + ?Sized>(value: &T) -> Packed {
    Packed::of(value).unwrap()
}

pub(crate) fn kill(world: &mut World, host: HostId, port: &PortId, reason: &Packed) {
    world.kernel(host, |kernel| kernel.kill(port, reason));
}
