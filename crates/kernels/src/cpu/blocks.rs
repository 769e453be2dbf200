//! Matrices in blocks, unpacked a stretch at a time while products pack them.

use super::level::multiversion;
use crate::{BlockFormat, BlockMatrix};

/// Values to read that are in blocks: a stretch of a flattened matrix.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    format: BlockFormat,
    bytes: &'a [u8],
    /// Where in the matrix the stretch begins.
    start: usize,
    len: usize,
}

impl<'a> Blocks<'a> {
    /// All values of a matrix.
    pub(super) fn of(matrix: &'a BlockMatrix) -> Self {
        Blocks { format: matrix.format(), bytes: matrix.bytes(), start: 0, len: matrix.len() }
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
        self.format.unpack(out, self.bytes, part.start);
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

    #[test]
    fn any_stretch_is_what_the_blocks_hold() {
        let values: Vec<f32> = (0..7 * 91).map(|i| crate::rng::uniform(3, 4, i) - 0.5).collect();
        for format in BlockFormat::ALL {
            let matrix = BlockMatrix::quantise(format, &values, [7, 91]).expect("small values");
            let expected = matrix.values();
            for (start, len) in [(0, 637), (0, 64), (32, 32), (31, 2), (64, 0), (100, 77), (600, 37)] {
                for level in Level::available() {
                    let mut out = vec![f32::NAN; len];
                    unpack(
                        level,
                        &mut out,
                        Blocks::of(&matrix).part(start / 2, 637 - start / 2),
                        start - start / 2,
                    );
                    assert_eq!(out, expected[start..][..len], "{format}, {len} from {start}, {level}");
                }
            }
        }
    }
}
