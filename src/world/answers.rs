//! What a host or a router sends back: whole frames, written into buffers that are used again and again.

use std::net::IpAddr;

use super::probe::{Probe, pseudo_sum};
use crate::target::Protocol;
use crate::wire::ethernet;
use crate::wire::{checksum, icmp, ipv4, ipv6, tcp};

/// Where a frame that reaches the scanner came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A host or router answers a probe, and nothing happened to the frame on the way.
    Answer,
    /// It was such a frame, and bits of it changed or its end is missing.
    Damaged,
    /// Somebody who did not get the probe made it up.
    Forged,
    /// A copy of an earlier answer.
    Replayed,
    /// A neighbour says who it is.
    Neighbour,
}

/// Frames on their way back to the scanner.
#[derive(Debug, Default)]
pub struct Answers {
    /// Delay behind the usual way back, frame and origin; only the first `count` mean anything.
    frames: Vec<(u64, Vec<u8>, Origin)>,
    count: usize,
}

/// A TCP segment.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Flag bits.
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Window.
    pub window: u16,
    /// Time to live on arrival.
    pub ttl: u8,
    /// Options, a multiple of four bytes.
    pub options: &'a [u8],
}

/// An ICMP or ICMPv6 error.
#[derive(Debug, Clone, Copy)]
pub struct Error {
    /// Who sends it.
    pub from: IpAddr,
    /// Message type.
    pub kind: u8,
    /// Message code.
    pub code: u8,
    /// How many bytes behind the IP header are quoted.
    pub quote: usize,
    /// What the quoted identification differs by: a translator on the way changed it.
    pub id_change: u16,
}

