//! A conversation of two nodes, understood by somebody who hears both and is neither.

use super::auth::{AuthMethod, Secret};
use super::framing::{Decoder, Framing, FramingError, FramingLimits, Step};
use super::greeting::{AEMP, AEMP_DATACONN, Greeting};
use crate::value::Value;

/// More octets without a line end are no line of a greeting; the reference allows as many.
const LONGEST_LINE: usize = 4096;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Who dialled; `a` in recordings.
    Dialler,
    /// Who was dialled; `b` in recordings.
    Listener,
}

impl Side {
    /// Both.
    pub const BOTH: [Side; 2] = [Side::Dialler, Side::Listener];

    /// The letter that stands for the side in recordings.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Side::Dialler => "a",
            Side::Listener => "b",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Side {
        match self {
            Side::Dialler => Side::Listener,
            Side::Listener => Side::Dialler,
        }
    }
}

/// What a side said.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Said {
    /// The first line of its greeting.
    Greeting(Greeting),
    /// The second line of its greeting.
    Nonce(Vec<u8>),
    /// How it proves itself.
    Authentication {
        /// The method, known or not.
        method: Vec<u8>,
        /// What it proves itself with.
        token: Vec<u8>,
        /// The framing of its packets, known or not.
        framing: Vec<u8>,
        /// Whether that is right.
        verdict: Verdict,
    },
    /// A packet: the name of a port, and what is for it. `[]` and `[""]` are keepalives.
    Packet(Vec<Value>),
    /// Octets inside TLS, or of a data connection, which have no meaning to others.
    Opaque {
        /// Why.
        what: Opaque,
        /// How many.
        octets: usize,
    },
    /// What a node would refuse. Nothing more is understood of what this side says.
    Wrong {
        /// Why.
        problem: Wrong,
        /// The octets that are not understood.
        octets: Vec<u8>,
    },
    /// It ended, or was cut off, in the middle of something.
    Unfinished {
        /// What there is of it.
        octets: Vec<u8>,
    },
}

/// Whether the peer will believe an authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The token is right.
    Right,
    /// The token is not what it has to be.
    Wrong,
    /// The secret has to be known to tell.
    SecretUnknown,
    /// The method is unknown.
    MethodUnknown,
}

/// Why octets have no meaning to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opaque {
    /// TLS has begun behind the greetings.
    Encrypted,
    /// It is a data connection (`docs/protocol.md` §1.7).
    Data,
    /// Something wrong was before it.
    AfterAnError,
}

/// What is wrong with octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// No first line of a greeting.
    #[error("no greeting of an AEMP node")]
    Greeting,
    /// A line that does not end.
    #[error("a line without end")]
    LineTooLong,
    /// The authentication line has less than three fields.
    #[error("no authentication line")]
    Authentication,
    /// A framing that is not known here.
    #[error("packets in a framing that is not known here")]
    Framing,
    /// No packet.
    #[error("no packet: {0}")]
    Packet(FramingError),
}

/// A conversation as far as it was heard.
#[derive(Debug)]
pub struct Conversation {
    secret: Option<Secret>,
    limits: FramingLimits,
    speakers: [Speaker; 2],
}

#[derive(Debug)]
struct Speaker {
    unread: Vec<u8>,
    /// Both lines of the greeting as far as they are there, each with its LF.
    greeting_octets: Vec<u8>,
    greeting: Option<Greeting>,
    state: State,
}

#[derive(Debug)]
enum State {
    Greeting,
    Nonce,
    /// Both lines of the greeting are said.
    Greeted,
    Packets(Decoder),
    Opaque(Opaque),
}

impl Conversation {
    /// A conversation that begins. Without a secret most authentications cannot be checked.
    #[must_use]
    pub fn new(secret: Option<Secret>) -> Self {
        let speaker = || Speaker {
            unread: Vec::new(),
            greeting_octets: Vec::new(),
            greeting: None,
            state: State::Greeting,
        };
        let limits = FramingLimits::default();
        Conversation { secret, limits, speakers: [speaker(), speaker()] }
    }

    /// The greeting of a side, if it was heard.
    #[must_use]
    pub fn greeting(&self, side: Side) -> Option<&Greeting> {
        self.speaker(side).greeting.as_ref()
    }

    /// Takes octets of one side, cut anywhere, and tells what was said by that. Waiting for the
    /// other greeting, a side may be understood only when the other one speaks.
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

    /// What is left of a side that says nothing more.
    pub fn end(&mut self, side: Side) -> Option<Said> {
        let speaker = self.speaker_mut(side);
        let octets = std::mem::take(&mut speaker.unread);
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
        match &self.speaker(side).state {
            State::Greeting => self.speaker_mut(side).first_line(),
            State::Nonce => self.speaker_mut(side).second_line(),
            State::Greeted => self.after_greeting(side),
            State::Packets(_) => self.speaker_mut(side).packet(),
            State::Opaque(_) => self.speaker_mut(side).opaque(),
        }
    }

