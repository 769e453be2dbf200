//! Sweeps: trainings that differ in some keys, one after another, and what they say together.
//!
//! ```text
//! DIR/
//!   config.toml    the recipe of the sweep: its file, seed and precision
//!   plan.toml      which runs are over, and the seconds that they took
//!   RUN/           a run directory for each
//!   results.json report.html best.toml
//! ```
//!
//! A run is any training, started by whoever has its options; here are the order, the journal and the figures. Times stay in
//! the journal, so that the page of a sweep that was killed is that of one that was not.

mod clashes;
mod file;

pub use file::{Amount, SweepFile, Trial, VERBS, columns, words};

use super::{Settings, Shape};
use crate::checkpoint::{self, PLAN};
use crate::eval::PowerLaw;
use crate::progress::{Progress, Silent};
use crate::report::{self, RESULTS, SWEEP, TrialResult, Trials};
use crate::train::run::{
    EVENTS, Event, EventKind, METRICS, Recipe, State, checkpoints, claim, figure_of, read_lines, state_of,
    write_atomically,
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The file of the best run's recipe.
pub const BEST: &str = "best.toml";

/// How long a run of the sweep took.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Taken {
    secs: f64,
    finished: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All is done.
    Done,
    /// Somebody asked to stop.
    Stopped,
}

/// A sweep that this process, and no other, works at.
pub struct Sweep<'a> {
    file: &'a SweepFile,
    dir: PathBuf,
    taken: BTreeMap<String, Taken>,
    _lock: File,
}

impl<'a> Sweep<'a> {
    /// Creates the directory of a sweep, or opens it again if it is that of the same file, seed and precision.
    ///
    /// # Errors
    /// It belongs to something else, which is shown, or to another process.
    pub fn open(file: &'a SweepFile, dir: &Path, seed: u64, precision: &str, command: &str) -> Result<Self> {
        let mut settings = file.table.clone();
        settings.insert("precision".into(), precision.into());
        settings.entry("seed").or_insert_with(|| toml::Value::Integer(seed as i64));
        let mut recipe = Recipe::new(SWEEP, settings);
        recipe.runtime.insert("command".into(), command.into());
        let lock = claim(dir, &recipe)?;
        let plan = dir.join(PLAN);
        let taken: BTreeMap<String, Taken> = match plan.exists() {
            true => {
                let text =
                    fs::read_to_string(&plan).with_context(|| format!("cannot read {}", plan.display()))?;
                toml::from_str(&text).with_context(|| format!("{} is damaged: remove it", plan.display()))?
            }
            false => BTreeMap::new(),
        };
        let mut sweep = Sweep { file, dir: dir.to_owned(), taken, _lock: lock };
        for trial in &file.trials {
            sweep.taken.entry(trial.name.clone()).or_default();
        }
        sweep.save()?;
        Ok(sweep)
    }

    fn save(&self) -> Result<()> {
        let text = toml::to_string_pretty(&self.taken).context("a plan is a TOML table")?;
        write_atomically(&self.dir.join(PLAN), text.as_bytes())
    }

    /// Runs what is not over yet: `start` does a run into a directory, or goes on with it. `work` is how much each run is, in
    /// any unit. A run that fails as trainings do, by exploding, is noted, and the next one begins.
    ///
    /// # Errors
    /// Those of `start` that are no failed training.
    pub fn run(
        &mut self,
        work: &[f64],
        progress: &dyn Progress,
        mut start: impl FnMut(&Trial, &Path) -> Result<Ended>,
    ) -> Result<Ended> {
        let count = self.file.trials.len();
        for (number, trial) in self.file.trials.iter().enumerate() {
            let dir = self.dir.join(&trial.name);
            if is_over(&dir) {
                self.note(trial, 0.0, true)?;
                continue;
            }
            if progress.should_stop() {
                return Ok(Ended::Stopped);
            }
            let left = self
                .secs_left(work)
                .map_or(String::new(), |secs| format!(", about {} left", crate::numbers::secs(secs)));
            progress.heading(&format!("run {} of {count}: {}{left}", number + 1, said(trial)));
            let began = Instant::now();
            let ended = start(trial, &dir);
            let secs = began.elapsed().as_secs_f64();
            self.note(trial, secs, is_over(&dir))?;
            match ended {
                Ok(Ended::Done) => {}
                Ok(Ended::Stopped) => return Ok(Ended::Stopped),
                Err(error) if state_of(&dir) == State::Failed => {
                    progress.line(&format!("warning: {}: {error:#}", trial.name));
                }
                Err(error) => return Err(error),
            }
            self.write()?;
        }
        self.write()?;
        Ok(Ended::Done)
    }

