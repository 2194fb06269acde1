//! A member that offers a database which is larger than a packet may be, and than a node keeps.

use super::figures::Sent;
use super::member::{connect, send};
use aemp::value::packed;
use aemp::wire::framing::Framing;
use anyhow::Result;
use std::net::TcpStream;
use std::ops::Range;

/// What the member offers: updates of one of 20 families, each with 16 values of 64 KiB.
const UPDATES: usize = 320;
const FAMILIES: usize = 20;
const VALUES: usize = 16;
const VALUE_SIZE: usize = 64 << 10;

/// Sends some of the updates, as a slave or as a global node. The connection is still open then.
pub(super) fn offer(address: &str, seed: u64, updates: Range<usize>) -> Result<(Sent, TcpStream)> {
    let mut stream = connect(address, "member", Framing::Cbor)?;
    let mut sent = Sent::default();
    let is_global = seed.is_multiple_of(2);
    let names: &[&str] = if is_global { &["g_global", "g_set"] } else { &["g_slave"] };
    for name in names {
        let mut request = Vec::new();
        packed::put_text(&mut request, name);
        packed::put_hash(&mut request, 0);
        sent.octets += send(&mut stream, Framing::Cbor, 2, &request)?;
    }
    let value = "v".repeat(VALUE_SIZE);
    for number in updates.start..updates.end.min(UPDATES) {
        let mut request = Vec::new();
        packed::put_text(&mut request, "g_upd");
        packed::put_text(&mut request, &format!("family {}", number % FAMILIES));
        packed::put_hash(&mut request, VALUES);
        for key in 0..VALUES {
            packed::put_text(&mut request, &format!("{number} {key}"));
            packed::put_text(&mut request, &value);
        }
        sent.octets += send(&mut stream, Framing::Cbor, 3, &request)?;
        sent.packets = number + 1;
    }
    Ok((sent, stream))
}
