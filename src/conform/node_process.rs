//! The node under test as a child process: started by a command, and killed on drop.

use super::precondition::Obstacle;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdin, Command};

/// Runs `$1` as a command of the shell. Beside it waits a process in the same group until standard
/// input is closed, which happens when the suite ends, whatever ends it; then it kills the group.
const KEEPER: &str = "exec 3<&0 </dev/null
(cat <&3 >/dev/null 2>&1; kill -KILL 0) >/dev/null 2>&1 &
exec 3<&-
exec sh -c \"$1\"";

/// The node under test, started by the suite; dropping this ends it.
pub(super) struct NodeProcess {
    child: Option<Child>,
    /// Its standard input, which is open as long as the node is to live.
    _life: Option<ChildStdin>,
    /// The last line of its standard error, if that is read.
    said: Arc<Mutex<String>>,
}

impl NodeProcess {
    pub(super) fn start(command: &str, seeds: &[SocketAddr], stderr: Stdio) -> NodeProcess {
        let seeds: Vec<String> = seeds.iter().map(SocketAddr::to_string).collect();
        let command = command.replace("{seeds}", &seeds.join(","));
        let child = Command::new("sh")
            .args(["-c", KEEPER, "sh", &command])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(stderr)
            // So that processes that the shell starts end with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        // Without a shell no node dials, which is reported.
        let mut child = child.ok();
        let life = child.as_mut().and_then(|child| child.stdin.take());
        let said = Arc::<Mutex<String>>::default();
        if let Some(stderr) = child.as_mut().and_then(|child| child.stderr.take()) {
            tokio::spawn(keep_last_line(stderr, said.clone()));
        }
        NodeProcess { child, _life: life, said }
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
}

/// Reads to the end, so that the writer never blocks, and keeps the last line, up to a limit.
async fn keep_last_line(mut output: impl AsyncRead + Unpin, last: Arc<Mutex<String>>) {
    const LONGEST: usize = 400;
    let mut octets = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = output.read(&mut piece).await {
        octets.extend_from_slice(piece.get(..read).unwrap_or_default());
        let surplus = octets.len().saturating_sub(2 * LONGEST);
        octets.drain(..surplus);
        let line = octets.trim_ascii_end().rsplit(|octet| *octet == b'\n').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default());
        *last.lock() = line.chars().take(LONGEST).collect();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let id = self.child.as_ref().and_then(Child::id);
        let group =
            id.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            // It may already have ended.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}
