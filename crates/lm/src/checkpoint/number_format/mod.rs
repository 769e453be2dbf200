//! The formats in which numbers lie in model files: plain floats, and the blocks of small integers with
//! scales that GGUF files have. All are read as `f32`; a few are written.

mod blocks;

use std::fmt;

use anyhow::{Context, Result};
use kernels::BlockFormat;

use super::dtype::Dtype;

/// How the numbers of a tensor lie in a file. A block is the least that can be read alone; `q` is an integer
/// of so many bits, `d` and `m` are `f16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberFormat {
    /// One float after another.
    Float(Dtype),
    /// `x = d·q`, 8 bits.
    Q8_0,
    /// `x = d·(q − 8)`, 4 bits.
    Q4_0,
    /// `x = d·q + m`, 4 bits.
    Q4_1,
    /// `x = d·(q − 16)`, 5 bits.
    Q5_0,
    /// `x = d·q + m`, 5 bits.
    Q5_1,
    /// `x = d·s·q − m·t`, 4 bits, with an `s` and a `t` of 6 bits for every 32 numbers.
    Q4K,
    /// The same with 5 bits.
    Q5K,
    /// `x = d·s·(q − 32)`, 6 bits, with an `s` of 8 bits for every 16 numbers.
    Q6K,
    /// One that is not read here, by the name that its files give it.
    Other(&'static str),
}

/// Numbers of a block of integers.
const SMALL: usize = 32;
/// Numbers of a block of integers whose scales are integers too.
const LARGE: usize = 256;

impl NumberFormat {
    /// Those that are read, for people.
    pub(super) const READABLE: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K";

    /// Numbers of a block.
    pub(super) fn block_len(self) -> usize {
        use NumberFormat::{Float, Other, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
        match self {
            Float(_) | Other(_) => 1,
            Q8_0 | Q4_0 | Q4_1 | Q5_0 | Q5_1 => SMALL,
            Q4K | Q5K | Q6K => LARGE,
        }
    }

    /// Bytes of a block; none for a format that is not read here.
    pub(super) fn block_bytes(self) -> Option<usize> {
        Some(match self {
            NumberFormat::Float(dtype) => dtype.bytes(),
            NumberFormat::Q8_0 => 2 + SMALL,
            NumberFormat::Q4_0 => 2 + SMALL / 2,
            NumberFormat::Q4_1 => 4 + SMALL / 2,
            NumberFormat::Q5_0 => 2 + SMALL / 8 + SMALL / 2,
            NumberFormat::Q5_1 => 4 + SMALL / 8 + SMALL / 2,
            NumberFormat::Q4K => 4 + 12 + LARGE / 2,
            NumberFormat::Q5K => 4 + 12 + LARGE / 8 + LARGE / 2,
            NumberFormat::Q6K => LARGE / 2 + LARGE / 4 + LARGE / 16 + 2,
            NumberFormat::Other(_) => return None,
        })
    }

    /// Reads as many whole blocks as `out` has room for; the numbers of bytes must agree.
    pub(super) fn decode(self, out: &mut [f32], bytes: &[u8]) {
        let decode: fn(&mut [f32], &[u8]) = match self {
            NumberFormat::Float(dtype) => return dtype.decode(out, bytes),
            NumberFormat::Q8_0 => |x, block| BlockFormat::Q8_0.dequantise(x, block),
            NumberFormat::Q4_0 => |x, block| BlockFormat::Q4_0.dequantise(x, block),
            NumberFormat::Q4_1 => blocks::q4_1,
            NumberFormat::Q5_0 => blocks::q5_0,
            NumberFormat::Q5_1 => blocks::q5_1,
            NumberFormat::Q4K => blocks::q4_k,
            NumberFormat::Q5K => blocks::q5_k,
            NumberFormat::Q6K => blocks::q6_k,
            NumberFormat::Other(name) => panic!("a tensor of {name} was not refused"),
        };
        let (block_len, block_bytes) = (self.block_len(), self.block_bytes().unwrap_or(0));
        assert_eq!(bytes.len(), out.len() / block_len * block_bytes, "bytes of another number of values");
        let blocks = out.chunks_exact_mut(block_len).zip(bytes.chunks_exact(block_bytes));
        blocks.for_each(|(x, block)| decode(x, block));
    }

    /// Whole blocks of values in this format, which is a float or Q8_0.
    ///
    /// # Errors
    /// A value is beyond what the format can hold.
    pub(super) fn encode(self, values: &[f32]) -> Result<Vec<u8>> {
        let format = match self {
            NumberFormat::Float(dtype) => return dtype.encode(values),
            NumberFormat::Q8_0 => BlockFormat::Q8_0,
            _ => panic!("{self} is not written"),
        };
        format.quantise(values).with_context(|| {
            let largest = values.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            format!(
                "it holds {largest:e} or what is no number, which {self} cannot: choose another number format (--quant)"
            )
        })
    }
}

impl From<safetensors::Dtype> for NumberFormat {
    fn from(theirs: safetensors::Dtype) -> Self {
        use safetensors::Dtype as Theirs;
        let other = match theirs {
            Theirs::F64 => "F64",
            Theirs::BOOL => "BOOL",
            Theirs::U8 => "U8",
            Theirs::I8 => "I8",
            Theirs::I16 => "I16",
            Theirs::U16 => "U16",
            Theirs::I32 => "I32",
            Theirs::U32 => "U32",
            Theirs::I64 => "I64",
            Theirs::U64 => "U64",
            Theirs::F8_E4M3 => "F8_E4M3",
            Theirs::F8_E5M2 => "F8_E5M2",
            _ => "a rarer format",
        };
        Dtype::of(theirs).map_or(NumberFormat::Other(other), NumberFormat::Float)
    }
}

impl fmt::Display for NumberFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NumberFormat::Float(Dtype::F32) => "F32",
            NumberFormat::Float(Dtype::F16) => "F16",
            NumberFormat::Float(Dtype::Bf16) => "BF16",
            NumberFormat::Q8_0 => "Q8_0",
            NumberFormat::Q4_0 => "Q4_0",
            NumberFormat::Q4_1 => "Q4_1",
            NumberFormat::Q5_0 => "Q5_0",
            NumberFormat::Q5_1 => "Q5_1",
            NumberFormat::Q4K => "Q4_K",
            NumberFormat::Q5K => "Q5_K",
            NumberFormat::Q6K => "Q6_K",
            NumberFormat::Other(name) => name,
        })
    }
}
