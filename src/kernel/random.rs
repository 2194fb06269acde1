//! Randomness that the node hands in: a generator with a seed, so that a run can be repeated.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const ALPHANUMERIC: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[derive(Debug)]
pub(super) struct Random(StdRng);

impl Random {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Random(StdRng::from_seed(seed))
    }

    /// A number from 0 up to, not including, 1.
    pub(super) fn fraction(&mut self) -> f64 {
        self.0.random()
    }

    /// Random letters and digits, eight for each number that is drawn. A few are a little more
    /// likely than the others, which harms nobody.
    pub(super) fn alphanumeric(&mut self, out: &mut Vec<u8>, len: usize) {
        let mut left = len;
        while left > 0 {
            let drawn = self.0.random::<u64>().to_le_bytes();
            for octet in drawn.iter().take(left) {
                out.extend(ALPHANUMERIC.get((usize::from(*octet) * ALPHANUMERIC.len()) >> 8));
            }
            left = left.saturating_sub(drawn.len());
        }
    }
}
