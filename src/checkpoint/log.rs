//! A transmit thread's hand on its part of the checkpoint.

use std::sync::Arc;

use super::pending::{self, Words};
use super::{Progress, word};

/// Writes the progress of one transmit thread.
#[derive(Debug)]
pub struct Log {
    progress: Arc<Progress>,
    low: usize,
    pending: usize,
    slots: usize,
    every_ns: u64,
    marked_ns: Option<u64>,
    mark: usize,
}

impl Log {
    pub(super) fn new(progress: Arc<Progress>, thread: usize) -> Log {
        let (low, pending, slots) =
            (progress.thread_word(thread), progress.pending_word(thread), progress.slots);
        // The ring holds two windows.
        let every_ns = (progress.shape.window_ns / (word::MARKS as u64 / 2)).max(1_000_000);
        Log { progress, low, pending, slots, every_ns, marked_ns: None, mark: 0 }
    }

    /// Every step below `step` that this thread took is settled or waits. Call it before taking more.
    #[inline]
    pub fn begin(&self, step: u64) {
        self.progress.store(self.low + word::LOW, step);
    }

    /// Whether it is time for a mark.
    #[inline]
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.marked_ns.is_none_or(|marked| marked + self.every_ns <= now_ns)
    }

    /// No step from `step` on was sent. Call it before anything taken is handed to the link.
    #[inline]
    pub fn taken(&self, step: u64) {
        self.progress.store(self.low + word::TAKEN, step);
    }

    /// Notes that every step below `step` that this thread took had left, and none of them waits.
    pub fn mark(&mut self, now_ns: u64, step: u64) {
        let place = self.low + word::MARKS_AT + 2 * self.mark;
        // A mark without a time is none: the pair is never half old.
        self.progress.store(place, 0);
        self.progress.store(place + 1, step);
        self.progress.store(place, now_ns + 1);
        self.mark = (self.mark + 1) % word::MARKS;
        self.marked_ns = Some(now_ns);
    }

    /// A step waits.
    pub fn wait(&self, step: u64) {
        let noted = pending::insert(self, self.slots, step);
        debug_assert!(noted, "the table has room for every probe that may wait");
    }

    /// A step that waits is about to be handed to the link, or was refused.
    pub fn in_flight(&self, step: u64, in_flight: bool) {
        pending::flag(self, self.slots, (step, in_flight));
    }

    /// A step that waited is settled.
    pub fn settle(&self, step: u64) {
        pending::remove(self, self.slots, step);
    }
}

impl Words for Log {
    fn load(&self, slot: usize) -> u64 {
        self.progress.load(self.pending + slot)
    }

    fn store(&self, slot: usize, value: u64) {
        self.progress.store(self.pending + slot, value);
    }
}
