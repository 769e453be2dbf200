//! The state of a run between sittings: how it begins, what a checkpoint holds, and how it goes on.

use super::begin::{First, Start};
use super::{Machine, Options, Outcome, Pretraining, journal};
use crate::checkpoint::{self, About, Contents};
use crate::data::{Batch, Exposure, Mixture};
use crate::model::{self, Weights};
use crate::progress::Progress;
use crate::report;
use crate::train::Trainer;
use crate::train::run::{CHECKPOINTS, Event, EventKind, Input, Recipe, RunDir};
use anyhow::{Context, Result, ensure};
use kernels::Backend;
use std::collections::BTreeMap;

impl<'a, B: Backend> Pretraining<'a, B> {
    /// Opens the run directory for the recipe and continues what is in it, or begins.
    pub(super) fn open(
        mut backend: B,
        machine: &'a Machine,
        options: &'a Options,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let settings = &options.settings;
        let data = Mixture::open(&options.data)?;
        let windows = data.windows(settings.seq_len, options.seed)?;
        let val_windows = data.val_windows(settings.eval_windows, settings.seq_len)?;
        let config = options.start.config(settings, &data)?;
        let recipe = recipe(options, machine, &data)?;
        let recipe_digest = blake3::hash(toml::to_string(&recipe.settings)?.as_bytes()).to_hex().to_string();
        let run = RunDir::open(&options.out, &recipe)?;
        let first = options.start.state(&mut backend, &config, options.seed)?;
        let mut training = Pretraining {
            trainer: Trainer::new(backend, config, first.weights),
            options,
            machine,
            data,
            windows,
            val_windows,
            run,
            recipe_digest,
            step: 0,
            saved: None,
            bad_steps: 0,
            rolled_back_to: None,
            before: None,
            validation: None,
            batch: Batch::default(),
            derivatives: Vec::new(),
        };
        if let Some(optimizer) = first.optimizer {
            training.take_over(optimizer);
        }
        training.resume(progress)?;
        Ok(training)
    }

    fn take_over(&mut self, (m, v, updates): (Weights<B::Tensor>, Weights<B::Tensor>, u64)) {
        (self.trainer.first_moment, self.trainer.second_moment) = (m, v);
        self.trainer.updates = updates;
    }

    /// Continues from the newest good checkpoint; without one, begins.
    fn resume(&mut self, progress: &dyn Progress) -> Result<()> {
        match self.restore(progress)? {
            Some(step) => {
                self.run.truncate_after(step)?;
                self.step = step;
                self.saved = Some(step);
                self.event(EventKind::Resumed, self.machine.description.clone())?;
                progress.line(&format!("continuing after step {step}"));
            }
            None => {
                self.run.restart()?;
                self.event(EventKind::Started, self.machine.description.clone())?;
                let parameters = self.trainer.config.parameters();
                progress.line(&format!("{parameters} parameters, {}", self.machine.description));
                self.describe_data(progress);
                if let Start::Model(init) = &self.options.start {
                    let before = self.validate();
                    self.before = Some(before);
                    progress.line(&format!(
                        "{} before training: {}",
                        init.name(),
                        journal::describe(&before)
                    ));
                }
            }
        }
        Ok(())
    }

    /// How much of each part of the data the run will see.
    fn describe_data(&self, progress: &dyn Progress) {
        for Exposure { path, share, epochs } in self.exposure() {
            let (percent, path) = (100.0 * share, path.display());
            progress
                .line(&format!("{percent:.0} % of every batch from {path}: {epochs:.2} epochs in this run"));
        }
    }

    fn exposure(&self) -> Vec<Exposure> {
        let settings = &self.options.settings;
        self.data.exposure(settings.steps * settings.sequences() as u64, settings.seq_len)
    }

    /// Loads the newest good checkpoint of the run and returns its step.
    pub(super) fn restore(&mut self, progress: &dyn Progress) -> Result<Option<u64>> {
        let newest = checkpoint::newest_good(&self.run.path().join(CHECKPOINTS))?;
        for damaged in newest.damaged {
            progress.line(&format!("not used: {damaged}"));
            self.event(EventKind::DamagedCheckpoint, damaged)?;
        }
        let Some((path, manifest)) = newest.found else { return Ok(None) };
        let checkpoint = checkpoint::open(&path, progress)?;
        ensure!(
            checkpoint.config == self.trainer.config,
            "{} holds a model of another shape than this run's recipe",
            path.display()
        );
        let b = &mut self.trainer.backend;
        let weights = checkpoint.exact_weights(checkpoint::to_backend(b))?;
        let moments = checkpoint.moments(checkpoint::to_backend(b))?;
        let (m, v) = moments.with_context(|| format!("{} has no optimizer state", path.display()))?;
        self.trainer.weights = weights;
        self.trainer.first_moment = m;
        self.trainer.second_moment = v;
        self.trainer.updates = manifest.about.updates;
        Ok(Some(manifest.about.step))
    }

