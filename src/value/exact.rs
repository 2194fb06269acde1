//! Numbers that their tags make exact: big integers, decimal and binary fractions, ratios.

use super::packed::{Item, Malformed, Reader, Token};
use super::string::StrKind;
use super::tag::{BIGNUM, NEGATIVE_BIGNUM};
use std::fmt;

/// `[exponent, mantissa]` to the base of ten.
const DECIMAL: u64 = 4;
/// `[exponent, mantissa]` to the base of two.
const BINARY: u64 = 5;
/// `[numerator, denominator]`.
const RATIO: u64 = 30;
/// As [`DECIMAL`], where the exponent may be a big integer too.
const WIDE_DECIMAL: u64 = 264;
/// As [`BINARY`], where the exponent may be a big integer too.
const WIDE_BINARY: u64 = 265;

/// A number that a tag makes exact, of any size and precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exact<'a> {
    form: Form,
    /// The mantissa, or the numerator.
    first: BigInteger<'a>,
    /// The exponent, or the denominator; 0 for integers.
    second: BigInteger<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    BigInteger,
    Decimal,
    Binary,
    Ratio,
}

/// An integer of any size; if negative, it is `-1 - magnitude`, as in CBOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BigInteger<'a> {
    Small(i128),
    /// No leading zeros.
    Big {
        negative: bool,
        magnitude: &'a [u8],
    },
}

impl<'a> BigInteger<'a> {
    fn big(negative: bool, octets: &'a [u8]) -> Self {
        let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
        let magnitude = octets.get(zeros..).unwrap_or_default();
        if let Some(value) = to_u128(magnitude)
            && let Ok(value) = i128::try_from(value)
        {
            return BigInteger::Small(if negative { !value } else { value });
        }
        BigInteger::Big { negative, magnitude }
    }

    /// The next value, if it is an integer.
    fn read(reader: &mut Reader<'a>) -> Result<Option<Self>, Malformed> {
        Ok(match reader.item()? {
            Item::Token(Token::UInt(n)) => Some(BigInteger::Small(n.into())),
            Item::Token(Token::NInt(n)) => Some(BigInteger::Small(n.into())),
            Item::Tag(tag @ (BIGNUM | NEGATIVE_BIGNUM)) => match reader.item()? {
                Item::Token(Token::Str(octets)) if octets.kind() == StrKind::Octets => {
                    Some(BigInteger::big(tag == NEGATIVE_BIGNUM, octets.data()))
                }
                _ => None,
            },
            _ => None,
        })
    }

    fn to_f64(self) -> f64 {
        match self {
            BigInteger::Small(value) => value as f64,
            BigInteger::Big { negative, magnitude } => {
                // Rounded only once: 16 octets, the last of which is made odd if any octet after it is
                // not 0.
                let (head, rest) = magnitude.split_at_checked(16).unwrap_or((magnitude, &[]));
                let head = head.iter().fold(0_u128, |value, &octet| value << 8 | u128::from(octet));
                let sticky = u128::from(rest.iter().any(|&octet| octet != 0));
                let value = scale((head | sticky) as f64, 8 * rest.len() as i128);
                if negative { -value } else { value }
            }
        }
    }

    fn digits(self) -> Digits {
        let (negative, octets) = match self {
            BigInteger::Small(value) => (value < 0, value.unsigned_abs().to_be_bytes().to_vec()),
            // -1 - n has the magnitude n + 1.
            BigInteger::Big { negative: true, magnitude } => (true, plus_one(magnitude)),
            BigInteger::Big { negative: false, magnitude } => (false, magnitude.to_vec()),
        };
        Digits { negative, octets }
    }
}

fn to_u128(magnitude: &[u8]) -> Option<u128> {
    let fold = |value, &octet: &u8| value << 8 | u128::from(octet);
    (magnitude.len() <= 16).then(|| magnitude.iter().fold(0, fold))
}

