//! Whole roads in one command: every stage after the other, each in a directory of its own under one, skipped or continued when
//! the command runs again.
//!
//! [`chat_road`] walks from the built-in lessons to a chat that people like better after every stage; [`code_road`] from source code that
//! lies on the machine to a model that completes it; [`tasks_road`] from built-in texts and tasks to a model that does with a text what
//! task tokens say.

mod chat;
mod code;
mod compare;
mod held_out;
mod scale;
mod tasks;

pub use chat::{ChatOptions, ChatOutcome, chat_road};
pub use code::{CodeOptions, CodeOutcome, TRAINING_SECS, code_road};
pub use scale::{DEFAULT_SCALE, SCALES};
pub use tasks::{TasksOptions, TasksOutcome, tasks_road};

use crate::model::{self, Activations, Config, Gradients, HeadDerivatives, Sequences, Targets};
use crate::progress::Progress;
use crate::report;
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result};
use kernels::Backend;
use std::path::Path;
use std::time::Instant;

/// Runs stages and remembers how long each took.
struct Road<'a> {
    stages: Vec<report::Stage>,
    /// How many there are.
    total: usize,
    progress: &'a dyn Progress,
}

impl<'a> Road<'a> {
    fn new(total: usize, progress: &'a dyn Progress) -> Self {
        Road { stages: Vec::new(), total, progress }
    }

    /// Runs the next stage, which tells what came out.
    fn stage(&mut self, name: &str, work: impl FnOnce() -> Result<String>) -> Result<()> {
        let (number, total, began) = (self.stages.len() + 1, self.total, Instant::now());
        self.progress.line(&format!("{number}/{total} {name} …"));
        let note = work().with_context(|| format!("the stage `{name}` failed"))?;
        let secs = began.elapsed().as_secs_f64();
        self.progress.line(&format!("{number}/{total} {name}: {note} ({secs:.1} s)"));
        self.stages.push(report::Stage { name: name.into(), secs, note });
        Ok(())
    }
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
    // Under its name only when it is whole: what is there is taken for finished when the road is walked again.
    let unfinished = out.with_extension("unfinished");
    tokenizer.save(&unfinished)?;
    std::fs::rename(&unfinished, out)
        .with_context(|| format!("cannot rename {} to {}", unfinished.display(), out.display()))?;
    Ok(tokenizer)
}

/// Tokens a second of training on this machine, the best of three passes after a first one.
fn tokens_per_sec<B: Backend>(b: &mut B, c: &Config) -> f64 {
    let weights = model::init(b, c, 0);
    let (mut a, mut g) = (Activations::new(b, c), Gradients::new(b, c));
    let lens = vec![c.seq_len; 8];
    let tokens: Vec<u32> = (0..8 * c.seq_len).map(|i| (i % c.vocab_size) as u32).collect();
    let batch = Sequences { tokens: &tokens, lens: &lens, noise: None };
    let derivatives = vec![-1.0 / tokens.len() as f64; tokens.len()];
    let mut logprobs = vec![0.0; tokens.len()];
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let began = Instant::now();
        model::forward(b, c, &weights, &mut a, batch);
        let derivatives = HeadDerivatives::by_logprobs(&derivatives);
        let targets = Targets::new(&tokens);
        model::head_backward(b, c, &weights, &mut g, &a, targets, derivatives, &mut logprobs, c.seq_len);
        model::backward(b, c, &weights, &mut g, &a, batch, c.seq_len);
        best = best.min(began.elapsed().as_secs_f64());
    }
    tokens.len() as f64 / best
}
