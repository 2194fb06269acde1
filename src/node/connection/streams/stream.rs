//! The stream itself, over TCP, TLS or memory.

use crate::node::tls::Rewind;
use crate::value::NodeId;
use bytes::Bytes;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream of octets to a function of another node, or to the node that connected to a function
/// here.
///
/// Dropping it closes the connection; what was written may be lost then, and over TLS the other
/// side gets an error instead of the end. So finish with
/// [`shutdown`](tokio::io::AsyncWriteExt::shutdown). Perl nodes do not do that: over TLS their
/// streams end with [`io::ErrorKind::UnexpectedEof`], and only the data itself can tell whether
/// anything is missing.
pub struct DataStream {
    stream: Rewind<Box<dyn Transport>>,
    peer: NodeId,
    encrypted: bool,
    untrusted: bool,
}

pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for S {}

impl DataStream {
    pub(super) fn new(
        peer: NodeId,
        transport: impl Transport + 'static,
        unread: impl Into<Bytes>,
    ) -> Self {
        let stream = Rewind::new(unread, Box::new(transport) as Box<dyn Transport>);
        DataStream { stream, peer, encrypted: false, untrusted: false }
    }

    pub(super) fn protected(self, encrypted: bool, untrusted: bool) -> Self {
        DataStream { encrypted, untrusted, ..self }
    }

    /// The node at the other end, as it introduced itself on this connection.
    pub const fn peer(&self) -> &NodeId {
        &self.peer
    }

    /// Whether the stream is encrypted. A stream within this node never is.
    pub const fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Whether the other end has not proven that it belongs to the network (`tls_anon`).
    pub const fn is_untrusted(&self) -> bool {
        self.untrusted
    }
}

impl AsyncRead for DataStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for DataStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl fmt::Debug for DataStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataStream")
            .field("peer", &self.peer)
            .field("encrypted", &self.encrypted)
            .field("untrusted", &self.untrusted)
            .finish_non_exhaustive()
    }
}
