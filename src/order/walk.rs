//! The progress of a scan through its shard: hands out chunks of consecutive cursors, to any number of threads,
//! each exactly once.
//!
//! Invariant: which cursors a chunk holds depends on no thread count, rate or machine; only who takes it does.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::target::Cursor;

/// Consecutive cursors of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// The first cursor.
    pub first: Cursor,
    /// How many, at least 1.
    pub count: u64,
    /// The pass, from 0.
    pub pass: u8,
}

/// Hands out a shard's cursors.
#[derive(Debug)]
pub struct Walk {
    cursors: Range<u64>,
    /// Steps taken: steps `0..size` are pass 0, `size..2 * size` pass 1, and so on.
    taken: AtomicU64,
    steps: u64,
}

impl Walk {
    /// A walk over the cursors of one shard, `passes` times.
    ///
    /// # Panics
    /// When cursors times passes exceed 2^64: plans are limited to 2^63 targets, so passes above 1 on the very
    /// largest plan are refused before.
    pub fn new(cursors: Range<u64>, passes: u8) -> Walk {
        let size = cursors.end.saturating_sub(cursors.start);
        let steps = size.checked_mul(u64::from(passes)).expect("passes x targets fit 64 bits");
        Walk { cursors, taken: AtomicU64::new(0), steps }
    }

    /// The next at most `most` cursors; `None` at the end. A chunk never spans two passes.
    pub fn take(&self, most: u64) -> Option<Chunk> {
        let size = self.cursors.end.saturating_sub(self.cursors.start);
        loop {
            let step = self.taken.load(Ordering::Relaxed);
            if self.steps <= step || most == 0 {
                return None;
            }
            let (pass, offset) = (step / size, step % size);
            let count = most.min(size - offset);
            let next = step + count;
            if self.taken.compare_exchange_weak(step, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                let pass = u8::try_from(pass).expect("passes fit a byte");
                return Some(Chunk { first: Cursor(self.cursors.start + offset), count, pass });
            }
        }
    }

    /// Probes planned: cursors times passes.
    pub fn planned(&self) -> u64 {
        self.steps
    }

    /// Probes handed out so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether everything was handed out.
    pub fn is_done(&self) -> bool {
        self.steps <= self.taken()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cursor_of_every_pass_is_handed_out_once() {
        let walk = Walk::new(10..25, 2);
        let mut seen = Vec::new();
        while let Some(chunk) = walk.take(4) {
            assert!(1 <= chunk.count && chunk.count <= 4);
            seen.extend((0..chunk.count).map(|offset| (chunk.pass, chunk.first.0 + offset)));
        }
        let expected: Vec<(u8, u64)> =
            (0..2).flat_map(|pass| (10..25).map(move |cursor| (pass, cursor))).collect();
        assert_eq!(seen, expected);
        assert!(walk.is_done());
        assert_eq!(walk.taken(), walk.planned());
    }

    #[test]
    fn threads_share_a_walk_without_gap_or_overlap() {
        let walk = Walk::new(0..100_000, 1);
        let parts: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut mine = Vec::new();
                        while let Some(chunk) = walk.take(64) {
                            mine.extend(chunk.first.0..chunk.first.0 + chunk.count);
                        }
                        mine
                    })
                })
                .collect();
            takers.into_iter().map(|taker| taker.join().expect("no panic")).collect()
        });
        let mut all: Vec<u64> = parts.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..100_000));
    }

    #[test]
    fn an_empty_shard_has_nothing_to_hand_out() {
        assert_eq!(Walk::new(5..5, 3).take(64), None);
    }
}
