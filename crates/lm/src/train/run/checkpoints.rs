//! The checkpoints of a run, `checkpoints/step-000500/`: which of them are kept, and what an interruption
//! left is removed. What is inside one is not looked at here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::checkpoint;

/// A directory whose name holds this is unfinished or half removed: whoever opens the run sweeps it away.
pub const TEMPORARY: &str = ".tmp";

/// One checkpoint of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedStep {
    /// Optimizer steps behind it.
    pub step: u64,
    /// Its directory.
    pub path: PathBuf,
}

/// The checkpoints of the run in `run_dir`, oldest first; needs no lock.
pub fn checkpoints(run_dir: &Path) -> Result<Vec<SavedStep>> {
    let steps = checkpoint::steps(&run_dir.join(super::CHECKPOINTS))?;
    Ok(steps.into_iter().map(|(step, path)| SavedStep { step, path }).collect())
}

/// Where the checkpoint of `step` lies.
pub fn checkpoint_path(run_dir: &Path, step: u64) -> PathBuf {
    run_dir.join(super::CHECKPOINTS).join(format!("step-{step:06}"))
}

/// Removes what an interruption left half written or half removed.
pub(super) fn sweep(run_dir: &Path) -> Result<()> {
    let dir = run_dir.join(super::CHECKPOINTS);
    let context = || format!("cannot list {}", dir.display());
    for entry in fs::read_dir(&dir).with_context(context)? {
        let entry = entry.with_context(context)?;
        if entry.file_name().to_string_lossy().contains(TEMPORARY) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Renames the checkpoints after `step`, or all, to `NAME.damaged`. A run goes on from the newest good one,
/// so these could not be used; left in place, they would be kept instead of newer good ones.
pub(super) fn set_aside_after(run_dir: &Path, step: Option<u64>) -> Result<()> {
    for checkpoint in checkpoints(run_dir)?.into_iter().filter(|checkpoint| Some(checkpoint.step) > step) {
        let aside = checkpoint.path.with_extension("damaged");
        if aside.exists() {
            remove(&aside)?;
        }
        fs::rename(&checkpoint.path, &aside).with_context(|| {
            format!("cannot set aside the damaged checkpoint {}", checkpoint.path.display())
        })?;
    }
    Ok(())
}

/// Keeps the newest `keep_last` (at least one) and those of the steps `kept`; removes the others.
pub(super) fn retain(run_dir: &Path, keep_last: usize, kept: &[u64]) -> Result<()> {
    let found = checkpoints(run_dir)?;
    let old = found.len().saturating_sub(keep_last.max(1));
    for checkpoint in &found[..old] {
        if kept.contains(&checkpoint.step) {
            continue;
        }
        // A half-removed directory must never look like a checkpoint: it loses its name first.
        let doomed = checkpoint.path.with_extension("tmp-removed");
        fs::rename(&checkpoint.path, &doomed)
            .with_context(|| format!("cannot remove the old checkpoint {}", checkpoint.path.display()))?;
        remove(&doomed)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}
