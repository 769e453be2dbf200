//! A weight in blocks as the right factor of its product: it stays in about as many bytes, which lie as kernels read them.
//!
//! Units of 16 columns, one after another; of each, block after block along k, which [`UnitBlock`] describes. Values that
//! are unpacked are those that the plain matrix would have been packed from, so that products have the same bits.

use super::super::aligned::Aligned;
use super::super::bf16::{round_bf16, to_bf16};
use super::super::level::multiversion;
use super::super::pool::{Disjoint, Pool};
use super::kernel::{Kernel, Word};
use super::layout::UNIT;
use crate::blocks::{Band, BlockFormat, BlockMatrix, Factors, NF4};
use half::f16;
use std::ops::Range;

/// The weight.
pub(crate) struct Codes {
    /// Its rows, from the first on: all but the last have whole units.
    bands: Vec<Units>,
    d_out: usize,
    d_in: usize,
}

/// Neighbouring units in one format.
struct Units {
    format: BlockFormat,
    count: usize,
    bytes: Aligned<u8>,
}

/// What a block of 16 columns has, and where it begins: of every column `d`, then `m`; for every group the factors of
/// `d`, then those of `m`; then the codes' lower bits, then their upper ones. Codes of less than a byte share one with
/// their next along k, the first in the lowest bits: `[byte along k][column]`.
#[derive(Clone, Copy)]
pub(super) struct UnitBlock {
    pub(super) m: usize,
    pub(super) factors: usize,
    pub(super) low: usize,
    pub(super) high: usize,
    pub(super) bytes: usize,
}

impl UnitBlock {
    #[inline(always)]
    pub(super) const fn of(format: BlockFormat) -> Self {
        let len = format.block_len();
        let coding = format.coding();
        let m = UNIT * if coding.is_table { 4 } else { 2 };
        let factors = m + if coding.m.is_some() { 2 * UNIT } else { 0 };
        let low = factors + len / coding.group_len * coding.factors.count() * UNIT;
        let high = low + len * coding.low_bits / 8 * UNIT;
        Self { m, factors, low, high, bytes: high + len * coding.high_bits / 8 * UNIT }
    }
}

impl Codes {
    /// The same values in this layout; none where a block has values of two rows, or a unit rows of two formats.
    pub(crate) fn new(pool: &mut Pool, matrix: &BlockMatrix) -> Option<Self> {
        let ([d_out, d_in], (last, others)) = (matrix.shape(), matrix.bands().split_last()?);
        let fit = matrix.bands().iter().all(|band| d_in.is_multiple_of(band.format.block_len()));
        if !fit || others.iter().any(|band| !band.rows.is_multiple_of(UNIT)) {
            return None;
        }
        let bands = others.iter().chain([last]).map(|band| Units::new(pool, band, d_in)).collect();
        Some(Self { bands, d_out, d_in })
    }

    /// `[d_out, d_in]`.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.d_out, self.d_in]
    }

    /// Its formats.
    pub(super) fn formats(&self) -> impl Iterator<Item = BlockFormat> {
        self.bands.iter().map(|band| band.format)
    }

    /// The format and the blocks of a unit.
    pub(super) fn unit(&self, mut unit: usize) -> (BlockFormat, &[u8]) {
        for band in &self.bands {
            if unit < band.count {
                let len = band.bytes.len() / band.count;
                return (band.format, &band.bytes[unit * len..][..len]);
            }
            unit -= band.count;
        }
        panic!("a unit outside of the weight")
    }

    /// Writes the terms `k` of some units as a kernel's panel of columns, `[word][column]`.
    pub(super) fn unpack(&self, kernel: Kernel, panel: &mut [u32], units: Range<usize>, k: Range<usize>) {
        let width = units.len() * UNIT;
        assert!(
            k.end <= self.d_in && panel.len() == k.len().div_ceil(kernel.step()) * width,
            "a panel of another size"
        );
        for (column, unit) in (0..).step_by(UNIT).zip(units) {
            let (format, unit) = self.unit(unit);
            #[cfg(target_arch = "x86_64")]
            if kernel.unpacks_integers()
                && !format.coding().is_table
                && k.start.is_multiple_of(2)
                && k.len().is_multiple_of(2)
            {
                // SAFETY: the level has these instructions.
                unsafe { super::codes_avx2::unpack(&mut panel[column..], width, unit, format, k.clone()) };
                continue;
            }
            let (place, terms) = ([width, column], [k.start, k.len()]);
            unpack_unit(kernel.level, panel, place, unit, format, terms, kernel.word);
        }
    }
}

impl Units {
    fn new(pool: &mut Pool, band: &Band, d_in: usize) -> Self {
        let (format, blocks) = (band.format, d_in / band.format.block_len());
        let (count, of_block) = (band.rows.div_ceil(UNIT), UnitBlock::of(format).bytes);
        let mut bytes = Aligned::zeros(count * blocks * of_block);
        let target = Disjoint::new(&mut bytes);
        pool.run(count, &|unit, _| {
            // SAFETY: every chunk takes its own unit.
            let unit_bytes = unsafe { target.slice(unit * blocks * of_block, blocks * of_block) };
            for (index, to) in unit_bytes.chunks_exact_mut(of_block).enumerate() {
                for column in 0..UNIT.min(band.rows - unit * UNIT) {
                    let at = ((unit * UNIT + column) * blocks + index) * format.block_bytes();
                    put_column(format, to, column, &band.bytes[at..][..format.block_bytes()]);
                }
            }
        });
        Self { format, count, bytes }
    }
}

