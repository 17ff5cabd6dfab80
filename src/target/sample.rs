//! Samples of IPv6 space too large to sweep: a few addresses in each prefix of a length, at places where hosts are found.
//!
//! Invariant: a function of what is given alone: the same prefixes, patterns and seed draw the same addresses on every
//! machine. What is drawn is a list like any other, so order, inverse, digest and excludes need no exception; its length
//! is bounded by [`MOST`].

use std::collections::BTreeSet;
use std::hash::Hasher;
use std::net::Ipv6Addr;

use siphasher::sip::SipHasher13;

/// Where in a prefix addresses are drawn (RFC 7707 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// `::1`, `::2` and so on: what people write by hand, routers above all.
    LowByte,
    /// Made of a link-layer address (RFC 4291 appendix A), drawn at random: `ff:fe` in the middle.
    Eui64,
    /// Anywhere.
    Random,
}

impl Pattern {
    /// Every pattern with its name on the command line.
    pub const ALL: [(Pattern, &'static str); 3] =
        [(Pattern::LowByte, "low"), (Pattern::Eui64, "eui64"), (Pattern::Random, "random")];

    /// Whether the seed decides what is drawn.
    pub fn is_random(self) -> bool {
        self != Pattern::LowByte
    }

    /// The address behind the prefix in `host_bits` bits that is drawn in turn `turn`; `None` when there are no more.
    fn draw(self, (prefix, host_bits): (u128, u8), turn: u32, seed: u64) -> Option<u128> {
        let mask = (1u128 << host_bits) - 1;
        match self {
            Pattern::LowByte => Some(u128::from(turn) + 1).filter(|low| *low <= mask),
            Pattern::Random => {
                // The upper half is drawn apart: prefixes longer than /64 have none, and keep what they always drew.
                let upper = if 64 < host_bits { hash(prefix, turn | UPPER, seed) } else { 0 };
                Some((u128::from(upper) << 64 | u128::from(hash(prefix, turn, seed))) & mask)
            }
            Pattern::Eui64 => {
                let [a, b, c, d, e, f, ..] = hash(prefix, turn, seed).to_be_bytes();
                // A universal address of one station, whose bit that says so is turned over.
                let halves = [a & 0xfc | 2, b, c, 0xff, 0xfe, d, e, f];
                Some(u128::from(u64::from_be_bytes(halves)))
            }
        }
    }
}

/// How to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Length of the prefixes, 1 to 127.
    pub prefix: u8,
    /// Addresses in each, for each pattern.
    pub count: u32,
    /// Where.
    pub patterns: Vec<Pattern>,
    /// What random patterns are drawn from.
    pub seed: u64,
}

impl Sample {
    /// The addresses drawn from ranges. A range shorter than a prefix is kept whole: somebody named it.
    ///
    /// # Errors
    /// A sentence when the result would be longer than [`MOST`], or a pattern does not fit the prefixes.
    pub fn of(&self, ranges: &[(u128, u128)]) -> Result<Vec<(u128, u128)>, String> {
        let host_bits = 128 - self.prefix;
        if host_bits < 64 && self.patterns.contains(&Pattern::Eui64) {
            return Err(format!("eui64 addresses need 64 bits; a /{} has {host_bits}", self.prefix));
        }
        let each = self.patterns.len() as u128 * u128::from(self.count);
        let is_large =
            |range: &&(u128, u128)| (range.1 - range.0) >> host_bits != 0 || whole(**range, host_bits);
        let prefixes: u128 = ranges
            .iter()
            .filter(is_large)
            .map(|(first, last)| (last >> host_bits) - (first >> host_bits) + 1)
            .sum();
        if MOST < prefixes.saturating_mul(each) {
            return Err(format!(
                "{prefixes} prefixes of /{} with {each} addresses each are {} addresses, above the limit of {MOST}: name smaller blocks, prefixes of a shorter length or a smaller --sample",
                self.prefix,
                prefixes.saturating_mul(each)
            ));
        }
        let mut drawn: Vec<(u128, u128)> = ranges.iter().filter(|range| !is_large(range)).copied().collect();
        for &(first, last) in ranges.iter().filter(is_large) {
            for prefix in first >> host_bits..=last >> host_bits {
                let inside = |address: &u128| (first..=last).contains(address);
                drawn.extend(
                    self.in_prefix(prefix << host_bits, host_bits)
                        .into_iter()
                        .filter(inside)
                        .map(|one| (one, one)),
                );
            }
        }
        Ok(drawn)
    }

