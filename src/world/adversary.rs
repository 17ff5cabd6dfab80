//! Who sends the scanner what it did not ask for: forgers without the key, and replayers.
//!
//! Frames of others are as many as the scanner's own, times a share: the stronger the scan, the stronger the flood. The
//! forgers know more than an off-path one can: which targets were just probed, from which address, and the range of
//! ports. What they do not know is the cookie; some are given half of it, so that each half is seen to be needed.

use serde::Deserialize;

use super::answers::{Answers, Error, Origin, Segment, TTL};
use super::draws::Draws;
use super::probe::Probe;
use crate::target::Protocol;
use crate::wire::checksum;
use crate::wire::icmp;
use crate::wire::tcp::flag;

/// Frames of strangers for each probe, on average, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adversaries {
    /// SYN-ACKs that guess number and port.
    pub syn_ack: f64,
    /// RST-ACKs that guess number and port.
    pub reset: f64,
    /// ICMP errors that quote a guessed probe.
    pub icmp: f64,
    /// Answers with the right number to the wrong port.
    pub right_number: f64,
    /// Answers to the right port with the wrong number.
    pub right_port: f64,
    /// ICMP errors that quote the right ports and the wrong number.
    pub right_quoted_port: f64,
    /// ARP replies nobody asked for, which claim the target's address.
    pub arp: f64,
    /// Earlier answers, sent again as they were.
    pub replay: f64,
    /// Earlier answers, sent again as if they came from another address.
    pub moved: f64,
}

impl Adversaries {
    fn rows(&self) -> [(&'static str, f64, Deed); 9] {
        [
            ("syn_ack", self.syn_ack, syn_ack),
            ("reset", self.reset, reset),
            ("icmp", self.icmp, quote),
            ("right_number", self.right_number, right_number),
            ("right_port", self.right_port, right_port),
            ("right_quoted_port", self.right_quoted_port, right_quoted_port),
            ("arp", self.arp, arp),
            ("replay", self.replay, replay),
            ("moved", self.moved, moved),
        ]
    }

    /// The first number that is no share.
    pub(super) fn mistake(&self) -> Option<&'static str> {
        let bad = |share: f64| !(0.0..=1000.0).contains(&share);
        self.rows().into_iter().find(|(_, share, _)| bad(*share)).map(|(name, ..)| name)
    }

    /// Lets everybody act on the news of a probe.
    pub(super) fn act(
        &self,
        probe: &Probe<'_>,
        memory: &mut Memory,
        draws: &mut Draws,
        answers: &mut Answers,
    ) {
        memory.ports = (memory.ports.0.min(probe.source_port()), memory.ports.1.max(probe.source_port()));
        for (_, share, deed) in self.rows() {
            if share == 0.0 {
                continue;
            }
            #[expect(clippy::cast_possible_truncation, reason = "checked to be 0 to 1000")]
            let whole = share as u64 + u64::from(draws.chance(share.fract()));
            for _ in 0..whole {
                deed(probe, memory, draws, answers);
            }
        }
    }
}

/// What the adversaries have overheard. Bounded.
#[derive(Debug)]
pub(super) struct Memory {
    /// The lowest and the highest source port of probes.
    ports: (u16, u16),
    /// Earlier answers, the oldest overwritten.
    heard: Vec<Vec<u8>>,
    next: usize,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { ports: (u16::MAX, 0), heard: Vec::new(), next: 0 }
    }
}

impl Memory {
    /// Overhears an answer.
    pub(super) fn hear(&mut self, frame: &[u8]) {
        if self.heard.len() < HEARD {
            self.heard.push(frame.to_vec());
            return;
        }
        let old = &mut self.heard[self.next % HEARD];
        old.clear();
        old.extend_from_slice(frame);
        self.next += 1;
    }

    fn port(&self, draws: &mut Draws) -> u16 {
        let (first, last) = self.ports;
        first + u16::try_from(draws.below(u64::from(last.saturating_sub(first)) + 1)).unwrap_or(0)
    }

    fn earlier(&self, draws: &mut Draws) -> Option<&Vec<u8>> {
        self.heard.get(usize::try_from(draws.below(HEARD as u64)).unwrap_or(0))
    }
}

type Deed = fn(&Probe<'_>, &Memory, &mut Draws, &mut Answers);

fn number(draws: &mut Draws) -> u32 {
    (draws.bits() >> 32) as u32
}

/// A copy of the probe's first eight bytes of transport with another source port and number.
fn guessed(probe: &Probe<'_>, port: u16, sequence: u32) -> [u8; 20] {
    let mut transport = [0; 20];
    let known = probe.transport.len().min(20);
    transport[..known].copy_from_slice(&probe.transport[..known]);
    transport[..2].copy_from_slice(&port.to_be_bytes());
    transport[4..8].copy_from_slice(&sequence.to_be_bytes());
    transport
}

fn segment(flags: u8, acknowledgement: u32) -> Segment<'static> {
    Segment { flags, sequence: 1, acknowledgement, window: 4096, ttl: TTL, options: &[] }
}

