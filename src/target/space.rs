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
use super::block::{Block, Family};
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
         blocks of at most /{prefix} (IPv6), or take a sample of each prefix: --per-prefix /64 --sample 4"
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
    /// Which of the ports of all blocks it is, in the order of [`Space::blocks`].
    pub place: &'a mut [u32],
}

impl Space {
    /// Makes the space of (`general` x `ports`) and `endpoints`, less every target whose address is in `excluded`.
    /// An address that is in `general` and in `endpoints` gets both the ports of the plan and its own; no target
    /// occurs twice, and none that its family does not have ([`Port::exists_in`]).
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
        let Endpoints { v4, v6 } = endpoints;
        let v4 = Groups::new(&general.v4, &ports.of_family(false), v4, &excluded.v4);
        let v6 = Groups::new(&general.v6, &ports.of_family(true), v6, &excluded.v6);
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
        let (mut total, mut place) = (0, 0);
        let mut push = |ports: Vec<Port>, addresses: Family| {
            let block = Block::new((total, place), addresses, ports);
            total += block.targets();
            place += u32::try_from(block.ports.len()).expect("fewer than 2^32 ports of all blocks");
            blocks.push(block);
        };
        for (ports, ranges) in v4.groups {
            push(ports, Family::V4(Numbered::new(&ranges).with_tables()));
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

    /// The blocks with their addresses: together all targets, each once.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = (AddressSet, &[Port])> {
        self.blocks.iter().map(|block| {
            let mut addresses = AddressSet::default();
            match &block.addresses {
                Family::V4(numbered) => addresses.v4 = Ranges::from_unsorted(numbered.ranges().collect()),
                Family::V6(numbered) => addresses.v6 = Ranges::from_unsorted(numbered.ranges().collect()),
            }
            (addresses, &*block.ports)
        })
    }

