//! The progress of a scan through its shard: hands out chunks of consecutive cursors, to any number of threads,
//! each exactly once.
//!
//! Invariant: which cursors a chunk holds depends on no thread count, rate or machine; only who takes it does.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Sample;
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
    /// These blocks of the sample are the caller's: each target of it is probed a second time.
    Control {
        /// The first block.
        first: u64,
        /// How many, at least 1.
        count: u64,
    },
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
    control: Option<Control>,
}

/// The second probes of a sample of the targets: they follow the first at a distance, in the same order.
#[derive(Debug)]
pub struct Control {
    sample: Sample,
    /// The next block to hand out.
    next: AtomicU64,
    /// The block this walk began with: a target is only probed again by the process that probed it first.
    first: u64,
    /// Steps that were handed out a gap ago or earlier.
    due: AtomicU64,
    /// When to look again at what is due.
    look_ns: AtomicU64,
    /// Where the walk stood when, not older than a gap but for the first.
    marks: Mutex<VecDeque<(u64, u64)>>,
}

impl Control {
    /// The pass that the second probes belong to.
    pub const PASS: u8 = 1;

    fn new(sample: Sample, first_step: u64) -> Control {
        let first = sample.block_from(first_step);
        let (next, due, look_ns) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0));
        Control { sample, next, first, due, look_ns, marks: Mutex::new(VecDeque::new()) }
    }

    /// Notes that the walk stands at a step, every so often, and finds out what is due.
    fn look(&self, now_ns: u64, step: u64, gap_ns: u64) {
        if now_ns < self.look_ns.load(Ordering::Relaxed) {
            return;
        }
        // Another thread looks: that is as good.
        let Ok(mut marks) = self.marks.try_lock() else { return };
        self.look_ns.store(now_ns + look_every(gap_ns), Ordering::Relaxed);
        marks.push_back((now_ns, step));
        while let Some(&(time_ns, step)) = marks.front()
            && time_ns.saturating_add(gap_ns) <= now_ns
        {
            self.due.fetch_max(step, Ordering::Relaxed);
            marks.pop_front();
        }
    }

    /// Hands out blocks whose first probes are due.
    fn take(&self, most: u64) -> Option<(u64, u64)> {
        let due = self.sample.blocks_within(self.due.load(Ordering::Relaxed));
        loop {
            let block = self.next.load(Ordering::Relaxed);
            let end = due.min(block.saturating_add(most));
            if end <= block {
                return None;
            }
            if self.next.compare_exchange_weak(block, end, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Some((block, end - block));
            }
        }
    }

    fn left(&self) -> u64 {
        self.sample.len() - self.next.load(Ordering::Relaxed)
    }
}

