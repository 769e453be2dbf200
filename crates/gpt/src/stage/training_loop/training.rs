//! What the loop asks of a stage: a step, an evaluation, samples, and the state that checkpoints hold.

use super::cancel::Cancel;
use super::sound::finite;
use crate::checkpoint::{About, Checkpoint};
use crate::model::Config;
use crate::progress::Progress;
use crate::train::Trainer;
use anyhow::Result;
use kernels::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// What a stage is.
pub(in crate::stage) trait Training {
    /// One step, counted from 1: changes the state, or leaves it as it is and says so.
    ///
    /// # Errors
    /// [`Stopped`](crate::progress::Stopped) by `cancel`, before anything was changed.
    fn step(&mut self, step: u64, cancel: Cancel<'_>) -> Result<Step>;

    /// Measures the state on held-out data.
    ///
    /// # Errors
    /// [`Stopped`](crate::progress::Stopped) by `cancel`.
    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation>;

    /// Prompts and what the model makes of them, as people read them; those of one prompt in a row.
    fn samples(&mut self) -> Result<Vec<(String, String)>>;

    /// What a step changes.
    fn state(&mut self) -> &mut dyn State;

    /// See [`State::save`].
    fn save(&mut self, dir: &Path, about: About) -> Result<()> {
        self.state().save(dir, about)
    }

    /// See [`State::gather`].
    fn gather(&mut self) {
        self.state().gather();
    }

    /// See [`State::restore`].
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.state().restore(checkpoint)
    }

    /// See [`State::restart`].
    fn restart(&mut self) -> Result<()> {
        self.state().restart()
    }

    /// Called once, before the first step of a new run. Returns what was measured of the model that training
    /// begins from.
    fn begin(&mut self, progress: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>>;

    /// What guessing costs in the measure of the loss; none where no loss tells how well the model does.
    fn guessing(&self) -> Option<Guessing>;
}

/// What a step changes, as checkpoints hold it.
pub(in crate::stage) trait State {
    /// Writes the checkpoint `dir`; `about` knows step, seed and evaluation.
    fn save(&mut self, dir: &Path, about: About) -> Result<()>;

    /// Brings what ranks have in parts to the first one, which alone [saves](Self::save) it. All ranks call it.
    fn gather(&mut self) {}

    /// Takes the state of a checkpoint that [`save`](Self::save) wrote.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()>;

    /// Goes back to the state before the first step.
    fn restart(&mut self) -> Result<()>;
}

/// What a step did.
#[derive(Default, Serialize, Deserialize)]
pub(in crate::stage) struct Step {
    /// For `metrics.jsonl`.
    pub(in crate::stage) metrics: Map<String, Value>,
    /// For people, from the most to the least needed.
    pub(in crate::stage) columns: Vec<String>,
    /// The mean loss of its batch, in the measure of the held-out `val_loss`; none where there is no such
    /// measure.
    pub(in crate::stage) loss: Option<f64>,
    /// Tokens that went through the model, and the floating-point operations that they cost.
    pub(in crate::stage) tokens: u64,
    pub(in crate::stage) flops: f64,
    /// Why nothing changed, where something was not finite.
    pub(in crate::stage) skipped: Option<String>,
    /// Why it exploded, where the stage can tell.
    pub(in crate::stage) exploded: Option<String>,
    /// Some of what the model wrote in it, for `rollouts.jsonl`.
    pub(in crate::stage) rollouts: Vec<Map<String, Value>>,
    /// Why this is the last step, where it is before the recipe's.
    pub(in crate::stage) ended: Option<String>,
}

/// Figures by name, as metrics are kept.
pub(in crate::stage) fn metrics<'n>(
    figures: impl IntoIterator<Item = (&'n str, Value)>,
) -> Map<String, Value> {
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Floating-point operations of learning from `sequences` sequences with `tokens` tokens in all.
pub(in crate::stage) fn training_flops<B: Backend>(
    trainer: &Trainer<B>,
    tokens: u64,
    sequences: usize,
) -> f64 {
    let len = tokens as f64 / sequences.max(1) as f64;
    // Beside an adapter, matrices that stay as they are have no gradients: one of three products.
    let passes = if trainer.weights.adapter.is_some() { 2.0 / 3.0 } else { 1.0 };
    passes * tokens as f64 * trainer.config.training_flops_per_token_of(len)
}

/// Floating-point operations of a pass without gradients: a third of one with them.
pub(in crate::stage) fn reading_flops(config: &Config, tokens: u64, sequences: usize) -> f64 {
    let len = tokens as f64 / sequences.max(1) as f64;
    tokens as f64 / 3.0 * config.training_flops_per_token_of(len)
}

/// What a loss is where nothing is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::stage) enum Guessing {
    /// In nats: the logarithm of the number of choices.
    Nats(f64),
    /// The mean square of what is wanted.
    Squares(f64),
}

/// A measurement on held-out data.
#[derive(Clone, Debug, Default)]
pub(in crate::stage) struct Evaluation {
    /// By name, such as `val_loss`.
    pub(in crate::stage) metrics: Vec<(&'static str, f64)>,
    /// For people.
    pub(in crate::stage) line: String,
}

impl Evaluation {
    /// A figure, if it was measured.
    pub(in crate::stage) fn figure(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|figure| figure.0 == name).map(|figure| figure.1)
    }

    /// The figures of the state that a run ends with.
    ///
    /// # Errors
    /// One of them is not finite.
    pub(in crate::stage) fn finite(self) -> Result<Map<String, Value>> {
        self.metrics
            .into_iter()
            .map(|(name, value)| Ok((name.to_owned(), finite(name, value)?.into())))
            .collect()
    }
}

/// When things are due. What is 0 is never due; the last step is due for everything else.
#[derive(Clone, Copy, Debug)]
pub(in crate::stage) struct Pace {
    pub(in crate::stage) steps: u64,
    pub(in crate::stage) eval_every: u64,
    pub(in crate::stage) checkpoint_every: u64,
    pub(in crate::stage) sample_every: u64,
    /// Checkpoints that are kept, besides the best one.
    pub(in crate::stage) keep_last: usize,
    /// The step whose state is saved and kept whatever else is.
    pub(in crate::stage) kept: Option<u64>,
    /// Which checkpoint is the best.
    pub(in crate::stage) best: Best,
}

impl Pace {
    /// Whether the state after a step is saved, though it is not the last one: what is saved besides, as somebody stopped
    /// the run, must not decide which state is the best.
    pub(in crate::stage) fn saves(&self, step: u64) -> bool {
        self.checkpoint_every > 0 && step.is_multiple_of(self.checkpoint_every) || self.kept == Some(step)
    }
}

/// Which checkpoint is the best.
#[derive(Clone, Copy, Debug)]
pub(in crate::stage) struct Best {
    /// The metric of an evaluation that tells.
    pub(in crate::stage) metric: &'static str,
    /// Whether more is better.
    pub(in crate::stage) highest: bool,
    /// Whether a run ends with the best state instead of the last.
    pub(in crate::stage) at_the_end: bool,
}

/// The value of a metric with the fewest digits that tell it: `f32` has seven.
pub(in crate::stage) fn shortest(x: f32) -> Value {
    x.to_string().parse::<f64>().unwrap_or(f64::from(x)).into()
}
