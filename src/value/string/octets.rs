//! Comparisons of short octet strings without a call.

/// Whether all octets are ASCII; for short strings, which most are, faster than the one in `core`.
#[inline]
pub(crate) fn is_ascii(data: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let word = |octets: &[u8; 8]| u64::from_ne_bytes(*octets);
    match (data.first_chunk::<8>(), data.last_chunk::<8>()) {
        // The two overlap where there are less than 16.
        (Some(first), Some(last)) if data.len() <= 16 => (word(first) | word(last)) & HIGH == 0,
        (Some(_), _) => data.is_ascii(),
        _ => match (data.first_chunk::<4>(), data.last_chunk::<4>()) {
            (Some(first), Some(last)) => {
                (u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last)) & HIGH as u32 == 0
            }
            _ => data.iter().fold(0, |all, octet| all | octet) < 0x80,
        },
    }
}

/// Whether the octets are the same; for short strings, which most are, without a call.
#[inline]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let word = |octets: &[u8; 8]| u64::from_ne_bytes(*octets);
    let half = |octets: &[u8; 4]| u32::from_ne_bytes(*octets);
    match (a.first_chunk(), b.first_chunk(), a.last_chunk(), b.last_chunk()) {
        // The two overlap where there are less than 16.
        (Some(a_first), Some(b_first), Some(a_last), Some(b_last)) if a.len() <= 16 => {
            (word(a_first) ^ word(b_first)) | (word(a_last) ^ word(b_last)) == 0
        }
        (Some(_), ..) => a == b,
        _ => match (a.first_chunk(), b.first_chunk(), a.last_chunk(), b.last_chunk()) {
            (Some(a_first), Some(b_first), Some(a_last), Some(b_last)) => {
                (half(a_first) ^ half(b_first)) | (half(a_last) ^ half(b_last)) == 0
            }
            _ => a.iter().zip(b).all(|(a, b)| a == b),
        },
    }
}
