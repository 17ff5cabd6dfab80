//! [`Block`]: addresses that all get the same ports, its targets numbered; one number at a time, and in batches.
//!
//! Invariant: immutable; finding a batch allocates nothing and divides nothing.

use super::Port;
use super::numbered::Numbered;
use super::ports::Places;
use super::ranges::AddressBits;
use super::space::Lanes;
use super::table::CHUNK;

/// Addresses that get the same ports.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// The number of the first target.
    pub(super) start: u64,
    pub(super) addresses: Family,
    count: Divisor,
    lane_count: LaneDivisor,
    pub(super) ports: Box<[Port]>,
    places: Places,
    /// The place of the first port among the ports of all blocks.
    pub(super) first_place: u32,
    /// Whether the ports are consecutive numbers of one protocol: then a batch needs no table of them.
    consecutive: bool,
    /// The ports [`packed`], where there are few.
    few: Option<[u32; FEW]>,
}

/// The addresses of a block.
#[derive(Debug, Clone)]
pub(super) enum Family {
    V4(Numbered<u32>),
    V6(Numbered<u128>),
}

impl Family {
    #[inline]
    pub(super) fn total(&self) -> u64 {
        match self {
            Family::V4(numbered) => numbered.total(),
            Family::V6(numbered) => numbered.total(),
        }
    }
}

impl Block {
    /// The block of `addresses` x `ports`, neither of them empty, whose first target has the number `start` and whose first
    /// port that place among all.
    pub(super) fn new((start, first_place): (u64, u32), addresses: Family, ports: Vec<Port>) -> Block {
        let count = Divisor::new(addresses.total());
        let follows = |pair: &[Port]| {
            pair[0].protocol == pair[1].protocol && pair[0].number.checked_add(1) == Some(pair[1].number)
        };
        let consecutive = ports.windows(2).all(follows);
        let lane_count = LaneDivisor::new(addresses.total(), addresses.total() * ports.len() as u64);
        let places = Places::new(ports.iter().copied());
        let few = (ports.len() <= FEW).then(|| {
            let mut few = [0; FEW];
            few.iter_mut().zip(&ports).for_each(|(one, &port)| *one = packed(port));
            few
        });
        let ports = ports.into_boxed_slice();
        Block { start, addresses, count, lane_count, ports, places, first_place, consecutive, few }
    }

    /// The number of the target that stands for the host of another target: that of the first question about hosts,
    /// or of the first port where there is none.
    pub(super) fn host(&self, index: u64) -> u64 {
        let (_, number) = self.split(index);
        let port = self.ports.iter().position(|port| port.protocol.asks_host()).unwrap_or(0);
        self.start + port as u64 * self.addresses.total() + number
    }

    /// How many targets there are.
    pub(super) fn targets(&self) -> u64 {
        self.addresses.total() * self.ports.len() as u64
    }

    /// The port index and the address number of a target.
    #[inline]
    pub(super) fn split(&self, index: u64) -> (usize, u64) {
        let (port, number) = self.count.divide(index - self.start);
        (usize::try_from(port).unwrap_or(usize::MAX), number)
    }

    /// The number of a target from those of its parts.
    pub(super) fn rank(&self, number: u64, port: Port) -> Option<u64> {
        let port = self.places.of(port)? as u64;
        Some(self.start + port * self.addresses.total() + number)
    }

    /// Writes the targets with the given numbers, all of this block, to the lanes, and asks for the memory that as many others,
    /// or none, need later.
    #[inline(always)]
    pub(super) fn fill(&self, indexes: &[u64], later: &[u64], lanes: &mut Lanes<'_>) {
        match &self.addresses {
            Family::V4(numbered) => {
                lanes.is_v6.fill(false);
                let addresses = indexes.chunks(CHUNK).zip(lanes.v4.chunks_mut(CHUNK));
                let ports = lanes.port.chunks_mut(CHUNK).zip(lanes.protocol.chunks_mut(CHUNK));
                let ports = ports.zip(lanes.place.chunks_mut(CHUNK));
                let mut later = later.chunks(CHUNK);
                for ((indexes, addresses), ((numbers, protocols), places)) in addresses.zip(ports) {
                    let mut offsets = [0; CHUNK];
                    self.split_lanes(indexes, &mut offsets[..indexes.len()], (numbers, protocols, places));
                    let later = later.next().map(|indexes| self.offsets(indexes));
                    numbered.addresses(&offsets, later.as_ref(), addresses);
                }
            }
            Family::V6(numbered) => {
                lanes.is_v6.fill(true);
                let addresses = indexes.chunks(CHUNK).zip(lanes.v6.chunks_mut(CHUNK));
                let ports = lanes.port.chunks_mut(CHUNK).zip(lanes.protocol.chunks_mut(CHUNK));
                let ports = ports.zip(lanes.place.chunks_mut(CHUNK));
                for ((indexes, addresses), ((numbers, protocols), places)) in addresses.zip(ports) {
                    let mut offsets = [0; CHUNK];
                    let offsets = &mut offsets[..indexes.len()];
                    self.split_lanes(indexes, offsets, (numbers, protocols, places));
                    numbered.addresses_v6(offsets, addresses);
                }
            }
        }
    }

