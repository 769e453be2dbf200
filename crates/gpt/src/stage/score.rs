//! What a reward model thinks of answers.

use super::Init;
use super::episodes::{Episode, Rows};
use super::lanes::passes;
use crate::data::{Candidates, Prompter};
use crate::model::{Config, Weights};
use crate::progress::{Progress, Stopped, Unit};
use crate::stage::training_loop::Cancel;
use crate::tokenizer::Tokenizer;
use crate::train::Frozen;
use anyhow::{Context, Result, bail, ensure};
use kernels::Backend;
use std::path::Path;

/// Episodes between two looks at whether to stop.
const AT_ONCE: usize = 256;

/// The reward of every answer of every item.
///
/// # Errors
/// A prompt cannot be rendered; an answer does not fit the context; a reward is not finite; somebody asked to
/// stop.
pub fn score<B: Backend>(
    b: &mut B,
    config: Config,
    weights: Weights<B::Tensor>,
    prompter: &Prompter<&Tokenizer>,
    items: &[Candidates],
    progress: &dyn Progress,
) -> Result<Vec<Vec<f64>>> {
    Scorer::new(b, config, weights).score(b, prompter, items, progress)
}

/// A reward model that is asked again and again.
pub struct Scorer<B: Backend> {
    model: Frozen<B>,
    context: usize,
}

impl<B: Backend> Scorer<B> {
    /// Takes over a reward model.
    pub fn new(b: &mut B, config: Config, weights: Weights<B::Tensor>) -> Self {
        let context = config.seq_len;
        Scorer { model: Frozen::new(b, config, weights), context }
    }

    /// As [`score`].
    ///
    /// # Errors
    /// Those of [`score`].
    pub fn score(
        &mut self,
        b: &mut B,
        prompter: &Prompter<&Tokenizer>,
        items: &[Candidates],
        progress: &dyn Progress,
    ) -> Result<Vec<Vec<f64>>> {
        let context = self.context;
        let mut episodes = Vec::new();
        for (number, item) in (1..).zip(items) {
            let prompt = prompter
                .prompt_with(&item.messages, item.extra.get("tools"))
                .with_context(|| format!("item {number}"))?;
            for text in &item.completions {
                let episode = Episode::new(&prompt, &prompter.answer(text));
                let len = episode.tokens.len();
                ensure!(len <= context, "item {number}: {len} tokens do not fit the context of {context}");
                episodes.push(episode);
            }
        }
        let mut found = Vec::with_capacity(episodes.len());
        progress.begin("score", episodes.len() as u64, Unit::Count);
        for some in episodes.chunks(AT_ONCE) {
            if progress.should_stop() {
                bail!(Stopped("not everything was scored"));
            }
            found.extend(rewards(&mut self.model, b, some, Cancel::never())?);
            progress.advance(some.len() as u64);
        }
        progress.end();
        let mut rewards = found.into_iter();
        let of = |(number, item): (usize, &Candidates)| {
            let found: Vec<f64> = rewards.by_ref().take(item.completions.len()).collect();
            let bad = found.iter().zip(1..).find(|(reward, _)| !reward.is_finite());
            ensure!(
                bad.is_none(),
                "item {number}: {}",
                bad.map(|(reward, answer)| overflow(*reward, answer)).unwrap_or_default()
            );
            Ok(found)
        };
        (1..).zip(items).map(of).collect()
    }
}

fn overflow(reward: f64, answer: usize) -> String {
    format!(
        "the reward of answer {answer} is {reward}: the model's weights are finite, but what it computes from them overflows, so \
         that it cannot be used"
    )
}

/// The reward of each episode.
pub(super) fn rewards<B: Backend>(
    model: &mut Frozen<B>,
    b: &mut B,
    episodes: &[Episode],
    cancel: Cancel<'_>,
) -> Result<Vec<f64>> {
    let most = model.config.pass_tokens();
    at_last_tokens(episodes, most, cancel, |rows| model.scores(b, rows.sequences(), &rows.last).to_vec())
}

/// The scores of episodes, read at their last tokens; `scores` makes a pass over at most `most` tokens.
pub(super) fn at_last_tokens<'e>(
    episodes: impl IntoIterator<Item = &'e Episode>,
    most: usize,
    cancel: Cancel<'_>,
    mut scores: impl FnMut(&Rows) -> Vec<f32>,
) -> Result<Vec<f64>> {
    let episodes: Vec<&Episode> = episodes.into_iter().collect();
    let mut found = Vec::with_capacity(episodes.len());
    for run in passes(episodes.iter().map(|episode| episode.tokens.len()), most) {
        cancel.check()?;
        found.extend(scores(&Rows::of(episodes[run].iter().copied())).into_iter().map(f64::from));
    }
    Ok(found)
}

/// Refuses a reward model that gives no single score, or reads other tokens than the policy writes.
pub(super) fn check_reward(reward: &Init, policy: &Init) -> Result<()> {
    let n_label = reward.model().config.n_label;
    let within = Path::new(reward.name()).join("reward");
    ensure!(
        n_label == Some(1),
        "{} is no reward model ({}): {}",
        reward.name(),
        reward.model().architecture(),
        match within.is_dir() {
            true => format!("that of this road is {}", within.display()),
            false => "train one with `mynah reward`".into(),
        }
    );
    let same = match (reward.tokenizer(), policy.tokenizer()) {
        (Some(a), Some(b)) => a.same_tokens(b),
        _ => false,
    };
    let answers =
        |init: &Init| init.tokenizer().is_some_and(|own| own.chat_template().is_ok_and(|t| t.is_some()));
    ensure!(
        same || answers(policy) || !answers(reward),
        "{} has not learned to answer, and {} judges answers: teach it with `mynah sft`, or give the model that the reward model \
         was trained from",
        policy.name(),
        reward.name()
    );
    ensure!(
        same,
        "{} and {} have different tokenizers: train the reward model from the same model as the policy",
        reward.name(),
        policy.name()
    );
    Ok(())
}
