//! [`Space`]: the sum of (addresses x ports) blocks, with every target numbered from 0.
//!
//! Within a block, the number of a target is port index x addresses + address index. The blocks are a function of
//! the set of targets alone: addresses are grouped by the exact list of ports they get, so the same targets give
//! the same numbers however they were written.
//!
//! Invariant: immutable. Knows no order: the order maps cursors to these numbers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::addresses::AddressSet;
use super::list::Endpoints;
use super::numbered::{Finder, Numbered};
use super::ports::PortSet;
use super::ranges::{AddressBits, Ranges};
use super::{Port, Target};

/// The most targets a space may have: what the order can permute.
pub const TARGETS_MAX: u64 = 1 << 63;

/// Why no space can be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpaceError {
    /// Addresses without ports.
    #[error("no port is given: choose ports with -p")]
    NoPorts,
    /// No target, and none was excluded.
    #[error("no target is given")]
    NoTargets,
    /// All targets were excluded.
    #[error("no target is left: all {0} are excluded")]
    AllExcluded(u128),
    /// More targets than the order can permute.
    #[error(
        "the plan has {targets} targets, above the limit of 2^63: narrow it, for instance to fewer ports or to \
         blocks of at most /{prefix} (IPv6)"
    )]
    TooManyTargets {
        /// How many there are; saturates.
        targets: u128,
        /// The shortest IPv6 prefix that fits, alone, with the ports of the plan.
        prefix: u8,
    },
    /// More separate ranges than can be numbered.
    #[error(
        "the plan has {0} separate address ranges, above the limit of 2^32: merge them into larger blocks"
    )]
    TooManyRanges(usize),
}

/// All targets of a plan, numbered from 0 to [`Space::len`].
#[derive(Debug, Clone)]
pub struct Space {
    blocks: Box<[Block]>,
    finder: Finder,
    total: u64,
    excluded: u128,
    owners_v4: Box<[(u32, u32)]>,
    owners_v6: Box<[(u128, u32)]>,
}

/// What a block holds, for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSummary<'a> {
    /// Whether the addresses are IPv6.
    pub is_v6: bool,
    /// How many addresses there are.
    pub addresses: u64,
    /// The ports that every one of them gets.
    pub ports: &'a [Port],
}

/// Where [`Space::select_batch`] writes, one lane per target. Every slice must be at least as long as the batch.
#[derive(Debug)]
pub struct Lanes<'a> {
    /// Addresses of the IPv4 lanes, in host byte order; other lanes are left alone.
    pub v4: &'a mut [u32],
    /// Addresses of the IPv6 lanes, in host byte order; other lanes are left alone.
    pub v6: &'a mut [u128],
    /// Port numbers.
    pub port: &'a mut [u16],
    /// Protocol numbers.
    pub protocol: &'a mut [u8],
    /// Which family a lane is of.
    pub is_v6: &'a mut [bool],
}

/// Addresses that get the same ports.
#[derive(Debug, Clone)]
struct Block {
    /// The number of the first target.
    start: u64,
    addresses: Family,
    count: Divisor,
    ports: Box<[Port]>,
}

#[derive(Debug, Clone)]
enum Family {
    V4(Numbered<u32>),
    V6(Numbered<u128>),
}

impl Space {
    /// Makes the space of (`general` x `ports`) and `endpoints`, less every target whose address is in `excluded`.
    /// An address that is in `general` and in `endpoints` gets both the ports of the plan and its own; no target
    /// occurs twice.
    ///
    /// # Errors
    /// When no target is left, or too many are; see [`SpaceError`].
    pub fn new(
        general: &AddressSet,
        ports: &PortSet,
        endpoints: Endpoints,
        excluded: &AddressSet,
    ) -> Result<Space, SpaceError> {
        if ports.is_empty() && !general.is_empty() {
            return Err(SpaceError::NoPorts);
        }
        let v4 = Groups::new(&general.v4, ports, endpoints.v4, &excluded.v4);
        let v6 = Groups::new(&general.v6, ports, endpoints.v6, &excluded.v6);
        let given = v4.given.saturating_add(v6.given);
        let left = v4.left().saturating_add(v6.left());
        if left == 0 {
            return Err(if given == 0 { SpaceError::NoTargets } else { SpaceError::AllExcluded(given) });
        }
        if u128::from(TARGETS_MAX) < left {
            let ports = v6.groups.keys().chain(v4.groups.keys()).map(Vec::len).max().unwrap_or(1);
            let prefix = 65 + (ports as u64).next_power_of_two().trailing_zeros();
            return Err(SpaceError::TooManyTargets {
                targets: left,
                prefix: u8::try_from(prefix).unwrap_or(128),
            });
        }
        let ranges = v4.ranges() + v6.ranges();
        if u32::try_from(ranges).is_err() {
            return Err(SpaceError::TooManyRanges(ranges));
        }
        Ok(Space::numbered(v4, v6, given - left))
    }

