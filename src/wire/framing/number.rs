//! Conversion of numbers to Perl's strings, without allocation.

use crate::value::{Number, StrRef};
use std::fmt;
use std::io::Write;

/// The digits of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NumberText {
    octets: [u8; 32],
    len: u8,
}

impl NumberText {
    const EMPTY: NumberText = NumberText { octets: [0; 32], len: 0 };

    /// The digits as octets.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.octets.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The digits as a Perl string.
    pub(crate) fn as_str(&self) -> StrRef<'_> {
        StrRef::octets(self.as_bytes())
    }

    fn push(&mut self, octets: &[u8]) {
        let start = usize::from(self.len);
        let slot = self.octets.get_mut(start..start + octets.len());
        if let Some(slot) = slot {
            slot.copy_from_slice(octets);
            self.len += octets.len() as u8;
        }
    }
}

/// The decimal digits of a non-negative integer.
pub(crate) fn uint_text(value: u64) -> NumberText {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        at -= 1;
        if rest == 0 {
            break;
        }
    }
    let mut text = NumberText::EMPTY;
    text.push(digits.get(at..).unwrap_or_default());
    text
}

/// The decimal digits of an integer.
pub(crate) fn int_text(value: i64) -> NumberText {
    let digits = uint_text(value.unsigned_abs());
    if value >= 0 {
        return digits;
    }
    let mut text = NumberText::EMPTY;
    text.push(b"-");
    text.push(digits.as_bytes());
    text
}

impl fmt::Write for NumberText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// A float in the form that Perl uses in the name of a port or as a hash key: with up to 15 digits.
pub(crate) fn float_name(value: f64) -> NumberText {
    let mut text = NumberText::EMPTY;
    // Any float fits in Perl's form.
    let _ = fmt::Write::write_fmt(&mut text, format_args!("{}", Number::Float(value)));
    text
}

/// A float in Perl's form, but with up to 17 digits where Perl stops at 15, so that it can be read back
/// exactly.
pub(crate) fn float_text(value: f64) -> NumberText {
    let mut text = NumberText::EMPTY;
    if value.is_nan() {
        text.push(b"NaN");
        return text;
    }
    if value.is_sign_negative() {
        text.push(b"-");
    }
    if value.is_infinite() {
        text.push(b"Inf");
        return text;
    }
    // The shortest digits that are read back exactly: d.ddde-xx.
    let mut shortest = [0; 32];
    let mut room = &mut shortest[..];
    let _ = write!(room, "{:e}", value.abs());
    let len = 32 - room.len();
    let shortest = shortest.get(..len).unwrap_or_default();
    let mut parts = shortest.splitn(2, |&octet| octet == b'e');
    let mantissa = parts.next().unwrap_or_default();
    let exponent: i32 = parts
        .next()
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .unwrap_or_default();
    let (first, after_point) = match mantissa {
        [first, b'.', after @ ..] => ([*first], after),
        [first, ..] => ([*first], &[][..]),
        [] => ([b'0'], &[][..]),
    };
    match exponent {
        -4..=-1 => {
            text.push(b"0.");
            text.push(b"000".get(..(-1 - exponent) as usize).unwrap_or_default());
            text.push(&first);
            text.push(after_point);
        }
        0..=14 => {
            text.push(&first);
            let whole = exponent as usize;
            if after_point.len() > whole {
                let (before, after) = after_point.split_at(whole);
                text.push(before);
                text.push(b".");
                text.push(after);
            } else {
                text.push(after_point);
                text.push(&b"00000000000000"[..whole - after_point.len()]);
            }
        }
        _ => {
            text.push(&first);
            if !after_point.is_empty() {
                text.push(b".");
                text.push(after_point);
            }
            text.push(if exponent < 0 { b"e-" } else { b"e+" });
            let exponent = u64::from(exponent.unsigned_abs());
            if exponent < 10 {
                text.push(b"0");
            }
            text.push(uint_text(exponent).as_bytes());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_perl_writes_them() {
        for (value, perl) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (-1e300, "-1e+300"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (1e16, "1e+16"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (0.00012, "0.00012"),
            (1.5e-7, "1.5e-07"),
            (1e100, "1e+100"),
            (42.0, "42"),
            (1234.5, "1234.5"),
            (f64::INFINITY, "Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            let text = float_text(value);
            assert_eq!(std::str::from_utf8(text.as_bytes()).unwrap(), perl);
        }
    }

    #[test]
    fn names_have_the_digits_that_perl_shows() {
        assert_eq!(float_name(0.1 + 0.2).as_bytes(), b"0.3");
        assert_eq!(float_name(-f64::MIN_POSITIVE).as_bytes(), b"-2.2250738585072e-308");
        assert_eq!(float_name(1e16).as_bytes(), b"1e+16");
    }

    #[test]
    fn digits_suffice_to_read_the_same_float() {
        for value in [
            0.1 + 0.2,
            1.0 / 3.0,
            f64::MAX,
            f64::MIN_POSITIVE,
            5e-324,
            -123_456_789.123_456_79,
            -1.234_567_890_123_456_7e-200,
        ] {
            let text = float_text(value);
            let again: f64 = std::str::from_utf8(text.as_bytes()).unwrap().parse().unwrap();
            assert_eq!(again.to_bits(), value.to_bits());
        }
    }

    #[test]
    fn integers_are_written_in_decimal() {
        assert_eq!(uint_text(0).as_bytes(), b"0");
        assert_eq!(uint_text(u64::MAX).as_bytes(), b"18446744073709551615");
        assert_eq!(int_text(i64::MIN).as_bytes(), b"-9223372036854775808");
        assert_eq!(int_text(42).as_bytes(), b"42");
        assert_eq!(int_text(-7).as_str(), StrRef::text("-7"));
    }
}