    /// The numbers of the addresses of IPv4 targets.
    #[inline(always)]
    fn offsets(&self, indexes: &[u64]) -> [u64; CHUNK] {
        let mut offsets = [0; CHUNK];
        for (offset, &index) in offsets.iter_mut().zip(indexes) {
            *offset = index - self.start;
        }
        if self.ports.len() != 1 {
            for offset in &mut offsets {
                (_, *offset) = self.lane_count.divide(*offset);
            }
        }
        offsets
    }

    /// Whether [`LaneDivisor`] divides by the number of addresses.
    #[inline(always)]
    fn below_lane_count(&self) -> bool {
        self.addresses.total() <= 1 << 32
    }

    /// The address numbers and the ports of at most [`CHUNK`] targets: loops that a compiler turns into vector code.
    #[inline(always)]
    fn split_lanes(
        &self,
        indexes: &[u64],
        offsets: &mut [u64],
        (numbers, protocols, places): (&mut [u16], &mut [u8], &mut [u32]),
    ) {
        let first = self.ports[0];
        if self.ports.len() == 1 {
            for (offset, &index) in offsets.iter_mut().zip(indexes) {
                *offset = index - self.start;
            }
            numbers.fill(first.number);
            protocols.fill(first.protocol.0);
            places.fill(self.first_place);
            return;
        }
        let mut quotients = [0; CHUNK];
        if self.below_lane_count() {
            for ((offset, quotient), &index) in offsets.iter_mut().zip(&mut quotients).zip(indexes) {
                (*quotient, *offset) = self.lane_count.divide(index - self.start);
            }
        } else {
            for ((offset, quotient), &index) in offsets.iter_mut().zip(&mut quotients).zip(indexes) {
                let (port, number) = self.split(index);
                (*quotient, *offset) = (u32::number(port as u64), number);
            }
        }
        for (place, &quotient) in places.iter_mut().zip(&quotients) {
            *place = self.first_place + quotient;
        }
        if self.consecutive {
            for (number, &quotient) in numbers.iter_mut().zip(&quotients) {
                *number = first.number.wrapping_add((quotient & 0xffff) as u16);
            }
            protocols.fill(first.protocol.0);
        } else {
            // One word is looked up for each; both parts are taken out of it for all lanes at once.
            let mut words = [0; CHUNK];
            let wanted = &mut words[..numbers.len()];
            if let Some(few) = &self.few {
                for (word, &quotient) in wanted.iter_mut().zip(&quotients) {
                    *word = few[quotient as usize % FEW];
                }
            } else {
                for (word, &quotient) in wanted.iter_mut().zip(&quotients) {
                    *word = packed(self.ports[quotient as usize]);
                }
            }
            for (number, &word) in numbers.iter_mut().zip(&words) {
                *number = (word & 0xffff) as u16;
            }
            for (protocol, &word) in protocols.iter_mut().zip(&words) {
                *protocol = (word >> 16 & 0xff) as u8;
            }
        }
    }
}

/// A port in one word: its number low, its protocol above.
#[inline(always)]
fn packed(port: Port) -> u32 {
    u32::from(port.protocol.0) << 16 | u32::from(port.number)
}

/// Divides by a number that is known long before: one multiplication.
#[derive(Debug, Clone, Copy)]
struct Divisor {
    divisor: u64,
    /// floor((2^64 - 1) / divisor).
    reciprocal: u64,
}

impl Divisor {
    fn new(divisor: u64) -> Divisor {
        Divisor { divisor, reciprocal: u64::MAX / divisor }
    }

