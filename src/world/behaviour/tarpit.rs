//! Something that says SYN-ACK to everything: a tarpit that keeps the connection, or a middlebox before a whole prefix.

use serde::Deserialize;

use super::open::RETRANSMITS_S;
use super::{Behaviour, Kind, keys};
use crate::target::Protocol;
use crate::wire::tcp::flag;
use crate::world::answers::{Answers, Segment};
use crate::world::draws::Draws;
use crate::world::probe::Probe;

/// The row.
pub(super) const KIND: Kind = Kind {
    name: "tarpit",
    about: "SYN-ACK to every port of a prefix, all alike: tarpit or middlebox",
    read: keys::<Tarpit>,
};

/// A tarpit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tarpit {
    /// Window: 0 holds a peer for ever, a few bytes let it write slowly.
    window: u16,
    /// Time to live on arrival: a middlebox is nearer than what it stands for.
    ttl: u8,
    /// How often the SYN-ACK is sent again, at most 5.
    retransmits: usize,
}

impl Default for Tarpit {
    fn default() -> Tarpit {
        Tarpit { window: 10, ttl: 60, retransmits: 3 }
    }
}

impl Behaviour for Tarpit {
    fn answer(&self, probe: &Probe<'_>, _draws: &mut Draws, answers: &mut Answers) {
        if probe.protocol != Protocol::TCP || probe.flags() & (flag::SYN | flag::ACK) != flag::SYN {
            return;
        }
        let segment = Segment {
            flags: flag::SYN | flag::ACK,
            // It keeps no state either: its number is a function of ours.
            sequence: probe.sequence() ^ 0x5a5a_5a5a,
            acknowledgement: probe.sequence().wrapping_add(1),
            window: self.window,
            ttl: self.ttl,
            options: &[],
        };
        answers.segment(probe, 0, &segment);
        for seconds in RETRANSMITS_S.into_iter().take(self.retransmits) {
            answers.segment(probe, seconds * 1_000_000_000, &segment);
        }
    }
}
