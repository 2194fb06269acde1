//! The limits that keep a peer from making us buffer or recurse without end.

/// How much of a peer's input the wire layer takes before it gives the connection up.
///
/// The defaults are 4096 octets for each line before authentication (what Perl allows too), 256 MiB
/// for a packet (Perl has no limit) and 512 levels of nesting (Perl's own limit); see
/// `docs/protocol.md` §1 and §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one greeting or authentication line, its line end included.
    pub greeting: usize,
    /// Octets of one packet.
    pub packet: usize,
    /// Levels of arrays and hashes inside each other in one packet.
    pub nesting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { greeting: 4096, packet: 256 * 1024 * 1024, nesting: 512 }
    }
}
