//! Reports signs of life of a connection to the kernel, which suspects that its peer is gone.

use super::channel::Stream;
use super::socket::{self, Progress};
use crate::kernel::Pulse;
use crate::lane::Counters;
use crate::node::lanes::SharedLane;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::sync::Arc;

/// The signs of life of one connection.
pub(super) struct Liveness {
    socket: RawFd,
    lane: Arc<SharedLane>,
    generation: u64,
    /// The number of the last probe that was checked.
    probe: u64,
    /// The count of acknowledged octets at which the packet of that probe has arrived; `None` until
    /// it is written.
    probe_ends: Option<u64>,
}

impl Liveness {
    pub(super) fn new(stream: &Stream, lane: Arc<SharedLane>, generation: u64) -> Self {
        let socket = match stream {
            Stream::Plain(stream) => stream.as_raw_fd(),
            Stream::Tls(established) => established.stream.get_ref().0.get_ref().as_raw_fd(),
        };
        Liveness { socket, lane, generation, probe: 0, probe_ends: None }
    }

    /// The connection's signs of life.
    ///
    /// # Safety
    /// The stream that this was made from, or a part of it, must still exist.
    pub(super) unsafe fn pulse(&mut self, probe: u64) -> Pulse {
        if self.probe != probe {
            (self.probe, self.probe_ends) = (probe, None);
        }
        let written = self.lane.first_is_written(self.generation);
        // SAFETY: the stream exists, and so does its socket.
        let socket = unsafe { BorrowedFd::borrow_raw(self.socket) };
        let Some(Progress { received, acknowledged, outstanding }) = socket::progress(socket)
        else {
            let received = self.lane.received.and_sent(Counters::default()).received_octets;
            return Pulse { received, acknowledged: 0, probe_arrived: written };
        };
        if written && self.probe_ends.is_none() {
            // Octets written after the probe count too; there are few.
            self.probe_ends = Some(acknowledged + outstanding);
        }
        let probe_arrived = self.probe_ends.is_some_and(|ends| acknowledged >= ends);
        Pulse { received, acknowledged, probe_arrived }
    }
}
