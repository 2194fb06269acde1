//! The process that runs the node as its child, and restarts it after a crash.
//!
//! It does what AnyEvent::Watchdog does for Perl's `aemp run`: a child that dies by a signal or a
//! panic, that hangs, or that was asked to restart, is restarted; when a child ends by itself, this
//! process ends too. Once a node has run, a start that fails is retried until it works or this
//! process is told to end, since whatever the start needs (a free port, a readable file) was there
//! before and will probably be there again.

use crate::errors::CliError;
use crate::grammar::Options;
use crate::output::print_line;
use crate::signals::{Children, SignalRequest, Signals};
use rustix::process::{Pid, Signal, WaitStatus, kill_process};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// The exit status of a node that wants to be restarted. A service manager treats it as a failure.
pub(crate) const RESTART: u8 = 75;
/// The exit status of Rust programs after a panic.
pub(crate) const PANIC: u8 = 101;

/// The environment variable that tells the child the process ID of its watchdog.
const WATCHED_BY: &str = "AEMP_WATCHED_BY";
/// A node that has run for this long did not crash because of something that it does at every
/// start.
const STABLE_AFTER: Duration = Duration::from_secs(10);
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How long a node may take to end after a signal, unless it asks for more time.
const ENDING: Duration = Duration::from_secs(15);

/// What the child sends instead of a number of milliseconds when its node has started.
const STARTED: u64 = u64::MAX;

/// What restarts this process when it ends with [`RESTART`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restarter {
    /// A watchdog whose child this process is.
    Watchdog,
    /// The service manager that listens at `NOTIFY_SOCKET`.
    ServiceManager,
    Nobody,
}

