//! A connection that carries packets, and the operations that checks use on it.

use super::conn::{Conn, Stream};
use super::pattern::{self, ANY, REST, matches_packet};
use super::stop::{Stop, Verdict, late, miss};
use super::transcript::{Speaker, Transcript, printable};
use crate::value::packed::{Elements, Token};
use crate::value::{Str, StrRef, Value};
use crate::wire::framing::{Decoder, Framing, FramingLimits, Step, encode};
use bytes::{Buf as _, BytesMut};
use serde_json::{Value as Json, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// Whether a session answers echo requests, as any node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EchoMode {
    Relays,
    /// No, like a node whose process is suspended.
    Frozen,
}

/// One packet, port name first.
pub(crate) type Packet = Vec<Value>;

enum Event {
    Packet(Packet),
    Closed(String),
    Garbage(String),
}

type Writer = Arc<Mutex<WriteHalf<Box<dyn Stream>>>>;

/// An authenticated connection with the node under test. Dropping it closes the connection.
pub(crate) struct Session {
    name: Arc<str>,
    /// Who the suite is on it.
    pub(crate) me: String,
    /// The node's ID as it is written in its greeting.
    pub(crate) node: String,
    pub(crate) sends: Framing,
    pub(crate) local: std::net::SocketAddr,
    events: mpsc::UnboundedReceiver<Event>,
    /// Packets that arrived and have not been requested yet.
    backlog: VecDeque<Packet>,
    over: Option<String>,
    barriers: u64,
    writer: Writer,
    pump: AbortHandle,
    transcript: Transcript,
    pub(crate) patience: Duration,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Session {
    pub(crate) fn new(
        conn: Conn,
        me: &str,
        node: &str,
        receives: Framing,
        sends: Framing,
        pace: EchoMode,
    ) -> Session {
        let Conn { stream, unread, name, transcript, patience, local, .. } = conn;
        let (input, output) = tokio::io::split(stream);
        let writer: Writer = Arc::new(Mutex::new(output));
        let (sender, events) = mpsc::unbounded_channel();
        let pump = Pump {
            input,
            unread,
            decoder: Decoder::new(receives, FramingLimits::default()),
            receives,
            sends,
            node: node.to_owned(),
            pace,
            writer: writer.clone(),
            events: sender,
            name: name.clone(),
            transcript: transcript.clone(),
        };
        let pump = tokio::spawn(pump.run()).abort_handle();
        Session {
            name,
            me: me.to_owned(),
            node: node.to_owned(),
            sends,
            local,
            events,
            backlog: VecDeque::new(),
            over: None,
            barriers: 0,
            writer,
            pump,
            transcript,
            patience,
        }
    }

    /// The ID of a port of the suite on this connection.
    pub(crate) fn port(&self, name: &str) -> String {
        format!("{}#{name}", self.me)
    }

    /// The ID of a port of the node.
    pub(crate) fn theirs(&self, name: &str) -> String {
        format!("{}#{name}", self.node)
    }

    fn note(&self, speaker: Speaker, text: impl Into<String>) {
        self.transcript.add(&self.name, speaker, text, &[]);
    }

    /// Sends one packet.
    pub(crate) async fn send(&mut self, packet: Json) -> Verdict {
        self.send_all(&[packet]).await
    }

    /// Sends packets in one write.
    pub(crate) async fn send_all(&mut self, packets: &[Json]) -> Verdict {
        let mut octets = Vec::new();
        for packet in packets {
            let start = octets.len();
            octets.extend(encoded(self.sends, packet)?);
            let one = octets.get(start..).unwrap_or_default();
            self.transcript.add(&self.name, Speaker::Suite, packet.to_string(), one);
        }
        self.write(&octets).await
    }

    /// Sends octets as they are.
    pub(crate) async fn raw(&mut self, octets: &[u8]) -> Verdict {
        self.transcript.add(&self.name, Speaker::Suite, printable(octets), octets);
        self.write(octets).await
    }

    async fn write(&mut self, octets: &[u8]) -> Verdict {
        let write = async {
            let mut writer = self.writer.lock().await;
            writer.write_all(octets).await?;
            writer.flush().await
        };
        match timeout(self.patience, write).await {
            // A closed connection shows at the next read, after the packets that came before.
            Ok(_) => Ok(()),
            Err(_) => late("the node takes no octets any more"),
        }
    }

    /// The next packet; `None` if none arrives in time.
    async fn receive(&mut self, deadline: Instant) -> Verdict<Option<Packet>> {
        if self.over.is_some() {
            return Ok(None);
        }
        match timeout_at(deadline, self.events.recv()).await {
            Ok(Some(Event::Packet(packet))) => Ok(Some(packet)),
            Ok(Some(Event::Closed(why))) => {
                self.over = Some(why);
                Ok(None)
            }
            Ok(Some(Event::Garbage(what))) => miss(format!("it sent what is no packet: {what}")),
            Ok(None) | Err(_) => Ok(None),
        }
    }

    /// Waits for the first packet that matches the pattern; others are kept for later.
    pub(crate) async fn expect(&mut self, wanted: Json) -> Verdict<Packet> {
        self.expect_within(wanted, self.patience).await
    }

    /// Like [`Session::expect`], with a different time limit.
    pub(crate) async fn expect_within(
        &mut self,
        wanted: Json,
        patience: Duration,
    ) -> Verdict<Packet> {
        let found = self.backlog.iter().position(|packet| matches_packet(&wanted, packet));
        if let Some(packet) = found.and_then(|at| self.backlog.remove(at)) {
            return Ok(packet);
        }
        let deadline = Instant::now() + patience;
        while let Some(packet) = self.receive(deadline).await? {
            if matches_packet(&wanted, &packet) {
                return Ok(packet);
            }
            self.backlog.push_back(packet);
        }
        let wanted = pattern::show(&wanted);
        match &self.over {
            Some(why) => miss(format!("the connection was closed ({why}) before {wanted} came")),
            None => late(format!(
                "waited {patience:?} for {wanted}; {}",
                match self.backlog.back() {
                    Some(last) => format!("the last packet was {}", show_packet(last)),
                    None => "no packet came".to_owned(),
                }
            )),
        }
    }

    /// Waits for the first packet that matches the pattern, and returns those that came before it.
    pub(crate) async fn all_before(&mut self, last: Json) -> Verdict<Vec<Packet>> {
        let kept = self.backlog.iter().position(|packet| matches_packet(&last, packet));
        if let Some(at) = kept {
            let before = self.backlog.drain(..at).collect();
            self.backlog.pop_front();
            return Ok(before);
        }
        self.expect(last).await?;
        Ok(std::mem::take(&mut self.backlog).into())
    }

    /// Waits for the first packet of a kind, which must match the pattern.
    pub(crate) async fn expect_first(&mut self, kind: Json, wanted: Json) -> Verdict<Packet> {
        let packet = self.expect(kind).await?;
        match matches_packet(&wanted, &packet) {
            true => Ok(packet),
            false => {
                miss(format!("{} came instead of {}", show_packet(&packet), pattern::show(&wanted)))
            }
        }
    }

    /// Waits until everything sent before has taken effect: the node has relayed a message back to us. Other
    /// packets that arrive are kept.
    pub(crate) async fn barrier(&mut self) -> Verdict {
        self.barriers += 1;
        let port = format!("barrier{}", self.barriers);
        self.send(json!(["", "snd", self.port(&port), "here"])).await?;
        self.expect(json!([port, "here"])).await?;
        Ok(())
    }

    /// The node still relays messages; the error says after what it stopped.
    pub(crate) async fn still_works(&mut self, after: &str) -> Verdict {
        let barrier = self.barrier().await;
        barrier.map_err(|stop| stop.about(|what| format!("after {after}: {what}")))
    }

    /// No packet that matches the pattern has arrived when everything sent before has taken effect.
    pub(crate) async fn nothing(&mut self, unwanted: Json) -> Verdict {
        self.barrier().await?;
        match self.backlog.iter().find(|packet| matches_packet(&unwanted, packet)) {
            Some(packet) => miss(format!("{} came, and should not have", show_packet(packet))),
            None => Ok(()),
        }
    }

    /// All packets of a kind that have arrived when everything sent before has taken effect.
    pub(crate) async fn all(&mut self, kind: Json) -> Verdict<Vec<Packet>> {
        self.barrier().await?;
        let (found, rest) = std::mem::take(&mut self.backlog)
            .into_iter()
            .partition(|packet| matches_packet(&kind, packet));
        let rest: Vec<Packet> = rest;
        self.backlog = rest.into();
        Ok(found)
    }

    /// Discards packets that arrived and were not requested.
    pub(crate) async fn forget(&mut self) -> Verdict {
        self.barrier().await?;
        self.backlog.clear();
        Ok(())
    }

    /// Waits until the node closes the connection.
    pub(crate) async fn expect_closed(&mut self, within: Duration) -> Verdict {
        let deadline = Instant::now() + within;
        while let Some(packet) = self.receive(deadline).await? {
            self.backlog.push_back(packet);
        }
        match &self.over {
            Some(_) => Ok(()),
            None => late(format!("the node did not close the connection within {within:?}")),
        }
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        self.note(Speaker::Suite, "(closes)");
        let mut writer = self.writer.lock().await;
        // It does not matter if the peer is already gone.
        let _ = timeout(Duration::from_secs(1), writer.shutdown()).await;
    }

    /// Sends a request with one of our ports as reply port, and returns the answer without the port's name.
    pub(crate) async fn ask(&mut self, request: &[Json], reply: &str) -> Verdict<Packet> {
        let mut packet = vec![json!("")];
        packet.extend_from_slice(request);
        packet.extend([json!(self.port(reply)), json!("re")]);
        self.send(Json::Array(packet)).await?;
        let mut answer = self.expect(json!([reply, REST])).await?;
        match answer.get(1).and_then(Value::as_str) {
            Some(tag) if tag == StrRef::text("re") => Ok(answer.split_off(2)),
            _ => miss(format!(
                "the answer {} does not begin with what the request prepends",
                show_packet(&answer)
            )),
        }
    }

    /// The answer to `g_db_family`.
    pub(crate) async fn family(&mut self, family: &str) -> Verdict<Json> {
        self.barriers += 1;
        let id = format!("q{}", self.barriers);
        self.send(json!(["", "g_db_family", family, id])).await?;
        let reply = self.expect(json!(["", "g_reply", id, ANY])).await?;
        Ok(reply.get(3).map(pattern::to_json).unwrap_or_default())
    }
}

/// A packet encoded in a framing.
pub(crate) fn encoded(framing: Framing, packet: &Json) -> Verdict<Vec<u8>> {
    let items = packet.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut packed = Vec::new();
    for item in items {
        pattern::put(item, &mut packed);
    }
    let mut octets = Vec::new();
    encode(framing, Elements::new(items.len(), &packed), &mut octets)
        .map_err(|error| Stop::Miss(error.to_string()))?;
    Ok(octets)
}

/// A packet as text.
pub(crate) fn show_packet(packet: &[Value]) -> String {
    let json: Json = packet.iter().map(pattern::to_json).collect();
    let text = json.to_string();
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Reads packets as they arrive, and answers echo requests meanwhile.
struct Pump {
    input: ReadHalf<Box<dyn Stream>>,
    unread: BytesMut,
    decoder: Decoder,
    receives: Framing,
    sends: Framing,
    node: String,
    pace: EchoMode,
    writer: Writer,
    events: mpsc::UnboundedSender<Event>,
    name: Arc<str>,
    transcript: Transcript,
}

impl Pump {
    async fn run(mut self) {
        let end = loop {
            match self.take() {
                Ok(packets) => {
                    for packet in packets {
                        match self.relayed(&packet) {
                            Some(octets) => self.answer(&octets).await,
                            None => {
                                // The session is gone.
                                let _ = self.events.send(Event::Packet(packet));
                            }
                        }
                    }
                }
                Err(what) => {
                    self.transcript.add(&self.name, Speaker::Node, what.clone(), &self.unread);
                    break Event::Garbage(what);
                }
            }
            match self.input.read_buf(&mut self.unread).await {
                Ok(0) => break Event::Closed("by the node".to_owned()),
                Ok(_) => {}
                Err(error) => break Event::Closed(error.to_string()),
            }
        };
        if let Event::Closed(why) = &end {
            self.transcript.add(&self.name, Speaker::Node, format!("(closed: {why})"), &[]);
        }
        let _ = self.events.send(end);
    }

    /// All complete packets.
    fn take(&mut self) -> Result<Vec<Packet>, String> {
        let mut packets = Vec::new();
        loop {
            let step = self.decoder.next(&self.unread).map_err(|error| error.to_string())?;
            match step {
                Step::More { used } => {
                    self.unread.advance(used);
                    return Ok(packets);
                }
                Step::Packet { used, elements } => {
                    let packet = elements.to_values().map_err(|error| error.to_string())?;
                    let octets = self.unread.split_to(used);
                    let shown = match self.receives {
                        Framing::Json => &[][..],
                        _ => &octets,
                    };
                    let text = show_packet(&packet);
                    self.transcript.add(&self.name, Speaker::Node, text, shown);
                    packets.push(packet);
                }
            }
        }
    }

    /// The answer to an echo request, `["","snd",PORT,elements...]`.
    fn relayed(&self, packet: &[Value]) -> Option<Vec<u8>> {
        let [port, request, to, elements @ ..] = packet else {
            return None;
        };
        let is_relay = self.pace == EchoMode::Relays
            && port.as_str()?.is_empty()
            && request.as_str()? == StrRef::text("snd");
        let to = to.to_str()?;
        let to = to.to_text_lossy();
        let port = match to.split_once('#') {
            Some((node, port)) if node == self.node => port,
            None if to == self.node => "",
            _ => return None,
        };
        if !is_relay {
            return None;
        }
        let mut packed = Vec::new();
        crate::value::packed::put_octets(&mut packed, port.as_bytes());
        for element in elements {
            element.put(&mut packed).ok()?;
        }
        let mut octets = Vec::new();
        encode(self.sends, Elements::new(elements.len() + 1, &packed), &mut octets).ok()?;
        Some(octets)
    }

    async fn answer(&mut self, octets: &[u8]) {
        let mut writer = self.writer.lock().await;
        let _ = writer.write_all(octets).await;
        let _ = writer.flush().await;
        self.transcript.add(&self.name, Speaker::Suite, "(relays it back)", octets);
    }
}

/// Whether a value is this string.
pub(crate) fn is_text(value: Option<&Value>, text: &str) -> bool {
    value.and_then(Value::to_str).is_some_and(|found| *found == Str::text(text))
}

/// The tokens of a packet, for an exact comparison of values.
pub(crate) fn has_number(value: &Value) -> bool {
    let mut octets = Vec::new();
    if value.put(&mut octets).is_err() {
        return false;
    }
    let mut reader = crate::value::packed::Reader::new(&octets);
    matches!(reader.token(), Ok(Token::UInt(_) | Token::NInt(_) | Token::Float(_)))
}
