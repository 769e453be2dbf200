//! Pretraining: maximise `Σ log P(uᵢ | uᵢ₋ₖ … uᵢ₋₁)` over a corpus of tokens (Radford et al. 2018, eq. 1).
//!
//! Step `s` is a pure function of the recipe, the data and the state after step `s - 1`, so a run that is interrupted
//! and started again ends with the same bits.

mod begin;
mod journal;
mod state;

pub use begin::{Init, Start};

use super::Settings;
use crate::data::{Batch, Exposure, MixedWindows, Mixture, ValWindow};
use crate::eval::{Likelihood, likelihood};
use crate::model::{Noise, Sequences};
use crate::objective::{cross_entropy, cross_entropy_derivatives};
use crate::progress::{Progress, Unit};
use crate::train::run::{EventKind, RunDir};
use crate::train::{Trainer, Update};
use anyhow::{Result, bail};
use kernels::{Backend, rng};
use std::path::PathBuf;
use std::time::Instant;

/// Rows of a micro-batch, at most, where a sequence is not longer: what a pass keeps for the backward pass grows with it.
const MICRO_BATCH_ROWS: usize = 4096;

/// After so many steps in a row whose loss or gradient was not finite, training returns to the last checkpoint.
const BAD_STEPS_IN_A_ROW: u32 = 3;

/// What to train, on what, and where to.
pub struct Options {
    /// Directories of token shards and their weights in a batch.
    pub data: Vec<(PathBuf, f64)>,
    /// The run directory.
    pub out: PathBuf,
    /// The resolved recipe.
    pub settings: Settings,
    /// Decides everything random.
    pub seed: u64,
    /// Where the weights come from.
    pub start: Start,
}

/// The machine that trains, for the report and for utilisation.
#[derive(Clone, Debug)]
pub struct Machine {
    /// One line about it.
    pub description: String,
    /// The precision of products, which decides results: `f32` or `bf16`.
    pub precision: String,
    /// Measured peak of products in that precision, in floating-point operations a second.
    pub peak_flops: f64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps done.
    pub step: u64,
    /// Whether somebody stopped it before its last step; its state is saved.
    pub stopped: bool,
    /// The validation of the model that the run began from; none for random weights and in later sittings.
    pub before: Option<Likelihood>,
    /// The validation after the last step; none where it was not due.
    pub validation: Option<Likelihood>,
    /// How much of each part of the data a whole run sees.
    pub exposure: Vec<Exposure>,
    /// The page about the run.
    pub report: PathBuf,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Data or model do not fit the recipe; the directory belongs to another recipe; the disk is full; training diverges.
pub fn pretrain<B: Backend>(
    backend: B,
    machine: &Machine,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let mut training = Pretraining::open(backend, machine, options, progress)?;
    let steps = options.settings.steps;
    progress.begin("pretrain", steps, Unit::Count);
    progress.advance(training.step);
    while training.step < steps && !progress.should_stop() {
        training.next_step(progress)?;
        progress.advance(1);
    }
    progress.end();
    training.close(progress)
}

/// A run in progress.
struct Pretraining<'a, B: Backend> {
    options: &'a Options,
    machine: &'a Machine,
    data: Mixture,
    windows: MixedWindows,
    val_windows: Vec<ValWindow>,
    trainer: Trainer<B>,
    run: RunDir,
    recipe_digest: String,
    /// Steps done.
    step: u64,
    /// The last step that is in a checkpoint.
    saved: Option<u64>,
    bad_steps: u32,
    /// The checkpoint that training last returned to.
    rolled_back_to: Option<u64>,
    /// Held-out likelihood of the model that the run began from.
    before: Option<Likelihood>,
    /// Held-out likelihood after the last step, where it was due.
    validation: Option<Likelihood>,
    batch: Batch,
    derivatives: Vec<f64>,
}

