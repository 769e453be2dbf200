//! Tiles of 6 × 16 `f32` in 256-bit registers.

use super::layout::UNIT;
use super::tile::{Tile, finish};
use std::arch::x86_64::*;
use std::hint::black_box;

const MR: usize = 6;

/// Independent sums of a step of the peak.
pub(super) const PEAK_SUMS: usize = 12;

/// # Safety
///
/// As [`Kernel::run`](super::Kernel::run), on a processor with AVX2.
pub(super) unsafe fn run(tile: &Tile) {
    // SAFETY: passed on.
    unsafe {
        match tile.rows {
            1 => tile_of::<1>(tile),
            2 => tile_of::<2>(tile),
            3 | 4 => tile_of::<4>(tile),
            _ => tile_of::<MR>(tile),
        }
    }
}

/// # Safety
///
/// As [`run`], with `tile.rows <= R`.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile_of<const R: usize>(tile: &Tile) {
    let mut registers = [[_mm256_setzero_ps(); 2]; R];
    let (mut left, mut right) = (tile.left.cast::<f32>(), tile.right.cast::<f32>());
    for _ in 0..tile.words {
        // SAFETY: within the panels.
        unsafe {
            let columns = [_mm256_loadu_ps(right), _mm256_loadu_ps(right.add(8))];
            for (i, sums) in registers.iter_mut().enumerate() {
                let row = _mm256_broadcast_ss(&*left.add(i));
                sums[0] = _mm256_fmadd_ps(row, columns[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(row, columns[1], sums[1]);
            }
            left = left.add(MR);
            right = right.add(UNIT);
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
