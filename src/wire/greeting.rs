//! The first line that two nodes exchange: their identity and capabilities.

use crate::value::is_deceptive;

/// The protocol name of connections that carry packets.
pub const AEMP: &[u8] = b"aemp";
/// This implementation with its version: the `provider` in our greetings.
pub const PROVIDER: &str = concat!("aemp-", env!("CARGO_PKG_VERSION"));
/// The prefix of [`PROVIDER`], the same in all versions.
pub const PROVIDER_PREFIX: &str = "aemp-";
/// The protocol name of data connections (`docs/protocol.md` §1.7).
pub const AEMP_DATACONN: &[u8] = b"aemp-dataconn";
/// The protocol version of this implementation.
pub const VERSION: u32 = 1;
/// The key with the ID of the data connection that is being dialled.
pub const DATACONN_ID: &str = "dataconn_id";
/// The key that tells whether the node dialled (`dial`) or accepted (`accept`) the connection. Only our
/// nodes send it. Without it, anybody who reaches two nodes can connect to both, relay each greeting and
/// token to the other, and so get two authenticated connections.
pub const ROLE: &str = "role";

/// The key whose value is the same on all connections of one run of a node, and different in each run.
/// It distinguishes a second connection of a node from another node with the same ID. Only our nodes
/// send it.
pub const INSTANCE: &str = "instance";

/// The key, with the value `1`, of nodes that support the request of the same name, by which a slave
/// requests one key of the database. Only our nodes send it.
pub const G_GET: &str = "g_get";

/// The key of nodes that know a secret and want connections to be encrypted and bound to it
/// (`docs/protocol.md` §1.8). Its values are those of [`BoundOffer`]. Only our nodes send it.
pub const BOUND: &str = "bound";

/// A greeting's offer of encryption that is bound to the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundOffer {
    /// `1`: encrypt if the peer makes either offer.
    Wanted,
    /// `local`: the node's end of the connection has a loopback address; do not encrypt if the peer says
    /// `local` as well. (Behind a proxy or tunnel only one end may have a loopback address.)
    Local,
}

impl BoundOffer {
    /// The value of [`BOUND`].
    pub const fn name(self) -> &'static [u8] {
        match self {
            BoundOffer::Wanted => b"1",
            BoundOffer::Local => b"local",
        }
    }
}

/// The role of a node in a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It dialled.
    Dials,
    /// It accepted.
    Accepts,
}

impl Role {
    /// The value of [`ROLE`].
    pub const fn name(self) -> &'static [u8] {
        match self {
            Role::Dials => b"dial",
            Role::Accepts => b"accept",
        }
    }
}

/// A node's description of itself, in the first line of a connection.
///
/// All values are octets in escaped form, as on the wire: node IDs are compared in this form and never
/// unescaped. Source: `docs/protocol.md` §1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The protocol name, such as [`AEMP`].
    pub protocol: Vec<u8>,
    /// The protocol version; compare it with [`Greeting::has_version`].
    pub version: Vec<u8>,
    /// The node ID.
    pub node_id: Vec<u8>,
    /// The authentication methods that the node accepts, known to us or not.
    pub auth_methods: Vec<Vec<u8>>,
    /// The framings that the node accepts, known to us or not.
    pub framings: Vec<Vec<u8>>,
    /// All other keys with their values. The value of a key without a value is empty.
    pub keys: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A line that is not a greeting, without even protocol, version and node ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a greeting has at least a protocol, a version and a node ID")]
pub struct NotAGreeting;

impl Greeting {
    /// Parses a greeting line, without its line end.
    ///
    /// Unknown methods, framings and keys are kept; missing lists are empty. Protocol and version are
    /// not checked here.
    pub fn parse(line: &[u8]) -> Result<Greeting, NotAGreeting> {
        let mut fields = line.split(|&octet| octet == b';');
        let mut field = || fields.next().unwrap_or_default();
        let (protocol, version, node_id) = (field(), field(), field());
        if protocol.is_empty() || version.is_empty() || node_id.is_empty() {
            return Err(NotAGreeting);
        }
        let (auth_methods, framings) = (split_list(field()), split_list(field()));
        let keys = fields.filter_map(split_key).collect();
        Ok(Greeting {
            protocol: protocol.to_vec(),
            version: version.to_vec(),
            node_id: node_id.to_vec(),
            auth_methods,
            framings,
            keys,
        })
    }

    /// Writes the greeting as a line, without its line end.
    pub fn compose(&self) -> Vec<u8> {
        let lists = [self.auth_methods.join(&b','), self.framings.join(&b',')];
        let fixed = [&self.protocol, &self.version, &self.node_id, &lists[0], &lists[1]];
        let mut line = fixed.map(Vec::as_slice).join(&b';');
        for (key, value) in &self.keys {
            line.push(b';');
            line.extend_from_slice(key);
            line.push(b'=');
            line.extend_from_slice(value);
        }
        line
    }

