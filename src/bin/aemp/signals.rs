//! Signals to the command, and the end of its child processes.

use crate::errors::CliError;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a subcommand may take to end after a signal. Its output may have no reader any more.
const ENDING: Duration = Duration::from_secs(2);

/// The signals for a running node.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// The request that a signal stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignalRequest {
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

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> SignalRequest {
        tokio::select! {
            _ = self.terminate.recv() => SignalRequest::Terminate,
            _ = self.interrupt.recv() => SignalRequest::Interrupt,
            _ = self.hang_up.recv() => SignalRequest::ReadAgain,
        }
    }

    /// Waits until a signal asks the process to end.
    pub(crate) async fn end(&mut self) {
        while self.next().await == SignalRequest::ReadAgain {}
    }
}

/// The child processes of this one as they end. The first process of a container also inherits
/// processes whose parents have ended, and has to reap them, or they stay in the process table.
pub(crate) struct Children {
    ended: Signal,
}

impl Children {
    pub(crate) fn new() -> Result<Self, CliError> {
        Ok(Self { ended: signal(SignalKind::child()).map_err(CliError::Runtime)? })
    }

    /// Waits for the next child to end.
    pub(crate) async fn next(&mut self) -> (Pid, WaitStatus) {
        loop {
            // One signal may stand for several ended children.
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

/// Waits until a signal ends the command, or its terminal is closed. After that the process has
/// [`ENDING`] to end.
pub(crate) async fn interrupted() -> Result<(), CliError> {
    let listen = |kind| signal(kind).map_err(CliError::Runtime);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    // Listening to this signal would undo `nohup`.
    let mut hang_up = match is_hang_up_ignored() {
        true => None,
        false => Some(listen(SignalKind::hangup())?),
    };
    let (sender, told) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let hung_up = async {
            match &mut hang_up {
                Some(signal) => drop(signal.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = hung_up => {}
        }
        let _ = sender.send(());
        tokio::time::sleep(ENDING).await;
        std::process::exit(1);
    });
    let _ = told.await;
    Ok(())
}

/// Whether this process was started to outlive its terminal (`nohup`). False where the system does
/// not say.
fn is_hang_up_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & (1 << (SignalKind::hangup().as_raw_value() - 1)) != 0)
}
