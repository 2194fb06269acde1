//! A host of a test: a network namespace with only loopback, in which every port is free. Programs of
//! the pages with fixed addresses run there.

use crate::process::Process;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A network namespace that lasts as long as this value.
#[derive(Debug)]
pub struct Host {
    /// A process that lives in the namespace until its standard input is closed.
    keeper: Child,
    is_root: bool,
}

impl Host {
    /// `None`, with a printed reason, if network namespaces cannot be made.
    ///
    /// # Panics
    /// If they cannot be made and `AEMP_REQUIRE` has the word `hosts`.
    pub fn new() -> Option<Host> {
        // Without root, this also needs a user namespace, which some systems forbid.
        let is_root = rustix::process::geteuid().is_root();
        let mut command = Command::new("unshare");
        if !is_root {
            command.arg("--map-root-user");
        }
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && read -r _"]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Ok(mut keeper) = command.spawn() {
            let mut line = String::new();
            let output = keeper.stdout.take().map(BufReader::new);
            let is_up = output.is_some_and(|mut output| output.read_line(&mut line).is_ok());
            if is_up && line == "up\n" {
                return Some(Host { keeper, is_root });
            }
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
        let why =
            "network namespaces need root (or user namespaces) and the Debian package iproute2";
        assert!(!crate::is_required("hosts"), "{why}");
        eprintln!("SKIPPED: {why}");
        None
    }

    /// Moves this thread to this host, with all threads and processes that it starts from then on. Returns
    /// whether that succeeded: only root can.
    pub fn enter(&self) -> bool {
        let path = format!("/proc/{}/ns/net", self.keeper.id());
        File::open(path).is_ok_and(|namespace| {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).is_ok()
        })
    }

    /// Runs `ip` on this host, with words that are separated by spaces.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, arguments: &str) {
        let words: Vec<&str> = arguments.split(' ').collect();
        let mut ip = self.start("ip", Path::new("ip"), &words, &[]);
        if !ip.wait_for_end().success() {
            ip.fail(arguments);
        }
    }

    /// As [`Process::start`], on this host.
    pub fn start(
        &self,
        name: &str,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Process {
        let keeper = self.keeper.id().to_string();
        let mut all = vec!["--target", &keeper, "--net"];
        if !self.is_root {
            all.extend(["--user", "--preserve-credentials"]);
        }
        all.extend(["--", program.to_str().unwrap()]);
        all.extend(arguments);
        Process::start(name, Path::new("nsenter"), &all, environment)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
