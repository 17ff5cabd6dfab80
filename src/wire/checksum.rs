//! The Internet checksum (RFC 1071), in two halves so that constant words are summed once (RFC 1624).

/// The one's-complement sum of `bytes` as big-endian 16-bit words, not yet folded; an odd last byte counts as the
/// high half of a word. Sums of up to 2^48 words can be added with plain `+`.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let mut total = 0;
    for word in &mut words {
        total += u64::from(u16::from_be_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        total += u64::from(*last) << 8;
    }
    total
}

/// Folds a sum and complements it: the value of the checksum field.
#[inline]
pub fn finish(sum: u64) -> u16 {
    // Three folds bring any 64-bit sum of the sizes met here below 2^16; the last adds the carry of the second.
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = planted!(29, sum & 0xffff, (sum & 0xffff) + (sum >> 16));
    #[expect(clippy::cast_possible_truncation, reason = "folded below 2^16")]
    let folded = sum as u16;
    !folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(finish(sum(&bytes)), !0xddf2);
    }

    #[test]
    fn sums_of_parts_add_up_to_the_sum_of_the_whole() {
        let bytes: Vec<u8> = (0..=255).chain([7]).collect();
        assert_eq!(finish(sum(&bytes[..100]) + sum(&bytes[100..])), finish(sum(&bytes)));
    }

    #[test]
    fn carries_of_every_size_fold() {
        for sum in [0, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, 0xffff_ffff_ffff] {
            let mut slow = sum;
            while 0xffff < slow {
                slow = (slow & 0xffff) + (slow >> 16);
            }
            assert_eq!(finish(sum), !(slow as u16), "{sum:#x}");
        }
    }
}
