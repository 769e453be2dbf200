//! Pretraining: maximise `Σ log P(uᵢ | uᵢ₋ₖ … uᵢ₋₁)` over a corpus of tokens (Radford et al. 2018, eq. 1).
//!
//! Step `s` is a pure function of the recipe, the data and the state after step `s - 1`, so a run that is
//! interrupted and started again ends with the same bits.

mod begin;
mod data;
mod key_words;
mod state;

pub use begin::Start;
pub use data::Source;

use super::lanes::{self, Lanes, MicroBatch, Untold};
use super::learner::Learner;
use super::memory::{Model, Needs};
use super::training_loop::{self, Cancel, Evaluation, Guessing, Machine, State, Step, Training, metrics};
use super::{Ending, Settings};
use crate::checkpoint::{About, Checkpoint};
use crate::data::{Batch, Exposure, ValWindow};
use crate::eval::{Likelihood, likelihood_over};
use crate::model::{Noise, Sequences};
use crate::objective::{KeyTokens, cross_entropy, cross_entropy_derivatives};
use crate::progress::Progress;
use crate::streams;
use anyhow::Result;
use data::Data;
use kernels::{Backend, rng};
use std::iter::repeat_n;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to train, on what, and where to.
pub struct Options {
    /// Where the tokens come from.
    pub source: Source,
    /// The run directory.
    pub out: PathBuf,
    /// The resolved recipe.
    pub settings: Settings,
    /// Decides everything random.
    pub seed: u64,
    /// Where the weights come from.
    pub start: Start,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What every stage says of it.
    pub ending: Ending,
    /// The validation after the last step; none where it was not due.
    pub validation: Option<Likelihood>,
    /// How much of each part of the data a whole run sees.
    pub exposure: Vec<Exposure>,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Data or model do not fit the recipe; the directory belongs to another recipe; the disk is full; training
/// diverges.
pub fn pretrain<B: Backend>(
    backend: B,
    machine: &Machine,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Outcome> {
    lanes::check(options.settings.lanes, &machine.ranks)?;
    let data = Data::open(options, progress)?;
    let config = options.start.config(&options.settings, &data)?;
    let settings = &options.settings;
    let trained = options.start.init().map_or(Model::whole(&config), |init| Model::of(init, &config));
    let trained = trained.by(settings.optimizer);
    let own_lanes = Lanes::new(settings.lanes).of(&machine.ranks).in_all(false);
    let needs = Needs { trained: &[trained], frozen: &[], lanes: own_lanes, keep: settings.keep() };
    let micro_batch_tokens = begin::micro_batch_tokens(options, needs, machine, progress)?;
    let pass_tokens = settings.whole_windows(micro_batch_tokens);
    needs.check(pass_tokens, machine)?;
    let recipe = state::recipe(options, micro_batch_tokens, machine, &data)?;
    let of_data = Arc::clone(data.tokenizer());
    let tokenizer = options.start.tokenizer(&of_data);
    let mut training = Pretraining::new(backend, options, pass_tokens, data, tokenizer, progress)?;
    training.learner.join(&machine.ranks);
    let pace = options.settings.pace();
    let ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let exposure = training.data.exposure(&options.settings);
    Ok(Outcome { ending, validation: training.validation, exposure })
}

/// A pretraining in progress.
struct Pretraining<'a, B: Backend> {
    options: &'a Options,
    /// Tokens that go through the model at once.
    pass_tokens: usize,
    learner: Learner<'a, B>,
    data: Data,
    val_windows: Vec<ValWindow>,
    key_tokens: KeyTokens,
    /// The newest held-out likelihood.
    validation: Option<Likelihood>,
    batch: Batch,
    derivatives: Vec<f64>,
    progress: &'a dyn Progress,
}

impl<B: Backend> Training for Pretraining<'_, B> {
    fn step(&mut self, step: u64, _: Cancel<'_>) -> Result<Step> {
        let settings = &self.options.settings;
        let (untold, weights) = self.accumulate(step)?;
        let (lr, tokens) = (settings.schedule().at(step), settings.batch_tokens as u64);
        let counted = settings.sequences() * self.data.predictions(settings);
        let flops = tokens as f64 * self.learner.trainer.config.training_flops_per_token();
        self.validation = None;
        let ranks = self.learner.trainer.ranks().clone();
        let mut done = self.learner.update(&settings.optimizer(), lr, None, |mut logprobs| {
            let mut weights = weights.into_iter();
            // That of key tokens weighted, and the same without their weights.
            let [loss, plain_loss] = untold.sum(&ranks, &mut logprobs, |sequence| {
                let share = cross_entropy(sequence, counted);
                [weights.next().unwrap_or(1.0) * share, share]
            });
            Step {
                metrics: metrics([("loss", loss.into())]),
                columns: vec![format!("loss {loss:.4}")],
                loss: Some(plain_loss),
                tokens,
                flops,
                ..Step::default()
            }
        });
        done.metrics.insert("tokens".into(), (step * tokens).into());
        Ok(done)
    }

    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        let validation = self.validate(cancel)?;
        self.validation = Some(validation);
        Ok(state::evaluation(&validation))
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        self.sample()
    }

    fn state(&mut self) -> &mut dyn State {
        &mut self.learner
    }

    fn save(&mut self, dir: &Path, about: About) -> Result<()> {
        self.learner.save(dir, About { data_position: self.data.position()?, ..about })
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let manifest = checkpoint.manifest.as_ref();
        self.data.go_on(manifest.and_then(|manifest| manifest.about.data_position.as_ref()))?;
        self.learner.restore(checkpoint)
    }

    fn begin(&mut self, progress: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>> {
        self.introduce(progress, cancel)
    }

    fn guessing(&self) -> Option<Guessing> {
        Some(Guessing::Nats((self.learner.trainer.config.vocab_size as f64).ln()))
    }
}

