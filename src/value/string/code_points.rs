//! Conversion between generalized UTF-8 and code points of up to 36 bits, including surrogates.

use super::StrKind;

/// The code points of a [`StrRef`](super::StrRef).
#[derive(Debug, Clone)]
pub struct CodePoints<'a> {
    pub(super) kind: StrKind,
    pub(super) rest: &'a [u8],
}

impl Iterator for CodePoints<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (&first, after) = self.rest.split_first()?;
        if self.kind == StrKind::Octets || first < 0x80 {
            self.rest = after;
            return Some(u64::from(first));
        }
        match decode_one(self.rest) {
            Some((point, len)) => {
                self.rest = self.rest.get(len..).unwrap_or_default();
                Some(point)
            }
            None => {
                self.rest = after;
                Some(u64::from(char::REPLACEMENT_CHARACTER))
            }
        }
    }
}

/// Appends `point` in generalized UTF-8 (up to 36 bits in 7 octets, as Perl extends it).
pub(crate) fn push_code_point(out: &mut Vec<u8>, point: u64) {
    let tail = |shift: u32| 0x80 | ((point >> shift) & 0x3f) as u8;
    match point {
        0..=0x7f => out.push(point as u8),
        0x80..=0x7ff => out.extend([0xc0 | (point >> 6) as u8, tail(0)]),
        0x800..=0xffff => out.extend([0xe0 | (point >> 12) as u8, tail(6), tail(0)]),
        0x1_0000..=0x1f_ffff => {
            out.extend([0xf0 | (point >> 18) as u8, tail(12), tail(6), tail(0)]);
        }
        0x20_0000..=0x3ff_ffff => {
            out.extend([0xf8 | (point >> 24) as u8, tail(18), tail(12), tail(6), tail(0)]);
        }
        0x400_0000..=0x7fff_ffff => {
            out.extend([0xfc | (point >> 30) as u8]);
            out.extend([tail(24), tail(18), tail(12), tail(6), tail(0)]);
        }
        _ => {
            out.extend([0xfe, tail(30)]);
            out.extend([tail(24), tail(18), tail(12), tail(6), tail(0)]);
        }
    }
}

/// Whether `data` is generalized UTF-8, with all code points in their shortest form.
pub(crate) fn valid_generalized(data: &[u8]) -> bool {
    if std::str::from_utf8(data).is_ok() {
        return true;
    }
    let mut rest = data;
    while let Some(&first) = rest.first() {
        let len = if first < 0x80 {
            1
        } else {
            match decode_one(rest) {
                Some((_, len)) => len,
                None => return false,
            }
        };
        rest = rest.get(len..).unwrap_or_default();
    }
    true
}

/// The first code point of `data` (which begins with an octet >= 0x80) and its length in octets.
fn decode_one(data: &[u8]) -> Option<(u64, usize)> {
    let first = *data.first()?;
    let (len, bits) = match first {
        0xc0..=0xdf => (2, u64::from(first & 0x1f)),
        0xe0..=0xef => (3, u64::from(first & 0x0f)),
        0xf0..=0xf7 => (4, u64::from(first & 0x07)),
        0xf8..=0xfb => (5, u64::from(first & 0x03)),
        0xfc..=0xfd => (6, u64::from(first & 0x01)),
        0xfe => (7, 0),
        _ => return None,
    };
    let mut point = bits;
    for &octet in data.get(1..len)? {
        if octet & 0xc0 != 0x80 {
            return None;
        }
        point = (point << 6) | u64::from(octet & 0x3f);
    }
    let shortest = match len {
        2 => 0x80,
        3 => 0x800,
        4 => 0x1_0000,
        5 => 0x20_0000,
        6 => 0x400_0000,
        _ => 0x8000_0000,
    };
    (point >= shortest).then_some((point, len))
}
