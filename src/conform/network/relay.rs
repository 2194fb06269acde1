//! A relay between two nodes: a TCP proxy that can be cut, frozen and slowed down.

use crate::conform::host::Host;
use bytes::{Bytes, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// The maximum number of reads in transit in one direction; beyond it the sender has to wait.
const UNDER_WAY: usize = 256;

/// What the relay does with connections and octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    /// Pass them on.
    Open,
    /// Keep them.
    Frozen,
    /// Close them.
    Cut,
}

#[derive(Clone, Copy, Debug)]
struct Wire {
    flow: Flow,
    /// The delay of octets.
    delay: Duration,
}

/// A relay to one address; dropping it closes all its connections.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    connections: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

impl Relay {
    /// Listens on a free port of the host.
    pub(super) fn to(target: SocketAddr, host: &Host) -> io::Result<Relay> {
        let listener = host.listen(0)?;
        let address = listener.local_addr()?;
        let (wire, state) = watch::channel(Wire { flow: Flow::Open, delay: Duration::ZERO });
        let connections = Arc::<AtomicUsize>::default();
        let listening =
            tokio::spawn(listen(listener, host.clone(), target, state, connections.clone()));
        Ok(Relay { address, wire, connections, listening })
    }

    /// Where to dial it.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a connection leads through it at present.
    pub(super) fn is_used(&self) -> bool {
        self.connections.load(Ordering::Relaxed) > 0
    }

    /// Closes all connections, dropping what is in transit, and refuses new ones.
    pub(super) fn cut(&self) {
        self.flow(Flow::Cut);
    }

    /// Holds back all octets, and accepts no connections.
    pub(super) fn freeze(&self) {
        self.flow(Flow::Frozen);
    }

    /// Passes on octets and connections, beginning with those that were held back.
    pub(super) fn go_on(&self) {
        self.flow(Flow::Open);
    }

    /// Delays octets by this time.
    pub(super) fn delay(&self, delay: Duration) {
        self.wire.send_modify(|wire| wire.delay = delay);
    }

    fn flow(&self, flow: Flow) {
        self.wire.send_modify(|wire| wire.flow = flow);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(
    listener: TcpListener,
    host: Host,
    target: SocketAddr,
    wire: watch::Receiver<Wire>,
    count: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((near, _)) = accepted {
                    let (host, wire, count) = (host.clone(), wire.clone(), count.clone());
                    connections.spawn(async move {
                        count.fetch_add(1, Ordering::Relaxed);
                        connection(near, &host, target, wire).await;
                        count.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Relays one connection until one side ends it or the relay is cut.
async fn connection(near: TcpStream, host: &Host, target: SocketAddr, wire: watch::Receiver<Wire>) {
    let mut cut = wire.clone();
    tokio::select! {
        biased;
        // If the relay is gone, this task is, too.
        _ = cut.wait_for(|wire| wire.flow == Flow::Cut) => {}
        _ = both_ways(near, host, target, wire) => {}
    }
}

async fn both_ways(
    near: TcpStream,
    host: &Host,
    target: SocketAddr,
    mut wire: watch::Receiver<Wire>,
) -> io::Result<()> {
    until_open(&mut wire).await?;
    let far = host.connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    let there = one_way(near_in, far_out, wire.clone());
    let back = one_way(far_in, near_out, wire);
    tokio::try_join!(there, back)?;
    Ok(())
}

async fn until_open(wire: &mut watch::Receiver<Wire>) -> io::Result<()> {
    wire.wait_for(|wire| wire.flow == Flow::Open).await.map_err(io::Error::other)?;
    Ok(())
}

async fn one_way(
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    mut wire: watch::Receiver<Wire>,
) -> io::Result<()> {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Bytes)>(UNDER_WAY);
    let read = async move {
        let mut octets = BytesMut::new();
        // A process that was killed may reset the connection; both are its end.
        while let Ok(1..) = input.read_buf(&mut octets).await {
            if sender.send((Instant::now(), octets.split().freeze())).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let write = async {
        while let Some((sent, octets)) = under_way.recv().await {
            let delay = wire.borrow().delay;
            sleep_until(sent + delay).await;
            until_open(&mut wire).await?;
            output.write_all(&octets).await?;
        }
        output.shutdown().await
    };
    tokio::try_join!(read, write)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const HOST: Host = Host { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), namespace: None };

    /// A relay, and both ends of a connection through it.
    async fn connected() -> (Relay, TcpListener, TcpStream, TcpStream) {
        let listener = HOST.listen(0).unwrap();
        let relay = Relay::to(listener.local_addr().unwrap(), &HOST).unwrap();
        let near = TcpStream::connect(relay.address()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (relay, listener, near, far)
    }

    async fn read(stream: &mut TcpStream) -> Vec<u8> {
        let mut octets = [0; 100];
        let count = stream.read(&mut octets).await.unwrap_or_default();
        octets[..count].to_vec()
    }

    #[tokio::test]
    async fn octets_pass_in_both_directions_until_one_end_closes() {
        let (relay, _listener, mut near, mut far) = connected().await;
        assert!(relay.is_used());
        near.write_all(b"there").await.unwrap();
        assert_eq!(read(&mut far).await, b"there");
        far.write_all(b"back").await.unwrap();
        assert_eq!(read(&mut near).await, b"back");
        drop(far);
        assert_eq!(read(&mut near).await, b"");
    }

    #[tokio::test]
    async fn a_cut_relay_closes_what_it_has_and_what_comes() {
        let (relay, _listener, mut near, mut far) = connected().await;
        relay.cut();
        assert_eq!(read(&mut near).await, b"");
        assert_eq!(read(&mut far).await, b"");
        let mut late = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(read(&mut late).await, b"");
    }

    #[tokio::test]
    async fn a_frozen_relay_keeps_octets_until_it_goes_on() {
        let (relay, _listener, mut near, mut far) = connected().await;
        relay.freeze();
        near.write_all(b"kept").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(50), read(&mut far)).await;
        assert!(early.is_err(), "{early:?}");
        relay.go_on();
        assert_eq!(read(&mut far).await, b"kept");
    }

    #[tokio::test]
    async fn octets_on_a_slow_relay_are_under_way_for_so_long() {
        let (relay, _listener, mut near, mut far) = connected().await;
        let delay = Duration::from_millis(50);
        relay.delay(delay);
        let start = Instant::now();
        near.write_all(b"slow").await.unwrap();
        assert_eq!(read(&mut far).await, b"slow");
        assert!(start.elapsed() >= delay);
    }
}
