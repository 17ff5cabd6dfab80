//! An ICMP error, of the host or of a router before it, quoting much or little, at a limited rate.

use std::net::IpAddr;

use serde::Deserialize;

use super::{Behaviour, Kind, keys};
use crate::wire::icmp;
use crate::world::answers::{Answers, Error};
use crate::world::draws::Draws;
use crate::world::probe::Probe;

/// The row.
pub(super) const KIND: Kind = Kind {
    name: "reject",
    about: "an ICMP error of host or router, quoting 8 bytes or more, rate-limited or not",
    read: keys::<Reject>,
};

/// A firewall that says no.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Reject {
    /// Type of the message.
    kind: Option<u8>,
    /// Code of the message; without one, each probe draws one of 0 to 15.
    code: Option<u8>,
    /// Who sends it; without one, the target itself.
    from: Option<IpAddr>,
    /// Bytes behind the IP header that it quotes: 8 (RFC 792), 28, 128 or all. A quote below 8 proves nothing.
    quote: usize,
    /// What a translator adds to the quoted identification.
    id_change: u16,
    /// Messages a second for each /24, at most.
    per_second: Option<u32>,
}

impl Default for Reject {
    fn default() -> Reject {
        Reject { kind: None, code: Some(13), from: None, quote: 8, id_change: 0, per_second: None }
    }
}

impl Behaviour for Reject {
    fn answer(&self, probe: &Probe<'_>, draws: &mut Draws, answers: &mut Answers) {
        let usual = if probe.source.is_ipv4() { icmp::UNREACHABLE } else { icmp::V6_UNREACHABLE };
        let family = |address: &IpAddr| address.is_ipv4() == probe.source.is_ipv4();
        let error = Error {
            from: self.from.filter(family).unwrap_or(probe.destination),
            kind: self.kind.unwrap_or(usual),
            code: self.code.unwrap_or((draws.bits() & 15) as u8),
            quote: self.quote,
            id_change: self.id_change,
        };
        answers.error(probe, 0, &error);
    }

    fn errors_per_second(&self) -> Option<u32> {
        self.per_second
    }
}
