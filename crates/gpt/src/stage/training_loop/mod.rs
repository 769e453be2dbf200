//! The loop that every stage trains in: steps, validations, samples, checkpoints, interruptions, and steps
//! that went wrong.
//!
//! A stage says what a step is, in [`Training`]; the loop does the rest. As long as a step is a function of
//! recipe, data and the state after the step before, a run that is killed and started again ends with the
//! same bytes.

mod bad_steps;
mod sound;
mod telling;
#[cfg(test)]
mod tests;

pub(super) use sound::{Guessing, finite};

use self::sound::{Fault, fault};
use crate::checkpoint::{self, About, Checkpoint};
use crate::model::Config;
use crate::progress::{Progress, Unit};
use crate::report;
use crate::train::run::{CHECKPOINTS, Event, EventKind, Recipe, RunDir};
use anyhow::{Context, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What a stage is.
pub(super) trait Training {
    /// One step, counted from 1: changes the state, or leaves it as it is and says so.
    fn step(&mut self, step: u64) -> Result<Step>;

    /// Measures the state on held-out data.
    fn evaluate(&mut self) -> Result<Evaluation>;

    /// Prompts and what the model makes of them, as people read them; those of one prompt in a row.
    fn samples(&mut self) -> Result<Vec<(String, String)>>;

    /// What a step changes.
    fn state(&mut self) -> &mut dyn State;

    /// See [`State::save`].
    fn save(&mut self, dir: &Path, about: About) -> Result<()> {
        self.state().save(dir, about)
    }

    /// See [`State::restore`].
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.state().restore(checkpoint)
    }

    /// See [`State::restart`].
    fn restart(&mut self) -> Result<()> {
        self.state().restart()
    }

    /// TokenLogprob once, before the first step of a new run. Returns what was measured of the model that
    /// training begins from.
    fn begin(&mut self, progress: &dyn Progress) -> Result<Option<Evaluation>>;

    /// What guessing costs in the measure of the loss; none where no loss tells how well the model does.
    fn guessing(&self) -> Option<Guessing>;
}

/// What a step changes, as checkpoints hold it.
pub(super) trait State {
    /// Writes the checkpoint `dir`; `about` knows step, seed and evaluation.
    fn save(&mut self, dir: &Path, about: About) -> Result<()>;

    /// Takes the state of a checkpoint that [`save`](Self::save) wrote.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()>;

    /// Goes back to the state before the first step.
    fn restart(&mut self) -> Result<()>;
}

/// What a step did.
#[derive(Default)]
pub(super) struct Step {
    /// For `metrics.jsonl`.
    pub(super) metrics: Map<String, Value>,
    /// For people, from the most to the least needed.
    pub(super) columns: Vec<String>,
    /// The mean loss of its batch, in the measure of the held-out `val_loss`; none where there is no such
    /// measure.
    pub(super) loss: Option<f64>,
    /// Tokens that went through the model, and the floating-point operations that they cost.
    pub(super) tokens: u64,
    pub(super) flops: f64,
    /// Why nothing changed, where something was not finite.
    pub(super) skipped: Option<String>,
    /// Why it exploded, where the stage can tell.
    pub(super) exploded: Option<String>,
    /// Some of what the model wrote in it, for `rollouts.jsonl`.
    pub(super) rollouts: Vec<Map<String, Value>>,
    /// Why this is the last step, where it is before the recipe's.
    pub(super) ended: Option<String>,
}

