//! Tiles of few rows on codes as they are, in 256-bit registers: as fast as memory gives them.
//!
//! A column's sum is one chain of multiply-adds, in the order of every kernel. Two units side by side are chains
//! enough that the processor never waits for one.

use super::codes::{Codes, UnitBlock};
use super::layout::UNIT;
use super::tile::{Tile, finish};
use crate::BlockFormat;
use crate::blocks::{Coding, Factors};
use std::arch::x86_64::*;
use std::array::from_fn;
use std::ops::Range;

/// Rows of the panels of rows.
const MR: usize = 6;

/// Bytes that are asked for ahead of those that are read: multiplying takes so many instructions that the processor does
/// not see as far.
const AHEAD: usize = 2048;

/// How many units are computed side by side for so many rows; none where codes are rather unpacked for several
/// tiles, or are no integers.
pub(super) fn units(codes: &Codes, rows: usize) -> Option<usize> {
    let are_integers = codes.formats().all(|format| !format.coding().is_table);
    (are_integers && rows <= MR).then_some(if rows <= 2 { 2 } else { 1 })
}

/// Computes neighbouring tiles, of the units from `unit` on and the terms from `start` on: one, or as many as
/// [`units`] says.
///
/// # Safety
///
/// As [`Kernel::run`](super::Kernel::run) but for `right`, on a processor with AVX2; the first term and the
/// number of terms are even, and the codes have the terms and units.
pub(super) unsafe fn run(codes: &Codes, unit: usize, start: usize, tiles: &[Tile]) {
    let (format, first) = codes.unit(unit);
    // SAFETY: passed on.
    unsafe {
        match tiles {
            [one, two] => match codes.unit(unit + 1) {
                (of_second, second) if of_second == format => {
                    of_format(format, [first, second], start, [one, two]);
                }
                (of_second, second) => {
                    of_format(format, [first], start, [one]);
                    of_format(of_second, [second], start, [two]);
                }
            },
            _ => of_format(format, [first], start, [&tiles[0]]),
        }
    }
}

/// # Safety
///
/// As [`run`]; the units are in this format.
unsafe fn of_format<const U: usize>(format: BlockFormat, units: [&[u8]; U], start: usize, tiles: [&Tile; U]) {
    // SAFETY: passed on.
    unsafe {
        match format {
            BlockFormat::Q8_0 => of_rows::<U, Q8_0>(units, start, tiles),
            BlockFormat::Q4_0 => of_rows::<U, Q4_0>(units, start, tiles),
            BlockFormat::Q4_1 => of_rows::<U, Q4_1>(units, start, tiles),
            BlockFormat::Q5_0 => of_rows::<U, Q5_0>(units, start, tiles),
            BlockFormat::Q5_1 => of_rows::<U, Q5_1>(units, start, tiles),
            BlockFormat::Q4K => of_rows::<U, Q4K>(units, start, tiles),
            BlockFormat::Q5K => of_rows::<U, Q5K>(units, start, tiles),
            BlockFormat::Q6K => of_rows::<U, Q6K>(units, start, tiles),
            BlockFormat::Nf4 => panic!("codes that are no integers are unpacked first"),
        }
    }
}

/// A format whose codes are integers.
trait Format {
    const FORMAT: BlockFormat;
    const AT: UnitBlock = UnitBlock::of(Self::FORMAT);
    const CODING: Coding = Self::FORMAT.coding();
}

macro_rules! formats {
    ($($name:ident)*) => {$(
        struct $name;

        impl Format for $name {
            const FORMAT: BlockFormat = BlockFormat::$name;
        }
    )*};
}

formats! { Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4K Q5K Q6K }

/// # Safety
///
/// As [`of_format`].
unsafe fn of_rows<const U: usize, F: Format>(units: [&[u8]; U], start: usize, tiles: [&Tile; U]) {
    // SAFETY: passed on.
    unsafe {
        match tiles[0].rows {
            1 => tile_of::<1, U, F>(units, start, tiles),
            2 => tile_of::<2, U, F>(units, start, tiles),
            3 | 4 => tile_of::<4, U, F>(units, start, tiles),
            _ => tile_of::<MR, U, F>(units, start, tiles),
        }
    }
}

