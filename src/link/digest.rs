//! A 64-bit digest of a sequence of frames: equal for equal frames in equal order, cheap enough to run on every
//! frame. Not a defence against forgery.
//!
//! The definition, so that anything can recompute it from a capture file (`tests/pcap_digest.py` does). All
//! arithmetic is on unsigned 64-bit numbers and wraps. `fold(a, b)` is the exclusive or of the upper and the lower
//! half of the 128-bit product of `a` and `b`. [`KEYS`], [`STEP`] and [`START`] are constants.
//!
//! 1. Eight sums `s[0..8]` and the counter `t` start as 0.
//! 2. A frame of `length` bytes is padded with zeroes to a multiple of 64 bytes and read, in blocks of eight, as
//!    little-endian 64-bit words `w[0..8]`. An empty frame has no block.
//! 3. For each block `t` grows by `STEP * (length + 1)`; then `x[i] = w[i] + KEYS[i] + t`, and `s[i]` becomes
//!    `(s[i] + p) ^ x[i]`, where `p` is the product of the lower and the upper 32 bits of `x[i]`.
//! 4. The digest is `START ^ number of frames`, folded with each sum in turn, `h = fold(h ^ s[i], KEYS[i])`, and at last
//!    with the counter, `h = fold(h ^ t, START)`.
//!
//! The product of halves is the step of the universal hash NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC, 1999).
//! Each step maps every state to another one, so a difference once made stays. The eight words of a block are hashed
//! side by side: two vectors of four, one multiplication each.

use std::fmt;

use crate::batch::{BLOCK, Block};

/// The keys of the eight words of a block (fractions of the square roots of the first eight primes).
pub const KEYS: [u64; 8] = [
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];
/// What the counter grows by (the fraction of the golden ratio).
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Where the folding starts (the fraction of the square root of 23).
pub const START: u64 = 0xcbbb_9d5d_c105_9ed8;

/// The digest of the frames added so far, and their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    sums: [u64; 8],
    counter: u64,
    frames: u64,
}

impl Digest {
    /// The digest of no frame.
    pub const fn new() -> Digest {
        Digest { sums: [0; 8], counter: 0, frames: 0 }
    }

    /// Adds one frame.
    #[inline]
    pub fn add(&mut self, frame: &[u8]) {
        let step = step(frame.len());
        let (blocks, rest) = frame.as_chunks();
        self.add_blocks((blocks.iter(), blocks.len()), step);
        if !rest.is_empty() {
            let mut padded = [0; BLOCK];
            padded[..rest.len()].copy_from_slice(rest);
            self.add_blocks(([padded].iter(), 1), step);
        }
        self.frames += 1;
    }

    /// Adds frames of one length that are padded with zeroes to so many blocks each.
    #[inline(always)]
    pub fn add_padded(&mut self, blocks: &[Block], blocks_per_frame: usize, length: usize) {
        let (used, step) = (length.div_ceil(BLOCK), step(length));
        let count = blocks.len() / blocks_per_frame;
        let frames = blocks.chunks_exact(blocks_per_frame);
        match used {
            _ if used == blocks_per_frame => self.add_blocks((blocks.iter(), blocks.len()), step),
            1 => self.add_blocks((frames.map(|frame| &frame[0]), count), step),
            _ => self.add_blocks((frames.flat_map(|frame| &frame[..used]), count * used), step),
        }
        self.frames += count as u64;
    }

    /// Adds frames of any lengths, each padded with zeroes to so many blocks.
    #[inline(always)]
    pub fn add_frames<'a>(&mut self, frames: impl Iterator<Item = (&'a [Block], usize)>) {
        let (mut sums, mut count) = (self.sums, 0);
        // The counter is in every key.
        let mut keys = KEYS.map(|key| key.wrapping_add(self.counter));
        for (blocks, length) in frames {
            let step = step(length);
            for block in blocks {
                keys = keys.map(|key| key.wrapping_add(step));
                mix(&mut sums, &keys, block);
            }
            count += 1;
        }
        (self.sums, self.counter) = (sums, keys[0].wrapping_sub(KEYS[0]));
        self.frames += count;
    }

    /// Adds frames of one or two blocks, each padded with zeroes to two.
    #[inline(always)]
    pub fn add_pairs<'a>(&mut self, frames: impl Iterator<Item = (&'a [Block; 2], usize)>) {
        let (mut sums, mut count) = (self.sums, 0);
        let mut keys = KEYS.map(|key| key.wrapping_add(self.counter));
        for ([first, second], length) in frames {
            let step = step(length);
            keys = keys.map(|key| key.wrapping_add(step));
            mix(&mut sums, &keys, first);
            if BLOCK < length {
                keys = keys.map(|key| key.wrapping_add(step));
                mix(&mut sums, &keys, second);
            }
            count += 1;
        }
        (self.sums, self.counter) = (sums, keys[0].wrapping_sub(KEYS[0]));
        self.frames += count;
    }

    #[inline(always)]
    fn add_blocks<'a>(&mut self, (blocks, count): (impl Iterator<Item = &'a Block>, usize), step: u64) {
        let mut sums = self.sums;
        let mut keys = KEYS.map(|key| key.wrapping_add(self.counter));
        for block in blocks {
            keys = keys.map(|key| key.wrapping_add(step));
            mix(&mut sums, &keys, block);
        }
        self.sums = sums;
        self.counter = self.counter.wrapping_add(step.wrapping_mul(count as u64));
    }

    /// Number of frames added.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The digest.
    pub fn value(&self) -> u64 {
        let sums = self.sums.iter().zip(KEYS);
        let folded = sums.fold(START ^ self.frames, |folded, (sum, key)| fold(folded ^ sum, key));
        fold(folded ^ self.counter, START)
    }
}