    /// Numbers checked groups.
    fn numbered(v4: Groups<u32>, v6: Groups<u128>, excluded: u128) -> Space {
        let mut blocks = Vec::new();
        let mut total = 0;
        let mut push = |ports: Vec<Port>, addresses: Family| {
            let count = addresses.total();
            let targets = count * ports.len() as u64;
            let count = Divisor::new(count);
            blocks.push(Block { start: total, addresses, count, ports: ports.into_boxed_slice() });
            total += targets;
        };
        for (ports, ranges) in v4.groups {
            push(ports, Family::V4(Numbered::new(&ranges)));
        }
        for (ports, ranges) in v6.groups {
            push(ports, Family::V6(Numbered::new(&ranges)));
        }
        let finder = Finder::new(blocks.len(), total, |block| blocks[block].start);
        let owners_v4 = owners(&blocks, |family| match family {
            Family::V4(numbered) => Some(numbered),
            Family::V6(_) => None,
        });
        let owners_v6 = owners(&blocks, |family| match family {
            Family::V6(numbered) => Some(numbered),
            Family::V4(_) => None,
        });
        Space { blocks: blocks.into_boxed_slice(), finder, total, excluded, owners_v4, owners_v6 }
    }

    /// Number of targets: at least 1, at most [`TARGETS_MAX`].
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a space is never empty")]
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Number of targets that were given and excluded.
    pub fn excluded_count(&self) -> u128 {
        self.excluded
    }

    /// Number of addresses.
    pub fn address_count(&self) -> u64 {
        self.blocks.iter().map(|block| block.addresses.total()).sum()
    }

    /// The addresses, as a set.
    pub fn addresses(&self) -> AddressSet {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for block in &self.blocks {
            match &block.addresses {
                Family::V4(numbered) => v4.extend(numbered.ranges()),
                Family::V6(numbered) => v6.extend(numbered.ranges()),
            }
        }
        AddressSet { v4: Ranges::from_unsorted(v4), v6: Ranges::from_unsorted(v6) }
    }

    /// The blocks, for display. IPv4 first.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = BlockSummary<'_>> {
        self.blocks.iter().map(|block| BlockSummary {
            is_v6: matches!(block.addresses, Family::V6(_)),
            addresses: block.addresses.total(),
            ports: &block.ports,
        })
    }

    /// The target with a number.
    ///
    /// # Panics
    /// When `index` is not below [`Space::len`].
    pub fn select(&self, index: u64) -> Target {
        assert!(index < self.total, "target {index} of {}", self.total);
        let block = &self.blocks[self.block_of(index)];
        let (port, number) = block.split(index);
        let address = match &block.addresses {
            Family::V4(numbered) => IpAddr::V4(Ipv4Addr::from(numbered.address(number))),
            Family::V6(numbered) => IpAddr::V6(Ipv6Addr::from(numbered.address(number))),
        };
        Target { address, port: block.ports[port] }
    }

    /// The number of a target, if the space holds it: the inverse of [`Space::select`]. O(log n).
    pub fn rank(&self, target: &Target) -> Option<u64> {
        match target.address {
            IpAddr::V4(address) => {
                let address = u32::from(address);
                let block = owner(&self.owners_v4, address)?;
                let Family::V4(numbered) = &self.blocks[block].addresses else { return None };
                self.blocks[block].rank(numbered.number(address)?, target.port)
            }
            IpAddr::V6(address) => {
                let address = u128::from(address);
                let block = owner(&self.owners_v6, address)?;
                let Family::V6(numbered) = &self.blocks[block].addresses else { return None };
                self.blocks[block].rank(numbered.number(address)?, target.port)
            }
        }
    }

    /// The targets with the given numbers, lane by lane; as [`Space::select`], for the transmit loop. Allocates
    /// nothing.
    ///
    /// # Panics
    /// When a number is not below [`Space::len`], or a slice of `lanes` is shorter than `indexes`.
    pub fn select_batch(&self, indexes: &[u64], lanes: &mut Lanes<'_>) {
        for (lane, &index) in indexes.iter().enumerate() {
            let target = self.select(index);
            lanes.port[lane] = target.port.number;
            lanes.protocol[lane] = target.port.protocol.0;
            lanes.is_v6[lane] = target.address.is_ipv6();
            match target.address {
                IpAddr::V4(address) => lanes.v4[lane] = address.into(),
                IpAddr::V6(address) => lanes.v6[lane] = address.into(),
            }
        }
    }

    /// Feeds the space to a digest: the blocks in order, each with its ports and its ranges. The same targets give
    /// the same bytes, however they were written.
    pub fn feed(&self, sink: &mut impl FnMut(&[u8])) {
        sink(b"space v1");
        sink(&(self.blocks.len() as u64).to_le_bytes());
        for block in &self.blocks {
            sink(&[if matches!(block.addresses, Family::V4(_)) { 4 } else { 6 }]);
            sink(&(block.ports.len() as u64).to_le_bytes());
            for port in &block.ports {
                sink(&[port.protocol.0]);
                sink(&port.number.to_le_bytes());
            }
            match &block.addresses {
                Family::V4(numbered) => feed_ranges(numbered, sink),
                Family::V6(numbered) => feed_ranges(numbered, sink),
            }
        }
    }

    #[inline]
    fn block_of(&self, index: u64) -> usize {
        match &*self.blocks {
            [_] => 0,
            blocks => self.finder.find(index, |block| blocks[block].start),
        }
    }
}