impl<B: Backend> Pretraining<'_, B> {
    /// The gradient of the step's mean loss, micro-batch by micro-batch of this rank's lanes. Returns that
    /// loss's pieces, and the weight of every sequence in it.
    fn accumulate(&mut self, step: u64) -> Result<(Untold, Vec<f64>)> {
        let settings = &self.options.settings;
        let (sequences, seq_len) = (settings.sequences(), settings.seq_len);
        let counted = sequences * self.data.predictions(settings);
        let noise_seed = rng::bits(self.options.seed, streams::PRETRAIN_DROPOUT, step);
        let (mut untold, mut weights) = (Untold::default(), Vec::with_capacity(sequences));
        let windows = repeat_n(seq_len, sequences);
        let lanes = Lanes::new(settings.lanes).of(self.learner.trainer.ranks());
        for MicroBatch { lane, examples } in lanes.cut(windows, self.pass_tokens) {
            let Self { learner, data, batch, derivatives, key_tokens, progress, .. } = self;
            let Learner { backend, trainer, .. } = learner;
            let (first, lane) = (examples.start, lane.by_sequence());
            data.batch(step, examples, sequences, batch, *progress)?;
            cross_entropy_derivatives(derivatives, &batch.targets, counted);
            key_tokens.weigh(derivatives, &batch.tokens, seq_len);
            let noise = Noise { seed: noise_seed, first_row: (first * seq_len) as u64 };
            let rows = Sequences { tokens: &batch.tokens, lens: &batch.lens, noise: Some(noise) };
            trainer.accumulate(backend, rows, &batch.targets, derivatives, lane);
            untold.push(lane, &batch.lens);
            weights.extend(batch.tokens.chunks(seq_len).map(|tokens| key_tokens.weight(tokens)));
        }
        if self.learner.trainer.ranks().size() > 1 {
            // A stream then stands where it would after the whole step, whoever read what of it.
            self.data.batch(step, sequences - 1..sequences, sequences, &mut self.batch, self.progress)?;
        }
        Ok((untold, weights))
    }

    /// Held-out likelihood over fixed windows, of which each rank measures some.
    fn validate(&mut self, cancel: Cancel<'_>) -> Result<Likelihood> {
        let Self { learner: Learner { backend, trainer, .. }, val_windows, .. } = self;
        let ranks = trainer.ranks().clone();
        likelihood_over(&ranks, val_windows, |window, targets| {
            cancel.check()?;
            Ok(trainer.evaluate(backend, window, targets).iter().sum())
        })
    }
}
