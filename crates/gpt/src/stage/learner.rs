//! The model that a stage trains: where it begins, its optimizer, and what its checkpoints say.
//!
//! All stages but one train one model. PPO trains two beside two that are only read, and keeps a state of
//! its own.

use super::training_loop::{State, Step, shortest};
use super::{Init, OptimConfig};
use crate::checkpoint::{About, Checkpoint, Dtype};
use crate::model::{self, Config, Engine, Keep, Method, Request, Sampling, Weights};
use crate::tokenizer::Tokenizer;
use crate::train::{Optimizer, Trainer, Update};
use anyhow::{Result, ensure};
use kernels::Backend;
use ranks::Ranks;
use std::ops::ControlFlow;
use std::path::Path;

/// A model in training.
pub(super) struct Learner<'a, B: Backend> {
    pub(super) backend: B,
    pub(super) trainer: Trainer<B>,
    pub(super) tokenizer: &'a Tokenizer,
    origin: Origin<'a>,
    dtype: Dtype,
    data_digest: String,
}

/// Where training begins.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// At this model, or at random weights.
    pub(super) init: Option<&'a Init>,
    /// Whether the model's optimizer goes on, or a fresh one begins.
    pub(super) continue_optimizer: bool,
    /// Decides the random weights.
    pub(super) seed: u64,
    /// What learns it.
    pub(super) method: Method,
}

impl<'a> Origin<'a> {
    /// The model whose optimizer goes on.
    fn optimized(self) -> Option<&'a Init> {
        self.init.filter(|_| self.continue_optimizer)
    }

    /// The first weights of a model of shape `config` with a fresh optimizer.
    fn weights<B: Backend>(self, b: &mut B, config: &Config) -> Result<Weights<B::Tensor>> {
        match self.init {
            Some(init) => init.weights(b, config, self.seed),
            None => Ok(model::init(b, config, self.seed)),
        }
    }
}

impl<'a, B: Backend> Learner<'a, B> {
    /// A model of shape `config` that begins at `init` with a fresh optimizer. Its checkpoints name their data by
    /// `data_digest`.
    ///
    /// # Errors
    /// `init` has no tokenizer, or its weights cannot be read.
    pub(super) fn new(
        backend: B,
        init: &'a Init,
        config: Config,
        seed: u64,
        optim: &OptimConfig,
        data_digest: String,
    ) -> Result<Self> {
        let &OptimConfig { optimizer: method, dtype, .. } = optim;
        let origin = Origin { init: Some(init), continue_optimizer: false, seed, method };
        let mut learner =
            Self::from_origin(backend, origin, config, init.needed_tokenizer()?, dtype, data_digest)?;
        learner.keep(optim.keep());
        Ok(learner)
    }

    /// The same from any origin, with the tokenizer that goes with the model.
    ///
    /// # Errors
    /// The weights or moments to begin from cannot be read; Muon for an adapter.
    pub(super) fn from_origin(
        mut backend: B,
        origin: Origin<'a>,
        config: Config,
        tokenizer: &'a Tokenizer,
        dtype: Dtype,
        data_digest: String,
    ) -> Result<Self> {
        let (b, method) = (&mut backend, origin.method);
        let adapter = origin.init.and_then(Init::adapter);
        ensure!(
            adapter.is_none() || method == Method::AdamW,
            "optimizer={method} learns the matrices of blocks, and beside --lora these stay as they are: leave one out"
        );
        let trainer = match origin.optimized() {
            Some(init) => {
                let (weights, moments, updates) = init.optimized(b, &config, method)?;
                Trainer::with_moments(method, b, config, weights, moments, updates)
            }
            None => {
                let weights = origin.weights(b, &config)?;
                Trainer::by(method, b, config, weights)
            }
        };
        Ok(Learner { backend, trainer, tokenizer, origin, dtype, data_digest })
    }

    /// From now on a pass keeps as much as is said.
    pub(super) fn keep(&mut self, keep: Keep) {
        self.trainer.keep(&mut self.backend, keep);
    }

    /// From now on `ranks` train it together.
    pub(super) fn join(&mut self, ranks: &Ranks) {
        self.trainer.join(&mut self.backend, ranks);
    }

