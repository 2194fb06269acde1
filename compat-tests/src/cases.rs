//! Handshakes that a node has to accept, and ones that it has to refuse, as options of the peer.

use serde_json::{Value, json};

/// One variant of a handshake.
#[derive(Debug)]
pub struct Case {
    /// What is special about it; also the peer's node ID, unless the case is about that.
    pub name: &'static str,
    /// The peer's node ID as it is written.
    pub node: String,
    /// Options of `perl/peer.pl`.
    pub options: Value,
}

fn case(name: &'static str, mut options: Value) -> Case {
    if options["node"].is_null() {
        options["node"] = name.replace(' ', "_").into();
    }
    Case { name, node: options["node"].as_str().unwrap().to_owned(), options }
}

/// Handshakes to accept with the secret [`crate::node::SECRET`] and default settings.
pub fn accepted() -> Vec<Case> {
    vec![
        case("json", json!({"framings": ["json"]})),
        case("cbor", json!({"framings": ["cbor"]})),
        case("storable", json!({"framings": ["storable"]})),
        case("json in, cbor out", json!({"framings": ["json"], "framing": "cbor"})),
        case("json in, storable out", json!({"framings": ["json"], "framing": "storable"})),
        case("cbor in, json out", json!({"framings": ["cbor"], "framing": "json"})),
        case("cbor in, storable out", json!({"framings": ["cbor"], "framing": "storable"})),
        case("storable in, json out", json!({"framings": ["storable"], "framing": "json"})),
        case("storable in, cbor out", json!({"framings": ["storable"], "framing": "cbor"})),
        case("cleartext", json!({"method": "cleartext"})),
        case("line ends of two octets", json!({"eol": "\r\n"})),
        case("an empty nonce", json!({"nonce": ""})),
        case("a nonce of punctuation", json!({"nonce": ";=,%; \t\u{e9}"})),
        case("version 1.0", json!({"version": "1.0"})),
        case("unknown keys", json!({"keys": {"colour": "blue", "empty": "", "two": "a=b"}})),
        case("escaped characters in a key", json!({"keys": {"odd": "%3b%25%zz"}})),
        case("an escaped node ID", json!({"node": "odd%3bid%25"})),
        case("greeted as Perl does", json!({"keys": {"provider": "AE-2.02"}})),
        case("claims TLS", json!({"keys": {"tls": "1.0"}})),
        case("unknown methods first", json!({"auth": ["hmac_md6_64_256", "x", "hmac_sha3_512"]})),
        case("unknown framings first", json!({"framings": ["xml", "json2", "json"]})),
        case("cleartext offered first", json!({"auth": ["cleartext", "hmac_sha3_512"]})),
        case("more after the framing", json!({"more": ";key=value;more"})),
        case("greets second", json!({"late": 1})),
        case("octet by octet", json!({"dribble": 1})),
        case("a greeting of 3 KiB", json!({"pad": 3000})),
    ]
}

/// Handshakes to refuse with the secret [`crate::node::SECRET`] and default settings, by the node
/// called `own_id`.
pub fn refused(own_id: &str) -> Vec<Case> {
    vec![
        case("a wrong secret", json!({"secret": "wrong"})),
        case("a longer secret", json!({"secret": "secrets"})),
        case("a wrong secret in cleartext", json!({"secret": "wrong", "method": "cleartext"})),
        case("an empty token", json!({"token": ""})),
        case("an empty token in cleartext", json!({"token": "", "method": "cleartext"})),
        case("a token cut short", json!({"token": "00", "method": "hmac_sha3_512"})),
        case("tls_anon outside TLS", json!({"method": "tls_anon"})),
        case("tls_sha3_512 outside TLS", json!({"method": "tls_sha3_512"})),
        case("an unknown method", json!({"method": "hmac_md6_64_256"})),
        case("no method", json!({"method": "", "token": ""})),
        case("an unknown framing", json!({"framing": "xml"})),
        case("no framing", json!({"framing": ""})),
        case("version 2", json!({"version": "2"})),
        case("version 0", json!({"version": "0"})),
        case("no version", json!({"version": ""})),
        case("another protocol", json!({"protocol": "http"})),
        case("no protocol", json!({"protocol": ""})),
        case("our own node ID", json!({"node": own_id})),
        case("an empty node ID", json!({"node": ""})),
        case("no common method", json!({"auth": ["hmac_md6_64_256"]})),
        case("no methods", json!({"auth": []})),
        case("no common framing", json!({"framings": ["xml"]})),
        case("no framings", json!({"framings": []})),
        case("a greeting of 8 KiB", json!({"pad": 8192})),
        case("a greeting without an end", json!({"pad": 8192, "eol": ""})),
        case("our own greeting", json!({"mirror": 1})),
    ]
}
