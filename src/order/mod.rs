//! The order: a keyed permutation of all targets of a plan, version `v1`, frozen.
//!
//! An a x b Feistel network of four rounds over exactly the plan's targets, without a division and without a
//! power-of-two domain: `a = floor(sqrt(N))`, `b = ceil(N / a)`, so that at most `a - 1` values lie outside of
//! `0..N` and the walk back into the domain is almost never taken. Its inverse is what makes audit, tests and
//! fairness provable. The digest of a plan, its shards and every checkpoint depend on these constants: a change
//! is a new version, never an edit (`tests::golden_values_of_v1_are_frozen`).
//!
//! Invariant: knows numbers only, neither addresses nor ports nor time.

mod pairs;
mod sample;
mod walk;

use std::ops::Range;

use siphasher::sip::SipHasher13;

use crate::batch::LANES;
use crate::sys::simd::Simd;
use crate::target::Cursor;

pub use sample::Sample;
pub use walk::{Chunk, Control, Take, Walk};

/// The name of this order, part of every plan digest.
pub const VERSION: &str = "v1";

/// Largest number of targets a plan may have: 2^63.
pub const MAX_TARGETS: u64 = 1 << 63;

/// A permutation of `0..len`, chosen by a seed.
#[derive(Debug, Clone)]
pub struct Order {
    length: u64,
    /// Size of the half that round 1 changes.
    a: u64,
    /// Size of the half that round 1 hashes: the sequential counter runs through it (fed to the other half, lags
    /// 1 to 64 are correlated at small sizes; measured).
    b: u64,
    rounds: [RoundKey; ROUNDS],
}

/// The key of one round: a summand before the first multiplication and a mask before the second.
#[derive(Debug, Clone, Copy)]
struct RoundKey {
    add: u64,
    mask: u64,
}

impl Order {
    /// The permutation of `0..length` for a seed.
    ///
    /// # Panics
    /// When `length` is 0 or above [`MAX_TARGETS`]: a plan cannot hold either.
    pub fn new(length: u64, seed: u64) -> Order {
        assert!(0 < length && length <= MAX_TARGETS, "an order has 1 to 2^63 targets, not {length}");
        let a = length.isqrt();
        let b = length.div_ceil(a);
        let rounds = [0u8, 1, 2, 3].map(|round| {
            let key = SipHasher13::new_with_keys(seed, KEY_DOMAIN).hash(&[round]);
            RoundKey { add: key & LOW, mask: key >> 32 }
        });
        Order { length, a, b, rounds }
    }

    /// Number of targets.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Never: an order has at least one target. Here because `len` is.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The number of the target at a cursor.
    ///
    /// # Panics
    /// When the cursor is outside of the order.
    pub fn target(&self, cursor: Cursor) -> u64 {
        assert!(cursor.0 < self.length, "cursor {} of an order of {}", cursor.0, self.length);
        let mut value = cursor.0;
        loop {
            let (high, low) = self.scramble(value / self.b, value % self.b);
            value = high * self.b + low;
            if value < self.length {
                return value;
            }
        }
    }

    /// The cursor of a target: the inverse of [`Order::target`].
    ///
    /// # Panics
    /// When the target is outside of the order.
    pub fn cursor(&self, target: u64) -> Cursor {
        assert!(target < self.length, "target {target} of an order of {}", self.length);
        let mut value = target;
        loop {
            let (high, low) = self.unscramble(value / self.b, value % self.b);
            value = high * self.b + low;
            if value < self.length {
                return Cursor(value);
            }
        }
    }

    /// Target numbers of `count` consecutive cursors from `first` on; at most [`LANES`]. Lanes beyond them repeat the
    /// first, so that every lane holds a target. One division for the whole batch.
    ///
    /// # Panics
    /// When there is no cursor, or the last of them is outside of the order.
    #[inline(always)]
    pub fn fill(&self, first: Cursor, count: usize, targets: &mut [u64; LANES]) {
        self.fill_by(
            (first, count),
            targets,
            #[inline(always)]
            |(high, low), targets| {
                self.scramble_from(
                    #[inline(always)]
                    |lane| (high, low + lane),
                    targets,
                )
            },
        );
    }

