//! [`Table`]: what makes IPv4 addresses of many numbers at once. Which kind it is depends on how many ranges there are and
//! how many addresses they hold; what comes out does not.
//!
//! Invariant: immutable once built; a look-up allocates nothing and divides nothing.

use super::ranges::AddressBits;
use crate::sys::prefetch::prefetch_at;

/// The addresses of a set by their numbers, which count them from 0, ascending.
#[derive(Debug, Clone)]
pub(super) enum Table {
    /// One range, which begins here.
    One(u32),
    /// Few ranges.
    Few(Gaps),
    /// Many tiny ranges, a list of single addresses: the address of every number.
    Listed(Box<[u32]>),
    /// Many ranges.
    Many(Strips),
}

impl Table {
    /// The table of ranges, ascending, each the number of its first address and that address; `total` addresses in all.
    pub(super) fn new(ranges: &[(u32, u32)], total: u64) -> Table {
        let listed = ranges.len() as u64 * LISTED_PER_RANGE;
        match ranges {
            &[(_, first)] => Table::One(first),
            _ if ranges.len() <= FEW => Table::Few(Gaps::new(ranges)),
            _ if total <= listed => {
                let ends = ranges.iter().skip(1).map(|&(start, _)| u64::from(start)).chain([total]);
                let addresses = |(&(start, first), end): (&(u32, u32), u64)| {
                    (0..u32::number(end - u64::from(start))).map(move |offset| first + offset)
                };
                Table::Listed(ranges.iter().zip(ends).flat_map(addresses).collect())
            }
            _ => Table::Many(Strips::new(ranges, total)),
        }
    }

    /// The addresses of at most [`CHUNK`] numbers below the total. Asks for the memory that `later` numbers need: one after
    /// each address, as a processor forgets what it is asked while too much is under way. Returns the lanes whose addresses the
    /// table does not have: those must be looked up otherwise.
    #[inline(always)]
    #[must_use]
    pub(super) fn addresses(
        &self,
        numbers: &[u64; CHUNK],
        later: Option<&[u64; CHUNK]>,
        addresses: &mut [u32],
    ) -> u64 {
        match (self, later) {
            (Table::One(first), _) => {
                for (address, &number) in addresses.iter_mut().zip(numbers) {
                    *address = first.plus(number);
                }
                0
            }
            (Table::Few(gaps), _) => {
                gaps.addresses(numbers, addresses);
                0
            }
            (Table::Listed(listed), None) => list(listed, numbers, addresses, |_| {}),
            (Table::Listed(listed), Some(later)) => {
                list(listed, numbers, addresses, |lane| prefetch_at(listed, index(later[lane])))
            }
            (Table::Many(strips), None) => strips.addresses(numbers, addresses, |_| {}),
            (Table::Many(strips), Some(later)) => {
                let (later, strip) = (strips.places(later), &*strips.strips);
                strips.addresses(numbers, addresses, |lane| prefetch_at(strip, index(later[lane])))
            }
        }
    }

    /// The address of a number that [`Table::addresses`] does not have, if the table has it elsewhere.
    pub(super) fn elsewhere(&self, number: u64) -> Option<u32> {
        if let Table::Many(strips) = self { strips.in_next(number) } else { None }
    }

    /// Whether the table is so far from the processor that it is worth asking for what is needed of it long before. A list is
    /// that later: its loads do not depend on one another, so many are under way at once without that.
    pub(super) fn is_far(&self) -> bool {
        match self {
            Table::One(_) | Table::Few(_) => false,
            Table::Listed(listed) => FAR_LIST_BYTES < size_of_val(&**listed),
            Table::Many(strips) => FAR_STRIPS_BYTES < size_of_val(&*strips.strips),
        }
    }
}

/// Addresses that are listed.
#[inline(always)]
fn list(listed: &[u32], numbers: &[u64], addresses: &mut [u32], after: impl Fn(usize)) -> u64 {
    for (lane, (address, &number)) in addresses.iter_mut().zip(numbers).enumerate() {
        *address = listed[index(number)];
        after(lane);
    }
    0
}

#[inline(always)]
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// For few ranges no look-up at all: an address is its number, and the gaps before all ranges that begin at or below it.
#[derive(Debug, Clone)]
pub(super) struct Gaps {
    /// The first address and all gaps, modulo 2^32.
    all: u32,
    /// For each range but the first the number of its first address, less 2^31 as vector units compare by sign, and how many
    /// addresses lie between it and the one before. By four, so that a batch is walked once for so many; the rest is 0.
    gaps: Box<[[(i32, u32); 4]]>,
}

