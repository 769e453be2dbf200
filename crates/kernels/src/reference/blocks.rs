//! Matrices in blocks, value by value.

use super::F64Tensor;
use crate::{BlockFormat, BlockMatrix, NF4};
use half::f16;

/// The values of a matrix.
pub(super) fn values(matrix: &BlockMatrix) -> F64Tensor {
    let (format, bytes) = (matrix.format(), matrix.bytes());
    let half = |at: usize| f64::from(f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32());
    let value = |i: usize| match format {
        BlockFormat::Q8_0 => {
            let block = i / 32 * 34;
            half(block) * f64::from(bytes[block + 2 + i % 32] as i8)
        }
        BlockFormat::Q4_0 => {
            let (block, j) = (i / 32 * 18, i % 32);
            let byte = bytes[block + 2 + j % 16];
            half(block) * (f64::from(if j < 16 { byte & 15 } else { byte >> 4 }) - 8.0)
        }
        BlockFormat::Nf4 => {
            let (block, j) = (i / 64 * 36, i % 64);
            let absmax = f32::from_le_bytes([0, 1, 2, 3].map(|at| bytes[block + at]));
            let byte = bytes[block + 4 + j / 2];
            f64::from(absmax) * f64::from(NF4[usize::from(if j % 2 == 0 { byte >> 4 } else { byte & 15 })])
        }
    };
    F64Tensor((0..matrix.len()).map(value).collect())
}