impl Answers {
    /// Forgets all frames, keeps their memory.
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// The frames, each with its delay in nanoseconds.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &[u8], Origin)> {
        self.frames[..self.count].iter().map(|(delay, frame, origin)| (*delay, &frame[..], *origin))
    }

    /// A copy of a finished frame.
    pub fn copy(&mut self, delay_ns: u64, frame: &[u8], origin: Origin) {
        self.slot(delay_ns, origin).extend_from_slice(frame);
    }

    /// A TCP segment from the target's port to the probe's.
    pub fn segment(&mut self, probe: &Probe<'_>, delay_ns: u64, segment: &Segment<'_>) {
        let length = tcp::HEADER + segment.options.len();
        let frame = self.packet(probe, probe.destination, (Protocol::TCP, segment.ttl, length), delay_ns);
        let start = frame.len();
        frame.extend_from_slice(&probe.transport[2..4]);
        frame.extend_from_slice(&probe.transport[..2]);
        frame.extend_from_slice(&segment.sequence.to_be_bytes());
        frame.extend_from_slice(&segment.acknowledgement.to_be_bytes());
        frame.extend_from_slice(&[u8::try_from(length << 2).expect("at most 60 bytes"), segment.flags]);
        frame.extend_from_slice(&segment.window.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(segment.options);
        seal(frame, start, 16, (probe.destination, probe.source, Protocol::TCP));
    }

    /// A UDP datagram with these bytes, from port `from`.
    pub fn datagram(&mut self, probe: &Probe<'_>, delay_ns: u64, from: u16, payload: &[u8]) {
        let length = 8 + payload.len();
        let frame = self.packet(probe, probe.destination, (Protocol::UDP, TTL, length), delay_ns);
        let start = frame.len();
        frame.extend_from_slice(&from.to_be_bytes());
        frame.extend_from_slice(&probe.transport[..2]);
        frame.extend_from_slice(&u16::try_from(length).expect("short").to_be_bytes());
        frame.extend_from_slice(&[0; 2]);
        frame.extend_from_slice(payload);
        seal(frame, start, 6, (probe.destination, probe.source, Protocol::UDP));
    }

    /// A message of the probe's own protocol (ICMP, ICMPv6) with the probe's identifier, number and payload.
    pub fn message(&mut self, probe: &Probe<'_>, delay_ns: u64, (kind, code): (u8, u8)) {
        let frame =
            self.packet(probe, probe.destination, (probe.protocol, TTL, probe.transport.len()), delay_ns);
        let start = frame.len();
        frame.extend_from_slice(&[kind, code, 0, 0]);
        frame.extend_from_slice(&probe.transport[4..]);
        seal(frame, start, 2, (probe.destination, probe.source, probe.protocol));
    }

    /// An error that quotes the probe as it arrived: one hop before it would have died, and perhaps renumbered.
    pub fn error(&mut self, probe: &Probe<'_>, delay_ns: u64, error: &Error) {
        let header = probe.packet.len() - probe.transport.len();
        let quote = &probe.packet[..header + error.quote.min(probe.transport.len())];
        let protocol = if probe.source.is_ipv4() { Protocol::ICMP } else { Protocol::ICMPV6 };
        let frame = self.packet(probe, error.from, (protocol, TTL, 8 + quote.len()), delay_ns);
        let start = frame.len();
        frame.extend_from_slice(&[error.kind, error.code, 0, 0, 0, 0, 0, 0]);
        frame.extend_from_slice(quote);
        if probe.source.is_ipv4() {
            let quoted = &mut frame[start + 8..start + 8 + header];
            let id = u16::from_be_bytes([quoted[4], quoted[5]]).wrapping_add(error.id_change);
            quoted[4..6].copy_from_slice(&id.to_be_bytes());
            quoted[8] = 1;
            quoted[10..12].fill(0);
            let sum = checksum::finish(checksum::sum(quoted));
            quoted[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        seal(frame, start, 2, (error.from, probe.source, protocol));
    }

    /// The port-unreachable error of the target itself (RFC 1122 section 4.1.3.1, RFC 4443 section 3.1).
    pub fn port_unreachable(&mut self, probe: &Probe<'_>, quote: usize) {
        let (kind, code) =
            if probe.source.is_ipv4() { (icmp::UNREACHABLE, 3) } else { (icmp::V6_UNREACHABLE, 4) };
        self.error(probe, 0, &Error { from: probe.destination, kind, code, quote, id_change: 0 });
    }

    /// Says who made the frame that was written last.
    pub(super) fn last_is(&mut self, origin: Origin) {
        if let Some((.., made_by)) = self.frames[..self.count].last_mut() {
            *made_by = origin;
        }
    }

    /// The buffer of the next frame, empty.
    fn slot(&mut self, delay_ns: u64, origin: Origin) -> &mut Vec<u8> {
        if self.count == self.frames.len() {
            self.frames.push((0, Vec::with_capacity(128), origin));
        }
        let (delay, frame, from) = &mut self.frames[self.count];
        self.count += 1;
        (*delay, *from) = (delay_ns, origin);
        frame.clear();
        frame
    }

    /// Ethernet and IP headers of a packet to the scanner.
    fn packet(
        &mut self,
        probe: &Probe<'_>,
        from: IpAddr,
        (protocol, ttl, length): (Protocol, u8, usize),
        delay_ns: u64,
    ) -> &mut Vec<u8> {
        let frame = self.slot(delay_ns, Origin::Answer);
        let length = u16::try_from(length).expect("answers are short");
        match (from, probe.source) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend_from_slice(&ethernet::header(probe.mac, probe.hop, ethernet::IPV4));
                let identification = probe.word(6).rotate_left(5);
                let protocol = protocol.0;
                frame.extend_from_slice(&ipv4::header(&ipv4::Fields {
                    source,
                    destination,
                    protocol,
                    ttl,
                    identification,
                    payload_length: length,
                }));
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend_from_slice(&ethernet::header(probe.mac, probe.hop, ethernet::IPV6));
                frame.extend_from_slice(&ipv6::header(source, destination, protocol.0, ttl, length));
            }
            // A router answers in the family it was asked in: scenarios are checked for it.
            _ => unreachable!("an answer crosses no families"),
        }
        frame
    }
}

/// Writes the checksum of the transport that begins at `start`, whose field is `at` bytes in.
fn seal(
    frame: &mut [u8],
    start: usize,
    at: usize,
    (source, destination, protocol): (IpAddr, IpAddr, Protocol),
) {
    let transport = &mut frame[start..];
    transport[at..at + 2].fill(0);
    let pseudo = if protocol == Protocol::ICMP {
        0
    } else {
        pseudo_sum(source, destination, protocol, transport.len())
    };
    let sum = checksum::finish(checksum::sum(transport) + pseudo);
    // RFC 768: a sum of zero is sent as all ones, because zero means none.
    let sum = if sum == 0 && protocol == Protocol::UDP { 0xffff } else { sum };
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Time to live of answers on arrival: 64 less a dozen routers.
pub(super) const TTL: u8 = 52;
