//! The lanes of a node: one for each remote node, shared by all threads that send to it.

use super::sync::{DirectOutput, Mutex, Notify, Table, local};
use crate::lane::{Appended, Chunk, Copies, Counters, Lane, LaneLimits, Later, Unsent};
use crate::node::counters::{Received, Traffic};
use crate::node::long_work::without_keeping_others;
use crate::value::packed::Elements;
use crate::value::{NodeId, StrRef};
use crate::wire::framing::{EncodeError, Framing};
use crate::wire::protection::Protection;
use std::cell::Cell;
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The lane of one remote node, with what is needed to share it between threads.
#[derive(Debug)]
pub(crate) struct SharedLane {
    node: NodeId,
    /// The number of the [`Lanes`] to which it belongs.
    table: u64,
    state: Mutex<State>,
    /// Wakes the connection's writer.
    writer: Notify,
    /// Wakes senders who wait for the lane to empty.
    drained: Notify,
    /// Counters of what its connection has received.
    pub(crate) received: Received,
}

#[derive(Debug)]
struct State {
    lane: Lane,
    /// The socket to which senders may write directly, and the generation of its connection.
    direct: Option<(u64, DirectOutput)>,
    /// Removed from the table: a thread that still holds it looks the node up again.
    retired: bool,
    /// The protection of the current connection, or of the last one.
    protection: Option<Protection>,
}

/// Which thread writes to the socket when much is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrittenBy {
    /// The thread that appends, which holds no lock. It writes sooner than the connection's task
    /// would, and has the octets in its cache.
    Sender,
    /// The connection's own task.
    Connection,
}

/// The result of [`Lanes::append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Sent {
    /// The packet is queued, or was dropped because the connection is being lost.
    Done,
    /// The packet is queued, and more octets are queued than the soft limit. Reported once, until
    /// all of them are written.
    Congested,
    /// The packet is queued, and so much is queued that the kernel should hold back packets that can
    /// be delayed. Reported each time, but only for [`WrittenBy::Connection`].
    Crowded,
    /// The kernel has to make a connection.
    WantConnection,
    /// Too much is queued: the kernel has to give the connection up.
    Overflow,
}

/// All lanes of a node.
#[derive(Debug)]
pub(crate) struct Lanes {
    by_node: Table<NodeId, Arc<SharedLane>>,
    limits: LaneLimits,
    /// Distinguishes this table from others in the process.
    number: u64,
    /// Totals of the lanes that have been removed.
    past: Mutex<Traffic>,
}

// The lane to which this thread sent last, since messages come in bursts to the same node. A lane
// says itself that it is retired, so this need not be invalidated.
local!(LAST: Cell<Option<Arc<SharedLane>>> = Cell::new(None));

impl Lanes {
    pub(crate) fn new(limits: LaneLimits) -> Self {
        static TABLES: AtomicU64 = AtomicU64::new(0);
        let number = TABLES.fetch_add(1, Ordering::Relaxed);
        Lanes { by_node: Table::new(), limits, number, past: Mutex::new(Traffic::default()) }
    }

    /// The lane of `node`, which is created if there is none.
    pub(crate) fn of(&self, node: &NodeId) -> Arc<SharedLane> {
        self.by_node.get_or_insert(node, || self.new_lane(node))
    }

    fn new_lane(&self, node: &NodeId) -> Arc<SharedLane> {
        let state = Mutex::new(State {
            lane: Lane::new(self.limits),
            direct: None,
            retired: false,
            protection: None,
        });
        let (writer, drained) = (Notify::new(), Notify::new());
        let (node, received) = (node.clone(), Received::default());
        Arc::new(SharedLane { node, table: self.number, state, writer, drained, received })
    }

    /// The lane of `node`, if this thread sent to it last, to be passed to [`Lanes::append`].
    #[inline]
    pub(crate) fn last(&self, node: StrRef<'_>) -> Option<Arc<SharedLane>> {
        let lane = LAST.with(Cell::take)?;
        if lane.table == self.number && lane.node.as_str() == node {
            return Some(lane);
        }
        LAST.with(|last| last.set(Some(lane)));
        None
    }