impl Default for Digest {
    fn default() -> Digest {
        Digest::new()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "frames {} digest {:016x}", self.frames, self.value())
    }
}

/// The digest of a multiset of frames: equal for equal frames in any order, by any number of threads. It is the sum of
/// the digests that each frame has alone, and their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SumDigest {
    sum: u64,
    frames: u64,
}

impl SumDigest {
    /// The digest of no frame.
    pub const fn new() -> SumDigest {
        SumDigest { sum: 0, frames: 0 }
    }

    /// Adds one frame.
    #[inline]
    pub fn add(&mut self, frame: &[u8]) {
        let mut alone = Digest::new();
        alone.add(frame);
        self.sum = self.sum.wrapping_add(alone.value());
        self.frames += 1;
    }

    /// Adds the frames of another.
    pub fn join(&mut self, other: &SumDigest) {
        self.sum = self.sum.wrapping_add(other.sum);
        self.frames += other.frames;
    }
}

impl fmt::Display for SumDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "frames {} sum {:016x}", self.frames, self.sum)
    }
}

/// Adds one block: to each sum the product of the halves of its word and key.
#[inline(always)]
fn mix(sums: &mut [u64; 8], keys: &[u64; 8], block: &Block) {
    let (words, _) = block.as_chunks::<8>();
    for index in 0..8 {
        let mixed = u64::from_le_bytes(words[index]).wrapping_add(keys[index]);
        sums[index] = sums[index].wrapping_add((mixed & 0xffff_ffff) * (mixed >> 32)) ^ mixed;
    }
}

/// What the counter grows by for each block of a frame of `length` bytes.
#[inline]
fn step(length: usize) -> u64 {
    STEP.wrapping_mul(length as u64 + 1)
}

/// The upper and the lower half of the product.
#[expect(clippy::cast_possible_truncation, reason = "cutting in halves is the purpose")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
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
    fn frames_are_added_in_any_way_to_the_same_end() {
        for blocks in 1..4 {
            let bytes: Vec<u8> = (0..=255).collect();
            let lengths: Vec<usize> = (0..200).map(|at| 1 + at * 37 % (blocks * BLOCK)).collect();
            let mut slots = vec![[0; BLOCK]; blocks * lengths.len()];
            for (slot, &length) in slots.chunks_exact_mut(blocks).zip(&lengths) {
                slot.as_flattened_mut()[..length].copy_from_slice(&bytes[..length]);
            }
            let (mut one_by_one, mut together, mut pairs) = (Digest::new(), Digest::new(), Digest::new());
            lengths.iter().for_each(|&length| one_by_one.add(&bytes[..length]));
            let used = |(slot, &length): (&'_ [Block], &usize)| length.div_ceil(BLOCK).min(slot.len());
            let frames = slots.chunks_exact(blocks).zip(&lengths);
            together.add_frames(frames.map(|(slot, length)| (&slot[..used((slot, length))], *length)));
            assert_eq!(together, one_by_one, "{blocks} blocks");
            if blocks == 2 {
                pairs.add_pairs(slots.as_chunks().0.iter().zip(lengths.iter().copied()));
                assert_eq!(pairs, one_by_one);
            }
            let (mut alike, mut padded) = (Digest::new(), Digest::new());
            for length in [1, 62, 64, blocks * BLOCK] {
                let slot = &mut slots[..3 * blocks];
                slot.as_flattened_mut().fill(7);
                for slot in slot.chunks_exact_mut(blocks) {
                    slot.as_flattened_mut()[length..].fill(0);
                    alike.add(&slot.as_flattened()[..length]);
                }
                padded.add_padded(slot, blocks, length);
                assert_eq!(padded, alike, "{length} bytes in {blocks} blocks");
            }
        }
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