/// `x` times 2 to the power of `exponent`.
fn scale(x: f64, exponent: i128) -> f64 {
    let mut left = exponent.clamp(-5000, 5000) as i32;
    let mut x = x;
    while left != 0 && x != 0.0 && x.is_finite() {
        let step = left.clamp(-1000, 1000);
        x *= 2_f64.powi(step);
        left -= step;
    }
    x
}

/// A sign, and a magnitude as octets in big-endian order.
struct Digits {
    negative: bool,
    octets: Vec<u8>,
}

/// Magnitudes of more octets are written in hexadecimal, since decimal takes time quadratic in the
/// length.
const DECIMAL_OCTETS: usize = 128;
/// Binary fractions with exponents in this range are written in decimal.
const LEAST_SHIFT: i128 = -64;
const MAX_SHIFT: i128 = 64;
/// Up to this many decimal places, and up to this many trailing zeros, are written out.
const FIRST_PLACE: i128 = -40;
const ZEROS: i128 = 40;

impl Digits {
    fn is_short(&self) -> bool {
        self.octets.len() <= DECIMAL_OCTETS
    }

    fn times(&mut self, factor: u32) {
        let mut carry = 0_u64;
        for octet in self.octets.iter_mut().rev() {
            carry += u64::from(*octet) * u64::from(factor);
            *octet = carry as u8;
            carry >>= 8;
        }
        let carry = carry.to_be_bytes();
        let zeros = carry.iter().take_while(|&&octet| octet == 0).count();
        self.octets.splice(..0, carry.into_iter().skip(zeros));
    }

    /// The digits without the sign.
    fn decimal(&self) -> String {
        let limb =
            |chunk: &[u8]| chunk.iter().fold(0_u64, |limb, &octet| limb << 8 | u64::from(octet));
        // Limbs of four octets, in little-endian order.
        let mut limbs: Vec<u64> = self.octets.rchunks(4).rev().map(limb).collect();
        let mut groups = Vec::new();
        while limbs.iter().any(|&limb| limb != 0) {
            let mut rest = 0;
            for limb in &mut limbs {
                let value = rest << 32 | *limb;
                *limb = value / 1_000_000_000;
                rest = value % 1_000_000_000;
            }
            groups.push(rest);
        }
        let mut text = groups.pop().unwrap_or_default().to_string();
        for group in groups.iter().rev() {
            text.push_str(&format!("{group:09}"));
        }
        text
    }

    fn hexadecimal(&self) -> String {
        let mut text = String::from("0x");
        for (at, octet) in self.octets.iter().skip_while(|&&octet| octet == 0).enumerate() {
            text.push_str(&if at == 0 { format!("{octet:x}") } else { format!("{octet:02x}") });
        }
        text
    }

    /// Decimal if that is cheap, otherwise hexadecimal.
    fn unsigned(&self) -> String {
        if self.is_short() { self.decimal() } else { self.hexadecimal() }
    }

    fn sign(&self) -> &'static str {
        if self.negative { "-" } else { "" }
    }
}

