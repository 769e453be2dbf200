//! The state of a run between sittings: how it begins, what a checkpoint holds, and what is told on the way.

use super::begin::{First, Start};
use super::data::Data;
use super::key_words::key_tokens;
use super::{Evaluation, Machine, Options, Pretraining};
use crate::checkpoint::About;
use crate::data::Batch;
use crate::eval::Likelihood;
use crate::model::{Engine, Request, Sampling};
use crate::progress::Progress;
use crate::stage::settings;
use crate::train::Trainer;
use crate::train::run::Recipe;
use anyhow::{Context, Result};
use kernels::Backend;
use std::ops::ControlFlow;
use std::path::Path;

impl<'a, B: Backend> Pretraining<'a, B> {
    /// The first state of a run on `data`.
    pub(super) fn new(
        mut backend: B,
        options: &'a Options,
        data: Data,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let settings = &options.settings;
        let val_windows = data.val_windows(settings, progress)?;
        let key_tokens = key_tokens(settings, data.tokenizer(), progress)?;
        let config = options.start.config(settings, &data)?;
        let trainer = match options.start.state(&mut backend, &config, options.seed)? {
            First::Fresh(weights) => Trainer::new(&mut backend, config, weights),
            First::Continued((weights, moments, updates)) => {
                Trainer::with_moments(&mut backend, config, weights, moments, updates)
            }
        };
        Ok(Pretraining {
            options,
            backend,
            data,
            val_windows,
            key_tokens,
            trainer,
            before: None,
            validation: None,
            batch: Batch::default(),
            derivatives: Vec::new(),
            progress,
        })
    }

    /// What the run is: the model, the data, and how good the model is that it begins from.
    pub(super) fn introduce(&mut self, progress: &dyn Progress) -> Option<Evaluation> {
        progress.line(&format!("{} parameters", self.trainer.config.parameters()));
        self.data.introduce(&self.options.settings, progress);
        self.options.start.init()?;
        let before = self.validate();
        self.before = Some(before);
        Some(evaluation(&before))
    }

    /// Writes a checkpoint.
    pub(super) fn save_to(&mut self, dir: &Path, about: About) -> Result<()> {
        let tokenizer = self.options.start.tokenizer(&self.data);
        let init = self.options.start.init();
        let about = init.map_or_else(|| about.clone(), |init| init.begins(about.clone()));
        let about =
            About { data_digest: Some(self.data.digest()), data_position: self.data.position()?, ..about };
        self.trainer.save(&mut self.backend, dir, tokenizer, self.options.settings.dtype, about)
    }

    /// Continues a few held-out beginnings with the weights as they are.
    pub(super) fn sample(&mut self) -> Result<Vec<(String, String)>> {
        const BEGINNING: usize = 24;
        const TOKENS: usize = 40;
        let stop = vec![self.data.end_of_text()];
        let picks = [0, self.val_windows.len() / 2].map(|i| &self.val_windows[i].tokens);
        let requests: Vec<Request> = (0..)
            .zip(picks)
            .map(|(number, tokens)| Request {
                prompt: tokens[..BEGINNING.min(tokens.len() / 2).max(1)].to_vec(),
                max_tokens: TOKENS,
                sampling: Sampling { temperature: 0.8, top_k: 40, top_p: 1.0, seed: self.options.seed },
                number,
                stop_tokens: stop.clone(),
            })
            .collect();
        self.trainer.release_pass(&mut self.backend);
        let Self { backend, trainer: Trainer { config, weights, .. }, data, .. } = self;
        let mut engine = Engine::new(backend, config, weights, requests.len()).limited_to(data.vocab_size());
        let generated = engine.generate(backend, &requests, |_, _| ControlFlow::Continue(()))?;
        let tokenizer = data.tokenizer();
        let texts = requests.iter().zip(generated).map(|(request, generated)| {
            Ok((tokenizer.decode(&request.prompt)?, tokenizer.decode(&generated.tokens)?))
        });
        texts.collect()
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
pub(super) fn recipe(options: &Options, machine: &Machine, data: &Data) -> Result<Recipe> {
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
    let micro_batch_tokens = settings.remove("micro_batch_tokens");
    let mut recipe = settings::recipe("pretrain", settings, options.seed, machine)?;
    recipe.runtime.extend(micro_batch_tokens.map(|tokens| ("micro_batch_tokens".to_owned(), tokens)));
    data.record(&mut recipe)?;
    if let Some(init) = options.start.init() {
        init.record(&mut recipe, "init")?;
    }
    Ok(recipe)
}
