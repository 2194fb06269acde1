//! Carries out each operation of a plan.

use super::oracle::{Call, PortFate, View};
use super::plan::Op;
use super::run::{Run, bit};
use crate::{NetworkConditions, SlowLink, StrangerBehaviour, World};
use aemp::kernel::OnDeath;
use aemp::kernel::db::{Datum, QueryKind};
use aemp::value::{NodeId, Packed, Str};
use std::time::Duration;

/// About 45 KB.
const MESSAGES_IN_BULK: u32 = 300;

impl Run<'_> {
    pub(super) fn carry_out(&mut self, op: Op) -> String {
        if let Some(ledger) = &mut self.ledger {
            ledger.disturbed_by(op, self.world.now());
        }
        let done = self.try_op(op);
        self.outcome.faults += u64::from(op.is_fault() && done.is_some());
        done.unwrap_or_else(|| "(nothing)".to_owned())
    }

    fn try_op(&mut self, op: Op) -> Option<String> {
        match op {
            Op::OpenPort { host } => {
                let host = self.anybody(host)?;
                let port = self.world.open_port(host);
                self.oracle.opened(port.clone());
                Some(format!("{port}"))
            }
            Op::Stream { host, port, count } => {
                let (host, port) = (self.running(host)?, self.port(port)?);
                let stream = self.stream(host, port.clone(), count);
                Some(format!("stream {stream} from {host:?} to {port}"))
            }
            Op::Continue { stream, count } => {
                let index = self.live_stream(stream)?;
                self.send(index, count);
                Some(format!("stream {index}"))
            }
            Op::Kill { host, port, with_reason } => {
                let (host, port) = (self.anybody(host)?, self.port(port)?);
                let reason =
                    if with_reason { Packed::of(&("bad", 1)).ok()? } else { Packed::default() };
                if self.world.perl(host).is_none() {
                    self.world.kernel(host, |kernel| kernel.kill(&port, &reason));
                } else if self.world.spec(host).node == port.node() {
                    self.world.perl_kill(host, &port, &reason);
                } else {
                    return None;
                }
                Some(format!("{host:?} kills {port}"))
            }
            Op::Unmonitor { monitor } => {
                let set = self.oracle.monitors.iter().filter(|(_, w)| w.fate == PortFate::Set);
                let set: Vec<_> = set.map(|(&key, _)| key).collect();
                let (life, monitor) = *set.get(monitor as usize % set.len().max(1))?;
                self.world.kernel(life.0, |kernel| kernel.unmonitor(monitor));
                let monitored = self.oracle.monitors.get_mut(&(life, monitor))?;
                monitored.fate = PortFate::Removed;
                let done = format!("{life:?} {monitor:?} of {}", monitored.target);
                for stream in &mut self.oracle.streams {
                    stream.ended |= stream.from == life && stream.monitor == monitor;
                }
                for call in &mut self.oracle.calls {
                    call.ended |= call.life == life && call.monitor == monitor;
                }
                Some(done)
            }
            Op::Spawn { host, on, known, count } => {
                let (host, on) = (self.running(host)?, self.node_id(on));
                let port = self.world.kernel(host, |kernel| {
                    let function = if known { "f" } else { "unknown" };
                    kernel.spawn(&on, function, Packed::default().as_elements())
                });
                let stream = self.stream(host, port.clone(), count);
                Some(format!("{host:?} spawns {port}, stream {stream}"))
            }
            Op::Link { host, port, own } => {
                let (host, port) = (self.running(host)?, self.port(port)?);
                let ports: Vec<_> = self.world.node(host).ports().cloned().collect();
                let own = ports.get(own as usize % ports.len().max(1))?.clone();
                let done = format!("{own} of {host:?} to {port}");
                self.monitor(host, &port, OnDeath::Link(own));
                Some(done)
            }
            Op::Notify { host, port, to } => {
                let (host, port, to) = (self.running(host)?, self.port(port)?, self.port(to)?);
                self.oracle.notices += 1;
                let elements = Packed::of(&("notice", self.oracle.notices)).ok()?;
                let done = format!("{host:?} for {to} of {port}");
                self.monitor(host, &port, OnDeath::Message { to, elements });
                Some(done)
            }
            Op::MonitorNode { host, node } => {
                let (host, node) = (self.running(host)?, self.node_id(node));
                if node == self.world.spec(host).node {
                    return None;
                }
                self.monitor(host, &node.node_port(), OnDeath::Host);
                Some(format!("{host:?} {node}"))
            }
            Op::Set { host, family, key, value } => {
                let host = self.anybody(host)?;
                let (family, key) = (family_name(family), Str::from(format!("k{key}")));
                let value = Datum::int(i64::from(value));
                if self.world.perl(host).is_some() {
                    self.world
                        .perl_database(host, |db, now| db.set(&family, key, value, now))?
                        .ok()?;
                    return Some("in Perl".to_owned());
                }
                if let Some(ledger) = &mut self.ledger {
                    ledger.set(host, &family, &key, self.world.now());
                }
                self.world.kernel(host, |kernel| kernel.set(&family, key, value)).ok()?;
                Some(String::new())
            }
            Op::Delete { host, family, key } => {
                let host = self.anybody(host)?;
                let (family, key) = (family_name(family), Str::from(format!("k{key}")));
                if self.world.perl(host).is_some() {
                    self.world
                        .perl_database(host, |db, now| db.delete(&family, [key], now))?
                        .ok()?;
                    return Some("in Perl".to_owned());
                }
                if let Some(ledger) = &mut self.ledger {
                    ledger.deleted(host, &family, &key, self.world.now());
                }
                self.world.kernel(host, |kernel| kernel.delete(&family, [key])).ok()?;
                Some(String::new())
            }
            Op::MonitorFamily { host, family } => {
                let host = self.running(host)?;
                let family = family_name(family);
                let life = self.life(host);
                let oracle = &mut self.oracle;
                self.world.kernel(host, |kernel| {
                    let monitor = kernel.monitor_family(&family);
                    oracle.views.insert((life, monitor), View { family, content: None });
                });
                Some(String::new())
            }
            Op::UnmonitorFamily { monitor } => {
                let views: Vec<_> = self.oracle.views.keys().copied().collect();
                let (life, monitor) = *views.get(monitor as usize % views.len().max(1))?;
                self.oracle.views.remove(&(life, monitor));
                self.world.kernel(life.0, |kernel| kernel.unmonitor_family(monitor));
                Some(format!("{life:?}"))
            }
            Op::Query { host, family, kind } => {
                let host = self.running(host)?;
                let family = family_name(family);
                let query = self.world.kernel(host, |kernel| match kind {
                    0 => kernel.query(QueryKind::Family, &family),
                    1 => kernel.query(QueryKind::Keys, &family),
                    2 => kernel.query(QueryKind::Values, &family),
                    _ => kernel.get(&family, &Str::from("k1")),
                });
                self.oracle.queries.insert((self.life(host), query));
                Some(format!("{query:?}"))
            }
            Op::CancelQuery { query } => {
                let queries: Vec<_> = self.oracle.queries.iter().copied().collect();
                let (life, query) = *queries.get(query as usize % queries.len().max(1))?;
                self.oracle.queries.remove(&(life, query));
                self.world.kernel(life.0, |kernel| kernel.cancel_query(query));
                Some(format!("{life:?} {query:?}"))
            }
            Op::Call { host, port } => {
                let (host, to) = (self.running(host)?, self.port(port)?);
                // The model of a Perl node does not answer.
                if self.host_of(&to.node()).is_some_and(|host| self.world.perl(host).is_some()) {
                    return None;
                }
                let number = self.oracle.calls.len() as u32;
                let reply = self.world.open_port(host);
                let monitor = self.monitor(host, &to, OnDeath::Host);
                let message = Packed::of(&("call", number, reply.to_string())).ok()?;
                let done = format!("{host:?} calls {to}: {number}");
                let life = self.life(host);
                self.oracle.calls.push(Call { life, reply, monitor, ended: false });
                self.world.send(host, &to, &message);
                Some(done)
            }
            Op::Patiently { stream, count } => {
                let index = self.live_stream(stream)?;
                *self.oracle.waiting_streams.entry(index).or_default() += count;
                self.send_patiently(index);
                Some(format!("stream {index}"))
            }
            Op::Echo { host, on } => {
                let (host, on) = (self.running(host)?, self.node_id(on));
                let port = self.world.open_port(host);
                let request = Packed::of(&("snd", port.to_string(), "echo")).ok()?;
                self.world.kernel(host, |kernel| {
                    kernel.send_request(&on, request.as_elements());
                });
                Some(format!("{host:?} {on}"))
            }
            Op::Cut { a, b } => {
                self.world.cut(self.host(a), self.host(b));
                Some(format!("{:?} {:?}", self.host(a), self.host(b)))
            }
            Op::HalfCut { a, b } => {
                self.world.half_cut(self.host(a), self.host(b));
                Some(format!("{:?} {:?}", self.host(a), self.host(b)))
            }
            Op::Block { a, b } => {
                self.world.block(self.host(a), self.host(b));
                Some(format!("{:?} {:?}", self.host(a), self.host(b)))
            }
            Op::Unblock { a, b } => {
                self.world.unblock(self.host(a), self.host(b));
                Some(format!("{:?} {:?}", self.host(a), self.host(b)))
            }
            Op::Partition { mask } => {
                for a in self.world.hosts() {
                    for b in self.world.hosts() {
                        if bit(mask, a.0) != bit(mask, b.0) {
                            self.world.block(a, b);
                        }
                    }
                }
                Some(String::new())
            }
            Op::Heal => {
                self.world.unblock_all();
                Some(String::new())
            }
            Op::Kill9 { host } => {
                let host = self.anybody(host)?;
                self.stop(host, World::kill);
                Some(format!("{host:?}"))
            }
            Op::Vanish { host } => {
                let host = self.anybody(host)?;
                self.stop(host, World::vanish);
                Some(format!("{host:?}"))
            }
            Op::Start { host, new_id } => {
                let host = self.host(host);
                if self.world.is_running(host) {
                    return None;
                }
                if host.0 < self.plan.setup.seeds && self.world.spec(host).perl {
                    self.world.spec_mut(host).perl = !new_id;
                } else if new_id {
                    let name = format!("n{}.{}", host.0, self.world.incarnation(host) + 1);
                    self.world.spec_mut(host).node = NodeId::new(name).ok()?;
                }
                self.start(host);
                Some(format!("{host:?} as {}", self.world.spec(host).node))
            }
            Op::Pause { host, ms } => {
                let host = self.anybody(host)?;
                self.world.pause(host, Duration::from_millis(u64::from(ms)));
                Some(format!("{host:?}"))
            }
            Op::Suspend { host, ms } => {
                let host = self.running(host)?;
                self.world.suspend(host, Duration::from_millis(u64::from(ms)));
                Some(format!("{host:?}"))
            }
            Op::Jump { host, leap_ms, wall } => {
                let host = self.running(host)?;
                let leap = Duration::from_millis(u64::from(leap_ms));
                self.world.jump(host, leap, f64::from(wall));
                Some(format!("{host:?}"))
            }
            Op::NetworkConditions { rough } => {
                self.world.set_weather(if rough {
                    NetworkConditions::ROUGH
                } else {
                    NetworkConditions::CALM
                });
                Some(String::new())
            }
            Op::SetSeeds { host, mask } => {
                let host = self.running(host)?;
                let seeds = self.plan.setup.seeds;
                let chosen = (0..seeds).filter(|seed| (mask >> seed) & 1 == 1);
                let chosen: Vec<Str> = chosen.map(|seed| Str::from(format!("n{seed}:1"))).collect();
                if host.0 < seeds || chosen.is_empty() {
                    return None;
                }
                self.world.kernel(host, |kernel| kernel.set_seeds(&chosen));
                self.oracle.got_other_seeds.insert(host);
                let done = format!("{host:?} {chosen:?}");
                self.world.spec_mut(host).seeds = chosen;
                Some(done)
            }
            Op::Disconnect { host, node } => {
                let (host, node) = (self.running(host)?, self.node_id(node));
                self.world.kernel(host, |kernel| kernel.disconnect(&node, "told to"));
                Some(format!("{host:?} {node}"))
            }
            Op::Hijack { seed, claimed, manner } => {
                let address = self.seed_address(seed);
                let manner = self.manner(claimed, manner);
                let done = format!("{address} {manner:?}");
                self.world.set_manner(self.stranger, manner);
                self.world.hijack(&address, Some(self.stranger));
                Some(done)
            }
            Op::Restore { seed } => {
                let address = self.seed_address(seed);
                self.world.hijack(&address, None);
                Some(address)
            }
            Op::Slow { a, b, pace, delay, stall } => {
                let (a, b) = (self.host(a), self.host(b));
                let ms = |ms| Duration::from_millis(u64::from(ms));
                let slow = SlowLink { octets_per_second: pace, delay: ms(delay), stall: ms(stall) };
                self.world.set_slow(a, b, Some(slow));
                Some(format!("{a:?} {b:?} {slow:?}"))
            }
            Op::Bulk { host, on } => {
                let (host, on) = (self.running(host)?, self.host(on));
                if host == on || !self.world.is_running(on) {
                    return None;
                }
                let to = self.world.open_port(on);
                self.oracle.opened(to.clone());
                let stream = self.stream(host, to.clone(), MESSAGES_IN_BULK);
                Some(format!("stream {stream} from {host:?} to {to}"))
            }
            Op::TwinDials { host, of } => {
                let (host, of) = (self.host(host), self.host(of));
                let spec = self.world.spec(of);
                let node = spec.node.clone();
                let provider = if spec.perl { "AE-2.02" } else { "aemp-0.1" };
                // In a peaceful network nothing fails: if the node is up, it stays up. Otherwise
                // the first process that authenticates as the node is taken for the node.
                let is_up = self.world.running(host).is_some_and(|at| at.kernel().is_up(&node));
                if host == of || (self.plan.setup.peaceful && !is_up) {
                    return None;
                }
                let done = format!("{node} at {host:?}");
                let address = self.world.spec(host).addresses.first()?.to_string();
                let manner = StrangerBehaviour::Twin { node, provider: Str::from(provider) };
                self.world.set_manner(self.twin, manner);
                self.world.stranger_dials(self.twin, &address);
                Some(done)
            }
            Op::StrangerDials { host, claimed, manner } => {
                let host = self.host(host);
                let manner = self.manner(claimed, manner);
                let done = format!("{host:?} {manner:?}");
                let address = self.world.spec(host).addresses.first()?.to_string();
                self.world.set_manner(self.stranger, manner);
                self.world.stranger_dials(self.stranger, &address);
                Some(done)
            }
            Op::BecomeGlobal { host } => {
                let host = self.running(host)?;
                self.oracle.made_global.insert(host);
                self.world.kernel(host, |kernel| kernel.become_global());
                Some(format!("{host:?}"))
            }
        }
    }
}

impl Run<'_> {
    fn seed_address(&self, choice: u32) -> String {
        format!("n{}:1", choice as usize % self.plan.setup.seeds)
    }

    fn manner(&self, claimed: u32, choice: u32) -> StrangerBehaviour {
        if choice.is_multiple_of(3) {
            return StrangerBehaviour::Echoes;
        }
        let instance = self.world.instance(self.host(claimed));
        let spec = self.world.spec(self.host(claimed));
        let provider = if spec.perl { Str::from("AE-2.02") } else { spec.provider.clone() };
        StrangerBehaviour::Claims {
            node: spec.node.clone(),
            provider,
            instance,
            closes: choice % 3 == 1,
        }
    }
}

fn family_name(choice: u32) -> Str {
    match choice {
        0 => Str::from("f0"),
        1 => Str::from("f1"),
        2 => Str::from("'l"),
        _ => Str::from("'g"),
    }
}
