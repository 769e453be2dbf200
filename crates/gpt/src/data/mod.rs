//! Documents become tokens, and tokens become batches.
//!
//! [`tokenize`] is the map over the data set: it writes a directory of token shards, NumPy arrays that any program can
//! load, with the tokenizer beside them. [`TokenShards`] opens it, and [`Windows`] cuts batches out of it. The one idea:
//! **a batch is a function of the seed and the step.** Nothing is stepped or stored, so a run may stop anywhere and
//! continue anywhere, and micro-batches may be cut anywhere.

mod fim;
mod mixture;
mod npy;
mod permutation;
mod shards;
mod stream;
#[cfg(test)]
mod tests;
mod tokenize;
mod val;
mod windows;

pub use fim::{Cut, Fim};
pub use mixture::{Exposure, MixedWindows, Mixture, Part};
pub use permutation::Permutation;
pub use shards::{Kept, Lost, Meta, TokenFile, TokenShards};
pub use stream::{BLOCK_TOKENS, Mark, StreamOptions, TokenStream};
pub use tokenize::{Overflow, TokenizeOptions, tokenize};
pub use val::ValWindow;
pub use windows::{Batch, Windows};
