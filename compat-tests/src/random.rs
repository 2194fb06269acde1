//! Random values from a seed, biased towards values that encoders get wrong.

use crate::neutral::{Neutral, OnlyPerl};
use aemp::value::{Str, StrRef};
use std::time::{SystemTime, UNIX_EPOCH};

/// Kinds of values that may occur.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    /// Not-a-number and infinities.
    pub non_finite: bool,
    /// Code points above U+10FFFF.
    pub beyond_unicode: bool,
    /// Floats below 1e-280, which Perl's JSON decoder reads with 6 digits or fewer.
    pub tiny: bool,
    /// Values that only Perl can make.
    pub only_perl: bool,
}

/// A source of random values; the same seed gives the same values.
#[derive(Debug)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// From the seed in `AEMP_SEED`, else from the clock. Print [`Random::seed`] on failure.
    pub fn from_environment() -> Self {
        let seed = match std::env::var("AEMP_SEED") {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("AEMP_SEED is `{text}`, but has to be a number")),
            Err(_) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                now.as_nanos() as u64 & 0xffff_ffff
            }
        };
        Random { seed, state: seed }
    }

    /// The seed that makes the same values again, given as `AEMP_SEED`.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A number of 64 random bits (splitmix64).
    pub const fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A packet: an array with a string first.
    pub fn packet(&mut self, palette: Palette) -> Neutral {
        let mut items = vec![Neutral::Str(self.string(palette))];
        let len = self.below(4);
        items.extend((0..len).map(|_| self.value(palette, 5)));
        Neutral::Array(items)
    }

    /// Octets, often few.
    pub fn octets(&mut self) -> Vec<u8> {
        let len = self.len();
        (0..len).map(|_| self.bits() as u8).collect()
    }

    fn value(&mut self, palette: Palette, depth: usize) -> Neutral {
        match self.below(if depth == 0 { 10 } else { 14 }) {
            0 => Neutral::Undef,
            1 => Neutral::Bool(self.below(2) == 1),
            2 | 3 => Neutral::Int(self.integer()),
            4 | 5 => Neutral::Float(self.float(palette)),
            9 if palette.only_perl => Neutral::OnlyPerl(self.only_perl()),
            6..=9 => Neutral::Str(self.string(palette)),
            10 | 11 => {
                let len = self.below(6);
                Neutral::Array((0..len).map(|_| self.value(palette, depth - 1)).collect())
            }
            _ => {
                let len = self.below(6);
                let mut pairs: Vec<(Str, Neutral)> = Vec::new();
                for _ in 0..len {
                    let key = self.string(palette);
                    if pairs.iter().all(|(other, _)| *other != key) {
                        pairs.push((key, self.value(palette, depth - 1)));
                    }
                }
                Neutral::Hash(pairs)
            }
        }
    }

    /// Near a power of two, positive or negative.
    fn integer(&mut self) -> i128 {
        let magnitude = (1_i128 << self.below(65)) + self.below(5) as i128 - 2;
        let signed = if self.below(2) == 0 { magnitude } else { -magnitude };
        signed.clamp(i64::MIN.into(), u64::MAX.into())
    }

    fn float(&mut self, palette: Palette) -> f64 {
        let number = self.any_float(palette);
        if palette.tiny || number == 0.0 || number.is_nan() || number.abs() > 1e-280 {
            number
        } else {
            number * 1e40
        }
    }

    fn any_float(&mut self, palette: Palette) -> f64 {
        let special = [
            0.0,
            -0.0,
            1.5,
            0.1,
            3.0,
            1e15,
            1e16,
            1e22,
            -1e300,
            9_007_199_254_740_993.0,
            1e-300,
            f64::from(f32::MAX),
            f64::from(f32::MIN_POSITIVE),
            f64::MAX,
            f64::MIN_POSITIVE,
        ];
        match self.below(8) {
            0 if palette.non_finite => [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][self.below(3)],
            0 | 1 => special[self.below(special.len())],
            2 => f64::from(f32::from_bits(self.bits() as u32 & !(0x80 << 23))),
            3 => (self.bits() as i32) as f64 / 1000.0,
            4 => (self.bits() as i16) as f64,
            // Any exponent but those of infinity and of the smallest numbers.
            _ => {
                let exponent = 1 + self.below(2045) as u64;
                let rest = self.bits() & !(0x7ff << 52);
                f64::from_bits(rest | (exponent << 52))
            }
        }
    }

    /// Mostly short, sometimes near a length at which the encoding of lengths changes.
    fn len(&mut self) -> usize {
        match self.below(200) {
            0 => 65_534 + self.below(4),
            1..=3 => 254 + self.below(4),
            4..=10 => 22 + self.below(4),
            _ => self.below(12),
        }
    }

    fn string(&mut self, palette: Palette) -> Str {
        match self.below(6) {
            0 => Str::octets(self.octets()),
            1 => Str::octets(self.ascii().into_bytes()),
            2 => Str::text(&self.ascii()),
            3 => {
                let number = self.integer();
                Str::octets(number.to_string().into_bytes())
            }
            4 => {
                let len = self.len();
                let text: String = (0..len).map(|_| self.character()).collect();
                Str::text(&text)
            }
            _ => {
                let mut data = Vec::new();
                for _ in 0..self.below(6) {
                    match self.below(if palette.beyond_unicode { 3 } else { 2 }) {
                        0 => {
                            let mut utf8 = [0; 4];
                            data.extend(self.character().encode_utf8(&mut utf8).bytes());
                        }
                        1 => data.extend(surrogate(0xd800 + self.below(0x800) as u32)),
                        _ => data.extend(beyond(0x11_0000 + self.below(0xf_0000) as u32)),
                    }
                }
                StrRef::generalized(&data).unwrap().to_owned()
            }
        }
    }

    fn ascii(&mut self) -> String {
        let len = self.len();
        (0..len).map(|_| self.below(0x80) as u8 as char).collect()
    }

    fn character(&mut self) -> char {
        let end = [0x80, 0x100, 0x800, 0x1_0000, 0x11_0000][self.below(5)];
        char::from_u32(self.below(end) as u32).unwrap_or('\u{fffd}')
    }

    fn only_perl(&mut self) -> OnlyPerl {
        match self.below(4) {
            0 => OnlyPerl::PrintedInteger(self.bits() as i64 >> self.below(64)),
            1 => OnlyPerl::CountedString(self.integer().to_string().into_bytes()),
            2 => OnlyPerl::Comparison(self.below(2) == 1),
            _ => OnlyPerl::ScalarRef(self.below(2) == 1),
        }
    }
}

fn surrogate(point: u32) -> [u8; 3] {
    let tail = |shift: u32| 0x80 | (point >> shift & 0x3f) as u8;
    [0xe0 | (point >> 12) as u8, tail(6), tail(0)]
}

/// Up to 0x1FFFFF, four octets.
fn beyond(point: u32) -> [u8; 4] {
    let tail = |shift: u32| 0x80 | (point >> shift & 0x3f) as u8;
    [0xf0 | (point >> 18) as u8, tail(12), tail(6), tail(0)]
}
