//! IPv6 headers (RFC 8200).

use std::net::Ipv6Addr;

use super::Malformed;

/// Length of the fixed header in bytes.
pub const HEADER: usize = 40;

/// A header view and what it carries behind its extension headers.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    header: &'a [u8],
    protocol: u8,
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet and walks at most eight extension headers. A packet that is cut short is accepted as far as it
    /// goes.
    ///
    /// # Errors
    /// When the header is no IPv6 header, or an extension header is incomplete, or a fragment is not the first.
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        if bytes.len() < HEADER || bytes[0] >> 4 != 6 {
            return Err(Malformed);
        }
        let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        let (header, rest) = bytes.split_at(HEADER);
        let mut payload = if length == 0 { rest } else { &rest[..length.min(rest.len())] };
        let mut protocol = header[6];
        for _ in 0..8 {
            let size = match protocol {
                // Hop-by-hop, routing, destination options: length in units of 8 bytes behind the first 8.
                0 | 43 | 60 => usize::from(*payload.get(1).ok_or(Malformed)?) * 8 + 8,
                44 => {
                    let fragment = payload.get(..8).ok_or(Malformed)?;
                    if u16::from_be_bytes([fragment[2], fragment[3]]) & 0xfff8 != 0 {
                        return Err(Malformed);
                    }
                    8
                }
                // Authentication header: length in units of 4 bytes behind the first 8.
                51 => usize::from(*payload.get(1).ok_or(Malformed)?) * 4 + 8,
                _ => return Ok(Packet { header, protocol, payload }),
            };
            protocol = *payload.first().ok_or(Malformed)?;
            payload = payload.get(size..).ok_or(Malformed)?;
        }
        Err(Malformed)
    }

    /// Source address.
    pub fn source(&self) -> Ipv6Addr {
        address(self.header, 8)
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv6Addr {
        address(self.header, 24)
    }

    /// The low 16 bits of the flow label (RFC 6437).
    pub fn flow(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// Hop limit.
    pub fn hop_limit(&self) -> u8 {
        self.header[7]
    }

    /// Protocol number behind the extension headers.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The transport header and what follows.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Writes a header; `payload_length` is the length of what follows, in bytes.
pub fn header(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    hop_limit: u8,
    payload_length: u16,
) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[0] = 0x60;
    bytes[4..6].copy_from_slice(&payload_length.to_be_bytes());
    bytes[6] = protocol;
    bytes[7] = hop_limit;
    bytes[8..24].copy_from_slice(&source.octets());
    bytes[24..40].copy_from_slice(&destination.octets());
    bytes
}

fn address(header: &[u8], offset: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[offset..offset + 16]);
    Ipv6Addr::from(octets)
}
