//! Values → blocks.

use super::{BlockFormat, NF4};
use half::f16;

/// The most values of a block that is made.
const MAX_MADE: usize = 64;

impl BlockFormat {
    /// The blocks of these values; none where a value is no number, or beyond what the format can hold.
    ///
    /// # Panics
    ///
    /// If it is none of those that are [made](Self::MADE).
    pub fn quantise(self, values: &[f32]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(self.bytes(values.len()));
        for values in values.chunks(self.block_len()) {
            let mut block = [0.0; MAX_MADE];
            block[..values.len()].copy_from_slice(values);
            let block = &block[..self.block_len()];
            let largest = block.iter().copied().reduce(|a, b| if b.abs() > a.abs() { b } else { a })?;
            let scale = match self {
                BlockFormat::Q8_0 => f16::from_f32(largest.abs() / 127.0).to_f32(),
                BlockFormat::Q4_0 => f16::from_f32(largest / -8.0).to_f32(),
                BlockFormat::Nf4 => largest.abs(),
                _ => panic!("{self} is only read"),
            };
            if !scale.is_finite() || block.iter().any(|x| !x.is_finite()) {
                return None;
            }
            match self {
                BlockFormat::Q8_0 => q8_0(&mut bytes, block, largest),
                BlockFormat::Q4_0 => q4_0(&mut bytes, block, largest),
                _ => nf4(&mut bytes, block, largest.abs()),
            }
        }
        Some(bytes)
    }
}

fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

fn q8_0(bytes: &mut Vec<u8>, block: &[f32], largest: f32) {
    let d = largest.abs() / 127.0;
    bytes.extend_from_slice(&f16::from_f32(d).to_le_bytes());
    bytes.extend(block.iter().map(|x| (x * inverse(d)).round() as i8 as u8));
}

fn q4_0(bytes: &mut Vec<u8>, block: &[f32], largest: f32) {
    let d = largest / -8.0;
    bytes.extend_from_slice(&f16::from_f32(d).to_le_bytes());
    let q = |x: f32| ((x * inverse(d) + 8.5) as u8).min(15);
    let (low, high) = block.split_at(16);
    bytes.extend(low.iter().zip(high).map(|(&low, &high)| q(low) | q(high) << 4));
}

fn nf4(bytes: &mut Vec<u8>, block: &[f32], absmax: f32) {
    bytes.extend_from_slice(&absmax.to_le_bytes());
    // Above how many of the midpoints between neighbours it is.
    let code =
        |x: f32| NF4.windows(2).filter(|pair| (pair[0] + pair[1]) / 2.0 < x * inverse(absmax)).count() as u8;
    let (pairs, _) = block.as_chunks::<2>();
    bytes.extend(pairs.iter().map(|&[first, second]| code(first) << 4 | code(second)));
}