    /// The space of which these are the parts ([`Space::parts`]), in any order; the same numbers stand for the same
    /// targets.
    ///
    /// # Errors
    /// As [`Space::new`]. Parts whose addresses overlap are taken as what they say together.
    pub fn from_parts(parts: impl IntoIterator<Item = (AddressSet, Vec<Port>)>) -> Result<Space, SpaceError> {
        let mut endpoints = Endpoints::default();
        let mut general: Option<(AddressSet, Vec<Port>)> = None;
        let mut parts: Vec<_> = parts.into_iter().collect();
        // The largest are addresses x ports; the others are listed target by target.
        parts.sort_by_key(|(addresses, _)| std::cmp::Reverse(addresses.len()));
        for (addresses, ports) in parts {
            match &mut general {
                None => general = Some((addresses, ports)),
                Some((known, same)) if *same == ports => *known = known.union(&addresses),
                Some(_) => {
                    for port in ports {
                        let v4 = addresses.v4.iter().flat_map(|(first, last)| first..=last);
                        v4.for_each(|address| endpoints.push(Ipv4Addr::from(address).into(), port));
                        let v6 = addresses.v6.iter().flat_map(|(first, last)| first..=last);
                        v6.for_each(|address| endpoints.push(Ipv6Addr::from(address).into(), port));
                    }
                }
            }
        }
        let (addresses, ports) = general.unwrap_or_default();
        Space::new(&addresses, &PortSet::from_unsorted(ports), endpoints, &AddressSet::default())
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

    /// The number of the target that stands for the host of a target: the same for all its questions whether the host is
    /// up.
    ///
    /// # Panics
    /// When `index` is not below [`Space::len`].
    pub fn host(&self, index: u64) -> u64 {
        assert!(index < self.total, "target {index} of {}", self.total);
        self.blocks[self.block_of(index)].host(index)
    }

    /// How many targets each port has, ascending by port.
    pub fn port_targets(&self) -> BTreeMap<Port, u64> {
        let mut counts = BTreeMap::new();
        for block in &self.blocks {
            for &port in &block.ports {
                *counts.entry(port).or_default() += block.addresses.total();
            }
        }
        counts
    }

    /// The targets with the given numbers, lane by lane; as [`Space::select`], for the transmit loop. Allocates
    /// nothing.
    ///
    /// # Panics
    /// When a number is not below [`Space::len`], or a slice of `lanes` is shorter than `indexes`.
    #[inline(always)]
    pub fn select_batch(&self, indexes: &[u64], lanes: &mut Lanes<'_>) {
        self.select_batch_before(indexes, &[], lanes);
    }

    /// As [`Space::select_batch`], while the memory that as many `later` targets need is asked for. It is not waited for, and
    /// nothing that can be seen changes.
    ///
    /// # Panics
    /// As [`Space::select_batch`], and when a later number is not below [`Space::len`].
    #[inline(always)]
    pub fn select_batch_before(&self, indexes: &[u64], later: &[u64], lanes: &mut Lanes<'_>) {
        let mut lanes = lanes.first(indexes.len());
        // Vector units compare by sign: a number is outside when it, or what is left above it, is negative.
        let last = self.total - 1;
        let signs = indexes.iter().fold(0, |signs, &index| signs | index | last.wrapping_sub(index));
        assert!(signs.cast_signed() >= 0, "a target is outside the space of {}", self.total);
        if let [block] = &*self.blocks {
            block.fill(indexes, later, &mut lanes);
        } else {
            self.select_among_blocks(indexes, &mut lanes);
        }
    }

    /// Whether the tables of this space are so large that [`Space::select_batch_before`] is worth the while.
    pub fn is_far(&self) -> bool {
        matches!(&*self.blocks, [Block { addresses: Family::V4(numbered), .. }] if numbered.is_far())
    }

    /// As [`Space::select_batch`], for a space of several blocks.
    fn select_among_blocks(&self, indexes: &[u64], lanes: &mut Lanes<'_>) {
        for (lane, &index) in indexes.iter().enumerate() {
            let block = &self.blocks[self.block_of(index)];
            let (port, offset) = block.split(index);
            lanes.place[lane] = block.first_place + u32::try_from(port).unwrap_or(u32::MAX);
            let port = block.ports[port];
            lanes.port[lane] = port.number;
            lanes.protocol[lane] = port.protocol.0;
            match &block.addresses {
                Family::V4(numbered) => {
                    lanes.is_v6[lane] = false;
                    lanes.v4[lane] = numbered.address(offset);
                }
                Family::V6(numbered) => {
                    lanes.is_v6[lane] = true;
                    lanes.v6[lane] = numbered.address(offset);
                }
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
    sink(&(numbered.ranges().len() as u64).to_le_bytes());
    for (first, last) in numbered.ranges() {
        first.feed(sink);
        last.feed(sink);
    }
}

impl Lanes<'_> {
    /// The first `count` lanes.
    #[inline(always)]
    fn first(&mut self, count: usize) -> Lanes<'_> {
        Lanes {
            v4: &mut self.v4[..count],
            v6: &mut self.v6[..count],
            port: &mut self.port[..count],
            protocol: &mut self.protocol[..count],
            is_v6: &mut self.is_v6[..count],
            place: &mut self.place[..count],
        }
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
        if !kept.is_empty() && !ports.is_empty() {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::Protocol;
    use super::super::addresses::RangeList;
    use super::super::ports::parse_ports;
    use super::super::spec::{Spec, parse_spec};
    use super::super::special;
    use super::*;

    fn given(text: &str) -> RangeList {
        match text {
            "" => RangeList::default(),
            _ => match parse_spec(text).expect(text) {
                Spec::Addresses(ranges) => ranges,
                Spec::Name(name) => panic!("{name:?}"),
            },
        }
    }

    fn set(text: &str) -> AddressSet {
        given(text).into_set()
    }

    fn space(targets: &str, ports: &str, excluded: &str) -> Result<Space, SpaceError> {
        let ports = if ports.is_empty() { PortSet::default() } else { parse_ports(ports).expect(ports) };
        Space::new(&set(targets), &ports, Endpoints::default(), &set(excluded))
    }

    fn tcp(number: u16) -> Port {
        Port { protocol: Protocol::TCP, number }
    }

    fn bytes(space: &Space) -> Vec<u8> {
        let mut bytes = Vec::new();
        space.feed(&mut |part| bytes.extend_from_slice(part));
        bytes
    }

    /// The targets of a batch, read back from the lanes.
    fn batch(space: &Space, indexes: &[u64]) -> Vec<Target> {
        let count = indexes.len();
        let (mut v4, mut v6) = (vec![0; count], vec![0; count]);
        let (mut port, mut protocol, mut is_v6) = (vec![0; count], vec![0; count], vec![false; count]);
        let mut place = vec![0; count];
        let mut lanes = Lanes {
            v4: &mut v4,
            v6: &mut v6,
            port: &mut port,
            protocol: &mut protocol,
            is_v6: &mut is_v6,
            place: &mut place,
        };
        // What is asked for early changes nothing.
        let later: Vec<u64> = indexes.iter().rev().copied().collect();
        space.select_batch_before(indexes, &later, &mut lanes);
        let early = (lanes.v4.to_vec(), lanes.port.to_vec());
        lanes.v4.fill(0);
        space.select_batch(indexes, &mut lanes);
        assert_eq!(early, (lanes.v4.to_vec(), lanes.port.to_vec()));
        let places: Vec<(bool, Port)> = space
            .blocks()
            .flat_map(|block| block.ports.iter().map(move |&port| (block.is_v6, port)))
            .collect();
        for lane in 0..count {
            let named = Port { protocol: Protocol(protocol[lane]), number: port[lane] };
            assert_eq!(places[place[lane] as usize], (is_v6[lane], named));
        }
        let target = |lane: usize| Target {
            address: if is_v6[lane] {
                IpAddr::V6(Ipv6Addr::from(v6[lane]))
            } else {
                IpAddr::V4(Ipv4Addr::from(v4[lane]))
            },
            port: Port { protocol: Protocol(protocol[lane]), number: port[lane] },
        };
        (0..count).map(target).collect()
    }

    /// Checks that the space numbers exactly the targets of a model, by all three ways.
    fn numbers_exactly(space: &Space, model: &BTreeSet<Target>) {
        assert_eq!(space.len(), model.len() as u64);
        let indexes: Vec<u64> = (0..space.len()).collect();
        let selected: Vec<Target> = indexes.iter().map(|&index| space.select(index)).collect();
        assert_eq!(&selected.iter().copied().collect::<BTreeSet<Target>>(), model);
        assert_eq!(batch(space, &indexes), selected);
        for (index, target) in selected.iter().enumerate() {
            assert_eq!(space.rank(target), Some(index as u64), "{target:?}");
        }
        assert_eq!(
            space.addresses(),
            AddressSet::from_ip_ranges(model.iter().map(|t| (t.address, t.address)))
        );
        assert_eq!(u128::from(space.address_count()), space.addresses().len());
    }

    /// Checks the corners of every block, and numbers spread over the space, in a space too large to walk.
    fn inverts(space: &Space) {
        let step = (space.len() / 4093).max(1);
        let spread = (0..space.len()).step_by(usize::try_from(step).expect("64-bit")).take(5000);
        let corners = space.blocks.iter().flat_map(|block| {
            let addresses = block.addresses.total();
            let end = block.start + addresses * block.ports.len() as u64;
            [
                block.start,
                block.start + addresses - 1,
                (block.start + addresses).min(end - 1),
                end - addresses,
                end - 1,
            ]
        });
        let indexes: Vec<u64> = spread.chain(corners).collect();
        for (&index, &target) in indexes.iter().zip(&batch(space, &indexes)) {
            assert_eq!(space.select(index), target);
            assert_eq!(space.rank(&target), Some(index), "{target:?}");
        }
    }

    proptest! {
        #[test]
        fn every_target_has_one_number_and_every_number_one_target(
            v4 in prop::collection::vec((0u32..60, 0u32..9), 0..6),
            v6 in prop::collection::vec((0u32..60, 0u32..9), 0..3),
            ports in prop::collection::btree_set(1u16..6, 1..4),
            endpoints in prop::collection::vec((any::<bool>(), 0u32..70, 1u16..6), 0..12),
            excluded in prop::collection::vec((0u32..70, 0u32..5), 0..4),
        ) {
            let v4_address = |number: u32| IpAddr::V4(Ipv4Addr::from(0xffff_ff00 + number));
            let v6_address = |number: u32| IpAddr::V6(Ipv6Addr::from((1 << 64) - 30 + u128::from(number)));
            let address = |is_v6, number| if is_v6 { v6_address(number) } else { v4_address(number) };
            let ranges = |is_v6: bool, pairs: &[(u32, u32)]| -> Vec<(IpAddr, IpAddr)> {
                pairs.iter().map(|&(first, more)| (address(is_v6, first), address(is_v6, first + more))).collect()
            };
            let general = AddressSet::from_ip_ranges([ranges(false, &v4), ranges(true, &v6)].concat());
            let out = AddressSet::from_ip_ranges([ranges(false, &excluded), ranges(true, &excluded)].concat());
            let ports = PortSet::from_unsorted(ports.into_iter().map(tcp).collect());
            let mut pairs = Endpoints::default();
            for &(is_v6, number, port) in &endpoints {
                pairs.push(address(is_v6, number), tcp(port));
            }

            let mut all = BTreeSet::new();
            for (is_v6, number) in [false, true].into_iter().flat_map(|is_v6| (0..80).map(move |n| (is_v6, n))) {
                let address = address(is_v6, number);
                let swept = ports.iter().filter(|_| general.contains(address));
                let listed = endpoints.iter().filter(|pair| (pair.0, pair.1) == (is_v6, number)).map(|pair| tcp(pair.2));
                all.extend(swept.chain(listed).map(|port| Target { address, port }));
            }
            let left: BTreeSet<Target> = all.iter().filter(|target| !out.contains(target.address)).copied().collect();

            match Space::new(&general, &ports, pairs, &out) {
                Ok(space) => {
                    numbers_exactly(&space, &left);
                    prop_assert_eq!(space.excluded_count(), (all.len() - left.len()) as u128);
                    for target in all.difference(&left) {
                        prop_assert_eq!(space.rank(target), None);
                    }
                }
                Err(SpaceError::NoTargets) => prop_assert!(all.is_empty()),
                Err(SpaceError::AllExcluded(count)) => {
                    prop_assert!(left.is_empty());
                    prop_assert_eq!(count, all.len() as u128);
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }

    #[test]
    fn small_spaces_of_every_size_are_numbered_exactly() {
        for addresses in 1u32..40 {
            for ports in 1u16..6 {
                let general = AddressSet { v4: Ranges::one(7, 6 + addresses), v6: Ranges::default() };
                let set = PortSet::from_unsorted((0..ports).map(tcp).collect());
                let space =
                    Space::new(&general, &set, Endpoints::default(), &AddressSet::default()).expect("space");
                let model = (7..7 + addresses).flat_map(|number| {
                    let address = IpAddr::V4(Ipv4Addr::from(number));
                    set.iter().map(move |port| Target { address, port })
                });
                numbers_exactly(&space, &model.collect());
            }
        }
    }

    #[test]
    fn numbers_walk_all_addresses_of_one_port_before_the_next_port() {
        let space = space("192.0.2.0/30", "22,80", "192.0.2.1").expect("space");
        let shown: Vec<String> = (0..space.len())
            .map(|index| space.select(index))
            .map(|target| format!("{}:{}", target.address, target.port.number))
            .collect();
        assert_eq!(
            shown,
            ["192.0.2.0:22", "192.0.2.2:22", "192.0.2.3:22", "192.0.2.0:80", "192.0.2.2:80", "192.0.2.3:80"]
        );
    }

    #[test]
    fn huge_spaces_select_and_rank_as_inverses() {
        let whole = space("0.0.0.0/0", "0-65535", "").expect("2^48");
        assert_eq!(whole.len(), 1 << 48);
        inverts(&whole);
        let most = space("2001:db8::/66", "80,443", "").expect("2^63");
        assert_eq!(most.len(), TARGETS_MAX);
        inverts(&most);
        inverts(&space("2001:db8::/66", "80", "2001:db8:0:0:2000::/70").expect("uneven"));
        inverts(
            &space("2001:db8::/68,10.0.0.0/8,10.0.0.0-172.16.0.9", "1-3,U:53", "11.1.1.1").expect("mixed"),
        );
    }

    #[test]
    fn the_whole_of_ipv4_on_one_port_is_small_and_exact() {
        let kept = special::apply(given("0.0.0.0/0")).kept;
        let ports = parse_ports("443").expect("ports");
        let space = Space::new(&kept, &ports, Endpoints::default(), &AddressSet::default()).expect("space");
        assert_eq!(space.len(), 3_702_257_664);
        inverts(&space);
        let Family::V4(numbered) = &space.blocks[0].addresses else { panic!("IPv4") };
        assert!(numbered.ranges().count() < 32);
    }

    #[test]
    fn crowded_ranges_are_found_as_well_as_sparse_ones() {
        // Half a million single addresses crowd into a sliver of a space that one huge block fills.
        let mut ranges: Vec<(u128, u128)> = (0..500_000u128).map(|number| (number * 2, number * 2)).collect();
        ranges.push((1 << 100, (1 << 100) + (1 << 61)));
        let general = AddressSet { v4: Ranges::default(), v6: Ranges::from_unsorted(ranges) };
        let ports = parse_ports("80").expect("ports");
        let space =
            Space::new(&general, &ports, Endpoints::default(), &AddressSet::default()).expect("space");
        for index in (0..500_000).step_by(101).chain([500_000, space.len() - 1]) {
            let address = if index < 500_000 {
                u128::from(index) * 2
            } else {
                (1 << 100) + u128::from(index - 500_000)
            };
            let target = Target { address: IpAddr::V6(Ipv6Addr::from(address)), port: tcp(80) };
            assert_eq!(space.select(index), target);
            assert_eq!(space.rank(&target), Some(index));
        }
        inverts(&space);
    }

    #[test]
    fn few_and_many_ipv4_ranges_are_found_in_batches_as_one_by_one() {
        let mut state = 9u32;
        let mut random = |below: u32| {
            state = state.wrapping_mul(0x915f_77f5).wrapping_add(0x9e37_79b9);
            (state >> 7) % below
        };
        // Sparse and crowded, below and above the number of ranges where the tables change.
        for (count, gap, long) in [
            (2, 9, 5),
            (7, 1 << 20, 1 << 22),
            (31, 1 << 20, 1 << 22),
            (32, 1 << 20, 1 << 22),
            (33, 1 << 20, 1 << 22),
            (900, 2, 1),
            (4096, 40, 9),
            (4097, 40, 9),
            (60_001, 3, 2),
            (60_001, 9, 30),
            (140_001, 9, 30),
            (140_001, 1 << 14, 1 << 14),
            (140_002, 9, 30),
        ] {
            let mut first = 0x0100_0000;
            let mut ranges = Vec::new();
            for _ in 0..count {
                let last = first + random(long);
                ranges.push((first, last));
                first = last + 2 + random(gap);
            }
            // One long range makes the others crowd into few buckets; without it, some are lists of addresses.
            if count % 2 == 0 {
                ranges.push((first, first + 0x1000_0000));
            }
            let general = AddressSet { v4: Ranges::from_unsorted(ranges.clone()), v6: Ranges::default() };
            for ports in ["80", "80-83", "22,80,443"] {
                let ports = parse_ports(ports).expect("ports");
                let space = Space::new(&general, &ports, Endpoints::default(), &AddressSet::default());
                let space = space.expect("space");
                inverts(&space);
                let port = *space.blocks[0].ports.first().expect("a port");
                let number_of =
                    |address: u32| space.rank(&Target { address: Ipv4Addr::from(address).into(), port });
                for &(first, last) in ranges.iter().step_by(97) {
                    assert!(number_of(first).is_some() && number_of(last).is_some(), "{count} ranges");
                    assert_eq!((number_of(first - 1), number_of(last + 1)), (None, None), "{count} ranges");
                }
                assert_eq!((number_of(0), number_of(u32::MAX)), (None, None));
                let crowded: Vec<u64> = (0..space.len().min(70_000)).collect();
                for (&index, &target) in crowded.iter().zip(&batch(&space, &crowded)) {
                    assert_eq!(space.select(index), target, "{count} ranges");
                }
            }
        }
    }

    #[test]
    fn an_address_that_is_swept_and_listed_has_the_union_of_the_ports() {
        let mut endpoints = Endpoints::default();
        for (address, number) in
            [("192.0.2.1", 8080), ("192.0.2.1", 80), ("198.51.100.9", 8080), ("192.0.2.2", 80)]
        {
            endpoints.push(address.parse().expect("address"), tcp(number));
        }
        let ports = parse_ports("22,80").expect("ports");
        let space =
            Space::new(&set("192.0.2.0/30"), &ports, endpoints, &AddressSet::default()).expect("space");
        assert_eq!(space.len(), 3 * 2 + 3 + 1);
        let of = |text: &str| {
            let address: IpAddr = text.parse().expect("address");
            let targets = (0..space.len()).map(|index| space.select(index));
            let mut ports: Vec<u16> =
                targets.filter(|target| target.address == address).map(|target| target.port.number).collect();
            ports.sort_unstable();
            ports
        };
        assert_eq!(of("192.0.2.1"), [22, 80, 8080]);
        assert_eq!(of("192.0.2.2"), [22, 80]);
        assert_eq!(of("198.51.100.9"), [8080]);
    }

    #[test]
    fn the_same_targets_give_the_same_bytes_however_they_were_written() {
        let ports = parse_ports("80").expect("ports");
        let whole = space("192.0.2.0/30", "80", "").expect("space");
        let mut rest = Endpoints::default();
        for address in ["192.0.2.3", "192.0.2.2", "192.0.2.3"] {
            rest.push(address.parse().expect("address"), tcp(80));
        }
        let mixed =
            Space::new(&set("192.0.2.0,192.0.2.1"), &ports, rest, &AddressSet::default()).expect("space");
        let excluded = space("192.0.2.0/29", "80", "192.0.2.4/30").expect("space");
        assert_eq!(bytes(&whole), bytes(&mixed));
        assert_eq!(bytes(&whole), bytes(&excluded));
        for other in [
            space("192.0.2.0/30", "81", ""),
            space("192.0.2.0/30", "U:80", ""),
            space("192.0.2.0/31", "80", ""),
        ] {
            assert_ne!(bytes(&whole), bytes(&other.expect("space")));
        }
    }

    #[test]
    fn a_space_without_targets_is_an_error_that_says_which() {
        let error =
            |targets, ports, excluded| space(targets, ports, excluded).expect_err("no space").to_string();
        assert_eq!(error("", "80", ""), "no target is given");
        assert_eq!(error("192.0.2.1", "", ""), "no port is given: choose ports with -p");
        assert_eq!(error("192.0.2.0/30", "80,81", "192.0.2.0/24"), "no target is left: all 8 are excluded");
    }

    #[test]
    fn too_many_targets_is_an_error_that_says_how_to_narrow_the_plan() {
        let error = |targets, ports| space(targets, ports, "").expect_err("too many").to_string();
        let shown = error("2001:db8::/66", "80,443,8080");
        assert!(shown.contains(&format!("the plan has {} targets", 3u128 << 62)), "{shown}");
        assert!(shown.contains("/67"), "{shown}");
        assert!(error("2001:db8::/32", "80").contains("/65"));
        assert!(error("::/0", "80").contains("/65"));
        for (block, ports) in [("2001:db8::/65", "80"), ("2001:db8::/66", "80,443"), ("2001:db8::/67", "1-3")]
        {
            assert!(space(block, ports, "").is_ok(), "{block} {ports}");
        }
    }

    #[test]
    #[should_panic(expected = "target 4 of 4")]
    fn a_number_outside_the_space_panics() {
        space("192.0.2.0/30", "80", "").expect("space").select(4);
    }

    #[test]
    #[should_panic(expected = "outside the space")]
    fn a_number_outside_the_space_panics_in_a_batch_too() {
        batch(&space("192.0.2.0/30", "80", "").expect("space"), &[0, 4]);
    }
}
