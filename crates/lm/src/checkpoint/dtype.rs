//! Number formats of the tensors in a file.

use anyhow::{Result, ensure};
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// A format that weights are written in. All are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// As they are in memory.
    #[default]
    F32,
    /// Half precision: up to 65,504, eleven bits.
    F16,
    /// The upper half of an `f32`: its range, eight bits.
    Bf16,
}

impl Dtype {
    /// The format of this name, as it is typed and as safetensors has it.
    pub fn named(name: &str) -> Option<Self> {
        [("f32", Dtype::F32), ("f16", Dtype::F16), ("bf16", Dtype::Bf16)]
            .into_iter()
            .find_map(|(known, dtype)| known.eq_ignore_ascii_case(name).then_some(dtype))
    }

    /// The format that a safetensors file names, if it is one of these.
    pub(super) fn of(dtype: safetensors::Dtype) -> Option<Self> {
        match dtype {
            safetensors::Dtype::F32 => Some(Dtype::F32),
            safetensors::Dtype::F16 => Some(Dtype::F16),
            safetensors::Dtype::BF16 => Some(Dtype::Bf16),
            _ => None,
        }
    }

    /// Its name in a safetensors file.
    pub(super) fn safetensors(self) -> safetensors::Dtype {
        match self {
            Dtype::F32 => safetensors::Dtype::F32,
            Dtype::F16 => safetensors::Dtype::F16,
            Dtype::Bf16 => safetensors::Dtype::BF16,
        }
    }

    /// Its name in PyTorch, which is that in a `config.json`.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Dtype::F32 => "float32",
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
        }
    }

    /// Bytes of a value.
    pub(super) fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }

    /// Rounds to the nearest values of the format.
    ///
    /// # Errors
    /// A finite value is beyond them.
    pub(super) fn encode(self, values: &[f32]) -> Result<Vec<u8>> {
        let bits = |to_bits: fn(f32) -> u16, infinity: u16| -> Result<Vec<u8>> {
            let bits: Vec<u16> = values.iter().map(|value| to_bits(*value)).collect();
            for (value, bits) in values.iter().zip(&bits) {
                ensure!(
                    bits & 0x7fff != infinity || value.is_infinite(),
                    "it holds {value:e}, which {} cannot: choose another number format (--dtype, of a GGUF file --quant)",
                    self.torch_name()
                );
            }
            Ok(bytemuck::cast_slice(&bits).to_vec())
        };
        match self {
            Dtype::F32 => Ok(bytemuck::cast_slice(values).to_vec()),
            Dtype::F16 => bits(|x| f16::from_f32(x).to_bits(), f16::INFINITY.to_bits()),
            Dtype::Bf16 => bits(|x| bf16::from_f32(x).to_bits(), bf16::INFINITY.to_bits()),
        }
    }

    /// The values that bytes stand for, as many as there is room in `out`; the numbers of bytes must agree.
    pub(super) fn decode(self, out: &mut [f32], bytes: &[u8]) {
        assert_eq!(bytes.len(), out.len() * self.bytes(), "bytes of another number of values");
        let halves = |out: &mut [f32], to_f32: fn(u16) -> f32| {
            for (value, pair) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = to_f32(u16::from_le_bytes(*pair));
            }
        };
        match self {
            Dtype::F32 => bytemuck::cast_slice_mut(out).copy_from_slice(bytes),
            Dtype::F16 => halves(out, |bits| f16::from_bits(bits).to_f32()),
            Dtype::Bf16 => halves(out, |bits| bf16::from_bits(bits).to_f32()),
        }
    }
}