fn feed_ranges<T: AddressBits>(numbered: &Numbered<T>, sink: &mut impl FnMut(&[u8])) {
    sink(&(numbered.ranges().count() as u64).to_le_bytes());
    for (first, last) in numbered.ranges() {
        first.feed(sink);
        last.feed(sink);
    }
}

impl Family {
    #[inline]
    fn total(&self) -> u64 {
        match self {
            Family::V4(numbered) => numbered.total(),
            Family::V6(numbered) => numbered.total(),
        }
    }
}

impl Block {
    /// The port index and the address number of a target.
    #[inline]
    fn split(&self, index: u64) -> (usize, u64) {
        let (port, number) = self.count.divide(index - self.start);
        (usize::try_from(port).unwrap_or(usize::MAX), number)
    }

    /// The number of a target from those of its parts.
    fn rank(&self, number: u64, port: Port) -> Option<u64> {
        let port = self.ports.binary_search(&port).ok()? as u64;
        Some(self.start + port * self.addresses.total() + number)
    }
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

/// For each range of a family's addresses: where it begins, and which block holds it.
fn owners<T: AddressBits>(
    blocks: &[Block],
    family: impl Fn(&Family) -> Option<&Numbered<T>>,
) -> Box<[(T, u32)]> {
    let mut owners = Vec::new();
    let of_family =
        blocks.iter().enumerate().filter_map(|(block, held)| Some((block, family(&held.addresses)?)));
    let count = of_family.clone().count();
    for (block, numbered) in of_family {
        let block = u32::try_from(block).unwrap_or(u32::MAX);
        // A block that is alone in its family needs no search among blocks.
        let ranges = numbered.ranges().take(if count == 1 { 1 } else { usize::MAX });
        owners.extend(ranges.map(|(first, _)| (first, block)));
    }
    owners.sort_unstable();
    owners.into_boxed_slice()
}

/// The only block that can hold an address.
fn owner<T: AddressBits>(owners: &[(T, u32)], address: T) -> Option<usize> {
    let range = owners.partition_point(|&(first, _)| first <= address).checked_sub(1)?;
    Some(owners[range].1 as usize)
}

/// The addresses of one family, grouped by the exact list of ports they get.
struct Groups<T> {
    groups: BTreeMap<Vec<Port>, Ranges<T>>,
    /// Targets before exclusion; saturates.
    given: u128,
}

impl<T: AddressBits> Groups<T> {
    fn new(
        general: &Ranges<T>,
        ports: &PortSet,
        mut endpoints: Vec<(T, Port)>,
        excluded: &Ranges<T>,
    ) -> Groups<T> {
        endpoints.sort_unstable();
        endpoints.dedup();
        endpoints.retain(|&(address, port)| !(general.contains(address) && ports.contains(port)));
        let given =
            general.count().saturating_mul(ports.len() as u128).saturating_add(endpoints.len() as u128);
        endpoints.retain(|&(address, _)| !excluded.contains(address));

        let kept = general.subtract(excluded);
        let mut lists: BTreeMap<Vec<Port>, Vec<(T, T)>> = BTreeMap::new();
        let mut moved = Vec::new();
        for pairs in endpoints.chunk_by(|a, b| a.0 == b.0) {
            let address = pairs[0].0;
            let mut list: Vec<Port> = pairs.iter().map(|&(_, port)| port).collect();
            if kept.contains(address) {
                moved.push((address, address));
                list = PortSet::from_unsorted(list).union(ports).as_slice().to_vec();
            }
            lists.entry(list).or_default().push((address, address));
        }
        let mut groups: BTreeMap<Vec<Port>, Ranges<T>> =
            lists.into_iter().map(|(ports, ranges)| (ports, Ranges::from_unsorted(ranges))).collect();
        let kept = if moved.is_empty() { kept } else { kept.subtract(&Ranges::from_unsorted(moved)) };
        if !kept.is_empty() {
            let same = groups.remove(ports.as_slice()).unwrap_or_default();
            groups.insert(ports.as_slice().to_vec(), if same.is_empty() { kept } else { kept.union(&same) });
        }
        Groups { groups, given }
    }

    /// Targets after exclusion; saturates.
    fn left(&self) -> u128 {
        let sizes =
            self.groups.iter().map(|(ports, ranges)| ranges.count().saturating_mul(ports.len() as u128));
        sizes.fold(0, u128::saturating_add)
    }

    fn ranges(&self) -> usize {
        self.groups.values().map(|ranges| ranges.as_slice().len()).sum()
    }
}
