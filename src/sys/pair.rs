//! [`Pair`]: two 64-bit numbers in one register, for the few loops of which a compiler makes too much where there are only the
//! vector instructions that every x86-64 processor has (SSE2). Other processors get the same from plain arithmetic.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m128i, _mm_add_epi64, _mm_and_si128, _mm_cvtsi128_si64, _mm_mul_epu32, _mm_or_si128, _mm_set_epi64x,
    _mm_shuffle_epi32, _mm_srai_epi32, _mm_srli_epi64, _mm_sub_epi64, _mm_unpackhi_epi64, _mm_xor_si128,
};

/// Two numbers; what is done to a pair is done to each.
#[derive(Debug, Clone, Copy)]
pub struct Pair(#[cfg(target_arch = "x86_64")] __m128i, #[cfg(not(target_arch = "x86_64"))] [u64; 2]);

// SAFETY of every call of an intrinsic in here: it needs SSE2, which is part of x86-64 itself, and takes and returns values
// only. Worth it: the order costs 57 instructions a probe where the compiler chooses them, and 39 so.
#[cfg(target_arch = "x86_64")]
impl Pair {
    /// Two numbers.
    #[inline(always)]
    pub fn new([first, second]: [u64; 2]) -> Pair {
        // SAFETY: as said above.
        Pair(unsafe { _mm_set_epi64x(second.cast_signed(), first.cast_signed()) })
    }

    /// Both numbers.
    #[inline(always)]
    pub fn numbers(self) -> [u64; 2] {
        // SAFETY: as said above.
        let [first, second] =
            unsafe { [_mm_cvtsi128_si64(self.0), _mm_cvtsi128_si64(_mm_unpackhi_epi64(self.0, self.0))] };
        [first.cast_unsigned(), second.cast_unsigned()]
    }

    /// The sum, modulo 2^64.
    #[inline(always)]
    #[must_use]
    pub fn plus(self, other: Pair) -> Pair {
        // SAFETY: as said above.
        Pair(unsafe { _mm_add_epi64(self.0, other.0) })
    }

    /// The difference, modulo 2^64.
    #[inline(always)]
    #[must_use]
    pub fn less(self, other: Pair) -> Pair {
        // SAFETY: as said above.
        Pair(unsafe { _mm_sub_epi64(self.0, other.0) })
    }

    /// The product of the lower halves.
    #[inline(always)]
    #[must_use]
    pub fn times(self, other: Pair) -> Pair {
        // SAFETY: as said above.
        Pair(unsafe { _mm_mul_epu32(self.0, other.0) })
    }

    /// Exclusive or.
    #[inline(always)]
    #[must_use]
    pub fn differing(self, other: Pair) -> Pair {
        // SAFETY: as said above.
        Pair(unsafe { _mm_xor_si128(self.0, other.0) })
    }

    /// Or.
    #[inline(always)]
    #[must_use]
    pub fn either(self, other: Pair) -> Pair {
        // SAFETY: as said above.
        Pair(unsafe { _mm_or_si128(self.0, other.0) })
    }

    /// The upper half of each number, in both its halves.
    #[inline(always)]
    #[must_use]
    pub fn upper(self) -> Pair {
        // SAFETY: as said above.
        Pair(unsafe { _mm_shuffle_epi32::<0b11_11_01_01>(self.0) })
    }

    /// The upper half of each number.
    #[inline(always)]
    #[must_use]
    pub fn shifted_down(self) -> Pair {
        // SAFETY: as said above.
        Pair(unsafe { _mm_srli_epi64::<32>(self.0) })
    }

    /// `other` where this number, taken as signed, is below zero; else 0.
    #[inline(always)]
    #[must_use]
    pub fn where_negative(self, other: Pair) -> Pair {
        // SAFETY: as said above.
        Pair(unsafe { _mm_and_si128(_mm_srai_epi32::<31>(self.upper().0), other.0) })
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Pair {
    /// Two numbers.
    #[inline(always)]
    pub fn new(numbers: [u64; 2]) -> Pair {
        Pair(numbers)
    }

    /// Both numbers.
    #[inline(always)]
    pub fn numbers(self) -> [u64; 2] {
        self.0
    }

    fn each(self, other: Pair, work: impl Fn(u64, u64) -> u64) -> Pair {
        Pair([work(self.0[0], other.0[0]), work(self.0[1], other.0[1])])
    }

    /// The sum, modulo 2^64.
    #[inline(always)]
    #[must_use]
    pub fn plus(self, other: Pair) -> Pair {
        self.each(other, u64::wrapping_add)
    }

    /// The difference, modulo 2^64.
    #[inline(always)]
    #[must_use]
    pub fn less(self, other: Pair) -> Pair {
        self.each(other, u64::wrapping_sub)
    }

    /// The product of the lower halves.
    #[inline(always)]
    #[must_use]
    pub fn times(self, other: Pair) -> Pair {
        self.each(other, |one, other| (one & 0xffff_ffff) * (other & 0xffff_ffff))
    }

    /// Exclusive or.
    #[inline(always)]
    #[must_use]
    pub fn differing(self, other: Pair) -> Pair {
        self.each(other, |one, other| one ^ other)
    }

    /// Or.
    #[inline(always)]
    #[must_use]
    pub fn either(self, other: Pair) -> Pair {
        self.each(other, |one, other| one | other)
    }

    /// The upper half of each number, in both its halves.
    #[inline(always)]
    #[must_use]
    pub fn upper(self) -> Pair {
        self.each(self, |number, _| number >> 32 | number >> 32 << 32)
    }

    /// The upper half of each number.
    #[inline(always)]
    #[must_use]
    pub fn shifted_down(self) -> Pair {
        self.each(self, |number, _| number >> 32)
    }

    /// `other` where this number, taken as signed, is below zero; else 0.
    #[inline(always)]
    #[must_use]
    pub fn where_negative(self, other: Pair) -> Pair {
        self.each(other, |one, other| if one.cast_signed() < 0 { other } else { 0 })
    }
}

impl Pair {
    /// The same number twice.
    #[inline(always)]
    pub fn both(number: u64) -> Pair {
        Pair::new([number; 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_what_it_says() {
        let numbers =
            [0, 1, 7, 1 << 31, 0xffff_ffff, 1 << 32, 0x8000_0000_0000_0000, u64::MAX, 0x0123_4567_89ab_cdef];
        for one in numbers {
            for other in numbers {
                let (a, b) = (Pair::new([one, other]), Pair::new([other, one]));
                assert_eq!(a.numbers(), [one, other]);
                assert_eq!(a.plus(b).numbers(), [one.wrapping_add(other); 2]);
                assert_eq!(a.less(b).numbers(), [one.wrapping_sub(other), other.wrapping_sub(one)]);
                assert_eq!(a.times(b).numbers(), [(one & 0xffff_ffff) * (other & 0xffff_ffff); 2]);
                assert_eq!(a.differing(b).numbers(), [one ^ other; 2]);
                assert_eq!(a.either(b).numbers(), [one | other; 2]);
                assert_eq!(a.upper().numbers(), [one, other].map(|number| number >> 32 | number >> 32 << 32));
                assert_eq!(a.shifted_down().numbers(), [one >> 32, other >> 32]);
                let chosen = |number: u64, if_below: u64| if number.cast_signed() < 0 { if_below } else { 0 };
                assert_eq!(a.where_negative(b).numbers(), [chosen(one, other), chosen(other, one)]);
            }
        }
    }
}
