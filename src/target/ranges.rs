//! [`Ranges`]: a set of numbers as sorted, disjoint, non-adjacent inclusive ranges, and the algebra on it.
//!
//! One range costs two numbers (8 bytes for IPv4). Every operation is a single walk over its operands.
//!
//! Invariant: knows numbers only; that they are addresses is said one file further up.

use std::fmt::Debug;
use std::hash::Hash;

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u128 {}
}

/// The bits of an address: `u32` for IPv4, `u128` for IPv6. Sealed: there are no other address families.
pub trait AddressBits: sealed::Sealed + Copy + Ord + Hash + Debug + Into<u128> + 'static {
    /// The lowest number.
    const MIN: Self;
    /// The highest number.
    const MAX: Self;
    /// The number after this one, or `None` at the top of the space.
    fn successor(self) -> Option<Self>;
    /// The number before this one, or `None` at the bottom of the space.
    fn predecessor(self) -> Option<Self>;
    /// What counts addresses of this family within a plan, from 0.
    type Number: Copy + Debug + Into<u64>;
    /// A count as [`AddressBits::Number`]; the low bits of one that does not fit.
    fn number(count: u64) -> Self::Number;
    /// This number plus an offset that stays within the space.
    #[must_use]
    fn plus(self, offset: u64) -> Self;
    /// How far this number is above a lower one at most 2^64 - 1 below.
    fn since(self, lower: Self) -> u64;
    /// Feeds the number in little-endian bytes to a digest.
    fn feed(self, sink: &mut impl FnMut(&[u8]));
}

impl AddressBits for u32 {
    const MIN: u32 = u32::MIN;
    const MAX: u32 = u32::MAX;

    #[inline]
    fn successor(self) -> Option<u32> {
        self.checked_add(1)
    }

    #[inline]
    fn predecessor(self) -> Option<u32> {
        self.checked_sub(1)
    }

    type Number = u32;

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the contract says low bits")]
    fn number(count: u64) -> u32 {
        count as u32
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "an offset within the space fits")]
    fn plus(self, offset: u64) -> u32 {
        self.wrapping_add(offset as u32)
    }

    #[inline]
    fn since(self, lower: u32) -> u64 {
        u64::from(self - lower)
    }

    fn feed(self, sink: &mut impl FnMut(&[u8])) {
        sink(&self.to_le_bytes());
    }
}

impl AddressBits for u128 {
    const MIN: u128 = u128::MIN;
    const MAX: u128 = u128::MAX;

    #[inline]
    fn successor(self) -> Option<u128> {
        self.checked_add(1)
    }

    #[inline]
    fn predecessor(self) -> Option<u128> {
        self.checked_sub(1)
    }

    type Number = u64;

    #[inline]
    fn number(count: u64) -> u64 {
        count
    }

    #[inline]
    fn plus(self, offset: u64) -> u128 {
        self.wrapping_add(u128::from(offset))
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the contract bounds the distance")]
    fn since(self, lower: u128) -> u64 {
        (self - lower) as u64
    }

    fn feed(self, sink: &mut impl FnMut(&[u8])) {
        sink(&self.to_le_bytes());
    }
}

/// A set of numbers: sorted, disjoint, non-adjacent inclusive ranges. Equal sets are equal values, however they
/// were built.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges<T> {
    ranges: Vec<(T, T)>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Ranges<T> {
        Ranges { ranges: Vec::new() }
    }
}

