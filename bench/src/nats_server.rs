//! A NATS server of its own for each measurement.

use crate::process::Group;
use anyhow::{Context as _, Result, bail};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The installed server; Debian puts it where only root looks for programs.
pub(crate) fn program() -> Option<&'static str> {
    ["nats-server", "/usr/sbin/nats-server"].into_iter().find(|program| {
        let version = Command::new(program).arg("--version").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    })
}

/// Starts a server, and waits until it accepts connections; its address and process ID.
pub(crate) fn start(group: &mut Group) -> Result<[String; 2]> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(program().context("nats-server is not installed")?);
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]).stderr(Stdio::null());
    let id = group.start("nats-server", command)?;
    let begun = Instant::now();
    while TcpStream::connect(&address).is_err() {
        if begun.elapsed() > Duration::from_secs(10) {
            bail!("nats-server does not listen");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok([address, id.to_string()])
}
