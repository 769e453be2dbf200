//! One tile of a product: a panel of rows times a panel of columns, summed in registers.
//!
//! Every element is a sum over k in ascending order, whatever the tile's size: its bits depend on its row and
//! its column alone.

use super::super::{Level, Precision};
#[cfg(target_arch = "x86_64")]
use super::codes::Codes;
use super::tile::Tile;

/// What a packed word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// One `f32`.
    F32,
    /// One `f32` that was rounded to bfloat16: the product of pairs for processors that have none.
    RoundedF32,
    /// Two bfloat16, neighbours in k.
    Bf16Pair,
}

impl Word {
    /// Values of k in a word.
    pub(super) fn step(self) -> usize {
        if self == Self::Bf16Pair { 2 } else { 1 }
    }
}

/// How products are computed: chosen once by level and precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(super) level: Level,
    pub(super) word: Word,
}

impl Kernel {
    /// The quickest kernel. `level` must be available on this machine.
    pub(crate) fn new(level: Level, precision: Precision) -> Self {
        let word = match precision {
            Precision::F32 => Word::F32,
            Precision::Bf16 if level.has_bf16() => Word::Bf16Pair,
            Precision::Bf16 => Word::RoundedF32,
        };
        Self { level, word }
    }

    /// Rows of a panel: as many as the registers hold sums for.
    pub(crate) fn mr(self) -> usize {
        match self.level {
            Level::Portable => super::kernel_portable::MR,
            Level::Avx2 => 6,
            Level::Avx512 | Level::Avx512Bf16 => 8,
        }
    }

    /// Units of the widest panel of columns.
    pub(super) fn max_units(self) -> usize {
        match self.level {
            Level::Portable | Level::Avx2 => 1,
            Level::Avx512 | Level::Avx512Bf16 => 3,
        }
    }

    /// Values of k in a word.
    pub(super) fn step(self) -> usize {
        self.word.step()
    }

    /// Whether it multiplies by panels of halves: memory gives a lone row's weights in half the time.
    pub(super) fn takes_halves(self) -> bool {
        self.level == Level::Avx2 && self.word == Word::RoundedF32
    }

    /// Whether panels of integers are unpacked in 256-bit registers: where words are plain values.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn unpacks_integers(self) -> bool {
        self.level != Level::Portable && self.word == Word::F32
    }

    /// How many units of codes a product of so many rows reads side by side as they are; none where they are
    /// unpacked first.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn units_of_codes(self, codes: &Codes, rows: usize) -> Option<usize> {
        let reads = self.level == Level::Avx2 && self.word == Word::F32;
        reads.then(|| super::codes_avx2::units(codes, rows)).flatten()
    }

    /// Multiply-adds on registers alone, as a yardstick: `steps` times [`peak_flops`](Self::peak_flops)
    /// operations.
    pub(crate) fn peak(self, steps: usize) -> f32 {
        match (self.level, self.word) {
            // SAFETY: the level is available.
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512Bf16, Word::Bf16Pair) => unsafe { super::kernel_avx512::peak_bf16(steps) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512 | Level::Avx512Bf16, _) => unsafe { super::kernel_avx512::peak_f32(steps) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            (Level::Avx2, _) => unsafe { super::kernel_avx2::peak(steps) },
            _ => super::kernel_portable::peak(steps),
        }
    }

    /// Operations of a step of [`peak`](Self::peak), multiplications and additions.
    pub(crate) fn peak_flops(self) -> usize {
        let sums = match self.level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Bf16 => super::kernel_avx512::PEAK_SUMS * 16,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => super::kernel_avx2::PEAK_SUMS * 8,
            _ => super::kernel_portable::PEAK_SUMS,
        };
        2 * sums * self.step()
    }

    /// Computes a tile.
    ///
    /// # Safety
    ///
    /// `left`, `right`, `out`, `add` and `bias` point to what [`Tile`] says, for the sizes it gives; nobody
    /// else touches `out` meanwhile.
    pub(super) unsafe fn run(self, tile: &Tile) {
        debug_assert!((1..=self.mr()).contains(&tile.rows) && (1..=self.max_units()).contains(&tile.units));
        // SAFETY: passed on; the level is available.
        unsafe {
            match (self.level, self.word) {
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512 | Level::Avx512Bf16, Word::Bf16Pair) => super::kernel_avx512::run_bf16(tile),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512 | Level::Avx512Bf16, _) => super::kernel_avx512::run_f32(tile),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2, _) => super::kernel_avx2::run(tile),
                _ => super::kernel_portable::run(tile),
            }
        }
    }
}
