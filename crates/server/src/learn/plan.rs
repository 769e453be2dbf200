//! What is being learned, as a file beside the runs: whoever reads it can go on.

use anyhow::{Context, Result};
use lm::train::run::{State, state_of, write_atomically};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use utoipa::ToSchema;

/// Name of the file.
const PLAN: &str = "plan.json";

/// How a model learns from rankings, once a reward model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    /// Proximal policy optimisation, against the reward model.
    Ppo,
    /// Direct preference optimisation, from the rankings.
    Dpo,
}

impl By {
    /// The verb.
    pub(super) fn name(self) -> &'static str {
        match self {
            By::Ppo => "ppo",
            By::Dpo => "dpo",
        }
    }
}

/// A training: a verb of this program, whose run has its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Stage {
    pub(super) name: String,
    /// Of the command line, the verb first.
    pub(super) arguments: Vec<String>,
}

/// A model that learns, or has learned, from what people said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Generation {
    pub(super) number: u64,
    /// The model's name, and its folder's.
    pub(super) name: String,
    /// The model that it began from.
    pub(super) parent: String,
    pub(super) by: By,
    /// How many rankings it learns from.
    pub(super) rankings: usize,
    pub(super) stages: Vec<Stage>,
    /// The process that works at it, if one does.
    pub(super) pid: Option<u32>,
    /// Why it ended before its end.
    pub(super) failed: Option<String>,
    #[serde(skip)]
    pub(super) dir: PathBuf,
}

impl Generation {
    /// All in `folder`, the first one first. What cannot be read is none.
    pub(super) fn all(folder: &Path) -> Vec<Generation> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut all: Vec<Generation> =
            entries.filter_map(|entry| Generation::read(&entry.path()).ok()).collect();
        all.sort_by_key(|generation| generation.number);
        all
    }

    fn read(dir: &Path) -> Result<Generation> {
        let text = fs::read(dir.join(PLAN))?;
        Ok(Generation { dir: dir.to_owned(), ..serde_json::from_slice(&text)? })
    }

    /// Writes it down.
    pub(super) fn keep(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("a plan is JSON")?;
        write_atomically(&self.dir.join(PLAN), &text)
    }

    /// Where a stage's run is.
    pub(super) fn run(&self, stage: &Stage) -> PathBuf {
        self.dir.join(&stage.name)
    }

    /// Where what a stage says is.
    pub(super) fn log(&self, stage: &Stage) -> PathBuf {
        self.dir.join(format!("{}.log", stage.name))
    }

    /// The stage that is to be done next; none when all are.
    pub(super) fn next(&self) -> Option<&Stage> {
        self.stages.iter().find(|stage| !self.is_done(stage))
    }

    /// Whether a stage is done.
    pub(super) fn is_done(&self, stage: &Stage) -> bool {
        state_of(&self.run(stage)) == State::Finished
    }

    /// The models that it makes, the one to talk to last: name and place.
    pub(super) fn models(&self) -> Vec<(String, PathBuf)> {
        let name = |stage: &Stage| match stage.name.as_str() {
            "reward" => format!("{}-reward", self.name),
            _ => self.name.clone(),
        };
        self.stages.iter().map(|stage| (name(stage), self.run(stage))).collect()
    }
}
