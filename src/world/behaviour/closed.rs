//! A host that is up and has no service there: RST, port unreachable; its echo works.

use serde::Deserialize;

use super::open::{echo, reset};
use super::{Behaviour, Kind, keys};
use crate::target::Protocol;
use crate::wire::tcp::flag;
use crate::world::answers::{Answers, Segment, TTL};
use crate::world::draws::Draws;
use crate::world::probe::Probe;

/// The row.
pub(super) const KIND: Kind = Kind {
    name: "closed",
    about: "a host without a service there: RST, port unreachable; its echo works",
    read: keys::<Closed>,
};

/// A closed port.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Closed {
    /// Whether the RST acknowledges our first number instead of the next one, as some stacks do.
    first_number: bool,
    /// Bytes behind the IP header that a port-unreachable error quotes.
    quote: usize,
}

impl Default for Closed {
    fn default() -> Closed {
        Closed { first_number: false, quote: 8 }
    }
}

impl Behaviour for Closed {
    fn answer(&self, probe: &Probe<'_>, _draws: &mut Draws, answers: &mut Answers) {
        match probe.protocol {
            // RFC 9293 section 3.10.7.1: a RST is never answered, an ACK with its number, the rest with an ACK.
            Protocol::TCP if probe.flags() & flag::RST != 0 => {}
            Protocol::TCP if probe.flags() & flag::ACK != 0 => reset(probe, answers),
            Protocol::TCP => {
                let length = (probe.flags() & flag::SYN) >> 1 | probe.flags() & flag::FIN;
                let length = if self.first_number { 0 } else { u32::from(length) };
                let segment = Segment {
                    flags: flag::RST | flag::ACK,
                    sequence: 0,
                    acknowledgement: probe.sequence().wrapping_add(length),
                    window: 0,
                    ttl: TTL,
                    options: &[],
                };
                answers.segment(probe, 0, &segment);
            }
            Protocol::ICMP | Protocol::ICMPV6 => echo(probe, answers),
            _ => answers.port_unreachable(probe, self.quote),
        }
    }
}
