//! Small random numbers that are nobody's secret: jitter, and faults that a seed repeats.

use std::hash::{BuildHasher, Hasher, RandomState};

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and three mixings, the same sequence for the same seed everywhere.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Differs from process to process and from call to call: what jitter is for.
    pub(super) fn shaken() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `bound - 1`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.roll() % bound }
    }

    /// True in `permille` of 1000 rolls. Rolls in any case, so that switching one fault off does not move the others.
    pub(super) fn happens(&mut self, permille: u16) -> bool {
        self.below(1000) < u64::from(permille)
    }
}
