//! A connection up to its packets: lines in both directions, and TLS if both want it.

use super::session::Session;
use super::stop::{Seen, Stop};
use super::tls::{self, Tls};
use super::transcript::{Speaker, Transcript, printable};
use crate::rewind::Rewind;
use crate::wire::auth::Exporter;
use bytes::BytesMut;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// The maximum length of a line.
const MAX_LINE_LEN: usize = 64 << 10;

/// Echoes on another connection after which a node has read an octet that came before them.
const ECHOES: u32 = 3;

/// Whether texts are sent octet by octet, so that the node reads the first octet of each line alone.
#[derive(Default)]
pub(crate) enum Dribbling {
    /// No.
    #[default]
    No,
    /// Yes. Nothing tells when the node has read an octet, but echoes on another connection with it come back
    /// only after it could. They are waited for at most so long that the node does not give up a silent peer.
    Beside(Box<Session>, Duration),
    /// Yes, without waiting: the node is too slow.
    AtOnce,
}

impl Dribbling {
    /// With another connection to a node that gives up a peer after `monitor_timeout`. A handshake has three
    /// lines.
    pub(crate) fn beside(other: Session, monitor_timeout: Duration) -> Dribbling {
        Dribbling::Beside(Box::new(other), monitor_timeout / 8)
    }

    async fn after_an_octet(self) -> Result<Dribbling, Seen> {
        let Dribbling::Beside(mut other, at_most) = self else {
            return Ok(self);
        };
        let echoes = async {
            for _ in 0..ECHOES {
                other.barrier().await?;
            }
            Ok::<(), Stop>(())
        };
        match timeout(at_most, echoes).await {
            Ok(Ok(())) => Ok(Dribbling::Beside(other, at_most)),
            Ok(Err(Stop::Late(_))) | Err(_) => Ok(Dribbling::AtOnce),
            Ok(Err(Stop::Miss(what) | Stop::Skip(what))) => {
                Err(Seen::Wrong(format!("on another connection: {what}")))
            }
        }
    }
}

/// Any stream of octets.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<IO: AsyncRead + AsyncWrite + Send + Unpin> Stream for IO {}

/// One connection with the node under test.
pub(crate) struct Conn {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) unread: BytesMut,
    pub(crate) name: Arc<str>,
    pub(crate) transcript: Transcript,
    pub(crate) patience: Duration,
    /// The suite's own address on it.
    pub(crate) local: std::net::SocketAddr,
    /// What its TLS session exports for a bound token, once it is up.
    pub(crate) exporter: Option<Exporter>,
    /// Whether and how texts are sent octet by octet.
    pub(crate) dribble: Dribbling,
}

impl Conn {
    pub(crate) fn new(
        stream: TcpStream,
        unread: BytesMut,
        name: &str,
        transcript: &Transcript,
        patience: Duration,
    ) -> Result<Conn, Seen> {
        let local = stream.local_addr().map_err(|error| Seen::Closed(error.to_string()))?;
        // If no-delay cannot be set, octets only arrive in larger portions.
        let _ = stream.set_nodelay(true);
        Ok(Conn {
            stream: Box::new(stream),
            unread,
            name: name.into(),
            transcript: transcript.clone(),
            patience,
            local,
            exporter: None,
            dribble: Dribbling::No,
        })
    }

    pub(crate) fn note(&self, speaker: Speaker, text: impl Into<String>) {
        self.transcript.add(&self.name, speaker, text, &[]);
    }

