//! Segments that look like answers and tell nothing: of a connection that no longer is, of a broken stack, of a peer that
//! opens from its side.

use serde::Deserialize;

use super::{Behaviour, Kind, keys};
use crate::target::Protocol;
use crate::wire::tcp::flag;
use crate::world::answers::{Answers, Segment, TTL};
use crate::world::draws::Draws;
use crate::world::probe::Probe;

/// The row.
pub(super) const KIND: Kind = Kind {
    name: "stale",
    about: "segments that acknowledge something else, or flags that mean nothing",
    read: keys::<Stale>,
};

/// Which segment: one of the rows below, drawn for each probe unless it is named.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Stale {
    which: Option<usize>,
}

/// Flags, and what is added to the number that would be right.
const SEGMENTS: [(u8, u32); 6] = [
    // A challenge ACK (RFC 5961 section 4) of a connection that was here before.
    (flag::ACK, 0x1234_5677),
    (flag::SYN | flag::ACK, 0x0001_0000),
    (flag::RST | flag::ACK, 0x8000_0000),
    (flag::SYN | flag::RST | flag::ACK, 0),
    (flag::SYN, 0),
    (flag::FIN | flag::PSH | flag::ACK, 0),
];

impl Behaviour for Stale {
    fn answer(&self, probe: &Probe<'_>, draws: &mut Draws, answers: &mut Answers) {
        if probe.protocol != Protocol::TCP || probe.flags() & flag::RST != 0 {
            return;
        }
        let drawn = usize::try_from(draws.below(SEGMENTS.len() as u64)).unwrap_or(0);
        let (flags, off) = SEGMENTS[self.which.unwrap_or(drawn) % SEGMENTS.len()];
        let acknowledgement =
            if flags & flag::ACK == 0 { 0 } else { probe.sequence().wrapping_add(1).wrapping_add(off) };
        let segment = Segment { flags, sequence: 77, acknowledgement, window: 512, ttl: TTL, options: &[] };
        answers.segment(probe, 0, &segment);
    }
}
