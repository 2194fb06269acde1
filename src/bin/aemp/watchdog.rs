//! The process that runs the node as its child, and starts it again after a crash.
//!
//! What Perl's `aemp run` has in AnyEvent::Watchdog: a child that dies by a signal or a panic, or
//! that was asked to restart, is started again; one that ends by itself ends this process too.

use crate::errors::CliError;
use crate::grammar::Options;
use crate::output::print_line;
use crate::signals::{Signals, Wish};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::SignalKind;
use tokio::time::{Instant, sleep, timeout};

/// How a node that wants to be started again ends. A service manager sees a failure in it.
pub(crate) const RESTART: u8 = 75;

/// Tells the child that it has a watchdog: the process ID of that.
const WATCHED_BY: &str = "AEMP_WATCHED_BY";
/// A node that lived for this long has not crashed because of what it always does at its start.
const LONG_ENOUGH: Duration = Duration::from_secs(10);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a node that was told to end may take.
const ENDING: Duration = Duration::from_secs(15);

/// Who starts this process again when it ends with [`RESTART`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restarter {
    /// A watchdog of ours, whose child this process is.
    Watchdog,
    /// The service manager that listens at `NOTIFY_SOCKET`.
    ServiceManager,
    Nobody,
}

impl Restarter {
    /// Who does it for this process; `None` if it has to become a watchdog first.
    pub(crate) fn find(options: Options) -> Option<Self> {
        let parent = std::os::unix::process::parent_id().to_string();
        if std::env::var(WATCHED_BY).is_ok_and(|id| id == parent) {
            return Some(Self::Watchdog);
        }
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            return Some(Self::ServiceManager);
        }
        options.no_watchdog.then_some(Self::Nobody)
    }
}

/// Ends this process when its watchdog is gone, however that ended: standard input is a socket of
/// which only the watchdog has the other end.
pub(crate) fn end_with_the_watchdog() {
    std::thread::spawn(|| {
        let mut nothing = [0; 16];
        while std::io::stdin().read(&mut nothing).is_ok_and(|read| read > 0) {}
        std::process::exit(1);
    });
}

/// Tells the watchdog that this process is alive, and after how much silence from now on it is not
/// any more; without a limit nothing is promised.
pub(crate) fn promise(limit: Option<Duration>) {
    let milliseconds = limit.map_or(0, |limit| limit.as_millis().max(1));
    let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX);
    // A watchdog that is gone ends this process anyway; one that does not read has heard enough.
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    let _ = rustix::net::send(std::io::stdin(), &milliseconds.to_be_bytes(), flags);
}

/// Runs this command line in a child, again and again.
pub(crate) fn watch() -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    runtime.block_on(async {
        // Found once: after an update it is the new program that is started.
        let program = std::env::current_exe().map_err(CliError::Runtime)?;
        let mut signals = Signals::new()?;
        let mut pause = SHORTEST_PAUSE;
        loop {
            let begun = Instant::now();
            let (mut child, mut life) = start(&program)?;
            let (status, interference) = watch_over(&mut signals, &mut child, &mut life).await?;
            let problem = match (Ending::of(status), interference) {
                (Ending::Over(code), None) => return Ok(code.into()),
                (_, Some(Interference::ToldToEnd)) => return Ok(ExitCode::SUCCESS),
                (_, Some(Interference::Hung(limit))) => {
                    format!("hangs (no sign of life for {} s)", limit.as_secs_f64())
                }
                (Ending::Restart, None) => {
                    print_line("", &"the node restarts");
                    continue;
                }
                (Ending::Crash(cause), None) => format!("crashed ({cause})"),
            };
            if begun.elapsed() > LONG_ENOUGH {
                pause = SHORTEST_PAUSE;
            }
            print_line("", &format!("the node {problem} and is started again"));
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = signals.end() => return Ok(ExitCode::SUCCESS),
            }
        }
    })
}

fn start(program: &Path) -> Result<(Child, Life), CliError> {
    let (ours, its) = Socket::pair().map_err(CliError::Runtime)?;
    ours.set_nonblocking(true).map_err(CliError::Runtime)?;
    let child = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(WATCHED_BY, std::process::id().to_string())
        .stdin(OwnedFd::from(its))
        .kill_on_drop(true)
        .spawn()
        .map_err(CliError::Runtime)?;
    let socket = UnixStream::from_std(ours).map_err(CliError::Runtime)?;
    Ok((child, Life { socket, promised: None }))
}

