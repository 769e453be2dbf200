//! The operations on this machine's processor.

#[allow(dead_code)]
mod pool;
#[allow(dead_code)]
mod scratch;

/// In which precision products read their operands; sums are always `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// bfloat16 operands and activations, `f32` sums, weights and residual stream.
    Bf16,
}

/// The processor as a [`Backend`](crate::Backend).
#[derive(Debug)]
pub struct Cpu;
