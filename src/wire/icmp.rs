//! ICMP errors (RFC 792) and ICMPv6 errors (RFC 4443): what they say and what they quote.

use std::net::IpAddr;

use super::{Malformed, ipv4, ipv6};

/// Destination unreachable, ICMP.
pub const UNREACHABLE: u8 = 3;
/// Time exceeded, ICMP.
pub const TIME_EXCEEDED: u8 = 11;
/// Destination unreachable, ICMPv6.
pub const V6_UNREACHABLE: u8 = 1;
/// Time exceeded, ICMPv6.
pub const V6_TIME_EXCEEDED: u8 = 3;
/// Parameter problem, ICMPv6.
pub const V6_PARAMETER_PROBLEM: u8 = 4;

/// A message view.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Message type.
    pub kind: u8,
    /// Message code.
    pub code: u8,
    /// What follows the first eight bytes.
    pub body: &'a [u8],
}

/// The packet of ours that an error quotes, as far as it is quoted.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a> {
    /// Source: one of our addresses, or the quote is not ours.
    pub source: IpAddr,
    /// Destination: the target.
    pub destination: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Identification; 0 for IPv6.
    pub identification: u16,
    /// The transport header, at least the eight bytes every router quotes (RFC 792).
    pub transport: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// When the eight bytes that every message has are not there.
    pub fn new(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        match bytes {
            [kind, code, _, _, _, _, _, _, body @ ..] => Ok(Message { kind: *kind, code: *code, body }),
            _ => Err(Malformed),
        }
    }

    /// The quoted IPv4 packet.
    ///
    /// # Errors
    /// When there is none, or it ends before the eighth byte of its transport header.
    pub fn quoted_v4(&self) -> Result<Quoted<'a>, Malformed> {
        let packet = ipv4::Packet::new(self.body)?;
        if packet.is_later_fragment() {
            return Err(Malformed);
        }
        Quoted {
            source: IpAddr::V4(packet.source()),
            destination: IpAddr::V4(packet.destination()),
            protocol: packet.protocol(),
            identification: packet.identification(),
            transport: packet.payload(),
        }
        .long_enough()
    }

    /// The quoted IPv6 packet.
    ///
    /// # Errors
    /// As [`Message::quoted_v4`].
    pub fn quoted_v6(&self) -> Result<Quoted<'a>, Malformed> {
        let packet = ipv6::Packet::new(self.body)?;
        Quoted {
            source: IpAddr::V6(packet.source()),
            destination: IpAddr::V6(packet.destination()),
            protocol: packet.protocol(),
            identification: 0,
            transport: packet.payload(),
        }
        .long_enough()
    }
}

impl<'a> Quoted<'a> {
    fn long_enough(self) -> Result<Quoted<'a>, Malformed> {
        if self.transport.len() < 8 { Err(Malformed) } else { Ok(self) }
    }

    /// Source and destination port and the first four bytes behind them (the TCP sequence number).
    pub fn transport_head(&self) -> Option<(u16, u16, u32)> {
        match self.transport {
            [a, b, c, d, e, f, g, h, ..] => Some((
                u16::from_be_bytes([*a, *b]),
                u16::from_be_bytes([*c, *d]),
                u32::from_be_bytes([*e, *f, *g, *h]),
            )),
            _ => None,
        }
    }
}
