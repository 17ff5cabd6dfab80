//! A target that gives two true answers: a firewall's RST or error first, the service's SYN-ACK later. Neither may hide
//! the other.

use serde::Deserialize;

use super::{Behaviour, Kind, keys};
use crate::target::Protocol;
use crate::wire::icmp;
use crate::wire::tcp::flag;
use crate::world::answers::{Answers, Error, Segment, TTL};
use crate::world::draws::Draws;
use crate::world::probe::Probe;

/// The row.
pub(super) const KIND: Kind = Kind {
    name: "wavering",
    about: "RST (or an ICMP error) and SYN-ACK to one SYN, in either order",
    read: keys::<Wavering>,
};

/// Two answers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wavering {
    /// Whether the other answer is an ICMP error instead of a RST.
    error: bool,
    /// Milliseconds from the first answer to the second.
    after_ms: u64,
    /// Whether the SYN-ACK comes first.
    open_first: bool,
}

impl Default for Wavering {
    fn default() -> Wavering {
        Wavering { error: false, after_ms: 500, open_first: false }
    }
}

impl Behaviour for Wavering {
    fn answer(&self, probe: &Probe<'_>, draws: &mut Draws, answers: &mut Answers) {
        if probe.protocol != Protocol::TCP || probe.flags() & (flag::SYN | flag::ACK) != flag::SYN {
            return;
        }
        let after_ns = self.after_ms * 1_000_000;
        let (open_ns, other_ns) = if self.open_first { (0, after_ns) } else { (after_ns, 0) };
        let segment = |flags| Segment {
            flags,
            sequence: 1,
            acknowledgement: probe.sequence().wrapping_add(1),
            window: 512,
            ttl: TTL,
            options: &[],
        };
        answers.segment(probe, open_ns, &segment(flag::SYN | flag::ACK));
        if self.error {
            let kind = if probe.source.is_ipv4() { icmp::UNREACHABLE } else { icmp::V6_UNREACHABLE };
            let code = (draws.bits() & 1) as u8;
            let error = Error { from: probe.destination, kind, code, quote: 8, id_change: 0 };
            answers.error(probe, other_ns, &error);
        } else {
            answers.segment(probe, other_ns, &segment(flag::RST | flag::ACK));
        }
    }
}