/// Figures by name, as metrics are kept.
pub(super) fn metrics<'n>(figures: impl IntoIterator<Item = (&'n str, Value)>) -> Map<String, Value> {
    figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Floating-point operations of learning from `sequences` sequences with `tokens` tokens in all.
pub(super) fn training_flops(config: &Config, tokens: u64, sequences: usize) -> f64 {
    let len = tokens as f64 / sequences.max(1) as f64;
    tokens as f64 * config.training_flops_per_token_of(len)
}

/// A measurement on held-out data.
#[derive(Clone, Debug, Default)]
pub(super) struct Evaluation {
    /// By name, such as `val_loss`.
    pub(super) metrics: Vec<(&'static str, f64)>,
    /// For people.
    pub(super) line: String,
}

/// When things are due. What is 0 is never due; the last step is due for everything else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) steps: u64,
    pub(super) eval_every: u64,
    pub(super) checkpoint_every: u64,
    pub(super) sample_every: u64,
    /// Checkpoints that are kept, besides the best one.
    pub(super) keep_last: usize,
    /// Which checkpoint is the best.
    pub(super) best: Best,
}

/// Which checkpoint is the best.
#[derive(Clone, Copy, Debug)]
pub(super) struct Best {
    /// The metric of an evaluation that tells.
    pub(super) metric: &'static str,
    /// Whether more is better.
    pub(super) highest: bool,
    /// Whether a run ends with the best state instead of the last.
    pub(super) at_the_end: bool,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Steps done.
    pub step: u64,
    /// Whether somebody stopped it before its end; its state is saved.
    pub stopped: bool,
    /// The page about the run.
    pub report: PathBuf,
}

/// The machine that trains, for the report and for utilisation.
#[derive(Clone, Debug)]
pub struct Machine {
    /// One line about it.
    pub description: String,
    /// What computes, which decides results: `cpu`, or `cuda`.
    pub device: String,
    /// Bytes that may still be had, where that is no memory of the system's.
    pub memory_bytes: Option<u64>,
    /// The precision of products, which decides results: `f32` or `bf16`.
    pub precision: String,
    /// Measured peak of products in that precision, in floating-point operations a second.
    pub peak_flops: f64,
    /// The command that trains on it, for the page; empty where it is no command.
    pub command: String,
}

impl Machine {
    /// One of which nothing was measured, with products in `f32`: its utilisation is told as 0.
    pub fn unmeasured() -> Self {
        Machine {
            description: "not measured".into(),
            device: "cpu".into(),
            memory_bytes: None,
            precision: "f32".into(),
            peak_flops: f64::INFINITY,
            command: String::new(),
        }
    }
}

/// A run in progress: everything about it but what its stage is.
pub(super) struct TrainingLoop<'a> {
    name: String,
    run: RunDir,
    recipe_digest: String,
    settings: &'a toml::Table,
    seed: u64,
    pace: Pace,
    machine: &'a Machine,
    progress: &'a dyn Progress,
    /// Steps done.
    step: u64,
    /// The last step that is in a checkpoint.
    saved: Option<u64>,
    bad_steps: u32,
    /// The last step after which everything was sound.
    sound: Option<u64>,
    /// The first step's loss.
    first_loss: Option<f64>,
    /// The held-out loss before it, in the process that began the run.
    loss_before: Option<f64>,
    /// The checkpoint that training last returned to.
    rolled_back_to: Option<u64>,
    /// What was measured after the last step, where it was due or the state was to be saved.
    evaluation: Option<Evaluation>,
    /// Why the run ended before its last step.
    ended: Option<String>,
}

/// Runs a stage in its run directory to the end, or from where it was interrupted.
///
/// # Errors
/// The directory belongs to another recipe; the disk is full; training diverges; what the stage says.
pub(super) fn train(
    out: &Path,
    recipe: &Recipe,
    pace: Pace,
    seed: u64,
    machine: &Machine,
    training: &mut dyn Training,
    progress: &dyn Progress,
) -> Result<Ending> {
    let digest = blake3::hash(toml::to_string(&recipe.settings)?.as_bytes()).to_hex().to_string();
    let mut training_loop = TrainingLoop {
        name: recipe.stage.clone(),
        run: RunDir::open(out, recipe)?,
        recipe_digest: digest,
        settings: &recipe.settings,
        seed,
        pace,
        machine,
        progress,
        step: 0,
        saved: None,
        bad_steps: 0,
        sound: None,
        first_loss: None,
        loss_before: None,
        rolled_back_to: None,
        evaluation: None,
        ended: None,
    };
    training_loop.resume(training)?;
    progress.begin(&training_loop.name, pace.steps, Unit::Count);
    progress.done_before(training_loop.step);
    while !training_loop.is_over() && !progress.should_stop() {
        training_loop.next_step(training)?;
        progress.advance(1);
    }
    progress.end();
    training_loop.close(training)
}

