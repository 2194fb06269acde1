//! Perl's numbers: integers of 64 bits, signed or unsigned, floats, and how they become strings.

use super::string::StrRef;
use super::{packed, tag};
use std::fmt::{self, Write as _};
use std::num::TryFromIntError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Sign {
    /// Below zero.
    Negative(i64),
    NonNegative(u64),
}

/// An integer from -2^63 to 2^64-1, the range of integers in a Perl scalar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Integer(Sign);

impl Integer {
    /// The integer as a type that has the whole range.
    #[inline]
    pub const fn get(self) -> i128 {
        match self.0 {
            Sign::Negative(n) => n as i128,
            Sign::NonNegative(n) => n as i128,
        }
    }

    /// The nearest float; exact up to 2^53.
    #[inline]
    pub const fn to_f64(self) -> f64 {
        match self.0 {
            Sign::Negative(n) => n as f64,
            Sign::NonNegative(n) => n as f64,
        }
    }

    /// Appends the packed form.
    pub(super) fn put(self, out: &mut Vec<u8>) {
        match self.0 {
            Sign::Negative(n) => super::packed::put_int(out, n),
            Sign::NonNegative(n) => super::packed::put_uint(out, n),
        }
    }

    /// The integer as `i64` if possible, otherwise as `u64`, for formats with only these types.
    pub(super) const fn split(self) -> Result<i64, u64> {
        match self.0 {
            Sign::Negative(n) => Ok(n),
            Sign::NonNegative(n) => Err(n),
        }
    }
}

macro_rules! integers {
    ($signed:ty: $($small_signed:ty)*; $unsigned:ty: $($small_unsigned:ty)*) => {
        $(impl From<$small_signed> for Integer {
            #[inline]
            fn from(n: $small_signed) -> Self {
                let n = n as $signed;
                Integer(if n < 0 { Sign::Negative(n) } else { Sign::NonNegative(n as $unsigned) })
            }
        })*
        $(impl From<$small_unsigned> for Integer {
            #[inline]
            fn from(n: $small_unsigned) -> Self {
                Integer(Sign::NonNegative(n as $unsigned))
            }
        })*
        $(integers!(@out $small_signed);)*
        $(integers!(@out $small_unsigned);)*
    };
    (@out $target:ty) => {
        impl TryFrom<Integer> for $target {
            type Error = TryFromIntError;

            fn try_from(n: Integer) -> Result<Self, TryFromIntError> {
                n.get().try_into()
            }
        }
    };
}

integers!(i64: i8 i16 i32 i64 isize; u64: u8 u16 u32 u64 usize);

impl TryFrom<i128> for Integer {
    type Error = TryFromIntError;

    fn try_from(n: i128) -> Result<Self, TryFromIntError> {
        if n < 0 { i64::try_from(n).map(Self::from) } else { u64::try_from(n).map(Self::from) }
    }
}

impl TryFrom<u128> for Integer {
    type Error = TryFromIntError;

    fn try_from(n: u128) -> Result<Self, TryFromIntError> {
        u64::try_from(n).map(Self::from)
    }
}

impl From<Integer> for i128 {
    fn from(n: Integer) -> i128 {
        n.get()
    }
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Sign::Negative(n) => n.fmt(f),
            Sign::NonNegative(n) => n.fmt(f),
        }
    }
}

impl fmt::Debug for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A Perl number: an integer if it fits, otherwise a float.
///
/// [`Display`](fmt::Display) writes it as Perl converts it to a string: floats with up to 15 significant
/// digits (C's `%.15g`), `1e+16`, `Inf`, `-Inf`, `NaN`.
///
/// ```
/// use aemp::value::Number;
///
/// assert_eq!(Number::from(1e16).to_string(), "1e+16");
/// assert_eq!(Number::from(3.0).to_string(), "3");
/// assert_eq!(Number::parse(" 1e3\n".into()), Some(Number::from(1000.0)));
/// assert_eq!(Number::parse("12 monkeys".into()), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// An integer.
    Int(Integer),
    /// A float.
    Float(f64),
}

