//! The formats in which numbers lie in model files: plain floats, and the blocks of small integers with
//! scales that GGUF files have. All are read as `f32`; a few are written.

use std::fmt;

use anyhow::{Context, Result};
use kernels::BlockFormat;

use super::dtype::Dtype;

/// How the numbers of a tensor lie in a file. A block is the least that can be read alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberFormat {
    /// One float after another.
    Float(Dtype),
    /// Blocks of integers with scales.
    Blocks(BlockFormat),
    /// One that is not read here, by the name that its files give it.
    Other(&'static str),
}

impl NumberFormat {
    /// Those that are read, for people.
    pub(super) const READABLE: &str = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K";

    /// Numbers of a block.
    pub(super) fn block_len(self) -> usize {
        match self {
            NumberFormat::Float(_) | NumberFormat::Other(_) => 1,
            NumberFormat::Blocks(format) => format.block_len(),
        }
    }

    /// Bytes of a block; none for a format that is not read here.
    pub(super) fn block_bytes(self) -> Option<usize> {
        match self {
            NumberFormat::Float(dtype) => Some(dtype.bytes()),
            NumberFormat::Blocks(format) => Some(format.block_bytes()),
            NumberFormat::Other(_) => None,
        }
    }

    /// Reads as many whole blocks as `out` has room for; the numbers of bytes must agree.
    pub(super) fn decode(self, out: &mut [f32], bytes: &[u8]) {
        match self {
            NumberFormat::Float(dtype) => dtype.decode(out, bytes),
            NumberFormat::Blocks(format) => format.dequantise(out, bytes),
            NumberFormat::Other(name) => panic!("a tensor of {name} was not refused"),
        }
    }

    /// Whole blocks of values in this format, which is a float or one of those that are [made](BlockFormat::MADE).
    ///
    /// # Errors
    /// A value is beyond what the format can hold.
    pub(super) fn encode(self, values: &[f32]) -> Result<Vec<u8>> {
        let format = match self {
            NumberFormat::Float(dtype) => return dtype.encode(values),
            NumberFormat::Blocks(format) => format,
            NumberFormat::Other(_) => panic!("{self} is not written"),
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
            NumberFormat::Blocks(format) => return f.write_str(&format.to_string().to_uppercase()),
            NumberFormat::Other(name) => name,
        })
    }
}
