//! What the files of a run say, read without a lock: the run may still be going on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::results::Results;
use crate::train::run::{self, Event, EventKind, Recipe, Sample, SavedStep};

/// A run as it can be read now.
pub(super) struct Record {
    /// Where it lies, as commands name it.
    pub(super) dir: PathBuf,
    /// The name of its directory.
    pub(super) name: String,
    pub(super) recipe: Recipe,
    pub(super) metrics: Vec<Map<String, Value>>,
    pub(super) timings: Vec<Map<String, Value>>,
    pub(super) samples: Vec<Sample>,
    pub(super) events: Vec<TimedEvent>,
    pub(super) checkpoints: Vec<SavedStep>,
    pub(super) results: Option<Results>,
    /// What could not be read, for the foot of the page.
    pub(super) complaints: Vec<String>,
}

/// An event and when it happened.
#[derive(Deserialize)]
pub(super) struct TimedEvent {
    pub(super) unix_secs: u64,
    #[serde(flatten)]
    pub(super) event: Event,
}

impl Record {
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let mut complaints = Vec::new();
        let name = std::path::absolute(dir)
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Ok(Self {
            dir: dir.to_owned(),
            name: name.unwrap_or_else(|| dir.display().to_string()),
            recipe: Recipe::load(dir)?,
            metrics: lines(dir, run::METRICS, &mut complaints)?,
            timings: lines(dir, run::TIMINGS, &mut complaints)?,
            samples: lines(dir, run::SAMPLES, &mut complaints)?,
            events: lines(dir, run::EVENTS, &mut complaints)?,
            checkpoints: run::checkpoints(dir)?,
            results: optional(&dir.join(super::RESULTS), &mut complaints),
            complaints,
        })
    }

    /// The numbers under `key` in the metrics, by step.
    pub(super) fn metric(&self, key: &str) -> Vec<(f64, f64)> {
        series(&self.metrics, key)
    }

    /// The numbers under `key` in the timings, by step.
    pub(super) fn timing(&self, key: &str) -> Vec<(f64, f64)> {
        series(&self.timings, key)
    }

    /// Names of the metrics that hold numbers, in the order in which they first appear.
    pub(super) fn metric_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, value) in self.metrics.iter().flatten() {
            if value.is_number() && name != "step" && !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// Steps done.
    pub(super) fn steps(&self) -> u64 {
        self.metrics.iter().filter_map(|line| line.get("step")?.as_u64()).max().unwrap_or(0)
    }

    /// The value of a metric after a step.
    pub(super) fn at(&self, key: &str, step: u64) -> Option<f64> {
        self.metric(key).into_iter().find(|point| point.0 == step as f64).map(|point| point.1)
    }

    /// The step whose state a run of PPO ends with, of those that there are so far: the best held-out reward
    /// less its penalty.
    pub(super) fn chosen(&self) -> Option<u64> {
        // Of equal ones the earliest, as where the checkpoint is chosen.
        let best = self.metric("eval/objective").into_iter().min_by(|a, b| b.1.total_cmp(&a.1));
        best.map(|(step, _)| step as u64)
    }

    /// The command that made the run, where that is known.
    pub(super) fn command(&self) -> Option<&str> {
        command(&self.recipe)
    }

    /// Whether it is a stage of a road, whose directory is the one around it.
    pub(super) fn is_of_a_road(&self) -> bool {
        let road = std::path::absolute(&self.dir).ok().and_then(|dir| Recipe::load(dir.parent()?).ok());
        road.is_some_and(|road| [super::CHAT_ROAD, super::TASKS_ROAD].contains(&road.stage.as_str()))
    }

    /// What became of it last.
    pub(super) fn ending(&self) -> Option<EventKind> {
        self.events.last().map(|timed| timed.event.event)
    }

    /// Steps that were skipped, as loss or gradient were not finite, or exploded; each once.
    pub(super) fn bad_steps(&self) -> BTreeMap<u64, &str> {
        let is_bad = |event: &&Event| matches!(event.event, EventKind::SkippedStep | EventKind::ExplodedStep);
        let bad = self.events.iter().map(|timed| &timed.event).filter(is_bad);
        bad.map(|event| (event.step, event.detail.as_str())).collect()
    }

    /// Directories among the inputs that hold a file called `name`, with its contents.
    pub(super) fn beside_inputs<T: DeserializeOwned>(&mut self, name: &str) -> Vec<(PathBuf, T)> {
        let paths: Vec<PathBuf> = self.recipe.inputs.values().map(|input| input.path.clone()).collect();
        paths
            .into_iter()
            .filter_map(|dir| Some((dir.clone(), optional(&dir.join(name), &mut self.complaints)?)))
            .collect()
    }
}

fn command(recipe: &Recipe) -> Option<&str> {
    recipe.runtime.get("command")?.as_str()
}

/// The command that made the run or road in `dir`, where that is known.
pub(super) fn command_of(dir: &Path) -> Option<String> {
    command(&Recipe::load(dir).ok()?).map(str::to_owned)
}

/// A smoothed curve: the mean over a window that is a sixtieth of the run, and narrower where the run is
/// young and the curve is steep.
pub(super) fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut sums = vec![0.0];
    sums.extend(points.iter().scan(0.0, |sum, point| {
        *sum += point.1;
        Some(*sum)
    }));
    let smoothed = points.iter().enumerate().map(|(i, &(step, _))| {
        let reach = (points.len() / 60).min(i / 4);
        let (from, to) = (i - reach, (i + reach + 1).min(points.len()));
        (step, (sums[to] - sums[from]) / (to - from) as f64)
    });
    smoothed.collect()
}

/// The finite numbers under `key` by rising step. A step that was done twice counts as it was done last.
fn series(lines: &[Map<String, Value>], key: &str) -> Vec<(f64, f64)> {
    let point = |line: &Map<String, Value>| Some((line.get("step")?.as_u64()?, line.get(key)?.as_f64()?));
    // Sums and differences of what is drawn must stay finite.
    let points: BTreeMap<u64, f64> =
        lines.iter().filter_map(point).filter(|point| point.1.abs() < 1e100).collect();
    points.into_iter().map(|(step, value)| (step as f64, value)).collect()
}

fn lines<T: DeserializeOwned>(dir: &Path, name: &str, complaints: &mut Vec<String>) -> Result<Vec<T>> {
    let lines = run::read_lines(&dir.join(name))?;
    if let [first, ..] = lines.unreadable[..] {
        complaints.push(format!(
            "{name}: {} lines cannot be read, the first is line {first}",
            lines.unreadable.len()
        ));
    }
    Ok(lines.items)
}

/// A JSON file that need not exist. One that is damaged is complained about.
fn optional<T: DeserializeOwned>(path: &Path, complaints: &mut Vec<String>) -> Option<T> {
    let bytes = fs::read(path).ok()?;
    let parsed = serde_json::from_slice(&bytes).with_context(|| format!("{} cannot be read", path.display()));
    parsed.map_err(|error| complaints.push(format!("{error:#}"))).ok()
}
