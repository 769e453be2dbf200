//! Matrices in blocks of small integers with scales: how a weight that is not learned takes an eighth to a quarter
//! of its memory.
//!
//! A block is that many neighbours of the flattened matrix `[d_out, d_in]`, row after row; the last one is filled
//! up with zeros. A value is a float times an integer, which is exact in all formats of GGUF, less another float in
//! some, so that whoever unpacks a block gets the same bits.

mod coding;
mod matrix;
mod quantise;
mod unpack;

pub(crate) use coding::{Coding, Factors};
pub use matrix::{Band, BlockMatrix};

use std::fmt;
use std::str::FromStr;

/// How the values of a block are stored. All but the last are those of GGUF files; `d` and `m` are `f16`, `q` and
/// `code` integers of so many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFormat {
    /// `d q:i8[32]`, `x = d · q`: 8.5 bits a value.
    Q8_0,
    /// `d q:u4[32]`, `x = d · (q − 8)`: 4.5 bits a value. Byte `j` holds value `j` in its lower half and value
    /// `j + 16` in the upper one.
    Q4_0,
    /// `d m q:u4[32]`, `x = d · q + m`: 5 bits a value.
    Q4_1,
    /// `d fifth:u1[32] q:u4[32]`, `x = d · (q − 16)` with the fifth bit of `q` apart: 5.5 bits a value.
    Q5_0,
    /// `d m fifth:u1[32] q:u4[32]`, `x = d · q + m`: 6 bits a value.
    Q5_1,
    /// `d m (s,t):u6[8] q:u4[256]`, `x = d · s · q − m · t`, with an `s` and a `t` for every 32 values: 4.5 bits a
    /// value. The values of two groups share bytes.
    Q4K,
    /// `d m (s,t):u6[8] fifth:u1[256] q:u4[256]`, likewise: 5.5 bits a value. Bit `g` of a byte of `fifth` belongs to
    /// group `g`.
    Q5K,
    /// `q:u4[256] upper:u2[256] s:i8[16] d`, `x = d · s · (q − 32)`, with an `s` for every 16 values and two bits of
    /// `q` apart: 6.6 bits a value. Halves of 128 values, in which 32 and 32 share bytes.
    Q6K,
    /// `absmax:f32 code:u4[64]`, `x = absmax · NF4[code]` (Dettmers et al. 2023, "QLoRA"): 4.5 bits a value. The
    /// first of two values is in the upper half of a byte, as bitsandbytes has it.
    Nf4,
}

/// The values of [`BlockFormat::Nf4`]: quantiles of a normal distribution, between −1 and 1.
pub const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Values that are unpacked at once; a whole number of these is a block.
const GROUP: usize = 32;

impl BlockFormat {
    /// All of them.
    pub const ALL: [BlockFormat; 9] = {
        use BlockFormat::{Nf4, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        [Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4K, Q5K, Q6K, Nf4]
    };

    /// Those that [`quantise`](Self::quantise) makes. The others are read.
    pub const MADE: [BlockFormat; 3] = [BlockFormat::Q8_0, BlockFormat::Q4_0, BlockFormat::Nf4];

    /// Values of a block.
    #[inline(always)]
    pub const fn block_len(self) -> usize {
        match self {
            BlockFormat::Q8_0
            | BlockFormat::Q4_0
            | BlockFormat::Q4_1
            | BlockFormat::Q5_0
            | BlockFormat::Q5_1 => 32,
            BlockFormat::Q4K | BlockFormat::Q5K | BlockFormat::Q6K => 256,
            BlockFormat::Nf4 => 64,
        }
    }

    /// Bytes of a block.
    #[inline(always)]
    pub const fn block_bytes(self) -> usize {
        match self {
            BlockFormat::Q8_0 => 2 + 32,
            BlockFormat::Q4_0 => 2 + 16,
            BlockFormat::Q4_1 => 4 + 16,
            BlockFormat::Q5_0 => 2 + 4 + 16,
            BlockFormat::Q5_1 => 4 + 4 + 16,
            BlockFormat::Q4K => 4 + 12 + 128,
            BlockFormat::Q5K => 4 + 12 + 32 + 128,
            BlockFormat::Q6K => 128 + 64 + 16 + 2,
            BlockFormat::Nf4 => 4 + 32,
        }
    }

    /// Bytes of so many values.
    pub const fn bytes(self, values: usize) -> usize {
        values.div_ceil(self.block_len()) * self.block_bytes()
    }

    /// The values of blocks, as many as `out` has.
    ///
    /// # Panics
    ///
    /// If these are not the bytes of so many values.
    pub fn dequantise(self, out: &mut [f32], bytes: &[u8]) {
        assert_eq!(bytes.len(), self.bytes(out.len()), "bytes of another number of values");
        self.unpack(out, bytes, 0);
    }
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BlockFormat::Q8_0 => "q8_0",
            BlockFormat::Q4_0 => "q4_0",
            BlockFormat::Q4_1 => "q4_1",
            BlockFormat::Q5_0 => "q5_0",
            BlockFormat::Q5_1 => "q5_1",
            BlockFormat::Q4K => "q4_k",
            BlockFormat::Q5K => "q5_k",
            BlockFormat::Q6K => "q6_k",
            BlockFormat::Nf4 => "nf4",
        })
    }
}

