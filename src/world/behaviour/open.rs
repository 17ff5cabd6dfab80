//! A service: SYN-ACK to a SYN, a datagram to a datagram, an echo to an echo.

use serde::Deserialize;

use super::{Behaviour, Kind, keys};
use crate::target::Protocol;
use crate::wire::tcp::flag;
use crate::world::answers::{Answers, Segment, TTL};
use crate::world::draws::Draws;
use crate::world::probe::Probe;

/// The row.
pub(super) const KIND: Kind = Kind {
    name: "open",
    about: "a service: SYN-ACK (sent again while nobody answers), datagram, echo",
    read: keys::<Open>,
};

/// A service.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Open {
    /// How often an unanswered SYN-ACK is sent again, of the five times Linux does: 1, 3, 7, 15 and 31 s later.
    retransmits: usize,
    /// Window in the SYN-ACK.
    window: u16,
    /// Time to live on arrival.
    ttl: u8,
    /// Whether datagrams come from another port than was asked (TFTP does).
    other_port: bool,
    /// Datagrams sent for one.
    times: usize,
}

impl Default for Open {
    fn default() -> Open {
        Open { retransmits: 0, window: 64_240, ttl: TTL, other_port: false, times: 1 }
    }
}

impl Behaviour for Open {
    fn answer(&self, probe: &Probe<'_>, draws: &mut Draws, answers: &mut Answers) {
        match probe.protocol {
            Protocol::TCP => self.segment(probe, draws, answers),
            Protocol::UDP => {
                let from =
                    if self.other_port { 0x8000 | (draws.bits() & 0x7fff) as u16 } else { probe.word(2) };
                for _ in 0..self.times {
                    answers.datagram(probe, 0, from, &probe.transport[8..]);
                }
            }
            _ => echo(probe, answers),
        }
    }
}

impl Open {
    /// What a listening socket does (RFC 9293 section 3.10.7.2).
    fn segment(&self, probe: &Probe<'_>, draws: &mut Draws, answers: &mut Answers) {
        let flags = probe.flags();
        if flags & (flag::SYN | flag::ACK | flag::RST) != flag::SYN {
            if flags & (flag::ACK | flag::RST) == flag::ACK {
                reset(probe, answers);
            }
            return;
        }
        let mut options = vec![2, 4, 5, 0xb4];
        if let Some(time) = probe.timestamp() {
            let own = (draws.bits() & 0xffff_ffff) as u32;
            options.extend([4, 2, 8, 10]);
            options.extend(own.to_be_bytes());
            options.extend(time.to_be_bytes());
            options.extend([1, 3, 3, 7]);
        }
        let segment = Segment {
            flags: flag::SYN | flag::ACK,
            sequence: (draws.bits() & 0xffff_ffff) as u32,
            acknowledgement: probe.sequence().wrapping_add(1),
            window: self.window,
            ttl: self.ttl,
            options: &options,
        };
        answers.segment(probe, 0, &segment);
        for seconds in RETRANSMITS_S.into_iter().take(self.retransmits) {
            answers.segment(probe, seconds * 1_000_000_000, &segment);
        }
    }
}

/// RST with the number the other side expects, without ACK: to a segment that acknowledges what was never sent.
pub(super) fn reset(probe: &Probe<'_>, answers: &mut Answers) {
    let sequence = probe.acknowledgement();
    let segment =
        Segment { flags: flag::RST, sequence, acknowledgement: 0, window: 0, ttl: TTL, options: &[] };
    answers.segment(probe, 0, &segment);
}

/// What every host that is up does with an ICMP request (RFC 792, RFC 4443 section 4.2).
pub(super) fn echo(probe: &Probe<'_>, answers: &mut Answers) {
    match (probe.protocol, probe.transport[0]) {
        (Protocol::ICMP, 8) => answers.message(probe, 0, (0, 0)),
        (Protocol::ICMP, 13) => answers.message(probe, 0, (14, 0)),
        (Protocol::ICMP, 17) => answers.message(probe, 0, (18, 0)),
        (Protocol::ICMPV6, 128) => answers.message(probe, 0, (129, 0)),
        _ => {}
    }
}

/// Linux, `net.ipv4.tcp_synack_retries = 5`.
pub(super) const RETRANSMITS_S: [u64; 5] = [1, 3, 7, 15, 31];
