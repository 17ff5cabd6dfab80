//! [`Numbered`]: addresses counted from 0, ascending, with both directions fast; and [`Finder`], the bucket table
//! that both it and the space search with.
//!
//! Invariant: immutable once built; a look-up allocates nothing and divides nothing.

use super::ranges::{AddressBits, Ranges};

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

    /// An index at or below that of [`Finder::find`]: what the table says alone.
    #[inline(always)]
    fn lowest(&self, number: u64) -> usize {
        self.table[usize::try_from(number >> self.shift).unwrap_or(usize::MAX)] as usize
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
    /// For IPv4 in few ranges.
    leaps: Leaps,
    /// For IPv4 in many ranges.
    rows: Rows,
    /// For IPv4 in many tiny ranges, a list of single addresses: the address of every number.
    listed: Box<[T]>,
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
        let (owners, leaps, rows) = (Finder::default(), Leaps::default(), Rows::default());
        Numbered { total, ranges: ranges.into(), finder, owners, leaps, rows, listed: Box::default() }
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
    /// The addresses of many numbers below the total: as [`Numbered::address`], in loops without branches.
    #[inline(always)]
    pub(super) fn addresses(&self, numbers: &[u64], addresses: &mut [u32]) {
        if let [(_, first)] = *self.ranges {
            for (address, &number) in addresses.iter_mut().zip(numbers) {
                *address = first.plus(number);
            }
        } else if !self.leaps.buckets.is_empty() {
            for (address, &number) in addresses.iter_mut().zip(numbers) {
                *address = self.leaps.address(number).unwrap_or_else(|| self.searched(number));
            }
        } else if !self.listed.is_empty() {
            for (address, &number) in addresses.iter_mut().zip(numbers) {
                *address = self.listed[usize::try_from(number).unwrap_or(usize::MAX)];
            }
        } else if !self.rows.buckets.is_empty() {
            let mut left = self.rows.addresses(numbers, addresses);
            while left != 0 {
                let lane = left.trailing_zeros() as usize;
                addresses[lane] = self.searched(numbers[lane]);
                left &= left - 1;
            }
        } else {
            // In a loop for each, the processor waits for many lanes at once.
            for (address, &number) in addresses.iter_mut().zip(numbers) {
                *address = u32::number(self.finder.lowest(number) as u64);
            }
            for (address, &number) in addresses.iter_mut().zip(numbers) {
                *address = self.near(*address as usize, number).unwrap_or_else(|| self.searched(number));
            }
        }
    }

    /// The address with a number that lies in range `lowest` or one of the two behind it, found without a branch; none
    /// when it lies further on.
    #[inline(always)]
    fn near(&self, lowest: usize, number: u64) -> Option<u32> {
        let rows: &[(u32, u32); 4] = self.ranges.get(lowest..lowest + 4)?.try_into().ok()?;
        let number = u32::number(number);
        let passed = rows[1..].iter().map(|&(start, _)| usize::from(start <= number)).sum::<usize>();
        let (start, first) = rows[passed & 3];
        (passed < 3).then(|| first.wrapping_add(number.wrapping_sub(start)))
    }

    /// As [`Numbered::address`], out of the way of the loop that rarely needs it.
    #[cold]
    #[inline(never)]
    fn searched(&self, number: u64) -> u32 {
        self.address(number)
    }

    /// With the tables that [`Numbered::addresses`] uses where ranges are few, or many and tiny.
    pub(super) fn with_tables(mut self) -> Numbered<u32> {
        let ranges = self.ranges.len();
        if (2..=LEAP_RANGES_MAX).contains(&ranges) {
            self.leaps = Leaps::new(&self.ranges, self.total);
        } else if LEAP_RANGES_MAX < ranges && self.total <= (ranges * LISTED_PER_RANGE) as u64 {
            self.listed = self.ranges().flat_map(|(first, last)| first..=last).collect();
        } else if (ROW_RANGES_MIN..ROW_RANGES_MAX).contains(&ranges) {
            self.rows = Rows::new(&self.ranges, self.total);
            // Only single numbers are looked up in the finder then: a coarse one does.
            let start = |range: usize| self.ranges[range].0.into();
            self.finder = Finder::with_buckets(ranges, self.total, ranges / 2, start);
        }
        if LEAP_RANGES_MAX < ranges {
            let wanted = ranges / 2;
            self.owners = Finder::with_buckets(ranges, 1 << 32, wanted, |range| self.ranges[range].1.into());
        }
        self
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

/// For a great many ranges, as little memory as a look-up in three steps can have: a million ranges need 7.6 MB, and what
/// they cost is what their share of a cache does not hold. Numbers are cut into buckets of at most 2^16 in which few ranges
/// begin; how many of these begin at or below a number is counted without a branch.
#[derive(Debug, Clone, Default)]
struct Rows {
    shift: u32,
    /// For each bucket the range in force at its beginning, and in the low [`BEGIN_BITS`] how many begin behind that, or
    /// [`CROWDED`].
    buckets: Box<[u32]>,
    /// For each range where it begins, within its bucket; and a row behind the last.
    starts: Box<[u16]>,
    /// What to add, modulo 2^32, to the numbers of each range.
    leaps: Box<[u32]>,
}

impl Rows {
    /// The table of ranges, each the number of its first address and that address, with fewer than 2^32 addresses.
    fn new(ranges: &[(u32, u32)], total: u64) -> Rows {
        let shift = (total * BEGIN_IN_BUCKET / ranges.len() as u64).max(1).ilog2().min(u16::BITS);
        let start = |range: usize| ranges.get(range).map_or(u64::MAX, |&(start, _)| start.into());
        let mut first = 0;
        let bucket = |bucket: u64| {
            let (beginning, end) = (bucket << shift, (bucket + 1) << shift);
            while start(first + 1) <= beginning {
                first += 1;
            }
            let begin = (first + 1..).take(ROW + 1).take_while(|&range| start(range) < end).count();
            let begin = if begin <= ROW { u32::number(begin as u64) } else { CROWDED };
            u32::number(first as u64) << BEGIN_BITS | begin
        };
        let buckets = (0..=(total - 1) >> shift).map(bucket).collect();
        let within = |start: u32| u16::try_from(u64::from(start) & ((1 << shift) - 1)).unwrap_or(u16::MAX);
        let starts = ranges.iter().map(|&(start, _)| within(start)).chain([0; ROW]);
        let leaps = ranges.iter().map(|&(start, first)| first.wrapping_sub(start));
        Rows { shift, buckets, starts: starts.collect(), leaps: leaps.collect() }
    }

    /// The addresses of at most 64 numbers; returns the lanes in crowded buckets, which must be looked up otherwise. A loop
    /// for each step: the processor then waits for the memory of many lanes at once.
    #[inline(always)]
    fn addresses(&self, numbers: &[u64], addresses: &mut [u32]) -> u64 {
        let mut crowded = 0;
        for (address, &number) in addresses.iter_mut().zip(numbers) {
            *address = self.buckets[usize::try_from(number >> self.shift).unwrap_or(usize::MAX)];
        }
        let mask = (1u64 << self.shift) - 1;
        for (lane, (address, &number)) in addresses.iter_mut().zip(numbers).enumerate() {
            let (range, begin) = (*address >> BEGIN_BITS, (*address & CROWDED & 0xffff) as u16);
            let offset = (number & mask & 0xffff) as u16;
            let row = self.starts.get(range as usize + 1..).and_then(|starts| starts.first_chunk::<ROW>());
            let mut passed = 0;
            for (place, &start) in (0u16..).zip(row.unwrap_or(&[0; ROW])) {
                passed += u16::from(start <= offset) & u16::from(place < begin);
            }
            *address = range + u32::from(passed);
            crowded |= u64::from(u32::from(begin) == CROWDED) << (lane & 63);
        }
        for (address, &number) in addresses.iter_mut().zip(numbers) {
            *address = self.leaps[*address as usize].wrapping_add(u32::number(number));
        }
        crowded
    }
}

/// How far each number is from its address, by bucket of numbers: for few ranges, a look-up without search
/// and without a branch that depends on the number.
#[derive(Debug, Clone, Default)]
struct Leaps {
    shift: u32,
    buckets: Box<[Leap]>,
}

/// The numbers of one bucket.
#[derive(Debug, Clone, Copy)]
struct Leap {
    /// The number at which the next range begins.
    next: u32,
    /// What to add, modulo 2^32, to the numbers before that.
    here: u32,
    /// What to add to the numbers from there on.
    there: u32,
    /// 1 when more than one range begins in the bucket: then the numbers must be looked up otherwise.
    crowded: u32,
}

impl Leaps {
    /// The table of ranges, each the number of its first address and that address, with fewer than 2^32 addresses.
    fn new(ranges: &[(u32, u32)], total: u64) -> Leaps {
        let bits = u64::BITS - (total - 1).leading_zeros();
        let shift =
            bits.saturating_sub((ranges.len() * LEAPS_PER_RANGE).next_power_of_two().trailing_zeros());
        let buckets = ((total - 1) >> shift) + 1;
        let leap = |range: usize| ranges[range].1.wrapping_sub(ranges[range].0);
        let buckets = (0..buckets).map(|bucket| {
            let (first, end) = (bucket << shift, (bucket + 1) << shift);
            let after = ranges.partition_point(|&(start, _)| u64::from(start) <= first);
            let next = ranges.get(after).map_or(u32::MAX, |&(start, _)| start);
            let crowded = ranges.get(after + 1).is_some_and(|&(start, _)| u64::from(start) < end);
            let there = leap(after.min(ranges.len() - 1));
            Leap { next, here: leap(after - 1), there, crowded: u32::from(crowded) }
        });
        Leaps { shift, buckets: buckets.collect() }
    }

    /// The address with a number; none when its bucket is crowded.
    #[inline(always)]
    fn address(&self, number: u64) -> Option<u32> {
        let leap = &self.buckets[usize::try_from(number >> self.shift).unwrap_or(usize::MAX)];
        let number = u32::number(number);
        let address = number.wrapping_add(if number < leap.next { leap.here } else { leap.there });
        (leap.crowded == 0).then_some(address)
    }
}

/// Ranges that may begin in a bucket of [`Rows`]: a vector of 16-bit numbers.
const ROW: usize = 8;
const BEGIN_BITS: u32 = 4;
/// In the place of how many begin in a bucket: more than a row.
const CROWDED: u32 = (1 << BEGIN_BITS) - 1;
const _: () = assert!(ROW < CROWDED as usize, "a full row is not crowded");
/// Ranges from which [`Rows`] is made: fewer lie in a near cache anyhow, and the plain table takes fewer instructions; and
/// up to which: their numbers stand above [`BEGIN_BITS`].
const ROW_RANGES_MIN: usize = 1 << 17;
const ROW_RANGES_MAX: usize = 1 << (u32::BITS - BEGIN_BITS);
/// Ranges that begin in a bucket, on the average, at most: then one bucket in fifty is crowded where they lie at random.
const BEGIN_IN_BUCKET: u64 = 4;
/// Ranges up to which the table of leaps is made: at most 1 MiB of it.
const LEAP_RANGES_MAX: usize = 1 << 12;
/// Addresses per range up to which each is listed: at most 16 bytes a range.
const LISTED_PER_RANGE: usize = 4;
/// Buckets per range: what share of them is crowded at most.
const LEAPS_PER_RANGE: usize = 16;
