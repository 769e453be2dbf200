//! Rankings as a model reads them: the answers of a prompt as tokens, and the pairs that their ranks make.

use super::episodes::{Episode, Rows};
use super::lanes::{Lanes, MicroBatch};
use super::sides::Sides;
use crate::data::{Epochs, Prompter, Ranking};
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::train::Lane;
use crate::train::run::Input;
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// A prompt with its answers.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    /// The prompt with each answer.
    pub(super) episodes: Vec<Episode>,
    /// Pairs (better, worse) of them.
    pub(super) pairs: Vec<(usize, usize)>,
    /// The rank of each answer; 1 is best.
    pub(super) ranks: Vec<u32>,
    /// By how much the better answer of a pair is to be ahead; only of use to a reward model.
    pub(super) margin: f64,
}

impl Ranked {
    /// Its best answers; none where all are equally good.
    pub(super) fn best(&self) -> impl Iterator<Item = usize> {
        let best = self.ranks.iter().min().filter(|_| !self.pairs.is_empty());
        (0..self.ranks.len()).filter(move |at| Some(&self.ranks[*at]) == best)
    }

    /// The tokens of its answers, each with the prompt.
    fn tokens(&self) -> usize {
        self.episodes.iter().map(|episode| episode.tokens.len()).sum()
    }
}

/// Rankings to learn from and rankings to measure with.
#[derive(Clone, Debug)]
pub struct Rankings {
    pub(super) sides: Sides<Ranked>,
}

impl Rankings {
    /// The same, read from this file: where a run's recipe looks for them.
    pub fn read_from(self, path: &Path) -> Self {
        Rankings { sides: self.sides.read_from(path) }
    }

    /// The rankings as what a run reads.
    pub(super) fn input(&self) -> Input {
        self.sides.input("rankings")
    }

    /// Makes tokens of rankings. About `fraction` of the prompts is held out, unless `held_out` has some. A ranking of
    /// which an answer does not fit the `context` is left out, and `progress` hears of it.
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
        let sides = Sides::new(train, held_out, fraction, |number, ranking: &Ranking| {
            let prompt = prompter
                .prompt_with(&ranking.messages, ranking.extra.get("tools"))
                .with_context(|| format!("the prompt of ranking {number}"))?;
            let answer = |text: &String| Episode::new(&prompt, &prompter.answer(text));
            let episodes: Vec<Episode> = ranking.completions.iter().map(answer).collect();
            let fits = episodes.iter().all(|episode| episode.tokens.len() <= context);
            let ranked = fits.then(|| Ranked {
                episodes,
                pairs: ranking.pairs(),
                ranks: ranking.ranks.clone(),
                margin: ranking.margin(),
            });
            Ok((prompt, ranked))
        })?;
        let too_long = sides.too_long;
        if too_long > 0 {
            progress.line(&format!(
                "{too_long} rankings have an answer that does not fit the context of {context} tokens and are left out"
            ));
        }
        ensure!(
            !sides.train.is_empty() && !sides.held_out.is_empty(),
            "{} rankings to learn from and {} to measure with, of {} that there are{}: both are needed; give more rankings, or some \
             with --val",
            sides.train.len(),
            sides.held_out.len(),
            train.len() + held_out.len(),
            if too_long > 0 {
                format!(", of which {too_long} do not fit the context of {context} tokens")
            } else {
                String::new()
            }
        );
        Ok(Rankings { sides })
    }

    /// How many there are to learn from, and how many are held out.
    pub fn counts(&self) -> (usize, usize) {
        self.sides.counts()
    }

    /// Tells these rankings from others.
    pub fn digest(&self) -> &str {
        &self.sides.digest
    }

    /// The order in which they are visited.
    pub(super) fn epochs(&self, seed: u64) -> Epochs {
        self.sides.epochs(seed, streams::RANKINGS)
    }

    /// The rankings of a step, counted from 1.
    pub(super) fn batch(&self, step: u64, batch_size: usize, seed: u64) -> Vec<&Ranked> {
        self.sides.batch(step, batch_size, &self.epochs(seed))
    }
}

/// Some rankings of a batch, which go through a model together.
pub(super) struct RankedRows<'a> {
    pub(super) lane: Lane,
    /// The tokens of the batch that come before.
    pub(super) first_row: u64,
    pub(super) rows: Rows,
    pub(super) rankings: Vec<&'a Ranked>,
}

/// Whole rankings as micro-batches of at most `most` tokens.
pub(super) fn rows<'a>(batch: &[&'a Ranked], lanes: &Lanes, most: usize) -> Vec<RankedRows<'a>> {
    let rows = |MicroBatch { lane, examples }: MicroBatch| {
        let (first_row, rankings) = (tokens(&batch[..examples.start]), batch[examples].to_vec());
        let rows = Rows::of(rankings.iter().flat_map(|ranked| &ranked.episodes));
        RankedRows { lane, first_row, rows, rankings }
    };
    lanes.cut(batch.iter().map(|ranked| ranked.tokens()), most).into_iter().map(rows).collect()
}

/// The tokens of all answers and their prompts.
pub(super) fn tokens(batch: &[&Ranked]) -> u64 {
    batch.iter().map(|ranked| ranked.tokens() as u64).sum()
}

/// The pairs of all rankings.
pub(super) fn pairs(batch: &[&Ranked]) -> usize {
    batch.iter().map(|ranked| ranked.pairs.len()).sum()
}
