//! Two processes, one of which is killed during a stream of numbered messages: a prefix arrives, the
//! monitor fires, and after that the numbers go on.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod node_support;

use aemp::{Context, Node, Port, PortId};
use node_support::{node, within};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// The variable that makes this process the other one: the seed's address and the port to report to.
const ROLE: &str = "AEMP_TEST_OTHER_PROCESS";

/// The other process, if this is run by [`Other::start`]; as a test it does nothing.
#[test]
fn other_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let parts: Vec<&str> = role.split_whitespace().collect();
    let [seed, report, first] = parts[..] else { panic!("{role}") };
    let (report, first): (PortId, u32) = (report.parse().unwrap(), first.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let builder = Node::builder().node_id("other").secret("secret").bind("127.0.0.1:0");
        let node = builder.seed(seed).start().await.unwrap();
        // Numbers that are sent here go back, which shows what has arrived.
        let port = node.port_of_tags();
        port.on("n", |ctx: &Context<'_>, (number, back): (u32, PortId)| {
            ctx.snd(&back, ("n", number))
        });
        node.snd(&report, ("ready", port.id())).unwrap();
        for number in first.. {
            node.snd_wait(&report, ("n", number)).await.unwrap();
        }
    });
}

/// The running other process; it ends with the test.
struct Other(Child);

impl Other {
    fn start(seed: &Node, report: &PortId, first: u32) -> Other {
        let role = format!("{} {report} {first}", seed.addresses()[0]);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["other_process", "--exact", "--test-threads=1"]).env(ROLE, role);
        Other(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn ready(reports: &mut Port) -> PortId {
    let (tag, port): (String, PortId) = within(reports.recv()).await.unwrap();
    assert_eq!(tag, "ready");
    port
}

/// Receives consecutive numbers.
async fn receive(reports: &mut Port, next: &mut u32, count: u32) {
    for _ in 0..count {
        let (_, number): (String, u32) = within(reports.recv()).await.unwrap();
        assert_eq!(number, *next);
        *next += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_is_killed_leaves_a_prefix_and_goes_on_when_it_is_back() {
    let seed = node("seed", &[]).await;
    let mut first = 0;
    for _ in 0..3 {
        let mut reports = seed.port();
        let mut other = Other::start(&seed, &reports.id(), first);
        let port = ready(&mut reports).await;
        let died = seed.monitor(&port);
        let mut next = first;
        receive(&mut reports, &mut next, 2000).await;
        other.kill();
        let reason = within(died).await;
        assert!(reason.is_transport_error(), "{reason}");
        // What had arrived by then is a prefix, and nothing arrives after it.
        while let Some(message) = reports.try_recv().unwrap() {
            let (_, number): (String, u32) = message.decode().unwrap();
            assert_eq!(number, next);
            next += 1;
        }
        first = next + 1000;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_killed_got_a_prefix_and_the_next_one_all_after_the_monitor() {
    let seed = node("seed", &[]).await;
    let mut sent = 0;
    for _ in 0..3 {
        let mut reports = seed.port();
        let echoed = Arc::new(Mutex::new(Vec::new()));
        let echoes = seed.port_of_tags();
        let noted = echoed.clone();
        echoes.on("n", move |_: &Context<'_>, (number,): (u32,)| {
            noted.lock().unwrap().push(number);
        });
        let mut other = Other::start(&seed, &reports.id(), 0);
        let port = ready(&mut reports).await;
        drop(reports);
        let begin = sent;
        let mut died = seed.monitor(&port);
        let killer = std::thread::spawn({
            let echoed = echoed.clone();
            move || {
                while echoed.lock().unwrap().len() < 2000 {
                    std::thread::yield_now();
                }
                other.kill();
            }
        });
        let reason = loop {
            within(seed.snd_wait(&port, ("n", sent, echoes.id()))).await.unwrap();
            sent += 1;
            if let Some(reason) = died.try_reason() {
                break reason;
            }
        };
        assert!(reason.is_transport_error(), "{reason}");
        killer.join().unwrap();
        let echoed = echoed.lock().unwrap().clone();
        assert!(echoed.len() >= 2000);
        assert!(echoed.iter().copied().eq(begin..begin + echoed.len() as u32), "a hole");
    }
}
