//! A weight in blocks as the right factor of its product: it stays in as many bytes, which lie as kernels read them.
//!
//! Units of 16 columns, one after another; of each, block after block along k; of a block, the scales of its columns,
//! then their codes: a byte each in q8_0, `[k][column]`; in the others half a byte each, `[pair of k][column]`, the
//! first k in the lower half. Values that are unpacked are those that the plain matrix would have been packed from, so
//! that products have the same bits.

use super::super::aligned::Aligned;
use super::super::bf16::{round_bf16, to_bf16};
use super::super::level::multiversion;
use super::super::pool::{Disjoint, Pool};
use super::kernel::{Kernel, Word};
use super::layout::UNIT;
use crate::blocks::{BlockFormat, BlockMatrix, NF4};
use half::f16;
use std::ops::Range;

/// The weight.
pub(crate) struct Codes {
    pub(super) format: BlockFormat,
    bytes: Aligned<u8>,
    d_out: usize,
    d_in: usize,
}

impl Codes {
    /// The same values in this layout; none where a block has values of two rows.
    pub(crate) fn new(pool: &mut Pool, matrix: &BlockMatrix) -> Option<Self> {
        let (format, [d_out, d_in]) = (matrix.format(), matrix.shape());
        let blocks = d_in / format.block_len();
        if !d_in.is_multiple_of(format.block_len()) {
            return None;
        }
        let (units, of_unit) = (d_out.div_ceil(UNIT), blocks * UNIT * format.block_bytes());
        let mut bytes = Aligned::zeros(units * of_unit);
        let target = Disjoint::new(&mut bytes);
        pool.run(units, &|unit, _| {
            // SAFETY: every chunk takes its own unit.
            let unit_bytes = unsafe { target.slice(unit * of_unit, of_unit) };
            let blocks_of_unit = unit_bytes.chunks_exact_mut(UNIT * format.block_bytes());
            for (index, to) in blocks_of_unit.enumerate() {
                for column in 0..UNIT.min(d_out - unit * UNIT) {
                    let at = ((unit * UNIT + column) * blocks + index) * format.block_bytes();
                    put_column(format, to, column, &matrix.bytes()[at..][..format.block_bytes()]);
                }
            }
        });
        Some(Self { format, bytes, d_out, d_in })
    }

    /// `[d_out, d_in]`.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.d_out, self.d_in]
    }

    /// The blocks of a unit.
    pub(super) fn unit(&self, unit: usize) -> &[u8] {
        let len = self.d_in / self.format.block_len() * UNIT * self.format.block_bytes();
        &self.bytes[unit * len..][..len]
    }

    /// Writes the terms `k` of some units as a kernel's panel of columns, `[word][column]`.
    pub(super) fn unpack(&self, kernel: Kernel, panel: &mut [u32], units: Range<usize>, k: Range<usize>) {
        let width = units.len() * UNIT;
        assert!(
            k.end <= self.d_in && panel.len() == k.len().div_ceil(kernel.step()) * width,
            "a panel of another size"
        );
        for (column, unit) in (0..).step_by(UNIT).zip(units) {
            let (first, unit) = (k.start, self.unit(unit));
            unpack_unit(
                kernel.level,
                panel,
                [width, column],
                unit,
                self.format,
                [first, k.len()],
                kernel.word,
            );
        }
    }
}

/// Puts a block of one column among those of its unit.
fn put_column(format: BlockFormat, unit: &mut [u8], column: usize, block: &[u8]) {
    let (scale, codes) = block.split_at(format.scale_bytes());
    let (scales, unit_codes) = unit.split_at_mut(UNIT * scale.len());
    scales[column * scale.len()..][..scale.len()].copy_from_slice(scale);
    for k in 0..format.block_len() {
        match format {
            BlockFormat::Q8_0 => unit_codes[k * UNIT + column] = codes[k],
            BlockFormat::Q4_0 | BlockFormat::Nf4 => {
                unit_codes[k / 2 * UNIT + column] |= format.nibble(codes, k) << (4 * (k % 2));
            }
        }
    }
}

multiversion! {
    /// The terms of one unit, so many from the first on, into a panel: `place` is its width and the unit's first
    /// column.
    fn unpack_unit(
        panel: &mut [u32],
        place: [usize; 2],
        unit: &[u8],
        format: BlockFormat,
        terms: [usize; 2],
        word: Word,
    ) {
        let ([width, column], [start, len]) = (place, terms);
        let block_len = format.block_len();
        let mut at = start;
        while at < start + len {
            let block = &unit[at / block_len * UNIT * format.block_bytes()..][..UNIT * format.block_bytes()];
            let (scales, codes) = block.split_at(UNIT * format.scale_bytes());
            let scales = scales_of(format, scales);
            let end = (start + len).min((at / block_len + 1) * block_len);
            for k in at..end {
                let values = values_of(format, &scales, codes, k % block_len);
                let words = &mut panel[(k - start) / word.step() * width + column..][..UNIT];
                match word {
                    Word::F32 => words.iter_mut().zip(values).for_each(|(word, x)| *word = x.to_bits()),
                    Word::RoundedF32 => {
                        words.iter_mut().zip(values).for_each(|(word, x)| *word = round_bf16(x).to_bits());
                    }
                    Word::Bf16Pair if (k - start) % 2 == 0 => {
                        words.iter_mut().zip(values).for_each(|(word, x)| *word = u32::from(to_bf16(x)));
                    }
                    Word::Bf16Pair => {
                        words.iter_mut().zip(values).for_each(|(word, x)| *word |= u32::from(to_bf16(x)) << 16);
                    }
                }
            }
            at = end;
        }
    }
}

#[inline(always)]
fn scales_of(format: BlockFormat, bytes: &[u8]) -> [f32; UNIT] {
    std::array::from_fn(|column| match format {
        BlockFormat::Q8_0 | BlockFormat::Q4_0 => {
            f16::from_le_bytes([bytes[2 * column], bytes[2 * column + 1]]).to_f32()
        }
        BlockFormat::Nf4 => f32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[4 * column + byte])),
    })
}

/// The values of a block's columns at one k.
#[inline(always)]
fn values_of(format: BlockFormat, scales: &[f32; UNIT], codes: &[u8], k: usize) -> [f32; UNIT] {
    let mut values = [0.0; UNIT];
    match format {
        BlockFormat::Q8_0 => {
            let codes = &codes[k * UNIT..][..UNIT];
            (0..UNIT).for_each(|c| values[c] = scales[c] * f32::from(codes[c] as i8));
        }
        BlockFormat::Q4_0 => {
            let (codes, shift) = (&codes[k / 2 * UNIT..][..UNIT], 4 * (k % 2) as u32);
            (0..UNIT).for_each(|c| values[c] = scales[c] * f32::from((codes[c] >> shift & 15) as i8 - 8));
        }
        BlockFormat::Nf4 => {
            let (codes, shift) = (&codes[k / 2 * UNIT..][..UNIT], 4 * (k % 2) as u32);
            (0..UNIT).for_each(|c| values[c] = scales[c] * NF4[usize::from(codes[c] >> shift & 15)]);
        }
    }
    values
}
