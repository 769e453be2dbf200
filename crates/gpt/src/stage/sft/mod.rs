//! Supervised fine-tuning: a language model learns to answer from demonstrations (Ouyang et al. 2022, §3.5).
//!
//! The loss is the mean negative log-likelihood of the assistant's tokens and what ends its answers; the rest
//! of a conversation is read and not predicted.

mod answers;

use super::lanes::{self, Lanes, MicroBatch, Untold, pieces};
use super::learner::Learner;
use super::memory::{Model, Needs};
use super::score::check_reward;
use super::settings::{Fit, Resolved, StageConfig, at_least_one, described, is_zero};
use super::training_loop::{
    self, Best, Cancel, Evaluation, Guessing, State, Step, Training, metrics, training_flops,
};
use super::{Ending, Init, Machine, StageSettings};
use crate::data::{Batch, Conversations, MixedWindows, Mixture, Prompter};
use crate::model::{Noise, Sequences};
use crate::objective::{cross_entropy, cross_entropy_derivatives};
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::train::run::Input;
use crate::train::{Frozen, LaneSums};
use anyhow::{Context, Result, ensure};
use kernels::{Backend, rng};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

described! {
    /// What is supervised fine-tuning's own in its recipe.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct SftSettings {
        /// How often every demonstration is seen.
        pub epochs: u64,
        /// Conversations of a step.
        pub batch_size: usize,
        /// The share of the loss that is the pretraining mix's; 0 for none.
        pub ptx_share: f64,
        /// What the square of the softmax's logarithmic denominator costs beside the cross entropy, as its mean over the tokens
        /// that count (PaLM's z-loss, 1e-4; Chowdhery et al. 2022); 0 for nothing.
        #[serde(default, skip_serializing_if = "is_zero")]
        pub z_loss: f64,
        /// Whether the run ends with its best state instead of the last: of the highest reward where there is
        /// a reward model, else of the lowest validation loss.
        pub select_best: bool,
        /// Tokens of an answer at most, where a reward model judges it.
        pub max_tokens: usize,
    }
}

impl StageConfig for SftSettings {
    const KEYS: &[(&str, &str)] = SftSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../../presets/stages/sft.toml");

    fn check(&self) -> Result<()> {
        at_least_one([("epochs", self.epochs), ("batch_size", self.batch_size as u64)])?;
        ensure!(self.max_tokens > 0, "max_tokens is 0: answers need tokens");
        ensure!(
            self.z_loss.is_finite() && self.z_loss >= 0.0,
            "z_loss is {}: it must not be negative",
            self.z_loss
        );
        ensure!((0.0..1.0).contains(&self.ptx_share), "ptx_share is {}: it is a share", self.ptx_share);
        Ok(())
    }
}

/// What to train, on what, and where to.
pub struct Options<'a> {
    /// The model to begin from, with its chat template.
    pub init: &'a Init,
    /// Demonstrations to learn from, and to validate with.
    pub train: &'a Conversations,
    /// Those to validate with.
    pub val: &'a Conversations,
    /// A reward model, whose mean score of answers to held-out conversations is measured and selects the best
    /// state, as in Ouyang et al. (2022).
    pub reward: Option<&'a Init>,
    /// Token shards of the pretraining mix, with their weights.
    pub ptx: Vec<(PathBuf, f64)>,
    /// The run directory.
    pub out: PathBuf,
    /// The recipe.
    pub settings: StageSettings<SftSettings>,
    /// Decides everything random.
    pub seed: u64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What every stage says of it.
    pub ending: Ending,
    /// The validation loss before the first step.
    pub before: Option<f64>,
    /// The validation loss of the state that the run ended with; none of a run that was stopped.
    pub after: Option<f64>,
}