impl TrainingLoop<'_> {
    /// Whether there is no step left to do.
    fn is_over(&self) -> bool {
        self.step >= self.pace.steps || self.ended.is_some()
    }

    /// One step, and whatever falls due after it.
    fn next_step(&mut self, training: &mut dyn Training) -> Result<()> {
        let began = Instant::now();
        self.step += 1;
        let step = training.step(self.step).map_err(|error| self.overflowed(error))?;
        let seconds = began.elapsed().as_secs_f64();
        self.ended = step.ended.clone();
        let due = |every: u64| every > 0 && (self.step.is_multiple_of(every) || self.is_over());
        let (evaluates, samples, saves) =
            (due(self.pace.eval_every), due(self.pace.sample_every), due(self.pace.checkpoint_every));
        // What is saved is sound, so it is measured before.
        let measured = if evaluates || saves { Some(training.evaluate()) } else { None };
        let measured = measured.transpose().map_err(|error| self.overflowed(error))?;
        if self.step == 1 {
            self.first_loss = step.metrics.get("loss").and_then(Value::as_f64);
            self.compare_first_loss(&step)?;
        }
        let fault = fault(&step, measured.as_ref(), training.guessing(), self.first_loss);
        self.evaluation = measured;
        self.log(&step, fault.as_ref(), evaluates, seconds)?;
        if samples && !matches!(fault, Some(Fault::Unsound(_))) {
            self.sample(training).map_err(|error| self.overflowed(error))?;
        }
        let is_sound = fault.is_none();
        self.handle_skipped_step(fault, training)?;
        // Not within a streak of bad steps: a run that continues from here must count them as this one does.
        // Nor after one, where the state is that of an older checkpoint. What a selection may still replace
        // is saved by `close`.
        let selects = self.is_over() && self.pace.best.at_the_end;
        if saves && is_sound && !selects {
            self.save(training, None)?;
        }
        Ok(())
    }

    /// What a step did, for people and for programs.
    fn log(&mut self, step: &Step, fault: Option<&Fault>, evaluates: bool, seconds: f64) -> Result<()> {
        let (tokens_per_sec, flops) = (step.tokens as f64 / seconds, step.flops / seconds);
        let mfu = flops / self.machine.peak_flops;
        let evaluation = self.evaluation.as_ref().filter(|_| evaluates);
        let mut metrics = Map::from_iter([("step".to_owned(), self.step.into())]);
        metrics.extend(step.metrics.clone());
        for (name, value) in evaluation.iter().flat_map(|evaluation| &evaluation.metrics) {
            metrics.insert((*name).to_owned(), (*value).into());
        }
        let marks = [
            ("skipped", step.skipped.is_some()),
            ("exploded", matches!(fault, Some(Fault::Exploded(_) | Fault::Unsound(_)))),
        ];
        metrics
            .extend(marks.into_iter().filter(|mark| mark.1).map(|(name, _)| (name.to_owned(), true.into())));
        self.run.metrics.append(&metrics)?;
        let mut timings = Map::from_iter([("step".to_owned(), self.step.into())]);
        for (name, value) in [("step_secs", seconds), ("tokens_per_sec", tokens_per_sec), ("mfu", mfu)] {
            timings.insert(name.to_owned(), value.into());
        }
        self.run.timings.append(&timings)?;
        for rollout in &step.rollouts {
            let mut line = Map::from_iter([("step".to_owned(), self.step.into())]);
            line.extend(rollout.clone());
            self.run.rollout(&line)?;
        }
        match evaluation {
            Some(evaluation) => {
                self.progress.line(&format!("{}  validation: {}", self.place(), evaluation.line));
            }
            None => self.progress.status(&self.columns(step, tokens_per_sec, mfu)),
        }
        Ok(())
    }

    /// Continues from the newest good checkpoint; without one, begins.
    fn resume(&mut self, training: &mut dyn Training) -> Result<()> {
        match self.newest(training)? {
            Some(about) => {
                self.run.truncate_after(about.step)?;
                (self.step, self.saved, self.ended) = (about.step, Some(about.step), about.ended);
                (self.sound, self.first_loss) = (self.saved, self.run.metric("loss", 1)?);
                self.event(EventKind::Resumed, self.machine.description.clone())?;
                self.introduce_machine();
                self.progress.line(&format!("continuing after step {}", self.step));
            }
            None => {
                self.run.restart()?;
                self.event(EventKind::Started, self.machine.description.clone())?;
                self.introduce_machine();
                let before = training.begin(self.progress)?;
                if let Some(before) = &before {
                    before.check().context("before training")?;
                    self.progress.line(&format!("before training: {}", before.line));
                }
                self.loss_before = before.as_ref().and_then(Evaluation::loss);
            }
        }
        Ok(())
    }

    /// Gives the newest good checkpoint of the run to the stage, if there is one.
    fn newest(&mut self, training: &mut dyn Training) -> Result<Option<About>> {
        let newest = checkpoint::newest_good(&self.run.path().join(CHECKPOINTS))?;
        for damaged in newest.damaged {
            self.progress.line(&format!("not used: {damaged}"));
            self.event(EventKind::DamagedCheckpoint, damaged)?;
        }
        let Some((path, manifest)) = newest.found else { return Ok(None) };
        self.restore(training, &path)?;
        Ok(Some(manifest.about))
    }

    fn restore(&self, training: &mut dyn Training, path: &Path) -> Result<()> {
        let checkpoint = checkpoint::open(path, self.progress)?;
        training.restore(&checkpoint).with_context(|| format!("cannot go on from {}", path.display()))
    }

    /// Writes the checkpoint of the current step and removes those that the rule does not keep.
    fn save(&mut self, training: &mut dyn Training, selected: Option<u64>) -> Result<()> {
        self.run.sync()?;
        let evaluation = self.evaluation.iter().flat_map(|evaluation| &evaluation.metrics);
        let about = About {
            stage: self.name.clone(),
            step: self.step,
            seed: self.seed,
            recipe_digest: Some(self.recipe_digest.clone()),
            evaluation: evaluation.map(|(name, value)| ((*name).to_owned(), Some(*value))).collect(),
            selected,
            ended: self.ended.clone(),
            ..About::default()
        };
        training.save(&self.run.checkpoint_path(self.step), about)?;
        self.saved = Some(self.step);
        let Best { metric, highest, .. } = self.pace.best;
        self.run.retain(self.pace.keep_last, self.run.best_checkpoint(metric, highest)?)
    }

    fn event(&mut self, event: EventKind, detail: String) -> Result<()> {
        self.run.event(&Event { step: self.step, event, detail })
    }

    /// The end, reached or asked for: what is not saved yet is saved, and the page is written.
    fn close(mut self, training: &mut dyn Training) -> Result<Ending> {
        let stopped = !self.is_over();
        if self.saved != Some(self.step) && self.bad_steps == 0 && self.step > 0 {
            let selects = !stopped && self.pace.best.at_the_end;
            let selected = if selects { self.select(training)? } else { None };
            self.save(training, selected)?;
        }
        if let Some(why) = &self.ended {
            self.progress.line(&format!("ended after step {}: {why}", self.step));
        }
        let kind = if stopped { EventKind::Stopped } else { EventKind::Finished };
        self.event(kind, self.ended.clone().unwrap_or_default())?;
        let report = report::write(self.run.path())?;
        if stopped {
            self.progress.line(&format!("stopped after step {}; the same command continues", self.step));
        }
        Ok(Ending { step: self.step, stopped, report })
    }

    /// Puts the best state in place of the last one, where a checkpoint has a better one.
    fn select(&mut self, training: &mut dyn Training) -> Result<Option<u64>> {
        let Best { metric, highest, .. } = self.pace.best;
        let Some((best, value)) = self.run.best_step(metric, highest, self.step)? else { return Ok(None) };
        if best == self.step {
            return Ok(None);
        }
        self.restore(training, &self.run.checkpoint_path(best))?;
        self.progress.line(&format!("the state of step {best} is the best: {metric} {value:.4}"));
        Ok(Some(best))
    }
}

/// The value of a metric with the fewest digits that tell it: `f32` has seven.
pub(super) fn shortest(x: f32) -> Value {
    x.to_string().parse::<f64>().unwrap_or(f64::from(x)).into()
}