impl<B: Backend> Pretraining<'_, B> {
    /// One optimizer step, and whatever falls due after it.
    fn next_step(&mut self, progress: &dyn Progress) -> Result<()> {
        let began = Instant::now();
        let step = self.step + 1;
        let settings = &self.options.settings;
        let loss = self.accumulate(step)?;
        let lr = settings.schedule().at(step);
        let update = self.trainer.update(&settings.optimizer(), lr, loss);
        let seconds = began.elapsed().as_secs_f64();
        self.step = step;

        let due = |every: u64| every > 0 && (step.is_multiple_of(every) || step == settings.steps);
        self.validation = if due(settings.eval_every) { Some(self.validate()) } else { None };
        self.log(step, loss, lr, update, seconds, progress)?;
        if due(settings.sample_every) {
            self.sample(progress)?;
        }
        self.judge(update, progress)?;
        // Not within a streak of bad steps: a run that continues from here must count them as this one does.
        if due(settings.checkpoint_every) && self.bad_steps == 0 {
            self.save()?;
        }
        Ok(())
    }

    /// The gradient of the step's mean loss, micro-batch by micro-batch.
    fn accumulate(&mut self, step: u64) -> Result<f64> {
        let settings = &self.options.settings;
        let (sequences, seq_len) = (settings.sequences(), settings.seq_len);
        let at_once = (MICRO_BATCH_ROWS / seq_len).clamp(1, sequences);
        let counted = sequences * self.windows.predictions();
        let noise_seed = rng::bits(self.options.seed, NOISE, step);
        let mut loss = 0.0;
        for first in (0..sequences).step_by(at_once) {
            let batch = &mut self.batch;
            self.windows.batch(step, first..sequences.min(first + at_once), sequences, batch)?;
            cross_entropy_derivatives(&mut self.derivatives, &batch.targets, counted);
            let noise = Noise { seed: noise_seed, first_row: (first * seq_len) as u64 };
            let rows = Sequences { tokens: &batch.tokens, lens: &batch.lens, noise: Some(noise) };
            let logprobs = self.trainer.accumulate(rows, &batch.targets, &self.derivatives, seq_len);
            for sequence in logprobs.chunks(seq_len) {
                loss += cross_entropy(sequence, counted);
            }
        }
        Ok(loss)
    }

    /// Held-out likelihood over fixed windows.
    fn validate(&mut self) -> Likelihood {
        let trainer = &mut self.trainer;
        likelihood(&self.val_windows, |window, targets| trainer.evaluate(window, targets).iter().sum())
    }

    /// Notes a step that was left out; too many in a row, and training returns to the last checkpoint, so that it goes
    /// on from there with the data that comes next.
    fn judge(&mut self, update: Update, progress: &dyn Progress) -> Result<()> {
        if update.applied {
            self.bad_steps = 0;
            return Ok(());
        }
        self.bad_steps += 1;
        let detail = format!("gradient norm {}: weights and moments stay as they were", update.grad_norm);
        progress.line(&format!("step {} skipped: {detail}", self.step));
        self.event(EventKind::SkippedStep, detail)?;
        if self.bad_steps < BAD_STEPS_IN_A_ROW {
            return Ok(());
        }
        self.bad_steps = 0;
        let back_to = match self.restore(progress)? {
            Some(step) => step,
            None => {
                self.begin_again()?;
                0
            }
        };
        if self.rolled_back_to == Some(back_to) {
            bail!(
                "training does not recover: twice from step {back_to}, {BAD_STEPS_IN_A_ROW} steps in a row had no finite \
                 loss and gradient; try a lower learning rate (--lr) or a longer warm-up (--set warmup_steps=…)"
            );
        }
        self.rolled_back_to = Some(back_to);
        progress.line(&format!(
            "back to the state after step {back_to}, on with the data of step {}",
            self.step + 1
        ));
        Ok(())
    }
}

/// The stream of random numbers that dropout's seeds come from.
const NOISE: u64 = 1;
