//! Tiles of 8 × 48 in 512-bit registers: 24 of the 32 hold sums, enough to hide the latency of two
//! multipliers.

use super::layout::UNIT;
use super::tile::{Out, PREFETCH_WORDS, Tile};
use std::arch::x86_64::*;
use std::hint::black_box;
use std::mem::transmute;

const MR: usize = 8;

/// Independent sums of a step of the peak.
pub(super) const PEAK_SUMS: usize = 24;

/// The instructions in which the two kinds of words differ.
trait Words {
    /// `sum + left · right`, lane by lane.
    ///
    /// # Safety
    ///
    /// The processor must have the instruction.
    unsafe fn multiply_add(sum: __m512, left: __m512, right: __m512) -> __m512;
    /// Rounds to bfloat16.
    ///
    /// # Safety
    ///
    /// The processor must have the instruction.
    unsafe fn narrow(values: __m512) -> __m256i;
}

struct F32;
impl Words for F32 {
    #[inline(always)]
    unsafe fn multiply_add(sum: __m512, left: __m512, right: __m512) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_fmadd_ps(left, right, sum) }
    }
    #[inline(always)]
    unsafe fn narrow(values: __m512) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(round(values))) }
    }
}

struct Bf16;
impl Words for Bf16 {
    #[inline(always)]
    unsafe fn multiply_add(sum: __m512, left: __m512, right: __m512) -> __m512 {
        // SAFETY: the caller's promise; types of the same size without invalid values.
        unsafe {
            _mm512_dpbf16_ps(sum, transmute::<__m512, __m512bh>(left), transmute::<__m512, __m512bh>(right))
        }
    }
    #[inline(always)]
    unsafe fn narrow(values: __m512) -> __m256i {
        // SAFETY: as above.
        unsafe { transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)) }
    }
}

/// Rounds to bfloat16, whose bits are the upper halves of the result; the lower halves are arbitrary.
///
/// # Safety
///
/// The processor must have AVX-512.
#[inline(always)]
pub(super) unsafe fn round(values: __m512) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe {
        let bits = _mm512_castps_si512(values);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
        _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40_0000))
    }
}

/// # Safety
///
/// As [`Kernel::run`](super::Kernel::run), on a processor with AVX-512 and bfloat16 dot products.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) unsafe fn run_bf16(tile: &Tile) {
    // SAFETY: passed on.
    unsafe { run::<Bf16>(tile) }
}

/// # Safety
///
/// As [`Kernel::run`](super::Kernel::run), on a processor with AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn run_f32(tile: &Tile) {
    // SAFETY: passed on.
    unsafe { run::<F32>(tile) }
}

#[inline(always)]
unsafe fn run<W: Words>(tile: &Tile) {
    // SAFETY: passed on.
    unsafe {
        match (tile.units, tile.rows) {
            (3, 5..) => tile_of::<W, 8, 3>(tile),
            (3, 3 | 4) => tile_of::<W, 4, 3>(tile),
            (3, 2) => tile_of::<W, 2, 3>(tile),
            (3, _) => tile_of::<W, 1, 3>(tile),
            (2, 5..) => tile_of::<W, 8, 2>(tile),
            (2, 3 | 4) => tile_of::<W, 4, 2>(tile),
            (2, 2) => tile_of::<W, 2, 2>(tile),
            (2, _) => tile_of::<W, 1, 2>(tile),
            (_, 5..) => tile_of::<W, 8, 1>(tile),
            (_, 3 | 4) => tile_of::<W, 4, 1>(tile),
            (_, 2) => tile_of::<W, 2, 1>(tile),
            (_, _) => tile_of::<W, 1, 1>(tile),
        }
    }
}

/// A tile of up to `R` rows and `U` units.
///
/// # Safety
///
/// As [`run`], with `tile.rows <= R` and `tile.units == U`.
#[inline(always)]
unsafe fn tile_of<W: Words, const R: usize, const U: usize>(tile: &Tile) {
    // SAFETY: reads `words` words of both panels; writes the tile's rows and columns.
    unsafe {
        prefetch_add::<R, U>(tile);
        let mut sums = [[_mm512_setzero_ps(); U]; R];
        let (mut left, mut right) = (tile.left.cast::<f32>(), tile.right.cast::<f32>());
        let (mut next, lines) = tile.prefetch;
        let mut words = tile.words;
        while words > 0 {
            for _ in 0..lines {
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
                next = next.wrapping_add(UNIT);
            }
            let now = words.min(PREFETCH_WORDS);
            words -= now;
            for _ in 0..now {
                let mut columns = [_mm512_setzero_ps(); U];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = _mm512_loadu_ps(right.add(UNIT * j));
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let row = _mm512_set1_ps(*left.add(i));
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = W::multiply_add(*sum, row, column);
                    }
                }
                left = left.add(MR);
                right = right.add(UNIT * U);
            }
        }
        if tile.rows == R && tile.cols == UNIT * U {
            finish::<W, R, U, true>(tile, sums);
        } else {
            finish::<W, R, U, false>(tile, sums);
        }
    }
}

