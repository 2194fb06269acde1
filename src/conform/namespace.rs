//! A network namespace of Linux: a host of its own, with its own addresses and routes, for processes and
//! sockets of one network.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

/// Runs in the namespace until its standard input is closed, which happens when the suite ends for any
/// reason. The namespace exists as long as it has a process or is open somewhere.
const KEEPER: &str = "ip link set lo up && echo up && read -r end";

/// A network namespace, at first with loopback only.
#[derive(Debug)]
pub(crate) struct Namespace {
    keeper: Child,
    /// The namespace itself.
    open: File,
}

impl Namespace {
    /// Makes a namespace. Blocks for as long as that takes.
    pub(super) fn new() -> Result<Namespace, String> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", KEEPER]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A signal of the terminal is for the suite, not for this process.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut keeper = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let mut said = String::new();
        if let Some(output) = keeper.stdout.take() {
            // Without a line it has failed, and its standard error says why.
            let _ = BufReader::new(output).read_line(&mut said);
        }
        let path = format!("/proc/{}/ns/net", keeper.id());
        match File::open(&path) {
            Ok(open) if said == "up\n" => Ok(Namespace { keeper, open }),
            Ok(_) | Err(_) => {
                let _ = keeper.kill();
                let mut why = String::new();
                if let Some(mut errors) = keeper.stderr.take() {
                    let _ = errors.read_to_string(&mut why);
                }
                let _ = keeper.wait();
                Err(why.trim().to_owned())
            }
        }
    }

    /// A process in it, by which `ip` can name it.
    pub(super) fn process(&self) -> u32 {
        self.keeper.id()
    }

    /// Runs a function on a thread whose sockets and child processes are in the namespace.
    pub(super) fn within<T: Send>(&self, function: impl FnOnce() -> T + Send) -> io::Result<T> {
        let moved = || {
            self.enter()?;
            Ok(function())
        };
        let joined = std::thread::scope(|scope| scope.spawn(moved).join());
        joined.unwrap_or_else(|_| Err(io::Error::other("a thread in a network namespace failed")))
    }

    #[cfg(target_os = "linux")]
    fn enter(&self) -> io::Result<()> {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd as _;
        let network = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(self.open.as_fd(), network)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn enter(&self) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Runs a script of the shell in it, with arguments, until its first failure.
    pub(super) fn run(&self, script: &str, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new("sh");
        command.args(["-ec", script, "sh"]).args(arguments).stdin(Stdio::null());
        match self.within(|| command.output()).and_then(|output| output) {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}
