//! How a pretraining begins, and what is printed of it.

use super::begin::{MICRO_BATCH_TOKENS, Start};
use super::data::Data;
use super::key_words::key_tokens;
use super::{Evaluation, Learner, Machine, Options, Pretraining};
use crate::data::Batch;
use crate::eval::Likelihood;
use crate::model::Sampling;
use crate::progress::Progress;
use crate::stage::settings;
use crate::stage::training_loop::Cancel;
use crate::tokenizer::Tokenizer;
use crate::train::run::Recipe;
use anyhow::{Context, Result};
use kernels::Backend;

impl<'a, B: Backend> Pretraining<'a, B> {
    /// The first state of a run on `data`, of a model with `tokenizer`.
    pub(super) fn new(
        backend: B,
        options: &'a Options,
        pass_tokens: usize,
        data: Data,
        tokenizer: &'a Tokenizer,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let settings = &options.settings;
        let val_windows = data.val_windows(settings, progress)?;
        let key_tokens = key_tokens(settings, data.tokenizer(), progress)?;
        let config = options.start.config(settings, &data)?;
        let origin = options.start.origin(options.seed, settings.optimizer);
        let mut learner =
            Learner::from_origin(backend, origin, config, tokenizer, settings.dtype, data.digest())?;
        learner.trainer.z_loss = settings.z_loss as f32;
        learner.keep(settings.keep());
        Ok(Pretraining {
            options,
            pass_tokens,
            learner,
            data,
            val_windows,
            key_tokens,
            validation: None,
            batch: Batch::default(),
            derivatives: Vec::new(),
            progress,
        })
    }

    /// What the run is: the model, the data, and how good the model is that it begins from.
    pub(super) fn introduce(
        &mut self,
        progress: &dyn Progress,
        cancel: Cancel<'_>,
    ) -> Result<Option<Evaluation>> {
        progress.line(&format!("{} parameters", self.learner.trainer.config.parameters()));
        self.data.introduce(&self.options.settings, progress);
        if self.options.start.init().is_none() {
            return Ok(None);
        }
        Ok(Some(evaluation(&self.validate(cancel)?)))
    }

    /// Continues a few held-out beginnings with the weights as they are.
    pub(super) fn sample(&mut self) -> Result<Vec<(String, String)>> {
        const BEGINNING: usize = 24;
        const TOKENS: usize = 40;
        let beginning = |tokens: &Vec<u32>| tokens[..BEGINNING.min(tokens.len() / 2).max(1)].to_vec();
        let prompts = [0, self.val_windows.len() / 2].map(|i| beginning(&self.val_windows[i].tokens));
        let sampling = Sampling { temperature: 0.8, top_k: 40, top_p: 1.0, seed: self.options.seed };
        let (vocab_size, stop) = (self.data.vocab_size(), self.data.end_of_text());
        self.learner.samples(prompts.into(), vocab_size, TOKENS, sampling, &[stop])
    }
}

/// A validation as the training loop keeps it.
pub(super) fn evaluation(v: &Likelihood) -> Evaluation {
    let (loss, perplexity, bits) = (v.loss(), v.perplexity(), v.bits_per_byte());
    Evaluation {
        metrics: vec![("val_loss", loss), ("val_bpb", bits)],
        line: format!("loss {loss:.4}, perplexity {perplexity:.2}, {bits:.4} bits per byte"),
    }
}

/// The resolved recipe as it is stored.
pub(super) fn recipe(
    options: &Options,
    micro_batch_tokens: usize,
    machine: &Machine,
    data: &Data,
) -> Result<Recipe> {
    let mut settings =
        toml::Table::try_from(&options.settings).context("the settings are not a TOML table")?;
    match &options.start {
        Start::Random(shape) => {
            settings.extend(toml::Table::try_from(shape).context("the shape is not a TOML table")?)
        }
        Start::Model { continue_optimizer, .. } => {
            settings.insert("continue_optimizer".into(), (*continue_optimizer).into());
        }
    }
    settings.insert(MICRO_BATCH_TOKENS.into(), toml::Value::Integer(micro_batch_tokens as i64));
    // A processor sums sequence by sequence, however they are cut.
    let cut = if machine.device == "cpu" { settings.remove(MICRO_BATCH_TOKENS) } else { None };
    let mut recipe = settings::recipe("pretrain", settings, options.seed, machine)?;
    recipe.runtime.extend(cut.map(|tokens| (MICRO_BATCH_TOKENS.to_owned(), tokens)));
    data.record(&mut recipe)?;
    if let Some(init) = options.start.init() {
        init.record(&mut recipe, "init")?;
    }
    Ok(recipe)
}
