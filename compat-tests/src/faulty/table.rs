//! Every fault, in the order of the statements of `docs/protocol.md` that they break.

use super::Direction::{In, Out};
use super::Fault::{self, Greeting, Handshake, Messages, Misreads, Packets, Refuses, Requests};
use super::HandshakeFault;
use super::packets::*;
use super::pieces::{as_g_set, as_g_slave, subscribes_early};
use aemp::Value;
use aemp::value::Str;
use aemp::wire::framing::Framing;

fn has(octets: &[u8], part: &[u8]) -> bool {
    octets.windows(part.len()).any(|window| window == part)
}

/// Faults of a node that is dialled, each with the check that has to find it.
pub const FAULTS: &[(&str, Fault, &str)] = &[
    ("a late greeting", Handshake(HandshakeFault::GreetsSecond), "greet-unasked"),
    ("a late authentication", Handshake(HandshakeFault::AuthenticatesSecond), "auth-unasked"),
    ("early packets", Handshake(HandshakeFault::SpeaksEarly), "hold-packets"),
    ("lines that end in CR LF", Greeting(|own| own.end = "\r\n"), "greet-lf"),
    ("a hashed CR", Handshake(HandshakeFault::HashesCr), "take-crlf"),
    ("early packets lost", Handshake(HandshakeFault::LosesEarlyPackets), "take-early"),
    ("lines in one read", Handshake(HandshakeFault::WantsWholeLines), "take-dribble"),
    ("endless greetings", Handshake(HandshakeFault::TakesAnyLength), "refuse-8kib"),
    ("endless waiting", Handshake(HandshakeFault::WaitsForEver), "refuse-half"),
    (
        "a space in the node ID",
        Greeting(|own| own.first = own.first.replace("faulty;", "faul ty;")),
        "greet-form",
    ),
    ("any version", Handshake(HandshakeFault::TakesAnyVersion), "refuse-version-2"),
    ("the version as text", Handshake(HandshakeFault::ComparesVersionAsText), "take-version"),
    (
        "no known method",
        Greeting(|own| own.first = own.first.replace("hmac_sha3_512", "hmac_md5")),
        "greet-methods",
    ),
    (
        "no known framing",
        Greeting(|own| own.first = own.first.replace("cbor,json,storable", "xml")),
        "greet-framings",
    ),
    ("wanted keys", Handshake(HandshakeFault::WantsKeys), "take-no-keys"),
    ("percent signs refused", Refuses(|heard| has(heard.first, b"%zz")), "take-escaped-key"),
    (
        "escaped node IDs refused",
        Refuses(|heard| heard.greeting.node_id.contains(&b'%')),
        "take-escaped-id",
    ),
    ("no gproto", Greeting(|own| own.first = own.first.replace(";gproto=1", "")), "greet-keys"),
    ("one nonce for all", Handshake(HandshakeFault::RepeatsNonce), "greet-nonce-fresh"),
    ("wanted nonces", Refuses(|heard| heard.second.is_empty()), "take-no-nonce"),
    ("mirrors", Handshake(HandshakeFault::TakesMirrors), "refuse-mirror"),
    ("any protocol", Handshake(HandshakeFault::TakesAnyProtocol), "refuse-protocol"),
    ("its own ID", Handshake(HandshakeFault::TakesOwnId), "refuse-own-id"),
    ("two connections of a node", Handshake(HandshakeFault::NeverCloses), "refuse-second"),
    ("all connections for one", Handshake(HandshakeFault::ClosesAll), "refuse-spares"),
    (
        "unknown methods refused",
        Refuses(|heard| has(heard.first, b"hmac_md6_64_256,x,")),
        "take-methods",
    ),
    ("its own framing", Handshake(HandshakeFault::PrefersOwnFraming), "choose-storable"),
    ("one framing for both", Handshake(HandshakeFault::UsesOneFraming), "mix-json-cbor"),
    ("TLS refused", Refuses(|heard| heard.greeting.offers_tls()), "take-claimed-tls"),
    ("a guessed framing", Handshake(HandshakeFault::GuessesFraming), "refuse-framing"),
    ("three fields only", Handshake(HandshakeFault::WantsThreeFields), "auth-more"),
    ("swapped greetings", Handshake(HandshakeFault::SwapsGreetings), "auth-hmac"),
    ("an upper case token", Handshake(HandshakeFault::ShoutsToken), "auth-form"),
    ("hashes without TLS", Handshake(HandshakeFault::TakesTlsMethods), "refuse-tls-token"),
    ("anybody without TLS", Handshake(HandshakeFault::TakesTlsMethods), "refuse-anon"),
    ("the secret in clear", Handshake(HandshakeFault::SendsCleartext), "auth-never-clear"),
    ("tokens not compared", Handshake(HandshakeFault::BelievesTokens), "refuse-secret"),
    ("beginnings of tokens", Handshake(HandshakeFault::BelievesBeginnings), "refuse-cut"),
    ("methods not listed", Handshake(HandshakeFault::TakesUnlisted), "refuse-unlisted"),
    ("an offer ignored", Handshake(HandshakeFault::IgnoresBound), "bound-server"),
    ("any offer taken", Handshake(HandshakeFault::TakesAnyBound), "bound-unknown"),
    ("swapped roles by the secret", Handshake(HandshakeFault::SwapsTlsRoles), "bound-client"),
    ("TLS 1.2 by the secret", Handshake(HandshakeFault::TakesOldTls), "bound-tls-12"),
    ("the other role in a bound token", Handshake(HandshakeFault::NamesWrongRole), "bound-token"),
    ("bound tokens not compared", Handshake(HandshakeFault::BelievesTokens), "bound-other-session"),
    ("other methods, bound", Handshake(HandshakeFault::TakesAnyMethodBound), "bound-hmac"),
    ("bound tokens anywhere", Handshake(HandshakeFault::TakesBoundAnywhere), "bound-elsewhere"),
    ("data connections as nodes", Handshake(HandshakeFault::TakesAnyProtocol), "data-unexpected"),
    ("packets in one read", Handshake(HandshakeFault::WantsWholePackets), "cut-cbor"),
    ("keepalives as errors", Packets(dies_of_keepalives), "keepalive"),
    ("numbers as errors", Packets(dies_of_numbers), "port-number"),
    ("garbage ignored", Handshake(HandshakeFault::NeverCloses), "bad-json-object"),
    ("octets encoded twice", Packets(encoded_twice), "strings-cbor"),
    (
        "names as text not read",
        Misreads(|_, octets| has(octets, b"\x60\x63snd")),
        "cbor-text-names",
    ),
    ("rounded floats", Packets(rounded), "numbers-cbor"),
    ("surrogates not read", Misreads(|_, octets| has(octets, b"\xed\xa0\x80")), "cbor-surrogates"),
    ("a hundred levels", Misreads(|_, octets| has(octets, &[0x81; 100])), "deep-cbor"),
    ("short packets", Misreads(|_, octets| octets.len() > 100_000), "large-json"),
    ("escapes not read", Misreads(|_, octets| has(octets, b"\\u")), "json-escapes"),
    (
        "white space not read",
        Misreads(|framing, octets| framing == Framing::Json && octets.starts_with(b" ")),
        "json-space",
    ),
    (
        "indefinite lengths not read",
        Misreads(|_, octets| has(octets, b"\x9f\x01\x02\xff")),
        "cbor-indefinite",
    ),
    ("tag 256 not read", Misreads(|_, octets| has(octets, b"\xd9\x01\x00")), "cbor-stringrefs"),
    ("unknown tags not read", Misreads(|_, octets| has(octets, b"\xd9\x03\xe8")), "cbor-tags"),
    ("tags left out by the relay", Packets(untagged), "cbor-tags-kept"),
    ("tags left out by the database", Packets(untagged), "g-tags-kept"),
    (
        "opcode 24 not read",
        Misreads(|_, octets| has(octets, b"\x18\x00\x00\x00\x03\xe2")),
        "storable-strings",
    ),
    (
        "opcode 9 not read",
        Misreads(|_, octets| has(octets, b"\x09\xff\xff\xff\xff")),
        "storable-numbers",
    ),
    (
        "opcode 14 not read",
        Misreads(|_, octets| has(octets, b"\x02\x00\x00\x00\x02\x05\x0e")),
        "storable-undef",
    ),
    ("opcode 25 not read", Misreads(|_, octets| has(octets, b"\x04\x19")), "storable-hashes"),
    (
        "opcode 0 not read",
        Misreads(|_, octets| has(octets, b"\x00\x00\x00\x00\x06")),
        "storable-refs",
    ),
    (
        "values that contain themselves not read",
        Misreads(|_, octets| has(octets, b"\x08\x81\x04\x00\x00\x00\x00\x05")),
        "storable-cycles",
    ),
    ("reordered answers", Packets(reordered), "order-requests"),
    ("lost reply elements", Messages("many", without_an_element), "reply-prepends"),
    (
        "bad requests as errors",
        Requests(In, "mon1", |packet| match packet.len() {
            2 => closes(packet),
            _ => vec![packet],
        }),
        "odd-mon",
    ),
    ("monitors answered", Packets(answers_monitors), "mon-alive"),
    ("a lost mon0", Requests(In, "mon0", lost), "mon0"),
    ("mon0 for everybody", Packets(mon0_for_all), "mon0-others"),
    ("a lost reason of others", Requests(In, "kil0", shortened::<3>), "monitors-fire"),
    ("a lost reason", Requests(Out, "kil0", shortened::<3>), "kil1-reason"),
    (
        "a reason for normal ends",
        Requests(Out, "kil0", |mut packet| {
            if packet.len() == 3 {
                packet.push(Value::Str(Str::text("normal")));
            }
            vec![packet]
        }),
        "kil1-normal",
    ),
    ("a lost kil0", Requests(Out, "kil0", lost), "mon-unknown"),
    ("kil0 twice", Requests(Out, "kil0", twice), "mon-unknown-once"),
    ("a mon1 for each", Requests(Out, "mon1", twice), "monitors-once"),
    ("mon0 not sent", Requests(Out, "mon0", lost), "monitors-last"),
    ("a lost node not told", Messages("fired", lost), "monitors-node"),
    (
        "a node port that dies",
        Requests(In, "kil1", |packet| match is(&packet, 2, "") {
            true => closes(packet),
            false => vec![packet],
        }),
        "kil1-node-port",
    ),
    ("unknown ports answered", Packets(answers_for_unknown_ports), "port-unknown"),
    ("death by unknown tags", Packets(dies_of_unknown_tags), "port-tag-unknown"),
    (
        "a reason of its own",
        Requests(Out, "kil0", |packet| with::<3>(packet, |reason| *reason = Value::Bool(true))),
        "mon-die",
    ),
    ("a lost connection not told", Messages("fired", lost), "monitors-loss"),
    ("reordered packets", Packets(reordered), "order-many"),
    ("undef as empty string", Packets(undef_as_text), "snd-echo"),
    ("booleans for Perl's truth", Messages("can", real_boolean), "can-form"),
    ("silence for eval", Requests(In, "eval", lost), "eval-error"),
    ("milliseconds", Messages("time", milliseconds), "time"),
    ("devnull as an error", Requests(In, "devnull", closes), "devnull"),
    (
        "unknown functions as errors",
        Requests(In, "Conform::Nothing::here", closes),
        "request-unknown",
    ),
    ("eval without results", Messages("eval", shortened::<2>), "eval-node"),
    (
        "arguments of spawns lost",
        Requests(In, "AnyEvent::MP::_spawn", |mut packet| {
            packet.pop();
            vec![packet]
        }),
        "spawn",
    ),
    ("failed spawns not told", Requests(Out, "kil0", lost), "spawn-unknown"),
    (
        "spawns onto the node port as errors",
        Requests(In, "AnyEvent::MP::_spawn", |packet| match is(&packet, 2, "") {
            true => closes(packet),
            false => vec![packet],
        }),
        "spawn-node-port",
    ),
    ("log ports not monitored", Requests(Out, "mon1", lost), "log-monitors"),
    ("ports of lost streams kept", Requests(Out, "kil1", lost), "data-timeout"),
    ("g_global not said", Requests(Out, "g_global", lost), "g-global"),
    ("nobody dialled", Requests(In, "snd", lost), "mesh-demand"),
    ("a short queue", Packets(short_queue), "mesh-queue"),
    ("endless searches", Messages("fired", lost), "mesh-nowhere"),
    ("only the first address", Requests(In, "g_slave", one_address), "mesh-second"),
    ("the wrong node's address", Requests(In, "g_slave", one_address), "mesh-other-id"),
    ("dead connections kept", Handshake(HandshakeFault::NeverCloses), "mesh-dead"),
    ("values without undef", Packets(undef_as_text), "g-values-kept"),
    (
        "no answer for the unknown",
        Requests(Out, "g_found", |packet| unless(packet, |all| all[3].is_undef())),
        "g-find-unknown",
    ),
    ("families not answered", Requests(In, "g_db_family", lost), "g-family"),
    ("keys not answered", Requests(In, "g_db_keys", lost), "g-keys"),
    ("values not answered", Requests(In, "g_db_values", lost), "g-values"),
    ("single keys not answered", Requests(In, "g_get", lost), "g-get"),
    ("changes not told", Requests(Out, "g_chg2", lost), "g-chg2-set"),
    ("subscriptions for ever", Requests(In, "g_mon0", lost), "g-mon0"),
    (
        "empty IDs not answered",
        Requests(Out, "g_reply", |packet| unless(packet, |all| is(all, 2, ""))),
        "g-reply-id",
    ),
    (
        "undef for nothing",
        Requests(Out, "g_reply", |packet| {
            with::<3>(packet, |answer| {
                if answer.as_hash().is_some_and(|hash| hash.is_empty()) {
                    *answer = Value::Undef;
                }
            })
        }),
        "g-family-unknown",
    ),
    ("databases of slaves ignored", Requests(In, "g_slave", shortened::<2>), "g-slave-db"),
    ("pieces instead of databases", Requests(In, "g_upd", as_g_slave), "g-slave-pieces"),
    ("a g_set for each piece", Requests(Out, "g_upd", as_g_set), "g-set-pieces"),
    (
        "itself forgotten",
        Requests(Out, "g_set", |packet| without_family(packet, "'g")),
        "g-set-itself",
    ),
    ("others' entries in g_set", Packets(repeats_others), "g-set-own"),
    ("g_set ignored", Requests(In, "g_set", lost), "g-set-merge"),
    ("lost globals not dialled", Packets(drops_lost_globals), "mesh-global-again"),
    ("strangers' entries passed on", Packets(passes_strangers_on), "g-stranger-untold"),
    ("lost globals kept", Packets(keeps_lost_globals), "g-global-down-g"),
    ("subscriptions of new globals ended", Packets(ends_subscriptions_of_globals), "g-turns-keeps"),
    ("the first writer", Packets(first_writer_wins), "g-last-writer"),
    ("owners forgotten", Packets(forgets_owners), "g-other-owner"),
    ("owners at other globals forgotten", Packets(forgets_owners), "g-global-has"),
    ("numbers unlike their strings", Packets(typed_values), "g-equal-number"),
    ("globals not told", Requests(Out, "g_upd", lost), "g-tells"),
    ("globals told their own", Packets(echoes_updates), "g-tells-no-echo"),
    ("changes of globals not told", Requests(Out, "g_chg2", lost), "g-hears"),
    ("sets after deletions", Requests(In, "g_upd", sets_after_deletions), "g-chg2-both"),
    ("short changes", Requests(Out, "g_chg2", without_empty_end), "g-chg2-form"),
    ("equal values kept back", Packets(keeps_equal_values_back), "g-chg2-equal"),
    ("one subscription answered", Packets(answers_one_subscription), "g-mon1-twice"),
    ("healers not answered", Messages("eval", shortened::<2>), "eval-healers"),
];

