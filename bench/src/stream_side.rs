//! A data connection compared with a bare TCP or TLS connection, with the same copy loop.

use crate::aemp_side::{SECRET, address};
use crate::sides::{Role, runtime};
use aemp::Node;
use aemp::node::tls::{AnonymousClients, Identity, TlsConfig, gencert, handshake};
use aemp::services::streams::DataStream;
use anyhow::{Context as _, Result, bail};
use std::path::PathBuf;
use std::time::{Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How much is read and written at a time.
const CHUNK: usize = 64 << 10;

pub(crate) fn run_aemp(role: &Role<'_>) -> Result<()> {
    runtime(role)?.block_on(async {
        match role.part {
            "receiver" => aemp_receiver(role).await,
            _ => aemp_sender(role).await,
        }
    })
}

pub(crate) fn run_raw(role: &Role<'_>) -> Result<()> {
    runtime(role)?.block_on(async {
        match role.part {
            "receiver" => raw_receiver(role).await,
            _ => raw_sender(role).await,
        }
    })
}

const fn octets(role: &Role<'_>) -> usize {
    role.size << 20
}

/// Writes this many octets, and waits until the other side has them all.
async fn send(mut stream: impl AsyncRead + AsyncWrite + Unpin, octets: usize) -> Result<()> {
    let chunk = vec![0x41; CHUNK];
    let begun = Instant::now();
    for _ in 0..octets / CHUNK {
        stream.write_all(&chunk).await?;
    }
    stream.flush().await?;
    stream.read_u8().await?;
    println!("RESULT {}", octets as f64 / begun.elapsed().as_secs_f64() / 1e6);
    Ok(())
}

async fn receive(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    octets: usize,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut left = octets;
    while left > 0 {
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            got => left -= got,
        }
    }
    stream.write_u8(1).await?;
    stream.flush().await?;
    // The other side ends first.
    while stream.read(&mut chunk).await? > 0 {}
    Ok(())
}

async fn aemp_node(id: &str, role: &Role<'_>) -> Result<Node> {
    let mut builder = Node::builder().node_id(id).secret(SECRET).bind("127.0.0.1:0");
    if role.case == "stream_tls" {
        builder = builder.cert(&pem(role)?);
    }
    if let Some(seed) = role.arguments.first() {
        builder = builder.seed(seed);
    }
    Ok(builder.start().await?)
}

async fn aemp_receiver(role: &Role<'_>) -> Result<()> {
    let node = aemp_node("receiver", role).await?;
    let octets = octets(role);
    node.expose_stream("Bench::sink", move |_: (), stream: DataStream| receive(stream, octets));
    println!("READY {} {}", address(&node), std::process::id());
    node.ended().await;
    Ok(())
}

async fn aemp_sender(role: &Role<'_>) -> Result<()> {
    let node = aemp_node("sender", role).await?;
    node.joined().await;
    let receiver = "receiver".parse()?;
    let stream = node.connect_stream(&receiver, "Bench::sink", ()).await?;
    send(stream, octets(role)).await
}

async fn raw_receiver(role: &Role<'_>) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let tls = if role.case == "stream_tls" { Some(tls(role)?) } else { None };
    println!("READY {} {}", listener.local_addr()?, std::process::id());
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    match tls {
        Some(tls) => {
            let tls = handshake(stream, false, &tls).await?;
            receive(tls.stream, octets(role)).await?;
        }
        None => receive(stream, octets(role)).await?,
    }
    std::future::pending().await
}

async fn raw_sender(role: &Role<'_>) -> Result<()> {
    let address = role.arguments.first().context("no address")?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    if role.case == "stream_tls" {
        let tls = handshake(stream, true, &tls(role)?).await?;
        return send(tls.stream, octets(role)).await;
    }
    send(stream, octets(role)).await
}

fn tls(role: &Role<'_>) -> Result<TlsConfig> {
    let identity = Identity::from_pem(pem(role)?.as_bytes())?;
    Ok(TlsConfig::new(&identity, AnonymousClients::Refused))
}

/// The certificate of both sides: the receiver makes it, and the sender reads it.
fn pem(role: &Role<'_>) -> Result<String> {
    let file = |process: u32| -> PathBuf {
        std::env::temp_dir().join(format!("aemp-bench-stream-{process}.pem"))
    };
    match (role.part, role.arguments.get(1)) {
        ("receiver", _) => {
            let pem = gencert(SystemTime::now())?;
            std::fs::write(file(std::process::id()), &pem)?;
            Ok(pem)
        }
        (_, Some(process)) => {
            let file = file(process.parse()?);
            let pem = std::fs::read_to_string(&file)?;
            std::fs::remove_file(file)?;
            Ok(pem)
        }
        _ => bail!("the receiver did not say which process it is"),
    }
}