/// Asks for the rows of `add`, which are needed when the sums are complete.
///
/// # Safety
///
/// As [`run`].
#[inline(always)]
unsafe fn prefetch_add<const R: usize, const U: usize>(tile: &Tile) {
    if !tile.add.is_null() {
        for i in 0..R.min(tile.rows) {
            for j in 0..U {
                let line = tile.add.wrapping_add(i * tile.add_stride + UNIT * j);
                // SAFETY: a hint, for any address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
            }
        }
    }
}

/// Adds and stores a tile's sums. A `FULL` tile has `R` rows and `U` whole units.
///
/// # Safety
///
/// As [`run`], with `tile.rows <= R` and `tile.units == U`.
#[inline(always)]
unsafe fn finish<W: Words, const R: usize, const U: usize, const FULL: bool>(
    tile: &Tile,
    mut sums: [[__m512; U]; R],
) {
    let rows = if FULL { R } else { tile.rows };
    let mask = |j: usize| match tile.cols.saturating_sub(UNIT * j) {
        _ if FULL => !0,
        UNIT.. => !0,
        columns => (1u16 << columns) - 1,
    };
    let masks: [u16; U] = std::array::from_fn(mask);
    // SAFETY: rows below `rows` and, by the masks, columns below `tile.cols` only.
    unsafe {
        if !tile.add.is_null() {
            for (i, sums) in sums.iter_mut().enumerate() {
                if i < rows {
                    let add = tile.add.add(i * tile.add_stride);
                    for (j, sum) in sums.iter_mut().enumerate() {
                        *sum =
                            _mm512_add_ps(*sum, _mm512_maskz_loadu_ps(masks[j], add.wrapping_add(UNIT * j)));
                    }
                }
            }
        }
        if !tile.bias.is_null() {
            for j in 0..U {
                let bias = _mm512_maskz_loadu_ps(masks[j], tile.bias.wrapping_add(UNIT * j));
                for sums in &mut sums {
                    sums[j] = _mm512_add_ps(sums[j], bias);
                }
            }
        }
        match tile.out {
            Out::F32(out) => {
                for (i, sums) in sums.iter().enumerate() {
                    if i < rows {
                        let out = out.add(i * tile.out_stride);
                        for (j, sum) in sums.iter().enumerate() {
                            _mm512_mask_storeu_ps(out.wrapping_add(UNIT * j), masks[j], *sum);
                        }
                    }
                }
            }
            Out::Bf16(out) => {
                for (i, sums) in sums.iter().enumerate() {
                    if i < rows {
                        let out = out.add(i * tile.out_stride);
                        for (j, sum) in sums.iter().enumerate() {
                            let out = out.wrapping_add(UNIT * j);
                            _mm256_mask_storeu_epi16(out.cast(), masks[j], W::narrow(*sum));
                        }
                    }
                }
            }
        }
    }
}

/// `steps` times 24 multiply-adds on registers of pairs.
///
/// # Safety
///
/// The processor must have AVX-512 and bfloat16 dot products.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(super) unsafe fn peak_bf16(steps: usize) -> f32 {
    // SAFETY: passed on.
    unsafe { peak::<Bf16>(steps) }
}

/// `steps` times 24 multiply-adds on registers of `f32`.
///
/// # Safety
///
/// The processor must have AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn peak_f32(steps: usize) -> f32 {
    // SAFETY: passed on.
    unsafe { peak::<F32>(steps) }
}

#[inline(always)]
unsafe fn peak<W: Words>(steps: usize) -> f32 {
    // SAFETY: the callers' promise.
    unsafe {
        let (left, right) = (_mm512_set1_ps(black_box(0.75)), _mm512_set1_ps(black_box(1e-3)));
        let mut sums = [left; PEAK_SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = W::multiply_add(*sum, left, right);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }
}
