//! Carries out the kernel's effects: puts packets into lanes, delivers messages, fires monitors.
//! The kernel's lock is held meanwhile, so user code is queued to run later.

use super::NodeEvent;
use super::connection;
use super::connection::orders::Control;
use super::core::{Core, MAX_KEPT_EFFECTS, OnFire, Shared};
use super::delivery::{OVERFLOW, overflow};
use super::lanes::{Sent, WrittenBy};
use super::long_work::drop_elsewhere;
use super::message::KillReason;
use super::panics::catch;
use super::port::{CloseWhen, Delivery, PortCell, run_queue};
use crate::kernel::{ConnId, Effect, LARGE_PACKET, Level, MonitorId, Origin, cut_line};
use crate::lane::{Copies, Later};
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed};
use crate::wire::framing::EncodeError;
use std::iter::once;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Shared {
    pub(super) fn carry_out(self: &Arc<Self>, core: &mut Core) {
        let mut effects = std::mem::take(&mut core.effects);
        loop {
            core.kernel.swap_effects(&mut effects);
            if effects.is_empty() {
                break;
            }
            for effect in effects.drain(..) {
                if self.is_over() && begins_something(&effect) {
                    continue;
                }
                self.carry_out_one(core, effect);
            }
        }
        // The memory that one large change took is not kept.
        if effects.capacity() <= MAX_KEPT_EFFECTS {
            core.effects = effects;
        }
    }

    fn carry_out_one(self: &Arc<Self>, core: &mut Core, effect: Effect) {
        match effect {
            Effect::Send { to, packet } => {
                self.trace_sent_later(&to, &packet);
                let sent = self.append_for_kernel(&to, packet.as_elements());
                self.sent_for_kernel(core, &to, sent);
            }
            Effect::SendAll { to, packet } => {
                self.send_all(core, &to, &packet);
            }
            Effect::SendLater { to, packets } if self.traces() => {
                for packet in packets.into_packets() {
                    self.carry_out_one(core, Effect::Send { to: to.clone(), packet });
                }
            }
            Effect::SendLater { to, packets } => {
                let later = Later::new(packets.octets(), move || packets.into_packets());
                let mut later = Some(later);
                let sent = self.lanes.append_later(&to, &mut later);
                if let Some(not_sent) = later {
                    drop_elsewhere(&self.runtime, not_sent);
                }
                self.sent_for_kernel(core, &to, sent);
            }
            Effect::Probe { node, conn, number, packet } => {
                self.trace_sent_later(&node, &packet);
                if let Err(error) = self.lanes.append_first(&node, packet.as_elements()) {
                    not_sent(core, &node, &error);
                }
                self.control(core, conn, Control::Look { number });
            }
            Effect::Look { conn, number } => self.control(core, conn, Control::Look { number }),
            Effect::AwaitRoom { node, number, octets } => {
                let (shared, lane) = (Arc::downgrade(self), self.lanes.of(&node));
                self.runtime.spawn(async move {
                    // What has arrived until now is handled first, so that it can go in one packet.
                    tokio::task::yield_now().await;
                    lane.wait_for_room(octets).await;
                    if let Some(shared) = shared.upgrade() {
                        shared.kernel(|kernel| kernel.has_room(&node, number));
                    }
                });
            }
            Effect::Deliver { port, message, from } => {
                let message = message.as_elements();
                match self.ports.deliver(port.as_ref(), &from, &mut once(message)) {
                    Delivery::Service => core.kernel.service_message(&from, message),
                    Delivery::Overflow => core.kernel.kill(&self.port_id(&port), &overflow()),
                    Delivery::Done | Delivery::Queued { .. } | Delivery::NoSuchPort => {}
                }
            }
            Effect::LaneUp { node, conn } => self.lane_up(core, &node, conn),
            Effect::LaneDown { node } => {
                let unsent = self.lanes.disconnect(&node);
                if unsent.octets() > LARGE_PACKET {
                    drop_elsewhere(&self.runtime, unsent);
                }
            }
            Effect::LaneReset { node } => self.lanes.reset(&node),
            Effect::Dial { conn, address } => {
                let orders = self.add_connection(core, conn);
                connection::dial(self, conn, &address, orders);
            }
            Effect::Proceed { conn, order } => {
                self.control(core, conn, Control::Proceed(order));
            }
            Effect::Close { conn, reason } => {
                self.control(core, conn, Control::Close(reason));
            }
            Effect::Spawned { port, init } => {
                let cell = self.spawned_cell(&port);
                cell.push_task(self.first_task(init));
                self.ports.insert(port.as_ref(), PortCell::Callback(cell));
            }
            Effect::PortClosed { port, reason } => {
                self.ports.close(port.as_ref(), reason, CloseWhen::AfterWaiting);
            }
            Effect::Fire { monitor, reason } => {
                if let Some(on_fire) = core.monitors.remove(&monitor) {
                    self.fire(monitor, on_fire, KillReason::from_packed(reason));
                }
            }
            Effect::Call(call) => self.call_soon(call),
            Effect::Eval { expression, from, reply } => {
                let shared = self.clone();
                run_queue::call(move || shared.evaluate(&expression, &from, &reply));
            }
            Effect::NodeUp { node, untrusted } => {
                Self::tell(core, &NodeEvent::Up { node, untrusted });
            }
            Effect::NodeDown { node, reason } => {
                let reason = KillReason::from_packed(reason);
                Self::tell(core, &NodeEvent::Down { node, reason });
            }
            Effect::Answer { query, answer } => {
                if let Some(waiting) = core.queries.remove(&query) {
                    waiting.push(answer);
                }
            }
            Effect::Changed { monitor, changes } => {
                if let Some(changed) = core.db_monitors.get(&monitor) {
                    changed.push(changes);
                }
            }
            Effect::Log { level, origin, line } => self.log_later(level, origin, line),
        }
    }

    fn append_for_kernel(&self, to: &NodeId, packet: Elements<'_>) -> Result<Sent, EncodeError> {
        let lane = self.lanes.last(to.as_str());
        self.lanes.append(lane, || to.clone(), packet, WrittenBy::Connection)
    }

    fn send_all(&self, core: &mut Core, to: &Arc<[NodeId]>, packet: &Packed) {
        let lanes = core.fan_outs.of(to, &self.lanes);
        let elements = packet.as_elements();
        let mut copies = Copies::of(elements);
        for (node, lane) in to.iter().zip(lanes.iter()) {
            self.trace_sent_later(node, packet);
            let sent = match lane.append_copy(&mut copies).transpose() {
                Some(sent) => sent,
                None => self.append_for_kernel(node, elements),
            };
            self.sent_for_kernel(core, node, sent);
        }
    }

    #[inline]
    fn sent_for_kernel(&self, core: &mut Core, to: &NodeId, sent: Result<Sent, EncodeError>) {
        match sent {
            // The kernel asks for connections itself.
            Ok(Sent::Done | Sent::WantConnection) => {}
            Ok(Sent::Crowded) => core.kernel.has_no_room(to),
            Ok(Sent::Congested) => {
                let text = self.congestion(to);
                core.kernel.log_of_peer(to, Origin::Mesh, Level::Warn, text);
                core.kernel.has_no_room(to);
            }
            Ok(Sent::Overflow) => core.kernel.disconnect(to, OVERFLOW),
            Err(error) => not_sent(core, to, &error),
        }
    }

    fn lane_up(&self, core: &mut Core, node: &NodeId, conn: ConnId) {
        let connection = core.conns.get(&conn);
        let Some((framing, protection)) = connection.map(|one| (one.framing, one.protection))
        else {
            return;
        };
        let (lane, generation, errors) = self.lanes.connect(node, framing);
        lane.set_protection(protection);
        errors.iter().for_each(|error| not_sent(core, node, error));
        self.control(core, conn, Control::Up { lane, generation });
    }

    fn control(&self, core: &Core, conn: ConnId, control: Control) {
        if let Some(conn) = core.conns.get(&conn) {
            if let Control::Close(_) = control {
                conn.over.store(true, Ordering::Relaxed);
            }
            // If the task is gone, it has reported its end or is about to.
            let _ = conn.control.send(control);
        }
    }

    fn fire(&self, monitor: MonitorId, on_fire: OnFire, reason: KillReason) {
        match on_fire {
            OnFire::Future(future) => future.push(reason),
            OnFire::Calls(called) => {
                self.ports.replies().fired(&called, monitor, &reason.into_packed());
            }
            OnFire::Callback(callback) => {
                let node = self.id.clone();
                run_queue::run(move || {
                    if let Err(text) = catch(|| callback(reason)) {
                        tracing::error!(%node, "a monitor's callback panicked: {text}");
                    }
                });
            }
            OnFire::PortCallback(cell, callback) => {
                cell.push_task(Box::new(|_| callback(reason)));
            }
        }
    }

    fn tell(core: &mut Core, event: &NodeEvent) {
        core.events.retain(|listener| !listener.is_abandoned());
        for listener in &core.events {
            listener.push(event.clone());
        }
    }
}

fn not_sent(core: &mut Core, to: &NodeId, error: &EncodeError) {
    let text = cut_line(format_args!("message to {to} not sent: {error}"));
    core.kernel.log_of_peer(to, Origin::Mesh, Level::Error, text);
}

/// Whether an effect starts something that nothing would end after the node was shut down.
const fn begins_something(effect: &Effect) -> bool {
    matches!(
        effect,
        Effect::Send { .. }
            | Effect::SendAll { .. }
            | Effect::SendLater { .. }
            | Effect::AwaitRoom { .. }
            | Effect::Dial { .. }
            | Effect::LaneUp { .. }
            | Effect::Spawned { .. }
            | Effect::Call(_)
            | Effect::Eval { .. }
    )
}
