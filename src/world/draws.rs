//! Random numbers that are a function of what they decide about: the same seed and the same keys draw the same numbers,
//! on every machine and in whatever order things happen.
//!
//! The mixing is SplitMix64 (Steele, Lea, Flood 2014). Nobody has to be unable to guess these numbers; they only have to
//! look independent.

/// A stream of random numbers.
#[derive(Debug, Clone, Copy)]
pub struct Draws(u64);

impl Draws {
    /// The stream of a seed and of what is decided about. Every part counts, and so does their order.
    pub fn new(seed: u64, keys: &[u64]) -> Draws {
        Draws(
            keys.iter().fold(mixed(seed ^ STEP), |state, key| mixed(state.wrapping_add(STEP) ^ mixed(*key))),
        )
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// Whether something of this probability happens; it never does at 0 and always does at 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        // 53 bits: what a double tells apart.
        ((self.bits() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// A number below `count`, which is at least 1.
    pub fn below(&mut self, count: u64) -> u64 {
        u64::try_from((u128::from(self.bits()) * u128::from(count)) >> 64).expect("below a 64-bit count")
    }

    /// A waiting time of an exponential distribution with this mean, in the units of the mean, and never more than 16
    /// times the mean. Integers only, so that every machine draws the same: the logarithm is straight between powers
    /// of two, which makes the mean 6 % high.
    pub fn exponential(&mut self, mean: u64) -> u64 {
        let bits = self.bits() | 1 << 40;
        let whole = u64::from(bits.leading_zeros());
        // The 32 bits behind the leading one tell how far it is to the next power of two.
        let fraction = (bits << (whole + 1)) >> 32;
        let halvings = ((whole + 1) << 32) - fraction;
        // ln 2 = 0.693147 in units of 2^-32.
        let scaled = u128::from(mean) * u128::from(halvings) * 2_977_044_472;
        u64::try_from(scaled >> 64).unwrap_or(u64::MAX)
    }
}

fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_frozen_because_scenarios_name_seeds() {
        let mut draws = Draws::new(1, &[2, 3]);
        assert_eq!([draws.bits(), draws.bits()], FROZEN);
        assert_ne!(Draws::new(1, &[3, 2]).bits(), FROZEN[0], "the order of the keys counts");
    }

    const FROZEN: [u64; 2] = [0x7cca6c79ec677710, 0x6e08ca774980cc7c];

    #[test]
    fn chances_and_means_are_what_they_say() {
        let mut draws = Draws::new(7, &[]);
        for probability in [0.0, 0.01, 0.3, 1.0] {
            let hits = (0..100_000).filter(|_| draws.chance(probability)).count() as f64;
            // Five standard deviations.
            let margin = 5.0 * (100_000.0 * probability * (1.0 - probability)).sqrt();
            assert!((hits - 100_000.0 * probability).abs() <= margin, "{probability}: {hits}");
        }
        let sum: u64 = (0..100_000).map(|_| draws.exponential(1000)).sum();
        assert!((1_000..1_100).contains(&(sum / 100_000)), "the mean is {}", sum / 100_000);
        assert!((0..100_000).all(|_| draws.below(3) < 3));
    }
}
