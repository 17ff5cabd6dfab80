//! A storm of RSTs for one SYN: the first acknowledges it, the others prove nothing.

use serde::Deserialize;

use super::{Behaviour, Kind, keys};
use crate::target::Protocol;
use crate::wire::tcp::flag;
use crate::world::answers::{Answers, Segment, TTL};
use crate::world::draws::Draws;
use crate::world::probe::Probe;

/// The row.
pub(super) const KIND: Kind = Kind {
    name: "storm",
    about: "many RSTs for one SYN, all but the first without ACK",
    read: keys::<Storm>,
};

/// A storm.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Storm {
    /// RSTs in all.
    times: u32,
    /// Whether even the first comes without ACK, which proves nothing at all.
    bare: bool,
}

impl Default for Storm {
    fn default() -> Storm {
        Storm { times: 8, bare: false }
    }
}

impl Behaviour for Storm {
    fn answer(&self, probe: &Probe<'_>, _draws: &mut Draws, answers: &mut Answers) {
        if probe.protocol != Protocol::TCP || probe.flags() & flag::RST != 0 {
            return;
        }
        for number in 0..self.times {
            let acknowledges = number == 0 && !self.bare;
            let segment = Segment {
                flags: if acknowledges { flag::RST | flag::ACK } else { flag::RST },
                sequence: number,
                acknowledgement: if acknowledges { probe.sequence().wrapping_add(1) } else { 0 },
                window: 0,
                ttl: TTL,
                options: &[],
            };
            answers.segment(probe, u64::from(number) * 1_000_000, &segment);
        }
    }
}
