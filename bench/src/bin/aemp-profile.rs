//! Counts the instructions of the hot paths with callgrind, and compares them with the committed
//! figures; growth of more than 5 % is a failure.
//!
//! `aemp-profile check FILE`, `aemp-profile write FILE`; callgrind runs `aemp-profile run PATH N`.

use aemp::kernel::{Authenticated, Kernel, KernelConfig, Now, PeerGreeting};
use aemp::value::packed::{self, Elements};
use aemp::value::{NodeId, Packed, put_elements};
use aemp::wire::framing::{Decoder, Framing, FramingLimits, Step, encode};
use aemp::wire::packet::Packet;
use aemp::{Context, Node};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

const PATHS: [&str; 8] =
    ["encode", "encode_json", "decode", "decode_json", "dispatch", "local", "call", "merge"];
const FEW: usize = 2_000;
const MANY: usize = 6_000;
const GROWTH: f64 = 1.05;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["run", path, count] => run(path, count.parse()?),
        ["check", file] => check(&serde_json::from_str(&std::fs::read_to_string(file)?)?),
        ["write", file] => {
            let paths = PATHS.into_iter().map(|path| Ok((path, measure(path)?)));
            let paths: BTreeMap<&str, u64> = paths.collect::<Result<_>>()?;
            let figures = json!({ "compiler": compiler()?, "paths": paths });
            Ok(std::fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?)
        }
        _ => bail!("usage: aemp-profile check FILE | write FILE"),
    }
}

/// Figures are comparable only if the same compiler made the program.
fn compiler() -> Result<String> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(&rustc).arg("--version").output().context(rustc)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn check(committed: &Value) -> Result<()> {
    let compiler = compiler()?;
    if committed["compiler"] != *compiler {
        println!("SKIPPED: the counts were made with {}, not {compiler}", committed["compiler"]);
        println!("         after a look at them: aemp-profile write FILE");
        return Ok(());
    }
    if let Err(problem) = count(PATHS[0], 1) {
        println!("SKIPPED: the counts, as valgrind does not work here: {problem}");
        return Ok(());
    }
    let mut grown = Vec::new();
    for path in PATHS {
        let now = measure(path)?;
        let before = committed["paths"][path].as_u64().context("a path without a figure")?;
        println!("{path:<12} {now:>6} instructions, committed {before:>6}");
        if now as f64 > before as f64 * GROWTH {
            grown.push(path);
        }
    }
    if !grown.is_empty() {
        bail!("more than 5 % slower than committed: {}", grown.join(", "));
    }
    Ok(())
}

/// Pins the variants that the C library would choose by the processor's features, so that counts do not
/// depend on the processor.
const SAME_EVERYWHERE: &str =
    "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-MOVBE,-BMI2";

/// Instructions per iteration, without the cost of starting the program.
fn measure(path: &str) -> Result<u64> {
    let (few, many) = (count(path, FEW)?, count(path, MANY)?);
    Ok(many.saturating_sub(few) / (MANY - FEW) as u64)
}

fn count(path: &str, times: usize) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["run", path, &times.to_string()])
        .env("GLIBC_TUNABLES", SAME_EVERYWHERE)
        .output()
        .context("valgrind is needed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| line.contains("Collected :")).context("no figure")?;
    let figure = line.split_whitespace().last().context("no figure")?;
    Ok(figure.parse()?)
}

fn run(path: &str, count: usize) -> Result<()> {
    match path {
        "encode" => encode_messages(Framing::Cbor, count),
        "encode_json" => encode_messages(Framing::Json, count),
        "decode" => decode_messages(Framing::Cbor, count),
        "decode_json" => decode_messages(Framing::Json, count),
        "dispatch" | "local" => dispatch(count, path == "local"),
        "call" => calls(count),
        "merge" => merge(count),
        "change" => change(count),
        _ => bail!("no such path"),
    }
}

const PORT: &str = "aB3dE5gHab";

/// Encodes a typed message as octets of a connection.
fn encode_messages(framing: Framing, count: usize) -> Result<()> {
    let (mut elements, mut wire) = (Vec::new(), Vec::new());
    for number in 0..count {
        elements.clear();
        wire.clear();
        packed::put_octets(&mut elements, PORT.as_bytes());
        let message = ("msg", black_box(1000 + number % 1000), "hello world");
        let packet = put_elements(&mut elements, &message)?.elements(1, &elements);
        encode(framing, packet, &mut wire)?;
        black_box(&wire);
    }
    Ok(())
}