/// # Safety
///
/// As [`of_rows`], with `rows <= R` in every tile.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_of<const R: usize, const U: usize, F: Format>(
    units: [&[u8]; U],
    start: usize,
    tiles: [&Tile; U],
) {
    let (block_len, group_len) = (F::FORMAT.block_len(), F::CODING.group_len);
    let units = units.map(<[u8]>::as_ptr);
    let mut sums = [[[_mm256_setzero_ps(); 2]; R]; U];
    let (mut left, end) = (tiles[0].left.cast::<f32>(), start + tiles[0].words);
    let mut k = start;
    while k < end {
        let block = k / block_len * F::AT.bytes;
        let (group, until) = (k % block_len / group_len, end.min((k / group_len + 1) * group_len));
        // SAFETY: within the codes and the panel of rows.
        unsafe {
            let scales: [Scales; U] = from_fn(|u| scales_at::<F>(units[u].add(block), group));
            let of_k = UNIT * F::CODING.low_bits / 8;
            let ahead = block + F::AT.low + k % block_len * of_k + AHEAD;
            for line in (0..group_len * of_k).step_by(64) {
                for unit in units {
                    // Only a hint: it may be beyond the end.
                    _mm_prefetch::<_MM_HINT_T0>(unit.wrapping_add(ahead + line).cast());
                }
            }
            while k < until {
                let terms = if F::CODING.low_bits == 8 { 1 } else { 2 };
                for u in 0..U {
                    let (block, k) = (units[u].add(block), k % block_len);
                    if terms == 1 {
                        let codes = _mm_loadu_si128(block.add(F::AT.low + k * UNIT).cast());
                        add_row::<R, F>(&mut sums[u], scales[u], codes, left);
                    } else {
                        let [first, second] = pair_at::<F>(block, k);
                        add_row::<R, F>(&mut sums[u], scales[u], first, left);
                        add_row::<R, F>(&mut sums[u], scales[u], second, left.add(MR));
                    }
                }
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

/// Of 16 columns the scales, and what their values are less.
type Scales = [[__m256; 2]; 2];

/// Those of a group.
///
/// # Safety
///
/// `block` points to a unit's block.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scales_at<F: Format>(block: *const u8, group: usize) -> Scales {
    // SAFETY: the caller's promise.
    unsafe {
        let halves =
            |at: usize| [0, 16].map(|from| _mm256_cvtph_ps(_mm_loadu_si128(block.add(at + from).cast())));
        let factors = block.add(F::AT.factors + group * F::CODING.factors.count() * UNIT);
        let times = |halves: [__m256; 2], factors: [__m256i; 2]| {
            from_fn(|i| _mm256_mul_ps(halves[i], _mm256_cvtepi32_ps(factors[i])))
        };
        let bytes = |at: usize| [0, 8].map(|from| _mm_loadl_epi64(factors.add(at + from).cast()));
        match F::CODING.factors {
            Factors::None if F::CODING.m.is_some() => {
                let least = halves(F::AT.m).map(|m| _mm256_sub_ps(_mm256_setzero_ps(), m));
                [halves(0), least]
            }
            Factors::None => [halves(0), [_mm256_setzero_ps(); 2]],
            Factors::Signed => {
                let factors = bytes(0).map(|bytes| _mm256_cvtepi8_epi32(bytes));
                [times(halves(0), factors), [_mm256_setzero_ps(); 2]]
            }
            Factors::Pair => [(0, 0), (F::AT.m, UNIT)]
                .map(|(at, from)| times(halves(at), bytes(from).map(|bytes| _mm256_cvtepu8_epi32(bytes)))),
        }
    }
}

/// The codes of 16 columns at an even k of a block and the next.
///
/// # Safety
///
/// `block` points to a unit's block.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pair_at<F: Format>(block: *const u8, k: usize) -> [__m128i; 2] {
    let nibbles = _mm_set1_epi8(15);
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm_loadu_si128(block.add(F::AT.low + k / 2 * UNIT).cast()) };
    let low = [_mm_and_si128(bytes, nibbles), _mm_and_si128(_mm_srli_epi16::<4>(bytes), nibbles)];
    let bits = F::CODING.high_bits;
    if bits == 0 {
        return low;
    }
    let codes = 8 / bits;
    // SAFETY: as above.
    let high = unsafe { _mm_loadu_si128(block.add(F::AT.high + k / codes * UNIT).cast()) };
    let mask = _mm_set1_epi8(((1 << bits) - 1) << 4);
    from_fn(|next| {
        let first = _mm_cvtsi32_si128((bits * (k % codes + next)) as i32);
        let high = _mm_slli_epi16::<4>(_mm_srl_epi16(high, first));
        _mm_or_si128(low[next], _mm_and_si128(high, mask))
    })
}

/// The values of 16 codes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn values_of<F: Format>(codes: __m128i, [scales, leasts]: Scales) -> [__m256; 2] {
    let codes = _mm_sub_epi8(codes, _mm_set1_epi8(F::CODING.zero));
    let halves = [codes, _mm_srli_si128::<8>(codes)];
    from_fn(|i| {
        let whole = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(halves[i]));
        // The product is exact, so that one rounding is as good as two.
        if F::CODING.m.is_some() {
            _mm256_fmsub_ps(whole, scales[i], leasts[i])
        } else {
            _mm256_mul_ps(whole, scales[i])
        }
    })
}