    /// The addresses of one prefix.
    fn in_prefix(&self, prefix: u128, host_bits: u8) -> BTreeSet<u128> {
        let mut addresses = BTreeSet::new();
        for pattern in &self.patterns {
            let wanted = addresses.len() + self.count as usize;
            // Two draws may be equal where a prefix is small: draw again, but not for ever.
            for turn in 0..self.count.saturating_mul(REDRAWS) {
                if wanted <= addresses.len() {
                    break;
                }
                addresses.extend(pattern.draw((prefix, host_bits), turn, self.seed).map(|low| prefix | low));
            }
        }
        addresses
    }
}

/// Whether a range is exactly a prefix.
fn whole((first, last): (u128, u128), host_bits: u8) -> bool {
    last - first == (1 << host_bits) - 1 && first.trailing_zeros() >= u32::from(host_bits)
}

fn hash(prefix: u128, turn: u32, seed: u64) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed, u64::from_le_bytes(*b"sample 1"));
    hasher.write(&Ipv6Addr::from(prefix).octets());
    hasher.write(&turn.to_be_bytes());
    hasher.finish()
}

/// Most addresses drawn: 128 MiB of ranges.
pub const MOST: u128 = 1 << 22;
/// What marks the turns that draw upper halves: above every turn.
const UPPER: u32 = 1 << 31;
/// Draws for each address at most.
const REDRAWS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(prefix: u8, count: u32, patterns: &[Pattern]) -> Sample {
        Sample { prefix, count, patterns: patterns.to_vec(), seed: 7 }
    }

    fn block(text: &str, length: u8) -> (u128, u128) {
        let first = u128::from(text.parse::<Ipv6Addr>().expect("address"));
        (first, first + ((1 << (128 - length)) - 1))
    }

    #[test]
    fn each_prefix_gets_as_many_addresses_as_asked_for_where_the_pattern_says() {
        let drawn = sample(64, 3, &[Pattern::LowByte, Pattern::Eui64, Pattern::Random])
            .of(&[block("2001:db8::", 56)])
            .expect("fits");
        assert_eq!(drawn.len(), 256 * 9);
        assert_eq!(drawn.iter().map(|range| range.0 >> 64).collect::<BTreeSet<_>>().len(), 256);
        let low = drawn.iter().filter(|range| range.0 & u128::from(u64::MAX) <= 3).count();
        assert_eq!(low, 256 * 3);
        let eui: Vec<u128> =
            drawn.iter().map(|range| range.0).filter(|one| one >> 24 & 0xffff == 0xfffe).collect();
        assert_eq!(eui.len(), 256 * 3);
        assert!(eui.iter().all(|one| one >> 56 & 3 == 2), "universal, of one station");
        assert!(
            drawn.iter().all(|range| range.0 == range.1 && range.0 >> 72 == block("2001:db8::", 56).0 >> 72)
        );
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_does_not() {
        let ranges = [block("2001:db8::", 60)];
        let one = sample(64, 4, &[Pattern::Random]);
        let other = Sample { seed: 8, ..one.clone() };
        assert_eq!(one.of(&ranges), one.of(&ranges));
        assert_ne!(one.of(&ranges), other.of(&ranges));
    }

    #[test]
    fn what_is_shorter_than_a_prefix_stays_and_small_prefixes_run_out() {
        let named = block("2001:db8::99", 128);
        assert_eq!(sample(64, 1, &[Pattern::LowByte]).of(&[named]), Ok(vec![named]));
        let part = (named.0, named.0 + (1 << 64));
        let drawn = sample(64, 1, &[Pattern::LowByte]).of(&[part]).expect("fits");
        assert_eq!(drawn.len(), 1, "::1 of the first prefix is outside of the range: {drawn:x?}");
        let tiny = sample(126, 9, &[Pattern::LowByte]).of(&[block("2001:db8::", 125)]).expect("fits");
        assert_eq!(tiny.len(), 6, "::1 to ::3 of two prefixes of four");
        let tiny = sample(126, 9, &[Pattern::Random]).of(&[block("2001:db8::", 126)]).expect("fits");
        assert!(tiny.len() <= 4);
    }

    #[test]
    fn too_many_are_refused_with_the_way_out() {
        let error = sample(64, 4, &[Pattern::LowByte]).of(&[block("2001:db8::", 32)]).expect_err("2^34");
        assert!(
            error.contains("4294967296 prefixes") && error.contains("above the limit of 4194304"),
            "{error}"
        );
        let error = sample(80, 4, &[Pattern::Eui64]).of(&[block("2001:db8::", 64)]).expect_err("48 bits");
        assert!(error.contains("need 64 bits"), "{error}");
    }
}
