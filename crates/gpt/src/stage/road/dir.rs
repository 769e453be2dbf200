//! A road's directory: what was asked for, how far each stage goes, and how long each took.
//!
//! ```text
//! runs/NAME/
//!   config.toml   the recipe of the road, as a run has one: decides whether a command may continue it
//!   plan.toml     the size and the time of every stage that has begun, and what minutes are worth here
//!   STAGE/        a run directory or data of each stage
//! ```

use super::budget::Budget;
use crate::checkpoint::PLAN;
use crate::progress::Progress;
use crate::report;
use crate::stage::{Machine, settings};
use crate::train::run::{Recipe, claim, write_atomically};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A road that this process, and no other, walks.
pub(super) struct RoadDir<'a> {
    path: PathBuf,
    plan: BTreeMap<String, StagePlan>,
    /// The stages that were walked or passed, in order.
    stages: Vec<report::Stage>,
    /// How many there are.
    total: usize,
    progress: &'a dyn Progress,
    _lock: File,
}

/// The recipe of a road: what is its own, and what decides every road.
pub(super) fn recipe(
    name: &str,
    mut settings: toml::Table,
    budget: Option<Budget>,
    seed: u64,
    machine: &Machine,
) -> Result<Recipe> {
    if let Some(budget) = budget {
        budget.check()?;
        budget.record(&mut settings);
    }
    settings::recipe(name, settings, seed, machine)
}

/// What is known of a stage.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StagePlan {
    /// How far it goes, as a multiple of its usual amounts: decided when it begins, and kept.
    size: Option<f64>,
    /// Seconds of work in all walks, until it was finished.
    secs: f64,
    finished: bool,
}

impl<'a> RoadDir<'a> {
    /// Creates the directory of a road with `total` stages, or opens it again if `recipe` agrees with the one
    /// stored there.
    ///
    /// # Errors
    /// It belongs to another road, to a run, or to another process; its files are damaged.
    pub(super) fn open(
        path: &Path,
        recipe: &Recipe,
        total: usize,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        let lock = claim(path, recipe)?;
        let file = path.join(PLAN);
        let plan = match file.exists() {
            true => {
                let text = std::fs::read_to_string(&file);
                let text = text.with_context(|| format!("cannot read {}", file.display()))?;
                toml::from_str(&text).with_context(|| {
                    format!("{} is damaged: remove it, and sizes are decided anew", file.display())
                })?
            }
            false => BTreeMap::new(),
        };
        Ok(RoadDir { path: path.to_owned(), plan, stages: Vec::new(), total, progress, _lock: lock })
    }

    /// Seconds of work so far.
    pub(super) fn secs(&self) -> f64 {
        self.plan.values().map(|stage| stage.secs).sum()
    }

    /// The size of a stage that has begun.
    pub(super) fn decided(&self, stage: &str) -> Option<f64> {
        self.plan.get(stage).and_then(|stage| stage.size)
    }

    /// The size of a stage: what it was when it began, or else what `decide` says now.
    pub(super) fn size(&mut self, stage: &str, decide: impl FnOnce() -> Result<f64>) -> Result<f64> {
        if let Some(size) = self.decided(stage) {
            return Ok(size);
        }
        let began = Instant::now();
        let size = decide()?;
        let known = self.plan.entry(stage.to_owned()).or_default();
        known.size = Some(size);
        known.secs += began.elapsed().as_secs_f64();
        self.save()?;
        Ok(size)
    }

    /// A figure that decides about the whole road: what it was when the road began, or else what `decide` says
    /// now. It stands in the plan like a stage that took as long as deciding did.
    pub(super) fn decided_once(&mut self, name: &str, decide: impl FnOnce() -> Result<f64>) -> Result<f64> {
        let figure = self.size(name, decide)?;
        if let Some(known) = self.plan.get_mut(name).filter(|known| !known.finished) {
            known.finished = true;
            self.save()?;
        }
        Ok(figure)
    }

    /// Runs the next stage, which says what came out, or nothing where somebody stopped it. A stage that is
    /// finished only passes: its time stays that of the walks that did the work. Returns whether the road
    /// goes on.
    pub(super) fn stage(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<Option<String>>,
    ) -> Result<bool> {
        let (number, total, began) = (self.stages.len() + 1, self.total, Instant::now());
        self.progress.heading(&format!("{number}/{total} {name} …"));
        let note = work().with_context(|| format!("the stage `{name}` failed"))?;
        let known = self.plan.entry(name.to_owned()).or_default();
        if !known.finished {
            known.secs += began.elapsed().as_secs_f64();
            known.finished = note.is_some();
        }
        let secs = known.secs;
        self.save()?;
        let Some(note) = note else { return Ok(false) };
        self.progress.heading(&format!("{number}/{total} {name}: {note} ({secs:.1} s)"));
        self.stages.push(report::Stage { name: name.into(), secs, note, flops: None });
        Ok(true)
    }

    /// The stages so far, for the page.
    pub(super) fn into_stages(self) -> Vec<report::Stage> {
        self.stages
    }

    fn save(&self) -> Result<()> {
        let text = toml::to_string_pretty(&self.plan).context("a plan is TOML")?;
        write_atomically(&self.path.join(PLAN), text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn road(minutes: i64) -> Recipe {
        Recipe::new("a road", toml::Table::from_iter([("minutes".to_owned(), minutes.into())]))
    }

    #[test]
    fn sizes_and_times_are_those_of_the_walk_that_did_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let walk = || RoadDir::open(dir.path(), &road(10), 2, &Silent).unwrap();
        let mut road = walk();
        assert_eq!(road.size("learn", || Ok(0.25)).unwrap(), 0.25);
        let slowly = || {
            std::thread::sleep(std::time::Duration::from_millis(30));
            Ok(Some("done".to_owned()))
        };
        assert!(!road.stage("learn", || Ok(None)).unwrap(), "it was stopped");
        assert!(road.stage("learn", slowly).unwrap());
        let secs = road.secs();
        assert!(secs >= 0.03, "{secs}");
        drop(road);
        let mut again = walk();
        assert_eq!(again.size("learn", || panic!("decided already")).unwrap(), 0.25);
        assert!(again.stage("learn", slowly).unwrap());
        assert_eq!((again.secs(), again.into_stages()[0].secs), (secs, secs));
    }

    #[test]
    fn what_decides_the_whole_road_is_decided_once_and_leaves_nothing_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let walk = || RoadDir::open(dir.path(), &road(10), 1, &Silent).unwrap();
        let mut road = walk();
        assert_eq!(road.decided_once("budget", || Ok(6e13)).unwrap(), 6e13);
        assert!(road.stage("learn", || Ok(Some("done".to_owned()))).unwrap());
        drop(road);
        assert_eq!(walk().decided_once("budget", || panic!("decided already")).unwrap(), 6e13);
        assert_eq!(crate::checkpoint::road_is_finished(dir.path()), Some(true));
    }

    #[test]
    fn a_directory_of_something_else_is_refused_with_the_difference() {
        let dir = tempfile::tempdir().unwrap();
        drop(claim(dir.path(), &Recipe::new("pretrain", toml::Table::new())).unwrap());
        let error = RoadDir::open(dir.path(), &road(10), 2, &Silent).err().unwrap().to_string();
        assert!(error.contains("stage: pretrain → a road"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        drop(RoadDir::open(dir.path(), &road(10), 2, &Silent).unwrap());
        let error = RoadDir::open(dir.path(), &road(5), 2, &Silent).err().unwrap().to_string();
        assert!(error.contains("settings.minutes: 10 → 5"), "{error}");
    }
}
