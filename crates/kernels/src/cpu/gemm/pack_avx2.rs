//! Packing what lies along k: eight lines by eight k at a time, transposed in registers.

use super::super::bf16::{from_bf16, round_bf16};
use super::super::tensor::Values;
use super::pack::{Window, not_unpacked};
use std::arch::x86_64::*;
use std::array::from_fn;

/// Lines and k of a block.
const BLOCK: usize = 8;

/// Packs the lines of `window` as one panel of `width` lines, rounded to bfloat16 if `round`.
///
/// # Safety
///
/// The processor must have AVX2; `width` is a multiple of eight, or six; `panel` has `width` words for each
/// k.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn along_k(panel: &mut [u32], window: Window<'_>, width: usize, round: bool) {
    // SAFETY: passed on; eight values from an index on are there whenever `pack` asks for them.
    unsafe {
        match window.values {
            Values::F32(x) if round => pack(
                panel,
                window,
                width,
                |i| round_to_bf16(_mm256_loadu_si256(x.as_ptr().add(i).cast())),
                |i| round_bf16(x[i]).to_bits(),
            ),
            Values::F32(x) => pack(
                panel,
                window,
                width,
                |i| _mm256_loadu_si256(x.as_ptr().add(i).cast()),
                |i| x[i].to_bits(),
            ),
            Values::Bf16(x) => pack(
                panel,
                window,
                width,
                |i| {
                    let halves = _mm_loadu_si128(x.as_ptr().add(i).cast());
                    _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves))
                },
                |i| from_bf16(x[i]).to_bits(),
            ),
            Values::Blocks(_) => not_unpacked(),
        }
    }
}

/// `eight` gives the words of eight values from an index on, `one` that of the value there.
///
/// # Safety
///
/// As [`along_k`].
#[target_feature(enable = "avx2,fma")]
unsafe fn pack(
    panel: &mut [u32],
    window: Window<'_>,
    width: usize,
    eight: impl Fn(usize) -> __m256i,
    one: impl Fn(usize) -> u32,
) {
    let Window { stride, lines, len, .. } = window;
    let blocks = len / BLOCK * BLOCK;
    for first in (0..width).step_by(BLOCK) {
        let present = lines.saturating_sub(first).min(BLOCK);
        let stored = BLOCK.min(width - first);
        for k in (0..blocks).step_by(BLOCK) {
            let block = transpose(from_fn(|i| {
                if i < present { eight((first + i) * stride + k) } else { _mm256_setzero_si256() }
            }));
            for (i, &word) in block.iter().enumerate() {
                // SAFETY: the panel has eight, or six, lines from `first` on.
                unsafe {
                    let to = panel.as_mut_ptr().add((k + i) * width + first);
                    if stored == BLOCK {
                        _mm256_storeu_si256(to.cast(), word);
                    } else {
                        _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(word));
                        _mm_storel_epi64(to.add(4).cast(), _mm256_extracti128_si256::<1>(word));
                    }
                }
            }
        }
        for k in blocks..len {
            for i in 0..stored {
                panel[k * width + first + i] = if i < present { one((first + i) * stride + k) } else { 0 };
            }
        }
    }
}

/// Row `i` of the result is column `i` of `rows`.
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; BLOCK]) -> [__m256i; BLOCK] {
    // Neighbouring rows, then pairs of pairs, then the halves of the registers.
    let pairs: [__m256i; BLOCK] = from_fn(|i| {
        let (a, b) = (rows[i / 2 * 2], rows[i / 2 * 2 + 1]);
        if i % 2 == 0 { _mm256_unpacklo_epi32(a, b) } else { _mm256_unpackhi_epi32(a, b) }
    });
    let quads: [__m256i; BLOCK] = from_fn(|i| {
        let (a, b) = (pairs[i / 4 * 4 + i % 4 / 2], pairs[i / 4 * 4 + i % 4 / 2 + 2]);
        if i % 2 == 0 { _mm256_unpacklo_epi64(a, b) } else { _mm256_unpackhi_epi64(a, b) }
    });
    from_fn(|i| {
        let (a, b) = (quads[i % 4], quads[i % 4 + 4]);
        if i < 4 { _mm256_permute2x128_si256::<0x20>(a, b) } else { _mm256_permute2x128_si256::<0x31>(a, b) }
    })
}

/// The nearest bfloat16, ties to even, as an `f32`. NaN stays NaN.
#[target_feature(enable = "avx2")]
fn round_to_bf16(bits: __m256i) -> __m256i {
    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
    let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
    let value = _mm256_castsi256_ps(bits);
    let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(value, value));
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    _mm256_and_si256(_mm256_blendv_epi8(rounded, quiet, nan), upper)
}
