//! Perl's own encoders and digests, in a process that answers one request per line.

use crate::neutral::{Neutral, hex, unhex};
use crate::perl;
use crate::process::{Process, Stream};
use aemp::wire::framing::Framing;

/// The modules that it needs.
pub const MODULES: &[&str] =
    &["CBOR::XS", "Digest::HMAC", "Digest::SHA3", "JSON::XS", "Storable", "Types::Serialiser"];

/// The running co-process.
#[derive(Debug)]
pub struct PerlCodec {
    process: Process,
    lines_read: usize,
}

impl PerlCodec {
    /// Starts it, or says why the test is skipped.
    pub fn start() -> Option<PerlCodec> {
        perl::has(MODULES).then(|| PerlCodec {
            process: perl::start("Perl's encoders", "codec.pl", &[], &[]),
            lines_read: 0,
        })
    }

    /// A packet as Perl encodes it.
    ///
    /// # Errors
    /// Perl's error text.
    pub fn encode(&mut self, framing: Framing, packet: &Neutral) -> Result<Vec<u8>, String> {
        Ok(unhex(&self.ask(&format!("encode {framing} {packet}"))?))
    }

    /// The packets that Perl decodes from octets.
    ///
    /// # Errors
    /// Perl's error text.
    pub fn decode(&mut self, framing: Framing, octets: &[u8]) -> Result<Vec<Neutral>, String> {
        let answer = self.ask(&format!("decode {framing} {}", or_dash(octets)))?;
        Ok(Neutral::parse_line(&answer))
    }

    /// HMAC-SHA3-512 in hex.
    pub fn hmac(&mut self, key: &[u8], data: &[u8]) -> String {
        let request = format!("hmac_sha3_512 {} {}", or_dash(key), or_dash(data));
        self.ask(&request).unwrap()
    }

    /// SHA3-512 in hex.
    pub fn sha3(&mut self, data: &[u8]) -> String {
        self.ask(&format!("sha3_512 {}", or_dash(data))).unwrap()
    }

    fn ask(&mut self, request: &str) -> Result<String, String> {
        self.process.send_line(request);
        let lines_read = &mut self.lines_read;
        let answer = self.process.wait_for("an answer", |lines| {
            let new = lines.iter().skip(*lines_read);
            let (at, line) = new.enumerate().find(|(_, line)| line.stream == Stream::Out)?;
            *lines_read += at + 1;
            Some(line.text.clone())
        });
        match answer.split_once(' ') {
            Some(("ok", result)) => Ok(result.to_owned()),
            _ => Err(answer),
        }
    }
}

fn or_dash(octets: &[u8]) -> String {
    if octets.is_empty() { "-".to_owned() } else { hex(octets) }
}