    /// Appends a packet, which begins with the port name, to the lane of `node`: to `lane`, if it
    /// is given.
    #[inline]
    pub(crate) fn append(
        &self,
        lane: Option<Arc<SharedLane>>,
        node: impl FnOnce() -> NodeId,
        packet: Elements<'_>,
        written_by: WrittenBy,
    ) -> Result<Sent, EncodeError> {
        if let Some(lane) = lane
            && let Some(sent) = lane.append(packet, written_by).transpose()
        {
            LAST.with(|last| last.set(Some(lane)));
            return sent;
        }
        self.append_elsewhere(&node(), packet, written_by)
    }

    #[inline(never)]
    fn append_elsewhere(
        &self,
        node: &NodeId,
        packet: Elements<'_>,
        written_by: WrittenBy,
    ) -> Result<Sent, EncodeError> {
        loop {
            let lane = self.of(node);
            if let Some(sent) = lane.append(packet, written_by)? {
                LAST.with(|last| last.set(Some(lane)));
                return Ok(sent);
            }
        }
    }

    /// As [`Lanes::append`], by a thread that holds a lock, for packets that take long to make. The
    /// connection's task makes them when their turn to be written has come; if the node is not connected,
    /// they are made at once. They are left in `later` if they are dropped because the connection is being
    /// lost.
    pub(crate) fn append_later(
        &self,
        node: &NodeId,
        later: &mut Option<Later>,
    ) -> Result<Sent, EncodeError> {
        loop {
            if let Some(sent) = self.of(node).append_later(later)? {
                return Ok(sent);
            }
        }
    }

    /// Puts a packet before all others that are queued for a connected node.
    pub(crate) fn append_first(
        &self,
        node: &NodeId,
        packet: Elements<'_>,
    ) -> Result<(), EncodeError> {
        let lane = self.of(node);
        if lane.state.lock().lane.append_first(packet)? {
            lane.writer.notify_one();
        }
        Ok(())
    }

    /// Connects the lane of `node`, whose connection is authenticated. Returns the lane and its
    /// generation.
    pub(crate) fn connect(
        &self,
        node: &NodeId,
        framing: Framing,
    ) -> (Arc<SharedLane>, u64, Vec<EncodeError>) {
        let lane = self.of(node);
        let (generation, _, errors) = lane.state.lock().lane.connect(framing);
        (lane, generation, errors)
    }

    /// Takes out what is queued for `node`, and drops everything appended until [`Lanes::reset`].
    pub(crate) fn disconnect(&self, node: &NodeId) -> Unsent {
        self.of(node).disconnect()
    }

    /// Lets packets be queued for a new connection.
    pub(crate) fn reset(&self, node: &NodeId) {
        if let Some(lane) = self.by_node.get(node) {
            // In one step. Otherwise a thread could send through the next lane and another one,
            // later, through this one, which drops the packet.
            let mut past = self.past.lock();
            let mut state = lane.state.lock();
            self.by_node.remove(node);
            state.retired = true;
            past.add(lane.received.and_sent(state.lane.counters()));
        }
    }

    /// Drops everything, as the node is shut down.
    pub(crate) fn end(&self) {
        self.by_node.for_each(|_, lane| drop(lane.disconnect()));
    }

    /// Totals of all lanes, including removed ones, and the number of octets queued in them.
    pub(crate) fn traffic(&self) -> (Traffic, usize) {
        // No lane may retire meanwhile, or it would be counted twice or not at all.
        let past = self.past.lock();
        let mut sum = *past;
        let mut waiting = 0;
        self.by_node.for_each(|_, lane| {
            let state = lane.state.lock();
            if !state.retired {
                sum.add(lane.received.and_sent(state.lane.counters()));
                waiting += state.lane.waiting();
            }
        });
        (sum, waiting)
    }

    /// Whether everything that was sent has been written or dropped.
    pub(crate) fn are_empty(&self) -> bool {
        let mut empty = true;
        self.by_node.for_each(|_, lane| empty &= lane.state.lock().lane.waiting() == 0);
        empty
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        // Threads may keep a reference to a lane; this frees what is queued in it.
        self.by_node.for_each(|_, lane| drop(lane.disconnect()));
    }
}

/// Chunks that a sender writes at most before it returns.
const MAX_CHUNKS: usize = 16;