    fn note(&mut self, trial: &Trial, secs: f64, finished: bool) -> Result<()> {
        let taken = self.taken.entry(trial.name.clone()).or_default();
        taken.secs += secs;
        taken.finished = finished;
        self.save()
    }

    /// By the time that runs have taken so far.
    fn secs_left(&self, work: &[f64]) -> Option<f64> {
        let runs = || {
            self.file
                .trials
                .iter()
                .zip(work)
                .filter_map(|(trial, work)| Some((self.taken.get(&trial.name)?, work)))
        };
        let (mut secs, mut done, mut left) = (0.0, 0.0, 0.0);
        for (taken, work) in runs() {
            if taken.finished && taken.secs > 0.0 {
                (secs, done) = (secs + taken.secs, done + work);
            } else if !taken.finished {
                left += work;
            }
        }
        (done > 0.0).then(|| secs / done * left)
    }

    /// Where the sweep's page, its results and its best recipe lie, and what the results are.
    ///
    /// # Errors
    /// Runs cannot be read, or files not written.
    pub fn write(&self) -> Result<Written> {
        let trials = results(self.file, &self.dir)?;
        let text = serde_json::to_vec_pretty(&trials).context("results are JSON")?;
        write_atomically(&self.dir.join(RESULTS), &text)?;
        let best = trials.best().map(|best| -> Result<PathBuf> {
            let path = self.dir.join(BEST);
            write_atomically(&path, best_recipe(&self.dir, &trials, best)?.as_bytes())?;
            Ok(path)
        });
        let best = best.transpose()?;
        let report = report::write(&self.dir)?;
        Ok(Written { trials, best, report })
    }
}

/// What a sweep ended in.
pub struct Written {
    /// Its runs and what they say together.
    pub trials: Trials,
    /// The recipe of the best one.
    pub best: Option<PathBuf>,
    /// The page.
    pub report: PathBuf,
}

/// Whether nothing is left to do in a run's directory.
fn is_over(dir: &Path) -> bool {
    dir.join(METRICS).exists() && matches!(state_of(dir), State::Finished | State::Failed)
}

/// `lr 0.001, d_model 64`.
fn said(trial: &Trial) -> String {
    trial.differs.iter().map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>().join(", ")
}

