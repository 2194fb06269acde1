//! Two hosts of a test with a cable between them, which can be slow.

use crate::process::Process;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

/// Two namespaces with a cable between them.
#[derive(Debug)]
pub struct Cable(String);

const ENDS: [&str; 2] = ["a", "b"];

impl Cable {
    /// `None`, with a printed reason, if the machine cannot do that.
    ///
    /// `qualities` are queueing disciplines, tried one after the other, since no kernel has all of them;
    /// without any the link is as fast as the machine.
    ///
    /// # Panics
    /// If namespaces can be made but not connected, or cannot be made and `AEMP_REQUIRE` has the word `hosts`.
    pub fn lay(name: &str, qualities: &[&str]) -> Option<Cable> {
        let cable = Cable(format!("aemp{}{name}", std::process::id()));
        let [a, b] = ENDS.map(|end| cable.end(end));
        let add = [format!("ip netns add {a}"), format!("ip netns add {b}")];
        if !add.iter().all(|command| run(command)) {
            let why = "network namespaces need root and the Debian package iproute2";
            assert!(!crate::is_required("hosts"), "{why}");
            eprintln!("SKIPPED: {why}");
            return None;
        }
        must(&format!("ip -n {a} link add eth0 type veth peer name eth0 netns {b}"));
        for (end, address) in [(&a, 1), (&b, 2)] {
            must(&format!("ip -n {end} addr add 10.99.0.{address}/24 dev eth0"));
            must(&format!("ip -n {end} addr add 10.99.0.{address}0/24 dev eth0"));
            must(&format!("ip -n {end} link set eth0 up"));
        }
        let slow = |end: &String| {
            let add = |quality| format!("ip netns exec {end} tc qdisc add dev eth0 root {quality}");
            qualities.iter().any(|quality| run(&add(quality)))
        };
        if !qualities.is_empty() && ![&a, &b].into_iter().all(slow) {
            // No package can provide that.
            eprintln!("SKIPPED: this machine's kernel has none of {qualities:?}");
            return None;
        }
        Some(cable)
    }

    /// The name of the namespace at this end.
    pub fn end(&self, end: &str) -> String {
        format!("{}{end}", self.0)
    }

    /// Starts a program at this end.
    pub fn start(&self, end: &str, name: &str, program: &str, arguments: &[&str]) -> Process {
        let end = self.end(end);
        let words = [&["netns", "exec", &end, program], arguments].concat();
        Process::start(name, Path::new("ip"), &words, &[])
    }

    /// Runs something on a thread whose sockets are at this end.
    ///
    /// # Panics
    /// The thread does if it cannot be moved there.
    pub fn at<F>(
        &self,
        end: &str,
        program: impl FnOnce() -> F + Send + 'static,
    ) -> std::thread::JoinHandle<()>
    where
        F: Future<Output = ()>,
    {
        let path = format!("/run/netns/{}", self.end(end));
        std::thread::spawn(move || {
            let namespace = std::fs::File::open(path).unwrap();
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(program());
        })
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in ENDS {
            run(&format!("ip netns del {}", self.end(end)));
        }
    }
}

fn run(command: &str) -> bool {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    output.is_ok_and(|output| output.status.success())
}

fn must(command: &str) {
    assert!(run(command), "{command} failed");
}
