//! [`Numbered`]: addresses counted from 0, ascending, with both directions fast; and [`Finder`], the bucket table
//! that both it and the space search with.
//!
//! Invariant: immutable once built; a look-up allocates nothing and divides nothing.

use super::ranges::{AddressBits, Ranges};
use super::table::{CHUNK, Table};

/// Finds which of many ascending starts is the last at or below a number.
///
/// The numbers are cut into equal buckets, and the table says for each bucket which start is in force at its
/// beginning, so a look-up is one load and a search among the starts inside one bucket: usually none. Where many
/// starts crowd into one bucket the search is binary, so no input is slower than a plain binary search.
#[derive(Debug, Clone, Default)]
pub(super) struct Finder {
    shift: u32,
    /// One entry per bucket, and one more that ends the last bucket.
    table: Box<[u32]>,
}

impl Finder {
    /// A finder over `count` starts, the first of them 0, of numbers below `total`.
    pub(super) fn new(count: usize, total: u64, start: impl Fn(usize) -> u64) -> Finder {
        let most = BUCKETS_MAX.max(count.saturating_mul(BUCKETS_PER_START_MIN));
        Finder::with_buckets(count, total, count.saturating_mul(BUCKETS_PER_START).clamp(1, most), start)
    }

    /// The same with about so many buckets, at least 1. Where the first start is not 0, numbers below it count as its own.
    fn with_buckets(count: usize, total: u64, wanted: usize, start: impl Fn(usize) -> u64) -> Finder {
        let bits = u64::BITS - total.saturating_sub(1).leading_zeros();
        let shift = bits.saturating_sub(wanted.next_power_of_two().trailing_zeros());
        let buckets = total.saturating_sub(1).checked_shr(shift).unwrap_or(0) + 1;
        let mut table = Vec::new();
        let mut index = 0;
        for bucket in 0..buckets {
            let beginning = bucket << shift;
            while index + 1 < count && start(index + 1) <= beginning {
                index += 1;
            }
            table.push(u32::try_from(index).unwrap_or(u32::MAX));
        }
        table.push(u32::try_from(count.saturating_sub(1)).unwrap_or(u32::MAX));
        Finder { shift, table: table.into_boxed_slice() }
    }

