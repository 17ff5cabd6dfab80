//! ICMP (RFC 792, RFC 950) and ICMPv6 (RFC 4443): errors, what they say and what they quote; questions and their answers.

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

/// Echo request and reply, ICMP.
pub const ECHO: [u8; 2] = [8, 0];
/// Echo request and reply, ICMPv6.
pub const V6_ECHO: [u8; 2] = [128, 129];
/// Timestamp request and reply.
pub const TIMESTAMP: [u8; 2] = [13, 14];
/// Address mask request and reply (RFC 950 appendix I).
pub const ADDRESS_MASK: [u8; 2] = [17, 18];

/// A message view.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Message type.
    pub kind: u8,
    /// Message code.
    pub code: u8,
    /// The second four bytes: of questions and answers, identifier and sequence number.
    pub rest: [u8; 4],
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
    /// Identification; for IPv6 the low 16 bits of the flow label.
    pub identification: u16,
    /// The transport header as far as it is quoted: eight bytes from every router (RFC 792), less when our packet was
    /// shorter.
    pub transport: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// When the eight bytes that every message has are not there.
    pub fn new(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        match bytes {
            [kind, code, _, _, a, b, c, d, body @ ..] => {
                Ok(Message { kind: *kind, code: *code, rest: [*a, *b, *c, *d], body })
            }
            _ => Err(Malformed),
        }
    }

    /// The quoted IPv4 packet.
    ///
    /// # Errors
    /// When there is none, or its network header is cut short.
    pub fn quoted_v4(&self) -> Result<Quoted<'a>, Malformed> {
        let packet = ipv4::Packet::new(self.body)?;
        if packet.is_later_fragment() {
            return Err(Malformed);
        }
        Ok(Quoted {
            source: IpAddr::V4(packet.source()),
            destination: IpAddr::V4(packet.destination()),
            protocol: packet.protocol(),
            identification: packet.identification(),
            transport: packet.payload(),
        })
    }

    /// The quoted IPv6 packet.
    ///
    /// # Errors
    /// As [`Message::quoted_v4`].
    pub fn quoted_v6(&self) -> Result<Quoted<'a>, Malformed> {
        let packet = ipv6::Packet::new(self.body)?;
        Ok(Quoted {
            source: IpAddr::V6(packet.source()),
            destination: IpAddr::V6(packet.destination()),
            protocol: packet.protocol(),
            identification: packet.flow(),
            transport: packet.payload(),
        })
    }
}

impl<'a> Quoted<'a> {
    /// Source and destination port and the first four bytes behind them (the TCP sequence number); `None` when fewer
    /// than eight bytes are quoted.
    pub fn transport_head(&self) -> Option<(u16, u16, u32)> {
        match self.transport {
            _ if planted!(13, self.protocol == 6 && self.transport.len() < 20, false) => None,
            [a, b, c, d, e, f, g, h, ..] => Some((
                u16::from_be_bytes([*a, *b]),
                u16::from_be_bytes([*c, *d]),
                u32::from_be_bytes([*e, *f, *g, *h]),
            )),
            _ => None,
        }
    }
}