    /// The value of a key in escaped form; the last one if there are several.
    pub fn written(&self, key: &str) -> Option<&[u8]> {
        let entry = self.keys.iter().rev().find(|(name, _)| name == key.as_bytes())?;
        Some(&entry.1)
    }

    /// The value of a key with `%3b` and `%25` unescaped.
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.written(key).map(unescape)
    }

    /// Whether the version equals this one as a number: `1.0` is 1.
    pub fn has_version(&self, version: u32) -> bool {
        number(&self.version) == f64::from(version)
    }

    /// Whether the node has a certificate and wants TLS: the value of its key `tls` is 1.x.
    pub fn offers_tls(&self) -> bool {
        self.written("tls").is_some_and(|version| number(version).trunc() == 1.0)
    }

    /// The node's offer of encryption that is bound to the secret; `None` if there is none that is
    /// known.
    pub fn bound(&self) -> Option<BoundOffer> {
        let value = self.written(BOUND)?;
        [BoundOffer::Wanted, BoundOffer::Local].into_iter().find(|offer| offer.name() == value)
    }

    /// Whether the node is Perl's AnyEvent::MP, according to its `provider`.
    pub fn is_from_perl(&self) -> bool {
        self.written("provider").is_some_and(|provider| provider.starts_with(b"AE-"))
    }
}

