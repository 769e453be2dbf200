//! Pretraining: maximise `Σ log P(uᵢ | uᵢ₋ₖ … uᵢ₋₁)` over a corpus of tokens (Radford et al. 2018, eq. 1).
//!
//! Step `s` is a pure function of the recipe, the data and the state after step `s - 1`, so a run that is interrupted
//! and started again ends with the same bits.

use super::Settings;
use crate::checkpoint::{self, About, Contents};
use crate::data::{Batch, TokenShards, ValWindow, Windows};
use crate::eval::{Likelihood, likelihood};
use crate::model::{self, Config, Engine, Noise, Request, Sampling, Sequences, Weights};
use crate::objective::{cross_entropy, cross_entropy_derivatives};
use crate::progress::{Progress, Unit};
use crate::report;
use crate::train::run::{CHECKPOINTS, Event, EventKind, Input, Recipe, RunDir, Sample};
use crate::train::{Trainer, Update};
use anyhow::{Context, Result, bail, ensure};
use kernels::{Backend, rng};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

/// Rows of a micro-batch, at most, where a sequence is not longer: what a pass keeps for the backward pass grows with it.
const MICRO_BATCH_ROWS: usize = 4096;

/// After so many steps in a row whose loss or gradient was not finite, training returns to the last checkpoint.
const BAD_STEPS_IN_A_ROW: u32 = 3;

/// What to train, on what, and where to.
#[derive(Clone, Debug)]
pub struct Options {
    /// A directory of token shards.
    pub data: PathBuf,
    /// The run directory.
    pub out: PathBuf,
    /// The resolved recipe.
    pub settings: Settings,
    /// Decides everything random.
    pub seed: u64,
    /// A model to begin from; none for random weights.
    pub init: Option<PathBuf>,
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
    /// The validation after the last step; none where it was not due.
    pub validation: Option<Likelihood>,
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
    shards: TokenShards,
    windows: Windows,
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
    /// Held-out likelihood after the last step, where it was due.
    validation: Option<Likelihood>,
    batch: Batch,
    derivatives: Vec<f64>,
}

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
struct Metrics {
    step: u64,
    loss: f64,
    lr: f32,
    grad_norm: f64,
    tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    val_bpb: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    skipped: bool,
}

/// A line of `timings.jsonl`.
#[derive(Serialize)]
struct Timings {
    step: u64,
    step_secs: f64,
    tokens_per_sec: f64,
    mfu: f64,
}

