//! Which targets are probed a second time to measure loss: one of every so many consecutive cursors, chosen by the seed.
//!
//! The order is a keyed permutation, so cursors near each other are targets anywhere: one from each block is a sample
//! of all of them, stratified in time. Which one of the block is drawn anew for each, so that a loss that hits the same
//! place of every batch is seen as often as it happens.
//!
//! Invariant: the sample depends on seed, share and shard alone.

use std::ops::Range;

use siphasher::sip::SipHasher13;

use crate::target::Cursor;

/// A sample of the cursors of a shard.
#[derive(Debug, Clone)]
pub struct Sample {
    cursors: Range<u64>,
    every: u64,
    seed: u64,
}

impl Sample {
    /// One of every `every` cursors; at least 1.
    pub fn new(cursors: Range<u64>, every: u32, seed: u64) -> Sample {
        Sample { cursors, every: u64::from(every.max(1)), seed }
    }

    /// Number of blocks, which is that of cursors in the sample: the last block may be shorter than the others.
    pub fn len(&self) -> u64 {
        self.cursors.end.saturating_sub(self.cursors.start).div_ceil(self.every)
    }

    /// Whether there is nothing to choose from.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cursor of a block, from 0; `None` beyond the last.
    pub fn cursor(&self, block: u64) -> Option<Cursor> {
        let first = self.cursors.start + block.checked_mul(self.every)?;
        let size = self.cursors.end.checked_sub(first).filter(|left| 0 < *left)?.min(self.every);
        let hash = SipHasher13::new_with_keys(self.seed, SAMPLE_DOMAIN).hash(&block.to_le_bytes());
        Some(Cursor(first + hash % size))
    }

    /// The block that holds a cursor of the shard.
    pub fn block(&self, cursor: Cursor) -> u64 {
        cursor.0.saturating_sub(self.cursors.start) / self.every
    }

    /// How many blocks lie within the first `steps` cursors as a whole.
    pub fn blocks_within(&self, steps: u64) -> u64 {
        if self.cursors.end.saturating_sub(self.cursors.start) <= steps {
            self.len()
        } else {
            steps / self.every
        }
    }

    /// The first block that begins at or after a step.
    pub fn block_from(&self, step: u64) -> u64 {
        step.div_ceil(self.every).min(self.len())
    }
}

/// Keeps the choice apart from every other use of the seed.
const SAMPLE_DOMAIN: u64 = 0x7377_6174_682d_6373;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_one_cursor_of_its_own_and_every_place_is_chosen() {
        let sample = Sample::new(100..100 + 64 * 1000 + 5, 64, 7);
        assert_eq!(sample.len(), 1001);
        let mut places = [0u32; 64];
        for block in 0..1001 {
            let cursor = sample.cursor(block).expect("within");
            assert_eq!(sample.block(cursor), block);
            assert!(cursor.0 < 100 + 64 * 1000 + 5);
            places[((cursor.0 - 100) % 64) as usize] += 1;
        }
        assert!(places.iter().all(|&count| 0 < count && count < 40), "{places:?}");
        assert_eq!(sample.cursor(1001), None);
        assert_ne!(Sample::new(100..1000, 64, 8).cursor(0), Sample::new(100..1000, 64, 7).cursor(0));
    }

    #[test]
    fn blocks_are_counted_at_both_ends() {
        let sample = Sample::new(0..130, 64, 1);
        assert_eq!([0, 63, 64, 129, 130].map(|steps| sample.blocks_within(steps)), [0, 0, 1, 2, 3]);
        assert_eq!([0, 1, 64, 65, 129, 999].map(|step| sample.block_from(step)), [0, 1, 1, 2, 3, 3]);
        assert!(Sample::new(5..5, 64, 1).is_empty());
    }
}
