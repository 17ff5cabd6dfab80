//! UDP datagrams (RFC 768).

use super::Malformed;

/// Length of the header in bytes.
pub const HEADER: usize = 8;

/// A datagram view.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// What follows the header, as far as it was received; bytes behind the datagram's length are cut off.
    pub payload: &'a [u8],
    /// Whether the datagram is longer than what was received: the first fragment of several, for one.
    pub is_cut: bool,
}

impl<'a> Datagram<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// When the header is incomplete or its length leaves no room for itself.
    pub fn new(bytes: &'a [u8]) -> Result<Datagram<'a>, Malformed> {
        let [a, b, c, d, e, f, _, _, payload @ ..] = bytes else { return Err(Malformed) };
        let length = usize::from(u16::from_be_bytes([*e, *f]));
        // A length of 0 says "longer than 65,535 bytes" (RFC 2675 section 4).
        let announced = match length.checked_sub(HEADER) {
            Some(announced) => announced,
            None if length == 0 => payload.len(),
            None => return Err(Malformed),
        };
        Ok(Datagram {
            source_port: u16::from_be_bytes([*a, *b]),
            destination_port: u16::from_be_bytes([*c, *d]),
            payload: &payload[..announced.min(payload.len())],
            is_cut: payload.len() < announced,
        })
    }
}

/// Writes a header for a payload of so many bytes; ports and checksum are zero.
///
/// # Panics
/// When a datagram cannot hold the payload: payloads are checked when they are read.
pub fn header(payload_length: usize) -> [u8; HEADER] {
    let length = u16::try_from(HEADER + payload_length).expect("a payload that fits a datagram");
    let [high, low] = length.to_be_bytes();
    [0, 0, 0, 0, high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_cut_off_and_a_datagram_that_is_cut_short_is_read_as_far_as_it_goes() {
        let mut bytes = vec![0, 53, 0x40, 0, 0, 11, 0, 0, 1, 2, 3, 0, 0];
        let datagram = Datagram::new(&bytes).expect("whole");
        assert_eq!((datagram.source_port, datagram.destination_port), (53, 0x4000));
        assert_eq!((datagram.payload, datagram.is_cut), (&[1, 2, 3][..], false));
        bytes.truncate(9);
        let cut = Datagram::new(&bytes).expect("cut");
        assert_eq!((cut.payload, cut.is_cut), (&[1][..], true));
        bytes[5] = 7;
        assert!(Datagram::new(&bytes).is_err() && Datagram::new(&bytes[..7]).is_err());
        assert_eq!(header(3), [0, 0, 0, 0, 0, 11, 0, 0]);
    }
}
