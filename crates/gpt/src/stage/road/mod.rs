//! Whole roads in one command: every stage after the other, each in a directory of its own under one, skipped
//! or continued when the command runs again.
//!
//! [`chat_road`] walks from the built-in lessons to a chat that people like better after every stage;
//! [`code_road`] from source code that lies on the machine to a model that completes it; [`tasks_road`] from
//! built-in texts and tasks to a model that does with a text what task tokens say.

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

use crate::corpus;
use crate::data::{self, Overflow, TokenizeOptions};
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result};
use std::path::Path;

/// Makes the road's corpus of the text among its lessons, and says what there is.
fn lessons_corpus(
    road: &Path,
    val_fraction: f64,
    seed: u64,
    threads: usize,
    progress: &dyn Progress,
) -> Result<String> {
    let options = corpus::Options {
        paths: vec![road.join("lessons").join("text.jsonl")],
        out: road.join("corpus"),
        text_fields: vec!["text".into()],
        // The lessons repeat themselves as children's books do.
        dedup: false,
        val_fraction,
        seed,
        threads,
        ..corpus::Options::default()
    };
    Ok(kept(&corpus::build(&options, progress)?))
}

/// What a corpus has.
fn kept(report: &corpus::Report) -> String {
    format!("{:.1} MB in {} documents", report.kept.bytes as f64 / 1e6, report.kept.documents)
}

/// Makes token shards of the road's corpus, and says what there is.
fn tokenize(road: &Path, progress: &dyn Progress) -> Result<String> {
    let options = TokenizeOptions {
        corpus: road.join("corpus"),
        tokenizer: road.join("tokenizer").join("tokenizer.json"),
        out: road.join("tokens"),
        overflow: Overflow::Pack,
        ..TokenizeOptions::default()
    };
    let meta = data::tokenize(&options, progress)?;
    let per_token = meta.train.bytes as f64 / meta.train.tokens as f64;
    Ok(format!("{} for training, {per_token:.2} bytes each", meta.train.tokens))
}

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
    // Under its name only when it is whole: what is there is taken for finished when the road is walked
    // again.
    let unfinished = out.with_extension("unfinished");
    tokenizer.save(&unfinished)?;
    std::fs::rename(&unfinished, out)
        .with_context(|| format!("cannot rename {} to {}", unfinished.display(), out.display()))?;
    Ok(tokenizer)
}