fn forge(probe: &Probe<'_>, port: u16, segment: &Segment<'_>, answers: &mut Answers) {
    if probe.protocol == Protocol::TCP {
        let transport = guessed(probe, port, 0);
        let probe = Probe { transport: &transport, ..*probe };
        answers.segment(&probe, 0, segment);
        answers.last_is(Origin::Forged);
    }
}

fn syn_ack(probe: &Probe<'_>, memory: &Memory, draws: &mut Draws, answers: &mut Answers) {
    forge(probe, memory.port(draws), &segment(flag::SYN | flag::ACK, number(draws)), answers);
}

fn reset(probe: &Probe<'_>, memory: &Memory, draws: &mut Draws, answers: &mut Answers) {
    forge(probe, memory.port(draws), &segment(flag::RST | flag::ACK, number(draws)), answers);
}

fn right_number(probe: &Probe<'_>, _memory: &Memory, draws: &mut Draws, answers: &mut Answers) {
    let flags = if draws.chance(0.5) { flag::SYN | flag::ACK } else { flag::RST | flag::ACK };
    // Far from the ports of the other passes.
    let port = probe.source_port() ^ 0x0400;
    forge(probe, port, &segment(flags, probe.sequence().wrapping_add(1)), answers);
}

fn right_port(probe: &Probe<'_>, _memory: &Memory, draws: &mut Draws, answers: &mut Answers) {
    let flags = if draws.chance(0.5) { flag::SYN | flag::ACK } else { flag::RST | flag::ACK };
    // Neither the number nor its neighbours.
    let wrong = probe.sequence().wrapping_add(2 + number(draws) % 0xffff_fff0);
    forge(probe, probe.source_port(), &segment(flags, wrong), answers);
}

fn forged_error(probe: &Probe<'_>, port: u16, sequence: u32, draws: &mut Draws, answers: &mut Answers) {
    let transport = guessed(probe, port, sequence);
    let header = probe.packet.len() - probe.transport.len();
    let mut packet = probe.packet[..header].to_vec();
    packet.extend_from_slice(&transport);
    let forged = Probe { transport: &transport, packet: &packet, ..*probe };
    let kind = if probe.source.is_ipv4() { icmp::UNREACHABLE } else { icmp::V6_UNREACHABLE };
    let quote = [7, 8, 20][usize::try_from(draws.below(3)).unwrap_or(0)];
    let error = Error { from: probe.destination, kind, code: 1, quote, id_change: 0 };
    answers.error(&forged, 0, &error);
    answers.last_is(Origin::Forged);
}

fn quote(probe: &Probe<'_>, memory: &Memory, draws: &mut Draws, answers: &mut Answers) {
    let (port, sequence) = (memory.port(draws), number(draws));
    forged_error(probe, port, sequence, draws, answers);
}

fn right_quoted_port(probe: &Probe<'_>, _memory: &Memory, draws: &mut Draws, answers: &mut Answers) {
    let wrong = probe.sequence().wrapping_add(2 + number(draws) % 0xffff_fff0);
    if probe.protocol == Protocol::TCP {
        forged_error(probe, probe.source_port(), wrong, draws, answers);
    }
}

fn arp(probe: &Probe<'_>, _memory: &Memory, draws: &mut Draws, answers: &mut Answers) {
    let std::net::IpAddr::V4(address) = probe.destination else { return };
    let mac = [6, 0x66, 0x66, 0x66, 0, (draws.bits() & 0xff) as u8];
    let frame = super::neighbour::reply((mac, address), (probe.mac, [0, 0, 0, 0].into()));
    answers.copy(0, &frame, Origin::Forged);
}

fn replay(_probe: &Probe<'_>, memory: &Memory, draws: &mut Draws, answers: &mut Answers) {
    if let Some(frame) = memory.earlier(draws) {
        let later_ns = draws.below(60_000_000_000);
        answers.copy(later_ns, frame, Origin::Replayed);
    }
}

/// An earlier IPv4 answer with the source address changed, and its header checksum put right.
fn moved(_probe: &Probe<'_>, memory: &Memory, draws: &mut Draws, answers: &mut Answers) {
    let Some(frame) = memory.earlier(draws).filter(|frame| 34 <= frame.len() && frame[14] == 0x45) else {
        return;
    };
    let mut frame = frame.clone();
    frame[29] ^= 1 << draws.below(8);
    frame[24..26].fill(0);
    let sum = checksum::finish(checksum::sum(&frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    // An error names its target in the quote, whoever sends it: moved, it is a true one from another router.
    let origin = if frame[23] == Protocol::TCP.0 { Origin::Forged } else { Origin::Replayed };
    answers.copy(0, &frame, origin);
}

/// Answers that are kept for replay.
const HEARD: usize = 256;
