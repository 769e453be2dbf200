//! The operations on this machine's processor; `backend` says which function does what.
//!
//! * `level`: what the processor can do; plain loops compiled once per level.
//! * `pool`, `scratch`: threads and their working memory. `aligned`, `bf16`, `blocks`, `tensor`: numbers in memory.
//! * `gemm`: the one matrix product; `linear` and `head` are made of it, `attention` of its tiles.
//! * `math`: functions that vectorise. `pointwise`, `swiglu`, `rows`, `rope`, `norm`: operations bound by
//!   memory. `draw`: tokens from logits.

mod aligned;
mod attention;
mod backend;
pub mod bench;
mod bf16;
mod blocks;
mod draw;
mod gemm;
mod head;
mod level;
mod linear;
pub(crate) mod math;
mod norm;
mod optimizer;
mod pointwise;
mod pool;
mod rope;
mod rows;
mod scratch;
mod swiglu;
mod tensor;
#[cfg(test)]
mod testing;

pub use level::Level;
pub use tensor::CpuTensor;

use crate::shapes::size_of_shape;
use crate::{HeadShape, LinearShape};
use gemm::{Blocks, Kernel};
use head::HeadMemory;
use optimizer::Chunks;
use pool::Pool;
use scratch::Buffer;
use std::ops::Range;

/// In which precision products read their operands; sums are always `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// bfloat16 operands and activations, `f32` sums, weights and residual stream.
    Bf16,
}

/// How [`Cpu`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Threads, the calling one included; at least 1. Results do not depend on it.
    pub threads: usize,
    /// Precision of products and of activations.
    pub precision: Precision,
    /// Vector instructions; must be [available](Level::available).
    pub level: Level,
}

impl Default for CpuOptions {
    /// All cores, the highest level, `f32`: which precision is the faster is for whoever measures it, since
    /// instructions do not tell.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { threads, precision: Precision::F32, level: Level::detect() }
    }
}

/// The processor as a [`Backend`](crate::Backend).
pub struct Cpu {
    options: CpuOptions,
    pool: Pool,
    kernel: Kernel,
    /// How the current product cuts k.
    blocks: Blocks,
    /// The current product's packed right factor.
    right: Buffer,
    head: HeadMemory,
    /// Partial sums of an operation that its chunks write and its end adds up.
    partials: Buffer,
    /// The rows of each of them.
    runs: Vec<Range<usize>>,
    /// Chunks of the tensors that one operation goes through, and sums of theirs.
    chunks: Chunks,
    sums: Vec<f64>,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new(CpuOptions::default())
    }
}

impl Cpu {
    /// Starts the threads.
    ///
    /// # Panics
    ///
    /// If the level is not available on this machine, or without threads.
    pub fn new(options: CpuOptions) -> Self {
        assert!(Level::available().contains(&options.level), "this processor has no {}", options.level);
        assert!(options.threads > 0, "no threads");
        Self {
            options,
            pool: Pool::new(options.threads),
            kernel: Kernel::new(options.level, options.precision),
            blocks: Blocks::default(),
            right: Buffer::default(),
            head: HeadMemory::default(),
            partials: Buffer::default(),
            runs: Vec::new(),
            chunks: Chunks::default(),
            sums: Vec::new(),
        }
    }

    /// How it works.
    pub fn options(&self) -> CpuOptions {
        self.options
    }

    /// About how many bytes training works with besides tensors, where linear layers have shapes of `layers`
    /// and the head that of `head`: packed factors of products, and a chunk of logits.
    pub fn working_bytes(&self, layers: &[LinearShape], head: &HeadShape) -> u64 {
        // Where the processor does not multiply bfloat16, factors are packed as `f32`.
        let bytes = match self.options.precision {
            Precision::Bf16 if self.options.level.has_bf16() => 2,
            _ => 4,
        };
        // The larger of the weight and of the input rows, which the gradient packs.
        let packed = |shape: &LinearShape| {
            size_of_shape("working_bytes", &[bytes, shape.d_in, shape.d_out.max(shape.rows)])
        };
        let right = layers.iter().map(packed).max().unwrap_or(0);
        right as u64 + head::working_bytes(head, bytes)
    }

    /// One line for people: `2 threads, AVX-512 bf16, bf16 products`.
    pub fn describe(&self) -> String {
        let CpuOptions { threads, precision, level } = self.options;
        let plural = if threads == 1 { "" } else { "s" };
        let precision = match precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        };
        format!("{threads} thread{plural}, {level}, {precision} products")
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_itself() {
        let cpu = Cpu::new(CpuOptions { threads: 3, precision: Precision::Bf16, level: Level::Portable });
        assert_eq!(cpu.describe(), "3 threads, portable, bf16 products");
    }

    #[test]
    fn the_default_uses_what_there_is() {
        let options = Cpu::default().options();
        assert_eq!(options.level, Level::detect());
        assert_eq!(options.precision, Precision::F32);
    }
}
