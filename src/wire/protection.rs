//! The protection of a connection, which follows from both greetings alone.

use super::greeting::{BoundOffer, Greeting};

/// The protection of everything after the greetings of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// Encrypted, in TLS with certificates that both sides verify.
    Certificates,
    /// Encrypted, in TLS that only the secret ties to the two nodes: each proves that it knows the
    /// secret *and* is an end of this TLS session (`docs/protocol.md` §1.8).
    Bound,
    /// Not encrypted.
    Plain(WhyPlain),
}

/// Why a connection is not encrypted, from the point of view of one of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhyPlain {
    /// Both ends have loopback addresses, and neither requires encryption there.
    Local,
    /// This node offers nothing that the peer supports: it has no secret, or encryption is off.
    NotOffered,
    /// The peer is a Perl node, which needs a certificate, as this node does.
    Perl,
    /// The peer offers nothing that this node supports.
    NotOfferedByPeer,
}

impl Protection {
    /// The protection that follows from these greetings for the node with the greeting `own`. Both nodes
    /// come to the same result, except for the reason in [`Protection::Plain`].
    #[must_use]
    pub fn of(own: &Greeting, peer: &Greeting) -> Protection {
        if own.offers_tls() && peer.offers_tls() {
            return Protection::Certificates;
        }
        match (own.bound(), peer.bound()) {
            (Some(BoundOffer::Local), Some(BoundOffer::Local)) => {
                Protection::Plain(WhyPlain::Local)
            }
            (Some(_), Some(_)) => Protection::Bound,
            (None, _) if !own.offers_tls() => Protection::Plain(WhyPlain::NotOffered),
            _ if peer.is_from_perl() => Protection::Plain(WhyPlain::Perl),
            _ => Protection::Plain(WhyPlain::NotOfferedByPeer),
        }
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        !matches!(self, Protection::Plain(_))
    }

    /// One word for the protection: `certificates`, `bound` or `plain`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Protection::Certificates => "certificates",
            Protection::Bound => "bound",
            Protection::Plain(_) => "plain",
        }
    }

    /// Why the connection is not encrypted; `None` if it is.
    #[must_use]
    pub const fn why_plain(self) -> Option<WhyPlain> {
        match self {
            Protection::Plain(why) => Some(why),
            Protection::Certificates | Protection::Bound => None,
        }
    }
}

impl WhyPlain {
    /// The reason, for logs and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WhyPlain::Local => "both ends are on loopback",
            WhyPlain::NotOffered => "this node does not offer encryption",
            WhyPlain::Perl => "peer is a Perl node, and not both have a certificate",
            WhyPlain::NotOfferedByPeer => "peer does not offer encryption",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(keys: &str) -> Greeting {
        Greeting::parse(format!("aemp;1;x;hmac_sha3_512;json;{keys}").as_bytes()).unwrap()
    }

    const ALL: [&str; 6] =
        ["", "tls=1.0", "bound=1", "bound=local", "tls=1.0;bound=1", "tls=1.0;bound=local"];

    #[test]
    fn both_ends_come_to_the_same_conclusion() {
        for (own, peer) in ALL.iter().flat_map(|own| ALL.iter().map(move |peer| (own, peer))) {
            let (own, peer) = (said(own), said(peer));
            let (here, there) = (Protection::of(&own, &peer), Protection::of(&peer, &own));
            assert_eq!(here.name(), there.name());
        }
    }

    #[test]
    fn certificates_come_before_the_secret_and_only_two_loopback_ends_do_without() {
        for (own, peer, expected) in [
            ("tls=1.0;bound=1", "tls=1.0;bound=1", "certificates"),
            ("tls=1.0;bound=local", "tls=1.0;bound=local", "certificates"),
            ("tls=1.0;bound=1", "bound=1", "bound"),
            ("bound=1", "bound=1", "bound"),
            ("bound=local", "bound=1", "bound"),
            ("bound=local", "bound=local", "plain"),
            ("bound=1", "", "plain"),
            ("tls=1.0", "bound=1", "plain"),
            ("bound=2", "bound=1", "plain"),
            ("bound", "bound=1", "plain"),
        ] {
            assert_eq!(Protection::of(&said(own), &said(peer)).name(), expected, "{own} {peer}");
        }
    }

    #[test]
    fn what_keeps_a_connection_plain_is_named() {
        use WhyPlain::{Local, NotOffered, NotOfferedByPeer, Perl};
        for (own, peer, expected) in [
            ("bound=local", "bound=local", Local),
            ("", "bound=1", NotOffered),
            ("", "tls=1.0", NotOffered),
            ("tls=1.0", "bound=1", NotOfferedByPeer),
            ("bound=1", "provider=aemp-0.1.0", NotOfferedByPeer),
            ("bound=1", "provider=AE-2.02", Perl),
            ("bound=1", "tls=1.0;provider=AE-2.02", Perl),
            ("tls=1.0", "provider=AE-2.02", Perl),
        ] {
            let protection = Protection::of(&said(own), &said(peer));
            assert_eq!(protection.why_plain(), Some(expected), "{own} {peer}");
        }
    }
}
