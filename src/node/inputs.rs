//! The kernel's inputs from connections and from the program for which the node keeps state of its
//! own.

use super::connection::orders::Orders;
use super::core::{Connection, Core, OnFire, Shared};
use super::events::NodeEvent;
use super::port::{CloseWhen, PortCell, PortName, run_queue};
use super::queue;
use crate::kernel::db::{ChangeSet, DbAnswer, DbMonitorId, QueryId};
use crate::kernel::{ConnId, Kernel, MonitorId};
use crate::value::{Packed, PortId, Str};
use crate::wire::framing::Framing;
use crate::wire::protection::Protection;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::mpsc;

impl Shared {
    pub(super) fn add_connection(&self, core: &mut Core, conn: ConnId) -> Orders {
        let (control, orders) = mpsc::unbounded_channel();
        let over = Arc::new(AtomicBool::new(false));
        let (framing, protection) = (Framing::Cbor, None);
        let connection = Connection { control, over: over.clone(), framing, protection };
        core.conns.insert(conn, connection);
        Orders { orders, over }
    }

    /// A peer has connected to us.
    pub(crate) fn accepted(self: &Arc<Self>) -> (ConnId, Orders) {
        self.with_core(|shared, core| {
            let conn = core.kernel.accepted();
            (conn, shared.add_connection(core, conn))
        })
    }

    /// A connection has been authenticated in both directions.
    pub(crate) fn established(
        self: &Arc<Self>,
        conn: ConnId,
        framing: Framing,
        protection: Protection,
        how: &crate::kernel::Authenticated,
    ) {
        self.with_core(|_, core| {
            if let Some(connection) = core.conns.get_mut(&conn) {
                connection.framing = framing;
                connection.protection = Some(protection);
            }
            core.kernel.established(conn, how);
        });
    }

    /// A connection has ended.
    pub(crate) fn closed(self: &Arc<Self>, conn: ConnId, why: &str) {
        self.with_core(|_, core| {
            core.conns.remove(&conn);
            core.kernel.closed(conn, why);
        });
    }

    /// Makes a port; `make` gets its name and returns its cell.
    pub(crate) fn open_port(self: &Arc<Self>, make: impl FnOnce(PortName) -> PortCell) -> PortName {
        self.with_core(|shared, core| {
            let name = core.kernel.open_port();
            let cell = make(name.clone());
            if shared.is_over() {
                cell.close(Packed::default(), CloseWhen::Now);
            } else {
                shared.ports.insert(name.as_ref(), cell);
            }
            name
        })
    }

    /// Sets a monitor.
    pub(crate) fn monitor(self: &Arc<Self>, target: &PortId, on_fire: OnFire) -> MonitorId {
        self.with_core(|shared, core| {
            let monitor = shared.monitor_in(&mut core.kernel, target, crate::kernel::OnDeath::Host);
            if shared.is_over() {
                run_queue::run(move || drop(on_fire));
            } else {
                core.monitors.insert(monitor, on_fire);
            }
            monitor
        })
    }

    /// Removes a monitor; the callback that it would have run is dropped without holding a lock.
    pub(crate) fn unmonitor(self: &Arc<Self>, monitor: MonitorId) {
        self.with_core(|_, core| {
            core.kernel.unmonitor(monitor);
            if let Some(on_fire) = core.monitors.remove(&monitor) {
                run_queue::run(move || drop(on_fire));
            }
        });
    }

    /// Sends a query to the database.
    pub(crate) fn query(
        self: &Arc<Self>,
        ask: impl FnOnce(&mut Kernel) -> QueryId,
    ) -> (QueryId, queue::Receiver<DbAnswer>) {
        self.with_core(|shared, core| {
            let (sender, receiver) = queue::queue();
            let query = ask(&mut core.kernel);
            if !shared.is_over() {
                core.queries.insert(query, sender);
            }
            (query, receiver)
        })
    }

    /// Cancels a query whose answer nobody waits for any more.
    pub(crate) fn cancel_query(self: &Arc<Self>, query: QueryId) {
        self.with_core(|_, core| {
            if core.queries.remove(&query).is_some() {
                core.kernel.cancel_query(query);
            }
        });
    }

    /// Monitors a family of the database.
    pub(crate) fn monitor_family(
        self: &Arc<Self>,
        family: &Str,
    ) -> (DbMonitorId, queue::Receiver<ChangeSet>) {
        self.with_core(|shared, core| {
            let (sender, receiver) = queue::queue();
            let monitor = core.kernel.monitor_family(family);
            if !shared.is_over() {
                core.db_monitors.insert(monitor, sender);
            }
            (monitor, receiver)
        })
    }

    pub(crate) fn unmonitor_family(self: &Arc<Self>, monitor: DbMonitorId) {
        self.with_core(|_, core| {
            core.db_monitors.remove(&monitor);
            core.kernel.unmonitor_family(monitor);
        });
    }

    /// Reports nodes that connect and disconnect, beginning with those that are up.
    pub(crate) fn node_events(self: &Arc<Self>) -> queue::Receiver<NodeEvent> {
        self.with_core(|shared, core| {
            let (sender, receiver) = queue::queue();
            if shared.is_over() {
                return receiver;
            }
            for (node, untrusted) in core.kernel.up_nodes_with_trust() {
                sender.push(NodeEvent::Up { node, untrusted });
            }
            core.events.push(sender);
            receiver
        })
    }
}
