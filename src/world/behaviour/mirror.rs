//! A host that sends our own packet back with the addresses and ports changed over.

use serde::Deserialize;

use super::{Behaviour, Kind, keys};
use crate::target::Protocol;
use crate::world::answers::{Answers, Segment, TTL};
use crate::world::draws::Draws;
use crate::world::probe::Probe;

/// The row.
pub(super) const KIND: Kind =
    Kind { name: "mirror", about: "our own packet comes back, addresses changed over", read: keys::<Mirror> };

/// A mirror.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mirror {}

impl Behaviour for Mirror {
    fn answer(&self, probe: &Probe<'_>, _draws: &mut Draws, answers: &mut Answers) {
        match probe.protocol {
            Protocol::TCP => {
                let segment = Segment {
                    flags: probe.flags(),
                    sequence: probe.sequence(),
                    acknowledgement: probe.acknowledgement(),
                    window: 1024,
                    ttl: TTL,
                    options: &[],
                };
                answers.segment(probe, 0, &segment);
            }
            Protocol::UDP => answers.datagram(probe, 0, probe.word(2), &probe.transport[8..]),
            _ => answers.message(probe, 0, (probe.transport[0], probe.transport[1])),
        }
    }
}