/// What the child tells about its life. The child ends when this is dropped.
struct Life {
    socket: UnixStream,
    promised: Option<Promise>,
}

/// The child will be heard of until then.
#[derive(Clone, Copy)]
struct Promise {
    limit: Duration,
    until: Instant,
}

impl Life {
    /// Waits for a promise that is not kept, and returns how long the silence was.
    async fn silence(&mut self) -> Duration {
        let mut word = [0; 8];
        loop {
            let promised = self.promised;
            let overdue = async {
                match promised {
                    Some(Promise { limit, until }) => {
                        tokio::time::sleep_until(until).await;
                        limit
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // A word is written at once, so that none of it is lost if this is not awaited on.
                read = self.socket.read(&mut word) => match read {
                    Ok(8) => self.promised = match u64::from_be_bytes(word) {
                        0 => None,
                        milliseconds => {
                            let limit = Duration::from_millis(milliseconds);
                            let until = Instant::now().checked_add(limit);
                            until.map(|until| Promise { limit, until })
                        }
                    },
                    // It is about to end.
                    _ => return std::future::pending().await,
                },
                limit = overdue => return limit,
            }
        }
    }
}

/// Why this process made the child end.
enum Interference {
    ToldToEnd,
    /// There was no sign of life for so long.
    Hung(Duration),
}

/// What the end of a child means.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Over(u8),
    Restart,
    Crash(String),
}

impl Ending {
    fn of(status: ExitStatus) -> Self {
        /// What Rust programs end with after a panic.
        const PANIC: u8 = 101;
        // Not the one of a hang-up: that asks for another configuration, not for an end.
        const ENDING_SIGNALS: [SignalKind; 2] = [SignalKind::terminate(), SignalKind::interrupt()];
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        match (code, status.signal()) {
            (Some(RESTART), _) => Self::Restart,
            (Some(PANIC), _) => Self::Crash("panic".into()),
            (Some(code), _) => Self::Over(code),
            // Somebody meant the child, before it could answer to that.
            (None, Some(signal))
                if ENDING_SIGNALS.iter().any(|kind| kind.as_raw_value() == signal) =>
            {
                Self::Over(0)
            }
            (None, signal) => Self::Crash(format!("signal {}", signal.unwrap_or_default())),
        }
    }
}

/// Passes signals on until the child has ended. Returns how, and whether this process made it.
async fn watch_over(
    signals: &mut Signals,
    child: &mut Child,
    life: &mut Life,
) -> Result<(ExitStatus, Option<Interference>), CliError> {
    let id = child.id();
    let send = |signal| {
        let id = id.and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id.and_then(rustix::process::Pid::from_raw) {
            // It may have ended in the meantime.
            let _ = rustix::process::kill_process(id, signal);
        }
    };
    loop {
        tokio::select! {
            status = child.wait() => return Ok((status.map_err(CliError::Runtime)?, None)),
            wish = signals.next() => {
                send(match wish {
                    Wish::Terminate => rustix::process::Signal::TERM,
                    Wish::Interrupt => rustix::process::Signal::INT,
                    Wish::ReadAgain => rustix::process::Signal::HUP,
                });
                if wish != Wish::ReadAgain {
                    break;
                }
            }
            limit = life.silence() => {
                send(rustix::process::Signal::KILL);
                let status = child.wait().await.map_err(CliError::Runtime)?;
                return Ok((status, Some(Interference::Hung(limit))));
            }
        }
    }
    let status = match timeout(ENDING, child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            send(rustix::process::Signal::KILL);
            child.wait().await
        }
    };
    Ok((status.map_err(CliError::Runtime)?, Some(Interference::ToldToEnd)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crashes_and_wishes_start_a_node_again() {
        let exited = |code: i32| Ending::of(ExitStatus::from_raw(code << 8));
        let killed = |signal: i32| Ending::of(ExitStatus::from_raw(signal));
        assert_eq!(exited(0), Ending::Over(0));
        assert_eq!(exited(2), Ending::Over(2));
        assert_eq!(exited(RESTART.into()), Ending::Restart);
        assert!(matches!(exited(101), Ending::Crash(_)));
        assert!(matches!(killed(9), Ending::Crash(_)));
        assert!(matches!(killed(6), Ending::Crash(_)));
        assert!(matches!(killed(1), Ending::Crash(_)));
        assert_eq!(killed(15), Ending::Over(0));
    }
}
