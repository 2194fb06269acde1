//! Two nodes on a slow link, on which much is under way while a second connection is dialled.
//!
//! Each node has a network namespace of its own. If namespaces cannot be made (that takes root and iproute2),
//! or the kernel has no means to make a link slow, the tests are skipped.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::Node;
use aemp::value::Str;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

/// Two namespaces with a cable between them.
struct Cable(String);

const ENDS: [&str; 2] = ["a", "b"];

impl Cable {
    /// `None`, with a printed reason, if the machine cannot do that.
    ///
    /// `qualities` are queueing disciplines that are tried one after the other, as kernels have not all of
    /// them.
    fn lay(name: &str, qualities: &[&str]) -> Option<Cable> {
        let cable = Cable(format!("aemp{}{name}", std::process::id()));
        let [a, b] = ENDS.map(|end| cable.end(end));
        let add = [format!("ip netns add {a}"), format!("ip netns add {b}")];
        if !add.iter().all(|command| run(command)) {
            let why = "network namespaces need root and the Debian package iproute2";
            assert!(!compat_tests::is_required("hosts"), "{why}");
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
        if ![&a, &b].into_iter().all(slow) {
            // No package can help that.
            eprintln!("SKIPPED: this machine's kernel has none of {qualities:?}");
            return None;
        }
        Some(cable)
    }

    fn end(&self, end: &str) -> String {
        format!("{}{end}", self.0)
    }

    /// Runs something on a thread whose sockets are at this end.
    fn at<F>(
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

fn builder(id: &str) -> aemp::NodeBuilder {
    Node::builder().node_id(id).secret("geheim")
}

/// The node `a` sends `b` as many messages of so many octets, one each `pause`. Meanwhile `b` takes the
/// other address of `a` for another seed, and dials it again and again.
fn arrives(cable: &Cable, messages: usize, octets: usize, pause: Duration) {
    let (addressed, address) = mpsc::channel();
    let a = cable.at("a", move || async move {
        let binds = builder("a").bind("10.99.0.1:4040").bind("10.99.0.10:4040");
        let node = binds.start().await.unwrap();
        let mut port = node.port();
        addressed.send(port.id()).unwrap();
        let (to,): (aemp::PortId,) = port.recv().await.unwrap();
        let mut lost = node.monitor(&to);
        let text = "x".repeat(octets);
        for number in 0..messages {
            node.snd(&to, (number, &text)).unwrap();
            tokio::time::sleep(pause).await;
        }
        let () = port.recv().await.unwrap();
        assert_eq!(lost.try_reason().map(|reason| reason.to_string()), None);
    });
    let b = cable.at("b", move || async move {
        let node = builder("b").no_binds().seed("10.99.0.1:4040").start().await.unwrap();
        node.joined().await;
        let to = address.recv().unwrap();
        let mut lost = node.monitor(&to);
        let mut port = node.port();
        node.snd(&to, (port.id(),)).unwrap();
        let seeds = ["10.99.0.1:4040", "10.99.0.10:4040"].map(Str::from);
        for expected in 0..messages {
            let (number, text): (usize, String) = port.recv().await.unwrap();
            assert_eq!((number, text.len()), (expected, octets));
            // The second one is dialled at once, as if it had just been added.
            node.set_seeds(&seeds);
        }
        assert_eq!(lost.try_reason().map(|reason| reason.to_string()), None);
        node.snd(&to, ()).unwrap();
        // The other end is done.
        lost.await;
    });
    a.join().unwrap();
    b.join().unwrap();
}

/// 10 Mbit/s and 100 ms each way, or where the kernel has no netem at least 10 Mbit/s.
const SLOW: &[&str] =
    &["netem rate 10mbit delay 100ms limit 10000", "tbf rate 10mbit burst 32kbit latency 8000ms"];

#[test]
fn messages_that_fill_a_slow_link_arrive_though_another_connection_is_dialled() {
    let Some(cable) = Cable::lay("fill", SLOW) else { return };
    arrives(&cable, 10, 1_000_000, Duration::from_millis(900));
}

#[test]
fn a_message_that_takes_long_on_a_slow_link_arrives_though_another_connection_is_dialled() {
    let Some(cable) = Cable::lay("long", SLOW) else { return };
    arrives(&cable, 2, 8_000_000, Duration::from_secs(1));
}

#[test]
fn messages_on_a_link_that_loses_packets_arrive_though_another_connection_is_dialled() {
    let lossy = "netem rate 10mbit delay 100ms loss 5% limit 10000";
    let Some(cable) = Cable::lay("loss", &[lossy]) else { return };
    arrives(&cable, 6, 60_000, Duration::from_millis(200));
}