/// One of those that are [made](BlockFormat::MADE).
impl FromStr for BlockFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::MADE.into_iter().find(|format| format.to_string() == text);
        found.ok_or_else(|| "choose among q8_0, q4_0 and nf4".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn back(format: BlockFormat, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let bytes = format.quantise(values).unwrap();
        let mut back = vec![f32::NAN; values.len()];
        format.dequantise(&mut back, &bytes);
        (bytes, back)
    }

    fn assert_near(values: &[f32], expected: &[f32]) {
        for (x, expected) in values.iter().zip(expected) {
            assert!((x - expected).abs() < 1e-6, "{values:?}, {expected:?}");
        }
    }

    fn largest_error(values: &[f32], back: &[f32]) -> f32 {
        values.iter().zip(back).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
    }

    /// What the gguf package makes of these values.
    #[test]
    fn blocks_of_gguf() {
        let x: Vec<f32> = (0..32u8).map(|i| (0.1 * f64::from(i) - 1.5) as f32).collect();
        let (bytes, values) = back(BlockFormat::Q8_0, &x);
        assert_near(&[f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()], &[0.012_596_13]);
        assert_eq!(bytes[2..5], [137, 145, 153], "-119, -111, -103");
        assert!((largest_error(&x, &values) - 0.006_152_3).abs() < 1e-6);
        let (bytes, values) = back(BlockFormat::Q4_0, &x);
        assert_near(&[f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()], &[-0.199_951_17]);
        assert_eq!(bytes[2..8], [0x8f, 0x7f, 0x7f, 0x6e, 0x6e, 0x5d]);
        assert_near(&values[..4], &[-1.399_658, -1.399_658, -1.399_658, -1.199_707]);
        assert!((largest_error(&x, &values) - 0.100_341_8).abs() < 1e-6);
    }

    /// What bitsandbytes makes of these values.
    #[test]
    fn blocks_of_bitsandbytes() {
        let x = [0.5, -1.0, 0.25, 0.1].into_iter().chain((-30..30).map(|i| 0.01 * i as f32));
        let (bytes, values) = back(BlockFormat::Nf4, &x.collect::<Vec<_>>());
        assert_eq!(bytes[..4], 1f32.to_le_bytes());
        assert_eq!(bytes[4..10], [0xc0, 0xa8, 0x44, 0x44, 0x44, 0x45]);
        assert_near(&values[..5], &[0.440_709_8, -1.0, 0.246_112_3, 0.079_580_3, -0.284_441_4]);
    }

    #[test]
    fn blocks_of_blocks_are_the_same_and_the_last_may_be_short() {
        let values: Vec<f32> = (0..1000).map(|i| crate::rng::uniform(1, 2, i) - 0.3).collect();
        for format in BlockFormat::MADE {
            let (bytes, once) = back(format, &values);
            assert_eq!(bytes.len(), format.bytes(1000));
            assert_eq!(back(format, &once), (bytes, once.clone()), "{format}");
            assert!(largest_error(&values, &once) < 0.12, "{format}");
            assert_eq!(back(format, &[0.0; 7]).1, [0.0; 7]);
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("q5_0".parse::<BlockFormat>().is_err());
    }

    /// The two ways to read a block agree, and values are what reading one by one gives.
    #[test]
    fn blocks_are_their_codes() {
        for format in BlockFormat::ALL {
            let matrix = BlockMatrix::noise(format, [1, 512], 7);
            let values = matrix.values();
            assert!(values.iter().all(|x| x.abs() < 2.0) && values[0] != values[1], "{format}: {values:?}");
            let coding = format.coding();
            if coding.is_table {
                continue;
            }
            for (i, &value) in values.iter().enumerate() {
                let block = &matrix.bands()[0].bytes[i / format.block_len() * format.block_bytes()..];
                let i = i % format.block_len();
                let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
                let [s, t] = format.factors(block, i / coding.group_len);
                let code = format.code(block, i) as i8 - coding.zero;
                let (d, m) = (half(coding.d), coding.m.map(half));
                let expected = match coding.factors {
                    Factors::None => d * f32::from(code) + m.unwrap_or(0.0),
                    Factors::Signed => d * f32::from(s as i8) * f32::from(code),
                    Factors::Pair => d * f32::from(s) * f32::from(code) - m.unwrap() * f32::from(t),
                };
                assert_eq!(value, expected, "{format}, value {i}");
            }
        }
    }

    #[test]
    fn what_a_format_cannot_hold_is_told() {
        for bad in [f32::NAN, f32::INFINITY, 1e8] {
            let mut values = [1.0; 64];
            values[7] = bad;
            assert_eq!(BlockFormat::Q8_0.quantise(&values), None);
            assert_eq!(BlockFormat::Q4_0.quantise(&values), None);
            assert_eq!(BlockFormat::Nf4.quantise(&values).is_none(), bad != 1e8);
        }
    }
}