/// Runs the recipe in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// Model and data do not fit together; the directory belongs to another recipe; training diverges.
pub fn sft<B: Backend>(
    backend: B,
    machine: &Machine,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let fit = Fit { stage: "sft", init: options.init, examples: options.train.per_epoch() as usize, machine };
    let mut settings = options.settings.fit(&fit, &options.out, progress)?;
    let judges = options.reward.map(|reward| reward.config(0.0));
    let frozen: Vec<Model<'_>> = judges.iter().map(Model::whole).collect();
    let (optim, mixes) = (&settings.optim, settings.own.ptx_share > 0.0);
    lanes::check(optim.lanes, &machine.ranks)?;
    let lanes = Lanes::new(optim.lanes).of(&machine.ranks).in_all(mixes);
    let config = options.init.config(0.0);
    let needs = Needs {
        trained: &[Model::of(options.init, &config).by(optim.optimizer)],
        frozen: &frozen,
        lanes,
        keep: optim.keep(),
    };
    settings.fit_memory(needs, machine, progress)?;
    let mut training = Sft::new(backend, options, &settings)?;
    training.learner.join(&machine.ranks);
    let mut recipe = settings.recipe("sft", options.seed, machine)?;
    options.init.record(&mut recipe, "init")?;
    for (key, data) in [("train", options.train), ("val", options.val)] {
        recipe.inputs.insert(key.into(), Input::new(data.source().unwrap_or(Path::new(key)), data.digest()));
    }
    if let Some((data, _)) = &training.ptx {
        recipe.inputs.insert("ptx".into(), Input::new(&data.parts()[0].path, data.digest()));
    }
    let (metric, highest) = match options.reward {
        Some(reward) => {
            reward.record(&mut recipe, "reward")?;
            ("val_reward", true)
        }
        None => ("val_loss", false),
    };
    let best = Best { metric, highest, at_the_end: settings.own.select_best };
    let epoch = options.train.epochs().steps(1, settings.own.batch_size);
    let pace = settings.optim.pace(training.steps, epoch, best);
    let mut ending =
        training_loop::train(&options.out, &recipe, pace, options.seed, machine, &mut training, progress)?;
    let after = ending.evaluated(machine, progress, &mut training)?;
    let before = ending.before("val_loss");
    Ok(Outcome { ending, before, after: after.and_then(|after| after.figure("val_loss")) })
}

struct Sft<'a, B: Backend> {
    options: &'a Options<'a>,
    settings: &'a Resolved<SftSettings>,
    learner: Learner<'a, B>,
    prompter: Prompter<&'a Tokenizer>,
    reward: Option<Frozen<B>>,
    ptx: Option<(Mixture, MixedWindows)>,
    steps: u64,
    batch: Batch,
    derivatives: Vec<f64>,
}

impl<'a, B: Backend> Sft<'a, B> {
    fn new(backend: B, options: &'a Options<'a>, settings: &'a Resolved<SftSettings>) -> Result<Self> {
        let (Options { init, train, seed, .. }, optim, own) = (options, &settings.optim, &settings.own);
        let config = init.language_config(optim.dropout as f32)?;
        let ptx = (own.ptx_share > 0.0).then(|| {
            let data =
                Mixture::open(&options.ptx).context("ptx_share is above 0: name its data with --ptx")?;
            init.check(data.tokenizer(), data.vocab_size())?;
            let windows = data.windows(config.seq_len, *seed)?;
            anyhow::Ok((data, windows))
        });
        let mut learner = Learner::new(backend, init, config, *seed, optim, train.digest())?;
        learner.trainer.z_loss = own.z_loss as f32;
        let mut reward = None;
        if let Some(judge) = options.reward {
            check_reward(judge, init)?;
            let config = judge.config(0.0);
            let weights = judge.weights(&mut learner.backend, &config, *seed)?;
            reward = Some(Frozen::new(&mut learner.backend, config, weights));
        }
        Ok(Sft {
            prompter: Prompter::new(learner.tokenizer)?,
            learner,
            reward,
            ptx: ptx.transpose()?,
            steps: optim.steps.unwrap_or(train.epochs().steps(own.epochs, own.batch_size)),
            options,
            settings,
            batch: Batch::default(),
            derivatives: Vec::new(),
        })
    }

    /// The gradient of `weight` times the mean loss of the batch, of which nothing is left out; returns that
    /// mean's pieces and its number of targets. `first_row` rows of the step come before it.
    fn accumulate(&mut self, step: u64, lanes: &Lanes, weight: f64, first_row: u64) -> (Untold, usize) {
        let Self { learner, batch, derivatives, options, settings, .. } = self;
        let Learner { backend, trainer, .. } = learner;
        let counted = batch.predictions();
        let seed = rng::bits(options.seed, streams::SFT_DROPOUT, step);
        let mut untold = Untold::default();
        for MicroBatch { lane, examples } in
            lanes.cut(batch.lens.iter().copied(), settings.optim.micro_batch_tokens)
        {
            let part = batch.part(examples);
            cross_entropy_derivatives(derivatives, part.targets, counted);
            derivatives.iter_mut().for_each(|derivative| *derivative *= weight);
            let noise = Some(Noise { seed, first_row: first_row + part.first_row as u64 });
            let rows = Sequences { tokens: part.tokens, lens: part.lens, noise };
            trainer.accumulate(backend, rows, part.targets, derivatives, lane);
            untold.push(lane, part.lens);
        }
        (untold, counted)
    }

