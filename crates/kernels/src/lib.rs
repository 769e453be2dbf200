#![doc = include_str!("../README.md")]
//!
//! The arithmetic of a GPT: every operation, forward and backward, behind one trait.
//!
//! * [`Backend`]: the trait. What an operation computes is said there, once.
//! * [`Reference`]: `f64` and naive loops: the executable specification.
//! * [`Cpu`]: `f32` in memory, products in `f32` or bfloat16, SIMD level chosen at run time.
//! * [`Distil`]: what is learned from another model's distributions, which not every backend has.
//! * [`Either`]: one of two backends, chosen when a program runs.
//! * [`rng`]: counter-based random numbers, so that a mask can be made again instead of stored.
//!
//! This crate knows nothing about models, files or training; with `kernels-cuda` it is the only one with `unsafe`.

pub mod backend;
mod blocks;
pub mod cpu;
mod distil;
pub mod draw;
mod either;
mod newton_schulz;
mod reference;
pub mod rng;
pub mod shapes;

pub use backend::Backend;
pub use blocks::{Band, BlockFormat, BlockMatrix, NF4};
pub use cpu::{Cpu, CpuOptions, CpuTensor, Level, Precision};
pub use distil::Distil;
pub use draw::{Draw, Drawn, TokenLogprob, all_finite};
pub use either::Either;
pub use newton_schulz::{newton_schulz, newton_schulz_flops};
pub use reference::{F64Tensor, Reference};
pub use shapes::{
    AdamW, AttentionShape, CacheSpan, DistilShape, Dropout, HeadShape, LinearShape, NO_TARGET, Parameter,
    StoredShape,
};
