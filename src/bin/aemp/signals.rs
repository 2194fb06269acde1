//! The signals that ask the command for something.

use crate::errors::CliError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that are meant for the node.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Terminate,
    Interrupt,
    ReadAgain,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::Runtime);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Terminate,
            _ = self.interrupt.recv() => Wish::Interrupt,
            _ = self.hang_up.recv() => Wish::ReadAgain,
        }
    }

    /// Waits until somebody wants the node to end.
    pub(crate) async fn end(&mut self) {
        while self.next().await == Wish::ReadAgain {}
    }
}

/// Waits until somebody ends the command.
pub(crate) async fn interrupted() -> Result<(), CliError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