/// Faults of a node with a certificate that is dialled, each with the check that has to find it.
pub const TLS_FAULTS: &[(&str, Fault, &str)] = &[
    ("TLS not offered", Handshake(HandshakeFault::HidesTls), "greet-tls-key"),
    ("no certificate shown", Handshake(HandshakeFault::PresentsNothing), "tls-client-presents"),
    ("any certificate", Handshake(HandshakeFault::TrustsAnybody), "tls-stranger"),
    ("swapped roles in TLS", Handshake(HandshakeFault::SwapsTlsRoles), "tls-server"),
    ("TLS 1.2 only", Handshake(HandshakeFault::KnowsOldTls), "tls-13"),
];

/// Faults of a node that dials, each with the check that has to find it.
pub const DIALLING_FAULTS: &[(&str, Fault, &str)] = &[
    ("lost seeds forgotten", Handshake(HandshakeFault::DialsOnce), "seed-other-again"),
    ("lost masters forgotten", Handshake(HandshakeFault::DialsOnce), "seed-late"),
    (
        "g_slave not said",
        Requests(Out, "g_slave", |packet| unless(packet, |all| all.len() == 2)),
        "join",
    ),
    ("g_global not said when asked", Requests(Out, "g_global", lost), "join-global"),
    ("no search", Requests(Out, "g_find", lost), "slave-find"),
    (
        "its addresses not told",
        Requests(Out, "g_slave", |packet| without_family(packet, "'l")),
        "join-address",
    ),
    (
        "no master chosen",
        Requests(Out, "g_slave", |packet| unless(packet, |all| all.len() > 2)),
        "join-master",
    ),
    (
        "no database for a second master",
        Requests(Out, "g_slave", one_database),
        "seed-master-again",
    ),
    ("pieces as databases", Requests(Out, "g_upd", as_g_slave), "slave-pieces"),
    ("a subscription before the last piece", Packets(subscribes_early), "slave-pieces-first"),
    ("no second search", Requests(Out, "g_find", one_search), "failover-find"),
    ("many masters", Requests(Out, "g_slave", has_many_masters), "join-one-master"),
    ("no change told", Requests(Out, "g_upd", lost), "slave-set"),
    ("the last monitor kept", Requests(Out, "g_mon0", lost), "slave-mon0"),
    ("equal values told", Requests(Out, "g_upd", twice), "slave-set-again"),
    ("a subscription for each monitor", Requests(Out, "g_mon1", twice), "slave-mon-once"),
    ("changes of anybody", Packets(believes_anybody), "slave-chg-stranger"),
    ("the new master not heard", Requests(In, "g_chg1", one_content), "failover-changes"),
];
