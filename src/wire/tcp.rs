//! TCP headers (RFC 9293) and their options (RFC 7323, RFC 2018).

use super::Malformed;

/// Length of a header without options, in bytes.
pub const HEADER: usize = 20;

/// Flag bits.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;

    /// Every flag with its name.
    pub const ALL: [(u8, &str); 6] =
        [(FIN, "fin"), (SYN, "syn"), (RST, "rst"), (PSH, "psh"), (ACK, "ack"), (URG, "urg")];
}

/// A header view.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    bytes: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads a header. A data offset that points outside of the segment leaves the options out: some stacks send
    /// such a thing, and the fields before are still theirs.
    ///
    /// # Errors
    /// When the 20 bytes that every header has are not there.
    pub fn new(bytes: &'a [u8]) -> Result<Header<'a>, Malformed> {
        if bytes.len() < HEADER {
            return Err(Malformed);
        }
        let length = usize::from(bytes[12] >> 4) * 4;
        let length = if (HEADER..=bytes.len()).contains(&length) { length } else { HEADER };
        Ok(Header { bytes: &bytes[..length] })
    }

    /// Source port.
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// Destination port.
    pub fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// Sequence number.
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
    }

    /// Acknowledgement number.
    pub fn acknowledgement(&self) -> u32 {
        u32::from_be_bytes([self.bytes[8], self.bytes[9], self.bytes[10], self.bytes[11]])
    }

    /// Flag bits, see [`flag`].
    pub fn flags(&self) -> u8 {
        self.bytes[13]
    }

    /// Whether all of `flags` are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags() & flags == flags
    }

    /// Window, not scaled.
    pub fn window(&self) -> u16 {
        u16::from_be_bytes([self.bytes[14], self.bytes[15]])
    }

    /// What the options say.
    pub fn options(&self) -> Options {
        Options::read(&self.bytes[HEADER..])
    }
}

/// What the options of a header say. Unknown options are stepped over; reading stops at a malformed one, and what
/// stood before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Maximum segment size (kind 2).
    pub mss: Option<u16>,
    /// Window scale (kind 3).
    pub window_scale: Option<u8>,
    /// Timestamp value and echo reply (kind 8).
    pub timestamps: Option<(u32, u32)>,
    /// FNV-1a hash of the kinds in order, padding included; 0 without options. Stacks differ in it.
    pub layout_hash: u32,
}

impl Options {
    fn read(bytes: &[u8]) -> Options {
        let mut options = Options::default();
        let mut rest = bytes;
        let mut hash = FNV_OFFSET;
        while let [kind, tail @ ..] = rest {
            hash = (hash ^ u32::from(*kind)).wrapping_mul(FNV_PRIME);
            options.layout_hash = hash;
            rest = match kind {
                0 => break,
                1 => tail,
                _ => {
                    let Some(length) = tail.first().map(|&length| usize::from(length)) else { break };
                    let Some(value) = rest.get(2..length) else { break };
                    options.take(*kind, value);
                    &rest[length..]
                }
            };
        }
        options
    }

    fn take(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (2, [high, low]) => self.mss = Some(u16::from_be_bytes([*high, *low])),
            (3, [scale]) => self.window_scale = Some(*scale),
            (8, [a, b, c, d, e, f, g, h]) => {
                let (value, echo) = ([*a, *b, *c, *d], [*e, *f, *g, *h]);
                self.timestamps = Some((u32::from_be_bytes(value), u32::from_be_bytes(echo)));
            }
            _ => {}
        }
    }
}

/// Writes a header with `options` (a multiple of four bytes, at most 40); ports, numbers and checksum are zero.
///
/// # Panics
/// When `options` has another length: layouts are constants.
pub fn header(flags: u8, window: u16, options: &[u8]) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4) && options.len() <= 40, "options fill up to ten 32-bit words");
    let mut bytes = vec![0; HEADER];
    let words = (HEADER + options.len()) / 4;
    bytes[12] = u8::try_from(words << 4).expect("at most 15 words");
    bytes[13] = flags;
    bytes[14..16].copy_from_slice(&window.to_be_bytes());
    bytes.extend_from_slice(options);
    bytes
}

/// FNV-1a, 32 bits (Fowler, Noll, Vo).
const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

#[cfg(test)]
mod tests {
    use super::*;

    fn options_of(options: &[u8]) -> Options {
        Header::new(&header(flag::SYN, 1024, options)).expect("complete").options()
    }

    #[test]
    fn the_options_of_a_linux_syn_are_read() {
        let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 7];
        let options = options_of(&linux);
        assert_eq!(
            (options.mss, options.window_scale, options.timestamps),
            (Some(1460), Some(7), Some((7, 9)))
        );
        assert_ne!(options.layout_hash, options_of(&[2, 4, 5, 0xb4]).layout_hash);
        assert_eq!(options_of(&[]).layout_hash, 0);
    }

    #[test]
    fn unknown_options_are_stepped_over_and_malformed_ones_end_the_list() {
        // Fast open (34) with a cookie, then MSS: a scanner that gives up here misses real hosts.
        assert_eq!(options_of(&[34, 4, 1, 2, 2, 4, 5, 0xb4]).mss, Some(1460));
        assert_eq!(options_of(&[2, 4, 5, 0xb4, 3, 0, 0, 0]).mss, Some(1460));
        assert_eq!(options_of(&[3, 200, 0, 0]).window_scale, None);
        assert_eq!(options_of(&[3, 1, 0, 0]).window_scale, None);
    }

    #[test]
    fn a_data_offset_outside_of_the_segment_leaves_the_options_out() {
        let mut bytes = header(flag::SYN, 1, &[2, 4, 5, 0xb4]);
        for words in [0, 4, 15] {
            bytes[12] = words << 4;
            assert_eq!(Header::new(&bytes).expect("long enough").options().mss, None);
        }
        assert!(Header::new(&bytes[..19]).is_err());
    }
}