impl<'a, B: Backend> Pretraining<'a, B> {
    fn open(
        mut backend: B,
        machine: &'a Machine,
        options: &'a Options,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let settings = &options.settings;
        let shards = TokenShards::open(&options.data)?;
        let windows = Windows::new(&shards, settings.seq_len, options.seed)?;
        let val_windows = shards.val_windows(settings.eval_windows, settings.seq_len)?;
        let (config, weights, init) = first_weights(&mut backend, options, shards.vocab_size())?;
        let recipe = recipe(options, machine, &shards, init)?;
        let recipe_digest = blake3::hash(toml::to_string(&recipe.settings)?.as_bytes()).to_hex().to_string();
        let run = RunDir::open(&options.out, &recipe)?;
        let mut training = Pretraining {
            trainer: Trainer::new(backend, config, weights),
            options,
            machine,
            shards,
            windows,
            val_windows,
            run,
            recipe_digest,
            step: 0,
            saved: None,
            bad_steps: 0,
            rolled_back_to: None,
            validation: None,
            batch: Batch::default(),
            derivatives: Vec::new(),
        };
        training.resume(progress)?;
        Ok(training)
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
            }
        }
        Ok(())
    }

    /// Loads the newest good checkpoint of the run and returns its step.
    fn restore(&mut self, progress: &dyn Progress) -> Result<Option<u64>> {
        let newest = checkpoint::newest_good(&self.run.path().join(CHECKPOINTS))?;
        for damaged in newest.damaged {
            progress.line(&format!("not used: {damaged}"));
            self.event(EventKind::DamagedCheckpoint, damaged)?;
        }
        let Some((path, manifest)) = newest.found else { return Ok(None) };
        let checkpoint = checkpoint::open(&path)?;
        ensure!(
            checkpoint.config == self.trainer.config,
            "{} holds a model of another shape than this run's recipe",
            path.display()
        );
        let b = &mut self.trainer.backend;
        let weights = checkpoint.weights(checkpoint::to_backend(b))?;
        let moments = checkpoint.moments(checkpoint::to_backend(b))?;
        let (m, v) = moments.with_context(|| format!("{} has no optimizer state", path.display()))?;
        self.trainer.weights = weights;
        self.trainer.first_moment = m;
        self.trainer.second_moment = v;
        self.trainer.updates = manifest.about.updates;
        Ok(Some(manifest.about.step))
    }

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

    fn log(
        &mut self,
        step: u64,
        loss: f64,
        lr: f32,
        update: Update,
        seconds: f64,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (settings, validation) = (&self.options.settings, self.validation);
        let tokens_per_sec = settings.batch_tokens as f64 / seconds;
        let mfu = tokens_per_sec * self.trainer.config.training_flops_per_token() / self.machine.peak_flops;
        self.run.metrics.append(&Metrics {
            step,
            loss,
            lr,
            grad_norm: update.grad_norm,
            tokens: step * settings.batch_tokens as u64,
            val_loss: validation.map(|v| v.loss()),
            val_bpb: validation.map(|v| v.bits_per_byte()),
            skipped: !update.applied,
        })?;
        self.run.timings.append(&Timings { step, step_secs: seconds, tokens_per_sec, mfu })?;
        let width = settings.steps.to_string().len();
        progress.line(&format!(
            "step {step:>width$}/{}  loss {loss:7.4}  lr {lr:.2e}  norm {:6.3}  {tokens_per_sec:7.0} tok/s  {:3.0} % of peak",
            settings.steps,
            update.grad_norm,
            100.0 * mfu
        ));
        if let Some(v) = validation {
            progress.line(&format!(
                "     validation: loss {:.4}, perplexity {:.2}, {:.4} bits per byte",
                v.loss(),
                v.perplexity(),
                v.bits_per_byte()
            ));
        }
        Ok(())
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
                let b = &mut self.trainer.backend;
                let (config, weights, _) = first_weights(b, self.options, self.shards.vocab_size())?;
                let zeros = |b: &mut B| model::zeros(b, &config);
                (self.trainer.first_moment, self.trainer.second_moment) = (zeros(b), zeros(b));
                self.trainer.weights = weights;
                self.trainer.updates = 0;
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

    /// Continues a few held-out beginnings with the weights as they are.
    fn sample(&mut self, progress: &dyn Progress) -> Result<()> {
        const BEGINNING: usize = 24;
        const TOKENS: usize = 40;
        let stop = vec![self.shards.tokenizer().end_of_text()];
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
        let Trainer { backend, config, weights, .. } = &mut self.trainer;
        let mut engine = Engine::new(backend, config, weights, requests.len());
        let generated = engine.generate(backend, &requests, |_, _| ControlFlow::Continue(()));
        for (request, generated) in requests.iter().zip(generated) {
            let tokenizer = self.shards.tokenizer();
            let prompt = tokenizer.decode(&request.prompt)?;
            let completion = tokenizer.decode(&generated.tokens)?;
            progress.line(&format!("     sample: {prompt:?} → {completion:?}"));
            self.run.sample(&Sample { step: self.step, prompt, completion })?;
        }
        Ok(())
    }

    /// Writes the checkpoint of the current step and removes those that the rule does not keep.
    fn save(&mut self) -> Result<()> {
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
            parent: self.options.init.as_ref().map(|path| path.display().to_string()),
            data_digest: Some(self.shards.digest().to_string()),
            tokenizer_digest: Some(self.shards.tokenizer().digest()),
            recipe_digest: Some(self.recipe_digest.clone()),
            evaluation,
        };
        let tokenizer = self.shards.tokenizer();
        let files = [
            ("tokenizer.json", tokenizer.to_json().as_bytes()),
            ("tokenizer_config.json", tokenizer.config_json().as_bytes()),
        ];
        let Trainer { backend, config, weights, first_moment, second_moment, .. } = &mut self.trainer;
        checkpoint::save(
            &self.run.checkpoint_path(self.step),
            Contents {
                config,
                weights,
                moments: Some((first_moment, second_moment)),
                read: &mut checkpoint::from_backend(backend),
                eot_token: Some(tokenizer.end_of_text()),
                files: &files,
                about,
            },
        )?;
        self.saved = Some(self.step);
        self.run.retain(self.options.settings.keep_last, self.run.best_checkpoint()?)
    }

    fn event(&mut self, event: EventKind, detail: String) -> Result<()> {
        self.run.event(&Event { step: self.step, event, detail })
    }

    /// The end, reached or asked for: what is not saved yet is saved, and the page is written.
    fn close(mut self, progress: &dyn Progress) -> Result<Outcome> {
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
        Ok(Outcome { step: self.step, stopped, validation: self.validation, report })
    }
}