/// Decodes octets of a connection into typed messages.
fn decode_messages(framing: Framing, count: usize) -> Result<()> {
    let message = Packed::of(&(PORT, "msg", 1234, "hello world"))?;
    let mut wire = Vec::new();
    for _ in 0..100 {
        encode(framing, message.as_elements(), &mut wire)?;
    }
    let mut decoder = Decoder::new(framing, FramingLimits::default());
    let mut at = 0;
    for _ in 0..count {
        let Step::Packet { used, elements } = decoder.next(&wire[at..])? else {
            bail!("no packet");
        };
        let Packet::Message { port, elements } = Packet::read(elements)? else {
            bail!("a keepalive");
        };
        black_box(port);
        let (tag, number, text): (&str, u64, String) = elements.decode()?;
        black_box((tag, number, text));
        at = (at + used) % wire.len();
    }
    Ok(())
}

/// Sends a message to a local callback port: already packed, or (`typed`) from a Rust value.
fn dispatch(count: usize, typed: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = Node::builder().node_id("alone").secret("geheim").no_binds().start().await?;
        let port = node.port_of_tags();
        port.on("msg", |_: &Context<'_>, message: (u64, String)| {
            black_box(message);
        });
        let id = port.id();
        let message = Packed::of(&("msg", 1234, "hello world"))?;
        for number in 0..count {
            if typed {
                node.snd(&id, ("msg", 1000 + number % 1000, "hello world"))?;
            } else {
                node.snd(&id, &message)?;
            }
        }
        Ok(())
    })
}

/// Calls a port of the same node, one call after another.
fn calls(count: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = Node::builder().node_id("alone").secret("geheim").no_binds().start().await?;
        let port = node.port_of_tags();
        port.on("add", |ctx: &Context<'_>, (number, reply): (usize, aemp::PortId)| {
            ctx.snd(&reply, (number + 1,))
        });
        let id = port.id();
        for number in 0..count {
            let (more,): (usize,) = node.call(&id, ("add", number)).await?;
            black_box(more);
        }
        Ok(())
    })
}

/// Changes of one node's keys reach another node's monitor, 64 at a time.
fn change(count: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let center = Node::builder().node_id("center").secret("geheim").bind("127.0.0.1:0");
        let center = center.start().await?;
        center.become_global();
        let slave = Node::builder().node_id("slave").secret("geheim").no_binds();
        let slave = slave.seed(&center.addresses()[0].to_string()).start().await?;
        slave.joined().await;
        let mut changes = slave.db().monitor("bench");
        changes.next().await.context("no first report")?;
        let key = "key".into();
        for batch in 0..count / 64 {
            for number in 0..64 {
                center.db().set("bench", "key", batch * 64 + number)?;
            }
            for number in 0..64 {
                let change = changes.next().await.context("shut down")?;
                anyhow::ensure!(change.value::<usize>(&key)? == Some(batch * 64 + number));
            }
        }
        Ok(())
    })
}

/// A node's kernel with connected peers.
fn kernel(name: &str, others: &[&NodeId]) -> Result<Kernel> {
    let now = Now { uptime: Duration::ZERO, wall: 0.0 };
    let mut kernel = Kernel::new(
        KernelConfig {
            node: NodeId::new(name)?,
            addresses: Vec::new(),
            seeds: Vec::new(),
            monitor_timeout: Duration::from_secs(30),
            connect_interval: Duration::from_secs(2),
            secure: false,
            heal: false,
            grace: Duration::from_secs(10),
            process_id: 1,
            entropy: [7; 32],
        },
        now,
    );
    kernel.set_now(now);
    for node in others {
        let conn = kernel.accepted();
        let provider = Default::default();
        kernel.greeted(conn, PeerGreeting::new((*node).clone(), provider));
        kernel.established(conn, &Authenticated { untrusted: false });
    }
    Ok(kernel)
}

/// A master gets one new key from a slave, and tells another slave that monitors the family.
fn merge(count: usize) -> Result<()> {
    let (setter, watcher) = (NodeId::new("setter")?, NodeId::new("watcher")?);
    let mut kernel = kernel("master", &[&setter, &watcher])?;
    kernel.become_global();
    let nothing = Packed::of(&("g_slave", BTreeMap::<String, u8>::new()))?;
    kernel.node_packet(&setter, nothing.as_elements());
    kernel.node_packet(&watcher, nothing.as_elements());
    kernel.node_packet(&watcher, Packed::of(&("g_mon1", "family"))?.as_elements());
    black_box(kernel.take_effects());
    // Only the digits of keys and values are rewritten, so that building the packet is not counted.
    let set = BTreeMap::from([("key00000", "00000")]);
    let mut update = Packed::of(&("g_upd", "family", set))?.as_elements().octets().to_vec();
    let end = update.len();
    for number in 0..count {
        let mut left = number;
        for digit in (0..5).rev() {
            let octet = b'0' + (left % 10) as u8;
            update[end - 5 + digit] = octet;
            update[end - 11 + digit] = octet;
            left /= 10;
        }
        kernel.node_packet(&setter, Elements::new(3, &update));
        black_box(kernel.take_effects());
    }
    Ok(())
}
