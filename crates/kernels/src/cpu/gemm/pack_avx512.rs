//! Packing sixteen lines at once: what lies along k is transposed in registers.

use super::super::tensor::Values;
use super::kernel::Word;
use super::kernel_avx512::round;
use super::layout::UNIT;
use super::pack::Window;
use std::arch::x86_64::*;
use std::mem::transmute;

/// Where sixteen lines of packed words go.
trait Target {
    /// Stores the sixteen lines' word `word`.
    ///
    /// # Safety
    ///
    /// The processor must have AVX-512; `word` is below the target's number of words.
    unsafe fn store(&self, word: usize, lines: __m512i);
}

/// Sixteen lines of a wide panel.
struct Strip {
    start: *mut u32,
    width: usize,
}

impl Target for Strip {
    #[inline(always)]
    unsafe fn store(&self, word: usize, lines: __m512i) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(self.start.add(word * self.width).cast(), lines) }
    }
}

/// Two panels of eight lines; the second may be missing.
struct TwoPanels {
    first: *mut u32,
    second: Option<*mut u32>,
}

impl Target for TwoPanels {
    #[inline(always)]
    unsafe fn store(&self, word: usize, lines: __m512i) {
        // SAFETY: the caller's promise.
        unsafe {
            _mm256_storeu_si256(self.first.add(8 * word).cast(), _mm512_castsi512_si256(lines));
            if let Some(second) = self.second {
                _mm256_storeu_si256(second.add(8 * word).cast(), _mm512_extracti64x4_epi64::<1>(lines));
            }
        }
    }
}

/// A matrix whose values become words of some kind.
trait Source {
    /// Values of k in a word.
    const STEP: usize;

    /// The words of a line from `index` on: `count` values along k, at most sixteen words; zeros behind them.
    ///
    /// # Safety
    ///
    /// The processor must have the instructions; the values lie within the matrix.
    unsafe fn along_k(&self, index: usize, count: usize) -> __m512i;

    /// One word of each of `lines` lines, at most sixteen; zeros behind them. With `pair` the values of the next k,
    /// `stride` further, are there too.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn across_k(&self, index: usize, lines: usize, stride: usize, pair: bool) -> __m512i;
}

/// The lower `count` of sixteen lanes.
#[inline(always)]
fn lanes(count: usize) -> u16 {
    if count >= 16 { !0 } else { (1 << count) - 1 }
}

/// The lower `count` of 32 lanes.
#[inline(always)]
fn lanes32(count: usize) -> u32 {
    if count >= 32 { !0 } else { (1 << count) - 1 }
}

/// Words of one `f32` each from `f32`, rounded to bfloat16 if `ROUND`.
struct Floats<const ROUND: bool>(*const f32);
impl<const ROUND: bool> Source for Floats<ROUND> {
    const STEP: usize = 1;
    #[inline(always)]
    unsafe fn along_k(&self, index: usize, count: usize) -> __m512i {
        // SAFETY: the mask keeps to the values that are there.
        unsafe {
            let values = _mm512_maskz_loadu_ps(lanes(count), self.0.add(index));
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            if ROUND { _mm512_and_si512(round(values), upper) } else { _mm512_castps_si512(values) }
        }
    }
    #[inline(always)]
    unsafe fn across_k(&self, index: usize, lines: usize, _stride: usize, _pair: bool) -> __m512i {
        // SAFETY: passed on.
        unsafe { self.along_k(index, lines) }
    }
}

/// Words of one `f32` each from bfloat16.
struct Halves(*const u16);
impl Source for Halves {
    const STEP: usize = 1;
    #[inline(always)]
    unsafe fn along_k(&self, index: usize, count: usize) -> __m512i {
        // SAFETY: the mask keeps to the values that are there.
        unsafe {
            let values = _mm256_maskz_loadu_epi16(lanes(count), self.0.add(index).cast());
            _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(values))
        }
    }
    #[inline(always)]
    unsafe fn across_k(&self, index: usize, lines: usize, _stride: usize, _pair: bool) -> __m512i {
        // SAFETY: passed on.
        unsafe { self.along_k(index, lines) }
    }
}

/// Takes lane `i` of the lower half and of the upper half in turn.
#[inline(always)]
unsafe fn interleave_halves(values: __m512i) -> __m512i {
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + 16 * (i % 2)) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: the callers' promise.
    unsafe { _mm512_permutexvar_epi16(_mm512_loadu_si512(ORDER.as_ptr().cast()), values) }
}

/// Pairs of bfloat16 from `f32`.
struct PairsOfFloats(*const f32);
impl Source for PairsOfFloats {
    const STEP: usize = 2;
    #[inline(always)]
    unsafe fn along_k(&self, index: usize, count: usize) -> __m512i {
        // SAFETY: the masks keep to the values that are there.
        unsafe {
            let start = self.0.add(index);
            let low = _mm512_maskz_loadu_ps(lanes(count), start);
            let high = _mm512_maskz_loadu_ps(lanes(count.saturating_sub(16)), start.wrapping_add(16));
            transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low))
        }
    }
    #[inline(always)]
    unsafe fn across_k(&self, index: usize, lines: usize, stride: usize, pair: bool) -> __m512i {
        // SAFETY: as above.
        unsafe {
            let start = self.0.add(index);
            let first = _mm512_maskz_loadu_ps(lanes(lines), start);
            let second =
                _mm512_maskz_loadu_ps(if pair { lanes(lines) } else { 0 }, start.wrapping_add(stride));
            interleave_halves(transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)))
        }
    }
}