/// Puts a block of one column among those of its unit.
fn put_column(format: BlockFormat, unit: &mut [u8], column: usize, block: &[u8]) {
    let (at, coding) = (UnitBlock::of(format), format.coding());
    let mut put =
        |to: usize, bytes: &[u8]| unit[to + column * bytes.len()..][..bytes.len()].copy_from_slice(bytes);
    put(0, &block[coding.d..][..at.m / UNIT]);
    if let Some(m) = coding.m {
        put(at.m, &block[m..][..2]);
    }
    for group in 0..format.block_len() / coding.group_len {
        let factors = format.factors(block, group);
        for (index, &factor) in factors[..coding.factors.count()].iter().enumerate() {
            put(at.factors + (group * coding.factors.count() + index) * UNIT, &[factor]);
        }
    }
    let mut put_bits = |to: usize, bits: usize, k: usize, value: u8| {
        let codes = 8 / bits;
        unit[to + k / codes * UNIT + column] |= value << (bits * (k % codes));
    };
    for k in 0..format.block_len() {
        let code = format.code(block, k);
        if coding.low_bits == 8 {
            put_bits(at.low, 8, k, code);
            continue;
        }
        put_bits(at.low, 4, k, code & 15);
        if coding.high_bits > 0 {
            put_bits(at.high, coding.high_bits, k, code >> 4);
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
        let (block_len, of_block) = (format.block_len(), UnitBlock::of(format).bytes);
        let group_len = format.coding().group_len;
        let ([width, column], [start, len]) = (place, terms);
        let mut at = start;
        while at < start + len {
            let block = &unit[at / block_len * of_block..][..of_block];
            let group = at % block_len / group_len;
            let scales = scales_of(format, block, group);
            let end = (start + len).min((at / group_len + 1) * group_len);
            for k in at..end {
                let values = values_of(format, &scales, block, k % block_len);
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

/// The scales of a group's columns, and what their values are less.
type Scales = [[f32; UNIT]; 2];

#[inline(always)]
fn scales_of(format: BlockFormat, block: &[u8], group: usize) -> Scales {
    let at = UnitBlock::of(format);
    let half = |at: usize, c: usize| f16::from_le_bytes([block[at + 2 * c], block[at + 2 * c + 1]]).to_f32();
    let coding = format.coding();
    if coding.is_table {
        let absmax = |c: usize| f32::from_le_bytes([0, 1, 2, 3].map(|byte| block[4 * c + byte]));
        return [std::array::from_fn(absmax), [0.0; UNIT]];
    }
    let factors = &block[at.factors + group * coding.factors.count() * UNIT..];
    let scale = |c: usize| match coding.factors {
        Factors::None => half(0, c),
        Factors::Signed => half(0, c) * f32::from(factors[c] as i8),
        Factors::Pair => half(0, c) * f32::from(factors[c]),
    };
    let least = |c: usize| match (coding.m, coding.factors) {
        (None, _) => 0.0,
        (_, Factors::Pair) => half(at.m, c) * f32::from(factors[UNIT + c]),
        _ => -half(at.m, c),
    };
    [std::array::from_fn(scale), std::array::from_fn(least)]
}

/// The values of a block's columns at one k.
#[inline(always)]
fn values_of(format: BlockFormat, [scales, leasts]: &Scales, block: &[u8], k: usize) -> [f32; UNIT] {
    let (at, mut values) = (UnitBlock::of(format), [0.0; UNIT]);
    let bits = |from: usize, bits: usize| {
        let (codes, shift) = (8 / bits, (bits * (k % (8 / bits))) as u32);
        let (bytes, mask) = (&block[from + k / codes * UNIT..][..UNIT], ((1 << bits) - 1) as u8);
        std::array::from_fn::<u8, UNIT, _>(|c| bytes[c] >> shift & mask)
    };
    let coding = format.coding();
    if coding.is_table {
        let codes = bits(at.low, 4);
        (0..UNIT).for_each(|c| values[c] = scales[c] * NF4[usize::from(codes[c])]);
        return values;
    }
    if coding.low_bits == 8 {
        let codes = &block[at.low + k * UNIT..][..UNIT];
        (0..UNIT).for_each(|c| values[c] = scales[c] * f32::from(codes[c] as i8));
        return values;
    }
    let mut codes = bits(at.low, 4);
    if coding.high_bits > 0 {
        let high = bits(at.high, coding.high_bits);
        (0..UNIT).for_each(|c| codes[c] |= high[c] << 4);
    }
    (0..UNIT).for_each(|c| values[c] = scales[c] * f32::from(codes[c] as i8 - coding.zero));
    if coding.m.is_some() {
        (0..UNIT).for_each(|c| values[c] -= leasts[c]);
    }
    values
}
