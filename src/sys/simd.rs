//! Run-time choice of vector instructions: a trampoline into code compiled for AVX2.
//!
//! Plain array code is compiled twice: for the baseline of the target, and, inlined into the trampoline, for a
//! processor with AVX2. No intrinsics: what the two run is the same source, so other processors get the same code.

/// What the code of a batch may be compiled for. Having a level is the proof that the processor has it: beyond the
/// baseline only [`Simd::best`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simd(Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Simd {
    /// The baseline of the compilation target, which every processor has.
    pub const BASELINE: Simd = Simd(Level::Baseline);

    /// The best this processor has, or the baseline when the environment says `SWATH_SIMD=baseline`.
    pub fn best() -> Simd {
        if std::env::var_os("SWATH_SIMD").is_some_and(|value| value == "baseline") {
            return Simd::BASELINE;
        }
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("bmi1")
            && std::arch::is_x86_feature_detected!("bmi2")
        {
            return Simd(Level::Avx2);
        }
        Simd::BASELINE
    }

    /// Every level this processor has, for tests that compare them.
    pub fn levels() -> Vec<Simd> {
        let mut levels = vec![Simd::BASELINE, Simd::best()];
        levels.dedup();
        levels
    }

    /// The name of the level.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
        }
    }

    /// Calls `work`. What is inlined into `work` uses the instructions of this level; what is not, does not.
    #[inline(always)]
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        match self.0 {
            Level::Baseline => work(),
            // SAFETY: `avx2` needs a processor with AVX2, BMI1 and BMI2. `Level::Avx2` is private to this module and
            // made in `best` only, after the processor said that it has all three. Worth it: generation runs at half the
            // rate without.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2(work) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2")]
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
