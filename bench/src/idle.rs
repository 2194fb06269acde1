//! `aemp run`, ours and Perl's: the time until it listens, and its memory.

use crate::process::Group;
use crate::sides::{Side, Sides};
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Milliseconds until it listens, megabytes resident.
pub(crate) fn measure(sides: &Sides, side: Side) -> Result<Vec<f64>> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let mut command = match side {
        Side::Aemp => Command::new(std::env::current_exe()?.with_file_name("aemp")),
        Side::Before => Command::new(sides.before()?.node_program()),
        Side::Perl => Command::new("perl-aemp"),
        _ => bail!("nothing to measure"),
    };
    command.args(["run", "nodeid", "idle", "secret", "geheim", "norc", "1", "binds"]);
    command.arg(format!("[\"{address}\"]")).stderr(Stdio::null());
    command.env("PERL_ANYEVENT_MP_RC", "/nonexistent");
    let mut group = Group::new(Duration::from_secs(20));
    let begun = Instant::now();
    let id = group.start("node", command)?;
    while TcpStream::connect(&address).is_err() {
        if begun.elapsed() > Duration::from_secs(10) {
            bail!("does not listen");
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let started = begun.elapsed().as_secs_f64() * 1000.0;
    std::thread::sleep(Duration::from_millis(500));
    let occupied = match side {
        // Perl's supervisor is a process of its own; the node is its child.
        Side::Perl => {
            let child = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
            let child = child.split_whitespace().next().context("no child")?.to_owned();
            let occupied = resident_kib(&child)?;
            if let Some(process) = child.parse().ok().and_then(Pid::from_raw) {
                let _ = kill_process(process, Signal::TERM);
            }
            occupied
        }
        _ => resident_kib(&id.to_string())?,
    };
    Ok(vec![started, occupied / 1024.0])
}

/// The resident memory of a process.
pub(crate) fn resident_kib(process: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no figure")?.parse()?)
}