    /// What comes behind the greeting depends on both greetings.
    fn after_greeting(&mut self, side: Side) -> Option<Said> {
        let (speaker, other) = (self.speaker(side), self.speaker(side.other()));
        if matches!(other.state, State::Opaque(Opaque::AfterAnError)) && other.greeting.is_none() {
            // What talks to something else is not judged.
            self.speaker_mut(side).state = State::Opaque(Opaque::AfterAnError);
            return self.next(side);
        }
        if matches!(other.state, State::Greeting | State::Nonce) {
            return None;
        }
        let greetings = [&speaker.greeting, &other.greeting].map(Option::as_ref);
        if greetings.iter().all(|greeting| greeting.is_some_and(Greeting::offers_tls)) {
            self.speaker_mut(side).state = State::Opaque(Opaque::Encrypted);
            return self.next(side);
        }
        let is_data = greetings
            .iter()
            .any(|greeting| greeting.is_some_and(|found| found.protocol == AEMP_DATACONN));
        let line = match self.speaker_mut(side).line() {
            Line::Whole(line) => line,
            Line::Begun => return None,
            Line::TooLong => return Some(self.speaker_mut(side).wrong(Wrong::LineTooLong)),
        };
        let fields: Vec<&[u8]> = line.split(|&octet| octet == b';').collect();
        let [method, token, framing, ..] = fields.as_slice() else {
            let speaker = self.speaker_mut(side);
            speaker.unread.splice(..0, line.iter().copied().chain([b'\n']));
            return Some(speaker.wrong(Wrong::Authentication));
        };
        let verdict = self.judge(side, method, token);
        let limits = self.limits;
        let speaker = self.speaker_mut(side);
        let known = std::str::from_utf8(framing).ok().and_then(Framing::from_name);
        speaker.state = match known {
            _ if is_data => State::Opaque(Opaque::Data),
            Some(framing) => State::Packets(Decoder::new(framing, limits)),
            None => State::Opaque(Opaque::AfterAnError),
        };
        Some(Said::Authentication {
            method: method.to_vec(),
            token: token.to_vec(),
            framing: framing.to_vec(),
            verdict,
        })
    }

    fn judge(&self, side: Side, method: &[u8], token: &[u8]) -> Verdict {
        let Some(method) = AuthMethod::from_name(method) else {
            return Verdict::MethodUnknown;
        };
        if method.needs_secret() && self.secret.is_none() {
            return Verdict::SecretUnknown;
        }
        let own = &self.speaker(side).greeting_octets;
        let other = &self.speaker(side.other()).greeting_octets;
        match method.verify(self.secret.as_ref(), token, own, other) {
            true => Verdict::Right,
            false => Verdict::Wrong,
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    Begun,
    TooLong,
}

impl Speaker {
    /// The next line, without its end.
    fn line(&mut self) -> Line {
        let Some(at) = memchr::memchr(b'\n', &self.unread) else {
            return match self.unread.len() > LONGEST_LINE {
                true => Line::TooLong,
                false => Line::Begun,
            };
        };
        let mut line: Vec<u8> = self.unread.drain(..=at).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Line::Whole(line)
    }

    fn first_line(&mut self) -> Option<Said> {
        let line = match self.line() {
            Line::Whole(line) => line,
            Line::Begun => return None,
            Line::TooLong => return Some(self.wrong(Wrong::LineTooLong)),
        };
        let known =
            |greeting: &Greeting| greeting.protocol == AEMP || greeting.protocol == AEMP_DATACONN;
        match Greeting::parse(&line).ok().filter(known) {
            Some(greeting) => {
                self.greeting_octets = [line.as_slice(), b"\n"].concat();
                self.greeting = Some(greeting.clone());
                self.state = State::Nonce;
                Some(Said::Greeting(greeting))
            }
            None => {
                self.unread.splice(..0, line.into_iter().chain([b'\n']));
                Some(self.wrong(Wrong::Greeting))
            }
        }
    }

    fn second_line(&mut self) -> Option<Said> {
        match self.line() {
            Line::Whole(line) => {
                self.greeting_octets.extend_from_slice(&line);
                self.greeting_octets.push(b'\n');
                self.state = State::Greeted;
                Some(Said::Nonce(line))
            }
            Line::Begun => None,
            Line::TooLong => Some(self.wrong(Wrong::LineTooLong)),
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
        self.unread.drain(..used.min(self.unread.len()));
        match found? {
            Ok(values) => Some(Said::Packet(values)),
            Err(error) => Some(self.wrong(Wrong::Packet(error))),
        }
    }

    fn opaque(&mut self) -> Option<Said> {
        let State::Opaque(what) = self.state else {
            return None;
        };
        let octets = std::mem::take(&mut self.unread).len();
        (octets > 0).then_some(Said::Opaque { what, octets })
    }

    fn wrong(&mut self, problem: Wrong) -> Said {
        self.state = State::Opaque(Opaque::AfterAnError);
        Said::Wrong { problem, octets: std::mem::take(&mut self.unread) }
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
        let said = Conversation::new(None).hear(Side::Listener, &[b'x'; LONGEST_LINE + 1]);
        assert!(matches!(said[0].1, Said::Wrong { problem: Wrong::LineTooLong, .. }));
    }
}
