//! IPv4 headers (RFC 791).

use std::net::Ipv4Addr;

use super::{Malformed, checksum};

/// Length of a header without options, in bytes.
pub const HEADER: usize = 20;
const HEADER_LENGTH: u16 = 20;

/// A header view and what it carries.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    header: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet; bytes behind the total length (Ethernet padding) are cut off. A packet that is cut short, as
    /// those quoted in ICMP errors are, is accepted as far as it goes.
    ///
    /// # Errors
    /// When the header is no IPv4 header or incomplete.
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        let first = *bytes.first().ok_or(Malformed)?;
        let length = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || length < HEADER || bytes.len() < length {
            return Err(Malformed);
        }
        let total = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        // A total length of 0 is what segmentation offload leaves on loopback and in some captures.
        let end = if total == 0 { bytes.len() } else { total.clamp(length, bytes.len().max(length)) };
        Ok(Packet { header: &bytes[..length], payload: &bytes[length..end] })
    }

    /// Source address.
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.header[12], self.header[13], self.header[14], self.header[15])
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.header[16], self.header[17], self.header[18], self.header[19])
    }

    /// Time to live.
    pub fn ttl(&self) -> u8 {
        self.header[8]
    }

    /// Protocol number of the payload.
    pub fn protocol(&self) -> u8 {
        self.header[9]
    }

    /// Identification.
    pub fn identification(&self) -> u16 {
        u16::from_be_bytes([self.header[4], self.header[5]])
    }

    /// Whether this is a fragment other than the first: it has no transport header.
    pub fn is_later_fragment(&self) -> bool {
        u16::from_be_bytes([self.header[6], self.header[7]]) & 0x1fff != 0
    }

    /// The transport header and what follows.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// What a probe's header says.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub identification: u16,
    /// Length of what follows the header, in bytes.
    pub payload_length: u16,
}

/// Writes a header without options, "don't fragment" set. The checksum is right for these fields.
pub fn header(fields: &Fields) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = 0x45;
    bytes[2..4].copy_from_slice(&(fields.payload_length + HEADER_LENGTH).to_be_bytes());
    bytes[4..6].copy_from_slice(&fields.identification.to_be_bytes());
    bytes[6] = 0x40;
    bytes[8] = fields.ttl;
    bytes[9] = fields.protocol;
    bytes[12..16].copy_from_slice(&fields.source.octets());
    bytes[16..20].copy_from_slice(&fields.destination.octets());
    let sum = checksum::finish(checksum::sum(&bytes));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}
