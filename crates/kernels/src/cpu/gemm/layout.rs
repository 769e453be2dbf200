//! Where packed operands lie: panels of rows and columns, blocks of k, words of 32 bits.
//!
//! A *word* holds what one 32-bit lane multiplies at once: an `f32`, or two neighbours in k as bfloat16.
//!
//! * The left factor is cut into panels of `mr` rows, each `[word of k][row]`.
//! * The right factor is cut into panels of up to three *units* of 16 columns, each `[word of k][column]`.
//!
//! Both are padded with zeros: to whole panels of rows, to whole units of columns, to whole words of k.

use std::ops::Range;

/// Columns of a unit, the narrowest panel: one 512-bit vector.
pub(crate) const UNIT: usize = 16;

/// Longest stretch of k that is summed before the sum is added to the result: so long that adding costs
/// nothing, so short that a panel of the right factor stays in the first-level cache.
const MAX_BLOCK: usize = 384;

/// The columns of a right factor, cut into panels as even as possible.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    n: usize,
    /// Units of the panels before the narrower ones.
    max_units: usize,
    panels: usize,
    /// How many panels, the last ones, are a unit narrower.
    narrower: usize,
}

impl Columns {
    /// `n` columns in the fewest panels of at most `max_units`.
    pub(super) fn new(n: usize, max_units: usize) -> Self {
        let units = n.div_ceil(UNIT);
        let panels = units.div_ceil(max_units);
        // A lone unit is a panel of its own width; else at most `max_units - 1` units are missing, one a
        // panel.
        let max_units = if panels == 1 { units } else { max_units };
        Self { n, max_units, panels, narrower: panels * max_units - units }
    }

    /// Number of panels.
    pub(super) fn panels(self) -> usize {
        self.panels
    }

    /// Columns together with the padding.
    pub(super) fn padded(self) -> usize {
        self.n.next_multiple_of(UNIT)
    }

    /// First column of a panel (of the one past the last: [`padded`](Self::padded)).
    pub(super) fn start(self, panel: usize) -> usize {
        let narrower = (panel + self.narrower).saturating_sub(self.panels);
        (panel * self.max_units - narrower) * UNIT
    }

    /// Units of a panel.
    pub(super) fn units(self, panel: usize) -> usize {
        (self.start(panel + 1) - self.start(panel)) / UNIT
    }

    /// The panel's columns without the padding.
    pub(super) fn range(self, panel: usize) -> Range<usize> {
        self.start(panel)..self.start(panel + 1).min(self.n)
    }
}

/// A stretch of k that is summed in registers before it is added to the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// First k.
    pub(super) start: usize,
    /// Number of k.
    pub(super) len: usize,
    /// Packed words before it.
    pub(super) word: usize,
}

/// The blocks of k: what determines the bits of a product, besides the values.
#[derive(Default)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    words: usize,
    k: usize,
}

impl Blocks {
    /// Starts over: no k at all.
    pub(crate) fn clear(&mut self) {
        self.blocks.clear();
        (self.words, self.k) = (0, 0);
    }

    /// Appends `len` values of k in even blocks: their lengths depend on `len` only. `step` is the k of a
    /// word.
    pub(super) fn push(&mut self, len: usize, step: usize) {
        if len == 0 {
            return;
        }
        // Whole words, except in the last block.
        let block = len.div_ceil(len.div_ceil(MAX_BLOCK)).next_multiple_of(2);
        let end = self.k + len;
        while self.k < end {
            let len = block.min(end - self.k);
            self.blocks.push(Block { start: self.k, len, word: self.words });
            self.words += len.div_ceil(step);
            self.k += len;
        }
    }

    pub(super) fn get(&self, index: usize) -> Block {
        self.blocks[index]
    }
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = Block> {
        self.blocks.iter().copied()
    }
    /// Number of k.
    pub(super) fn k(&self) -> usize {
        self.k
    }
    /// Number of words that they take.
    pub(super) fn words(&self) -> usize {
        self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_cut_evenly() {
        let units = |n, max| {
            let columns = Columns::new(n, max);
            let units: Vec<usize> = (0..columns.panels()).map(|p| columns.units(p)).collect();
            assert_eq!(units.iter().sum::<usize>() * UNIT, columns.padded());
            assert_eq!(columns.start(columns.panels()), columns.padded());
            assert_eq!((0..columns.panels()).map(|p| columns.range(p).len()).sum::<usize>(), n);
            units
        };
        assert_eq!(units(1, 3), [1]);
        assert_eq!(units(20, 3), [2]);
        assert_eq!(units(64, 3), [2, 2]);
        assert_eq!(units(72, 3), [3, 2]);
        assert_eq!(units(112, 3), [3, 2, 2]);
        assert_eq!(units(144, 3), [3, 3, 3]);
        assert_eq!(units(40, 1), [1, 1, 1]);
    }

    #[test]
    fn blocks_never_straddle_what_was_pushed() {
        let mut blocks = Blocks::default();
        for len in [384, 7, 770, 0, 1] {
            blocks.push(len, 2);
        }
        let list: Vec<_> = blocks.iter().map(|b| (b.start, b.len, b.word)).collect();
        let expected =
            [(0, 384, 0), (384, 7, 192), (391, 258, 196), (649, 258, 325), (907, 254, 454), (1161, 1, 581)];
        assert_eq!(list, expected);
        assert_eq!((blocks.k(), blocks.words()), (1162, 582));
    }
}
