//! The signals that ask the command for something, and the processes that it has to wait for.

use crate::errors::CliError;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a subcommand that was told to end may take. What it still prints may have no reader.
const ENDING: Duration = Duration::from_secs(2);

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

    /// Waits until somebody wants the process to end.
    pub(crate) async fn end(&mut self) {
        while self.next().await == Wish::ReadAgain {}
    }
}

/// The child processes of this one as they end. The first process of a container also inherits those
/// whose parents have ended, and has to take note of their end, or they stay in the process table.
pub(crate) struct Children {
    ended: Signal,
}

impl Children {
    pub(crate) fn new() -> Result<Self, CliError> {
        Ok(Self { ended: signal(SignalKind::child()).map_err(CliError::Runtime)? })
    }

    /// Waits for the end of the next one.
    pub(crate) async fn next(&mut self) -> (Pid, WaitStatus) {
        loop {
            // Several ends may have been one signal.
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(ended)) => return ended,
                Err(rustix::io::Errno::INTR) => {}
                Ok(None) | Err(_) => {
                    self.ended.recv().await;
                }
            }
        }
    }
}

/// Waits until somebody ends the command. From then on it has [`ENDING`] for it.
pub(crate) async fn interrupted() -> Result<(), CliError> {
    let mut signals = Signals::new()?;
    let (sender, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        signals.end().await;
        let _ = sender.send(());
        tokio::time::sleep(ENDING).await;
        std::process::exit(1);
    });
    let _ = told.await;
    Ok(())
}