impl Restarter {
    /// What restarts this process; `None` if it has to become a watchdog first.
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

/// Ends this process when its watchdog is gone, for whatever reason: standard input is a socket
/// whose other end only the watchdog has.
pub(crate) fn end_with_the_watchdog() {
    std::thread::spawn(|| {
        let mut nothing = [0; 16];
        while std::io::stdin().read(&mut nothing).is_ok_and(|read| read > 0) {}
        std::process::exit(1);
    });
}

/// Tells the watchdog that the node has started.
pub(crate) fn started() {
    tell(STARTED);
}

/// Tells the watchdog that this process is alive, and after how much silence it must be considered
/// dead; without a limit there is no such time.
pub(crate) fn promise(limit: Option<Duration>) {
    let milliseconds = limit.map_or(0, |limit| limit.as_millis().max(1));
    tell(u64::try_from(milliseconds).unwrap_or(u64::MAX).min(STARTED - 1));
}

fn tell(word: u64) {
    // If the watchdog is gone, this process is about to end; if the socket is full, it has enough
    // to read.
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    let _ = rustix::net::send(std::io::stdin(), &word.to_be_bytes(), flags);
}

/// Runs this command line in a child, again after each crash.
pub(crate) fn watch() -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?;
    runtime.block_on(async {
        // The path is determined once, so that after an update the new program is started.
        let program = std::env::current_exe().map_err(CliError::Runtime)?;
        let mut watchdog = Watchdog { signals: Signals::new()?, children: Children::new()? };
        let mut pause = MIN_PAUSE;
        let mut has_run = false;
        loop {
            let begun = Instant::now();
            let problem = match Child::start(&program) {
                Ok(mut child) => {
                    let end = watchdog.watch_over(&mut child).await;
                    has_run |= child.life.has_started;
                    match end {
                        End::OnDemand => return Ok(ExitCode::SUCCESS),
                        End::Hung(limit) => {
                            format!("hangs (no sign of life for {} s)", limit.as_secs_f64())
                        }
                        End::ByItself(ChildExit::Restart) => {
                            print_line("", &"the node restarts");
                            continue;
                        }
                        End::ByItself(ChildExit::Crash(cause)) => format!("crashed ({cause})"),
                        End::ByItself(ChildExit::Over(code)) if code == 0 || !has_run => {
                            return Ok(code.into());
                        }
                        End::ByItself(ChildExit::Over(code)) if child.life.has_started => {
                            format!("failed (exit status {code})")
                        }
                        End::ByItself(ChildExit::Over(code)) => {
                            format!("could not be started (exit status {code})")
                        }
                    }
                }
                Err(error) if has_run => format!("could not be started ({error})"),
                Err(error) => return Err(error),
            };
            if begun.elapsed() > STABLE_AFTER {
                pause = MIN_PAUSE;
            }
            let seconds = pause.as_secs_f64();
            print_line("", &format!("the node {problem} and is started again in {seconds} s"));
            if watchdog.is_told_to_end_within(pause).await {
                return Ok(ExitCode::SUCCESS);
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    })
}

/// The events that this process waits for.
struct Watchdog {
    signals: Signals,
    children: Children,
}

/// The process of the node. Dropping this ends it.
struct Child {
    id: Pid,
    life: ChildReports,
}

impl Child {
    fn start(program: &Path) -> Result<Self, CliError> {
        let (ours, its) = Socket::pair().map_err(CliError::Runtime)?;
        ours.set_nonblocking(true).map_err(CliError::Runtime)?;
        let socket = UnixStream::from_std(ours).map_err(CliError::Runtime)?;
        let child = Command::new(program)
            .args(std::env::args_os().skip(1))
            .env(WATCHED_BY, std::process::id().to_string())
            .stdin(OwnedFd::from(its))
            .spawn()
            .map_err(CliError::Runtime)?;
        let life = ChildReports { socket, promised: None, has_started: false, ending: false };
        Ok(Self { id: Pid::from_child(&child), life })
    }

    fn send(&self, signal: Signal) {
        // Its process ID cannot be reused until this process has reaped it.
        let _ = kill_process(self.id, signal);
    }
}

/// Why a child has ended.
enum End {
    ByItself(ChildExit),
    /// This process was told to end.
    OnDemand,
    /// It gave no sign of life for this long, and this process killed it.
    Hung(Duration),
}

impl Watchdog {
    /// Passes signals on until the child has ended.
    async fn watch_over(&mut self, child: &mut Child) -> End {
        loop {
            tokio::select! {
                status = ended(&mut self.children, child.id) => {
                    // Its last message may not have been read yet.
                    child.life.read_what_is_there();
                    return End::ByItself(ChildExit::of(status));
                }
                wish = self.signals.next() => {
                    child.send(match wish {
                        SignalRequest::Terminate => Signal::TERM,
                        SignalRequest::Interrupt => Signal::INT,
                        SignalRequest::ReadAgain => Signal::HUP,
                    });
                    if wish != SignalRequest::ReadAgain {
                        break;
                    }
                }
                limit = child.life.silence() => {
                    child.send(Signal::KILL);
                    ended(&mut self.children, child.id).await;
                    return End::Hung(limit);
                }
            }
        }
        child.life.is_ending();
        tokio::select! {
            _ = ended(&mut self.children, child.id) => {}
            _ = child.life.silence() => {
                child.send(Signal::KILL);
                ended(&mut self.children, child.id).await;
            }
        }
        End::OnDemand
    }

    /// Waits for the pause, or until a signal asks to reread the configuration, which a start does
    /// anyway. Returns whether this process was told to end.
    async fn is_told_to_end_within(&mut self, pause: Duration) -> bool {
        let mut over = std::pin::pin!(sleep(pause));
        loop {
            tokio::select! {
                () = &mut over => return false,
                wish = self.signals.next() => return wish != SignalRequest::ReadAgain,
                _ = self.children.next() => {}
            }
        }
    }
}

/// Waits until this process has ended, and reaps others that have.
async fn ended(children: &mut Children, process: Pid) -> WaitStatus {
    loop {
        let (ended, status) = children.next().await;
        if ended == process {
            return status;
        }
    }
}

/// The child's reports about itself.
struct ChildReports {
    socket: UnixStream,
    promised: Option<AnnouncedSilence>,
    has_started: bool,
    ending: bool,
}

/// The child has promised a report within this much time, counted while this process is running
/// too.
#[derive(Clone, Copy)]
struct AnnouncedSilence {
    limit: Duration,
    silence: SilenceTimer,
}

impl ChildReports {
    /// Waits until a promise is broken, and returns how long the silence was.
    async fn silence(&mut self) -> Duration {
        let mut word = [0; 8];
        loop {
            let overdue = async {
                match &mut self.promised {
                    Some(promise) => {
                        promise.silence.lasts(promise.limit).await;
                        promise.limit
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // Each word is written in one piece, so none of it is lost if this future is
                // dropped.
                read = self.socket.read(&mut word) => match read {
                    Ok(8) => self.take(word),
                    // It is about to end.
                    _ => return std::future::pending().await,
                },
                limit = overdue => return limit,
            }
        }
    }

    /// The child was told to end. Earlier promises of it do not count any more.
    fn is_ending(&mut self) {
        self.ending = true;
        self.promised = Some(AnnouncedSilence { limit: ENDING, silence: SilenceTimer::default() });
    }

    fn take(&mut self, word: [u8; 8]) {
        match u64::from_be_bytes(word) {
            STARTED => self.has_started = true,
            0 => self.promised = None,
            milliseconds => {
                let limit = Duration::from_millis(milliseconds);
                // A sign of life from before that may still arrive.
                if self.ending && limit <= ENDING {
                    return;
                }
                self.promised = Some(AnnouncedSilence { limit, silence: SilenceTimer::default() });
            }
        }
    }

    fn read_what_is_there(&mut self) {
        let mut word = [0; 8];
        let flags = rustix::net::RecvFlags::DONTWAIT;
        while matches!(rustix::net::recv(&self.socket, &mut word, flags), Ok((8, _))) {
            self.take(word);
        }
    }
}

/// Silence while this process was running. Time in which it was stopped itself, or its machine
/// suspended, proves nothing about the child, which was stopped too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SilenceTimer(Duration);

impl SilenceTimer {
    /// Parts into which the silence is divided, during each of which this process must have run.
    const PARTS: u32 = 16;

    /// Waits until the silence has lasted for this long.
    async fn lasts(&mut self, limit: Duration) {
        let step = (limit / Self::PARTS).max(Duration::from_millis(1));
        let mut steps = interval(step);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = steps.tick().await;
        while self.0 < limit {
            steps.tick().await;
            let now = Instant::now();
            self.add(now - last, step);
            last = now;
        }
    }

    /// Adds the time since the last step. At most two steps of it count, as this process was
    /// stopped during the rest.
    fn add(&mut self, passed: Duration, step: Duration) {
        self.0 += passed.min(step * 2);
    }
}

/// The consequence of a child's end.
#[derive(Debug, PartialEq, Eq)]
enum ChildExit {
    Over(u8),
    Restart,
    Crash(String),
}

impl ChildExit {
    fn of(status: WaitStatus) -> Self {
        // Without SIGHUP, which asks to reread the configuration, not to end.
        const ENDING_SIGNALS: [Signal; 2] = [Signal::TERM, Signal::INT];
        let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
        Self::by(code, status.terminating_signal().unwrap_or_default(), &ENDING_SIGNALS)
    }

    fn by(code: Option<u8>, signal: i32, ending_signals: &[Signal]) -> Self {
        match code {
            Some(RESTART) => Self::Restart,
            Some(PANIC) => Self::Crash("panic".into()),
            Some(code) => Self::Over(code),
            // The signal was meant for the child, which could not handle it yet.
            None if ending_signals.iter().any(|ending| ending.as_raw() == signal) => Self::Over(0),
            None => Self::Crash(format!("signal {signal}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_crashes_and_wishes_start_a_node_again() {
        let exited = |code: u8| ChildExit::by(Some(code), 0, &[Signal::TERM]);
        let killed = |signal: i32| ChildExit::by(None, signal, &[Signal::TERM]);
        assert_eq!(exited(0), ChildExit::Over(0));
        assert_eq!(exited(2), ChildExit::Over(2));
        assert_eq!(exited(RESTART), ChildExit::Restart);
        assert!(matches!(exited(101), ChildExit::Crash(_)));
        assert!(matches!(killed(9), ChildExit::Crash(_)));
        assert!(matches!(killed(6), ChildExit::Crash(_)));
        assert!(matches!(killed(1), ChildExit::Crash(_)));
        assert_eq!(killed(15), ChildExit::Over(0));
    }

    #[test]
    fn time_in_which_the_watchdog_stood_still_is_no_silence_of_the_node() {
        let step = Duration::from_secs(1);
        let mut silence = SilenceTimer::default();
        silence.add(Duration::from_secs(3600), step);
        assert_eq!(silence, SilenceTimer(step * 2));
        silence.add(step, step);
        assert_eq!(silence, SilenceTimer(step * 3));
    }
}
