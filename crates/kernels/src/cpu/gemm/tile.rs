//! What every kernel is given, a tile, and how it stores the sums of one.

use super::super::bf16::to_bf16;
use super::layout::UNIT;

/// Words of k between two prefetches.
pub(super) const PREFETCH_WORDS: usize = 8;

/// A tile and what becomes of it: `out = add + left · right + bias`.
pub(super) struct Tile {
    /// Words of k.
    pub(super) words: usize,
    /// A panel of rows, `[words][mr]`.
    pub(super) left: *const u32,
    /// A panel of columns, `[words][units · UNIT]`.
    pub(super) right: *const u32,
    /// Whether that panel has the upper halves of its words alone, as `u16`: bfloat16 whose words would be
    /// `f32`.
    pub(super) is_halves: bool,
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

/// Adds and stores a tile's sums.
///
/// # Safety
///
/// As [`Kernel::run`](super::Kernel::run), with `tile.rows <= R`.
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
/// As [`Kernel::run`](super::Kernel::run), with `i < tile.rows` and `cols <= tile.cols`.
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
