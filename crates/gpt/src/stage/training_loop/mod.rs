//! The loop that every stage trains in: steps, validations, samples, checkpoints, interruptions, and steps
//! that went wrong.
//!
//! A stage says what a step is, in [`Training`]; the loop does the rest. As long as a step is a function of
//! recipe, data and the state after the step before, a run that is killed and started again ends with the
//! same bytes.

mod bad_steps;
mod cancel;
mod shared_run;
mod sound;
mod status;
#[cfg(test)]
mod tests;
mod training;

pub(super) use cancel::Cancel;
pub(super) use sound::finite;
pub(super) use training::{
    Best, Evaluation, Guessing, Pace, State, Step, Training, metrics, reading_flops, shortest, training_flops,
};

use self::shared_run::SharedRun;
use self::sound::{Fault, fault};
use crate::checkpoint::{self, About};
use crate::progress::{Progress, Stopped, Unit};
use crate::report;
use crate::train::run::{CHECKPOINTS, Event, EventFile, EventKind, Recipe};
use anyhow::{Context, Result};
use ranks::Ranks;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Steps done.
    pub step: u64,
    /// Whether somebody stopped it before its end; its state is saved.
    pub stopped: bool,
    /// The page about the run.
    pub report: PathBuf,
    /// Held-out figures of the model that the run began from, whichever process began it.
    before: BTreeMap<String, f64>,
    /// What was measured last, where that was the state that the run ended with.
    evaluation: Option<Evaluation>,
}

impl Ending {
    /// A held-out figure of the model that the run began from, such as `val_loss`; none where it was not measured, or the
    /// checkpoint that a run was continued from does not tell.
    pub fn before(&self, name: &str) -> Option<f64> {
        self.before.get(name).copied()
    }

    /// All of them.
    pub(super) fn all_before(&self) -> Option<Map<String, Value>> {
        let figures = self.before.iter().map(|(name, value)| (name.clone(), (*value).into()));
        (!self.before.is_empty()).then(|| figures.collect())
    }

    /// What `measure` finds of the state that the run ended with; nothing of one that was stopped, here or before.
    ///
    /// # Errors
    /// Those of `measure`.
    pub(super) fn measured<T>(
        &mut self,
        machine: &Machine,
        progress: &dyn Progress,
        measure: impl FnOnce(Cancel<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.stopped {
            return Ok(None);
        }
        match measure(Cancel::by(progress, &machine.ranks)) {
            Err(error) if error.is::<Stopped>() => {
                progress.line("stopped at the end of the run; the same command measures what came of it");
                self.stopped = true;
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    /// The evaluation of the state that the run ended with; nothing of one that was stopped, here or before.
    ///
    /// # Errors
    /// A figure is not finite; those of [`Training::evaluate`].
    pub(super) fn evaluated(
        &mut self,
        machine: &Machine,
        progress: &dyn Progress,
        training: &mut dyn Training,
    ) -> Result<Option<Evaluation>> {
        let last = self.evaluation.take();
        let found =
            self.measured(machine, progress, |cancel| last.map_or_else(|| training.evaluate(cancel), Ok))?;
        found.map(|found| found.check().map(|()| found)).transpose()
    }
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
    /// Whether metrics are written for TensorBoard as well.
    pub tensorboard: bool,
    /// The processes that train together, of which each has such a machine.
    pub ranks: Ranks,
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
            tensorboard: false,
            ranks: Ranks::alone(),
        }
    }
}

/// A step that is done, of which nothing is told yet: checkpoints keep it, and who continues from there goes on with its
/// evaluation.
#[derive(Serialize, Deserialize)]
struct Unfinished {
    step: Step,
    seconds: f64,
}

/// A run in progress: everything about it but what its stage is.
pub(super) struct TrainingLoop<'a> {
    name: String,
    run: SharedRun,
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
    /// Held-out figures of the model that the run began from.
    before: BTreeMap<String, f64>,
    /// The checkpoint that training last returned to.
    rolled_back_to: Option<u64>,
    /// What was measured after the last step, where it was due or the state was to be saved.
    evaluation: Option<Evaluation>,
    /// The last step, where its evaluation was stopped.
    unfinished: Option<Unfinished>,
    /// Why the run ended before its last step.
    ended: Option<String>,
    /// The metrics once more, for TensorBoard.
    events: Option<EventFile>,
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
        run: SharedRun::open(&machine.ranks, out, recipe)?,
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
        before: BTreeMap::new(),
        rolled_back_to: None,
        evaluation: None,
        unfinished: None,
        ended: None,
        events: None,
    };
    training_loop.resume(training)?;
    progress.begin(&training_loop.name, pace.steps, Unit::Count);
    progress.done_before(training_loop.step - u64::from(training_loop.unfinished.is_some()));
    if let Some(Unfinished { step, seconds }) = training_loop.unfinished.take() {
        training_loop.finish_step(step, seconds, training)?;
    }
    while !training_loop.is_over() && !machine.ranks.any(progress.should_stop()) {
        training_loop.next_step(training)?;
    }
    progress.end();
    training_loop.close(training)
}

