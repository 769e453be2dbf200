//! Which kernels an operation is made of. What it computes is said in [`Backend`](kernels::Backend).

pub(crate) mod attention;
pub(crate) mod distil;
pub(crate) mod draw;
pub(crate) mod exchange;
pub(crate) mod head;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod optimizer;
pub(crate) mod pointwise;
pub(crate) mod rows;

use crate::memory::{Buffer, CudaTensor};
use crate::{Cuda, device::Address};

/// Launches a kernel of a [`Cuda`]: `launch!(cuda, "name", grid, threads, shared bytes; arguments …)`.
/// Arguments are variables or values of exactly the kernel's types: `u64` for addresses, `i32`, `u64`, `f32`,
/// structures of these.
macro_rules! launch {
    ($cuda:expr, $kernel:expr, $grid:expr, $threads:expr, $shared:expr; $($argument:expr),* $(,)?) => {{
        let grid: [usize; 3] = $grid;
        if grid.iter().all(|&size| size > 0) {
            let grid = grid.map(|size| u32::try_from(size).expect("a grid of a GPU"));
            // In one statement, at whose end values that are no variables go.
            // SAFETY: the operation has asserted the lengths of what the kernel reads and writes.
            unsafe {
                $cuda.device().launch(
                    $kernel,
                    grid,
                    $threads,
                    $shared,
                    &[$($crate::memory::bytes_of(std::slice::from_ref(&$argument))),*],
                );
            }
        }
    }};
}
pub(crate) use launch;

/// Panics unless a tensor has a length.
pub(crate) fn assert_len(x: &CudaTensor, len: usize, name: &str) {
    assert_eq!(x.len(), len, "values of {name}");
}

/// Panics unless `x` is rows of `width` values; returns how many.
pub(crate) fn assert_rows(x: &CudaTensor, width: usize, name: &str) -> usize {
    let whole = width > 0 && x.len().is_multiple_of(width);
    assert!(whole, "{name}: {} values are not rows of {width}", x.len());
    x.len() / width
}

/// A size as a kernel takes it.
pub(crate) fn int(size: usize) -> i32 {
    i32::try_from(size).expect("a size of an operation on a GPU is less than 2³¹")
}

/// Whether values are bfloat16, as a kernel takes it.
pub(crate) fn kind(x: &CudaTensor) -> i32 {
    i32::from(x.bf16())
}

impl Cuda {
    /// Working memory with unspecified contents.
    pub(crate) fn scratch(&self, bytes: usize) -> Buffer {
        Buffer::new(self.device(), bytes)
    }

    /// Where products read `x`: itself, or in bfloat16 its twin, which is made or brought up to date, with
    /// room for `room` values of which those beyond the tensor are 0.
    pub(crate) fn operand(&self, x: &CudaTensor, room: usize) -> (Address, bool) {
        if x.bf16() || !self.is_bf16() {
            return (x.at(), x.bf16());
        }
        let mut twin = x.twin().borrow_mut();
        let bytes = 2 * room.max(x.len());
        if twin.as_ref().is_none_or(|twin| twin.buffer.bytes() < bytes) {
            let buffer = Buffer::zeroed(self.device(), bytes);
            *twin = Some(crate::memory::Twin { buffer, fresh: false });
        }
        let twin = twin.as_mut().expect("it was made");
        if !twin.fresh {
            pointwise::convert(self, (twin.buffer.at(), true), (x.at(), false), x.len());
            twin.fresh = true;
        }
        (twin.buffer.at(), true)
    }
}
