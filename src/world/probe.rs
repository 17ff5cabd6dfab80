//! A frame of the scanner as the world reads it: as strictly as a host does, checksums included.

use std::net::{IpAddr, Ipv4Addr};

use crate::target::{Port, Protocol, Target};
use crate::wire::checksum;
use crate::wire::ethernet::{self, Mac};
use crate::wire::{Malformed, ipv4, ipv6};

/// What the scanner sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sent<'a> {
    /// An IP packet.
    Probe(Probe<'a>),
    /// Who has this address?
    Question {
        /// Who asks.
        mac: Mac,
        /// Its address.
        address: Ipv4Addr,
        /// The address it asks for.
        wanted: Ipv4Addr,
    },
}

/// Why a host would not even look at a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is cut short or of a kind nobody understands.
    Malformed,
    /// A checksum is wrong.
    Checksum,
}

/// An IP packet of the scanner.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// The scanner's link-layer address.
    pub mac: Mac,
    /// Whom the frame was given to.
    pub hop: Mac,
    /// The scanner's address.
    pub source: IpAddr,
    /// The target's address.
    pub destination: IpAddr,
    /// IANA protocol number.
    pub protocol: Protocol,
    /// The whole IP packet.
    pub packet: &'a [u8],
    /// The transport header, at least 8 bytes, and what follows.
    pub transport: &'a [u8],
}

impl Probe<'_> {
    /// What is probed. For ICMP the number is the message type.
    pub fn target(&self) -> Target {
        let number = match self.protocol {
            Protocol::ICMP | Protocol::ICMPV6 => u16::from(self.transport[0]),
            _ => self.word(2),
        };
        Target { address: self.destination, port: Port { protocol: self.protocol, number } }
    }

    /// Two bytes of the transport header.
    ///
    /// # Panics
    /// When `offset` is above 6: only eight bytes are always there.
    pub fn word(&self, offset: usize) -> u16 {
        u16::from_be_bytes([self.transport[offset], self.transport[offset + 1]])
    }

    /// The source port.
    pub fn source_port(&self) -> u16 {
        self.word(0)
    }

    /// The TCP sequence number.
    pub fn sequence(&self) -> u32 {
        u32::from(self.word(4)) << 16 | u32::from(self.word(6))
    }

    /// The TCP acknowledgement number; 0 where there is none.
    pub fn acknowledgement(&self) -> u32 {
        self.transport.get(8..12).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }

    /// The TCP flags; 0 where there are none.
    pub fn flags(&self) -> u8 {
        self.transport.get(13).copied().unwrap_or(0)
    }

    /// The TCP timestamp it carries, if it does.
    pub fn timestamp(&self) -> Option<u32> {
        let header = crate::wire::tcp::Header::new(self.transport).ok()?;
        header.options().timestamps.map(|(value, _)| value)
    }

    /// Numbers that tell this probe from every other of the scan: what random draws about it are keyed by.
    pub(super) fn keys(&self) -> [u64; 4] {
        let [high, low] = address_keys(self.destination);
        let first = u64::from_be_bytes(self.transport[..8].try_into().expect("eight bytes"));
        [high, low, u64::from(self.protocol.0), first]
    }
}

/// An address as two numbers.
pub(super) fn address_keys(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => [0xffff, u64::from(u32::from(address))],
        IpAddr::V6(address) => {
            let octets = address.octets();
            let half = |from: usize| octets[from..from + 8].try_into().expect("eight bytes");
            [u64::from_be_bytes(half(0)), u64::from_be_bytes(half(8))]
        }
    }
}

/// Reads a frame of the scanner.
pub(super) fn read(frame: &[u8]) -> Result<Sent<'_>, Unreadable> {
    let malformed = |_: Malformed| Unreadable::Malformed;
    let header = frame.get(..ethernet::HEADER).ok_or(Unreadable::Malformed)?;
    let mac = |from: usize| Mac(header[from..from + 6].try_into().expect("six bytes"));
    let body = &frame[ethernet::HEADER..];
    let (source, destination, protocol, transport, packet) =
        match u16::from_be_bytes([header[12], header[13]]) {
            ethernet::ARP => return question(body),
            ethernet::IPV4 => {
                let packet = ipv4::Packet::new(body).map_err(malformed)?;
                let length = usize::from(body[0] & 0x0f) * 4;
                if checksum::finish(checksum::sum(&body[..length])) != 0 {
                    return Err(Unreadable::Checksum);
                }
                let (from, to) = (IpAddr::V4(packet.source()), IpAddr::V4(packet.destination()));
                let end = length + packet.payload().len();
                (from, to, packet.protocol(), packet.payload(), &body[..end])
            }
            ethernet::IPV6 => {
                let packet = ipv6::Packet::new(body).map_err(malformed)?;
                let (from, to) = (IpAddr::V6(packet.source()), IpAddr::V6(packet.destination()));
                (from, to, packet.protocol(), packet.payload(), body)
            }
            _ => return Err(Unreadable::Malformed),
        };
    if transport.len() < 8 {
        return Err(Unreadable::Malformed);
    }
    let protocol = Protocol(protocol);
    let probe = Probe { mac: mac(6), hop: mac(0), source, destination, protocol, packet, transport };
    let without = protocol == Protocol::UDP && probe.word(6) == 0 && source.is_ipv4();
    if !without && transport_sum(&probe) != 0 {
        return Err(Unreadable::Checksum);
    }
    Ok(Sent::Probe(probe))
}

/// The checksum of the transport with its own field: 0 when that is right. Protocols without one are always right.
fn transport_sum(probe: &Probe<'_>) -> u16 {
    let body = checksum::sum(probe.transport);
    match probe.protocol {
        Protocol::ICMP => checksum::finish(body),
        Protocol::TCP | Protocol::UDP | Protocol::ICMPV6 => checksum::finish(
            body + pseudo_sum(probe.source, probe.destination, probe.protocol, probe.transport.len()),
        ),
        _ => 0,
    }
}

/// The sum of the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1).
pub(super) fn pseudo_sum(source: IpAddr, destination: IpAddr, protocol: Protocol, length: usize) -> u64 {
    let octets = |address| match address {
        IpAddr::V4(address) => checksum::sum(&address.octets()),
        IpAddr::V6(address) => checksum::sum(&address.octets()),
    };
    octets(source) + octets(destination) + u64::from(protocol.0) + length as u64
}

fn question(body: &[u8]) -> Result<Sent<'_>, Unreadable> {
    let packet: &[u8; 28] =
        body.get(..28).and_then(|body| body.try_into().ok()).ok_or(Unreadable::Malformed)?;
    if packet[..8] != [0, 1, 8, 0, 6, 4, 0, 1] {
        return Err(Unreadable::Malformed);
    }
    let octets = |from: usize| <[u8; 4]>::try_from(&packet[from..from + 4]).expect("four bytes");
    Ok(Sent::Question {
        mac: Mac(packet[8..14].try_into().expect("six bytes")),
        address: octets(14).into(),
        wanted: octets(24).into(),
    })
}
