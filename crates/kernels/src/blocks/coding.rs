//! Blocks as codes: `x = scale · (code − zero) − least`, the form that all formats of GGUF share, or `scale · NF4[code]`. `scale` is `d`, or
//! `d · s` with an integer `s` of a group's own; `least` is `−m`, or `m · t` likewise.

use super::BlockFormat;
use super::unpack::{fifth, k_pair, word_at};

/// How a format's values are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coding {
    /// Bits of a code that lie together: 4, or 8 with a sign.
    pub(crate) low_bits: usize,
    /// Bits of a code that lie apart: 0, 1 or 2.
    pub(crate) high_bits: usize,
    /// Whether codes are places in a table, and the scale is an `f32`. Else they are integers, and it is an `f16`.
    pub(crate) is_table: bool,
    /// What is subtracted from a code.
    pub(crate) zero: i8,
    /// Values that share a scale.
    pub(crate) group_len: usize,
    /// What multiplies the halves of a block for each group.
    pub(crate) factors: Factors,
    /// Where in a block `d` is.
    pub(crate) d: usize,
    /// Where `m` is, if there is one.
    pub(crate) m: Option<usize>,
}

/// Coding of a byte that a group has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factors {
    /// None: `scale = d`, `least = −m`.
    None,
    /// One with a sign: `scale = d · s`.
    Signed,
    /// Two without: `scale = d · s`, `least = m · t`.
    Pair,
}

impl Factors {
    /// How many a group has.
    #[inline(always)]
    pub(crate) const fn count(self) -> usize {
        match self {
            Factors::None => 0,
            Factors::Signed => 1,
            Factors::Pair => 2,
        }
    }
}

impl BlockFormat {
    /// How its values are coded.
    #[inline(always)]
    pub(crate) const fn coding(self) -> Coding {
        let plain = Coding {
            low_bits: 4,
            high_bits: 0,
            is_table: false,
            zero: 0,
            group_len: 32,
            factors: Factors::None,
            d: 0,
            m: None,
        };
        match self {
            BlockFormat::Q8_0 => Coding { low_bits: 8, ..plain },
            BlockFormat::Q4_0 => Coding { zero: 8, ..plain },
            BlockFormat::Q4_1 => Coding { m: Some(2), ..plain },
            BlockFormat::Q5_0 => Coding { high_bits: 1, zero: 16, ..plain },
            BlockFormat::Q5_1 => Coding { high_bits: 1, m: Some(2), ..plain },
            BlockFormat::Q4K => Coding { m: Some(2), factors: Factors::Pair, ..plain },
            BlockFormat::Q5K => Coding { high_bits: 1, m: Some(2), factors: Factors::Pair, ..plain },
            BlockFormat::Q6K => {
                Coding { high_bits: 2, zero: 32, group_len: 16, factors: Factors::Signed, d: 208, ..plain }
            }
            BlockFormat::Nf4 => Coding { is_table: true, group_len: 64, ..plain },
        }
    }

    /// The code of value `i` of a block.
    pub(crate) fn code(self, block: &[u8], i: usize) -> u8 {
        let halves = |at: usize| block[at + i % 16] >> (i / 16 * 4) & 15;
        let k_halves = |at: usize| block[at + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
        match self {
            BlockFormat::Q8_0 => block[2 + i],
            BlockFormat::Q4_0 => halves(2),
            BlockFormat::Q4_1 => halves(4),
            BlockFormat::Q5_0 => halves(6) | fifth(word_at(block, 2), i),
            BlockFormat::Q5_1 => halves(8) | fifth(word_at(block, 4), i),
            BlockFormat::Q4K => k_halves(16),
            BlockFormat::Q5K => k_halves(48) | (block[16 + i % 32] >> (i / 32) & 1) << 4,
            BlockFormat::Q6K => {
                let (half, quarter, l) = (i / 128, i / 32 % 4, i % 32);
                let low = block[64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
                low | (block[128 + 32 * half + l] >> (2 * quarter) & 3) << 4
            }
            BlockFormat::Nf4 => block[4 + i / 2] >> (4 * (1 - i % 2)) & 15,
        }
    }

    /// The factors of a group of a block, as many as there are.
    pub(crate) fn factors(self, block: &[u8], group: usize) -> [u8; 2] {
        match self {
            BlockFormat::Q4K | BlockFormat::Q5K => k_pair(block, group),
            BlockFormat::Q6K => [block[192 + group], 0],
            _ => [0; 2],
        }
    }
}
