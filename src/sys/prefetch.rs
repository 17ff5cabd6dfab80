//! Asking for memory before it is needed.

/// Asks the processor to bring what lies at `place` into its nearest cache. It does not wait, so many can be under way at
/// once; nothing that can be seen changes.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    // SAFETY: the instruction is part of x86-64's baseline (SSE), takes any address and neither faults nor changes memory.
    // Worth it: a receive loop that loads instead stands still as soon as its reorder buffer is full of loads that wait.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// As [`prefetch`], for the element of a slice with an index; where there is none, nothing is asked for that matters.
#[inline(always)]
pub fn prefetch_at<T>(slice: &[T], index: usize) {
    let place = slice.as_ptr().wrapping_add(index);
    // SAFETY: as in `prefetch`: the instruction takes any address. Worth it: no bound to check, two instructions of three.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
