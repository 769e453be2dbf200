#![doc = include_str!("../README.md")]
//!
//! The arithmetic of a GPT: every operation, forward and backward, behind one trait.
//!
//! * [`Backend`]: the trait. What an operation computes is said there, once.
//! * [`Reference`]: `f64` and naive loops: the executable specification.
//! * [`Cpu`]: `f32` in memory, products in `f32` or bfloat16, SIMD level chosen at run time.
//! * [`Either`]: one of two backends, chosen when a program runs.
//! * [`rng`]: counter-based random numbers, so that a mask can be made again instead of stored.
//!
//! This crate knows nothing about models, files or training; with `kernels-cuda` it is the only one with `unsafe`.

pub mod backend;
pub mod cpu;
pub mod draw;
mod either;
mod reference;
pub mod rng;
pub mod shapes;

pub use backend::Backend;
pub use cpu::{Cpu, CpuOptions, CpuTensor, Level, Precision};
pub use draw::{Draw, Drawn, TokenLogprob, all_finite};
pub use either::Either;
pub use reference::{F64Tensor, Reference};
pub use shapes::{AdamW, AttentionShape, CacheSpan, Dropout, HeadShape, LinearShape, NO_TARGET, Parameter};