    /// The index of the last start at or below `number`, which must be below the total.
    #[inline]
    pub(super) fn find(&self, number: u64, start: impl Fn(usize) -> u64) -> usize {
        let bucket = usize::try_from(number >> self.shift).unwrap_or(usize::MAX);
        let (mut low, mut high) = (self.table[bucket] as usize, self.table[bucket + 1] as usize);
        while SCAN_MAX < high - low {
            let middle = low + (high - low).div_ceil(2);
            if start(middle) <= number {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        while low < high && start(low + 1) <= number {
            low += 1;
        }
        low
    }
}

/// Buckets per start while there are few: makes it likely that a bucket holds no start at all.
const BUCKETS_PER_START: usize = 64;
/// Buckets at most (256 KiB of table), unless that would leave fewer than [`BUCKETS_PER_START_MIN`].
const BUCKETS_MAX: usize = 1 << 16;
/// Buckets per start at least: 8 bytes a start.
const BUCKETS_PER_START_MIN: usize = 2;
/// Starts that are looked at one after the other rather than by halves.
const SCAN_MAX: usize = 4;
/// IPv4 ranges above which a search by halves would miss the caches again and again.
const MANY: usize = 1 << 12;

/// The addresses of a set, numbered from 0 in ascending order. 8 bytes a range for IPv4, 32 for IPv6.
#[derive(Debug, Clone)]
pub(super) struct Numbered<T: AddressBits> {
    total: u64,
    /// For each range the number of its first address, and that address: side by side, since a look-up that needs
    /// one needs both, and among a million ranges each costs a cache miss.
    ranges: Box<[(T::Number, T)]>,
    finder: Finder,
    /// For IPv4 in many ranges, where a search by halves would miss the caches again and again: finds the range of an
    /// address.
    owners: Finder,
    /// For IPv4.
    table: Option<Table>,
}

impl<T: AddressBits> Numbered<T> {
    /// Numbers the addresses of a set of at most 2^63, in fewer than 2^32 ranges (the space checks both).
    pub(super) fn new(set: &Ranges<T>) -> Numbered<T> {
        let mut total = 0u64;
        let mut ranges = Vec::with_capacity(set.as_slice().len());
        for (first, last) in set.iter() {
            ranges.push((T::number(total), first));
            total += last.since(first) + 1;
        }
        let finder = Finder::new(ranges.len(), total, |index| ranges[index].0.into());
        Numbered { total, ranges: ranges.into(), finder, owners: Finder::default(), table: None }
    }

    /// How many addresses there are.
    #[inline]
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The address with a number below the total.
    #[inline]
    pub(super) fn address(&self, number: u64) -> T {
        let range = self.finder.find(number, |index| self.ranges[index].0.into());
        let (start, first) = self.ranges[range];
        let start: u64 = start.into();
        first.plus(number - start)
    }

    /// The number of an address, if it is in the set.
    pub(super) fn number(&self, address: T) -> Option<u64> {
        let range = if self.owners.table.is_empty() {
            self.ranges.partition_point(|&(_, first)| first <= address).checked_sub(1)?
        } else {
            let low_bits = |address: T| u64::try_from(address.into()).unwrap_or(u64::MAX);
            self.owners.find(low_bits(address), |range| low_bits(self.ranges[range].1))
        };
        let first = self.ranges[range].1;
        let offset: u128 = address.into().checked_sub(first.into())?;
        let (start, end) = self.span(range);
        (offset < u128::from(end - start)).then(|| start + address.since(first))
    }

    /// The ranges, ascending and inclusive.
    pub(super) fn ranges(&self) -> impl ExactSizeIterator<Item = (T, T)> + '_ {
        self.ranges.iter().enumerate().map(|(range, &(_, first))| {
            let (start, end) = self.span(range);
            (first, first.plus(end - start - 1))
        })
    }

    /// The number of the first address of a range, and that after its last.
    fn span(&self, range: usize) -> (u64, u64) {
        let end = self.ranges.get(range + 1).map_or(self.total, |&(start, _)| start.into());
        (self.ranges[range].0.into(), end)
    }
}

impl Numbered<u32> {
    /// The addresses of at most [`CHUNK`] numbers below the total: as [`Numbered::address`], in loops without branches. Asks
    /// for the memory that `later` numbers need.
    #[inline(always)]
    pub(super) fn addresses(
        &self,
        numbers: &[u64; CHUNK],
        later: Option<&[u64; CHUNK]>,
        addresses: &mut [u32],
    ) {
        let mut left = match &self.table {
            Some(table) => table.addresses(numbers, later, addresses),
            None => u64::MAX >> (CHUNK - addresses.len()),
        };
        while left != 0 {
            let lane = left.trailing_zeros() as usize;
            addresses[lane] = self.searched(numbers[lane]);
            left &= left - 1;
        }
    }

    /// Whether it is worth asking for memory long before.
    pub(super) fn is_far(&self) -> bool {
        self.table.as_ref().is_some_and(Table::is_far)
    }

    /// As [`Numbered::address`], out of the way of the loop that rarely needs it.
    #[cold]
    #[inline(never)]
    fn searched(&self, number: u64) -> u32 {
        let elsewhere = self.table.as_ref().and_then(|table| table.elsewhere(number));
        elsewhere.unwrap_or_else(|| self.address(number))
    }

    /// With the tables that look-ups need.
    pub(super) fn with_tables(mut self) -> Numbered<u32> {
        let ranges = self.ranges.len();
        let table = Table::new(&self.ranges, self.total);
        if MANY < ranges {
            // Only single numbers are looked up in the finder: a coarse one does.
            let (start, first) =
                (|range: usize| self.ranges[range].0.into(), |range: usize| self.ranges[range].1.into());
            self.finder = Finder::with_buckets(ranges, self.total, ranges / 2, start);
            self.owners = Finder::with_buckets(ranges, 1 << 32, ranges / 2, first);
        }
        Numbered { table: Some(table), ..self }
    }
}

impl Numbered<u128> {
    /// The addresses of many numbers below the total: as [`Numbered::address`].
    #[inline(always)]
    pub(super) fn addresses_v6(&self, numbers: &[u64], addresses: &mut [u128]) {
        if let [(_, first)] = *self.ranges {
            for (address, &number) in addresses.iter_mut().zip(numbers) {
                *address = first + u128::from(number);
            }
        } else {
            for (address, &number) in addresses.iter_mut().zip(numbers) {
                *address = self.address(number);
            }
        }
    }
}
