//! From matrices as they are stored to panels as kernels read them.

use super::super::bf16::{from_bf16, round_bf16};
use super::super::level::multiversion;
use super::super::tensor::Values;
use super::kernel::{Kernel, Word};
use super::layout::UNIT;

/// A matrix as a factor of a product: seen as *lines* (rows of the left factor, columns of the right one) along k.
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
        if self.level >= super::Level::Avx512 && width.is_multiple_of(UNIT) {
            // SAFETY: the level is available.
            unsafe { super::pack_avx512::wide(self.word, panel, width, window) };
            return;
        }
        assert_ne!(self.word, Word::Bf16Pair, "pairs are packed by their own code");
        pack_plain(self.level, panel, window, width, self.word == Word::RoundedF32);
    }

    /// Packs the lines of `window` as panels of [`mr`](Self::mr) lines.
    pub(super) fn pack_rows(self, panels: &mut [u32], window: Window<'_>) {
        let (mr, words) = (self.mr(), window.len.div_ceil(self.step()));
        assert_eq!(panels.len(), window.lines.next_multiple_of(mr) * words, "panels of another size");
        #[cfg(target_arch = "x86_64")]
        if self.level >= super::Level::Avx512 {
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
        let convert = |value: f32| if round { round_bf16(value) } else { value }.to_bits();
        let (line_step, k_step) = if window.along_k { (window.stride, 1) } else { (1, window.stride) };
        for (k, panel) in panel.chunks_exact_mut(width).enumerate() {
            let (lines, padding) = panel.split_at_mut(window.lines);
            for (line, word) in lines.iter_mut().enumerate() {
                let index = line * line_step + k * k_step;
                *word = convert(match window.values {
                    Values::F32(values) => values[index],
                    Values::Bf16(values) => from_bf16(values[index]),
                });
            }
            padding.fill(0);
        }
    }
}