/// Writes the terms `k` of a unit, an even number from an even one on, as columns of a panel whose rows are `width` apart.
///
/// # Panics
///
/// If the format's codes are no integers, or the panel or the unit ends before.
///
/// # Safety
///
/// The processor has AVX2, FMA and F16C.
pub(super) unsafe fn unpack(
    panel: &mut [u32],
    width: usize,
    unit: &[u8],
    format: BlockFormat,
    k: Range<usize>,
) {
    let blocks = k.end.div_ceil(format.block_len());
    assert!(k.start.is_multiple_of(2) && k.len().is_multiple_of(2), "an odd number of terms");
    assert!(unit.len() >= blocks * UnitBlock::of(format).bytes, "terms outside of the unit");
    assert!(k.is_empty() || panel.len() >= (k.len() - 1) * width + UNIT, "a panel of another size");
    // SAFETY: as was just seen.
    unsafe {
        match format {
            BlockFormat::Q8_0 => unpack_as::<Q8_0>(panel, width, unit, k),
            BlockFormat::Q4_0 => unpack_as::<Q4_0>(panel, width, unit, k),
            BlockFormat::Q4_1 => unpack_as::<Q4_1>(panel, width, unit, k),
            BlockFormat::Q5_0 => unpack_as::<Q5_0>(panel, width, unit, k),
            BlockFormat::Q5_1 => unpack_as::<Q5_1>(panel, width, unit, k),
            BlockFormat::Q4K => unpack_as::<Q4K>(panel, width, unit, k),
            BlockFormat::Q5K => unpack_as::<Q5K>(panel, width, unit, k),
            BlockFormat::Q6K => unpack_as::<Q6K>(panel, width, unit, k),
            BlockFormat::Nf4 => panic!("codes that are no integers"),
        }
    }
}

/// # Safety
///
/// As [`unpack`], within panel and unit.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack_as<F: Format>(panel: &mut [u32], width: usize, unit: &[u8], terms: Range<usize>) {
    let (block_len, group_len) = (F::FORMAT.block_len(), F::CODING.group_len);
    let (mut k, mut to) = (terms.start, panel.as_mut_ptr().cast::<f32>());
    while k < terms.end {
        // SAFETY: the caller's promise.
        unsafe {
            let block = unit.as_ptr().add(k / block_len * F::AT.bytes);
            let scales = scales_at::<F>(block, k % block_len / group_len);
            let until = terms.end.min((k / group_len + 1) * group_len);
            while k < until {
                let pair = match F::CODING.low_bits {
                    8 => [0, 1].map(|next| {
                        let at = F::AT.low + (k % block_len + next) * UNIT;
                        _mm_loadu_si128(block.add(at).cast())
                    }),
                    _ => pair_at::<F>(block, k % block_len),
                };
                for codes in pair {
                    let values = values_of::<F>(codes, scales);
                    _mm256_storeu_ps(to, values[0]);
                    _mm256_storeu_ps(to.add(8), values[1]);
                    to = to.wrapping_add(width);
                }
                k += 2;
            }
        }
    }
}

/// Adds the products of one k.
///
/// # Safety
///
/// `left` points to a value of every row.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_row<const R: usize, F: Format>(
    sums: &mut [[__m256; 2]; R],
    scales: Scales,
    codes: __m128i,
    left: *const f32,
) {
    let columns = values_of::<F>(codes, scales);
    for (i, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let row = unsafe { _mm256_broadcast_ss(&*left.add(i)) };
        sums[0] = _mm256_fmadd_ps(row, columns[0], sums[0]);
        sums[1] = _mm256_fmadd_ps(row, columns[1], sums[1]);
    }
}
