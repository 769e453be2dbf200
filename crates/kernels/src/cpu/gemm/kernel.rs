//! One tile of a product: a panel of rows times a panel of columns, summed in registers.
//!
//! Every element is a sum over k in ascending order, whatever the tile's size: its bits depend on its row and
//! its column alone.

use super::super::bf16::to_bf16;
use super::super::{Level, Precision};
use super::layout::UNIT;

/// Words of k between two prefetches.
pub(super) const PREFETCH_WORDS: usize = 8;

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

/// A tile and what becomes of it: `out = add + left · right + bias`.
pub(super) struct Tile {
    /// Words of k.
    pub(super) words: usize,
    /// A panel of rows, `[words][mr]`.
    pub(super) left: *const u32,
    /// A panel of columns, `[words][units · UNIT]`.
    pub(super) right: *const u32,
    /// What to bring nearer meanwhile, so many cache lines for every [`PREFETCH_WORDS`]: anything that is
    /// read soon.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "other processors look ahead themselves")
    )]
    pub(super) prefetch: (*const u32, usize),
    /// Rows of the result, `1 ..= mr`.
    pub(super) rows: usize,
    /// Units of the right panel.
    pub(super) units: usize,
    /// Columns of the result, at most `units · UNIT`.
    pub(super) cols: usize,
    /// The result's first element.
    pub(super) out: Out,
    /// Elements from one row of the result to the next.
    pub(super) out_stride: usize,
    /// What is added, or null.
    pub(super) add: *const f32,
    /// Elements from one row of `add` to the next.
    pub(super) add_stride: usize,
    /// A row that is added last, or null.
    pub(super) bias: *const f32,
}

/// Where results go.
#[derive(Clone, Copy)]
pub(super) enum Out {
    F32(*mut f32),
    Bf16(*mut u16),
}

impl Out {
    /// `count` elements further.
    pub(super) fn offset(self, count: usize) -> Self {
        match self {
            Self::F32(out) => Self::F32(out.wrapping_add(count)),
            Self::Bf16(out) => Self::Bf16(out.wrapping_add(count)),
        }
    }
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

/// Adds and stores a tile's sums.
///
/// # Safety
///
/// As [`Kernel::run`], with `tile.rows <= R`.
#[inline(always)]
pub(super) unsafe fn finish<const R: usize>(tile: &Tile, sums: &[[f32; UNIT]; R]) {
    for (i, sums) in sums.iter().enumerate().take(tile.rows) {
        // SAFETY: the row is one of the tile's.
        unsafe {
            // A constant number of columns is a matter of vectors.
            if tile.cols == UNIT {
                finish_row(tile, i, sums, UNIT);
            } else {
                finish_row(tile, i, sums, tile.cols);
            }
        }
    }
}

/// # Safety
///
/// As [`Kernel::run`], with `i < tile.rows` and `cols <= tile.cols`.
#[inline(always)]
unsafe fn finish_row(tile: &Tile, i: usize, sums: &[f32; UNIT], cols: usize) {
    let mut sums = *sums;
    // SAFETY: `i` and `j` are within the tile's rows and columns.
    unsafe {
        if !tile.add.is_null() {
            let add = tile.add.add(i * tile.add_stride);
            (0..cols).for_each(|j| sums[j] += *add.add(j));
        }
        if !tile.bias.is_null() {
            (0..cols).for_each(|j| sums[j] += *tile.bias.add(j));
        }
        match tile.out {
            Out::F32(out) => {
                let out = out.add(i * tile.out_stride);
                (0..cols).for_each(|j| *out.add(j) = sums[j]);
            }
            Out::Bf16(out) => {
                let out = out.add(i * tile.out_stride);
                (0..cols).for_each(|j| *out.add(j) = to_bf16(sums[j]));
            }
        }
    }
}