/// The stream of random numbers that dropout's seeds come from.
const NOISE: u64 = 1;

/// What the run begins with: fresh weights, or those of `--init` with their digest.
fn first_weights<B: Backend>(
    backend: &mut B,
    options: &Options,
    vocab_size: usize,
) -> Result<(Config, Weights<B::Tensor>, Option<Input>)> {
    let mut config = options.settings.config(vocab_size);
    config.check()?;
    let Some(path) = &options.init else {
        let weights = model::init(backend, &config, options.seed);
        return Ok((config, weights, None));
    };
    let init = checkpoint::open(path)?;
    config.tied_head = init.config.tied_head;
    config.norm_eps = init.config.norm_eps;
    ensure!(
        Config { dropout: 0.0, ..config.clone() } == Config { dropout: 0.0, ..init.config.clone() },
        "{} has another shape than the recipe: {:?} there, {config:?} here",
        path.display(),
        init.config
    );
    let weights = init.weights(checkpoint::to_backend(backend))?;
    let model = std::fs::read(init.path.join("model.safetensors"))
        .with_context(|| format!("cannot read the model in {}", init.path.display()))?;
    let input = Input::new(path, blake3::hash(&model).to_hex().to_string());
    Ok((config, weights, Some(input)))
}

/// The resolved recipe as it is stored.
fn recipe(options: &Options, machine: &Machine, shards: &TokenShards, init: Option<Input>) -> Result<Recipe> {
    let mut settings =
        toml::Table::try_from(&options.settings).context("the settings are not a TOML table")?;
    let keep_last = settings.remove("keep_last").expect("a field of the settings");
    settings.insert(
        "seed".into(),
        toml::Value::Integer(i64::try_from(options.seed).context("--seed is too large")?),
    );
    settings.insert("precision".into(), machine.precision.clone().into());
    let mut recipe = Recipe::new("pretrain", settings);
    recipe.runtime.insert("keep_last".into(), keep_last);
    recipe.runtime.insert("machine".into(), machine.description.clone().into());
    recipe.inputs.insert("data".into(), Input::new(&options.data, shards.digest()));
    let meta = shards.meta();
    recipe.inputs.insert("corpus".into(), Input::new(&meta.corpus_dir, &*meta.corpus_digest));
    recipe.inputs.insert("tokenizer".into(), Input::new(&options.data, shards.tokenizer().digest()));
    recipe.inputs.extend(init.map(|input| ("init".to_string(), input)));
    Ok(recipe)
}
