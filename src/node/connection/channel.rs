//! A stream with its session: reads and writes until the session reports an event.

use super::tls::{self, BoundTls, Encryption, Established, Rewind, TlsError};
use crate::node::error::ConnectionError;
use crate::wire::session::{AuthOrder, Event, Session};
use bytes::BytesMut;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// One end of a connection whose session has begun. The caller limits how long a step may take.
pub(crate) struct Channel {
    stream: Stream,
    session: Session,
    /// An event of the session that the caller has not taken yet.
    event: Option<Event>,
}

/// What a session runs over.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<Established<Rewind<TcpStream>>>),
}

impl Channel {
    /// Begins a session on a stream.
    pub(crate) fn new(stream: TcpStream, session: Session) -> Self {
        Channel { stream: Stream::Plain(stream), session, event: None }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// The session's next event, after everything that the session has to send is written.
    pub(crate) async fn event(&mut self) -> Result<Event, ConnectionError> {
        loop {
            self.write().await?;
            if let Some(event) = self.event.take() {
                return Ok(event);
            }
            match self.session.poll()? {
                Some(event) => return Ok(event),
                None => self.read().await?,
            }
        }
    }

    /// Continues after the peer's greeting, and performs the TLS handshake if one is needed.
    pub(crate) async fn proceed(
        mut self,
        order: AuthOrder,
        encryption: &Encryption,
    ) -> Result<Channel, ConnectionError> {
        self.session.proceed(order);
        // Our own lines go out before the peer's next line is judged, even if that has already
        // arrived.
        self.write().await?;
        let (event, stream) = match (self.session.poll()?, self.stream) {
            (Some(Event::StartTls { we_are_client }), Stream::Plain(stream)) => {
                let config = encryption.certificates.as_ref().ok_or(TlsError::NoIdentity)?;
                let stream = Rewind::new(self.session.take_input(), stream);
                let handshake = tls::handshake(stream, we_are_client, config);
                let established = encryption.turns.run(handshake).await?;
                self.session.tls_established(established.peer());
                (None, Stream::Tls(Box::new(established)))
            }
            (Some(Event::StartBoundTls { we_are_client }), Stream::Plain(stream)) => {
                if !encryption.offers_bound {
                    return Err(TlsError::NotOffered.into());
                }
                let bound = BoundTls::of_this_process().await?;
                let stream = Rewind::new(self.session.take_input(), stream);
                let handshake = bound.handshake(stream, we_are_client);
                let (established, exporter) = encryption.turns.run(handshake).await?;
                self.session.bound_tls_established(exporter);
                (None, Stream::Tls(Box::new(established)))
            }
            other => other,
        };
        Ok(Channel { stream, session: self.session, event })
    }

    /// Sends our proof, which was held back.
    pub(crate) fn authenticate(&mut self) {
        self.session.authenticate();
    }

    /// Keeps reading while the caller waits for a decision. Returns only with an error, which is
    /// also how it reports that the peer has closed the connection.
    pub(crate) async fn watch(&mut self) -> ConnectionError {
        while self.session.wants_input() {
            if let Err(error) = self.read().await {
                return error;
            }
        }
        std::future::pending().await
    }

    /// The stream, and the session, which holds whatever else was received.
    pub(crate) fn into_parts(self) -> (Stream, Session) {
        (self.stream, self.session)
    }

    async fn write(&mut self) -> Result<(), ConnectionError> {
        while let Some(octets) = self.session.transmit() {
            self.stream.write_all(&octets).await.map_err(broken)?;
            self.stream.flush().await.map_err(broken)?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), ConnectionError> {
        match read(&mut self.stream, self.session.input()).await {
            Ok(0) => Err(self.session.closed().into()),
            Ok(_) => Ok(()),
            Err(error) => Err(broken(error)),
        }
    }
}

/// Reads what is available; returns 0 if the peer has ended the connection in any way.
pub(crate) async fn read(stream: &mut Stream, input: &mut BytesMut) -> io::Result<usize> {
    match stream.read_buf(input).await {
        // A peer that closes a connection before reading everything resets it, and Perl closes TLS
        // without an alert.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
            ) =>
        {
            Ok(0)
        }
        read => read,
    }
}

/// A peer that refuses our certificate may say so only after TLS is established on our side.
fn broken(error: io::Error) -> ConnectionError {
    match TlsError::on_established(&error) {
        Some(error) => error.into(),
        None => error.into(),
    }
}

impl Stream {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut (dyn Transport + '_)> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream),
            Stream::Tls(established) => Pin::new(&mut established.stream),
        }
    }

    /// TLS version and cipher, if the stream is encrypted.
    pub(crate) fn tls_summary(&self) -> Option<String> {
        match self {
            Stream::Plain(_) => None,
            Stream::Tls(established) => Some(established.summary()),
        }
    }
}

trait Transport: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Transport for S {}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, octets)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(established) => established.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}