/// How often it is looked at what is due.
fn look_every(gap_ns: u64) -> u64 {
    (gap_ns / 64).max(1_000_000)
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
        let passes = planted!(5, passes * passes, passes);
        let steps = size.checked_mul(u64::from(passes)).expect("passes x targets fit 64 bits");
        let steps = planted!(1, steps + 12.min(size), steps);
        let steps = planted!(2, steps & 0xffff_ffff, steps);
        let steps = planted!(4, steps - steps % 7, steps);
        let (next, last_ns) = (AtomicU64::new(0), AtomicU64::new(0));
        Walk { cursors, gap_ns, last_ns, next, first: 0, steps, carried: 0, control: None }
    }

    /// The same walk from a later step on; a step beyond the end leaves nothing to do.
    #[must_use]
    pub fn from_step(self, step: u64) -> Walk {
        let step = planted!(6, step + if step == 0 { 0 } else { self.cursors.start }, step);
        let first = step.min(self.steps);
        Walk { first, next: AtomicU64::new(first), ..self }
    }

    /// The same walk with a sample of its targets probed a second time. Call it after [`Walk::from_step`].
    ///
    /// # Panics
    /// When there is more than one pass: then every target is probed again anyway.
    #[must_use]
    pub fn controlled(self, sample: Option<Sample>) -> Walk {
        assert!(sample.is_none() || self.steps <= self.size(), "a control sample belongs to a single pass");
        let control = sample.map(|sample| Control::new(sample, self.first));
        Walk { control, ..self }
    }

    /// The same walk with so many steps from before its first one, which somebody else hands out.
    #[must_use]
    pub fn carrying(self, carried: u64) -> Walk {
        Walk { carried, ..self }
    }

    /// The cursor and the pass of a step: the inverse of [`Walk::step_of`]; `None` for a step beyond the end.
    pub fn cursor_of(&self, step: u64) -> Option<(Cursor, u8)> {
        if let (Some(control), Some(block)) = (&self.control, step.checked_sub(self.size())) {
            return control.sample.cursor(block).map(|cursor| (cursor, Control::PASS));
        }
        let pass = u8::try_from(step.checked_div(self.size())?).ok()?;
        (step < self.steps).then(|| (Cursor(self.cursors.start + step % self.size()), pass))
    }

    /// Cursors of the shard; the second probes of a sample are numbered from here on.
    pub fn shard_size(&self) -> u64 {
        self.size()
    }

    fn size(&self) -> u64 {
        self.cursors.end.saturating_sub(self.cursors.start)
    }

    /// The step at which a cursor is handed out in a pass: the inverse of [`Walk::take`].
    /// The second probes of a sample are numbered behind all others.
    pub fn step_of(&self, cursor: Cursor, pass: u8) -> u64 {
        if let (Some(control), Control::PASS) = (&self.control, pass) {
            return self.size() + control.sample.block(cursor);
        }
        u64::from(pass) * self.size() + cursor.0.saturating_sub(self.cursors.start)
    }

    /// The step that is handed out next.
    pub fn next_step(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// The next at most `most` cursors at `now`. A chunk never spans two passes.
    pub fn take(&self, now_ns: u64, most: u64) -> Take {
        let size = self.size();
        loop {
            let step = self.next.load(Ordering::Relaxed);
            if let Some(control) = &self.control {
                control.look(now_ns, step, self.gap_ns);
                if let Some((first, count)) = control.take(most) {
                    return Take::Control { first, count };
                }
            }
            if self.steps <= step {
                let waits = self.control.as_ref().is_some_and(|control| 0 < control.left());
                return if waits { Take::Wait(now_ns + look_every(self.gap_ns)) } else { Take::End };
            }
            let (pass, offset) = (step / size, step % size);
            let begins_ns = self.last_ns.load(Ordering::Relaxed).saturating_add(self.gap_ns);
            let early = planted!(30, false, now_ns < begins_ns);
            if most == 0 || (pass != 0 && offset == 0 && early) {
                return Take::Wait(begins_ns.max(now_ns));
            }
            let count = most.min(size - offset);
            let next = step + planted!(7, (size - offset).min(64), count);
            if self.next.compare_exchange_weak(step, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
                let pass = u8::try_from(pass).expect("passes fit a byte");
                return Take::Chunk(Chunk { first: Cursor(self.cursors.start + offset), count, pass });
            }
        }
    }

    /// Probes planned: cursors times passes, from the first step of this walk on, and those carried over.
    pub fn planned(&self) -> u64 {
        let control = self.control.as_ref().map_or(0, |control| control.sample.len() - control.first);
        self.steps - self.first + self.carried + control
    }

    /// Probes handed out so far.
    pub fn taken(&self) -> u64 {
        let control = |control: &Control| control.next.load(Ordering::Relaxed) - control.first;
        self.next_step() - self.first + self.carried + self.control.as_ref().map_or(0, control)
    }

    /// Of those planned, the second probes of the sample.
    pub fn controls(&self) -> u64 {
        self.control.as_ref().map_or(0, |control| control.sample.len() - control.first)
    }

    /// Whether everything was handed out.
    pub fn is_done(&self) -> bool {
        self.steps <= self.next_step() && self.control.as_ref().is_none_or(|control| control.left() == 0)
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
    fn every_second_probe_of_the_sample_follows_the_first_by_the_gap() {
        for first in [0, 1, 64, 1000, 4999, 5000] {
            let walk = Walk::new(10..5010, 1, 6_400_000_000).from_step(first);
            let walk = walk.controlled(Some(Sample::new(10..5010, 64, 3)));
            let (mut sent_ns, mut again, mut now_ns) = (vec![None; 5010], Vec::new(), 0u64);
            loop {
                match walk.take(now_ns, 64) {
                    Take::Chunk(chunk) => {
                        for offset in 0..chunk.count {
                            let cursor = usize::try_from(chunk.first.0 + offset).expect("small");
                            assert_eq!(sent_ns[cursor].replace(now_ns), None);
                        }
                        now_ns += 500_000_000;
                    }
                    Take::Control { first, count } => again.extend((first..first + count).map(|block| {
                        let (cursor, pass) = walk.cursor_of(5000 + block).expect("within");
                        assert_eq!((pass, walk.step_of(cursor, pass)), (1, 5000 + block));
                        (cursor.0, now_ns)
                    })),
                    Take::Wait(until_ns) => {
                        assert!(now_ns < until_ns);
                        now_ns = until_ns;
                    }
                    Take::End => break,
                }
            }
            let whole = (5000 - first) / 64;
            assert!(again.len() as u64 == walk.controls() && walk.controls().abs_diff(whole) <= 1, "{first}");
            for (cursor, again_ns) in again {
                let first_ns = sent_ns[usize::try_from(cursor).expect("small")].expect("sent before");
                assert!(first_ns + 6_400_000_000 <= again_ns && again_ns <= first_ns + 13_000_000_000);
            }
            assert!(walk.is_done() && walk.taken() == walk.planned());
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
