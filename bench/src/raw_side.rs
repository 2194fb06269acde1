//! The upper bound: the same over plain tokio TCP, with octets that are already encoded.

use crate::clock::{self, percentile};
use crate::idle::resident_kib;
use crate::sides::{Role, runtime};
use anyhow::{Context as _, Result, bail};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const SMALL: usize = 32;
const LARGE: usize = 4096 + 24;

/// The first octet of a connection that is echoed, and all octets of one that is not.
const ECHO: u8 = 1;
const FLOOD: u8 = 2;

pub(crate) fn run(role: &Role<'_>) -> Result<()> {
    runtime(role)?.block_on(async {
        match (role.case, role.part) {
            ("echo_beside_flood", "receiver") => echo_beside_flood().await,
            ("echo_beside_flood", "flooder") => flood(connect(role).await?).await,
            ("echo_beside_flood", _) => {
                let mut stream = connect(role).await?;
                stream.write_u8(ECHO).await?;
                round_trips(stream, role.size).await
            }
            ("joins", "center") => accept_all(role.size).await,
            ("joins", _) => connect_all(role).await,
            ("rtt", "receiver") => echo(listen().await?).await,
            ("rtt", _) => round_trips(connect(role).await?, role.size).await,
            (_, "receiver") => receive().await,
            ("oneway_cbor", _) => send_frames(connect(role).await?, role.size).await,
            ("oneway_4k" | "oneway_4k_vec", _) => {
                let sizes = [4 << 10, 64 << 10, 256 << 10];
                send(connect(role).await?, role.size * LARGE, &sizes, role).await
            }
            _ => bail!("no such case"),
        }
    })
}

async fn listen() -> Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("READY {}", listener.local_addr()?);
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn connect(role: &Role<'_>) -> Result<TcpStream> {
    let stream = TcpStream::connect(role.arguments.first().context("no address")?).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    let mut octets = [0; SMALL];
    while stream.read_exact(&mut octets).await.is_ok() {
        stream.write_all(&octets).await?;
    }
    Ok(())
}

async fn round_trips(mut stream: TcpStream, count: usize) -> Result<()> {
    let mut octets = [0; SMALL];
    let mut times = Vec::with_capacity(count);
    for _ in clock::round_trips(count) {
        let begun = Instant::now();
        stream.write_all(&octets).await?;
        stream.read_exact(&mut octets).await?;
        times.push(begun.elapsed().as_nanos() as u64);
    }
    let (median, p99) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
    println!("RESULT {} {}", median / 1000.0, p99 / 1000.0);
    Ok(())
}

/// Echoes to one connection, and reads what arrives on another one, each in a task of its own.
async fn echo_beside_flood() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("READY {}", listener.local_addr()?);
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            match stream.read_u8().await? {
                ECHO => echo(stream).await,
                _ => drain(stream).await,
            }
        });
    }
}

/// Reads 64 KiB at a time and lets other tasks run after each, as a node does.
async fn drain(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while stream.read(&mut buffer).await? > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Writes as much as the receiver takes, until it is killed.
async fn flood(mut stream: TcpStream) -> Result<()> {
    let buffer = vec![FLOOD; 64 << 10];
    println!("READY");
    while stream.write_all(&buffer).await.is_ok() {}
    Ok(())
}

/// Accepts connections, each of which a task then reads; how many in a second, and this process's memory
/// for each.
async fn accept_all(count: usize) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let before = resident_kib("self")?;
    println!("READY {}", listener.local_addr()?);
    let mut begun = None;
    for _ in 0..count {
        let (mut stream, _) = listener.accept().await?;
        begun.get_or_insert_with(Instant::now);
        tokio::spawn(async move { stream.read_u8().await });
    }
    let seconds = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = (resident_kib("self")? - before) / count as f64;
    println!("RESULT {} {each}", count as f64 / seconds);
    Ok(())
}

/// Opens connections one after another, and keeps them.
async fn connect_all(role: &Role<'_>) -> Result<()> {
    let mut streams = Vec::new();
    for _ in 0..role.size {
        streams.push(connect(role).await?);
    }
    std::future::pending::<()>().await;
    drop(streams);
    Ok(())
}

/// Writes frames that are already encoded, 64 KiB at a time.
async fn send_frames(mut stream: TcpStream, count: usize) -> Result<()> {
    let frame = [0x41; SMALL];
    let mut buffer = Vec::with_capacity(64 << 10);
    let begun = Instant::now();
    stream.write_u64((count * SMALL) as u64).await?;
    for _ in 0..count {
        if buffer.len() + SMALL > buffer.capacity() {
            stream.write_all(&buffer).await?;
            buffer.clear();
        }
        buffer.extend_from_slice(std::hint::black_box(&frame));
    }
    stream.write_all(&buffer).await?;
    stream.read_u8().await?;
    println!("RESULT {}", count as f64 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

/// Reads blocks of octets, each preceded by its length, and acknowledges each.
async fn receive() -> Result<()> {
    let mut stream = listen().await?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut left = stream.read_u64().await?;
        while left > 0 {
            let most = buffer.len().min(left as usize);
            let got = stream.read(&mut buffer[..most]).await?;
            if got == 0 {
                return Ok(());
            }
            left -= got as u64;
        }
        stream.write_u8(1).await?;
    }
}

/// The best rate of all sizes of writes.
async fn send(
    mut stream: TcpStream,
    total: usize,
    writes: &[usize],
    role: &Role<'_>,
) -> Result<()> {
    let mut best = f64::MAX;
    for size in writes {
        let octets = vec![0; *size];
        let begun = Instant::now();
        stream.write_u64(total as u64).await?;
        let mut left = total;
        while left > 0 {
            let now = left.min(*size);
            stream.write_all(&octets[..now]).await?;
            left -= now;
        }
        stream.read_u8().await?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    println!("RESULT {}", role.size as f64 * 4096.0 / best / 1e6);
    Ok(())
}
