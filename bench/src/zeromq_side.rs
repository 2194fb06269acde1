//! libzmq's processes: one thread of the program, and one I/O thread of the library, as it is by default.
//! libzmq switches Nagle's algorithm off and batches small messages by itself.

use crate::clock::{now_ns, percentile, pin};
use crate::idle::resident_kib;
use crate::sides::Role;
use crate::swarm::{CHANGES, IN_FLIGHT, LONE};
use anyhow::{Context as _, Result, bail, ensure};
use std::hint::black_box;
use std::time::{Duration, Instant};
use zmq::{Context, Message, SNDMORE, Socket, SocketType};

const FRAME: usize = 32;

/// Messages that may wait at each end of a connection; by default only 1,000.
const HIGH_WATER: i32 = 100_000;

/// Calls that wait for their answer.
const CALLS_IN_FLIGHT: usize = 1000;

pub(crate) fn run(role: &Role<'_>) -> Result<()> {
    if role.case == "rtt" {
        pin(usize::from(role.part == "receiver"));
    }
    let context = Context::new();
    match (role.case, role.part) {
        ("oneway_cbor", "receiver") => receive(&context, role),
        ("oneway_cbor", _) => send(&context, role),
        ("rtt", "receiver") => echo(&context),
        ("rtt", _) => round_trips(&context, role),
        ("calls", "receiver") => answer(&context),
        ("calls", _) => calls(&context, role),
        ("fanout_1k", "center") => publish(&context, role),
        ("fanout_1k", _) => subscribe(&context, role),
        ("joins", "center") => accept_all(&context, role),
        ("joins", _) => connect_all(&context, role),
        _ => bail!("no such case"),
    }
}

fn socket(context: &Context, kind: SocketType) -> Result<Socket> {
    let socket = context.socket(kind)?;
    socket.set_sndhwm(HIGH_WATER)?;
    socket.set_rcvhwm(HIGH_WATER)?;
    Ok(socket)
}

/// A socket that listens, and its address.
fn listen(context: &Context, kind: SocketType) -> Result<(Socket, String)> {
    let socket = socket(context, kind)?;
    socket.bind("tcp://127.0.0.1:*")?;
    let address = socket.get_last_endpoint()?;
    let address = address.map_err(|_| anyhow::anyhow!("the address is not a text"))?;
    Ok((socket, address))
}

/// A socket that is connected to the address in this argument.
fn connect(context: &Context, kind: SocketType, role: &Role<'_>, at: usize) -> Result<Socket> {
    let socket = socket(context, kind)?;
    socket.connect(role.arguments.get(at).context("no address")?)?;
    Ok(socket)
}

fn frame(number: u64) -> [u8; FRAME] {
    let mut frame = [0x41; FRAME];
    frame[..8].copy_from_slice(&number.to_be_bytes());
    frame
}

/// The number in a frame that arrives.
fn receive_number(socket: &Socket) -> Result<u64> {
    let mut number = [0; 8];
    socket.recv_into(&mut number, 0)?;
    Ok(u64::from_be_bytes(number))
}

fn receive(context: &Context, role: &Role<'_>) -> Result<()> {
    let (messages, address) = listen(context, zmq::PULL)?;
    let (done, done_address) = listen(context, zmq::PUSH)?;
    println!("READY {address} {done_address}");
    let mut frame = [0; FRAME];
    for count in [role.size / 20, role.size] {
        for _ in 0..count {
            black_box(messages.recv_into(&mut frame, 0)?);
        }
        done.send(&frame[..1], 0)?;
    }
    wait_to_be_killed()
}

fn send(context: &Context, role: &Role<'_>) -> Result<()> {
    let messages = connect(context, zmq::PUSH, role, 0)?;
    let done = connect(context, zmq::PULL, role, 1)?;
    let frame = [0x41; FRAME];
    let mut rate = 0.0;
    // The first run is a warm-up.
    for count in [role.size / 20, role.size] {
        let begun = Instant::now();
        for _ in 0..count {
            messages.send(black_box(&frame[..]), 0)?;
        }
        done.recv_msg(0)?;
        rate = count as f64 / begun.elapsed().as_secs_f64() / 1e6;
    }
    println!("RESULT {rate}");
    Ok(())
}

fn echo(context: &Context) -> Result<()> {
    let (messages, address) = listen(context, zmq::PAIR)?;
    println!("READY {address}");
    let mut frame = [0; FRAME];
    loop {
        messages.recv_into(&mut frame, 0)?;
        messages.send(&frame[..], 0)?;
    }
}

