//! Comparisons of short octet strings without a function call.

/// The first and the last `N` octets, which may overlap; `None` if there are fewer.
#[inline(always)]
fn ends<const N: usize>(octets: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
    Some((octets.first_chunk()?, octets.last_chunk()?))
}

#[inline(always)]
fn words((first, last): (&[u8; 8], &[u8; 8])) -> (u64, u64) {
    (u64::from_ne_bytes(*first), u64::from_ne_bytes(*last))
}

#[inline(always)]
fn halves((first, last): (&[u8; 4], &[u8; 4])) -> (u32, u32) {
    (u32::from_ne_bytes(*first), u32::from_ne_bytes(*last))
}

/// Whether all octets are ASCII. Faster than the one in `core` for short strings, which are most.
#[inline(always)]
pub(crate) fn is_ascii(data: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    if data.len() > 16 {
        return data.is_ascii();
    }
    if let Some((first, last)) = ends(data).map(words) {
        return (first | last) & HIGH == 0;
    }
    if let Some((first, last)) = ends(data).map(halves) {
        return (first | last) & HIGH as u32 == 0;
    }
    match *data {
        [a, b, c] => a | b | c < 0x80,
        [a, b] => a | b < 0x80,
        [a] => a < 0x80,
        _ => true,
    }
}

/// Whether the octets are the same, without a function call for short strings, which are most.
#[inline(always)]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if a.len() > 16 {
        return a == b;
    }
    if let (Some(a), Some(b)) = (ends(a).map(words), ends(b).map(words)) {
        return (a.0 ^ b.0) | (a.1 ^ b.1) == 0;
    }
    if let (Some(a), Some(b)) = (ends(a).map(halves), ends(b).map(halves)) {
        return (a.0 ^ b.0) | (a.1 ^ b.1) == 0;
    }
    match (a, b) {
        ([a, c, e], [b, d, f]) => (a ^ b) | (c ^ d) | (e ^ f) == 0,
        ([a, c], [b, d]) => (a ^ b) | (c ^ d) == 0,
        ([a], [b]) => a == b,
        _ => true,
    }
}
