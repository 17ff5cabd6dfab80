//! The network two lanes at a time: for processors on which a compiler makes half as much again of the plain loop, because it
//! multiplies as if the sizes had 64 bits, and chooses in four instructions where two do.
//!
//! Invariant: equal to [`Order::target`] for every cursor.

use super::{FIRST, Order, RoundKey, SECOND};
use crate::batch::LANES;
use crate::sys::pair::Pair;

/// The network over [`LANES`] values with one upper half, whose lower halves are consecutive and below `b`. Returns whether
/// one of the results may lie outside of the domain.
#[inline(always)]
pub(super) fn scramble(order: &Order, (high, low): (u64, u64), targets: &mut [u64; LANES]) -> bool {
    let (a, b, last) = (Pair::both(order.a), Pair::both(order.b), Pair::both(order.length - 1));
    let keys = order.rounds.map(|RoundKey { add, mask }| (Pair::both(add), Pair::both(mask)));
    let (first_high, two) = (Pair::both(high), Pair::both(2));
    let (mut counter, mut outside) = (Pair::new([low, low + 1]), Pair::both(0));
    for pair in targets.as_chunks_mut::<2>().0 {
        let (mut high, mut low) = (first_high, counter);
        high = wrap(hash(low, keys[0], a).plus(high), a);
        low = wrap(hash(high, keys[1], b).plus(low), b);
        high = wrap(hash(low, keys[2], a).plus(high), a);
        low = wrap(hash(high, keys[3], b).plus(low), b);
        let target = high.times(b).plus(low);
        outside = outside.either(last.less(target));
        *pair = target.numbers();
        counter = counter.plus(two);
    }
    outside.numbers().into_iter().any(super::is_negative)
}

/// As [`RoundKey::hash`].
#[inline(always)]
fn hash(half: Pair, (add, mask): (Pair, Pair), size: Pair) -> Pair {
    let value = half.plus(add).times(Pair::both(FIRST));
    let value = value.differing(value.upper()).differing(mask);
    let value = value.times(Pair::both(SECOND));
    let value = value.differing(value.upper());
    value.times(size).shifted_down()
}

/// As [`super::wrap`]: where the difference is below zero, the size is added again.
#[inline(always)]
fn wrap(value: Pair, size: Pair) -> Pair {
    let over = value.less(size);
    over.plus(over.where_negative(size))
}
