//! A member that reads all answers, and waits until the node has done what it was asked for.

use super::figures::Sent;
use super::member::{connect, packet};
use super::round::Attacked;
use aemp::value::Packed;
use aemp::wire::framing::Framing;
use anyhow::{Context as _, Result};
use std::io::{BufWriter, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::Duration;

/// How long a member waits for the answer to its last packet.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the node may take nothing.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Small packets are sent together, up to this many octets.
const TOGETHER: usize = 64 << 10;

/// What the node is asked to send back when it has come to the last packet.
const DONE: &str = "all of it is done";

/// A member with an authenticated connection.
pub(super) struct Talker {
    name: &'static str,
    framing: Framing,
    output: BufWriter<TcpStream>,
    /// An item for each answer; disconnected when the node has closed the connection.
    answers: mpsc::Receiver<()>,
    is_open: bool,
    sent: Sent,
}

impl Talker {
    pub(super) fn connect(address: &str, name: &'static str, framing: Framing) -> Result<Talker> {
        let stream = connect(address, name, framing)?;
        stream.set_write_timeout(Some(STANDSTILL))?;
        let input = stream.try_clone()?;
        let (answered, answers) = mpsc::channel();
        std::thread::spawn(move || listen(input, &answered));
        let output = BufWriter::with_capacity(TOGETHER, stream);
        Ok(Talker { name, framing, output, answers, is_open: true, sent: Sent::default() })
    }

    /// Whether the node still takes packets.
    pub(super) const fn is_open(&self) -> bool {
        self.is_open
    }

    /// A request to the node port, as octets of the connection's framing.
    pub(super) fn packet(&self, request: &Packed) -> Result<Vec<u8>> {
        let elements = request.as_elements();
        let packet = packet(self.framing, elements.len(), elements.octets());
        packet.context("a request that is too deep")
    }

    /// Sends a request to the node port.
    pub(super) fn ask(&mut self, request: &Packed) -> Result<()> {
        let packet = self.packet(request)?;
        self.send(&packet);
        Ok(())
    }

    /// Sends octets, unless the node has closed the connection.
    pub(super) fn send(&mut self, packet: &[u8]) {
        if self.is_open {
            self.is_open = self.output.write_all(packet).is_ok();
            self.sent.packets += 1;
            self.sent.octets += packet.len() as u64;
        }
    }

    /// Waits until the node has done what it was asked for, or has closed the connection.
    pub(super) fn settle(&mut self) -> Result<()> {
        let last = self.packet(&Packed::of(&("snd", format!("{}#x", self.name), DONE))?)?;
        if self.is_open {
            self.is_open = self.output.write_all(&last).and_then(|()| self.output.flush()).is_ok();
        }
        match self.answers.recv_timeout(ANSWER) {
            Ok(()) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => self.sent.unanswered += 1,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                self.is_open = false;
                self.sent.closed += 1;
            }
        }
        Ok(())
    }

    /// Waits as [`Talker::settle`] does, and returns what was sent and the connection.
    pub(super) fn finish(mut self) -> Result<Attacked> {
        self.settle()?;
        // Whatever is still unsent is for a connection that takes nothing more.
        let (stream, _) = self.output.into_parts();
        Ok(Attacked { sent: self.sent, open: vec![stream] })
    }
}

/// Reads all that comes, and tells of each [`DONE`].
fn listen(mut input: TcpStream, answered: &mpsc::Sender<()>) {
    let mut buffer = vec![0; TOGETHER];
    // The end of what came before: an answer may come in two pieces.
    let mut recent: Vec<u8> = Vec::new();
    while let Ok(len @ 1..) = input.read(&mut buffer) {
        recent.extend(buffer.iter().take(len));
        if recent.windows(DONE.len()).any(|window| window == DONE.as_bytes()) {
            recent.clear();
            if answered.send(()).is_err() {
                return;
            }
        }
        let old = recent.len().saturating_sub(DONE.len() - 1);
        recent.drain(..old);
    }
}
