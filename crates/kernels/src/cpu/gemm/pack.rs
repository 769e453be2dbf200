//! From matrices as they are stored to panels as kernels read them.

use super::super::Level;
use super::super::bf16::{from_bf16, round_bf16};
use super::super::blocks::unpack;
use super::super::level::multiversion;
use super::super::scratch::Buffer;
use super::super::tensor::Values;
use super::kernel::{Kernel, Word};
use std::ops::Range;

/// A matrix as a factor of a product: seen as *lines* (rows of the left factor, columns of the right one)
/// along k.
#[derive(Clone, Copy)]
pub(crate) struct Factor<'a> {
    values: Values<'a>,
    stride: usize,
    along_k: bool,
}

impl<'a> Factor<'a> {
    /// Neighbours in memory are neighbours in k: element (line, k) is `values[line · stride + k]`.
    pub(crate) fn along_k(values: Values<'a>, stride: usize) -> Self {
        Self { values, stride, along_k: true }
    }

    /// Neighbours in memory are neighbouring lines: element (line, k) is `values[k · stride + line]`.
    pub(crate) fn across_k(values: Values<'a>, stride: usize) -> Self {
        Self { values, stride, along_k: false }
    }

    /// The elements of `lines × ks` as a factor whose first line and k these are, unpacked into `buffer` where they
    /// are in blocks; else all of it, from the first on.
    pub(super) fn readable<'b>(
        self,
        level: Level,
        lines: Range<usize>,
        ks: Range<usize>,
        buffer: &'b mut Buffer,
    ) -> (Factor<'b>, [usize; 2])
    where
        'a: 'b,
    {
        let Values::Blocks(blocks) = self.values else { return (self, [0, 0]) };
        let (outer, inner) =
            if self.along_k { (lines.clone(), ks.clone()) } else { (ks.clone(), lines.clone()) };
        let width = inner.len();
        let values = buffer.floats(outer.len() * width);
        for (out, row) in values.chunks_exact_mut(width).zip(outer) {
            unpack(level, out, blocks, row * self.stride + inner.start);
        }
        (Factor { values: Values::F32(values), stride: width, ..self }, [lines.start, ks.start])
    }

    /// The `lines × k` elements from (`line`, `k`) on.
    pub(super) fn window(self, line: usize, lines: usize, k: usize, len: usize) -> Window<'a> {
        let (outer, inner, outer_len, inner_len) =
            if self.along_k { (line, k, lines, len) } else { (k, line, len, lines) };
        let start = outer * self.stride + inner;
        let span = if lines * len == 0 { 0 } else { (outer_len - 1) * self.stride + inner_len };
        assert!(span == 0 || outer_len == 1 || inner_len <= self.stride, "rows overlap");
        Window {
            values: self.values.part(start, span),
            stride: self.stride,
            along_k: self.along_k,
            lines,
            len,
        }
    }
}

/// Part of a [`Factor`], checked to lie within its values.
#[derive(Clone, Copy)]
pub(super) struct Window<'a> {
    pub(super) values: Values<'a>,
    pub(super) stride: usize,
    pub(super) along_k: bool,
    /// Rows or columns.
    pub(super) lines: usize,
    /// Number of k.
    pub(super) len: usize,
}

impl Window<'_> {
    /// Fewer lines.
    fn lines(self, start: usize, lines: usize) -> Self {
        let skipped = if self.along_k { start * self.stride } else { start }.min(self.values.len());
        let values = self.values.part(skipped, self.values.len() - skipped);
        Self { values, lines, ..self }
    }
}

impl Kernel {
    /// Packs the lines of `window` as one panel of `width` lines: `panel[word · width + line]`.
    pub(super) fn pack_panel(self, panel: &mut [u32], window: Window<'_>, width: usize) {
        let words = window.len.div_ceil(self.step());
        assert!(window.lines <= width && panel.len() == words * width, "a panel of another size");
        #[cfg(target_arch = "x86_64")]
        if self.level >= super::super::Level::Avx512 && width.is_multiple_of(super::layout::UNIT) {
            // SAFETY: the level is available.
            unsafe { super::pack_avx512::wide(self.word, panel, width, window) };
            return;
        }
        assert_ne!(self.word, Word::Bf16Pair, "pairs are packed by their own code");
        let round = self.word == Word::RoundedF32;
        #[cfg(target_arch = "x86_64")]
        if self.level == super::super::Level::Avx2 && window.along_k {
            // SAFETY: the level is available; panels of this level have sixteen lines or six.
            unsafe { super::pack_avx2::along_k(panel, window, width, round) };
            return;
        }
        pack_plain(self.level, panel, window, width, round);
    }

    /// Packs the lines of `window` as panels of [`mr`](Self::mr) lines.
    pub(super) fn pack_rows(self, panels: &mut [u32], window: Window<'_>) {
        let (mr, words) = (self.mr(), window.len.div_ceil(self.step()));
        assert_eq!(panels.len(), window.lines.next_multiple_of(mr) * words, "panels of another size");
        #[cfg(target_arch = "x86_64")]
        if self.level >= super::super::Level::Avx512 {
            // SAFETY: the level is available.
            unsafe { super::pack_avx512::eights(self.word, panels, window) };
            return;
        }
        for (start, panel) in (0..window.lines).step_by(mr).zip(panels.chunks_mut(mr * words)) {
            self.pack_panel(panel, window.lines(start, (window.lines - start).min(mr)), mr);
        }
    }
}

multiversion! {
    /// Packs a panel of `f32` words, value by value.
    fn pack_plain(panel: &mut [u32], window: Window<'_>, width: usize, round: bool) {
        match window.values {
            Values::F32(values) if round => pack_values(panel, values, window, width, |x| round_bf16(x).to_bits()),
            Values::F32(values) => pack_values(panel, values, window, width, f32::to_bits),
            Values::Bf16(values) => pack_values(panel, values, window, width, |x| from_bf16(x).to_bits()),
            Values::Blocks(_) => not_unpacked(),
        }
    }
}

/// What packs whole right factors makes them [readable](Factor::readable) first, and no other factor is in blocks.
#[cold]
pub(super) fn not_unpacked() -> ! {
    panic!("a matrix in blocks can only be the weight of a linear layer")
}

#[inline(always)]
fn pack_values<T: Copy>(
    panel: &mut [u32],
    values: &[T],
    window: Window<'_>,
    width: usize,
    word: impl Fn(T) -> u32,
) {
    let Window { stride, along_k, lines, .. } = window;
    if lines < width {
        panel.fill(0);
    }
    for (k, panel) in panel.chunks_exact_mut(width).enumerate() {
        if along_k {
            for (line, to) in panel[..lines].iter_mut().enumerate() {
                *to = word(values[line * stride + k]);
            }
        } else {
            for (to, &value) in panel[..lines].iter_mut().zip(&values[k * stride..][..lines]) {
                *to = word(value);
            }
        }
    }
}
