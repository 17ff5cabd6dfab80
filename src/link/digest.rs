//! A 64-bit digest of a sequence of frames: equal for equal frames in equal order, cheap enough to run on every
//! frame. Not a defence against forgery.
//!
//! The definition, so that anything can recompute it from a capture file (`tests/pcap_digest.py` does). All
//! arithmetic is on unsigned 64-bit numbers and wraps. `fold(a, b)` is the exclusive or of the upper and the lower
//! half of the 128-bit product of `a` and `b`. `P`, `Q`, `S` and `K` are the constants [`P`], [`Q`], [`S`], [`K`].
//!
//! 1. The state starts as `K`.
//! 2. A frame of `length` bytes is padded with zeroes to a multiple of 16 bytes and read as little-endian 64-bit
//!    words `w[0], w[1], ...`.
//! 3. `frame` is the exclusive or over all pairs `i` of `fold(w[2i] ^ (P + i * S), w[2i + 1] ^ (Q + i * S))`.
//! 4. The state becomes `fold(state ^ frame, K ^ length)`.
//!
//! The products of one frame do not depend on each other, so they overlap in the processor; the state chains the
//! frames, so their order counts.

use std::fmt;

/// Mixed into the first word of each pair (the fraction of the square root of 2).
pub const P: u64 = 0x6a09_e667_f3bc_c909;
/// Mixed into the second word of each pair (of the square root of 3).
pub const Q: u64 = 0xbb67_ae85_84ca_a73b;
/// Step from pair to pair (of the golden ratio).
pub const S: u64 = 0x9e37_79b9_7f4a_7c15;
/// Multiplier of the chain and first state (of the square root of 5).
pub const K: u64 = 0x3c6e_f372_fe94_f82b;

/// The digest of the frames added so far, and their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    state: u64,
    frames: u64,
}

impl Digest {
    /// The digest of no frame.
    pub const fn new() -> Digest {
        Digest { state: K, frames: 0 }
    }

    /// Adds one frame.
    #[inline]
    pub fn add(&mut self, frame: &[u8]) {
        let (mut left, mut right, mut sum) = (P, Q, 0);
        let mut pairs = frame.chunks_exact(16);
        for pair in &mut pairs {
            let pair: &[u8; 16] = pair.try_into().expect("16 bytes");
            sum ^= fold_pair(pair, left, right);
            left = left.wrapping_add(S);
            right = right.wrapping_add(S);
        }
        let rest = pairs.remainder();
        if !rest.is_empty() {
            let mut padded = [0; 16];
            padded[..rest.len()].copy_from_slice(rest);
            sum ^= fold_pair(&padded, left, right);
        }
        self.state = fold(self.state ^ sum, K ^ frame.len() as u64);
        self.frames += 1;
    }

    /// Number of frames added.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The digest.
    pub fn value(&self) -> u64 {
        self.state
    }
}

impl Default for Digest {
    fn default() -> Digest {
        Digest::new()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "frames {} digest {:016x}", self.frames, self.state)
    }
}

#[inline]
fn fold_pair(pair: &[u8; 16], left: u64, right: u64) -> u64 {
    let [low, high] = halves(u128::from_le_bytes(*pair));
    fold(low ^ left, high ^ right)
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let [low, high] = halves(u128::from(a) * u128::from(b));
    low ^ high
}

/// Lower and upper half.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "cutting in halves is the purpose")]
fn halves(number: u128) -> [u64; 2] {
    [number as u64, (number >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(frames: &[&[u8]]) -> u64 {
        let mut digest = Digest::new();
        frames.iter().for_each(|frame| digest.add(frame));
        digest.value()
    }

    #[test]
    fn order_length_and_every_bit_count() {
        let frame: Vec<u8> = (0..58).collect();
        let whole = digest_of(&[&frame, b"next"]);
        assert_ne!(whole, digest_of(&[b"next", &frame]));
        assert_ne!(digest_of(&[b"a"]), digest_of(&[b"a\0"]), "padding is no data");
        assert_ne!(digest_of(&[b"ab", b"c"]), digest_of(&[b"a", b"bc"]));
        assert_ne!(digest_of(&[]), digest_of(&[b""]));
        for bit in 0..58 * 8 {
            let mut other = frame.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(digest_of(&[&other, b"next"]), whole, "bit {bit}");
        }
        // Two frames that swap words, and words that swap places within a pair or between pairs.
        for (from, to) in [(0, 8), (0, 16), (8, 24)] {
            let mut other = frame.clone();
            for at in 0..8 {
                other.swap(from + at, to + at);
            }
            assert_ne!(digest_of(&[&other, b"next"]), whole, "words at {from} and {to}");
        }
    }
}