    /// Sends octets; a failure shows at the next read.
    pub(crate) async fn write(&mut self, octets: &[u8]) -> Result<(), Seen> {
        let write = async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        };
        match timeout(self.patience, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.closed(&format!("while the suite was writing: {error}"))),
            Err(_) => Err(Seen::Late("the node takes no octets".to_owned())),
        }
    }

    /// Sends a text, and records it.
    pub(crate) async fn say(&mut self, text: &[u8]) -> Result<(), Seen> {
        for line in text.split_inclusive(|octet| *octet == b'\n') {
            self.note(Speaker::Suite, printable(line.trim_ascii_end()));
        }
        if let Dribbling::No = self.dribble {
            return self.write(text).await;
        }
        for line in text.split_inclusive(|octet| *octet == b'\n') {
            for (index, octet) in line.chunks(1).enumerate() {
                self.write(octet).await?;
                if index == 0 {
                    self.dribble = std::mem::take(&mut self.dribble).after_an_octet().await?;
                }
            }
        }
        Ok(())
    }

    /// The next line, without its end.
    pub(crate) async fn line(&mut self, what: &str) -> Result<Vec<u8>, Seen> {
        let (line, _) = self.line_and_end(what).await?;
        Ok(line)
    }

    /// The next line, and whether it ended in CR LF.
    pub(crate) async fn line_and_end(&mut self, what: &str) -> Result<(Vec<u8>, bool), Seen> {
        let deadline = Instant::now() + self.patience;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.unread) {
                let mut line = self.unread.split_to(end + 1).to_vec();
                line.pop();
                let had_cr = line.last() == Some(&b'\r');
                if had_cr {
                    line.pop();
                }
                self.note(Speaker::Node, printable(&line));
                return Ok((line, had_cr));
            }
            if self.unread.len() > MAX_LINE_LEN {
                return Err(Seen::Wrong(format!("{what} has no end")));
            }
            self.read(deadline, what).await?;
        }
    }

    /// Reads more octets.
    pub(crate) async fn read(&mut self, deadline: Instant, what: &str) -> Result<(), Seen> {
        match timeout_at(deadline, self.stream.read_buf(&mut self.unread)).await {
            Ok(Ok(0)) => Err(self.closed(&format!("instead of sending {what}"))),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.closed(&format!("instead of sending {what}: {error}"))),
            Err(_) => {
                let had = match self.unread.is_empty() {
                    true => "nothing".to_owned(),
                    false => format!("only {}", printable(&self.unread)),
                };
                Err(Seen::Late(format!("waited {:?} for {what}, {had} came", self.patience)))
            }
        }
    }

    /// Waits until the node closes the connection; what it sends before that is ignored.
    pub(crate) async fn wait_closed(&mut self, within: Duration) -> Result<(), Seen> {
        let deadline = Instant::now() + within;
        loop {
            self.unread.clear();
            match timeout_at(deadline, self.stream.read_buf(&mut self.unread)).await {
                Ok(Ok(0) | Err(_)) => {
                    self.note(Speaker::Node, "(closes)");
                    return Ok(());
                }
                Ok(Ok(_)) => self.note(Speaker::Node, printable(&self.unread)),
                Err(_) => {
                    return Err(Seen::Late(format!(
                        "the node did not close the connection within {within:?}"
                    )));
                }
            }
        }
    }

    /// Starts TLS with the next octet. Returns the certificate that the node presented.
    pub(crate) async fn start_tls(
        &mut self,
        we_are_client: bool,
        tls: &Tls,
    ) -> Result<Option<CertificateDer<'static>>, Seen> {
        let role = if we_are_client { "client" } else { "server" };
        self.note(Speaker::Nobody, format!("TLS begins, the suite is its {role}"));
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let plain = Rewind::new(self.unread.split().freeze(), plain);
        match timeout(self.patience, tls::handshake(plain, we_are_client, tls)).await {
            Ok(Ok(secured)) => {
                self.note(Speaker::Nobody, format!("TLS is up: {}", secured.summary));
                self.stream = Box::new(secured.stream);
                self.exporter = secured.exporter;
                Ok(secured.presented)
            }
            Ok(Err(error)) => {
                Err(self.closed(&format!("in the TLS handshake (the suite as {role}): {error}")))
            }
            Err(_) => Err(Seen::Late(format!("no TLS handshake within {:?}", self.patience))),
        }
    }

    pub(crate) fn closed(&self, when: &str) -> Seen {
        self.note(Speaker::Node, format!("(closes, {when})"));
        Seen::Closed(format!("the node closed the connection {when}"))
    }
}
