//! The runs and roads under a folder, as far as their files tell. It takes no lock: some may be going on.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};

use super::claim::LOCK;
use super::{CHECKPOINTS, CONFIG, EVENTS, Event, EventKind, Lines, METRICS, Recipe, read_lines};
use crate::checkpoint;

/// Folders within folders that are looked into.
const DEPTH: usize = 6;

/// Which figure tells how good a model of a stage is, and whether more is better. Whatever is not listed is
/// told by its validation loss.
const FIGURES: [(&str, &str, bool); 5] = [
    ("ppo", "eval/reward", true),
    ("grpo", "eval/reward", true),
    ("reward", "val_accuracy", true),
    ("dpo", "val_accuracy", true),
    ("finetune", "val_accuracy", true),
];
const LOSS: (&str, bool) = ("val_loss", false);

/// The figure that tells how good a model of a stage is, and whether more of it is better.
pub fn figure_of(stage: &str) -> (&'static str, bool) {
    FIGURES.iter().find(|(of, ..)| *of == stage).map_or(LOSS, |(_, name, highest)| (*name, *highest))
}

/// How a run or a road stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A process works at it.
    Running,
    /// All is done.
    Finished,
    /// Somebody stopped it: the same command goes on.
    Stopped,
    /// It ended without a word, by a kill or a crash: the same command goes on.
    Killed,
    /// It ended in numbers that are not finite, or exploded.
    Failed,
}

/// The best value of a figure of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The name that metrics have for it.
    pub name: String,
    /// Its best value.
    pub value: f64,
    /// The step after which it was measured.
    pub step: u64,
}

/// A run or a road.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// Its directory.
    pub path: PathBuf,
    /// The stage; of a road the command that walks it.
    pub stage: String,
    /// How it stands.
    pub state: State,
    /// Steps done; none for a road.
    pub steps: Option<u64>,
    /// The model that it began from; none for random weights and for roads.
    pub parent: Option<String>,
    /// The best figure so far; none where nothing was measured yet, and for roads.
    pub best: Option<Figure>,
}

/// The runs and roads in `dir` and its folders, by path. A folder whose recipe cannot be read is none.
///
/// # Errors
/// `dir` cannot be listed.
pub fn list(dir: &Path) -> Result<Vec<Listed>> {
    fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut found = Vec::new();
    look(dir, DEPTH, &mut |dir, recipe| found.extend(listed(dir, &recipe).ok()));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The runs in `dir` and its folders, by path, with their recipes: no journal is read.
pub fn find(dir: &Path) -> Vec<(PathBuf, Recipe)> {
    let mut found = Vec::new();
    look(dir, DEPTH, &mut |dir, recipe| {
        if dir.join(CHECKPOINTS).is_dir() {
            found.push((dir.to_owned(), recipe));
        }
    });
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// How the run in `dir` stands, by what happened to it last.
pub fn state_of(dir: &Path) -> State {
    let events = read_lines::<Event>(&dir.join(EVENTS));
    state(dir, events.ok().and_then(|events| events.items.last().map(|event| event.event)))
}

fn look(dir: &Path, depth: usize, found: &mut dyn FnMut(&Path, Recipe)) {
    let recipe = dir.join(CONFIG).exists().then(|| Recipe::load(dir).ok()).flatten();
    let is_run = recipe.is_some() && dir.join(CHECKPOINTS).is_dir();
    recipe.into_iter().for_each(|recipe| found(dir, recipe));
    // Within a run there are checkpoints only.
    let Some(depth) = depth.checked_sub(1).filter(|_| !is_run) else { return };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        // Links may lead in circles.
        if !is_hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            look(&entry.path(), depth, found);
        }
    }
}

fn listed(dir: &Path, recipe: &Recipe) -> Result<Listed> {
    let stage = recipe.stage.clone();
    let path = dir.to_owned();
    if let Some(is_finished) = checkpoint::road_is_finished(dir) {
        let state = state(dir, Some(if is_finished { EventKind::Finished } else { EventKind::Stopped }));
        return Ok(Listed { path, stage, state, steps: None, parent: None, best: None });
    }
    let events: Lines<Event> = read_lines(&dir.join(EVENTS))?;
    let metrics: Lines<Map<String, Value>> = read_lines(&dir.join(METRICS))?;
    let (name, highest) = figure_of(&stage);
    let parent = ["init", "policy"].into_iter().find_map(|key| parent(recipe, key));
    Ok(Listed {
        state: state(dir, events.items.last().map(|event| event.event)),
        steps: metrics.items.iter().filter_map(|line| line.get("step")?.as_u64()).max(),
        best: best(&metrics.items, name, highest).or_else(|| best(&metrics.items, LOSS.0, LOSS.1)),
        path,
        stage,
        parent,
    })
}

/// How it stands by the last that happened to it, unless somebody has its lock.
fn state(dir: &Path, last: Option<EventKind>) -> State {
    let lock = File::open(dir.join(LOCK));
    if lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))) {
        return State::Running;
    }
    match last {
        Some(EventKind::Finished) => State::Finished,
        Some(EventKind::Failed) => State::Failed,
        Some(EventKind::Stopped) => State::Stopped,
        _ => State::Killed,
    }
}

fn best(metrics: &[Map<String, Value>], name: &str, highest: bool) -> Option<Figure> {
    let measured = metrics.iter().filter_map(|line| {
        let (step, value) = (line.get("step")?.as_u64()?, line.get(name)?.as_f64()?);
        Some(Figure { name: name.to_owned(), value, step })
    });
    measured.reduce(|best, next| {
        let is_better = if highest { next.value > best.value } else { next.value < best.value };
        if is_better { next } else { best }
    })
}

/// The model that a run began from as the input `key`: its run, where it is a checkpoint of one.
fn parent(recipe: &Recipe, key: &str) -> Option<String> {
    let path = &recipe.inputs.get(key)?.path;
    let run = path.ancestors().nth(2).filter(|run| run.join(CONFIG).exists());
    Some(run.unwrap_or(path).display().to_string())
}