/// What a sender is writing, and to which socket.
struct Writing {
    generation: u64,
    output: DirectOutput,
    chunk: Chunk,
}

impl State {
    fn begin_writing(&mut self) -> Option<Writing> {
        let (generation, output) = self.direct.as_ref()?;
        let chunk = self.lane.take(*generation)?;
        Some(Writing { generation: *generation, output: output.clone(), chunk })
    }
}

impl SharedLane {
    /// Appends a packet; `None` if the lane is retired.
    #[inline]
    fn append(
        &self,
        packet: Elements<'_>,
        written_by: WrittenBy,
    ) -> Result<Option<Sent>, EncodeError> {
        self.append_with(written_by, |lane| lane.append(packet))
    }

    /// As [`Lanes::append`], by a thread that holds a lock, for a packet that goes to several
    /// nodes; `None` if the lane is retired.
    #[inline]
    pub(crate) fn append_copy(&self, of: &mut Copies<'_>) -> Result<Option<Sent>, EncodeError> {
        let expected = of.expected();
        let put = |framing, out: &mut Vec<u8>| {
            out.extend_from_slice(of.in_framing(framing)?);
            Ok(())
        };
        self.append_with(WrittenBy::Connection, |lane| lane.append_with(expected, put))
    }

    /// As [`Lanes::append_later`]; `None` if the lane is retired.
    fn append_later(&self, later: &mut Option<Later>) -> Result<Option<Sent>, EncodeError> {
        self.append_with(WrittenBy::Connection, |lane| lane.append_later(later))
    }

    #[inline]
    fn append_with(
        &self,
        written_by: WrittenBy,
        append: impl FnOnce(&mut Lane) -> Result<Appended, EncodeError>,
    ) -> Result<Option<Sent>, EncodeError> {
        let state = self.state.lock();
        if state.retired {
            return Ok(None);
        }
        self.append_to(state, written_by, append).map(Some)
    }

    /// Appends to the lane, which is locked and not retired; unlocks it before anything else.
    #[inline]
    fn append_to(
        &self,
        mut state: impl DerefMut<Target = State>,
        written_by: WrittenBy,
        append: impl FnOnce(&mut Lane) -> Result<Appended, EncodeError>,
    ) -> Result<Sent, EncodeError> {
        let (appended, congested, crowded, writing) = {
            let appended = append(&mut state.lane)?;
            let congested = state.lane.congestion_to_tell();
            let crowded = written_by == WrittenBy::Connection && state.lane.is_crowded();
            let writes = written_by == WrittenBy::Sender && state.lane.is_worth_writing();
            let writing = if writes { state.begin_writing() } else { None };
            drop(state);
            (appended, congested, crowded, writing)
        };
        if appended == Appended::WakeWriter {
            self.writer.notify_one();
        }
        if let Some(writing) = writing {
            self.write_now(writing);
        }
        Ok(match appended {
            Appended::Waits | Appended::WakeWriter if congested => Sent::Congested,
            Appended::Waits | Appended::WakeWriter if crowded => Sent::Crowded,
            Appended::Waits | Appended::WakeWriter | Appended::Dropped => Sent::Done,
            Appended::WantConnection => Sent::WantConnection,
            Appended::Overflow => Sent::Overflow,
        })
    }

    /// Writes while the socket accepts octets and much is queued, up to a limit; the writer does
    /// the rest.
    #[inline(never)]
    fn write_now(&self, mut writing: Writing) {
        for left in (0..MAX_CHUNKS).rev() {
            let Writing { generation, output, mut chunk } = writing;
            while let Ok(written @ 1..) = output.try_write(chunk.unwritten()) {
                chunk.advance(written);
            }
            let blocked = !chunk.unwritten().is_empty();
            let (more, relaxed, next) = {
                let mut state = self.state.lock();
                let more = state.lane.give_back(generation, chunk);
                let next = match left > 0 && !blocked && state.lane.is_worth_writing() {
                    true => state.begin_writing(),
                    false => None,
                };
                (more, !state.lane.is_congested(), next)
            };
            if relaxed {
                self.drained.notify_waiters();
            }
            match next {
                Some(next) => writing = next,
                None if more => return self.writer.notify_one(),
                None => return,
            }
        }
    }

