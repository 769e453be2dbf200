//! What a reward model thinks of answers.

use super::episodes::{Episode, Rows, passes};
use crate::data::{Candidates, Prompter};
use crate::model::{Config, Weights};
use crate::progress::{Progress, Stopped, Unit};
use crate::train::Frozen;
use anyhow::{Context, Result, bail, ensure};
use kernels::Backend;

/// The reward of every answer of every item.
///
/// # Errors
/// A prompt cannot be rendered; an answer does not fit the context; somebody asked to stop.
pub fn score<B: Backend>(
    b: &mut B,
    config: Config,
    weights: Weights<B::Tensor>,
    prompter: &Prompter<'_>,
    items: &[Candidates],
    progress: &dyn Progress,
) -> Result<Vec<Vec<f64>>> {
    let context = config.seq_len;
    let mut model = Frozen::new(b, config, weights);
    let mut episodes = Vec::new();
    for (number, item) in (1..).zip(items) {
        let prompt = prompter.prompt(&item.messages).with_context(|| format!("item {number}"))?;
        for text in &item.completions {
            let episode = Episode::new(&prompt, &prompter.answer(text));
            let len = episode.tokens.len();
            ensure!(len <= context, "item {number}: {len} tokens do not fit the context of {context}");
            episodes.push(episode);
        }
    }
    let mut rewards = Vec::with_capacity(episodes.len());
    progress.begin("score", episodes.len() as u64, Unit::Count);
    for run in passes(episodes.iter().map(|episode| episode.tokens.len())) {
        if progress.should_stop() {
            bail!(Stopped("not everything was scored"));
        }
        progress.advance(run.len() as u64);
        let rows = Rows::of(&episodes[run]);
        let scores = model.scores(b, rows.sequences(), &rows.last);
        rewards.extend(scores.iter().map(|&score| f64::from(score)));
    }
    progress.end();
    let mut rewards = rewards.into_iter();
    Ok(items.iter().map(|item| rewards.by_ref().take(item.completions.len()).collect()).collect())
}
