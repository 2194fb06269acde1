//! The conversation of two nodes, read by a third party between them.

use super::auth::{AuthMethod, Secret};
use super::framing::{Decoder, FramingError, FramingLimits, Step};
use super::greeting::{AEMP, AEMP_DATACONN, Greeting};
use super::protection::Protection;
use super::session::{AuthLine, BadLine, Line, Lines, PERL_LINE_LIMIT};
use crate::value::Value;
use bytes::{Buf as _, BytesMut};

/// A side of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The node that dialled; `a` in recordings.
    Dialler,
    /// The node that listened; `b` in recordings.
    Listener,
}

impl Side {
    /// Both sides.
    pub const BOTH: [Side; 2] = [Side::Dialler, Side::Listener];

    /// The letter for the side in recordings.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Side::Dialler => "a",
            Side::Listener => "b",
        }
    }

    /// The other side.
    #[must_use]
    pub const fn other(self) -> Side {
        match self {
            Side::Dialler => Side::Listener,
            Side::Listener => Side::Dialler,
        }
    }
}

/// An item of a conversation.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Said {
    /// The first line of its greeting.
    Greeting(Greeting),
    /// The second line of its greeting.
    Nonce(Vec<u8>),
    /// The authentication line.
    Authentication {
        /// The method, known or not.
        method: Vec<u8>,
        /// The token.
        token: Vec<u8>,
        /// The framing of its packets, known or not.
        framing: Vec<u8>,
        /// Whether the token is right.
        verdict: Verdict,
    },
    /// A packet: the name of a port, and the message. `[]` and `[""]` are keepalives.
    Packet(Vec<Value>),
    /// Octets inside TLS, or of a data connection, which only the two nodes can interpret.
    Opaque {
        /// The reason.
        what: Opaque,
        /// The number of octets.
        octets: usize,
    },
    /// An error for which a node would close the connection. Nothing after it on this side is
    /// interpreted.
    Wrong {
        /// The error.
        problem: Wrong,
        /// The octets from the error on.
        octets: Vec<u8>,
    },
    /// The side has ended, or was cut off, within a line or packet.
    Unfinished {
        /// The incomplete line or packet.
        octets: Vec<u8>,
    },
}

/// Whether the peer will accept an authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The token is right.
    Right,
    /// The token is wrong.
    Wrong,
    /// The token can be checked only with the secret.
    SecretUnknown,
    /// The method is unknown.
    MethodUnknown,
}

/// Why octets cannot be interpreted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opaque {
    /// TLS begins after the greetings.
    Encrypted,
    /// It is a data connection (`docs/protocol.md` §1.7).
    Data,
    /// They follow an error.
    AfterAnError,
}

/// An error in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// The first line is not a greeting.
    #[error("no greeting of an AEMP node")]
    Greeting,
    /// A line that is too long.
    #[error("a line without end")]
    LineTooLong,
    /// The authentication line has fewer than three fields.
    #[error("no authentication line")]
    Authentication,
    /// The framing is unknown.
    #[error("packets in a framing that is not known here")]
    Framing,
    /// The octets are not a packet.
    #[error("not a packet: {0}")]
    Packet(FramingError),
}

/// A conversation, as far as it was read.
///
/// A [`Session`](super::session::Session) is one end of a connection; this is a third party between both
/// ends. It reads the lines and packets of both sides, chooses and sends nothing, and can check a proof
/// only if it knows the secret. Pass the octets to [`Conversation::hear`], which returns their meaning.
#[derive(Debug)]
pub struct Conversation {
    secret: Option<Secret>,
    limits: FramingLimits,
    speakers: [Speaker; 2],
}

#[derive(Debug)]
struct Speaker {
    unread: BytesMut,
    lines: Lines,
    greeting: Option<Greeting>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The three lines before the packets.
    Lines,
    Packets(Decoder),
    Opaque(Opaque),
}

impl Conversation {
    /// A new conversation. Without the secret most authentications cannot be checked.
    #[must_use]
    pub fn new(secret: Option<Secret>) -> Self {
        let speaker = || Speaker {
            unread: BytesMut::new(),
            lines: Lines::new(PERL_LINE_LIMIT),
            greeting: None,
            state: State::Lines,
        };
        let limits = FramingLimits::default();
        Conversation { secret, limits, speakers: [speaker(), speaker()] }
    }