    fn disconnect(&self) -> Unsent {
        let (unsent, output) = {
            let mut state = self.state.lock();
            (state.lane.disconnect(), state.direct.take())
        };
        drop(output);
        self.writer.notify_one();
        self.drained.notify_waiters();
        unsent
    }

    /// Lets senders write directly to the connection of this generation, unless it is over.
    pub(crate) fn share_output(&self, generation: u64, output: DirectOutput) {
        let not_needed = {
            let mut state = self.state.lock();
            match state.lane.connection() {
                Some((_, current)) if current == generation => {
                    state.direct.replace((generation, output))
                }
                _ => Some((generation, output)),
            }
        };
        // After the lock is released, since this may close a socket.
        drop(not_needed);
    }

    /// Makes the packets that are to be written next, if they have yet to be made ([`Later`]). That may
    /// take long, so other tasks of the thread do not wait for it, and the lane is not locked. Returns
    /// false if there are none to make.
    ///
    /// # Errors
    /// Fails if the framing cannot carry a packet, which is left out then.
    pub(crate) fn make_next(&self, generation: u64) -> Result<bool, EncodeError> {
        let next = self.state.lock().lane.take_later(generation);
        let Some((framing, later)) = next else { return Ok(false) };
        let made = without_keeping_others(|| later.encode(framing));
        let left_out = made.left_out();
        let relaxed = {
            let mut state = self.state.lock();
            state.lane.made(generation, made);
            !state.lane.is_congested()
        };
        if relaxed {
            self.drained.notify_waiters();
        }
        left_out.map_or(Ok(true), Err)
    }

    /// Takes the chunk to write next; [`SharedLane::give_back`] must follow. `None` if nothing is
    /// queued, a sender is writing, the first packet has yet to be made ([`SharedLane::make_next`]), or
    /// `generation` is over.
    pub(crate) fn take(&self, generation: u64) -> Option<Chunk> {
        self.state.lock().lane.take(generation)
    }

    /// Returns a chunk that was taken, written or not.
    pub(crate) fn give_back(&self, generation: u64, chunk: Chunk) {
        let relaxed = {
            let mut state = self.state.lock();
            let _ = state.lane.give_back(generation, chunk);
            !state.lane.is_congested()
        };
        if relaxed {
            self.drained.notify_waiters();
        }
    }

    /// The node to which the lane leads.
    pub(crate) const fn node(&self) -> &NodeId {
        &self.node
    }

    /// Waits until there may be something to write.
    pub(crate) async fn wait_for_packets(&self) {
        self.writer.notified().await;
    }

    /// Waits while the lane is congested.
    pub(crate) async fn wait_until_drained(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if !self.is_congested() {
                return;
            }
            drained.await;
        }
    }

    /// Waits until this many octets can be appended without congesting the lane; returns at once if
    /// the connection is over.
    pub(crate) async fn wait_for_room(&self, octets: usize) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            let has_room = {
                let state = self.state.lock();
                state.retired || state.lane.has_room(octets)
            };
            if has_room {
                return;
            }
            drained.await;
        }
    }

    pub(crate) fn is_congested(&self) -> bool {
        let state = self.state.lock();
        !state.retired && state.lane.is_congested()
    }

    /// Whether the packet of [`Lanes::append_first`] was written to the connection of this
    /// generation.
    pub(crate) fn first_is_written(&self, generation: u64) -> bool {
        self.state.lock().lane.first_is_written(generation)
    }

    /// Whether the connection of this generation is over.
    pub(crate) fn is_over(&self, generation: u64) -> bool {
        self.state.lock().lane.connection().is_none_or(|(_, current)| current != generation)
    }

    /// Sets the protection of the connection that carries the lane from now on.
    pub(crate) fn set_protection(&self, protection: Option<Protection>) {
        self.state.lock().protection = protection;
    }

    /// The protection of the current connection, or of the last one.
    pub(crate) fn protection(&self) -> Option<Protection> {
        self.state.lock().protection
    }

    /// The connection's framing, the number of queued octets, and the counters.
    pub(crate) fn figures(&self) -> (Option<Framing>, usize, Counters) {
        let state = self.state.lock();
        let framing = state.lane.connection().map(|(framing, _)| framing);
        (framing, state.lane.waiting(), state.lane.counters())
    }
}