fn results(file: &SweepFile, dir: &Path) -> Result<Trials> {
    let (metric, highest) = figure_of(&file.verb);
    let keys = columns(file);
    let mut trials = Vec::new();
    for trial in &file.trials {
        let value_of = |key: &String| {
            let own = trial.differs.iter().find(|(own, _)| own == key);
            own.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let values = keys.iter().map(value_of).collect();
        let own = dir.join(&trial.name);
        let result = TrialResult { name: trial.name.clone(), values, ..TrialResult::default() };
        trials.push(if own.join(METRICS).exists() {
            measured(&own, metric, highest, result)?
        } else {
            result
        });
    }
    let law = file.is_ladder.then(|| PowerLaw::fit(&points(&trials))).flatten();
    Ok(Trials {
        verb: file.verb.clone(),
        metric: metric.to_owned(),
        highest,
        keys,
        is_ladder: file.is_ladder,
        trials,
        law,
    })
}

/// Compute and figure of runs that are finished.
fn points(trials: &[TrialResult]) -> Vec<(f64, f64)> {
    let finished = trials.iter().filter(|trial| trial.finished);
    finished.filter_map(|trial| Some((trial.flops?, trial.value?))).collect()
}

fn measured(dir: &Path, metric: &str, highest: bool, result: TrialResult) -> Result<TrialResult> {
    let lines = read_lines::<Map<String, Value>>(&dir.join(METRICS))?.items;
    let events = read_lines::<Event>(&dir.join(EVENTS))?.items;
    let last =
        events.iter().rev().find(|event| matches!(event.event, EventKind::Finished | EventKind::Failed));
    let newest = checkpoints(dir).ok().and_then(|saved| saved.into_iter().next_back());
    let config =
        newest.and_then(|saved| checkpoint::open(&saved.path, &Silent).ok()).map(|model| model.config);
    let number = |line: &Map<String, Value>, key: &str| line.get(key).and_then(Value::as_f64);
    let tokens = lines.iter().filter_map(|line| number(line, "tokens")).next_back();
    let per_token = config.as_ref().map(|config| config.training_flops_per_token());
    let mut best: Option<(f64, u64)> = None;
    let mut curve = Vec::new();
    for line in &lines {
        let Some(value) = number(line, metric) else { continue };
        let step = line.get("step").and_then(Value::as_u64).unwrap_or(0);
        let is_better = best.is_none_or(|(best, _)| if highest { value > best } else { value < best });
        best = if is_better { Some((value, step)) } else { best };
        let along =
            number(line, "tokens").zip(per_token).map_or(step as f64, |(tokens, flops)| tokens * flops);
        curve.push((along, value));
    }
    Ok(TrialResult {
        parameters: config.as_ref().map(|config| config.parameters() as u64),
        tokens: tokens.map(|tokens| tokens as u64),
        flops: tokens.zip(per_token).map(|(tokens, flops)| tokens * flops),
        value: best.map(|best| best.0),
        step: best.map(|best| best.1),
        finished: last.is_some_and(|event| event.event == EventKind::Finished),
        failed: last.filter(|event| event.event == EventKind::Failed).map(|event| event.detail.clone()),
        curve,
        ..result
    })
}

/// The recipe of a run as a preset's file.
fn best_recipe(dir: &Path, trials: &Trials, best: &TrialResult) -> Result<String> {
    let recipe = Recipe::load(&dir.join(&best.name))?;
    let mut settings = recipe.settings;
    settings.extend(recipe.runtime.into_iter().filter(|(key, _)| key == "micro_batch_tokens"));
    if trials.verb == "pretrain" {
        settings.retain(|key, _| Shape::KEYS.iter().chain(Settings::KEYS).any(|(known, _)| *known == key));
    }
    ensure!(!settings.is_empty(), "the recipe of {} is empty", best.name);
    let value = best.value.map_or(String::new(), |value| format!(", {} {value}", trials.metric));
    let about = format!("# The best run of a sweep: {}{value}.\n", best.name);
    Ok(about + &toml::to_string_pretty(&settings).context("a recipe is a TOML table")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_by_the_work_that_is_done() {
        let file = SweepFile {
            verb: "pretrain".into(),
            flags: Vec::new(),
            is_ladder: false,
            trials: Vec::new(),
            table: toml::from_str("[grid]\nlr = [1]\nd = [1, 2]").unwrap(),
        };
        let trial = |name: &str| Trial {
            name: name.into(),
            differs: Vec::new(),
            preset: None,
            seed: None,
            changes: Vec::new(),
            amount: Amount::Recipe,
            line: 1,
        };
        let file = SweepFile { trials: ["a", "b", "c"].map(trial).into(), ..file };
        let dir = tempfile::tempdir().unwrap();
        let mut sweep = Sweep::open(&file, dir.path(), 0, "f32", "mynah sweep").unwrap();
        assert_eq!(sweep.secs_left(&[1.0, 2.0, 3.0]), None);
        sweep.note(&file.trials[0], 10.0, true).unwrap();
        sweep.note(&file.trials[1], 4.0, false).unwrap();
        assert_eq!(sweep.secs_left(&[1.0, 2.0, 3.0]), Some(50.0));
        drop(sweep);
        let sweep = Sweep::open(&file, dir.path(), 0, "f32", "mynah sweep").unwrap();
        assert_eq!(sweep.secs_left(&[1.0, 2.0, 3.0]), Some(50.0), "the journal is kept");
        drop(sweep);
        let error = Sweep::open(&file, dir.path(), 1, "f32", "").err().unwrap();
        assert!(format!("{error:#}").contains("seed"), "{error:#}");
    }
}