    /// Quotient and remainder, exact for every dividend.
    ///
    /// With r = floor((2^64 - 1) / n), the product x r / 2^64 falls short of x / n by x (2^64 - n r) / (n 2^64), and
    /// 2^64 - n r is at most n, so by at most x / 2^64 < 1: the estimate is the quotient or one less.
    #[inline]
    fn divide(self, dividend: u64) -> (u64, u64) {
        let quotient = ((u128::from(dividend) * u128::from(self.reciprocal)) >> 64) as u64;
        let remainder = dividend - quotient * self.divisor;
        let short = self.divisor <= remainder;
        (quotient + u64::from(short), remainder - if short { self.divisor } else { 0 })
    }
}

/// As [`Divisor`], in steps that vector units have: 32-bit multiplications, one shift for all lanes, comparison by
/// sign. For a divisor of at most 2^32 (IPv4 addresses) and quotients below 2^24 (ports).
#[derive(Debug, Clone, Copy)]
struct LaneDivisor {
    /// The divisor less one, which has 32 bits.
    below: u64,
    /// Brings every dividend below 2^32.
    shift: u32,
    /// floor(2^(scale + shift) / divisor), between 2^31 and 2^32.
    reciprocal: u64,
    scale: u32,
}

impl LaneDivisor {
    /// For dividends below `total`, a multiple of the divisor.
    fn new(divisor: u64, total: u64) -> LaneDivisor {
        let shift = 32u32.saturating_sub((total - 1).leading_zeros());
        let scale =
            (31 + divisor.ilog2() + u32::from(!divisor.is_power_of_two())).saturating_sub(shift).min(63);
        let reciprocal = (1u128 << (scale + shift)) / u128::from(divisor);
        let reciprocal = u64::try_from(reciprocal).unwrap_or(u64::MAX);
        LaneDivisor { below: divisor - 1, shift, reciprocal, scale }
    }

    /// Quotient and remainder.
    ///
    /// With s = shift, t = scale, n = divisor and r = reciprocal, the product floor(x / 2^s) r / 2^t falls short of
    /// x / n by less than 2^s / n + x / 2^(s + t). Where s is not 0 the total is at least 2^(31 + s) and at most 2^24 n,
    /// so the first part is at most 2^-7; where s is 0 nothing is cut off x, and the first part is 0. Since r is at
    /// least 2^31, 2^(s + t) is at least 2^31 n, and the second part is at most 2^-7. So the estimate is the quotient or
    /// one less.
    #[inline(always)]
    fn divide(self, dividend: u64) -> (u32, u64) {
        let quotient = ((((dividend >> self.shift) & LOW) * (self.reciprocal & LOW)) >> self.scale) & LOW;
        let remainder = dividend.wrapping_sub(quotient * (self.below & LOW) + quotient);
        let over = remainder.wrapping_sub(self.below + 1);
        let short = 0 <= over.cast_signed();
        let quotient = u32::number(quotient + u64::from(short));
        (quotient, if short { over } else { remainder })
    }
}

/// Ports of a block that are looked up in a table of known size, which needs no check of its index.
const FEW: usize = 32;
const LOW: u64 = 0xffff_ffff;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn division_by_multiplication_is_exact(dividend in any::<u64>(), divisor in 1u64.., shift in 0u32..64) {
            for divisor in [divisor, (divisor >> shift).max(1), (1 << shift), (1u64 << shift).saturating_sub(1).max(1)] {
                let divide = Divisor::new(divisor);
                let multiple = dividend / divisor * divisor;
                for dividend in [dividend, multiple, multiple.wrapping_sub(1), u64::MAX, dividend >> shift, 0] {
                    prop_assert_eq!(divide.divide(dividend), (dividend / divisor, dividend % divisor));
                }
            }
        }

        #[test]
        fn division_in_lanes_equals_division(addresses in 1u64..=1 << 32, ports in 1u64..1 << 24, shift in 0u32..33) {
            for addresses in [addresses, (addresses >> shift).max(1), 1 << shift, (1 << shift) + 1] {
                let addresses = addresses.min(1 << 32);
                for ports in [1, ports, (ports >> (shift % 24)).max(1), 1 << 16, 1 << 24] {
                    let divide = LaneDivisor::new(addresses, addresses * ports);
                    prop_assert!(divide.reciprocal < 1 << 32);
                    for port in [0, 1, ports / 2, ports - 1] {
                        for offset in [0, 1, addresses / 2, addresses - 1] {
                            let (port, offset) = (port.min(ports - 1), offset.min(addresses - 1));
                            prop_assert_eq!(divide.divide(port * addresses + offset), (port as u32, offset));
                        }
                    }
                }
            }
        }
    }
}