    /// The greeting of a side, once it was read.
    #[must_use]
    pub fn greeting(&self, side: Side) -> Option<&Greeting> {
        self.speaker(side).greeting.as_ref()
    }

    /// Reads octets of one side, split anywhere, and returns the items that are complete. Some octets of
    /// a side can be interpreted only after the greeting of the other side.
    pub fn hear(&mut self, side: Side, octets: &[u8]) -> Vec<(Side, Said)> {
        self.speaker_mut(side).unread.extend_from_slice(octets);
        let mut all = Vec::new();
        for side in [side, side.other()] {
            while let Some(said) = self.next(side) {
                all.push((side, said));
            }
        }
        all
    }

    /// Ends a side, and returns the incomplete item, if there is one.
    pub fn end(&mut self, side: Side) -> Option<Said> {
        let speaker = self.speaker_mut(side);
        let octets = speaker.rest();
        let is_inside =
            matches!(&speaker.state, State::Packets(decoder) if decoder.is_inside_a_packet());
        (is_inside || !octets.is_empty()).then_some(Said::Unfinished { octets })
    }

    fn speaker(&self, side: Side) -> &Speaker {
        let [dialler, listener] = &self.speakers;
        match side {
            Side::Dialler => dialler,
            Side::Listener => listener,
        }
    }

    fn speaker_mut(&mut self, side: Side) -> &mut Speaker {
        let [dialler, listener] = &mut self.speakers;
        match side {
            Side::Dialler => dialler,
            Side::Listener => listener,
        }
    }

    fn next(&mut self, side: Side) -> Option<Said> {
        let speaker = self.speaker(side);
        match speaker.state {
            State::Lines if speaker.lines.is_greeted() => self.after_greeting(side),
            State::Lines => self.speaker_mut(side).greeting_line(),
            State::Packets(_) => self.speaker_mut(side).packet(),
            State::Opaque(_) => self.speaker_mut(side).opaque(),
        }
    }

    /// What follows the greeting depends on both greetings.
    fn after_greeting(&mut self, side: Side) -> Option<Said> {
        let (speaker, other) = (self.speaker(side), self.speaker(side.other()));
        let opaque = match &other.state {
            // The peer of something that is not a node is not judged.
            State::Opaque(Opaque::AfterAnError) if other.greeting.is_none() => {
                Some(Opaque::AfterAnError)
            }
            State::Lines if !other.lines.is_greeted() => return None,
            _ => {
                let greetings = speaker.greeting.as_ref().zip(other.greeting.as_ref());
                let protection = greetings.map(|(one, other)| Protection::of(one, other));
                protection.is_some_and(Protection::is_encrypted).then_some(Opaque::Encrypted)
            }
        };
        if let Some(opaque) = opaque {
            self.speaker_mut(side).state = State::Opaque(opaque);
            return self.next(side);
        }
        let speaker = self.speaker_mut(side);
        let line = match speaker.lines.next(&mut speaker.unread) {
            Ok(Some(Line::Authentication(line))) => line,
            Ok(_) => return None,
            Err(bad) => return Some(speaker.bad_line(bad)),
        };
        let verdict = self.judge(side, &line);
        let (limits, is_data) = (self.limits, self.is_for_data());
        self.speaker_mut(side).state = match line.known_framing() {
            _ if is_data => State::Opaque(Opaque::Data),
            Some(framing) => State::Packets(Decoder::new(framing, limits)),
            None => State::Opaque(Opaque::AfterAnError),
        };
        let AuthLine { method, token, framing } = line;
        Some(Said::Authentication { method, token, framing, verdict })
    }

    fn is_for_data(&self) -> bool {
        let greetings = self.speakers.iter().filter_map(|speaker| speaker.greeting.as_ref());
        greetings.into_iter().any(|greeting| greeting.protocol == AEMP_DATACONN)
    }

