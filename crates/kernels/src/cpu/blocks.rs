//! Matrices in blocks, unpacked a stretch at a time while products pack them.

use super::level::multiversion;
use crate::BlockMatrix;

/// Values to read that are in blocks: a stretch of a flattened matrix.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    matrix: &'a BlockMatrix,
    /// Where in the matrix the stretch begins.
    start: usize,
    len: usize,
}

impl<'a> Blocks<'a> {
    /// All values of a matrix.
    pub(super) fn of(matrix: &'a BlockMatrix) -> Self {
        Blocks { matrix, start: 0, len: matrix.len() }
    }

    /// Number of values.
    #[inline(always)]
    pub(super) fn len(self) -> usize {
        self.len
    }

    /// `len` values from `start` on.
    #[inline(always)]
    pub(super) fn part(self, start: usize, len: usize) -> Self {
        assert!(start <= self.len && len <= self.len - start, "a part outside of the values");
        Blocks { start: self.start + start, len, ..self }
    }

    /// The values from `start` on, as many as `out` has.
    #[inline(always)]
    pub(super) fn unpack(self, out: &mut [f32], start: usize) {
        let part = self.part(start, out.len());
        self.matrix.unpack(out, part.start);
    }
}

multiversion! {
    /// [`Blocks::unpack`], compiled for the level.
    pub(super) fn unpack(out: &mut [f32], blocks: Blocks<'_>, start: usize) {
        blocks.unpack(out, start);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::BlockFormat;

    #[test]
    fn any_stretch_is_what_the_blocks_hold() {
        let whole = BlockFormat::ALL.map(|format| BlockMatrix::noise(format, [7, 91], 1));
        let of_two = |first, second| {
            let [first, second] = [first, second].map(|format| BlockMatrix::noise(format, [4, 91], 2));
            BlockMatrix::of_bands(91, [first.bands(), second.bands()].concat())
        };
        let mixed = of_two(BlockFormat::Q4K, BlockFormat::Q8_0);
        for matrix in whole.into_iter().chain([mixed]) {
            let expected = matrix.values();
            for (start, len) in
                [(0, 637), (0, 64), (32, 32), (31, 2), (64, 0), (100, 77), (600, 37), (300, 120)]
            {
                for level in Level::available() {
                    let mut out = vec![f32::NAN; len];
                    let part = Blocks::of(&matrix).part(start / 2, 637 - start / 2);
                    unpack(level, &mut out, part, start - start / 2);
                    let what = format!("{:?}, {len} from {start}, {level}", matrix.bands()[0].format);
                    assert_eq!(out, expected[start..][..len], "{what}");
                }
            }
        }
    }
}
