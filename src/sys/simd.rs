//! Run-time choice of vector instructions: trampolines into code compiled for more than the baseline.
//!
//! Plain array code is compiled several times: for the baseline of the target, and, inlined into a trampoline, for a
//! processor with SSE 4.2 and for one with AVX2. No intrinsics: what they run is the same source, so other processors
//! get the same code.

/// What the code of a batch may be compiled for. Having a level is the proof that the processor has it: beyond the
/// baseline only [`Simd::levels`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simd(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Sse42,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Simd {
    /// The baseline of the compilation target, which every processor has.
    pub const BASELINE: Simd = Simd(Level::Baseline);

    /// The best this processor has, or the one that the environment names: `SWATH_SIMD=baseline`.
    pub fn best() -> Simd {
        let levels = Simd::levels();
        let named = std::env::var_os("SWATH_SIMD");
        let named = levels.iter().find(|level| named.as_ref().is_some_and(|name| name == level.name()));
        named.or(levels.last()).copied().unwrap_or(Simd::BASELINE)
    }

    /// Every level this processor has, the best last.
    pub fn levels() -> Vec<Simd> {
        let levels = vec![Simd::BASELINE];
        #[cfg(target_arch = "x86_64")]
        let levels = {
            use std::arch::is_x86_feature_detected as has;
            let mut levels = levels;
            if has!("ssse3") && has!("sse4.1") && has!("sse4.2") && has!("popcnt") {
                levels.push(Simd(Level::Sse42));
            }
            if has!("avx2") && has!("bmi1") && has!("bmi2") && has!("popcnt") {
                levels.push(Simd(Level::Avx2));
            }
            levels
        };
        levels
    }

    /// The name of the level.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Sse42 => "sse4.2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
        }
    }

    /// Calls `work`. What is inlined into `work` uses the instructions of this level; what is not, does not.
    #[inline(always)]
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        match self.0 {
            Level::Baseline => work(),
            // SAFETY: `sse42` needs a processor with SSSE3, SSE 4.1, SSE 4.2 and POPCNT. `Level::Sse42` is private to this
            // module and made in `levels` only, after the processor said that it has all of them. Worth a third of the
            // instructions where there is no AVX2.
            #[cfg(target_arch = "x86_64")]
            Level::Sse42 => unsafe { sse42(work) },
            // SAFETY: `avx2` needs a processor with AVX2, BMI1, BMI2 and POPCNT. `Level::Avx2` is private to this module
            // and made in `levels` only, after the processor said that it has all of them. Worth it: generation runs at
            // half the rate without.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2(work) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "ssse3,sse4.1,sse4.2,popcnt")]
fn sse42<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_computes_the_same() {
        for level in Simd::levels() {
            let mut squares = [0u32; 64];
            level.run(|| {
                for (index, square) in (0u32..).zip(&mut squares) {
                    *square = index * index;
                }
            });
            assert!((0..64).all(|index| squares[index] == (index * index) as u32), "{}", level.name());
        }
    }
}