/// `digits` with a decimal point this many digits from the end.
fn with_point(digits: &str, places: usize) -> String {
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at_checked(digits.len() - places).unwrap_or((&digits, ""));
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

impl<'a> Exact<'a> {
    /// Reads the number with the tag `tag`; if the value is not a number, nothing is read.
    pub(super) fn read(tag: u64, reader: &mut Reader<'a>) -> Result<Option<Self>, Malformed> {
        let form = match tag {
            BIGNUM | NEGATIVE_BIGNUM => Form::BigInteger,
            DECIMAL | WIDE_DECIMAL => Form::Decimal,
            BINARY | WIDE_BINARY => Form::Binary,
            RATIO => Form::Ratio,
            _ => return Ok(None),
        };
        let mut ahead = reader.clone();
        let number = if form == Form::BigInteger {
            match ahead.item()? {
                Item::Token(Token::Str(octets)) if octets.kind() == StrKind::Octets => {
                    let first = BigInteger::big(tag == NEGATIVE_BIGNUM, octets.data());
                    Some((first, BigInteger::Small(0)))
                }
                _ => None,
            }
        } else if ahead.item()? == Item::Token(Token::Array(2)) {
            let pair = (BigInteger::read(&mut ahead)?, BigInteger::read(&mut ahead)?);
            match (form, pair) {
                (Form::Ratio, (Some(first), Some(second))) => Some((first, second)),
                (_, (Some(exponent), Some(mantissa))) => Some((mantissa, exponent)),
                _ => None,
            }
        } else {
            None
        };
        Ok(number.map(|(first, second)| {
            *reader = ahead;
            Exact { form, first, second }
        }))
    }

    /// The number, if it is an integer in the range of this type.
    pub fn to_i128(self) -> Option<i128> {
        let BigInteger::Small(first) = self.first else {
            return None;
        };
        let BigInteger::Small(second) = self.second else {
            return None;
        };
        let base: i128 = match self.form {
            Form::BigInteger => return Some(first),
            Form::Ratio => {
                return (second != 0 && first.checked_rem(second)? == 0)
                    .then(|| first.checked_div(second))
                    .flatten();
            }
            Form::Decimal => 10,
            Form::Binary => 2,
        };
        if first == 0 {
            return Some(0);
        }
        let power = base.checked_pow(u32::try_from(second.unsigned_abs()).ok()?)?;
        if second >= 0 {
            return first.checked_mul(power);
        }
        (first % power == 0).then(|| first / power)
    }

    /// The number, if it is an integer in the range of this type.
    pub fn to_u128(self) -> Option<u128> {
        match (self.form, self.first) {
            (Form::BigInteger, BigInteger::Big { negative: false, magnitude }) => {
                to_u128(magnitude)
            }
            _ => self.to_i128()?.try_into().ok(),
        }
    }

    /// The nearest float.
    pub fn to_f64(self) -> f64 {
        let first = self.first.to_f64();
        match (self.form, self.second) {
            (Form::BigInteger, _) => first,
            (Form::Ratio, second) => first / second.to_f64(),
            (Form::Binary, BigInteger::Small(exponent)) => scale(first, exponent),
            (Form::Binary, exponent) => scale(first, exponent.to_f64() as i128),
            (Form::Decimal, exponent) => {
                let digits = self.first.digits();
                let exponent = exponent.to_f64().clamp(-1e9, 1e9) as i64;
                let text = format!("{}{}e{exponent}", digits.sign(), digits.unsigned());
                text.parse().unwrap_or_else(|_| first * 10_f64.powi(exponent as i32))
            }
        }
    }
}

/// The exact number: `36893488147419103233`, `1.5`, `15e-1000`, `1/3`. Numbers that would need too many
/// decimal digits are hexadecimal, in the form that Perl's big numbers parse: `0x1f...`, `0x3p-200`.
impl fmt::Display for Exact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = self.first.digits();
        let sign = digits.sign();
        match (self.form, self.second) {
            (Form::BigInteger, _) => write!(f, "{sign}{}", digits.unsigned()),
            (Form::Ratio, second) => {
                let second = second.digits();
                write!(f, "{sign}{}/{}{}", digits.unsigned(), second.sign(), second.unsigned())
            }
            (Form::Decimal, BigInteger::Small(0)) => write!(f, "{sign}{}", digits.unsigned()),
            (Form::Decimal, BigInteger::Small(places @ FIRST_PLACE..0)) if digits.is_short() => {
                let places = places.unsigned_abs() as usize;
                write!(f, "{sign}{}", with_point(&digits.decimal(), places))
            }
            (Form::Decimal, BigInteger::Small(zeros @ 0..=ZEROS)) if digits.is_short() => {
                write!(f, "{sign}{}{:0<zeros$}", digits.decimal(), "", zeros = zeros as usize)
            }
            (Form::Binary, BigInteger::Small(exponent @ LEAST_SHIFT..=MAX_SHIFT))
                if digits.is_short() =>
            {
                let factor = if exponent < 0 { 5 } else { 2 };
                (0..exponent.unsigned_abs()).for_each(|_| digits.times(factor));
                let places = exponent.min(0).unsigned_abs() as usize;
                write!(f, "{sign}{}", with_point(&digits.decimal(), places))
            }
            (form, exponent) => {
                let exponent = exponent.digits();
                let (mantissa, mark) = match form {
                    Form::Binary => (digits.hexadecimal(), 'p'),
                    _ => (digits.unsigned(), 'e'),
                };
                write!(f, "{sign}{mantissa}{mark}{}{}", exponent.sign(), exponent.unsigned())
            }
        }
    }
}