    fn judge(&self, side: Side, line: &AuthLine) -> Verdict {
        let Some(method) = AuthMethod::from_name(&line.method) else {
            return Verdict::MethodUnknown;
        };
        if method.needs_secret() && self.secret.is_none() {
            return Verdict::SecretUnknown;
        }
        let own = self.speaker(side).lines.greeting();
        let other = self.speaker(side.other()).lines.greeting();
        match method.verify(self.secret.as_ref(), &line.token, own, other) {
            true => Verdict::Right,
            false => Verdict::Wrong,
        }
    }
}

impl Speaker {
    /// All octets that were not interpreted.
    fn rest(&mut self) -> Vec<u8> {
        let mut octets = self.lines.take_partial();
        octets.extend_from_slice(&self.unread.split());
        octets
    }

    fn greeting_line(&mut self) -> Option<Said> {
        match self.lines.next(&mut self.unread) {
            Ok(Some(Line::Greeting(greeting))) => {
                if greeting.protocol != AEMP && greeting.protocol != AEMP_DATACONN {
                    return Some(
                        self.bad_line(BadLine::NotAGreeting(self.lines.greeting().into())),
                    );
                }
                self.greeting = Some(greeting.clone());
                Some(Said::Greeting(greeting))
            }
            Ok(Some(Line::Nonce(line))) => Some(Said::Nonce(line)),
            Ok(_) => None,
            Err(bad) => Some(self.bad_line(bad)),
        }
    }

    fn packet(&mut self) -> Option<Said> {
        let State::Packets(decoder) = &mut self.state else {
            return None;
        };
        let (used, found) = match decoder.next(&self.unread) {
            Ok(Step::More { used }) => (used, None),
            Ok(Step::Packet { used, elements }) => {
                let values = elements.to_values().map_err(|_| FramingError::NotAPacket);
                (used, Some(values))
            }
            Err(error) => (0, Some(Err(error))),
        };
        self.unread.advance(used.min(self.unread.len()));
        match found? {
            Ok(values) => Some(Said::Packet(values)),
            Err(error) => Some(self.wrong(Wrong::Packet(error), Vec::new())),
        }
    }

    fn opaque(&mut self) -> Option<Said> {
        let State::Opaque(what) = self.state else {
            return None;
        };
        let octets = self.unread.split().len();
        (octets > 0).then_some(Said::Opaque { what, octets })
    }

    fn bad_line(&mut self, bad: BadLine) -> Said {
        match bad {
            BadLine::TooLong(line) => self.wrong(Wrong::LineTooLong, line),
            BadLine::NotAGreeting(line) => self.wrong(Wrong::Greeting, line),
            BadLine::NotAuthentication(line) => self.wrong(Wrong::Authentication, line),
        }
    }

