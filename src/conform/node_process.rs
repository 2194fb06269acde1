//! A node under test as a child process: started by a command, stopped and continued, and killed on drop.

use super::namespace::Namespace;
use super::precondition::Obstacle;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Write as _;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

/// Runs `$1` as a shell command once it has read a line. If the suite ends before that, it ends as well.
const NODE: &str = "read -r go || exit 1
exec </dev/null sh -c \"$1\"";

/// Kills the process group `$1` when standard input is closed, which happens when the suite ends for any
/// reason. It is in a group of its own, so it keeps running while the node is suspended.
const KEEPER: &str = "read -r end; kill -s KILL -- \"-$1\"";

/// The node under test, started by the suite; dropping this ends it.
#[derive(Debug)]
pub(super) struct NodeProcess {
    /// The shell that runs the command, and the leader of the group of all that it starts.
    child: Option<Child>,
    keeper: Option<std::process::Child>,
    /// The last line of its standard error, if that is read.
    said: Arc<Mutex<String>>,
}

impl NodeProcess {
    /// Starts the command, in this directory and network namespace if there are such.
    pub(super) fn start(
        command: &str,
        directory: Option<&Path>,
        namespace: Option<&Namespace>,
        stderr: Stdio,
    ) -> NodeProcess {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", NODE, "sh", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            // So that processes that the shell starts end with it.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(directory) = directory {
            shell.current_dir(directory);
        }
        let runtime = tokio::runtime::Handle::current();
        let mut spawn = move || {
            let _entered = runtime.enter();
            shell.spawn()
        };
        let child = match namespace {
            Some(namespace) => namespace.within(spawn).and_then(|child| child),
            None => spawn(),
        };
        // Without a shell no node dials, which is reported.
        let mut child = child.ok();
        let said = Arc::<Mutex<String>>::default();
        if let Some(stderr) = child.as_mut().and_then(|child| child.stderr.take()) {
            tokio::spawn(keep_last_line(stderr, said.clone()));
        }
        let keeper = child.as_ref().and_then(Child::id).and_then(|group| keep(group).ok());
        let go = child.as_mut().and_then(|child| child.stdin.take());
        if let (Some(_), Some(go)) = (&keeper, go) {
            // A line fits into the pipe; if the shell has ended, this is noticed elsewhere.
            let _ = go.into_owned_fd().map(ChildStdin::from).map(|mut go| go.write_all(b"go\n"));
        }
        NodeProcess { child, keeper, said }
    }

    pub(super) fn said(&self) -> String {
        self.said.lock().clone()
    }

    /// Resolves when the command has ended with an error; a command that ends successfully may have left a
    /// node in the background.
    pub(super) async fn failed(&mut self) -> Obstacle {
        if let Some(child) = &mut self.child
            && let Ok(status) = child.wait().await
            && !status.success()
        {
            // Its last output may not have been read yet.
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Obstacle::CommandEnded { status, said: self.said() };
        }
        std::future::pending().await
    }

    /// Suspends the node, as if its machine were too busy to run it.
    pub(super) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues a suspended node.
    pub(super) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Sends a signal to all processes of the command.
    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id);
        let group = id.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // They may already have ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// Starts what kills a process group when the suite ends.
fn keep(group: u32) -> std::io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt as _;
    std::process::Command::new("sh")
        .args(["-c", KEEPER, "sh", &group.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Reads to the end, so that the writer never blocks, and keeps the last line, up to a limit.
async fn keep_last_line(mut output: impl AsyncRead + Unpin, last: Arc<Mutex<String>>) {
    const MAX_LINE_LEN: usize = 400;
    let mut octets = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = output.read(&mut piece).await {
        octets.extend_from_slice(piece.get(..read).unwrap_or_default());
        let surplus = octets.len().saturating_sub(2 * MAX_LINE_LEN);
        octets.drain(..surplus);
        let line = octets.trim_ascii_end().rsplit(|octet| *octet == b'\n').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default());
        *last.lock() = line.chars().take(MAX_LINE_LEN).collect();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut keeper) = self.keeper.take() {
            // The group has ended; its number must not be used any more.
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
    }
}