    /// Goes back to the first weights, with moments at zero.
    pub(super) fn begin_again(&mut self) -> Result<()> {
        let Trainer { backend: b, config, .. } = &mut self.trainer;
        let First { weights, optimizer } = self.options.start.state(b, config, self.options.seed)?;
        let fresh = |b: &mut B| (model::zeros(b, config), model::zeros(b, config), 0);
        let optimizer = optimizer.unwrap_or_else(|| fresh(b));
        self.trainer.weights = weights;
        self.take_over(optimizer);
        Ok(())
    }

    /// Writes the checkpoint of the current step and removes those that the rule does not keep.
    pub(super) fn save(&mut self) -> Result<()> {
        self.run.sync()?;
        let evaluation = self.validation.map_or_else(BTreeMap::new, |v| {
            BTreeMap::from([
                ("val_loss".to_string(), Some(v.loss())),
                ("val_bpb".to_string(), Some(v.bits_per_byte())),
            ])
        });
        let about = About {
            stage: "pretrain".into(),
            step: self.step,
            updates: self.trainer.updates,
            seed: self.options.seed,
            parent: match &self.options.start {
                Start::Random(_) => None,
                Start::Model(init) => Some(init.origin().display().to_string()),
            },
            data_digest: Some(self.data.digest()),
            tokenizer_digest: Some(self.options.start.tokenizer(&self.data).digest()),
            recipe_digest: Some(self.recipe_digest.clone()),
            evaluation,
        };
        let tokenizer = self.options.start.tokenizer(&self.data);
        let Trainer { backend, config, weights, first_moment, second_moment, .. } = &mut self.trainer;
        checkpoint::save(
            &self.run.checkpoint_path(self.step),
            Contents {
                config,
                weights,
                dtype: self.options.settings.dtype,
                moments: Some((first_moment, second_moment)),
                read: &mut checkpoint::from_backend(backend),
                eot_token: tokenizer.end_of_text(),
                files: &tokenizer.files(),
                about,
            },
        )?;
        self.saved = Some(self.step);
        self.run.retain(self.options.settings.keep_last, self.run.best_checkpoint()?)
    }

    pub(super) fn event(&mut self, event: EventKind, detail: String) -> Result<()> {
        self.run.event(&Event { step: self.step, event, detail })
    }

    /// The end, reached or asked for: what is not saved yet is saved, and the page is written.
    pub(super) fn close(mut self, progress: &dyn Progress) -> Result<Outcome> {
        let stopped = self.step < self.options.settings.steps;
        if self.saved != Some(self.step) && self.bad_steps == 0 && self.step > 0 {
            self.save()?;
        }
        let kind = if stopped { EventKind::Stopped } else { EventKind::Finished };
        self.event(kind, String::new())?;
        let report = report::write(self.run.path())?;
        if stopped {
            progress.line(&format!("stopped after step {}; the same command continues", self.step));
        }
        let exposure = self.exposure();
        Ok(Outcome {
            step: self.step,
            stopped,
            before: self.before,
            validation: self.validation,
            exposure,
            report,
        })
    }
}

/// The resolved recipe as it is stored.
fn recipe(options: &Options, machine: &Machine, data: &Mixture) -> Result<Recipe> {
    let mut settings =
        toml::Table::try_from(&options.settings).context("the settings are not a TOML table")?;
    match &options.start {
        Start::Random(shape) => {
            settings.extend(toml::Table::try_from(shape).context("the shape is not a TOML table")?)
        }
        Start::Model(init) => {
            settings.insert("continue_optimizer".into(), init.continues_optimizer().into());
        }
    }
    // What is kept, and in which format, changes nothing of what is computed.
    let kept = ["keep_last", "dtype"].map(|key| (key, settings.remove(key)));
    settings.insert(
        "seed".into(),
        toml::Value::Integer(i64::try_from(options.seed).context("--seed is too large")?),
    );
    settings.insert("precision".into(), machine.precision.clone().into());
    let mut recipe = Recipe::new("pretrain", settings);
    recipe.runtime.extend(kept.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    recipe.runtime.insert("machine".into(), machine.description.clone().into());
    for (number, part) in (1..).zip(data.parts()) {
        // One directory is what most runs have; the parts of a mixture are told apart by number.
        let key = |name: &str| if data.parts().len() == 1 { name.into() } else { format!("{name} {number}") };
        let meta = part.shards.meta();
        recipe.inputs.insert(key("data"), Input::new(&part.path, part.shards.digest()));
        recipe.inputs.insert(key("corpus"), Input::new(&meta.corpus_dir, &*meta.corpus_digest));
    }
    if data.parts().len() > 1 {
        let shares: Vec<f64> = data.parts().iter().map(|part| part.share).collect();
        recipe.settings.insert("mix".into(), toml::Value::try_from(shares).context("shares are numbers")?);
    }
    recipe.inputs.insert("tokenizer".into(), Input::new(&data.parts()[0].path, data.tokenizer().digest()));
    if let Start::Model(init) = &options.start {
        let place = if init.model().origin.is_some() { init.origin() } else { init.model().path.clone() };
        recipe.note_asked("init", init.name());
        recipe.inputs.insert("init".into(), Input::new(&place, init.model().digest()?));
        recipe
            .inputs
            .insert("init_tokenizer".into(), Input::new(&place, options.start.tokenizer(data).digest()));
    }
    Ok(recipe)
}