    /// As [`Order::fill`], in the way that is best on a level of vector instructions, within [`Simd::run`].
    ///
    /// # Panics
    /// As [`Order::fill`].
    #[inline(always)]
    pub fn fill_on(&self, simd: Simd, first: Cursor, count: usize, targets: &mut [u64; LANES]) {
        if simd == Simd::BASELINE {
            self.fill_on_baseline(first, count, targets);
        } else {
            self.fill(first, count, targets);
        }
    }

    /// As [`Order::fill`], on processors for which the code of that is not compiled into anything good.
    #[inline(always)]
    fn fill_on_baseline(&self, first: Cursor, count: usize, targets: &mut [u64; LANES]) {
        self.fill_by(
            (first, count),
            targets,
            #[inline(always)]
            |halves, targets| pairs::scramble(self, halves, targets),
        );
    }

    /// Fills a batch; `scramble` is the network over values with one upper half.
    #[inline(always)]
    fn fill_by(
        &self,
        (first, count): (Cursor, usize),
        targets: &mut [u64; LANES],
        scramble: impl FnOnce((u64, u64), &mut [u64; LANES]) -> bool,
    ) {
        assert!(0 < count && count <= LANES, "a batch holds 1 to {LANES} targets, not {count}");
        assert!(count as u64 <= self.length && first.0 <= self.length - count as u64);
        if self.b < LANES as u64 {
            for (offset, target) in (first.0..).zip(&mut targets[..count]) {
                *target = self.target(Cursor(offset));
            }
        } else if self.scramble_lanes(first.0, targets, scramble) {
            self.walk_back(&mut targets[..count]);
        }
        if count < LANES {
            let repeated = targets[0];
            targets[count..].fill(repeated);
        }
    }

    /// The network over [`LANES`] consecutive values, of which the first is in the domain. Returns whether one of the
    /// results may lie outside.
    #[inline(always)]
    fn scramble_lanes(
        &self,
        first: u64,
        targets: &mut [u64; LANES],
        scramble: impl FnOnce((u64, u64), &mut [u64; LANES]) -> bool,
    ) -> bool {
        let (first_high, first_low) = (first / self.b, first % self.b);
        // b is at least LANES, so at most one carry; and much larger for all but small plans, so nearly never one.
        if first_low + LANES as u64 <= self.b {
            scramble((first_high, first_low), targets)
        } else {
            self.scramble_from(
                #[inline(always)]
                |lane| carried(first_high, first_low + lane, self.b),
                targets,
            )
        }
    }

    /// The network over the two halves that each lane begins with.
    #[inline(always)]
    fn scramble_from(&self, halves: impl Fn(u64) -> (u64, u64), targets: &mut [u64; LANES]) -> bool {
        let last = self.length - 1;
        let mut outside = 0;
        for lane in 0..LANES {
            let (mut high, mut low) = halves(lane as u64);
            for round in 0..ROUNDS / 2 {
                high = wrap(high + self.rounds[2 * round].hash(low, self.a), self.a);
                low = wrap(low + self.rounds[2 * round + 1].hash(high, self.b), self.b);
            }
            let target = (high & LOW) * (self.b & LOW) + low;
            outside |= last.wrapping_sub(target);
            targets[lane] = target;
        }
        is_negative(outside)
    }

    /// Brings values that fell between `len` and `a * b` back into the domain: fewer than one in sqrt(len).
    #[cold]
    fn walk_back(&self, targets: &mut [u64]) {
        for target in targets {
            while self.length <= *target {
                let (high, low) = self.scramble(*target / self.b, *target % self.b);
                *target = high * self.b + low;
            }
        }
    }

