//! The rate law: in every window of t seconds, all threads and frame kinds together send at most sigma + rho * t
//! frames.
//!
//! One shared word holds the theoretical arrival time of the next frame (the generic cell rate algorithm, ITU-T
//! I.371) in picoseconds since the scan began; every thread advances it by compare-and-swap before it sends. Credit
//! never exceeds sigma, so a stopped process, a suspended machine or a full link is followed by no catch-up burst.
//!
//! Invariant: reads no clock; whoever asks brings `now`. Integers only.

use std::sync::atomic::{AtomicU64, Ordering};

/// A rate as the user asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// As fast as the link takes frames without loss.
    Max,
    /// This many frames in 1000 seconds, so that rates below one a second are whole numbers too.
    MilliFrames(u64),
}

impl Rate {
    /// Frames a second; `None` for the highest.
    pub fn frames_per_second(self) -> Option<f64> {
        match self {
            Rate::Max => None,
            Rate::MilliFrames(rate) => Some(rate as f64 / 1000.0),
        }
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    /// Reads `100`, `0.5`, `10k`, `1.5m` or `max`.
    fn from_str(text: &str) -> Result<Rate, String> {
        let wrong = || format!("'{text}' is no rate; write frames a second as 100, 0.5, 10k, 1.5m or max");
        let lower = text.trim().to_ascii_lowercase();
        if lower == "max" {
            return Ok(Rate::Max);
        }
        let (digits, factor) = match lower.strip_suffix(['k', 'm']) {
            Some(digits) if lower.ends_with('k') => (digits, 1_000),
            Some(digits) => (digits, 1_000_000),
            None => (lower.as_str(), 1),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let numeric = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !numeric(whole) || !numeric(fraction) || 9 < fraction.len() || 9 < whole.len() {
            return Err(wrong());
        }
        // In units of 10^-9 of the factor, then to thousandths of a frame.
        let scaled: u128 = format!("{whole}{fraction:0<9}").parse().map_err(|_| wrong())?;
        let milli = scaled * factor * 1_000 / 1_000_000_000;
        match u64::try_from(milli) {
            Ok(rate @ 1..=MAX_MILLI) => Ok(Rate::MilliFrames(rate)),
            Ok(0) => Err(format!("rate '{text}' is zero; the lowest is 0.001 frames a second")),
            _ => Err(format!(
                "rate '{text}' is above 1000m frames a second; use max to send as fast as the link can"
            )),
        }
    }
}

/// Grants frames to any number of threads under one law.
#[derive(Debug)]
pub struct Pace {
    /// Time a frame costs, in picoseconds, rounded up: the rate is never exceeded. 0 means no limit.
    period_ps: u64,
    /// How far ahead of its time a frame may be sent: (sigma - 1) periods.
    tolerance_ps: u64,
    sigma: u64,
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
    /// The law for a rate: rho is the rate, sigma 10 ms of it but at least 1 frame.
    pub fn new(rate: Rate) -> Pace {
        let Rate::MilliFrames(milli) = rate else {
            return Pace { period_ps: 0, tolerance_ps: 0, sigma: u64::MAX, arrival_ps: AtomicU64::new(0) };
        };
        let period_ps = PICOSECONDS_PER_1000_SECONDS.div_ceil(milli);
        let sigma = (BURST_PS / period_ps).max(1);
        Pace { period_ps, tolerance_ps: (sigma - 1) * period_ps, sigma, arrival_ps: AtomicU64::new(0) }
    }

    /// Frames that may leave at one instant.
    pub fn sigma(&self) -> u64 {
        self.sigma
    }

    /// Asks for up to `want` frames at `now` (nanoseconds since the scan began). Grants none rather than a few when
    /// more will be due within a moment, so that a thread is not woken for every frame.
    #[inline]
    pub fn grant(&self, now_ns: u64, want: u64) -> Grant {
        if self.period_ps == 0 {
            return Grant::Frames(want);
        }
        let now = now_ns.saturating_mul(1000);
        let quantum = want.min((self.sigma / 2).max(1));
        loop {
            let arrival = self.arrival_ps.load(Ordering::Relaxed);
            let start = arrival.max(now);
            let limit = now + self.tolerance_ps;
            let due = if start <= limit { (limit - start) / self.period_ps + 1 } else { 0 };
            if due < quantum {
                let missing = (quantum - 1) * self.period_ps;
                return Grant::Wait((start + missing).saturating_sub(self.tolerance_ps).div_ceil(1000));
            }
            let frames = due.min(want);
            let next = start + frames * self.period_ps;
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
        if self.period_ps != 0 && frames != 0 {
            self.arrival_ps.fetch_sub(frames * self.period_ps, Ordering::Relaxed);
        }
    }
}

const PICOSECONDS_PER_1000_SECONDS: u64 = 1_000_000_000_000_000;
const BURST_PS: u64 = 10_000_000_000;
/// 10^9 frames a second: a picosecond period stays at 1000 or above, exact to 0.1 %.
const MAX_MILLI: u64 = 1_000_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn milli(text: &str) -> u64 {
        match text.parse() {
            Ok(Rate::MilliFrames(rate)) => rate,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!(
            [milli("100"), milli("10k"), milli("1.5m"), milli("0.5"), milli("2.5K")],
            [100_000, 10_000_000, 1_500_000_000, 500, 2_500_000]
        );
        assert_eq!("max".parse(), Ok(Rate::Max));
        for bad in
            ["", "0", "-1", "1e6", "10 k", "ten", "1.2.3", ".", "5.", "k", "2000m", "1kk", "0x10", "+5"]
        {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stopped_process_earns_no_more_than_sigma() {
        let pace = Pace::new(Rate::MilliFrames(10_000_000));
        assert_eq!(pace.sigma(), 100);
        let hour = 3_600_000_000_000;
        let mut burst = 0;
        while let Grant::Frames(frames) = pace.grant(hour, 64) {
            burst += frames;
        }
        assert!(burst <= pace.sigma() && pace.sigma() / 2 <= burst, "{burst}");
    }

    #[test]
    fn below_one_frame_a_burst_is_one_frame() {
        let pace = Pace::new(Rate::MilliFrames(100));
        assert_eq!(pace.grant(0, 64), Grant::Frames(1));
        assert_eq!(pace.grant(0, 64), Grant::Wait(10_000_000_000));
        assert_eq!(pace.grant(10_000_000_000, 64), Grant::Frames(1));
    }

    #[test]
    fn a_waiting_thread_is_woken_when_its_frames_are_due_and_the_rate_is_reached() {
        for rate in [1_000u64, 100_000, 20_000_000, 1_000_000_000] {
            let pace = Pace::new(Rate::MilliFrames(rate));
            let (mut now, mut sent) = (0, 0);
            let end = 2_000_000_000u64;
            while now < end {
                match pace.grant(now, 64) {
                    Grant::Frames(frames) => sent += frames,
                    Grant::Wait(until) => {
                        assert!(now < until, "rate {rate}: a wait must move time");
                        now = until;
                    }
                }
            }
            let due = rate * 2 / 1000 + pace.sigma();
            assert!(
                sent <= due && due <= sent + sent / 100 + pace.sigma() + 64,
                "rate {rate}: {sent} of {due}"
            );
        }
    }

    proptest! {
        /// Over every window, for any pattern of requests, stops and refunds of the whole last grant.
        #[test]
        fn no_window_ever_holds_more_than_sigma_plus_rho_t(
            rate in 1_000u64..20_000_000_000,
            steps in proptest::collection::vec((0u64..5_000_000, 1u64..=64, 0u8..10), 1..400),
        ) {
            let pace = Pace::new(Rate::MilliFrames(rate));
            let mut now = 0u64;
            // The law over all windows at once: frames - rho * t may exceed its running minimum by sigma at most.
            let (mut sent, mut lowest) = (0u64, 0i128);
            for (pause, want, kind) in steps {
                now += if kind == 0 { pause * 1000 } else { pause };
                let earned = i128::from(now) * i128::from(rate);
                let level = i128::from(sent) * 1_000_000_000_000 - earned;
                lowest = lowest.min(level);
                if let Grant::Frames(frames) = pace.grant(now, want) {
                    if kind == 1 {
                        pace.refund(frames);
                    } else {
                        sent += frames;
                    }
                }
                let level = i128::from(sent) * 1_000_000_000_000 - earned;
                prop_assert!(level - lowest <= i128::from(pace.sigma()) * 1_000_000_000_000);
            }
        }
    }
}