impl Gaps {
    fn new(ranges: &[(u32, u32)]) -> Gaps {
        let leap = |&(start, first): &(u32, u32)| first.wrapping_sub(start);
        let gaps =
            ranges.windows(2).map(|pair| (signed(pair[1].0), leap(&pair[1]).wrapping_sub(leap(&pair[0]))));
        let gaps: Vec<_> = gaps.collect();
        let four =
            |gaps: &[(i32, u32)]| std::array::from_fn(|gap| gaps.get(gap).copied().unwrap_or_default());
        Gaps { all: ranges.last().map_or(0, leap), gaps: gaps.chunks(4).map(four).collect() }
    }

    /// As [`Table::addresses`]: all gaps, less those before the ranges that begin above the number.
    #[inline(always)]
    fn addresses(&self, numbers: &[u64; CHUNK], addresses: &mut [u32]) {
        let (mut compared, mut sums) = ([0; CHUNK], [0; CHUNK]);
        for ((compared, sum), &number) in compared.iter_mut().zip(&mut sums).zip(numbers) {
            *compared = signed(u32::number(number));
            *sum = self.all.wrapping_add(u32::number(number));
        }
        for &gaps in &self.gaps {
            for (sum, &number) in sums.iter_mut().zip(&compared) {
                for (start, gap) in gaps {
                    *sum = sum.wrapping_sub(if number < start { gap } else { 0 });
                }
            }
        }
        addresses.copy_from_slice(&sums[..addresses.len()]);
    }
}

/// A number less 2^31: the same order, by sign.
#[inline(always)]
fn signed(number: u32) -> i32 {
    (number ^ 1 << 31).cast_signed()
}

/// For many ranges, all of a look-up in one line of the cache, and which line known by one multiplication. So it costs one
/// line whatever its size, and that can be asked for long before.
#[derive(Debug, Clone)]
pub(super) struct Strips {
    /// Strips for each number, in units of 2^-32.
    scale: u64,
    strips: Box<[Strip]>,
    /// A bit for each strip: whether what it has no room for is in the next.
    goes_on: Box<[u64]>,
}

/// The numbers of one strip.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Strip {
    /// The numbers at which ranges begin in this strip, ascending, as many as there is room for, behind those that the strip
    /// before had no room for; then [`NEVER`].
    starts: [u32; STRIP],
    /// What to add, modulo 2^32, to the numbers before the first of these, and to those from each of them on.
    leaps: [u32; STRIP],
}

impl Strips {
    /// The strips of two ranges or more, which do not touch: so their addresses are fewer than 2^32.
    fn new(ranges: &[(u32, u32)], total: u64) -> Strips {
        let count = ranges.len().div_ceil(BEGIN_IN_STRIP) as u64;
        let scale = (count << u32::BITS) / total;
        let mut strips = Strips { scale, strips: Box::default(), goes_on: Box::default() };
        let mut begin = vec![0; index(strips.place(total - 1)) + 1];
        for &(start, _) in &ranges[1..] {
            begin[index(strips.place(start.into()))] += 1;
        }
        let mut goes_on = vec![0; begin.len().div_ceil(64)];
        let (mut first, mut carried) = (1, 0);
        let strip = |place: usize| {
            let (held, following) = (carried + begin[place], begin.get(place + 1));
            let strip = Strip::new(&ranges[first - 1..], held.min(STRIP));
            let more = held.saturating_sub(STRIP);
            // Only what fits: else one crowd would fill all strips behind it.
            let fits = following.is_some_and(|own| more + own <= STRIP);
            goes_on[place / 64] |= u64::from(fits) << (place % 64);
            carried = if fits { more } else { 0 };
            first += held - carried;
            strip
        };
        strips.strips = (0..begin.len()).map(strip).collect();
        strips.goes_on = goes_on.into();
        strips
    }

    /// The address of a number that passed all that its strip has room for, if it is in the next.
    fn in_next(&self, number: u64) -> Option<u32> {
        let place = index(self.place(number));
        let next =
            self.strips.get(place + 1).filter(|_| self.goes_on[place / 64] >> (place % 64) & 1 == 1)?;
        let number = u32::number(number);
        Some(next.leaps.get(next.passed(number))?.wrapping_add(number))
    }

    /// Which strip a number is in.
    #[inline(always)]
    fn place(&self, number: u64) -> u64 {
        ((number & LOW) * (self.scale & LOW)) >> u32::BITS
    }

    #[inline(always)]
    fn places(&self, numbers: &[u64; CHUNK]) -> [u64; CHUNK] {
        let mut places = [0; CHUNK];
        for (place, &number) in places.iter_mut().zip(numbers) {
            *place = self.place(number);
        }
        places
    }