/// Pairs of bfloat16 as they are.
struct PairsOfHalves(*const u16);
impl Source for PairsOfHalves {
    const STEP: usize = 2;
    #[inline(always)]
    unsafe fn along_k(&self, index: usize, count: usize) -> __m512i {
        // SAFETY: the mask keeps to the values that are there.
        unsafe { _mm512_maskz_loadu_epi16(lanes32(count), self.0.add(index).cast()) }
    }
    #[inline(always)]
    unsafe fn across_k(&self, index: usize, lines: usize, stride: usize, pair: bool) -> __m512i {
        // SAFETY: the masks keep to the values that are there.
        unsafe {
            let start = self.0.add(index).cast::<i16>();
            let first = _mm256_maskz_loadu_epi16(lanes(lines), start);
            let second = if pair { lanes(lines) } else { 0 };
            let second = _mm256_maskz_loadu_epi16(second, start.wrapping_add(stride));
            interleave_halves(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(first), second))
        }
    }
}

/// Packs up to sixteen lines into a panel of `width`, from its line `start` on.
///
/// # Safety
///
/// The processor must have the instructions of `word`; `start` begins `width` lines of the window's words, of which
/// sixteen are this strip's.
pub(super) unsafe fn strip(word: Word, start: *mut u32, width: usize, window: Window<'_>) {
    // SAFETY: passed on.
    unsafe { pack(word, Strip { start, width }, window) }
}

/// Packs up to sixteen lines into one or two panels of eight.
///
/// # Safety
///
/// The processor must have the instructions of `word`.
pub(super) unsafe fn two_panels(word: Word, panels: &mut [u32], window: Window<'_>) {
    let step = if word == Word::Bf16Pair { 2 } else { 1 };
    let words = window.len.div_ceil(step);
    assert_eq!(panels.len(), window.lines.next_multiple_of(8) * words, "panels of another size");
    let (first, second) = panels.split_at_mut(8 * words);
    let second = (!second.is_empty()).then_some(second.as_mut_ptr());
    // SAFETY: passed on; each panel has room for eight lines of all words.
    unsafe { pack(word, TwoPanels { first: first.as_mut_ptr(), second }, window) }
}

#[inline(always)]
unsafe fn pack<T: Target>(word: Word, target: T, window: Window<'_>) {
    // SAFETY: passed on.
    unsafe {
        match (word, window.values) {
            (Word::F32, Values::F32(x)) => f32_words(Floats::<false>(x.as_ptr()), target, window),
            (Word::RoundedF32, Values::F32(x)) => f32_words(Floats::<true>(x.as_ptr()), target, window),
            (Word::F32 | Word::RoundedF32, Values::Bf16(x)) => f32_words(Halves(x.as_ptr()), target, window),
            (Word::Bf16Pair, Values::F32(x)) => pairs(PairsOfFloats(x.as_ptr()), target, window),
            (Word::Bf16Pair, Values::Bf16(x)) => pairs(PairsOfHalves(x.as_ptr()), target, window),
        }
    }
}

/// [`pack_lines`] for processors with AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn f32_words<S: Source, T: Target>(source: S, target: T, window: Window<'_>) {
    // SAFETY: passed on.
    unsafe { pack_lines(source, target, window) }
}

/// [`pack_lines`] for processors with bfloat16 dot products.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pairs<S: Source, T: Target>(source: S, target: T, window: Window<'_>) {
    // SAFETY: passed on.
    unsafe { pack_lines(source, target, window) }
}

#[inline(always)]
unsafe fn pack_lines<S: Source, T: Target>(source: S, target: T, window: Window<'_>) {
    let Window { stride, along_k, lines, len, .. } = window;
    // SAFETY: the window's elements lie within its values; the target has room for its words.
    unsafe {
        if along_k {
            for k in (0..len).step_by(UNIT * S::STEP) {
                let count = (len - k).min(UNIT * S::STEP);
                let mut square = [_mm512_setzero_si512(); UNIT];
                for (line, words) in square.iter_mut().enumerate() {
                    if line < lines {
                        *words = source.along_k(line * stride + k, count);
                    }
                }
                for (i, words) in transpose(square).into_iter().enumerate() {
                    if i < count.div_ceil(S::STEP) {
                        target.store(k / S::STEP + i, words);
                    }
                }
            }
        } else {
            for k in (0..len).step_by(S::STEP) {
                target.store(k / S::STEP, source.across_k(k * stride, lines, stride, k + 1 < len));
            }
        }
    }
}

/// Transposes 16 × 16 words.
#[inline(always)]
unsafe fn transpose(mut rows: [__m512i; 16]) -> [__m512i; 16] {
    // SAFETY: the callers' promise.
    unsafe {
        let mut t = [_mm512_setzero_si512(); 16];
        // Squares of 2 × 2 words within quarters of a register, then of 4 × 4 ...
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        for i in 0..4 {
            rows[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
            rows[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
            rows[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
            rows[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
        }
        // ... and then the quarters, as a square of 4 × 4.
        for i in 0..4 {
            t[i] = _mm512_shuffle_i32x4::<0x88>(rows[i], rows[4 + i]);
            t[4 + i] = _mm512_shuffle_i32x4::<0xdd>(rows[i], rows[4 + i]);
            t[8 + i] = _mm512_shuffle_i32x4::<0x88>(rows[8 + i], rows[12 + i]);
            t[12 + i] = _mm512_shuffle_i32x4::<0xdd>(rows[8 + i], rows[12 + i]);
        }
        for i in 0..4 {
            rows[i] = _mm512_shuffle_i32x4::<0x88>(t[i], t[8 + i]);
            rows[8 + i] = _mm512_shuffle_i32x4::<0xdd>(t[i], t[8 + i]);
            rows[4 + i] = _mm512_shuffle_i32x4::<0x88>(t[4 + i], t[12 + i]);
            rows[12 + i] = _mm512_shuffle_i32x4::<0xdd>(t[4 + i], t[12 + i]);
        }
        rows
    }
}
