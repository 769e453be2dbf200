//! Tiles of few rows on codes as they are, in 256-bit registers: as fast as memory gives them.
//!
//! A column's sum is one chain of multiply-adds, in the order of every kernel. Two units side by side are chains
//! enough that the processor never waits for one.

use super::codes::Codes;
use super::layout::UNIT;
use super::tile::{Tile, finish};
use crate::BlockFormat;
use std::arch::x86_64::*;
use std::array::from_fn;

/// Rows of the panels of rows.
const MR: usize = 6;
/// Values of a block, bytes of its scales.
const LEN: usize = 32;
const SCALES: usize = 2 * UNIT;

/// How many units are computed side by side for so many rows; none where codes are rather unpacked for several
/// tiles, or are no whole numbers.
pub(super) fn units(codes: &Codes, rows: usize) -> Option<usize> {
    let is_whole = matches!(codes.format, BlockFormat::Q8_0 | BlockFormat::Q4_0);
    (is_whole && rows <= MR).then_some(if rows <= 2 { 2 } else { 1 })
}

/// Computes neighbouring tiles, of the units from `unit` on and the terms from `start` on: one, or as many as
/// [`units`] says.
///
/// # Safety
///
/// As [`Kernel::run`](super::Kernel::run) but for `right`, on a processor with AVX2; `start` is even, and the codes
/// have the terms and units.
pub(super) unsafe fn run(codes: &Codes, unit: usize, start: usize, tiles: &[Tile]) {
    // SAFETY: passed on.
    unsafe {
        match codes.format {
            BlockFormat::Q8_0 => of_rows::<false>(codes, unit, start, tiles),
            _ => of_rows::<true>(codes, unit, start, tiles),
        }
    }
}

/// # Safety
///
/// As [`run`]; codes of halves of bytes with `FOUR`, else of bytes.
unsafe fn of_rows<const FOUR: bool>(codes: &Codes, unit: usize, start: usize, tiles: &[Tile]) {
    // SAFETY: passed on.
    unsafe {
        match (tiles, tiles[0].rows) {
            ([one, two], 1) => tile_of::<1, 2, FOUR>(codes, unit, start, [one, two]),
            ([one, two], _) => tile_of::<2, 2, FOUR>(codes, unit, start, [one, two]),
            (_, 1) => tile_of::<1, 1, FOUR>(codes, unit, start, [&tiles[0]]),
            (_, 2) => tile_of::<2, 1, FOUR>(codes, unit, start, [&tiles[0]]),
            (_, 3 | 4) => tile_of::<4, 1, FOUR>(codes, unit, start, [&tiles[0]]),
            _ => tile_of::<MR, 1, FOUR>(codes, unit, start, [&tiles[0]]),
        }
    }
}

/// # Safety
///
/// As [`of_rows`], with `rows <= R` in every tile.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_of<const R: usize, const U: usize, const FOUR: bool>(
    codes: &Codes,
    unit: usize,
    start: usize,
    tiles: [&Tile; U],
) {
    let block_bytes = SCALES + UNIT * LEN / if FOUR { 2 } else { 1 };
    let units: [*const u8; U] = from_fn(|u| codes.unit(unit + u).as_ptr());
    let mut sums = [[[_mm256_setzero_ps(); 2]; R]; U];
    let (mut left, end) = (tiles[0].left.cast::<f32>(), start + tiles[0].words);
    let mut k = start;
    while k < end {
        let (block, until) = (k / LEN * block_bytes, end.min((k / LEN + 1) * LEN));
        // SAFETY: within the codes and the panel of rows.
        unsafe {
            let scales: [[__m256; 2]; U] = from_fn(|u| scales_at(units[u].add(block)));
            while k < until {
                let at = block + SCALES + k % LEN * UNIT / if FOUR { 2 } else { 1 };
                for u in 0..U {
                    if FOUR {
                        let bytes = _mm_loadu_si128(units[u].add(at).cast());
                        let nibbles = _mm_set1_epi8(15);
                        add_row(&mut sums[u], scales[u], whole(_mm_and_si128(bytes, nibbles)), left);
                        if k + 1 < until {
                            let upper = _mm_and_si128(_mm_srli_epi16::<4>(bytes), nibbles);
                            add_row(&mut sums[u], scales[u], whole(upper), left.add(MR));
                        }
                    } else {
                        let halves = [0, 8].map(|from| _mm_loadl_epi64(units[u].add(at + from).cast()));
                        add_row(&mut sums[u], scales[u], halves, left);
                    }
                }
                let terms = if FOUR { 2.min(until - k) } else { 1 };
                (k, left) = (k + terms, left.wrapping_add(terms * MR));
            }
        }
    }
    for (tile, sums) in tiles.into_iter().zip(&sums) {
        let mut stored = [[0.0; UNIT]; R];
        for (stored, sums) in stored.iter_mut().zip(sums) {
            // SAFETY: 16 values.
            unsafe {
                _mm256_storeu_ps(stored.as_mut_ptr(), sums[0]);
                _mm256_storeu_ps(stored.as_mut_ptr().add(8), sums[1]);
            }
        }
        // SAFETY: passed on.
        unsafe { finish(tile, &stored) };
    }
}

/// The scales of 16 columns.
///
/// # Safety
///
/// There are 32 bytes.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scales_at(bytes: *const u8) -> [__m256; 2] {
    // SAFETY: the caller's promise.
    [0, 16].map(|from| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(bytes.add(from).cast())) })
}

/// 16 halves of bytes, each less 8, in the lower halves of two registers.
#[inline]
#[target_feature(enable = "avx2")]
fn whole(nibbles: __m128i) -> [__m128i; 2] {
    let signed = _mm_sub_epi8(nibbles, _mm_set1_epi8(8));
    [signed, _mm_srli_si128::<8>(signed)]
}

/// Adds the products of one k.
///
/// # Safety
///
/// `left` points to a value of every row.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_row<const R: usize>(
    sums: &mut [[__m256; 2]; R],
    scales: [__m256; 2],
    codes: [__m128i; 2],
    left: *const f32,
) {
    let columns: [__m256; 2] =
        from_fn(|i| _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes[i])), scales[i]));
    for (i, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let row = unsafe { _mm256_broadcast_ss(&*left.add(i)) };
        sums[0] = _mm256_fmadd_ps(row, columns[0], sums[0]);
        sums[1] = _mm256_fmadd_ps(row, columns[1], sums[1]);
    }
}
