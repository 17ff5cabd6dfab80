//! The rate law: in every window of t seconds, all threads and frame kinds together send at most sigma + rho * t
//! frames.
//!
//! One shared word holds the theoretical arrival time of the next frame (the generic cell rate algorithm, ITU-T
//! I.371) in picoseconds since the scan began; every thread advances it by compare-and-swap before it sends. Credit
//! never exceeds sigma, so a stopped process, a suspended machine or a full link is followed by no catch-up burst.
//!
//! At the highest rate there is no law to keep but one of our own making: what we cause to be dropped at our own
//! receive side looks like silence. The [`Governor`] lowers the rate when the kernel drops replies, and lifts it again.
//!
//! Invariant: reads no clock; whoever asks brings `now`. Integers only.

mod word;

/// What the shared word is made of.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

pub use word::{Grant, Pace};

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

impl Pace {
    /// The law for a rate: rho is the rate, sigma 10 ms of it but at least 1 frame.
    pub fn new(rate: Rate) -> Pace {
        let pace = Pace::unlimited();
        if let Rate::MilliFrames(milli) = rate {
            pace.limit(milli);
        }
        pace
    }
}

/// Holds the highest rate at what our own receive side can take: down to seven tenths within 100 ms of a drop, then up
/// again by a twentieth every 100 ms (additive increase would take minutes at these rates), and away with the limit
/// once it no longer binds.
#[derive(Debug)]
pub struct Governor {
    looked_ns: u64,
    sent: u64,
    drops: u64,
    ceiling: Option<u64>,
}

impl Governor {
    /// A governor for a scan that begins. One for a rate the user chose does nothing: what is dropped is reported.
    pub fn new() -> Governor {
        Governor { looked_ns: 0, sent: 0, drops: 0, ceiling: None }
    }

    /// Looks at the totals of frames sent and replies dropped by the kernel, at most every 50 ms.
    pub fn observe(&mut self, now_ns: u64, sent: u64, drops: u64, pace: &Pace) {
        let elapsed_ns = now_ns.saturating_sub(self.looked_ns);
        if elapsed_ns < LOOK_NS {
            return;
        }
        let milli = u128::from(sent - self.sent) * 1_000_000_000_000 / u128::from(elapsed_ns);
        let reached = u64::try_from(milli).unwrap_or(MAX_MILLI).min(MAX_MILLI);
        let dropped = self.drops < drops;
        (self.looked_ns, self.sent, self.drops) = (now_ns, sent, drops);
        self.ceiling = match self.ceiling {
            ceiling if dropped => Some((ceiling.unwrap_or(reached).min(reached) / 10 * 7).max(FLOOR_MILLI)),
            Some(ceiling) if reached.saturating_mul(4) < ceiling => None,
            Some(ceiling) => Some((ceiling + ceiling / 40).min(MAX_MILLI)),
            None => None,
        };
        match self.ceiling {
            Some(milli) => pace.limit(milli),
            None => pace.lift(),
        }
    }

    /// The rate it holds, in frames a second; `None` while it does not limit.
    pub fn ceiling_pps(&self) -> Option<u64> {
        self.ceiling.map(|milli| milli / 1000)
    }
}

impl Default for Governor {
    fn default() -> Governor {
        Governor::new()
    }
}

/// How often the governor looks: drops slow the transmitter well within 100 ms.
const LOOK_NS: u64 = 50_000_000;
/// The governor never goes below 1000 frames a second.
const FLOOR_MILLI: u64 = 1_000_000;
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

    /// A receive side that takes `capacity` replies a second and drops the rest, in virtual time.
    fn governed(capacity: u64, seconds: u64) -> (u64, u64) {
        let (pace, mut governor) = (Pace::new(Rate::Max), Governor::new());
        let (mut now, mut sent, mut drops, mut room) = (0u64, 0u64, 0u64, 0u64);
        while now < seconds * 1_000_000_000 {
            now += 100_000;
            // The link itself takes a million frames a second; the ring holds 10 ms.
            room = (room + capacity / 10_000).min(capacity / 100);
            if let Grant::Frames(frames) = pace.grant(now, 64) {
                let frames = frames.min(100);
                sent += frames;
                drops += frames.saturating_sub(room);
                room = room.saturating_sub(frames);
            }
            governor.observe(now, sent, drops, &pace);
        }
        (sent, drops)
    }

    #[test]
    fn the_governor_finds_what_the_receive_side_can_take() {
        let (sent, drops) = governed(200_000, 60);
        assert!(8_000_000 < sent, "sent only {sent} of 12,000,000");
        assert!(drops * 50 < sent, "{drops} of {sent} dropped");
    }

    #[test]
    fn without_drops_the_governor_does_nothing() {
        let (pace, mut governor) = (Pace::new(Rate::Max), Governor::new());
        for tick in 1..100 {
            governor.observe(tick * LOOK_NS, tick * 1000, 0, &pace);
            assert_eq!(governor.ceiling_pps(), None);
            assert_eq!(pace.grant(tick, 64), Grant::Frames(64));
        }
    }

    #[test]
    fn one_drop_slows_the_transmitter_at_the_next_look_and_it_probes_upward_again() {
        let (pace, mut governor) = (Pace::new(Rate::Max), Governor::new());
        governor.observe(LOOK_NS, 50_000, 0, &pace);
        governor.observe(2 * LOOK_NS, 100_000, 7, &pace);
        assert_eq!(governor.ceiling_pps(), Some(700_000));
        governor.observe(3 * LOOK_NS, 135_000, 7, &pace);
        assert_eq!(governor.ceiling_pps(), Some(717_500));
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
