//! The run directory of processes that train together: the first of them has it, and alone reads and writes
//! it. The others hear what came of that; checkpoints are all that they read of it themselves.

use crate::train::run::{RunDir, checkpoint_path, refuse_other_recipes};
use anyhow::{Context, Result};
use ranks::Ranks;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use text::output::Recipe;

/// A run directory, as one of some ranks has it.
pub(super) struct SharedRun {
    ranks: Ranks,
    path: PathBuf,
    /// On the first rank.
    dir: Option<RunDir>,
}

impl SharedRun {
    /// Opens the run directory `path` of `recipe`, which must be that of all ranks.
    ///
    /// # Errors
    /// The ranks have different recipes or data: the difference is shown. See [`RunDir::open`].
    pub(super) fn open(ranks: &Ranks, path: &Path, recipe: &Recipe) -> Result<Self> {
        refuse_other_recipes(ranks, recipe)?;
        let mut dir = None;
        ranks.lead(|| {
            dir = Some(RunDir::open(path, recipe)?);
            Ok(())
        })?;
        Ok(SharedRun { ranks: ranks.clone(), path: path.into(), dir })
    }

    /// Who has it together.
    pub(super) fn ranks(&self) -> &Ranks {
        &self.ranks
    }

    /// What `work` returns, which the first rank does for all.
    ///
    /// # Errors
    /// Those of `work`, on every rank.
    pub(super) fn lead<T: Serialize + DeserializeOwned>(
        &mut self,
        work: impl FnOnce(&mut RunDir) -> Result<T>,
    ) -> Result<T> {
        let Self { ranks, dir, .. } = self;
        ranks.lead(|| work(dir.as_mut().context("the first rank has the run directory")?))
    }

    /// Where the checkpoint of `step` belongs.
    pub(super) fn checkpoint_path(&self, step: u64) -> PathBuf {
        checkpoint_path(&self.path, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::run::METRICS;
    use serde_json::json;

    #[test]
    fn the_first_rank_alone_writes() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let recipe = Recipe::new("pretrain", toml::toml! { lr = 0.1 steps = 3 });
        let written = ranks::threads(4, |ranks| {
            let mut run = SharedRun::open(&ranks, &out, &recipe).unwrap();
            run.lead(|run| run.metrics.append(&json!({"step": 1, "loss": 0.1}))).unwrap();
            let loss = run.lead(|run| run.metric("loss", 1)).unwrap();
            let failed: Result<()> = run.lead(|_| anyhow::bail!("the disk is full"));
            (loss, failed.unwrap_err().to_string())
        });
        assert!(written.iter().all(|told| *told == (Some(0.1), "the disk is full".into())), "{written:?}");
        assert_eq!(std::fs::read_to_string(out.join(METRICS)).unwrap(), "{\"step\":1,\"loss\":0.1}\n");
    }

    #[test]
    fn other_recipes_are_refused_with_the_difference() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        let refused = ranks::threads(2, |ranks| {
            let lr = [0.1, 0.2][ranks.rank()];
            let mut settings = toml::toml! { steps = 3 };
            settings.insert("lr".into(), lr.into());
            SharedRun::open(&ranks, &out, &Recipe::new("pretrain", settings))
                .err()
                .map(|error| error.to_string())
        });
        for why in refused {
            let why = why.unwrap();
            assert!(why.contains("0.1") && why.contains("0.2") && why.contains("settings.lr"), "{why}");
        }
        assert!(!out.exists(), "nothing was begun");
    }
}