    /// The end of a step: the accumulated gradient of `loss` changes the model, unless one of them is not
    /// finite. `step` says what was done, once it is told the step's log-probabilities; returned with what is
    /// said of the update.
    pub(super) fn update(
        &mut self,
        optimizer: &Optimizer,
        lr: f32,
        loss: Option<f64>,
        step: impl FnOnce(&[f64]) -> Step,
    ) -> Step {
        let Update { grad_norm, applied } = self.trainer.update(&mut self.backend, optimizer, lr, loss);
        let mut step = step(self.trainer.told());
        step.metrics.insert("lr".into(), shortest(lr));
        step.metrics.insert("grad_norm".into(), grad_norm.into());
        step.columns.push(format!("lr {lr:.1e}"));
        step.columns.push(format!("norm {grad_norm:.3}"));
        step.skipped = (!applied).then(|| format!("gradient norm {grad_norm}: nothing was changed"));
        step
    }

    /// Questions and the model's likeliest answers, as people read them.
    pub(super) fn answers(
        &mut self,
        prompts: Vec<Vec<u32>>,
        max_tokens: usize,
        seed: u64,
        stop_tokens: &[u32],
    ) -> Result<Vec<(String, String)>> {
        let greedy = Sampling { temperature: 0.0, seed, ..Sampling::default() };
        let questions = prompts.iter().map(|prompt| question(self.tokenizer, prompt));
        let questions = questions.collect::<Result<Vec<_>>>()?;
        let vocab_size = self.tokenizer.vocab_size();
        let texts = self.samples(prompts, vocab_size, max_tokens, greedy, stop_tokens)?;
        Ok(questions.into_iter().zip(texts.into_iter().map(|(_, answer)| answer)).collect())
    }

    /// Prompts and what the model makes of them with tokens below `vocab_size`, as texts.
    pub(super) fn samples(
        &mut self,
        prompts: Vec<Vec<u32>>,
        vocab_size: usize,
        max_tokens: usize,
        sampling: Sampling,
        stop_tokens: &[u32],
    ) -> Result<Vec<(String, String)>> {
        let request = |(number, prompt)| {
            let stop_tokens = stop_tokens.to_vec();
            Request { prompt, max_tokens, sampling, number, stop_tokens, ..Request::default() }
        };
        let requests: Vec<Request> = (0..).zip(prompts).map(request).collect();
        let longest = requests.iter().map(|request| request.prompt.len()).max().unwrap_or(1);
        let (b, trainer) = (&mut self.backend, &mut self.trainer);
        trainer.release_pass(b);
        let capacity = (longest + max_tokens).min(trainer.config.seq_len);
        let (config, weights, slots) = (&trainer.config, &trainer.weights, requests.len().max(1));
        let mut engine = Engine::with_capacity(b, config, weights, slots, capacity).limited_to(vocab_size);
        let generated = engine.generate(b, &requests, |_, _| ControlFlow::Continue(()))?;
        let texts = requests.iter().zip(generated).map(|(request, generated)| {
            Ok((self.tokenizer.decode(&request.prompt)?, self.tokenizer.decode(&generated.tokens)?))
        });
        texts.collect()
    }
}

/// What was asked, as people read it: on a line of its own, since an answer does not continue it.
pub(super) fn question(tokenizer: &Tokenizer, prompt: &[u32]) -> Result<String> {
    Ok(tokenizer.spoken(prompt)? + "\n")
}

impl<B: Backend> State for Learner<'_, B> {
    fn save(&mut self, dir: &Path, mut about: About) -> Result<()> {
        about.data_digest = Some(self.data_digest.clone());
        let about = match self.origin.init {
            Some(init) => init.begins(about),
            None => about,
        };
        self.trainer.save(&mut self.backend, dir, self.tokenizer, self.dtype, about)
    }

    fn gather(&mut self) {
        self.trainer.gather_moments(&mut self.backend);
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.trainer.restore(&mut self.backend, checkpoint)
    }

    fn restart(&mut self) -> Result<()> {
        let Learner { backend: b, trainer, origin, .. } = self;
        match origin.optimized() {
            Some(init) => {
                let (weights, moments, updates) = init.optimized(b, &trainer.config, origin.method)?;
                trainer.take_over(b, weights, moments, updates);
            }
            None => {
                let weights = origin.weights(b, &trainer.config)?;
                trainer.restart(b, weights);
            }
        }
        Ok(())
    }
}
