//! Packing sixteen lines at once: what lies along k is transposed in registers.

use super::super::tensor::Values;
use super::kernel::Word;
use super::kernel_avx512::round;
use super::layout::UNIT;
use super::pack::{Window, not_unpacked};
use std::arch::x86_64::*;
use std::mem::transmute;

/// Strips that are packed side by side where lines are neighbours in memory.
const STRIPS_AT_ONCE: usize = 4;

/// How far ahead rows are asked for where lines are neighbours in memory: each row is elsewhere, and the
/// processor does not guess where.
const PREFETCH_K: usize = 16;

/// Where packed words go, a strip of sixteen lines at a time.
trait Target {
    /// Stores word `word` of the lines of a strip.
    ///
    /// # Safety
    ///
    /// The processor must have AVX-512; the target has the strip and the word.
    unsafe fn store(&self, strip: usize, word: usize, lines: __m512i);
}

/// One panel of `width` lines, a multiple of sixteen.
struct Wide {
    start: *mut u32,
    width: usize,
}

impl Target for Wide {
    #[inline(always)]
    unsafe fn store(&self, strip: usize, word: usize, lines: __m512i) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(self.start.add(word * self.width + UNIT * strip).cast(), lines) }
    }
}

/// Panels of eight lines, one after another; the last strip may lack its second one.
struct Eights {
    start: *mut u32,
    words: usize,
    panels: usize,
}

impl Target for Eights {
    #[inline(always)]
    unsafe fn store(&self, strip: usize, word: usize, lines: __m512i) {
        // SAFETY: the caller's promise.
        unsafe {
            let first = self.start.add(8 * (2 * strip * self.words + word));
            _mm256_storeu_si256(first.cast(), _mm512_castsi512_si256(lines));
            if 2 * strip + 1 < self.panels {
                let second = first.add(8 * self.words);
                _mm256_storeu_si256(second.cast(), _mm512_extracti64x4_epi64::<1>(lines));
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

    /// One word of each of `lines` lines, at most sixteen; zeros behind them. With `pair` the values of the
    /// next k, `stride` further, are there too.
    ///
    /// # Safety
    ///
    /// As above.
    unsafe fn across_k(&self, index: usize, lines: usize, stride: usize, pair: bool) -> __m512i;

    /// Asks for the cache line of a value, which need not exist.
    fn prefetch(&self, index: usize);
}

#[inline(always)]
fn prefetch<T>(start: *const T, index: usize) {
    // SAFETY: a hint, for any address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(index).cast()) }
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
    fn prefetch(&self, index: usize) {
        prefetch(self.0, index);
    }
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
    fn prefetch(&self, index: usize) {
        prefetch(self.0, index);
    }
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
    fn prefetch(&self, index: usize) {
        prefetch(self.0, index);
    }
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
    fn prefetch(&self, index: usize) {
        prefetch(self.0, index);
    }
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

/// Packs the window's lines as one panel of `width` lines, a multiple of sixteen.
///
/// # Safety
///
/// The processor must have the instructions of `word`.
pub(super) unsafe fn wide(word: Word, panel: &mut [u32], width: usize, window: Window<'_>) {
    assert!(window.lines <= width && width.is_multiple_of(UNIT), "a panel of another width");
    assert_eq!(panel.len(), width * window.len.div_ceil(word.step()), "a panel of another size");
    // SAFETY: passed on; there is room for `width` lines.
    unsafe { pack(word, Wide { start: panel.as_mut_ptr(), width }, width / UNIT, window) }
}

/// Packs the window's lines as panels of eight.
///
/// # Safety
///
/// The processor must have the instructions of `word`.
pub(super) unsafe fn eights(word: Word, panels: &mut [u32], window: Window<'_>) {
    let words = window.len.div_ceil(word.step());
    assert_eq!(panels.len(), window.lines.next_multiple_of(8) * words, "panels of another size");
    let target = Eights { start: panels.as_mut_ptr(), words, panels: window.lines.div_ceil(8) };
    // SAFETY: passed on; there is room for all lines.
    unsafe { pack(word, target, window.lines.div_ceil(UNIT), window) }
}

#[inline(always)]
unsafe fn pack<T: Target>(word: Word, target: T, strips: usize, window: Window<'_>) {
    // SAFETY: passed on.
    unsafe {
        match (word, window.values) {
            (Word::F32, Values::F32(x)) => f32_words(Floats::<false>(x.as_ptr()), target, strips, window),
            (Word::RoundedF32, Values::F32(x)) => {
                f32_words(Floats::<true>(x.as_ptr()), target, strips, window)
            }
            (Word::F32 | Word::RoundedF32, Values::Bf16(x)) => {
                f32_words(Halves(x.as_ptr()), target, strips, window)
            }
            (Word::Bf16Pair, Values::F32(x)) => pairs(PairsOfFloats(x.as_ptr()), target, strips, window),
            (Word::Bf16Pair, Values::Bf16(x)) => pairs(PairsOfHalves(x.as_ptr()), target, strips, window),
            (_, Values::Blocks(_)) => not_unpacked(),
        }
    }
}

/// [`pack_lines`] for processors with AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn f32_words<S: Source, T: Target>(source: S, target: T, strips: usize, window: Window<'_>) {
    // SAFETY: passed on.
    unsafe { pack_lines(source, target, strips, window) }
}

/// [`pack_lines`] for processors with bfloat16 dot products.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pairs<S: Source, T: Target>(source: S, target: T, strips: usize, window: Window<'_>) {
    // SAFETY: passed on.
    unsafe { pack_lines(source, target, strips, window) }
}

/// Packs the window's lines as `strips` strips of sixteen, the last ones padded with zeros.
///
/// # Safety
///
/// The processor must have the instructions of the source; the target has the strips and the window's words.
#[inline(always)]
unsafe fn pack_lines<S: Source, T: Target>(source: S, target: T, strips: usize, window: Window<'_>) {
    let Window { stride, along_k, lines, len, .. } = window;
    let lines_of = |strip: usize| lines.saturating_sub(UNIT * strip).min(UNIT);
    // SAFETY: the window's elements lie within its values.
    unsafe {
        if along_k {
            for strip in 0..strips {
                for k in (0..len).step_by(UNIT * S::STEP) {
                    let count = (len - k).min(UNIT * S::STEP);
                    let mut square = [_mm512_setzero_si512(); UNIT];
                    for (line, words) in square.iter_mut().enumerate() {
                        if line < lines_of(strip) {
                            *words = source.along_k((UNIT * strip + line) * stride + k, count);
                            source.prefetch((UNIT * (strip + 1) + line) * stride + k);
                        }
                    }
                    for (i, words) in transpose(square).into_iter().enumerate() {
                        if i < count.div_ceil(S::STEP) {
                            target.store(strip, k / S::STEP + i, words);
                        }
                    }
                }
            }
        } else {
            // Whole cache lines of a row at a time, but few enough panels that they all stay in the nearest
            // cache.
            for first in (0..strips).step_by(STRIPS_AT_ONCE) {
                for k in (0..len).step_by(S::STEP) {
                    for strip in first..strips.min(first + STRIPS_AT_ONCE) {
                        let start = k * stride + (UNIT * strip).min(lines);
                        let words = source.across_k(start, lines_of(strip), stride, k + 1 < len);
                        for k in 0..S::STEP {
                            source.prefetch(start + (PREFETCH_K + k) * stride);
                        }
                        target.store(strip, k / S::STEP, words);
                    }
                }
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
