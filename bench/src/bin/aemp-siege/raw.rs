//! Octets that a member sends behind its packets, and that are hard to decode: references that expand,
//! lengths that are only announced, nesting, half a packet, garbage.

use aemp::wire::framing::Framing;

/// Octets of about `size` that a node has to decode, in the framing of the connection. `choice` selects
/// the kind. Most of them end the connection.
pub(super) fn octets(framing: Framing, choice: u64, size: usize) -> Vec<u8> {
    match framing {
        Framing::Cbor => cbor(choice, size),
        Framing::Json => json(choice, size),
        Framing::Storable => storable(choice, size),
    }
}

/// The head of a CBOR item with a count of 32 bits.
fn head(major: u8, count: usize) -> Vec<u8> {
    let mut head = vec![major << 5 | 26];
    head.extend_from_slice(&(count as u32).to_be_bytes());
    head
}

/// An array of two elements, of which the first is the node port's name, and the head of the second.
fn cbor(choice: u64, size: usize) -> Vec<u8> {
    let mut out = vec![0x82, 0x40];
    match choice % 6 {
        // Values that may be referred to.
        0 => {
            out.extend(head(4, size / 3));
            out.extend([0xd8, 0x1c, 0xf6].repeat(size / 3));
        }
        // A table of strings, and references to its first, which is large.
        1 => {
            out.extend([0xd9, 0x01, 0x00]);
            out.extend(head(4, 1 + size / 6));
            out.extend(head(2, size / 2));
            out.extend(vec![b'y'; size / 2]);
            out.extend([0xd8, 0x19, 0x00].repeat(size / 6));
        }
        // A table of many small strings.
        2 => {
            out.extend([0xd9, 0x01, 0x00]);
            out.extend(head(4, size / 4));
            out.extend([0x43, b'a', b'b', b'c'].repeat(size / 4));
        }
        3 => out.extend([0x81].repeat(size)),
        // A length that is only announced.
        4 => out.extend([0x5a, 0xff, 0xff, 0xff, 0xff]),
        _ => out.extend([0x80].repeat(size)),
    }
    out
}

fn json(choice: u64, size: usize) -> Vec<u8> {
    let mut out = b"[\"\",[".to_vec();
    match choice % 4 {
        0 => out.extend(b"[],".repeat(size / 3)),
        1 => out.extend(b"[".repeat(size)),
        2 => out.extend(b"\\u001b".repeat(size / 6)),
        _ => out.extend(br#"{"a":"#.repeat(size / 5)),
    }
    out
}

fn storable(choice: u64, size: usize) -> Vec<u8> {
    let mut image = vec![5, 11, 2];
    match choice % 4 {
        // Many values, one of which occurs again.
        0 => {
            image.extend(((size + 2) as u32).to_be_bytes());
            image.extend([10, 0]);
            image.extend(vec![5; size]);
            image.extend([0, 0, 0, 0, 1]);
        }
        // An array that is referred to by its own elements.
        1 => {
            image.extend(2_u32.to_be_bytes());
            image.extend([10, 0, 4, 2]);
            image.extend(((size / 5) as u32).to_be_bytes());
            image.extend([0, 0, 0, 0, 3].repeat(size / 5));
        }
        2 => {
            image.extend(2_u32.to_be_bytes());
            image.extend([10, 0]);
            image.extend([4, 2, 0, 0, 0, 1].repeat(size / 6));
        }
        // A count that is only announced.
        _ => image.extend([0xff; 4]),
    }
    let mut out = Vec::new();
    let len = image.len();
    for shift in [28, 21, 14, 7] {
        if len >> shift > 0 {
            out.push((len >> shift) as u8 | 0x80);
        }
    }
    out.push((len & 0x7f) as u8);
    out.extend(image);
    out
}
