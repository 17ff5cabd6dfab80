//! SCTP packets (RFC 9260): the common header, the first chunk, and the checksum.

use super::Malformed;

/// Length of the common header in bytes.
pub const HEADER: usize = 12;

/// Chunk types.
pub mod chunk {
    /// Opens an association.
    pub const INIT: u8 = 1;
    /// Agrees to open one.
    pub const INIT_ACK: u8 = 2;
    /// Ends one at once, or refuses it.
    pub const ABORT: u8 = 6;
    /// Brings back the state cookie.
    pub const COOKIE_ECHO: u8 = 10;
}

/// A packet view.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Verification tag.
    pub verification_tag: u32,
    /// Type of the first chunk.
    pub kind: u8,
    /// Flags of the first chunk.
    pub flags: u8,
    /// The packet from its first byte on.
    pub bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the common header and the head of the first chunk. The checksum is not looked at: who has our cookie has
    /// it from us.
    ///
    /// # Errors
    /// When one of them is incomplete.
    pub fn new(bytes: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        let [a, b, c, d, e, f, g, h, _, _, _, _, kind, flags, _, _, ..] = bytes else {
            return Err(Malformed);
        };
        Ok(Packet {
            source_port: u16::from_be_bytes([*a, *b]),
            destination_port: u16::from_be_bytes([*c, *d]),
            verification_tag: u32::from_be_bytes([*e, *f, *g, *h]),
            kind: *kind,
            flags: *flags,
            bytes,
        })
    }
}

/// The CRC-32C of a packet whose checksum field is zero; it is written in little-endian byte order (RFC 9260
/// appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

/// What a byte does to the checksum: the polynomial of Castagnoli, bits reversed.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let (mut byte, mut number) = (0, 0);
    while byte < 256 {
        let mut crc = number;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
        number += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_3720_section_b_4() {
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&rising).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
    }

    #[test]
    fn a_packet_without_a_chunk_is_malformed() {
        let bytes = [0, 80, 0x40, 0, 1, 2, 3, 4, 0, 0, 0, 0, chunk::ABORT, 1, 0, 4];
        let packet = Packet::new(&bytes).expect("whole");
        assert_eq!((packet.source_port, packet.destination_port), (80, 0x4000));
        assert_eq!((packet.verification_tag, packet.kind, packet.flags), (0x0102_0304, 6, 1));
        assert!((0..16).all(|length| Packet::new(&bytes[..length]).is_err()));
    }
}
