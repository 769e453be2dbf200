//! Matrices in blocks, value by value.

use super::F64Tensor;
use crate::{BlockFormat, BlockMatrix, NF4};
use half::f16;

/// The values of a matrix.
pub(super) fn values(matrix: &BlockMatrix) -> F64Tensor {
    let [_, d_in] = matrix.shape();
    let bands = matrix.bands().iter();
    F64Tensor(
        bands.flat_map(|band| (0..band.rows * d_in).map(|i| value(band.format, &band.bytes, i))).collect(),
    )
}

/// Value `i` of blocks.
fn value(format: BlockFormat, bytes: &[u8], i: usize) -> f64 {
    let (block, i) = (i / format.block_len() * format.block_bytes(), i % format.block_len());
    let byte = |at: usize| bytes[block + at];
    let half = |at: usize| f64::from(f16::from_le_bytes([byte(at), byte(at + 1)]).to_f32());
    // Of 32 codes of four bits, and bit `i` of a stretch of bits.
    let nibble =
        |at: usize, i: usize| f64::from(if i < 16 { byte(at + i) & 15 } else { byte(at + i - 16) >> 4 });
    let bit = |at: usize, i: usize| f64::from(byte(at + i / 8) >> (i % 8) & 1);
    match format {
        BlockFormat::Q8_0 => half(0) * f64::from(byte(2 + i) as i8),
        BlockFormat::Q4_0 => half(0) * (nibble(2, i) - 8.0),
        BlockFormat::Q4_1 => half(0) * nibble(4, i) + half(2),
        BlockFormat::Q5_0 => half(0) * (nibble(6, i) + 16.0 * bit(2, i) - 16.0),
        BlockFormat::Q5_1 => half(0) * (nibble(8, i) + 16.0 * bit(4, i)) + half(2),
        BlockFormat::Q4K | BlockFormat::Q5K => {
            let (group, l) = (i / 32, i % 32);
            let is_five = format == BlockFormat::Q5K;
            let codes = byte(if is_five { 48 } else { 16 } + group / 2 * 32 + l);
            let mut q = f64::from(if group % 2 == 0 { codes & 15 } else { codes >> 4 });
            if is_five {
                q += f64::from(16 * (byte(16 + l) >> group & 1));
            }
            let [s, t] = if group < 4 {
                [byte(4 + group) % 64, byte(8 + group) % 64]
            } else {
                let [s, t] = [byte(group) / 64, byte(4 + group) / 64];
                [byte(8 + group) % 16 + 16 * s, byte(8 + group) / 16 + 16 * t]
            };
            half(0) * f64::from(s) * q - half(2) * f64::from(t)
        }
        BlockFormat::Q6K => {
            let (half_block, group, l) = (i / 128, i % 128 / 32, i % 32);
            let codes = byte(64 * half_block + 32 * (group % 2) + l);
            let low = if group < 2 { codes % 16 } else { codes / 16 };
            let high = byte(128 + 32 * half_block + l) / 4u8.pow(group as u32) % 4;
            half(208) * f64::from(byte(192 + i / 16) as i8) * (f64::from(low + 16 * high) - 32.0)
        }
        BlockFormat::Nf4 => {
            let absmax = f32::from_le_bytes([0, 1, 2, 3].map(byte));
            let codes = byte(4 + i / 2);
            f64::from(absmax) * f64::from(NF4[usize::from(if i % 2 == 0 { codes >> 4 } else { codes & 15 })])
        }
    }
}
