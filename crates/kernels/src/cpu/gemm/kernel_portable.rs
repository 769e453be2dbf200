//! Tiles in the 128-bit registers that every x86-64 and every 64-bit ARM processor has; elsewhere in plain
//! arrays.
//!
//! Left to itself the compiler takes the sums apart into single numbers, and does not always find back to
//! vectors.

use super::layout::UNIT;
use super::tile::{Tile, finish};
use lanes::{Lanes, load, multiply_add, splat, store};

/// Rows of a tile: 32 registers hold the sums of six, 16 those of two.
pub(super) const MR: usize = if cfg!(target_arch = "aarch64") { 6 } else { 2 };

/// Numbers in a register.
const WIDTH: usize = 4;

/// Independent sums of a step of the peak: eight registers.
pub(super) const PEAK_SUMS: usize = 8 * WIDTH;

/// # Safety
///
/// As [`Kernel::run`](super::Kernel::run).
pub(super) unsafe fn run(tile: &Tile) {
    // SAFETY: passed on.
    unsafe {
        match tile.rows {
            1 => tile_of::<1>(tile),
            2 => tile_of::<2>(tile),
            3 | 4 if MR > 4 => tile_of::<4>(tile),
            _ => tile_of::<MR>(tile),
        }
    }
}

/// # Safety
///
/// As [`run`], with `tile.rows <= R`.
unsafe fn tile_of<const R: usize>(tile: &Tile) {
    let mut registers = [[splat(0.0); UNIT / WIDTH]; R];
    let (mut left, mut right) = (tile.left.cast::<f32>(), tile.right.cast::<f32>());
    for _ in 0..tile.words {
        // SAFETY: within the panels.
        unsafe {
            let columns: [Lanes; UNIT / WIDTH] = std::array::from_fn(|j| load(right.add(j * WIDTH)));
            for (i, sums) in registers.iter_mut().enumerate() {
                let row = splat(*left.add(i));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = multiply_add(row, column, *sum);
                }
            }
            left = left.add(MR);
            right = right.add(UNIT);
        }
    }
    let mut sums = [[0.0; UNIT]; R];
    for (sums, registers) in sums.iter_mut().zip(registers) {
        for (sums, register) in sums.as_chunks_mut().0.iter_mut().zip(registers) {
            store(sums, register);
        }
    }
    // SAFETY: passed on.
    unsafe { finish(tile, &sums) };
}

/// `steps` times [`PEAK_SUMS`] multiply-adds on registers.
pub(super) fn peak(steps: usize) -> f32 {
    let (left, right) = (splat(std::hint::black_box(0.75)), splat(std::hint::black_box(1e-3)));
    let mut sums = [left; PEAK_SUMS / WIDTH];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = multiply_add(left, right, *sum);
        }
    }
    let mut total = [0.0; WIDTH];
    store(&mut total, sums.into_iter().reduce(|a, b| multiply_add(left, a, b)).expect("eight sums"));
    total.iter().sum()
}

/// A register and what it can do.
#[cfg(target_arch = "x86_64")]
mod lanes {
    use super::WIDTH;
    use std::arch::x86_64::*;

    pub(super) type Lanes = __m128;

    #[inline(always)]
    pub(super) fn splat(x: f32) -> Lanes {
        // SAFETY: part of the target.
        unsafe { _mm_set1_ps(x) }
    }

    /// # Safety
    ///
    /// Four numbers can be read.
    #[inline(always)]
    pub(super) unsafe fn load(x: *const f32) -> Lanes {
        // SAFETY: the caller's promise.
        unsafe { _mm_loadu_ps(x) }
    }

    #[inline(always)]
    pub(super) fn store(to: &mut [f32; WIDTH], x: Lanes) {
        // SAFETY: four numbers.
        unsafe { _mm_storeu_ps(to.as_mut_ptr(), x) }
    }

    /// `a · b + sum`, in two steps: the baseline has no other.
    #[inline(always)]
    pub(super) fn multiply_add(a: Lanes, b: Lanes, sum: Lanes) -> Lanes {
        // SAFETY: part of the target.
        unsafe { _mm_add_ps(_mm_mul_ps(a, b), sum) }
    }
}

#[cfg(target_arch = "aarch64")]
mod lanes {
    use super::WIDTH;
    use std::arch::aarch64::*;

    pub(super) type Lanes = float32x4_t;

    #[inline(always)]
    pub(super) fn splat(x: f32) -> Lanes {
        // SAFETY: part of the target.
        unsafe { vdupq_n_f32(x) }
    }

    /// # Safety
    ///
    /// Four numbers can be read.
    #[inline(always)]
    pub(super) unsafe fn load(x: *const f32) -> Lanes {
        // SAFETY: the caller's promise.
        unsafe { vld1q_f32(x) }
    }

    #[inline(always)]
    pub(super) fn store(to: &mut [f32; WIDTH], x: Lanes) {
        // SAFETY: four numbers.
        unsafe { vst1q_f32(to.as_mut_ptr(), x) }
    }

    /// `a · b + sum`, fused.
    #[inline(always)]
    pub(super) fn multiply_add(a: Lanes, b: Lanes, sum: Lanes) -> Lanes {
        // SAFETY: part of the target.
        unsafe { vfmaq_f32(sum, a, b) }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod lanes {
    use super::WIDTH;

    pub(super) type Lanes = [f32; WIDTH];

    #[inline(always)]
    pub(super) fn splat(x: f32) -> Lanes {
        [x; WIDTH]
    }

    /// # Safety
    ///
    /// Four numbers can be read.
    #[inline(always)]
    pub(super) unsafe fn load(x: *const f32) -> Lanes {
        // SAFETY: the caller's promise.
        unsafe { x.cast::<Lanes>().read() }
    }

    #[inline(always)]
    pub(super) fn store(to: &mut [f32; WIDTH], x: Lanes) {
        *to = x;
    }

    /// `a · b + sum`, in two steps.
    #[inline(always)]
    pub(super) fn multiply_add(a: Lanes, b: Lanes, sum: Lanes) -> Lanes {
        std::array::from_fn(|i| a[i] * b[i] + sum[i])
    }
}
