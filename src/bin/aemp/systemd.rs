//! Messages to a service manager (`sd_notify`): datagrams to the socket that it names.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The node is ready.
pub(crate) const READY: &str = "READY=1";
/// What the node is doing, for people.
pub(crate) const STATUS: &str = "STATUS=";
/// The node is alive.
pub(crate) const ALIVE: &str = "WATCHDOG=1";

/// The node is ending, within this time.
pub(crate) fn stopping(within: Duration) -> String {
    format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros())
}

/// Sends a message to the service manager, if there is one.
pub(crate) fn notify(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, state) {
        tracing::warn!("cannot tell the service manager {state:?}: {error}");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            SocketAddr::from_abstract_name(name)?
        }
        _ => SocketAddr::from_pathname(socket)?,
    };
    let ours = UnixDatagram::unbound()?;
    // A manager that does not read must not block the node.
    ours.set_write_timeout(Some(Duration::from_secs(1)))?;
    ours.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

/// The interval at which the service manager wants to hear that this process is alive.
pub(crate) fn heartbeat() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|id| id != u64::from(std::process::id())) {
        return None;
    }
    let within = number("WATCHDOG_USEC").filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(within / 2).max(Duration::from_millis(1)))
}
