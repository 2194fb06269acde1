//! The kernel's random numbers: a generator seeded by the host, so that runs can be repeated.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const ALPHANUMERIC: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[derive(Debug)]
pub(crate) struct Random(StdRng);

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Random(StdRng::from_seed(seed))
    }

    /// A number from 0 up to, not including, 1.
    pub(super) fn fraction(&mut self) -> f64 {
        self.0.random()
    }

    /// A seed for another generator.
    pub(crate) fn entropy(&mut self) -> [u8; 32] {
        self.0.random()
    }

    /// Eight random letters and digits. Some are slightly more likely than others, which does not matter
    /// here.
    #[inline]
    pub(crate) fn letters(&mut self) -> [u8; 8] {
        let drawn = self.0.random::<u64>().to_le_bytes();
        drawn.map(|octet| ALPHANUMERIC[(usize::from(octet) * ALPHANUMERIC.len()) >> 8])
    }

    /// Random letters and digits.
    pub(super) fn alphanumeric(&mut self, out: &mut Vec<u8>, len: usize) {
        let mut left = len;
        while left > 0 {
            let letters = self.letters();
            out.extend(letters.iter().take(left));
            left = left.saturating_sub(letters.len());
        }
    }
}