    /// As [`Table::addresses`].
    #[inline(always)]
    fn addresses(&self, numbers: &[u64; CHUNK], addresses: &mut [u32], after: impl Fn(usize)) -> u64 {
        // Said once: the compiler cannot know that no address is written over it.
        let (strips, places) = (&*self.strips, self.places(numbers));
        let mut crowded = 0;
        for (lane, (address, (&number, &place))) in
            addresses.iter_mut().zip(numbers.iter().zip(&places)).enumerate()
        {
            let strip = &strips[index(place)];
            let number = u32::number(number);
            let passed = strip.passed(number);
            *address = strip.leaps[passed % STRIP].wrapping_add(number);
            crowded |= ((passed / STRIP) as u64) << (lane % CHUNK);
            after(lane);
        }
        crowded
    }
}

impl Strip {
    /// The strip of the first of these ranges, in which `held` ranges behind it begin.
    fn new(ranges: &[(u32, u32)], held: usize) -> Strip {
        let leap = |&(start, first): &(u32, u32)| first.wrapping_sub(start);
        let mut strip = Strip { starts: [NEVER; STRIP], leaps: [leap(&ranges[0]); STRIP] };
        for (place, range) in ranges[1..=held].iter().enumerate() {
            strip.starts[place] = range.0;
            if let Some(behind) = strip.leaps.get_mut(place + 1) {
                *behind = leap(range);
            }
        }
        strip
    }

    /// How many of the starts are at or below a number. Where all are, more ranges may begin than there is room for.
    #[inline(always)]
    fn passed(&self, number: u32) -> usize {
        self.starts.iter().map(|&start| u32::from(start <= number)).sum::<u32>() as usize
    }
}

/// Lanes that are worked on together.
pub(super) const CHUNK: usize = 64;
/// Ranges up to which each is compared with.
const FEW: usize = 32;
/// Addresses per range up to which each is listed: at most 16 bytes a range.
const LISTED_PER_RANGE: u64 = 4;
/// Ranges for whose beginning a strip has room: with what to add it fills a line of the cache.
const STRIP: usize = 8;
/// Ranges that begin in a strip, on the average. Where they lie at random, more begin before one number in a hundred than its
/// strip has room for, and most of those are in the next.
const BEGIN_IN_STRIP: usize = 4;
/// No number of a set of two ranges or more.
const NEVER: u32 = u32::MAX;
/// Bytes of strips, and of a list, above which they count as far: a second cache of today; and what was found to be worth it.
const FAR_STRIPS_BYTES: usize = 1 << 20;
const FAR_LIST_BYTES: usize = 1 << 23;
const LOW: u64 = 0xffff_ffff;
const _: () = assert!(size_of::<Strip>() == 64 && STRIP.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_strip_has_no_room_for_is_in_the_next_or_nowhere_and_never_wrong() {
        // Sizes and gaps of a fixed pseudo-random walk, with crowds of single addresses in between.
        let (mut state, mut first, mut total) = (1u32, 7u32, 0u64);
        let mut random = |below: u32| {
            state = state.wrapping_mul(0x915f_77f5).wrapping_add(0x9e37_79b9);
            (state >> 7) % below
        };
        let (mut ranges, mut model) = (Vec::new(), Vec::new());
        for index in 0..3000 {
            let size = if index % 500 < 40 { 1 } else { 1 + random(60) };
            ranges.push((u32::number(total), first));
            model.extend(first..first + size);
            total += u64::from(size);
            first += size + 1 + random(1000);
        }
        let Table::Many(strips) = Table::new(&ranges, total) else { panic!("not many") };
        let (mut in_next, mut nowhere) = (0, 0);
        let mut numbers = [0; CHUNK];
        for start in (0..total).step_by(CHUNK) {
            let count = numbers.iter_mut().zip(start..total).map(|(number, at)| *number = at).count();
            let mut addresses = vec![0; count];
            let left = strips.addresses(&numbers, &mut addresses, |_| {});
            for (lane, (&address, &number)) in addresses.iter().zip(&numbers).enumerate() {
                let address = if left >> lane & 1 == 0 { Some(address) } else { strips.in_next(number) };
                in_next += u32::from(left >> lane & 1 == 1 && address.is_some());
                nowhere += u32::from(address.is_none());
                assert!(address.is_none_or(|address| address == model[index(number)]), "number {number}");
            }
        }
        assert!(10 < in_next && 10 < nowhere && nowhere < 2000, "{in_next} {nowhere} of {total}");
    }
}
