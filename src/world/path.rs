//! The way between scanner and targets: what it loses, repeats, holds back and damages.

use serde::Deserialize;

use super::draws::Draws;

/// What the way does to frames. Every share is a probability for one frame, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Path {
    /// Share of probes that are lost on the way out.
    pub loss: f64,
    /// Share of answers that are lost on the way back.
    pub reply_loss: f64,
    /// Share of answers that arrive twice, the second a little later.
    pub duplicate: f64,
    /// Share of answers that are held back by up to `reorder_ms`.
    pub reorder: f64,
    /// How long those are held back, at most, in milliseconds.
    pub reorder_ms: u64,
    /// Share of answers in which one bit changes.
    pub flip: f64,
    /// Share of answers that lose their end.
    pub truncate: f64,
    /// The shortest round trip, in milliseconds.
    pub delay_ms: u64,
    /// What is added to the round trip of a host, on average, in milliseconds (exponential, one value for each host).
    pub far_ms: u64,
    /// What is added to each answer, on average, in milliseconds (exponential).
    pub jitter_ms: u64,
}

impl Default for Path {
    fn default() -> Path {
        Path {
            loss: 0.0,
            reply_loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_ms: 500,
            flip: 0.0,
            truncate: 0.0,
            delay_ms: 1,
            far_ms: 0,
            jitter_ms: 0,
        }
    }
}

/// What became of one frame on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passage {
    /// How long it takes, in nanoseconds.
    pub(super) delay_ns: u64,
    /// How long its copy takes, if there is one.
    pub(super) copy_ns: Option<u64>,
    /// The bit that changes, counted from the start of the frame.
    pub(super) flipped: Option<usize>,
    /// The bytes that are left of it, if not all.
    pub(super) cut: Option<usize>,
}

impl Path {
    /// The first share that is no probability.
    pub(super) fn mistake(&self) -> Option<&'static str> {
        let shares = [
            ("loss", self.loss),
            ("reply_loss", self.reply_loss),
            ("duplicate", self.duplicate),
            ("reorder", self.reorder),
            ("flip", self.flip),
            ("truncate", self.truncate),
        ];
        shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)).map(|(name, _)| name)
    }

    /// The way out of one probe: whether it arrives.
    pub(super) fn carries(&self, draws: &mut Draws) -> bool {
        !draws.chance(self.loss)
    }

    /// The round trip to a host, in nanoseconds.
    pub(super) fn round_trip_ns(&self, mut host: Draws) -> u64 {
        self.delay_ms * MS + host.exponential(self.far_ms * MS)
    }

    /// The way back of a frame of so many bytes; none when it is lost.
    pub(super) fn back(&self, round_trip_ns: u64, length: usize, draws: &mut Draws) -> Option<Passage> {
        if draws.chance(self.reply_loss) {
            return None;
        }
        let mut delay_ns = round_trip_ns + draws.exponential(self.jitter_ms * MS);
        if draws.chance(self.reorder) {
            delay_ns += draws.below(self.reorder_ms * MS + 1);
        }
        let copy_ns =
            draws.chance(self.duplicate).then(|| delay_ns + draws.exponential((self.jitter_ms + 1) * MS));
        let mut place = |share, count| {
            let hit = draws.chance(share);
            hit.then(|| usize::try_from(draws.below(count)).unwrap_or(0))
        };
        // What the link layer adds is checked by every station on the way; damage happens inside of routers.
        let bits = (length.saturating_sub(HEADER) * 8) as u64;
        let flipped = place(self.flip, bits.max(1)).map(|bit| HEADER * 8 + bit).filter(|_| 0 < bits);
        let cut = place(self.truncate, (length as u64).max(1));
        Some(Passage { delay_ns, copy_ns, flipped, cut })
    }
}

const MS: u64 = 1_000_000;
const HEADER: usize = crate::wire::ethernet::HEADER;