fn split_list(field: &[u8]) -> Vec<Vec<u8>> {
    let names = field.split(|&octet| octet == b',');
    names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

fn split_key(field: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut parts = field.splitn(2, |&octet| octet == b'=');
    let key = parts.next().filter(|key| !key.is_empty())?;
    Some((key.to_vec(), parts.next().unwrap_or_default().to_vec()))
}

/// Escapes a value for a greeting: `;` becomes `%3b`, `%` becomes `%25`.
///
/// Line ends, which greetings cannot contain, become `%0d` and `%0a`.
pub fn escape(value: &[u8]) -> Vec<u8> {
    escape_octets(value, |octet| matches!(octet, b';' | b'%' | b'\r' | b'\n'))
}

/// As [`escape`], but keeps `%`: for names that are in escaped form already.
pub fn escape_breaks(written: &[u8]) -> Vec<u8> {
    escape_octets(written, breaks_a_greeting)
}

/// Whether the octet would end a field or the line.
pub(crate) fn breaks_a_greeting(octet: u8) -> bool {
    matches!(octet, b';' | b'\r' | b'\n')
}

fn escape_octets(value: &[u8], needs_escape: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut written = Vec::with_capacity(value.len());
    for &octet in value {
        if needs_escape(octet) {
            written.extend_from_slice(format!("%{octet:02x}").as_bytes());
        } else {
            written.push(octet);
        }
    }
    written
}

/// Unescapes `%3b` and `%25`; any other `%` is kept.
pub fn unescape(written: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((&octet, after)) = rest.split_first() {
        let (decoded, used) = match after.get(..2) {
            Some(b"3b" | b"3B") if octet == b'%' => (b';', 2),
            Some(b"25") if octet == b'%' => (b'%', 2),
            _ => (octet, 0),
        };
        value.push(decoded);
        rest = after.get(used..).unwrap_or_default();
    }
    value
}

/// The number at the start of a text, in Perl's conversion of strings to numbers; 0 if there is none.
fn number(text: &[u8]) -> f64 {
    let text = text.trim_ascii_start();
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let digits_from = |from: usize| {
        let digits = text.iter().skip(from).take_while(|octet| octet.is_ascii_digit());
        from + digits.count()
    };
    let mut end = digits_from(sign);
    if text.get(end) == Some(&b'.') {
        end = digits_from(end + 1);
    }
    if matches!(text.get(end), Some(b'e' | b'E')) {
        let exponent = end + 1 + usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let exponent_end = digits_from(exponent);
        if exponent_end > exponent {
            end = exponent_end;
        }
    }
    let prefix = text.get(..end).and_then(|prefix| std::str::from_utf8(prefix).ok());
    prefix.and_then(|prefix| prefix.parse().ok()).unwrap_or(0.0)
}

/// A peer's text for a log line: quoted, without control characters, and short.
pub(crate) fn printable(octets: &[u8]) -> String {
    const SHOWN: usize = 64;
    let shown = octets.get(..SHOWN).unwrap_or(octets);
    let mut text = String::from("\"");
    for chunk in shown.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => text.extend(['\\', character]),
                ' '..='~' => text.push(character),
                _ if character.is_alphanumeric() && !is_deceptive(character) => {
                    text.push(character);
                }
                _ => text.extend(character.escape_default()),
            }
        }
        text.extend(chunk.invalid().iter().map(|octet| format!("\\x{octet:02x}")));
    }
    text.push('"');
    if octets.len() > SHOWN {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"aemp;1;perl-a;tls_sha3_512,hmac_sha3_512;cbor,x;provider=AE-2.02;a=b=c;d";

    #[test]
    fn a_greeting_line_is_taken_apart() {
        let greeting = Greeting::parse(LINE).unwrap();
        assert_eq!(greeting.protocol, AEMP);
        assert!(greeting.has_version(1));
        assert_eq!(greeting.node_id, b"perl-a");
        assert_eq!(greeting.auth_methods, [b"tls_sha3_512".to_vec(), b"hmac_sha3_512".to_vec()]);
        assert_eq!(greeting.framings, [b"cbor".to_vec(), b"x".to_vec()]);
        assert_eq!(greeting.written("a"), Some(&b"b=c"[..]));
        assert_eq!(greeting.written("d"), Some(&b""[..]));
        assert_eq!(greeting.written("e"), None);
        assert!(greeting.is_from_perl());
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        let greeting = Greeting::parse(b"aemp;1;n;;;k=1;k=2").unwrap();
        assert_eq!(greeting.written("k"), Some(&b"2"[..]));
    }

    #[test]
    fn missing_lists_are_empty_and_empty_keys_are_dropped() {
        let greeting = Greeting::parse(b"aemp;1;n").unwrap();
        assert!(greeting.auth_methods.is_empty() && greeting.framings.is_empty());
        assert!(Greeting::parse(b"aemp;1;n;;;;=x").unwrap().keys.is_empty());
    }

    #[test]
    fn a_line_without_protocol_version_or_node_id_is_no_greeting() {
        for line in [&b""[..], b"GET / HTTP/1.1", b"aemp", b"aemp;1", b"aemp;1;", b";1;n", b"a;;n"]
        {
            assert_eq!(Greeting::parse(line), Err(NotAGreeting));
        }
    }

    #[test]
    fn octets_that_are_no_utf8_pass_unchanged() {
        let line = b"aemp;1;\xe9\xff;a;b;k=\xfe";
        assert_eq!(Greeting::parse(line).unwrap().compose(), line);
    }

    #[test]
    fn values_are_escaped_and_come_back() {
        assert_eq!(escape(b"a;b%c\r\n"), b"a%3bb%25c%0d%0a");
        assert_eq!(escape_breaks(b"a;b%25"), b"a%3bb%25");
        assert_eq!(unescape(b"a%3bb%25c%3B%253b"), b"a;b%c;%3b");
        assert_eq!(unescape(b"%eth0%2%"), b"%eth0%2%");
        let greeting = Greeting::parse(b"aemp;1;a%3b;;;k=%3b").unwrap();
        assert_eq!(greeting.value("k"), Some(b";".to_vec()));
        assert_eq!(greeting.node_id, b"a%3b");
    }

    #[test]
    fn versions_are_numbers() {
        let version = |version: &str| {
            let line = format!("aemp;{version};n;;");
            Greeting::parse(line.as_bytes()).unwrap().has_version(1)
        };
        for one in ["1", "1.0", "01", " 1", "+1", "1e0", "10e-1", "1x", "1e", "1."] {
            assert!(version(one), "{one}");
        }
        for other in ["2", "1.1", "0", "x", "-1", "1e1", "inf", "nan", ".", "\u{e9}"] {
            assert!(!version(other), "{other}");
        }
    }

    #[test]
    fn tls_is_offered_by_any_version_one() {
        let offers = |keys: &str| {
            let line = format!("aemp;1;n;;{keys}");
            Greeting::parse(line.as_bytes()).unwrap().offers_tls()
        };
        assert!(offers(";tls=1.0") && offers(";tls=1.9") && offers(";tls=1"));
        assert!(!offers("") && !offers(";tls=2.0") && !offers(";tls") && !offers(";tls=0.9"));
    }

    #[test]
    fn peer_text_stays_on_one_short_line() {
        assert_eq!(printable(b"a\n\x1b[2J\"\\"), r#""a\n\u{1b}[2J\"\\""#);
        assert_eq!(printable("é\u{2028}\u{202e}".as_bytes()), "\"é\\u{2028}\\u{202e}\"");
        assert_eq!(printable(b"\xff"), "\"\\xff\"");
        assert_eq!(printable(&[b'x'; 100]).len(), 64 + 5);
    }
}