impl Number {
    /// Parses a string that is a number as a whole; white space around it is ignored.
    ///
    /// Decimal integers and floats, `inf`, `infinity` and `nan` in any case. Integers outside
    /// [`Integer`]'s range become floats. The empty string and strings that only begin with a number are
    /// not numbers (Perl takes them for 0 or for the number at their beginning, with a warning).
    pub fn parse(string: StrRef<'_>) -> Option<Number> {
        if let Some(n) = digits(string.data()) {
            return Some(Number::Int(n.into()));
        }
        let text = numeric_text(string)?;
        if let Ok(n) = text.parse::<u64>() {
            return Some(Number::Int(n.into()));
        }
        if let Ok(n) = text.parse::<i64>() {
            return Some(Number::Int(n.into()));
        }
        text.parse().ok().map(Number::Float)
    }

    /// The number as a float.
    pub const fn to_f64(self) -> f64 {
        match self {
            Number::Int(n) => n.to_f64(),
            Number::Float(x) => x,
        }
    }

    /// The number as an integer, if it is one (`3.0` is).
    pub fn to_integer(self) -> Option<Integer> {
        match self {
            Number::Int(n) => Some(n),
            Number::Float(x) => integral(x).and_then(|n| n.try_into().ok()),
        }
    }
}

impl<N: Into<Integer>> From<N> for Number {
    fn from(n: N) -> Self {
        Number::Int(n.into())
    }
}

impl From<f64> for Number {
    fn from(x: f64) -> Self {
        Number::Float(x)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Number::Int(n) => fmt::Display::fmt(&n, f),
            Number::Float(x) => write_float(f, x),
        }
    }
}

/// Appends an integer, as a big integer (tag 2 or 3) if it does not fit into 64 bits.
pub(super) fn put_i128(out: &mut Vec<u8>, n: i128) {
    match Integer::try_from(n) {
        Ok(n) => n.put(out),
        Err(_) if n < 0 => put_big(out, tag::NEGATIVE_BIGNUM, !n as u128),
        Err(_) => put_big(out, tag::BIGNUM, n as u128),
    }
}

/// As [`put_i128`].
pub(super) fn put_u128(out: &mut Vec<u8>, n: u128) {
    match Integer::try_from(n) {
        Ok(n) => n.put(out),
        Err(_) => put_big(out, tag::BIGNUM, n),
    }
}

fn put_big(out: &mut Vec<u8>, tag: u64, magnitude: u128) {
    let octets = magnitude.to_be_bytes();
    let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
    packed::put_tag(out, tag);
    packed::put_octets(out, octets.get(zeros..).unwrap_or_default());
}

/// The characters of a string that may be a number, without surrounding white space.
pub(super) fn numeric_text(string: StrRef<'_>) -> Option<&str> {
    // A number is ASCII, in either form of storage.
    let text = std::str::from_utf8(string.data()).ok()?;
    Some(text.trim_matches(|c: char| matches!(c, ' ' | '\t'..='\r')))
}

/// Parses a string of up to 19 decimal digits, the most frequent form of a number in a string.
#[inline]
pub(super) fn digits(data: &[u8]) -> Option<u64> {
    if data.is_empty() || data.len() > 19 {
        return None;
    }
    data.iter().try_fold(0, |sum, octet| {
        let digit = octet.wrapping_sub(b'0');
        (digit < 10).then(|| sum * 10 + u64::from(digit))
    })
}

/// Converts a float to an integer, if it has no fraction and is in the range of the integer types.
pub(super) fn integral(x: f64) -> Option<i128> {
    (x.fract() == 0.0 && x.abs() < i128::MAX as f64).then_some(x as i128)
}

/// The number of significant digits that Perl shows of a float.
const DIGITS: i32 = 15;