fn plus_one(magnitude: &[u8]) -> Vec<u8> {
    let mut sum = vec![0];
    sum.extend_from_slice(magnitude);
    for octet in sum.iter_mut().rev() {
        *octet = octet.wrapping_add(1);
        if *octet != 0 {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::string::StrRef;
    use super::*;

    fn exact(hex: &[u8]) -> Exact<'_> {
        match Reader::new(hex).token().unwrap() {
            Token::Exact(exact) => exact,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn exact_numbers_are_written_in_full() {
        for (octets, text, float) in [
            (
                &b"\xc2\x49\x02\0\0\0\0\0\0\0\x01"[..],
                "36893488147419103233",
                36893488147419103233.0,
            ),
            (b"\xc3\x49\x02\0\0\0\0\0\0\0\x01", "-36893488147419103234", -36893488147419103234.0),
            (
                b"\xc2\x51\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                "340282366920938463463374607431768211456",
                3.402823669209385e38,
            ),
            (
                b"\xc3\x50\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                "-340282366920938463463374607431768211456",
                -3.402823669209385e38,
            ),
            (b"\xc2\x40", "0", 0.0),
            (b"\xc3\x40", "-1", -1.0),
            (b"\xc4\x82\x20\x0f", "1.5", 1.5),
            (b"\xc4\x82\x21\x26", "-0.07", -0.07),
            (b"\xc4\x82\x02\x0f", "1500", 1500.0),
            (b"\xc4\x82\x39\x03\xe7\x0f", "15e-1000", 0.0),
            (b"\xc5\x82\x22\x0d", "1.625", 1.625),
            (b"\xc5\x82\x02\x03", "12", 12.0),
            (b"\xc5\x82\x18\x64\x03", "0x3p100", 3.0 * 2_f64.powi(100)),
            (b"\xd8\x1e\x82\x01\x03", "1/3", 1.0 / 3.0),
        ] {
            let number = exact(octets);
            assert_eq!(number.to_string(), text);
            assert_eq!(number.to_f64(), float, "{text}");
        }
        let long = [&[0xc2, 0x58, 200][..], &[0x7f; 200]].concat();
        let text = exact(&long).to_string();
        assert!(text.starts_with("0x7f7f") && text.len() == 402);
    }

    #[test]
    fn exact_integers_are_read_as_such() {
        assert_eq!(exact(b"\xc2\x41\x05").to_i128(), Some(5));
        assert_eq!(exact(b"\xc4\x82\x02\x0f").to_i128(), Some(1500));
        assert_eq!(exact(b"\xc4\x82\x20\x18\x32").to_i128(), Some(5));
        assert_eq!(exact(b"\xc4\x82\x20\x0f").to_i128(), None);
        assert_eq!(exact(b"\xd8\x1e\x82\x06\x03").to_i128(), Some(2));
        assert_eq!(exact(b"\xd8\x1e\x82\x06\x00").to_i128(), None);
        let most = [&[0xc2, 0x50][..], &[0xff; 16]].concat();
        assert_eq!(exact(&most).to_i128(), None);
        assert_eq!(exact(&most).to_u128(), Some(u128::MAX));
    }

    #[test]
    fn a_number_tag_on_something_else_is_a_tag_like_others() {
        assert_eq!(Reader::new(b"\xc2\x61a").token(), Ok(Token::Str(StrRef::text("a"))));
        assert_eq!(Reader::new(b"\xc4\x81\x01").token(), Ok(Token::Array(1)));
        assert_eq!(Reader::new(b"\xc4\x82\x01\x61a").token(), Ok(Token::Array(2)));
    }
}
