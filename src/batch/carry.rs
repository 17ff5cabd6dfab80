//! What a frame carries from probe to probe, and where: the one definition that the stamper writes by and that
//! probes verify by.

/// The values of one probe that its frame may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secrets {
    /// The source port: part of the cookie, and the pass.
    pub source_port: u16,
    /// The low half of the cookie.
    pub sequence: u32,
    /// The top quarter of the cookie.
    pub identification: u16,
}

/// What a field carries. All numbers are in network byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// The source port, 2 bytes.
    SourcePort,
    /// The target's port, 2 bytes.
    DestinationPort,
    /// The top quarter of the cookie, 2 bytes (it stands in the IPv4 identification as well).
    Identification,
    /// The low 16 bits of the sequence, 2 bytes: a transaction number beside other secrets.
    Low,
    /// The low 8 bits of the sequence, 1 byte: a small protocol's number of a request.
    Byte,
    /// The low 7 bits of the sequence, 1 byte, where 255 means that no answer is wanted.
    Tag,
    /// The low half of the cookie, 4 bytes.
    Sequence,
    /// The same, least significant byte first, 4 bytes.
    Reversed,
    /// The low half of the cookie with the top bit clear, 4 bytes: a positive number for protocols with signed ones.
    Positive,
    /// Sequence, identification and source port, 8 bytes: everything that is secret.
    Wide,
    /// The sequence as eight lower-case hexadecimal digits, 8 bytes of text.
    Text,
    /// The sequence modulo 10^8 as eight decimal digits, 8 bytes of text.
    Digits,
    /// Microseconds since the Unix epoch modulo 2^32, 4 bytes: no secret, it comes back as the round-trip time.
    Time,
}

impl Carry {
    /// Bytes of the field: 1, 2, 4 or 8.
    #[inline(always)]
    pub const fn length(self) -> usize {
        match self {
            Carry::Byte | Carry::Tag => 1,
            Carry::SourcePort | Carry::DestinationPort | Carry::Identification | Carry::Low => 2,
            Carry::Sequence | Carry::Reversed | Carry::Positive | Carry::Time => 4,
            Carry::Wide | Carry::Text | Carry::Digits => 8,
        }
    }

    /// Secret bits that a reply with this field proves, the source port's not counted: those are counted apart.
    pub const fn bits(self) -> u32 {
        match self {
            Carry::SourcePort | Carry::DestinationPort | Carry::Time => 0,
            Carry::Tag => 7,
            Carry::Byte => 8,
            Carry::Identification | Carry::Low => 16,
            Carry::Digits => 26,
            Carry::Positive => 31,
            Carry::Sequence | Carry::Reversed | Carry::Text => 32,
            Carry::Wide => 48,
        }
    }

    /// The number in the field, as its last [`Carry::length`] bytes say it.
    #[inline(always)]
    pub fn value(self, secrets: &Secrets, destination_port: u16, time_us: u32) -> u64 {
        match self {
            Carry::SourcePort => secrets.source_port.into(),
            Carry::DestinationPort => destination_port.into(),
            Carry::Identification => secrets.identification.into(),
            Carry::Low => u64::from(secrets.sequence & 0xffff),
            Carry::Byte => u64::from(secrets.sequence & 0xff),
            Carry::Tag => u64::from(secrets.sequence & 0x7f),
            Carry::Sequence => secrets.sequence.into(),
            Carry::Reversed => secrets.sequence.swap_bytes().into(),
            Carry::Positive => u64::from(secrets.sequence & 0x7fff_ffff),
            Carry::Wide => {
                u64::from(secrets.sequence) << 32
                    | u64::from(secrets.identification) << 16
                    | u64::from(secrets.source_port)
            }
            Carry::Text => hexadecimal(secrets.sequence),
            Carry::Digits => decimal(secrets.sequence % 100_000_000),
            Carry::Time => time_us.into(),
        }
    }

    /// Whether bytes of a reply are what the field carried. A time is no secret and always right; a field that is cut
    /// off is wrong.
    pub fn is_in(self, bytes: &[u8], secrets: &Secrets) -> bool {
        let Some(field) = bytes.get(..self.length()) else { return false };
        let number = field.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
        self == Carry::Time || number == self.value(secrets, 0, 0)
    }
}

/// A field of a frame that changes from probe to probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Offset of its first byte from the start of the transport header.
    pub at: usize,
    /// What it carries.
    pub carry: Carry,
}

/// The checksum of a transport header. `at` is the offset of its field from the start of that header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// None.
    None,
    /// The Internet checksum with the pseudo header (TCP, ICMPv6).
    Pseudo {
        /// Offset of the field.
        at: usize,
    },
    /// The same for UDP: at 6, and a sum of 0 is written as 0xffff, because 0 says that there is none (RFC 768).
    Datagram,
    /// The Internet checksum of the header and what follows alone (ICMP, IGMP).
    Plain {
        /// Offset of the field.
        at: usize,
    },
    /// CRC-32C at 8, in the byte order of RFC 9260 appendix A (SCTP).
    Crc32c,
}

/// Eight hexadecimal digits as text. Out of line, as is [`decimal`]: few frames carry text, and where the compiler has the
/// code at hand it works both out for every frame.
#[inline(never)]
fn hexadecimal(number: u32) -> u64 {
    hexadecimal_digits(number)
}

/// As [`hexadecimal`], for loops over many.
#[inline(always)]
pub(super) fn hexadecimal_digits(number: u32) -> u64 {
    // Each half byte to a byte of its own, in three steps.
    let mut spread = u64::from(number);
    spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Bytes above 9 are letters: 1 in those bytes.
    let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)
}

/// Eight decimal digits of a number below 10^8 as text.
#[inline(never)]
fn decimal(number: u32) -> u64 {
    decimal_digits(number)
}

/// As [`decimal`], for loops over many.
#[inline(always)]
pub(super) fn decimal_digits(mut number: u32) -> u64 {
    let mut text = 0;
    for place in 0..8 {
        text |= u64::from(b'0' + (number % 10).to_le_bytes()[0]) << (8 * place);
        number /= 10;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_as_text_is_what_the_library_writes() {
        for number in [0, 1, 0x0123_4567, 0x89ab_cdef, 0xffff_ffff, 0xa0b1_c2d3] {
            assert_eq!(hexadecimal(number).to_be_bytes(), *format!("{number:08x}").as_bytes());
            let short = number % 100_000_000;
            assert_eq!(decimal(short).to_be_bytes(), *format!("{short:08}").as_bytes());
        }
    }

    #[test]
    fn a_field_is_recognised_whole_and_unchanged_only() {
        let secrets = Secrets { source_port: 0x4001, sequence: 0xdead_beef, identification: 0x1234 };
        for carry in
            [Carry::SourcePort, Carry::Identification, Carry::Low, Carry::Sequence, Carry::Wide, Carry::Text]
        {
            let bytes = carry.value(&secrets, 0, 0).to_be_bytes();
            let field = &bytes[8 - carry.length()..];
            assert!(carry.is_in(field, &secrets) && !carry.is_in(&field[1..], &secrets), "{carry:?}");
            for at in 0..field.len() {
                let mut changed = field.to_vec();
                changed[at] ^= 0x10;
                assert!(!carry.is_in(&changed, &secrets), "{carry:?}");
            }
        }
    }
}
