//! Products of small matrices within one thread, on packed operands in the caller's scratch.
//!
//! ```ignore
//! // scores[m, n] = queries[m, d] · keys[n, d]ᵀ
//! let [left, right, scores, ..] = &mut scratch.buffers;
//! let left = left.words(kernel.left_words(m, d));
//! let right = right.words(kernel.right_words(d, n));
//! kernel.pack_left(left, Factor::along_k(queries, q_stride), m, d);
//! kernel.pack_right(right, Factor::along_k(keys, k_stride), d, n); // once for many `left`
//! kernel.multiply(scores.floats(m * n), n, left, right, (m, n, d), false);
//! ```
//!
//! Elements are summed over all of k at once, in order: their bits do not depend on `m` and `n`.

use super::kernel::{Kernel, Out, Tile};
use super::layout::Columns;
use super::pack::Factor;

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

    /// `out = left · right`, or `out += left · right` with `add`, for packed factors of `m × k` and `k × n`.
    /// `stride` is the distance of rows of `out`.
    pub(crate) fn multiply(
        self,
        out: &mut [f32],
        stride: usize,
        left: &[u32],
        right: &[u32],
        (m, n, k): (usize, usize, usize),
        add: bool,
    ) {
        if m * n == 0 {
            return;
        }
        assert_eq!(left.len(), self.left_words(m, k), "a left factor of another size");
        assert_eq!(right.len(), self.right_words(k, n), "a right factor of another size");
        assert!(stride >= n && out.len() >= (m - 1) * stride + n, "a result of another size");
        let columns = Columns::new(n, self.max_units());
        let words = k.div_ceil(self.step());
        for panel in 0..columns.panels() {
            let range = columns.range(panel);
            let right = right[columns.start(panel) * words..].as_ptr();
            for row in (0..m).step_by(self.mr()) {
                let out = out[row * stride + range.start..].as_mut_ptr();
                let tile = Tile {
                    words,
                    left: left[row * words..].as_ptr(),
                    right,
                    rows: (m - row).min(self.mr()),
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
}
