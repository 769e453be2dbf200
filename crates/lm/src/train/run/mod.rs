//! The run directory: where a training run lives, is continued, and is read by people.
//!
//! ```text
//! runs/NAME/
//!   config.toml      the Recipe: decides whether a command may continue this run
//!   metrics.jsonl    one object a step, and samples.jsonl: functions of the recipe, identical after any interruption
//!   timings.jsonl    wall clock, and events.jsonl: history, different each time
//!   checkpoints/     step-000500/ …
//! ```
//!
//! The one idea: what the recipe decides and what merely happened are kept in different files. A run killed
//! at any moment and continued from the checkpoint of step S calls [`RunDir::truncate_after`], does the lost
//! steps again, and ends with the same bytes in the first two files as a run that was never interrupted.
//!
//! For that, the line of step S must be written and [`RunDir::sync`] called before the checkpoint of step S
//! gets its name.

mod alike;
mod checkpoints;
mod claim;
mod curves;
mod journal;
mod list;
mod tensorboard;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub use alike::refuse_other_recipes;
pub use checkpoints::{SavedStep, TEMPORARY, checkpoint_path, checkpoints};
pub use claim::claim;
pub use curves::{Curves, Point, Told};
pub use journal::{Journal, Lines, read_lines};
pub use list::{Figure, Listed, State, figure_of, find, list, state_of};

pub use tensorboard::EventFile;
pub use text::output::{CONFIG, FORMAT, Input, Recipe, write_atomically};

/// File name of the metrics, one object a step.
pub const METRICS: &str = "metrics.jsonl";
/// File name of the wall-clock figures, one object a step.
pub const TIMINGS: &str = "timings.jsonl";
/// File name of the [`Sample`]s.
pub const SAMPLES: &str = "samples.jsonl";
/// File name of the [`Event`]s.
pub const EVENTS: &str = "events.jsonl";
/// File name of what models in training by reinforcement wrote, some of it.
pub const ROLLOUTS: &str = "rollouts.jsonl";
/// Name of the folder of checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";

/// A text that the model in training continued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Optimizer steps behind the model.
    pub step: u64,
    /// What it was given, as people read it; ends with a line break where it was asked, and not begun.
    pub prompt: String,
    /// What it wrote.
    pub completion: String,
}

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Optimizer steps done when it happened; for a step that was bad, that step.
    pub step: u64,
    /// What happened.
    pub event: EventKind,
    /// Why, for people; may be empty.
    pub detail: String,
}

/// What may happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// It began.
    Started,
    /// It went on after an interruption.
    Resumed,
    /// Loss or gradient were not finite: weights and moments stayed as they were.
    SkippedStep,
    /// The loss, or the held-out figures after the step, are not those of a training that learns: the state
    /// is not kept.
    ExplodedStep,
    /// Something looks wrong, and training goes on.
    Warned,
    /// A checkpoint could not be used, and an older one was.
    DamagedCheckpoint,
    /// Somebody asked it to stop; it saved first.
    Stopped,
    /// All steps are done.
    Finished,
    /// It ended in numbers that are not finite, or exploded; the last good checkpoint is kept.
    Failed,
}

#[derive(Serialize)]
struct TimedEvent<'a> {
    unix_secs: u64,
    #[serde(flatten)]
    event: &'a Event,
}

/// A run directory that this process, and no other, may write to.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// `metrics.jsonl`; lines have a `step` and do not decrease in it.
    pub metrics: Journal,
    /// `timings.jsonl`.
    pub timings: Journal,
    samples: Journal,
    /// There in stages only that have some.
    rollouts: Option<Journal>,
    events: Journal,
    /// Held for as long as the directory is open; the system releases it when the process dies.
    _lock: File,
}

