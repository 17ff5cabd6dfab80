//! The word that all transmit threads share: what is granted, and what is given back.
//!
//! Invariant: nothing here but the word and its arithmetic. `tests/models.rs` compiles this very file against loom's
//! atomics, which it finds where the standard library's are otherwise, and runs every interleaving.

use super::atomic::{AtomicU64, Ordering};

/// Grants frames to any number of threads under one law.
#[derive(Debug)]
pub struct Pace {
    /// Time a frame costs, in picoseconds, rounded up: the rate is never exceeded. 0 means no limit.
    period_ps: AtomicU64,
    arrival_ps: AtomicU64,
}

/// What a request for frames came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// So many frames may be sent now; at least 1.
    Frames(u64),
    /// None before this time, in nanoseconds on the clock of `now`.
    Wait(u64),
}

impl Pace {
    /// No limit yet.
    pub(super) fn unlimited() -> Pace {
        Pace { period_ps: AtomicU64::new(0), arrival_ps: AtomicU64::new(0) }
    }

    /// Frames that may leave at one instant; `u64::MAX` without a limit.
    pub fn sigma(&self) -> u64 {
        BURST_PS.checked_div(self.period_ps.load(Ordering::Relaxed)).map_or(u64::MAX, |sigma| sigma.max(1))
    }

    /// Changes the rate, in frames per 1000 seconds. Credit beyond the new sigma is lost.
    pub(super) fn limit(&self, milli: u64) {
        self.period_ps.store(PICOSECONDS_PER_1000_SECONDS.div_ceil(milli.max(1)), Ordering::Relaxed);
    }

    /// Takes the limit away.
    pub(super) fn lift(&self) {
        self.period_ps.store(0, Ordering::Relaxed);
    }

    /// Asks for up to `want` frames at `now` (nanoseconds since the scan began). Grants none rather than a few when
    /// more will be due within a moment, so that a thread is not woken for every frame.
    #[inline]
    pub fn grant(&self, now_ns: u64, want: u64) -> Grant {
        let period = self.period_ps.load(Ordering::Relaxed);
        if period == 0 {
            return Grant::Frames(want);
        }
        let sigma = (BURST_PS / period).max(1);
        // How far ahead of its time a frame may be sent.
        let tolerance = (sigma - 1) * period;
        let now = now_ns.saturating_mul(1000);
        let quantum = want.min((sigma / 2).max(1));
        loop {
            let arrival = self.arrival_ps.load(Ordering::Relaxed);
            let start = planted!(18, arrival, arrival.max(now));
            let limit = now + tolerance;
            let due = if start <= limit { (limit - start) / period + 1 } else { 0 };
            if due < quantum {
                let missing = (quantum - 1) * period;
                return Grant::Wait((start + missing).saturating_sub(tolerance).div_ceil(1000));
            }
            let frames = due.min(want);
            let next = start + frames * period;
            if self
                .arrival_ps
                .compare_exchange_weak(arrival, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                return Grant::Frames(frames);
            }
        }
    }

    /// Gives frames back that were granted just now and not sent. What stays within the law is that credit is
    /// capped at sigma whatever is given back.
    #[inline]
    pub fn refund(&self, frames: u64) {
        let back = frames * self.period_ps.load(Ordering::Relaxed);
        if back != 0 {
            let earlier = |arrival: u64| Some(arrival.saturating_sub(back));
            let _ = self.arrival_ps.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier);
        }
    }
}

const PICOSECONDS_PER_1000_SECONDS: u64 = 1_000_000_000_000_000;
const BURST_PS: u64 = 10_000_000_000;
