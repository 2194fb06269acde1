//! The cost of losing a slave in a master's kernel, by the number of other slaves.

use aemp::kernel::{Authenticated, Kernel, KernelConfig, Now, PeerGreeting};
use aemp::value::packed::Elements;
use aemp::value::{NodeId, Packed};
use anyhow::Result;
use std::hint::black_box;
use std::time::{Duration, Instant};

const LOSSES: usize = 20;

/// Microseconds to lose one slave of 100, and of 10,000, with `keys` keys each.
pub(crate) fn measure(keys: usize) -> Result<Vec<f64>> {
    Ok(vec![lose(100, keys)?, lose(10_000, keys)?])
}

fn lose(slaves: usize, keys: usize) -> Result<f64> {
    let now = Now { uptime: Duration::ZERO, wall: 0.0 };
    let config = KernelConfig::repeatable(NodeId::new("master")?);
    let mut kernel = Kernel::new(config, now);
    kernel.set_now(now);
    kernel.become_global();
    let mut conns = Vec::new();
    for number in 0..slaves {
        let node = NodeId::new(format!("slave{number}"))?;
        let conn = kernel.accepted();
        let provider = Default::default();
        kernel.greeted(conn, PeerGreeting::new(node.clone(), provider));
        kernel.established(conn, &Authenticated { untrusted: false });
        let entries: std::collections::BTreeMap<String, u64> =
            (0..keys).map(|key| (format!("key{key}"), key as u64)).collect();
        let db = std::collections::BTreeMap::from([("family", entries)]);
        request(&mut kernel, &node, &Packed::of(&("g_slave", db))?);
        kernel.take_effects();
        conns.push(conn);
    }
    let mut times = Vec::new();
    for conn in conns.into_iter().take(LOSSES) {
        let begun = Instant::now();
        kernel.closed(conn, "gone");
        black_box(kernel.take_effects());
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() / 2).copied().unwrap_or(0.0))
}

fn request(kernel: &mut Kernel, from: &NodeId, request: &Packed) {
    let elements: Elements<'_> = request.as_elements();
    kernel.node_packet(from, elements);
}
