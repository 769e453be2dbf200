#![doc = include_str!("../README.md")]
//!
//! The operations of a GPT on an NVIDIA GPU: [`Cuda`], a second [`Backend`](kernels::Backend).
//!
//! * [`device`]: what an operation asks of a GPU: memory, launches, products. [`Driver`] is the GPU itself,
//!   opened at run time; tests put an emulator in its place. [`Nccl`] links it with those of other processes.
//! * `queue`: operations that wait to be handed over together, and graphs of those that come again; `pool`: memory that
//!   is given out again.
//! * `memory`: tensors and lists there. `ops`: which kernels an operation is made of. `backend`: which
//!   function does what.
//! * `kernels/*.cu`: the kernels, in CUDA C++, which come compiled for three chips, and as PTX for others.
//!
//! What differs from the processor: on one card the same calls give the same bits, and no more than that. The
//! bits of a row may depend on how many rows a product has, for cuBLASLt takes another algorithm for another
//! shape; and gradients of weights are summed over all rows of a call at once, so that how a step is cut into
//! micro-batches decides bits.

mod backend;
mod compiled;
mod cuda;
pub mod device;
mod driver;
mod memory;
mod nccl;
mod ops;
mod pool;
mod products;
mod queue;
mod source;

pub use cuda::Cuda;
pub use driver::{Driver, Missing};
pub use memory::{CudaIds, CudaScalars, CudaTensor};
pub use nccl::{Nccl, Watch};
pub use source::{SOURCES, source};