    /// Mean loss of the assistant's tokens in held-out conversations.
    fn validate(&mut self, cancel: Cancel<'_>) -> Result<f64> {
        let Self { learner: Learner { backend, trainer, .. }, options, settings, .. } = self;
        let mut batch = Batch::default();
        (0..options.val.per_epoch()).for_each(|i| options.val.push(i, &mut batch));
        let counted = batch.predictions();
        let lanes = Lanes::new(settings.optim.lanes).of(trainer.ranks());
        let mut sums = LaneSums::default();
        for MicroBatch { lane, examples } in
            lanes.cut(batch.lens.iter().copied(), settings.optim.micro_batch_tokens)
        {
            cancel.check()?;
            let part = batch.part(examples);
            let rows = Sequences { tokens: part.tokens, lens: part.lens, noise: None };
            let logprobs = trainer.evaluate(backend, rows, part.targets);
            for piece in pieces(lane, part.lens) {
                sums.add(lane, [cross_entropy(&logprobs[piece], counted)]);
            }
        }
        let [loss] = sums.total(trainer.ranks());
        Ok(loss)
    }
}

impl<B: Backend> Training for Sft<'_, B> {
    fn step(&mut self, step: u64, _: Cancel<'_>) -> Result<Step> {
        let own = &self.settings.own;
        self.options.train.batch(step, own.batch_size, &mut self.batch);
        let mut tokens = self.batch.tokens.len() as u64;
        let mut flops = training_flops(&self.learner.trainer, tokens, own.batch_size);
        let ranks = self.learner.trainer.ranks().clone();
        let lanes = Lanes::new(self.settings.optim.lanes).of(&ranks);
        let (demonstrated, counted) = self.accumulate(step, &lanes, 1.0 - own.ptx_share, 0);
        let mut mixed_in = None;
        if let Some((_, windows)) = &mut self.ptx {
            let sequences = (own.ptx_share * own.batch_size as f64).ceil() as usize;
            windows.batch(step, 0..sequences, sequences, &mut self.batch)?;
            let demonstrations = tokens;
            let ptx_tokens = self.batch.tokens.len() as u64;
            tokens += ptx_tokens;
            flops += training_flops(&self.learner.trainer, ptx_tokens, sequences);
            // The tree of all demonstrations is one of the two halves: with other ranks it is summed first.
            let Learner { backend, trainer, .. } = &mut self.learner;
            if ranks.size() > 1 {
                trainer.set_aside(backend);
            }
            mixed_in = Some(self.accumulate(step, &lanes.besides(), own.ptx_share, demonstrations));
            let Learner { backend, trainer, .. } = &mut self.learner;
            if ranks.size() > 1 {
                trainer.take_back(backend);
            }
        }
        let optim = &self.settings.optim;
        let lr = optim.schedule(self.steps).at(step);
        Ok(self.learner.update(&optim.optimizer(), lr, None, |mut logprobs| {
            let [loss] = demonstrated.sum(&ranks, &mut logprobs, |piece| [cross_entropy(piece, counted)]);
            let mut metrics = metrics([("loss", loss.into())]);
            if let Some((mixed_in, counted)) = mixed_in {
                let [loss] = mixed_in.sum(&ranks, &mut logprobs, |piece| [cross_entropy(piece, counted)]);
                metrics.insert("ptx/loss".to_owned(), loss.into());
            }
            let columns = vec![format!("loss {loss:.4}")];
            Step { metrics, columns, loss: Some(loss), tokens, flops, ..Step::default() }
        }))
    }

    fn evaluate(&mut self, cancel: Cancel<'_>) -> Result<Evaluation> {
        let loss = self.validate(cancel)?;
        let mut line = format!("loss {loss:.4}, perplexity {:.2}", loss.exp());
        let mut metrics = vec![("val_loss", loss)];
        if let Some(reward) = self.mean_reward(cancel)? {
            metrics.push(("val_reward", reward));
            line += &format!(", reward {reward:.3}");
        }
        Ok(Evaluation { metrics, line })
    }

    fn samples(&mut self) -> Result<Vec<(String, String)>> {
        self.answer_samples()
    }

    fn state(&mut self) -> &mut dyn State {
        &mut self.learner
    }

    fn begin(&mut self, progress: &dyn Progress, cancel: Cancel<'_>) -> Result<Option<Evaluation>> {
        let Options { train, val, .. } = self.options;
        progress.line(&format!(
            "{} parameters; {} demonstrations with {} tokens to learn, {} held out",
            self.learner.trainer.config.parameters(),
            train.per_epoch(),
            train.predictions(),
            val.per_epoch()
        ));
        let before = self.validate(cancel)?;
        Ok(Some(Evaluation { metrics: vec![("val_loss", before)], line: format!("loss {before:.4}") }))
    }

    fn guessing(&self) -> Option<Guessing> {
        Some(Guessing::Nats((self.learner.trainer.config.vocab_size as f64).ln()))
    }
}
