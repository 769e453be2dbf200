//! Documents become tokens, and tokens become batches.
//!
//! [`tokenize`] is the map over the data set: it writes a directory of token shards, NumPy arrays that any
//! program can load, with the tokenizer beside them; [`tokenize_tasks`] makes such a directory of rows that
//! say what is asked ([`TaskRow`]). [`TokenShards`] opens it, and [`Windows`] cuts batches out of it. Files
//! of conversations are read line by line ([`rows`], [`messages`]); [`Conversations`] are batches of them.
//! The one idea: **a batch is a function of the seed and the step.** Nothing is stepped or stored, so a run
//! may stop anywhere and continue anywhere, and micro-batches may be cut anywhere.

mod cells;
mod columns;
mod conversations;
mod epochs;
mod fim;
mod held_out;
mod labelled;
pub mod messages;
mod mixture;
mod npy;
mod permutation;
mod prompter;
pub mod rows;
mod shards;
mod stream;
mod tasks;
#[cfg(test)]
mod tests;
mod tokenize;
mod val;
mod windows;

pub use columns::Columns;
pub use conversations::{Conversations, ReadOptions, Sequence, TooLong};
pub use epochs::Epochs;
pub use fim::{Cut, Fim};
pub use held_out::is_held_out;
pub use labelled::{Form, Label, Labelled, NoGold, answer_of};
pub use messages::{Candidates, Demonstration, Judged, Prompt, Ranking};
pub use mixture::{Exposure, MixedWindows, Mixture, Part};
pub use permutation::Permutation;
pub use prompter::Prompter;
pub use shards::{Kept, Lost, Meta, TokenFile, TokenShards};
pub use stream::{BLOCK_TOKENS, Mark, StreamOptions, TokenStream};
pub use tasks::TaskRow;
pub use tokenize::{Overflow, TokenizeOptions, TokenizeTasksOptions, tokenize, tokenize_tasks};
pub use val::ValWindow;
pub use windows::{Batch, BatchPart, Windows};
