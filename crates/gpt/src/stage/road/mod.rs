//! Whole roads in one command: every stage after the other, each in a directory of its own under one, skipped or continued when
//! the command runs again.
//!
//! [`chat_road`] walks from the built-in lessons to a chat that people like better after every stage; [`code_road`] from source code that
//! lies on the machine to a model that completes it; [`tasks_road`] from built-in texts and tasks to a model that does with a text what
//! task tokens say.

mod budget;
mod chat;
mod code;
mod compare;
mod dir;
mod held_out;
mod scale;
mod tasks;

pub use budget::Budget;
pub use chat::{ChatOptions, ChatOutcome, chat_road};
pub use code::{CodeOptions, CodeOutcome, code_road};
pub use scale::{DEFAULT_SCALE, SCALES};
pub use tasks::{TasksOptions, TasksOutcome, tasks_road};

use crate::progress::Progress;
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result};
use dir::RoadDir;
use std::path::Path;

/// Trains a tokenizer in the directory `out`, unless it is there.
fn train_tokenizer(
    out: &Path,
    texts: impl Iterator<Item = Result<String>> + Send,
    vocab_size: usize,
    special: &[String],
    progress: &dyn Progress,
) -> Result<Tokenizer> {
    if out.join("tokenizer.json").exists() {
        return Tokenizer::from_dir(out);
    }
    let tokenizer = Tokenizer::train(texts, vocab_size, special, progress)?;
    // Under its name only when it is whole: what is there is taken for finished when the road is walked again.
    let unfinished = out.with_extension("unfinished");
    tokenizer.save(&unfinished)?;
    std::fs::rename(&unfinished, out)
        .with_context(|| format!("cannot rename {} to {}", unfinished.display(), out.display()))?;
    Ok(tokenizer)
}
