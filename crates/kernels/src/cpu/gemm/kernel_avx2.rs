//! Tiles of 6 × 16 `f32` in 256-bit registers.

use super::layout::UNIT;
use super::tile::{PREFETCH_WORDS, Tile, finish};
use std::arch::x86_64::*;
use std::hint::black_box;

const MR: usize = 6;
/// Halves between what is read and what is brought nearer.
const AHEAD: usize = 1024;

/// Independent sums of a step of the peak.
pub(super) const PEAK_SUMS: usize = 12;

/// # Safety
///
/// As [`Kernel::run`](super::Kernel::run), on a processor with AVX2.
pub(super) unsafe fn run(tile: &Tile) {
    // SAFETY: passed on.
    unsafe {
        match tile.is_halves {
            true => run_on::<true>(tile),
            false => run_on::<false>(tile),
        }
    }
}

/// # Safety
///
/// As [`run`], with a panel of columns of this kind.
unsafe fn run_on<const HALVES: bool>(tile: &Tile) {
    // SAFETY: passed on.
    unsafe {
        match tile.rows {
            1 => tile_of::<1, HALVES>(tile),
            2 => tile_of::<2, HALVES>(tile),
            3 | 4 => tile_of::<4, HALVES>(tile),
            _ => tile_of::<MR, HALVES>(tile),
        }
    }
}

/// 16 columns of a panel of words.
///
/// # Safety
///
/// `right` points to that many, on a processor with AVX2.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn words(right: *const u32) -> [__m256; 2] {
    let right = right.cast::<f32>();
    // SAFETY: 16 words.
    unsafe { [_mm256_loadu_ps(right), _mm256_loadu_ps(right.add(8))] }
}

/// The same of a panel of halves.
///
/// # Safety
///
/// As [`words`].
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn halves(right: *const u16) -> [__m256; 2] {
    // SAFETY: 16 halves.
    let halves = unsafe { _mm256_loadu_si256(right.cast()) };
    let [low, high] = [_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves)];
    [low, high].map(|halves| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves))))
}

/// # Safety
///
/// As [`run`], with `tile.rows <= R`.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_of<const R: usize, const HALVES: bool>(tile: &Tile) {
    let mut registers = [[_mm256_setzero_ps(); 2]; R];
    let mut left = tile.left.cast::<f32>();
    let (mut next, lines) = tile.prefetch;
    for word in 0..tile.words {
        if !HALVES && word.is_multiple_of(PREFETCH_WORDS) {
            for _ in 0..lines {
                _mm_prefetch::<_MM_HINT_T1>(next.cast());
                next = next.wrapping_add(UNIT);
            }
        }
        // SAFETY: within the panels.
        unsafe {
            let columns = match HALVES {
                true => {
                    let right = tile.right.cast::<u16>().wrapping_add(word * UNIT);
                    // Widening fills the window in which the processor looks ahead.
                    _mm_prefetch::<_MM_HINT_T0>(right.wrapping_add(AHEAD).cast());
                    halves(right)
                }
                false => words(tile.right.add(word * UNIT)),
            };
            for (i, sums) in registers.iter_mut().enumerate() {
                let row = _mm256_broadcast_ss(&*left.add(i));
                sums[0] = _mm256_fmadd_ps(row, columns[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(row, columns[1], sums[1]);
            }
            left = left.add(MR);
        }
    }
    let mut sums = [[0.0; UNIT]; R];
    for (sums, registers) in sums.iter_mut().zip(&registers) {
        // SAFETY: 16 values.
        unsafe {
            _mm256_storeu_ps(sums.as_mut_ptr(), registers[0]);
            _mm256_storeu_ps(sums.as_mut_ptr().add(8), registers[1]);
        }
    }
    // SAFETY: passed on.
    unsafe { finish(tile, &sums) };
}

/// `steps` times 12 multiply-adds on registers.
///
/// # Safety
///
/// The processor must have AVX2.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn peak(steps: usize) -> f32 {
    let (left, right) = (_mm256_set1_ps(black_box(0.75)), _mm256_set1_ps(black_box(1e-3)));
    let mut sums = [left; PEAK_SUMS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(left, right, *sum);
        }
    }
    let total = sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b)).expect("twelve sums");
    _mm256_cvtss_f32(total)
}