    #[inline]
    fn scramble(&self, mut high: u64, mut low: u64) -> (u64, u64) {
        for round in 0..ROUNDS / 2 {
            high = wrap(high + self.rounds[2 * round].hash(low, self.a), self.a);
            low = wrap(low + self.rounds[2 * round + 1].hash(high, self.b), self.b);
        }
        (high, low)
    }

    #[inline]
    fn unscramble(&self, mut high: u64, mut low: u64) -> (u64, u64) {
        for round in (0..ROUNDS / 2).rev() {
            low = wrap(low + self.b - self.rounds[2 * round + 1].hash(high, self.b), self.b);
            high = wrap(high + self.a - self.rounds[2 * round].hash(low, self.a), self.a);
        }
        (high, low)
    }
}

impl RoundKey {
    /// Hashes a half to `0..size`: two folded 32-bit multiplications, then Lemire's multiply-shift reduction.
    /// Every operand is below 2^32, so that a vector unit does it with its 32x32 multiplier.
    #[inline(always)]
    fn hash(self, half: u64, size: u64) -> u64 {
        let value = ((half + self.add) & LOW) * FIRST;
        let value = (value ^ (value >> 32) ^ self.mask) & LOW;
        let value = value * SECOND;
        let value = (value ^ (value >> 32)) & LOW;
        (value * (size & LOW)) >> 32
    }
}

/// `value mod size` for a value below `2 * size`, both below 2^62.
#[inline(always)]
fn wrap(value: u64, size: u64) -> u64 {
    let over = value.wrapping_sub(size);
    if is_negative(over) { value } else { over }
}

/// The halves of a value of which the lower one may have reached `b`.
#[inline(always)]
fn carried(high: u64, low: u64, b: u64) -> (u64, u64) {
    let over = low.wrapping_sub(b);
    if is_negative(over) { (high, low) } else { (high + 1, over) }
}

/// Whether a difference went below zero, by its sign bit: the one comparison of 64-bit lanes that every vector unit
/// has.
#[inline(always)]
fn is_negative(difference: u64) -> bool {
    difference.cast_signed() < 0
}

/// A part of the order that depends on nothing but the plan, `index` and `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// The whole order.
    pub const WHOLE: Shard = Shard { index: 1, count: 1 };

    /// Shard `index` of `count`, counted from 1 as masscan does.
    ///
    /// # Errors
    /// A sentence that names the numbers when `index` is not within `1..=count`.
    pub fn new(index: u32, count: u32) -> Result<Shard, String> {
        if index == 0 || count < index {
            return Err(format!(
                "shard {index}/{count} does not exist: shards are 1/{count} to {count}/{count}"
            ));
        }
        Ok(Shard { index, count })
    }

    /// Which shard, from 1.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Of how many.
    pub fn count(self) -> u32 {
        self.count
    }

    /// The cursors of this shard in an order of `length` targets. Shards are contiguous, disjoint, together
    /// complete, and differ by at most one in size.
    pub fn cursors(self, length: u64) -> Range<u64> {
        let edge = |part: u32| {
            let cursor = u128::from(length) * u128::from(part) / u128::from(self.count);
            u64::try_from(cursor).expect("an edge lies within the order")
        };
        let first = edge(self.index - 1);
        planted!(38, first.saturating_sub(1), first)..edge(self.index)
    }
}

const ROUNDS: usize = 4;
const LOW: u64 = 0xffff_ffff;
/// Multipliers with well-spread bits (the 32-bit constants of MurmurHash3, public domain), odd.
const FIRST: u64 = 0x85eb_ca6b;
const SECOND: u64 = 0xc2b2_ae35;
/// Keeps the round keys apart from every other use of the seed.
const KEY_DOMAIN: u64 = 0x7377_6174_682d_7631;

#[cfg(test)]
mod tests;