    /// From `octets` on, which were read already, nothing is interpreted.
    fn wrong(&mut self, problem: Wrong, mut octets: Vec<u8>) -> Said {
        self.state = State::Opaque(Opaque::AfterAnError);
        octets.append(&mut self.rest());
        Said::Wrong { problem, octets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETINGS: [&[u8]; 2] = [
        b"aemp;1;a;hmac_sha3_512;json;provider=x\nnonce-a\n",
        b"aemp;1;b;hmac_sha3_512;json;provider=x\nnonce-b\n",
    ];

    fn greeted(greetings: [&[u8]; 2]) -> Conversation {
        let mut conversation = Conversation::new(Secret::new("geheim"));
        for (side, greeting) in Side::BOTH.into_iter().zip(greetings) {
            assert_eq!(conversation.hear(side, greeting).len(), 2);
        }
        conversation
    }

    fn authentication(of: usize) -> Vec<u8> {
        let (own, other) = (GREETINGS[of], GREETINGS[1 - of]);
        let token = AuthMethod::HmacSha3_512.token(Secret::new("geheim").as_ref(), own, other);
        format!("hmac_sha3_512;{};json\n", token.unwrap()).into_bytes()
    }

    fn verdict(said: &[(Side, Said)]) -> Verdict {
        match said {
            [(_, Said::Authentication { verdict, .. }), ..] => *verdict,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_both_say_is_understood_wherever_it_is_cut() {
        let packets = b"[\"\",\"g_slave\"] [][\"p\",1,";
        let octets = [GREETINGS[0], &authentication(0), packets].concat();
        for size in [1, 2, 7, 1000] {
            let mut conversation = Conversation::new(Secret::new("geheim"));
            let mut all = conversation.hear(Side::Listener, GREETINGS[1]);
            for piece in octets.chunks(size) {
                all.extend(conversation.hear(Side::Dialler, piece));
            }
            assert_eq!(all.len(), 7, "{all:?}");
            assert_eq!(verdict(&all[4..5]), Verdict::Right);
            assert_eq!(all[5].1, Said::Packet(vec![Value::from(""), Value::from("g_slave")]));
            assert_eq!(all[6].1, Said::Packet(vec![]));
            assert!(matches!(conversation.end(Side::Dialler), Some(Said::Unfinished { .. })));
            assert_eq!(conversation.end(Side::Listener), None);
        }
    }

    #[test]
    fn an_authentication_waits_for_the_other_greeting() {
        let mut conversation = Conversation::new(Secret::new("geheim"));
        let early = [GREETINGS[0], &authentication(0)].concat();
        assert_eq!(conversation.hear(Side::Dialler, &early).len(), 2);
        let late = conversation.hear(Side::Listener, GREETINGS[1]);
        assert_eq!(late.len(), 3);
        assert_eq!((late[2].0, verdict(&late[2..])), (Side::Dialler, Verdict::Right));
    }

    #[test]
    fn wrong_and_unknown_authentications_are_told_apart() {
        for (line, expected) in [
            (&b"hmac_sha3_512;00;json\n"[..], Verdict::Wrong),
            (b"magic;00;json\n", Verdict::MethodUnknown),
            (b"cleartext;67656865696d;json\n", Verdict::Right),
        ] {
            let said = greeted(GREETINGS).hear(Side::Dialler, line);
            assert_eq!(verdict(&said), expected);
        }
        let mut stranger = Conversation::new(None);
        stranger.hear(Side::Dialler, GREETINGS[0]);
        stranger.hear(Side::Listener, GREETINGS[1]);
        let said = stranger.hear(Side::Dialler, &authentication(0));
        assert_eq!(verdict(&said), Verdict::SecretUnknown);
    }

    #[test]
    fn behind_two_greetings_with_tls_everything_is_encrypted() {
        let with_tls: [&[u8]; 2] =
            [b"aemp;1;a;tls_anon;json;tls=1.0\nx\n", b"aemp;1;b;tls_anon;json;tls=1.0\ny\n"];
        let said = greeted(with_tls).hear(Side::Listener, &[22, 3, 1]);
        assert_eq!(said[0].1, Said::Opaque { what: Opaque::Encrypted, octets: 3 });
    }

    #[test]
    fn data_connections_have_no_packets() {
        let dialled: &[u8] = b"aemp-dataconn;1;a;hmac_sha3_512;json;dataconn_id=x\nnonce-a\n";
        let mut conversation = greeted([dialled, GREETINGS[1]]);
        let said = conversation.hear(Side::Dialler, b"hmac_sha3_512;00;json\nabc");
        assert_eq!(said[1].1, Said::Opaque { what: Opaque::Data, octets: 3 });
    }

    #[test]
    fn nothing_is_understood_behind_something_wrong() {
        let mut conversation = Conversation::new(None);
        let said = conversation.hear(Side::Dialler, b"GET / HTTP/1.1\r\n\r\n");
        assert!(matches!(said[0].1, Said::Wrong { problem: Wrong::Greeting, .. }));
        assert_eq!(said.len(), 1);
        let said = conversation.hear(Side::Dialler, b"more");
        assert_eq!(said[0].1, Said::Opaque { what: Opaque::AfterAnError, octets: 4 });
        let mut conversation = greeted(GREETINGS);
        conversation.hear(Side::Dialler, &authentication(0));
        let said = conversation.hear(Side::Dialler, b"[\"a\"] {}");
        assert!(matches!(said[1].1, Said::Wrong { problem: Wrong::Packet(_), .. }), "{said:?}");
        let said = Conversation::new(None).hear(Side::Listener, &[b'x'; PERL_LINE_LIMIT + 1]);
        assert!(matches!(said[0].1, Said::Wrong { problem: Wrong::LineTooLong, .. }));
    }
}
