//! One tile of a product: a panel of rows times a panel of columns, summed in registers.
//!
//! Every element is a sum over k in ascending order, whatever the tile's size: its bits depend on its row and its
//! column alone.

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
    /// What to bring nearer meanwhile, so many cache lines for every [`PREFETCH_WORDS`]: anything that is read soon.
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
            Level::Portable => 4,
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

    /// Multiply-adds on registers alone, as a yardstick: `steps` times [`peak_flops`](Self::peak_flops) operations.
    pub(crate) fn peak(self, steps: usize) -> f32 {
        // SAFETY: the level is available.
        unsafe {
            match (self.level, self.word) {
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512Bf16, Word::Bf16Pair) => super::kernel_avx512::peak_bf16(steps),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx512 | Level::Avx512Bf16, _) => super::kernel_avx512::peak_f32(steps),
                #[cfg(target_arch = "x86_64")]
                (Level::Avx2, _) => super::kernel_avx2::peak(steps),
                _ => peak_portable(steps),
            }
        }
    }

    /// Operations of a step of [`peak`](Self::peak), multiplications and additions.
    pub(crate) fn peak_flops(self) -> usize {
        let sums = match self.level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Bf16 => super::kernel_avx512::PEAK_SUMS * 16,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => super::kernel_avx2::PEAK_SUMS * 8,
            _ => PEAK_SUMS_PORTABLE,
        };
        2 * sums * self.step()
    }

    /// Computes a tile.
    ///
    /// # Safety
    ///
    /// `left`, `right`, `out`, `add` and `bias` point to what [`Tile`] says, for the sizes it gives; nobody else
    /// touches `out` meanwhile.
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
                _ => run_portable(tile),
            }
        }
    }
}

/// Independent sums of a step of the peak: eight registers of the baseline.
const PEAK_SUMS_PORTABLE: usize = 32;

fn peak_portable(steps: usize) -> f32 {
    let (left, right) = (std::hint::black_box(0.75), std::hint::black_box([1e-3; PEAK_SUMS_PORTABLE]));
    let mut sums = right;
    for _ in 0..steps {
        for (sum, right) in sums.iter_mut().zip(right) {
            *sum = multiply_add(left, right, *sum);
        }
    }
    sums.iter().sum()
}

/// `left · right + sum`: fused on ARM, whose baseline can; on baseline x86 that would be a library call.
#[inline(always)]
fn multiply_add(left: f32, right: f32, sum: f32) -> f32 {
    if cfg!(target_arch = "aarch64") { left.mul_add(right, sum) } else { left * right + sum }
}

/// # Safety
///
/// As [`Kernel::run`].
unsafe fn run_portable(tile: &Tile) {
    // SAFETY: passed on.
    unsafe {
        match tile.rows {
            1 => portable::<1>(tile),
            2 => portable::<2>(tile),
            _ => portable::<4>(tile),
        }
    }
}

/// # Safety
///
/// As [`Kernel::run`], with `tile.rows <= R`.
unsafe fn portable<const R: usize>(tile: &Tile) {
    const MR: usize = 4;
    let mut sums = [[0.0f32; UNIT]; R];
    // SAFETY: panels of this many words.
    let (left, right) = unsafe {
        let left = std::slice::from_raw_parts(tile.left.cast::<[f32; MR]>(), tile.words);
        (left, std::slice::from_raw_parts(tile.right.cast::<[f32; UNIT]>(), tile.words))
    };
    for (left, right) in left.iter().zip(right) {
        for (sums, &left) in sums.iter_mut().zip(left) {
            for (sum, &right) in sums.iter_mut().zip(right) {
                *sum = multiply_add(left, right, *sum);
            }
        }
    }
    // SAFETY: passed on.
    unsafe { finish(tile, &sums) };
}

/// Adds and stores a tile's sums.
///
/// # Safety
///
/// As [`Kernel::run`], with `tile.rows <= R`.
#[inline(always)]
pub(super) unsafe fn finish<const R: usize>(tile: &Tile, sums: &[[f32; UNIT]; R]) {
    for (i, sums) in sums.iter().enumerate().take(tile.rows) {
        let value = |j: usize| {
            let mut sum = sums[j];
            // SAFETY: `i` and `j` are within the tile's rows and columns.
            unsafe {
                if !tile.add.is_null() {
                    sum += *tile.add.add(i * tile.add_stride + j);
                }
                if !tile.bias.is_null() {
                    sum += *tile.bias.add(j);
                }
            }
            sum
        };
        // SAFETY: as above.
        unsafe {
            match tile.out {
                Out::F32(out) => (0..tile.cols).for_each(|j| *out.add(i * tile.out_stride + j) = value(j)),
                Out::Bf16(out) => {
                    (0..tile.cols).for_each(|j| *out.add(i * tile.out_stride + j) = to_bf16(value(j)));
                }
            }
        }
    }
}