impl<'a> TrainingLoop<'a> {
    /// What gives up rollouts and evaluations.
    fn cancel(&self) -> Cancel<'a> {
        Cancel::by(self.progress, &self.machine.ranks)
    }

    /// Whether there is no step left to do.
    fn is_over(&self) -> bool {
        self.step >= self.pace.steps || self.ended.is_some()
    }

    /// One step, and whatever falls due after it; nothing, if it was given up.
    fn next_step(&mut self, training: &mut dyn Training) -> Result<()> {
        let began = Instant::now();
        self.step += 1;
        let step = match training.step(self.step, self.cancel()) {
            Err(error) if error.is::<Stopped>() => {
                self.step -= 1;
                return Ok(());
            }
            step => step.map_err(|error| self.overflowed(error))?,
        };
        self.ended = step.ended.clone();
        self.finish_step(step, began.elapsed().as_secs_f64(), training)
    }

    /// Whatever falls due after a step.
    fn finish_step(&mut self, step: Step, seconds: f64, training: &mut dyn Training) -> Result<()> {
        let due = |every: u64| every > 0 && (self.step.is_multiple_of(every) || self.is_over());
        let (evaluates, samples) = (due(self.pace.eval_every), due(self.pace.sample_every));
        let saves = due(self.pace.checkpoint_every) || self.pace.saves(self.step);
        // What is saved is sound, so it is measured before; a step that went wrong is dealt with at once.
        let went_wrong = fault(&step, None, training.guessing(), self.first_loss).is_some();
        let cancel = if went_wrong || self.bad_steps > 0 { Cancel::never() } else { self.cancel() };
        let measured = if evaluates || saves { Some(training.evaluate(cancel)) } else { None };
        let measured = match measured.transpose() {
            Err(error) if error.is::<Stopped>() => {
                self.unfinished = Some(Unfinished { step, seconds });
                return Ok(());
            }
            measured => measured.map_err(|error| self.overflowed(error))?,
        };
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
        self.progress.advance(1);
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
        let mut timings = Map::from_iter([("step".to_owned(), self.step.into())]);
        for (name, value) in [("step_secs", seconds), ("tokens_per_sec", tokens_per_sec), ("mfu", mfu)] {
            timings.insert(name.to_owned(), value.into());
        }
        let (events, number) = (&mut self.events, self.step);
        self.run.lead(|run| {
            run.metrics.append(&metrics)?;
            run.timings.append(&timings)?;
            if let Some(events) = events {
                let all = metrics.iter().chain(&timings).filter(|(name, _)| *name != "step");
                events.scalars(
                    number,
                    all.filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?))),
                )?;
            }
            for rollout in &step.rollouts {
                let mut line = Map::from_iter([("step".to_owned(), number.into())]);
                line.extend(rollout.clone());
                run.rollout(&line)?;
            }
            Ok(())
        })?;
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
                let unfinished: Option<Unfinished> =
                    about.unfinished.map(serde_json::from_value).transpose()?;
                let told = about.step - u64::from(unfinished.is_some());
                let first_loss = self.run.lead(|run| {
                    run.truncate_after(told, about.step)?;
                    run.metric("loss", 1)
                })?;
                (self.step, self.ended, self.first_loss) = (about.step, about.ended, first_loss);
                self.before = about.before;
                self.saved = unfinished.is_none().then_some(about.step);
                (self.sound, self.unfinished) = (self.saved, unfinished);
                self.event(EventKind::Resumed, self.machine.description.clone())?;
                self.introduce_machine();
                self.progress.line(&format!("continuing after step {}", told));
            }
            None => {
                self.run.lead(|run| run.restart())?;
                self.event(EventKind::Started, self.machine.description.clone())?;
                self.introduce_machine();
                let before = match training.begin(self.progress, self.cancel()) {
                    Err(error) if error.is::<Stopped>() => return Ok(()),
                    before => before?,
                };
                if let Some(before) = &before {
                    before.check().context("before training")?;
                    self.progress.line(&format!("before training: {}", before.line));
                }
                let figures = before.into_iter().flat_map(|before| before.metrics);
                self.before = figures.map(|(name, value)| (name.to_owned(), value)).collect();
            }
        }
        if self.machine.tensorboard {
            let (events, next) = (&mut self.events, self.step + 1);
            self.run.lead(|run| {
                *events = Some(EventFile::begin(&run.path().join("tensorboard"), next)?);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Gives the newest good checkpoint of the run to the stage, if there is one.
    fn newest(&mut self, training: &mut dyn Training) -> Result<Option<About>> {
        let (damaged, found) = self.run.lead(|run| {
            let newest = checkpoint::newest_good(&run.path().join(CHECKPOINTS))?;
            Ok((newest.damaged, newest.found.map(|(path, manifest)| (path, manifest.about))))
        })?;
        for damaged in damaged {
            self.progress.line(&format!("not used: {damaged}"));
            self.event(EventKind::DamagedCheckpoint, damaged)?;
        }
        let Some((path, about)) = found else { return Ok(None) };
        self.restore(training, &path)?;
        Ok(Some(about))
    }

    fn restore(&self, training: &mut dyn Training, path: &Path) -> Result<()> {
        let restored = checkpoint::open(path, self.progress).and_then(|checkpoint| {
            training.restore(&checkpoint).with_context(|| format!("cannot go on from {}", path.display()))
        });
        self.run.ranks().together(restored)
    }

    /// Writes the checkpoint of the current step and removes those that the rule does not keep.
    fn save(&mut self, training: &mut dyn Training, selected: Option<u64>) -> Result<()> {
        let evaluation = self.evaluation.iter().flat_map(|evaluation| &evaluation.metrics);
        let about = About {
            unfinished: self.unfinished.as_ref().map(serde_json::to_value).transpose()?,
            stage: self.name.clone(),
            step: self.step,
            seed: self.seed,
            recipe_digest: Some(self.recipe_digest.clone()),
            evaluation: evaluation.map(|(name, value)| ((*name).to_owned(), Some(*value))).collect(),
            before: self.before.clone(),
            selected,
            ended: self.ended.clone(),
            ..About::default()
        };
        let pace @ Pace { best: Best { metric, highest, .. }, keep_last, kept, .. } = self.pace;
        training.gather();
        self.run.lead(|run| {
            run.sync()?;
            training.save(&run.checkpoint_path(about.step), about)?;
            let best = run.best_step(metric, highest, |step| pace.saves(step), None)?;
            let best = best.map(|(step, _)| step);
            run.retain(keep_last, &[best, kept].into_iter().flatten().collect::<Vec<_>>())
        })?;
        self.saved = Some(self.step);
        Ok(())
    }

    fn event(&mut self, event: EventKind, detail: String) -> Result<()> {
        let event = Event { step: self.step, event, detail };
        self.run.lead(|run| run.event(&event))
    }

    /// The end, reached or asked for: what is not saved yet is saved, and the page is written.
    fn close(mut self, training: &mut dyn Training) -> Result<Ending> {
        let stopped = !self.is_over() || self.unfinished.is_some();
        if self.saved != Some(self.step) && self.bad_steps == 0 && self.step > 0 {
            let selects = !stopped && self.pace.best.at_the_end;
            let selected = if selects { self.select(training)? } else { None };
            self.save(training, selected)?;
            self.evaluation.take_if(|_| selected.is_some());
        }
        if let Some(why) = &self.ended {
            self.progress.line(&format!("ended after step {}: {why}", self.step));
        }
        let kind = if stopped { EventKind::Stopped } else { EventKind::Finished };
        self.event(kind, self.ended.clone().unwrap_or_default())?;
        let report = self.run.lead(|run| report::write(run.path()))?;
        if stopped {
            self.progress.line(&format!("stopped after step {}; the same command continues", self.step));
        }
        Ok(Ending { step: self.step, stopped, report, before: self.before, evaluation: self.evaluation })
    }

    /// Puts the best state in place of the last one, where a checkpoint has a better one.
    fn select(&mut self, training: &mut dyn Training) -> Result<Option<u64>> {
        let (step, pace @ Pace { best: Best { metric, highest, .. }, .. }) = (self.step, self.pace);
        let best =
            self.run.lead(|run| run.best_step(metric, highest, |step| pace.saves(step), Some(step)))?;
        let Some((best, value)) = best else { return Ok(None) };
        if best == self.step {
            return Ok(None);
        }
        self.restore(training, &self.run.checkpoint_path(best))?;
        self.progress.line(&format!("the state of step {best} is the best: {metric} {value:.4}"));
        Ok(Some(best))
    }
}
