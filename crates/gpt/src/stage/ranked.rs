//! Rankings as a model reads them: the answers of a prompt as tokens, and the pairs that their ranks make.

use super::episodes::{Episode, Rows};
use super::lanes::{Lanes, MicroBatch};
use crate::data::{Epochs, Prompter, Ranking, is_held_out};
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::train::Lane;
use crate::train::run::Input;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// A prompt with its answers.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    /// The prompt with each answer.
    pub(super) episodes: Vec<Episode>,
    /// Pairs (better, worse) of them.
    pub(super) pairs: Vec<(usize, usize)>,
    /// The rank of each answer; 1 is best.
    pub(super) ranks: Vec<u32>,
}

/// Rankings to learn from and rankings to measure with.
#[derive(Clone, Debug, Default)]
pub struct Rankings {
    pub(super) train: Vec<Ranked>,
    pub(super) held_out: Vec<Ranked>,
    digest: String,
    source: Option<PathBuf>,
}

impl Rankings {
    /// The same, read from this file: where a run's recipe looks for them.
    pub fn read_from(self, path: &Path) -> Self {
        Rankings { source: Some(path.to_owned()), ..self }
    }

    /// The rankings as what a run reads.
    pub(super) fn input(&self) -> Input {
        Input::new(self.source.as_deref().unwrap_or(Path::new("rankings")), self.digest.clone())
    }

    /// Makes tokens of rankings. About `fraction` of the prompts is held out, unless `held_out` has some;
    /// which, the prompts themselves decide, so that rankings of one prompt stay together. A ranking of which
    /// an answer does not fit the `context` is left out, and `progress` hears of it.
    ///
    /// # Errors
    /// A prompt cannot be rendered; nothing is left on one of the two sides.
    pub fn new(
        train: &[Ranking],
        held_out: &[Ranking],
        fraction: f64,
        prompter: &Prompter<&Tokenizer>,
        context: usize,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut rankings = Rankings::default();
        let mut too_long = 0;
        let splits = held_out.is_empty();
        let all = train.iter().map(|ranking| (ranking, false));
        for (number, (ranking, given)) in (1..).zip(all.chain(held_out.iter().map(|r| (r, true)))) {
            let prompt = prompter
                .prompt_with(&ranking.messages, ranking.extra.get("tools"))
                .with_context(|| format!("the prompt of ranking {number}"))?;
            let answer = |text: &String| Episode::new(&prompt, &prompter.answer(text));
            let episodes: Vec<Episode> = ranking.completions.iter().map(answer).collect();
            if episodes.iter().any(|episode| episode.tokens.len() > context) {
                too_long += 1;
                continue;
            }
            let bytes: Vec<u8> = prompt.iter().flat_map(|token| token.to_le_bytes()).collect();
            hasher.update(&serde_json::to_vec(ranking)?);
            let held_out = given || splits && is_held_out(&bytes, fraction);
            let side = if held_out { &mut rankings.held_out } else { &mut rankings.train };
            side.push(Ranked { episodes, pairs: ranking.pairs(), ranks: ranking.ranks.clone() });
        }
        if too_long > 0 {
            progress.line(&format!(
                "{too_long} rankings have an answer that does not fit the context of {context} tokens and are left out"
            ));
        }
        ensure!(
            !rankings.train.is_empty() && !rankings.held_out.is_empty(),
            "{} rankings to learn from and {} to measure with, of {} that there are{}: both are needed; give more rankings, or some \
             with --val",
            rankings.train.len(),
            rankings.held_out.len(),
            train.len() + held_out.len(),
            if too_long > 0 {
                format!(", of which {too_long} do not fit the context of {context} tokens")
            } else {
                String::new()
            }
        );
        rankings.digest = hasher.finalize().to_hex().to_string();
        Ok(rankings)
    }

    /// How many there are to learn from, and how many are held out.
    pub fn counts(&self) -> (usize, usize) {
        (self.train.len(), self.held_out.len())
    }

    /// Tells these rankings from others.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The order in which they are visited.
    pub(super) fn epochs(&self, seed: u64) -> Epochs {
        Epochs::new(self.train.len() as u64, seed, streams::RANKINGS)
    }

    /// The rankings of a step, counted from 1.
    pub(super) fn batch(&self, step: u64, batch_size: usize, seed: u64) -> Vec<&Ranked> {
        self.epochs(seed).batch(step, batch_size).map(|i| &self.train[i as usize]).collect()
    }
}

/// Whole rankings as micro-batches of at most `most` tokens: the lane, the rows of their answers, and which of
/// `batch` they are.
pub(super) fn rows<'a>(
    batch: &[&'a Ranked],
    lanes: Lanes,
    most: usize,
) -> Vec<(Lane, Rows, Vec<&'a Ranked>)> {
    let lens = |ranked: &&Ranked| ranked.episodes.iter().map(|episode| episode.tokens.len()).sum();
    let rows = |MicroBatch { lane, examples }| {
        let rankings = batch[examples].to_vec();
        (lane, Rows::of(rankings.iter().flat_map(|ranked| &ranked.episodes)), rankings)
    };
    lanes.cut(batch.iter().map(lens), most).into_iter().map(rows).collect()
}