fn round_trips(context: &Context, role: &Role<'_>) -> Result<()> {
    let messages = connect(context, zmq::PAIR, role, 0)?;
    let mut frame = [0x41; FRAME];
    let mut times = Vec::with_capacity(role.size);
    for _ in 0..role.size {
        let begun = Instant::now();
        messages.send(&frame[..], 0)?;
        messages.recv_into(&mut frame, 0)?;
        times.push(begun.elapsed().as_nanos() as u64);
    }
    let (median, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
    println!("RESULT {} {}", median / 1000.0, p99 / 1000.0);
    Ok(())
}

/// Answers each call with the next number.
fn answer(context: &Context) -> Result<()> {
    let (calls, address) = listen(context, zmq::ROUTER)?;
    println!("READY {address}");
    let mut caller = Message::new();
    loop {
        calls.recv(&mut caller, 0)?;
        let number = receive_number(&calls)?;
        calls.send(&caller[..], SNDMORE)?;
        calls.send(&frame(number + 1)[..], 0)?;
    }
}

fn calls(context: &Context, role: &Role<'_>) -> Result<()> {
    let calls = connect(context, zmq::DEALER, role, 0)?;
    let begun = Instant::now();
    for number in 0..CALLS_IN_FLIGHT {
        calls.send(&frame(number as u64)[..], 0)?;
    }
    for number in 0..role.size {
        ensure!(receive_number(&calls)? == number as u64 + 1, "wrong answer");
        if number + CALLS_IN_FLIGHT < role.size {
            calls.send(&frame((number + CALLS_IN_FLIGHT) as u64)[..], 0)?;
        }
    }
    println!("RESULT {}", role.size as f64 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

/// Publishes what `fanout_1k` of a node enters into the database, when all have subscribed.
fn publish(context: &Context, role: &Role<'_>) -> Result<()> {
    // As PUB, and in addition says who subscribes.
    let (changes, address) = listen(context, zmq::XPUB)?;
    changes.set_xpub_verbose(true)?;
    let (reports, reports_address) = listen(context, zmq::PULL)?;
    println!("READY {address} {reports_address}");
    for _ in 0..role.size {
        changes.recv_msg(0)?;
    }
    let mut seen = 0;
    let mut wait_for = |number: u64| -> Result<()> {
        while seen < number {
            seen = seen.max(receive_number(&reports)?);
        }
        Ok(())
    };
    let mut lone = Vec::new();
    for number in 1..=LONE {
        let begun = Instant::now();
        changes.send(&frame(number)[..], 0)?;
        wait_for(number)?;
        lone.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    lone.sort_by(f64::total_cmp);
    let begun = Instant::now();
    for number in 1..=CHANGES {
        wait_for((LONE + number).saturating_sub(IN_FLIGHT))?;
        changes.send(&frame(LONE + number)[..], 0)?;
    }
    wait_for(LONE + CHANGES)?;
    let deliveries = (CHANGES * role.size as u64) as f64;
    let rate = deliveries / begun.elapsed().as_secs_f64() / 1e6;
    println!("RESULT {} {rate}", lone.get(lone.len() / 2).copied().unwrap_or(0.0));
    Ok(())
}

/// All subscribers: one socket with a connection for each of them, so that nobody has to poll a thousand
/// sockets. A SUB would connect only once to the same address.
fn subscribe(context: &Context, role: &Role<'_>) -> Result<()> {
    let changes = socket(context, zmq::XSUB)?;
    changes.send(&[1][..], 0)?;
    let address = role.arguments.first().context("no address")?;
    let reports = connect(context, zmq::PUSH, role, 1)?;
    for _ in 0..role.size {
        changes.connect(address)?;
    }
    let mut counts = vec![0; (LONE + CHANGES) as usize + 1];
    loop {
        let number = receive_number(&changes)?;
        let count = counts.get_mut(number as usize).context("an unknown change")?;
        *count += 1;
        if *count == role.size {
            reports.send(&frame(number)[..], 0)?;
        }
    }
}

/// Waits for connections; how many in a second, and this process's memory for each.
fn accept_all(context: &Context, role: &Role<'_>) -> Result<()> {
    let (peers, address) = listen(context, zmq::ROUTER)?;
    let before = resident_kib("self")?;
    println!("READY {address}");
    let mut begun = 0;
    for number in 0..role.size {
        // The sender, and an empty message.
        peers.recv_multipart(0)?;
        if number == 0 {
            begun = now_ns();
        }
    }
    let seconds = (now_ns() - begun) as f64 / 1e9;
    std::thread::sleep(Duration::from_secs(1));
    let each = (resident_kib("self")? - before) / role.size as f64;
    println!("RESULT {} {each}", role.size as f64 / seconds);
    Ok(())
}

/// Opens connections, each of which says that it is there, and keeps them.
fn connect_all(context: &Context, role: &Role<'_>) -> Result<()> {
    let peers = socket(context, zmq::ROUTER)?;
    peers.set_probe_router(true)?;
    let address = role.arguments.first().context("no address")?;
    for _ in 0..role.size {
        peers.connect(address)?;
    }
    wait_to_be_killed()
}

fn wait_to_be_killed() -> Result<()> {
    loop {
        std::thread::park();
    }
}
