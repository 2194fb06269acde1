//! What the kernel orders a connection's task to do.

use crate::node::error::ConnectionError;
use crate::node::lanes::SharedLane;
use crate::wire::session::AuthOrder;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::mpsc;

/// What the kernel tells a connection's task.
#[derive(Debug)]
pub(crate) enum Control {
    /// The peer has greeted, and may go on.
    Proceed(AuthOrder),
    /// The connection is not wanted any more.
    Close(String),
    /// The connection is its node's only one now, and this its lane.
    Up { lane: Arc<SharedLane>, generation: u64 },
    /// Report how the connection is doing, and name this number.
    Look { number: u64 },
}

impl Control {
    /// Why the connection ends if this order arrives while another kind is awaited.
    pub(super) fn out_of_order(self) -> ConnectionError {
        match self {
            Control::Close(reason) => ConnectionError::Refused(reason),
            Control::Proceed(_) | Control::Up { .. } | Control::Look { .. } => {
                ConnectionError::Refused("out of order".to_owned())
            }
        }
    }
}

/// The receiving end of the kernel's orders for one connection.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) orders: mpsc::UnboundedReceiver<Control>,
    /// Set as soon as the connection is given up; after that no more packets may be taken from it.
    pub(crate) over: Arc<AtomicBool>,
}

impl Orders {
    pub(super) async fn next(&mut self) -> Control {
        self.orders
            .recv()
            .await
            .unwrap_or_else(|| Control::Close("this node is shutting down".to_owned()))
    }

    /// Performs `step`, unless the connection is given up meanwhile.
    pub(super) async fn unless_closed<T>(
        &mut self,
        step: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        tokio::select! {
            biased;
            reason = self.closed() => Err(ConnectionError::Refused(reason)),
            done = step => done,
        }
    }

    /// Waits until the connection is given up.
    pub(super) async fn closed(&mut self) -> String {
        self.report_until_closed(|_| {}).await
    }

    /// As [`Orders::closed`], and calls `report` whenever the kernel asks how the connection is
    /// doing.
    pub(super) async fn report_until_closed(&mut self, mut report: impl FnMut(u64)) -> String {
        loop {
            match self.next().await {
                Control::Close(reason) => return reason,
                Control::Look { number } => report(number),
                Control::Proceed(_) | Control::Up { .. } => {}
            }
        }
    }
}
