#![doc = include_str!("../README.md")]

pub mod dealt;
pub mod eval;
pub mod report;
pub mod stage;
pub mod tools;

// The modules of other crates, so that each has one name: `crate::corpus` here, `gpt::corpus` for users.
pub use lm::{chat, checkpoint, complete, model, objective, plan, train};
pub use text::{corpus, data, hub, nearest, numbers, output, progress, streams, tokenizer};
pub use {lessons, sandbox};
