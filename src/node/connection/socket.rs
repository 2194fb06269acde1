//! Sockets: listening, dialling, and the options that detect dead connections.

use crate::node::error::ConnectionError;
use crate::node::settings::NodeSettings;
use crate::wire::session::Ends;
use std::io;
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long a silent connection is left alone before it is probed.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
const BACKLOG: u32 = 1024;

/// Connects to `address` (`host:port`), trying all addresses that it resolves to.
pub(crate) async fn connect(address: &str, limit: Duration) -> Result<TcpStream, ConnectionError> {
    let failed = |source| ConnectionError::Connect { address: address.to_owned(), source };
    let attempt = async {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for resolved in tokio::net::lookup_host(address).await? {
            match TcpStream::connect(resolved).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}

/// Listens on an address; port 0 takes any free one.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Both ends of a connection, as far as greetings depend on them.
pub(crate) fn ends<'a>(stream: &TcpStream, peer: &'a str) -> Ends<'a> {
    let own = stream.local_addr();
    let own_is_loopback = own.is_ok_and(|own| own.ip().to_canonical().is_loopback());
    Ends { peer, own_is_loopback }
}

/// How many octets TCP has transferred on a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Octets received, whether we have read them or not.
    pub(crate) received: u64,
    /// Octets that the peer's system has acknowledged.
    pub(crate) acknowledged: u64,
    /// Octets that were written and are not acknowledged yet.
    pub(crate) outstanding: u64,
}

/// TCP's counters for a socket; `None` where the system does not provide them.
#[cfg(target_os = "linux")]
pub(crate) fn progress(socket: BorrowedFd<'_>) -> Option<Progress> {
    // SAFETY: all octets zero are a valid value of this struct of numbers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the socket is open, and the system writes up to `len` octets, which is the size of
    // `info`.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    let mut outstanding: libc::c_int = 0;
    // SAFETY: the socket is open, and the system writes one number, to `outstanding`.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut outstanding) };
    (got == 0 && asked == 0).then(|| Progress {
        received: info.tcpi_bytes_received,
        acknowledged: info.tcpi_bytes_acked,
        outstanding: u64::try_from(outstanding).unwrap_or(0),
    })
}

/// TCP's counters for a socket; `None` where the system does not provide them.
#[cfg(not(target_os = "linux"))]
pub(crate) fn progress(_: BorrowedFd<'_>) -> Option<Progress> {
    None
}

/// Sets the options that every connection needs. If the socket refuses one, the connection is used
/// without it.
pub(crate) fn configure(stream: &TcpStream, settings: &NodeSettings) {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_tcp_nodelay(settings.nodelay);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(settings.monitor_timeout));
}
