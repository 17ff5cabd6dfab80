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

/// What [`Walk::take`] has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// These cursors are the caller's.
    Chunk(Chunk),
    /// The next pass begins at this time, in nanoseconds on the clock of `now`.
    Wait(u64),
    /// Everything was handed out.
    End,
}

/// Hands out a shard's cursors.
#[derive(Debug)]
pub struct Walk {
    cursors: Range<u64>,
    /// How long a pass follows the end of the one before, in nanoseconds.
    gap_ns: u64,
    /// When the last cursors were handed out.
    last_ns: AtomicU64,
    /// The next step: steps `0..size` are pass 0, `size..2 * size` pass 1, and so on.
    next: AtomicU64,
    /// The step this walk began with: 0, or where a scan that was stopped goes on.
    first: u64,
    steps: u64,
    /// Steps before `first` that the run before left behind: handed out already, and still to be sent.
    carried: u64,
}

impl Walk {
    /// A walk over the cursors of one shard, `passes` times, each pass `gap_ns` after the one before was handed out.
    /// No two probes of one target are then closer together than that.
    ///
    /// # Panics
    /// When cursors times passes exceed 2^64: plans are limited to 2^63 targets, so passes above 1 on the very
    /// largest plan are refused before.
    pub fn new(cursors: Range<u64>, passes: u8, gap_ns: u64) -> Walk {
        let size = cursors.end.saturating_sub(cursors.start);
        let steps = size.checked_mul(u64::from(passes)).expect("passes x targets fit 64 bits");
        let (next, last_ns) = (AtomicU64::new(0), AtomicU64::new(0));
        Walk { cursors, gap_ns, last_ns, next, first: 0, steps, carried: 0 }
    }

    /// The same walk from a later step on; a step beyond the end leaves nothing to do.
    #[must_use]
    pub fn from_step(self, step: u64) -> Walk {
        let first = step.min(self.steps);
        Walk { first, next: AtomicU64::new(first), ..self }
    }

    /// The same walk with so many steps from before its first one, which somebody else hands out.
    #[must_use]
    pub fn carrying(self, carried: u64) -> Walk {
        Walk { carried, ..self }
    }

    /// The cursor and the pass of a step: the inverse of [`Walk::step_of`]; `None` for a step beyond the end.
    pub fn cursor_of(&self, step: u64) -> Option<(Cursor, u8)> {
        let size = self.cursors.end.saturating_sub(self.cursors.start);
        let pass = u8::try_from(step.checked_div(size)?).ok()?;
        (step < self.steps).then(|| (Cursor(self.cursors.start + step % size), pass))
    }

    /// The step at which a cursor is handed out in a pass: the inverse of [`Walk::take`].
    pub fn step_of(&self, cursor: Cursor, pass: u8) -> u64 {
        let size = self.cursors.end.saturating_sub(self.cursors.start);
        u64::from(pass) * size + cursor.0.saturating_sub(self.cursors.start)
    }

    /// The step that is handed out next.
    pub fn next_step(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The next at most `most` cursors at `now`. A chunk never spans two passes.
    pub fn take(&self, now_ns: u64, most: u64) -> Take {
        let size = self.cursors.end.saturating_sub(self.cursors.start);
        loop {
            let step = self.next.load(Ordering::Relaxed);
            if self.steps <= step {
                return Take::End;
            }
            let (pass, offset) = (step / size, step % size);
            let begins_ns = self.last_ns.load(Ordering::Relaxed).saturating_add(self.gap_ns);
            if most == 0 || (pass != 0 && offset == 0 && now_ns < begins_ns) {
                return Take::Wait(begins_ns.max(now_ns));
            }
            let count = most.min(size - offset);
            let next = step + count;
            if self.next.compare_exchange_weak(step, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
                let pass = u8::try_from(pass).expect("passes fit a byte");
                return Take::Chunk(Chunk { first: Cursor(self.cursors.start + offset), count, pass });
            }
        }
    }

    /// Probes planned: cursors times passes, from the first step of this walk on, and those carried over.
    pub fn planned(&self) -> u64 {
        self.steps - self.first + self.carried
    }

    /// Probes handed out so far.
    pub fn taken(&self) -> u64 {
        self.next_step() - self.first + self.carried
    }

    /// Whether everything was handed out.
    pub fn is_done(&self) -> bool {
        self.steps <= self.next_step()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cursor_of_every_pass_is_handed_out_once() {
        let walk = Walk::new(10..25, 2, 0);
        let mut seen = Vec::new();
        while let Take::Chunk(chunk) = walk.take(0, 4) {
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
        let walk = Walk::new(0..100_000, 1, 0);
        let parts: Vec<Vec<u64>> = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut mine = Vec::new();
                        while let Take::Chunk(chunk) = walk.take(0, 64) {
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
        assert_eq!(Walk::new(5..5, 3, 9).take(0, 64), Take::End);
    }

    #[test]
    fn a_walk_goes_on_at_any_step_with_exactly_what_is_left() {
        for first in [0, 1, 14, 15, 16, 29, 30, 99] {
            let walk = Walk::new(10..25, 2, 0).from_step(first);
            assert_eq!(walk.planned(), 30u64.saturating_sub(first));
            let mut expected = first;
            while let Take::Chunk(chunk) = walk.take(0, 4) {
                assert_eq!(walk.step_of(chunk.first, chunk.pass), expected);
                expected += chunk.count;
            }
            assert_eq!(expected, first.max(30));
            assert_eq!(walk.taken(), walk.planned());
        }
    }

    #[test]
    fn no_pass_begins_before_its_gap_has_passed() {
        let walk = Walk::new(0..10, 3, 100);
        assert!(matches!(walk.take(0, 6), Take::Chunk(_)));
        assert!(matches!(walk.take(7, 6), Take::Chunk(_)), "the first pass knows no gap");
        assert_eq!(walk.take(8, 6), Take::Wait(107));
        assert_eq!(walk.take(106, 6), Take::Wait(107));
        assert!(matches!(walk.take(107, 64), Take::Chunk(Chunk { pass: 1, count: 10, .. })));
        assert_eq!(walk.take(107, 64), Take::Wait(207));
    }
}
