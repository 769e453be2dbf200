//! Products of small matrices within one thread, on packed operands in the caller's scratch.
//!
//! ```ignore
//! // scores[m, n] = queries[m, d] · keys[n, d]ᵀ
//! let [left, right, scores, ..] = &mut scratch.buffers;
//! let left = left.words(kernel.left_words(m, d));
//! let right = right.words(kernel.right_words(d, n));
//! kernel.pack_left(left, Factor::along_k(queries, q_stride), m, d);
//! kernel.pack_right(right, Factor::along_k(keys, k_stride), d, n); // once for many `left`
//! let all = |_| Part { cols: 0..n, k: 0..d };
//! kernel.multiply(scores.floats(m * n), n, left, right, (m, n, d), false, all);
//! ```
//!
//! Elements are summed over all of k at once, in order: their bits do not depend on `m` and `n`.

use super::super::bf16::{round_bf16, to_bf16};
use super::super::tensor::Values;
use super::kernel::{Kernel, Word};
use super::layout::{Columns, UNIT};
use super::pack::Factor;
use super::tile::{Out, Tile};
use std::ops::Range;

impl Kernel {
    /// Words of a packed left factor of `m × k`.
    pub(crate) fn left_words(self, m: usize, k: usize) -> usize {
        m.next_multiple_of(self.mr()) * k.div_ceil(self.step())
    }

    /// Words of a packed right factor of `k × n`. Columns are padded to a multiple of 16.
    pub(crate) fn right_words(self, k: usize, n: usize) -> usize {
        Columns::new(n, self.max_units()).padded() * k.div_ceil(self.step())
    }

    /// Packs `m` lines of `factor` as a left factor into `words`, of [`left_words`](Self::left_words).
    pub(crate) fn pack_left(self, words: &mut [u32], factor: Factor<'_>, m: usize, k: usize) {
        self.pack_rows(words, factor.window(0, m, 0, k));
    }

    /// Packs `n` lines of `factor` as a right factor into `words`, of [`right_words`](Self::right_words).
    pub(crate) fn pack_right(self, words: &mut [u32], factor: Factor<'_>, k: usize, n: usize) {
        let columns = Columns::new(n, self.max_units());
        let depth = k.div_ceil(self.step());
        assert_eq!(words.len(), columns.padded() * depth, "a right factor of another size");
        for panel in 0..columns.panels() {
            let range = columns.range(panel);
            let (start, end) = (columns.start(panel), columns.start(panel + 1));
            let window = factor.window(range.start, range.len(), 0, k);
            self.pack_panel(&mut words[start * depth..end * depth], window, end - start);
        }
    }

    /// `out = left · right`, or `out += left · right` with `add`, for packed factors of `m × k` and `k × n`,
    /// where `part` tells what of each panel of rows is wanted. `stride` is the distance of rows of `out`.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn multiply(
        self,
        out: &mut [f32],
        stride: usize,
        left: &[u32],
        right: &[u32],
        (m, n, k): (usize, usize, usize),
        add: bool,
        part: impl Fn(Range<usize>) -> Part,
    ) {
        if m * n == 0 {
            return;
        }
        assert_eq!(left.len(), self.left_words(m, k), "a left factor of another size");
        assert_eq!(right.len(), self.right_words(k, n), "a right factor of another size");
        assert!(stride >= n && out.len() >= (m - 1) * stride + n, "a result of another size");
        let columns = Columns::new(n, self.max_units());
        let words = k.div_ceil(self.step());
        for row in (0..m).step_by(self.mr()) {
            let rows = row..m.min(row + self.mr());
            let Part { cols, k: part_k } = part(rows.clone());
            assert!(part_k.start <= part_k.end && part_k.end <= k, "a part outside of the product");
            let first_word = part_k.start / self.step();
            for panel in 0..columns.panels() {
                let (range, width) = (columns.range(panel), columns.units(panel) * UNIT);
                if range.end <= cols.start || range.start >= cols.end {
                    continue;
                }
                let out = out[row * stride + range.start..].as_mut_ptr();
                let tile = Tile {
                    words: part_k.end.div_ceil(self.step()) - first_word,
                    left: left[row * words + first_word * self.mr()..].as_ptr(),
                    right: right[columns.start(panel) * words + first_word * width..].as_ptr(),
                    is_halves: false,
                    prefetch: (right.as_ptr(), 0),
                    rows: rows.len(),
                    units: columns.units(panel),
                    cols: range.len(),
                    out: Out::F32(out),
                    out_stride: stride,
                    add: if add { out } else { std::ptr::null() },
                    add_stride: stride,
                    bias: std::ptr::null(),
                };
                // SAFETY: sizes were asserted; `out` is borrowed mutably.
                unsafe { self.run(&tile) };
            }
        }
    }

    /// Whether the words of a packed right factor hold just what `values` stores, so that they can be kept
    /// there.
    pub(crate) fn packs_as_stored(self, values: Values<'_>) -> bool {
        matches!((self.word, values), (Word::F32, Values::F32(_)) | (Word::Bf16Pair, Values::Bf16(_)))
    }

    /// Writes one column of a packed right factor of `k × n`; `k` fills whole words.
    pub(crate) fn put_column(self, words: &mut [u32], (k, n): (usize, usize), column: usize, values: &[f32]) {
        let columns = Columns::new(n, self.max_units());
        let depth = k / self.step();
        let panel = (0..columns.panels()).find(|&panel| columns.range(panel).contains(&column));
        let start = columns.start(panel.expect("a column of the factor"));
        let width = columns.units(panel.expect("a column of the factor")) * UNIT;
        let column = words[start * depth + column - start..].iter_mut().step_by(width);
        match self.word {
            Word::F32 => column.zip(values).for_each(|(word, value)| *word = value.to_bits()),
            Word::RoundedF32 => {
                column.zip(values).for_each(|(word, value)| *word = round_bf16(*value).to_bits())
            }
            Word::Bf16Pair => {
                let (pairs, _) = values.as_chunks::<2>();
                for (word, [low, high]) in column.zip(pairs) {
                    *word = u32::from(to_bf16(*low)) | u32::from(to_bf16(*high)) << 16;
                }
            }
        }
    }

    /// Writes row `row` of a packed right factor of `k × n`. Rows come in order: the next one becomes zero
    /// where it shares its words with this one.
    pub(crate) fn put_row(self, words: &mut [u32], (k, n): (usize, usize), row: usize, values: &[f32]) {
        let columns = Columns::new(n, self.max_units());
        let depth = k.div_ceil(self.step());
        for panel in 0..columns.panels() {
            let (start, width) = (columns.start(panel), columns.units(panel) * UNIT);
            let words = &mut words[start * depth + row / self.step() * width..][..width];
            for (word, value) in words.iter_mut().zip(&values[columns.range(panel)]) {
                *word = match self.word {
                    Word::F32 => value.to_bits(),
                    Word::RoundedF32 => round_bf16(*value).to_bits(),
                    Word::Bf16Pair if row.is_multiple_of(2) => u32::from(to_bf16(*value)),
                    Word::Bf16Pair => *word & 0xffff | u32::from(to_bf16(*value)) << 16,
                };
            }
        }
    }
}

/// What is wanted of a panel of rows. More may be computed too; what is not is left as it was.
pub(crate) struct Part {
    /// Columns of the right factor.
    pub(crate) cols: Range<usize>,
    /// What is summed, and with it the rest of the first and the last word.
    pub(crate) k: Range<usize>,
}