fn write_float(f: &mut fmt::Formatter<'_>, x: f64) -> fmt::Result {
    if x.is_nan() {
        return f.write_str("NaN");
    }
    if x.is_infinite() {
        return f.write_str(if x < 0.0 { "-Inf" } else { "Inf" });
    }
    if let Some(n) = integral(x).filter(|n| n.abs() < 10_i128.pow(DIGITS as u32)) {
        return write!(f, "{n}");
    }
    let scientific = format!("{x:.*e}", DIGITS as usize - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if mantissa.starts_with('-') {
        f.write_char('-')?;
    }
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    if !(-4..DIGITS).contains(&exponent) {
        let (first, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
        f.write_str(first)?;
        write_fraction(f, rest)?;
        let sign = if exponent < 0 { '-' } else { '+' };
        return write!(f, "e{sign}{:02}", exponent.abs());
    }
    if exponent < 0 {
        f.write_str("0.")?;
        for _ in exponent + 1..0 {
            f.write_char('0')?;
        }
        return f.write_str(digits);
    }
    let point = exponent as usize + 1;
    match digits.split_at_checked(point) {
        Some((whole, rest)) => {
            f.write_str(whole)?;
            write_fraction(f, rest)
        }
        None => write!(f, "{digits:0<point$}"),
    }
}

fn write_fraction(f: &mut fmt::Formatter<'_>, digits: &str) -> fmt::Result {
    if digits.is_empty() {
        return Ok(());
    }
    f.write_char('.')?;
    f.write_str(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_look_as_in_perl() {
        for (x, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (3.0, "3"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (0.1 + 0.2, "0.3"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (1e16, "1e+16"),
            (1.25e16, "1.25e+16"),
            (-1e300, "-1e+300"),
            (0.0001, "0.0001"),
            (0.00012, "0.00012"),
            (0.00001, "1e-05"),
            (1.5e-5, "1.5e-05"),
            (5e-324, "4.94065645841247e-324"),
            (999_999_999_999_999.9, "1e+15"),
            (123_456.75, "123456.75"),
            (99_999_999_999_999.96, "100000000000000"),
            (f64::INFINITY, "Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(Number::Float(x).to_string(), text);
        }
    }

    #[test]
    fn whole_strings_become_numbers() {
        let parse = |text: &'static str| Number::parse(text.into());
        for (text, number) in [
            ("42", Number::from(42)),
            (" 42", Number::from(42)),
            ("\u{b}42\t\r\n", Number::from(42)),
            ("+7", Number::from(7)),
            ("-7", Number::from(-7)),
            ("18446744073709551615", Number::from(u64::MAX)),
            ("-9223372036854775808", Number::from(i64::MIN)),
            ("18446744073709551616", Number::from(18_446_744_073_709_551_616.0)),
            ("1e3", Number::from(1000.0)),
            (".5", Number::from(0.5)),
            ("5.", Number::from(5.0)),
            ("inf", Number::from(f64::INFINITY)),
            ("-Infinity", Number::from(f64::NEG_INFINITY)),
        ] {
            assert_eq!(parse(text), Some(number), "{text:?}");
        }
        assert!(parse("NaN").is_some_and(|n| n.to_f64().is_nan()));
        for text in ["", " ", "abc", "1x", "0x10", "1_000", ".", "e5", "--1", "é"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(Number::parse(StrRef::octets(b"\xe9")), None);
    }

    #[test]
    fn integers_hold_perls_range() {
        assert_eq!(Integer::from(i64::MIN).get(), -(1 << 63));
        assert_eq!(Integer::from(u64::MAX).get(), (1 << 64) - 1);
        assert_eq!(Integer::try_from(-5_i128), Ok(Integer::from(-5)));
        assert_eq!(Integer::try_from(5_u128), Ok(Integer::from(5_u8)));
        assert!(Integer::try_from(1_i128 << 64).is_err());
        assert!(Integer::try_from(-(1_i128 << 63) - 1).is_err());
        assert!(Integer::try_from(u128::MAX).is_err());
        assert_eq!(u8::try_from(Integer::from(255)), Ok(255));
        assert!(u8::try_from(Integer::from(-1)).is_err());
        assert_eq!(i128::from(Integer::from(-1)), -1);
        assert!(Integer::from(-3) < Integer::from(-2));
        assert!(Integer::from(-1) < Integer::from(0));
        assert_eq!(Integer::from(-1).to_f64(), -1.0);
        assert_eq!(format!("{} {:?}", Integer::from(-1), Integer::from(1)), "-1 1");
    }

    #[test]
    fn floats_without_fraction_are_integers() {
        assert_eq!(Number::from(3.0).to_integer(), Some(3.into()));
        assert_eq!(Number::from(3).to_integer(), Some(3.into()));
        for x in [3.5, 1e20, 1e300, f64::NAN, f64::INFINITY] {
            assert_eq!(Number::from(x).to_integer(), None, "{x}");
        }
        assert_eq!(Number::from(-3).to_f64(), -3.0);
    }
}