impl RunDir {
    /// Creates the run directory at `path`, or opens it again if `recipe` agrees with the one stored there.
    ///
    /// # Errors
    /// Another process has it open; it belongs to a different recipe (the difference is shown); it holds a
    /// run's files without a recipe; input or output fails.
    pub fn open(path: &Path, recipe: &Recipe) -> Result<Self> {
        let lock = claim(path, recipe)?;
        fs::create_dir_all(path.join(CHECKPOINTS))
            .with_context(|| format!("cannot create {}", path.join(CHECKPOINTS).display()))?;
        checkpoints::sweep(path)?;
        Ok(Self {
            path: path.to_path_buf(),
            metrics: Journal::open(&path.join(METRICS))?,
            timings: Journal::open(&path.join(TIMINGS))?,
            samples: Journal::open(&path.join(SAMPLES))?,
            rollouts: {
                let rollouts = path.join(ROLLOUTS);
                rollouts.exists().then(|| Journal::open(&rollouts)).transpose()?
            },
            events: Journal::open(&path.join(EVENTS))?,
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds to `samples.jsonl`.
    pub fn sample(&mut self, sample: &Sample) -> Result<()> {
        self.samples.append(sample)
    }

    /// Adds to `rollouts.jsonl`; `line` has a `step`.
    pub fn rollout(&mut self, line: &impl Serialize) -> Result<()> {
        if self.rollouts.is_none() {
            self.rollouts = Some(Journal::open(&self.path.join(ROLLOUTS))?);
        }
        self.rollouts.iter_mut().try_for_each(|rollouts| rollouts.append(line))
    }

    /// Adds to `events.jsonl`, with the time.
    pub fn event(&mut self, event: &Event) -> Result<()> {
        let unix_secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        self.events.append(&TimedEvent { unix_secs, event })
    }

    /// Waits until all lines are on disk; to be called before the checkpoint that stands on them gets its
    /// name.
    pub fn sync(&self) -> Result<()> {
        let always = [&self.metrics, &self.timings, &self.samples, &self.events];
        always.into_iter().chain(&self.rollouts).try_for_each(Journal::sync)
    }

    /// Prepares to begin anew where there is no good checkpoint: empties the metrics and samples, and sets
    /// damaged checkpoints aside.
    pub fn restart(&mut self) -> Result<()> {
        self.set_aside_after(None)?;
        self.metrics.clear()?;
        self.rollouts.iter_mut().try_for_each(Journal::clear)?;
        self.samples.clear()
    }

    /// Prepares to continue from the checkpoint of the step `saved`: cuts the metrics and samples after `step`, which is
    /// that or the one before it, and sets damaged later checkpoints aside. Timings and events are history and stay; a step done twice stands
    /// there twice.
    ///
    /// # Errors
    /// The metrics do not reach `step`, or are damaged before it.
    pub fn truncate_after(&mut self, step: u64, saved: u64) -> Result<()> {
        let last = self.metrics.truncate_after(step)?;
        self.samples.truncate_after(step)?;
        if let Some(rollouts) = &mut self.rollouts {
            rollouts.truncate_after(step)?;
        }
        if last.unwrap_or(0) != step {
            let path = self.path.join(METRICS);
            bail!(
                "{} ends at step {}, before the checkpoint of step {saved}: put the file back, or remove {} to begin again",
                path.display(),
                last.unwrap_or(0),
                self.path.display()
            );
        }
        self.set_aside_after(Some(saved))
    }

    /// Sets the checkpoints after `step`, or all, aside: they could not be used.
    pub fn set_aside_after(&self, step: Option<u64>) -> Result<()> {
        checkpoints::set_aside_after(&self.path, step)
    }

    /// Where the checkpoint of `step` belongs.
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        checkpoint_path(&self.path, step)
    }

    /// The checkpoints, oldest first.
    pub fn checkpoints(&self) -> Result<Vec<SavedStep>> {
        checkpoints(&self.path)
    }

    /// The step whose `metric` is the lowest, or the highest, and that: of the steps that are in a checkpoint and count,
    /// and of `current`; of equal ones the earliest.
    pub fn best_step(
        &self,
        metric: &str,
        highest: bool,
        counts: impl Fn(u64) -> bool,
        current: Option<u64>,
    ) -> Result<Option<(u64, f64)>> {
        let kept: Vec<u64> = self.checkpoints()?.into_iter().map(|checkpoint| checkpoint.step).collect();
        self.best(metric, highest, |step| Some(step) == current || kept.contains(&step) && counts(step))
    }

    /// The `metric` of a step, where it has one.
    pub fn metric(&self, metric: &str, step: u64) -> Result<Option<f64>> {
        Ok(self.best(metric, false, |at| at == step)?.map(|(_, value)| value))
    }

    fn best(&self, metric: &str, highest: bool, counts: impl Fn(u64) -> bool) -> Result<Option<(u64, f64)>> {
        let lines: Lines<serde_json::Map<String, serde_json::Value>> = read_lines(&self.path.join(METRICS))?;
        let value = |line: &serde_json::Map<_, serde_json::Value>| {
            Some((line.get("step")?.as_u64()?, line.get(metric)?.as_f64()?))
        };
        let judged = lines.items.iter().filter_map(value).filter(|(step, _)| counts(*step));
        Ok(judged.min_by(|a, b| if highest { b.1.total_cmp(&a.1) } else { a.1.total_cmp(&b.1) }))
    }

    /// Removes checkpoints, except the newest `keep_last` (at least one) and those of the steps `kept`.
    pub fn retain(&self, keep_last: usize, kept: &[u64]) -> Result<()> {
        checkpoints::retain(&self.path, keep_last, kept)
    }
}