impl<T: AddressBits> Ranges<T> {
    /// The set of all numbers in the given inclusive `(first, last)` ranges, in any order, overlapping or not.
    /// A pair whose first number is above its last holds nothing. Sorts and merges in place: O(n log n), no
    /// second list.
    pub fn from_unsorted(mut ranges: Vec<(T, T)>) -> Ranges<T> {
        ranges.retain(|&(first, last)| first <= last);
        if !ranges.is_sorted() {
            ranges.sort_unstable();
        }
        ranges.dedup_by(|next, kept| {
            let joins = kept.1.successor().is_none_or(|after| next.0 <= after);
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
        ranges.shrink_to_fit();
        Ranges { ranges }
    }

    /// The set of one inclusive range.
    pub fn one(first: T, last: T) -> Ranges<T> {
        Ranges::from_unsorted(vec![(first, last)])
    }

    /// Whether the set holds nothing.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, ascending, as inclusive pairs.
    pub fn as_slice(&self) -> &[(T, T)] {
        &self.ranges
    }

    /// The ranges, ascending, as inclusive pairs.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (T, T)> + '_ {
        self.ranges.iter().copied()
    }

    /// How many numbers the set holds. The whole 128-bit space has one more than fits: it gives `u128::MAX`.
    pub fn count(&self) -> u128 {
        self.ranges.iter().fold(0u128, |sum, &(first, last)| {
            let distance: u128 = last.into() - first.into();
            sum.saturating_add(distance).saturating_add(1)
        })
    }

    /// Whether the set holds a number. O(log n).
    #[inline]
    pub fn contains(&self, number: T) -> bool {
        let after = self.ranges.partition_point(|&(first, _)| first <= number);
        after.checked_sub(1).is_some_and(|index| number <= self.ranges[index].1)
    }

    /// The numbers in either set.
    #[must_use]
    pub fn union(&self, other: &Ranges<T>) -> Ranges<T> {
        if other.is_empty() {
            return self.clone();
        }
        let mut both = Vec::with_capacity(self.ranges.len() + other.ranges.len());
        let (mut left, mut right) = (self.iter().peekable(), other.iter().peekable());
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a <= b => left.next(),
                (_, Some(_)) => right.next(),
                (Some(_), None) => left.next(),
                (None, None) => break,
            };
            both.extend(next);
        }
        // Sorted already: from_unsorted only joins.
        Ranges::from_unsorted(both)
    }

    /// The numbers in this set that are not in the other. O(n + m).
    #[must_use]
    pub fn subtract(&self, other: &Ranges<T>) -> Ranges<T> {
        let mut kept = Vec::with_capacity(self.ranges.len());
        let mut holes = other.ranges.as_slice();
        for (mut first, last) in self.iter() {
            // Holes that end before this range cannot touch any later one.
            let passed = holes.iter().take_while(|hole| hole.1 < first).count();
            holes = &holes[passed..];
            let mut open = true;
            for &(hole_first, hole_last) in holes.iter().take_while(|hole| hole.0 <= last) {
                let hole_first = planted!(25, hole_first.successor().unwrap_or(hole_first), hole_first);
                if first < hole_first {
                    kept.extend(hole_first.predecessor().map(|end| (first, end)));
                }
                match hole_last.successor() {
                    Some(after) if after <= last => first = after,
                    _ => {
                        open = false;
                        break;
                    }
                }
            }
            if open {
                kept.push((first, last));
            }
        }
        kept.shrink_to_fit();
        Ranges { ranges: kept }
    }

    /// The numbers in both sets. O(n + m).
    #[must_use]
    pub fn intersect(&self, other: &Ranges<T>) -> Ranges<T> {
        let mut common = Vec::new();
        let (mut left, mut right) = (0, 0);
        while let (Some(&a), Some(&b)) = (self.ranges.get(left), other.ranges.get(right)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                common.push((first, last));
            }
            if a.1 < b.1 {
                left += 1;
            } else {
                right += 1;
            }
        }
        Ranges { ranges: common }
    }

    /// Feeds the set to a digest: the number of ranges, then each range, little-endian. Equal sets give equal
    /// bytes.
    pub fn feed(&self, sink: &mut impl FnMut(&[u8])) {
        sink(&(self.ranges.len() as u64).to_le_bytes());
        for (first, last) in self.iter() {
            first.feed(sink);
            last.feed(sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Ranges within a window of 200 numbers that starts at `base`; the model is the set of offsets.
    fn model(pairs: &[(u8, u8)]) -> BTreeSet<u8> {
        pairs.iter().flat_map(|&(first, last)| first..=last).collect()
    }

    fn at<T: AddressBits>(pairs: &[(u8, u8)], number: impl Fn(u8) -> T) -> Ranges<T> {
        Ranges::from_unsorted(pairs.iter().map(|&(first, last)| (number(first), number(last))).collect())
    }

    fn agrees<T: AddressBits>(set: &Ranges<T>, model: &BTreeSet<u8>, number: impl Fn(u8) -> T) {
        for offset in 0..=u8::MAX {
            assert_eq!(set.contains(number(offset)), model.contains(&offset), "{offset}");
        }
        assert_eq!(set.count(), model.len() as u128);
        for pair in set.as_slice().windows(2) {
            let gap: u128 = pair[1].0.into() - pair[0].1.into();
            assert!(1 < gap, "ranges are sorted, disjoint and not adjacent: {pair:?}");
        }
        assert!(set.iter().all(|(first, last)| first <= last));
    }

    fn algebra_agrees<T: AddressBits>(a: &[(u8, u8)], b: &[(u8, u8)], number: impl Fn(u8) -> T + Copy) {
        let (model_a, model_b) = (model(a), model(b));
        let (set_a, set_b) = (at(a, number), at(b, number));
        agrees(&set_a, &model_a, number);
        agrees(&set_a.union(&set_b), &(&model_a | &model_b), number);
        agrees(&set_a.subtract(&set_b), &(&model_a - &model_b), number);
        agrees(&set_a.intersect(&set_b), &(&model_a & &model_b), number);
        assert_eq!(set_a.subtract(&set_b).union(&set_a.intersect(&set_b)), set_a);
    }

    proptest! {
        #[test]
        fn the_algebra_agrees_with_a_plain_set_at_both_ends_of_both_spaces(
            a in prop::collection::vec(any::<(u8, u8)>(), 0..12),
            b in prop::collection::vec(any::<(u8, u8)>(), 0..12),
        ) {
            algebra_agrees(&a, &b, u32::from);
            algebra_agrees(&a, &b, |offset| u32::MAX - 255 + u32::from(offset));
            algebra_agrees(&a, &b, u128::from);
            algebra_agrees(&a, &b, |offset| u128::MAX - 255 + u128::from(offset));
            algebra_agrees(&a, &b, |offset| (1 << 64) - 100 + u128::from(offset));
        }

        #[test]
        fn ranges_over_the_whole_space_obey_the_laws_of_sets(
            a in prop::collection::vec(any::<(u32, u32)>(), 0..40),
            b in prop::collection::vec(any::<(u32, u32)>(), 0..40),
        ) {
            let (a, b) = (Ranges::from_unsorted(a), Ranges::from_unsorted(b));
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.intersect(&b), b.intersect(&a));
            prop_assert_eq!(a.union(&b).count() + a.intersect(&b).count(), a.count() + b.count());
            prop_assert!(a.subtract(&b).intersect(&b).is_empty());
            prop_assert_eq!(a.subtract(&b), a.subtract(&a.intersect(&b)));
        }
    }

    #[test]
    fn adjacent_and_overlapping_ranges_become_one() {
        let set = Ranges::from_unsorted(vec![(20u32, 30), (0, 9), (10, 19), (5, 12)]);
        assert_eq!(set.as_slice(), [(0, 30)]);
    }

    #[test]
    fn the_whole_space_can_be_held_and_taken_away() {
        let all = Ranges::one(0u32, u32::MAX);
        assert_eq!(all.count(), 1 << 32);
        assert!(all.subtract(&all).is_empty());
        let all = Ranges::one(0u128, u128::MAX);
        assert_eq!(all.count(), u128::MAX);
        assert!(all.subtract(&all).is_empty());
        let ends = Ranges::from_unsorted(vec![(0, 0), (u128::MAX, u128::MAX)]);
        assert_eq!(all.subtract(&ends).as_slice(), [(1, u128::MAX - 1)]);
    }

    #[test]
    fn a_hole_that_spans_several_ranges_cuts_all_of_them() {
        let set = Ranges::from_unsorted(vec![(0u32, 9), (20, 29), (40, 49), (60, 69)]);
        let hole = Ranges::from_unsorted(vec![(5, 44), (62, 63), (66, 80)]);
        assert_eq!(set.subtract(&hole).as_slice(), [(0, 4), (45, 49), (60, 61), (64, 65)]);
    }

    #[test]
    fn equal_sets_feed_equal_bytes() {
        let bytes = |set: &Ranges<u32>| {
            let mut bytes = Vec::new();
            set.feed(&mut |part| bytes.extend_from_slice(part));
            bytes
        };
        let whole = Ranges::one(0u32, 255);
        let halves = Ranges::from_unsorted(vec![(128, 255), (0, 127)]);
        assert_eq!(bytes(&whole), bytes(&halves));
        assert_ne!(bytes(&whole), bytes(&Ranges::one(0, 254)));
    }
}
