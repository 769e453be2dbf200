//! A road's directory as a model: the one that its stages lead to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::find::{ModelDir, Newest, newest_good, steps};
use super::manifest::{MANIFEST, Manifest};

/// The plan of a road, which no run has.
pub const PLAN: &str = "plan.toml";

/// The stages whose models write texts. Of several the first is the one to use, as in the chat that ends a
/// road: what was trained with the reward model, then what was trained without one, then their beginnings.
const STAGES: [&str; 4] = ["ppo", "dpo", "sft", "pretrain"];

/// Whether a directory is a road's.
pub(super) fn is_road(dir: &Path) -> bool {
    dir.join(PLAN).is_file()
}

/// Whether all that a road's plan names is done; none for a directory that is no road's.
pub fn is_finished(dir: &Path) -> Option<bool> {
    #[derive(serde::Deserialize)]
    struct Stage {
        finished: bool,
    }
    let plan: BTreeMap<String, Stage> = toml::from_str(&fs::read_to_string(dir.join(PLAN)).ok()?).ok()?;
    Some(plan.values().all(|stage| stage.finished))
}

/// The runs of a road that have a model, by their directories' names; none for a directory that is no road's.
///
/// # Errors
/// It cannot be listed.
pub fn stages(dir: &Path) -> Result<Option<Vec<(String, PathBuf)>>> {
    if !is_road(dir) {
        return Ok(None);
    }
    let mut runs = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        if stage_of(&entry.path()).is_some() {
            runs.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    runs.sort();
    Ok(Some(runs))
}

/// The model of a road's last good stage; its warnings say which that is.
pub(super) fn last_stage(dir: &Path) -> Result<ModelDir> {
    let (run, stage, (path, manifest), mut warnings) = last_good(dir)?;
    warnings.insert(
        0,
        format!(
            "{} is a road: the model of its last stage, {stage}, is used ({})",
            dir.display(),
            run.display()
        ),
    );
    Ok(ModelDir { path, manifest: Some(manifest), origin: None, warnings, adapter: None })
}

type Found = (PathBuf, &'static str, (PathBuf, Manifest), Vec<String>);

/// The last stage that has a good checkpoint: its run, its name, the checkpoint, and what a person should
/// know.
fn last_good(dir: &Path) -> Result<Found> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let run = entry.with_context(|| format!("cannot list {}", dir.display()))?.path();
        if let Some(place) = stage_of(&run).and_then(|stage| STAGES.iter().position(|known| *known == stage))
        {
            runs.push((place, run));
        }
    }
    runs.sort();
    let mut damaged_all = Vec::new();
    for (place, run) in runs {
        let Newest { found, damaged } = newest_good(&run.join("checkpoints"))?;
        damaged_all.extend(damaged.into_iter().map(|reason| format!("{reason}: an older one is used")));
        if let Some(found) = found {
            return Ok((run, STAGES[place], found, damaged_all));
        }
    }
    bail!(
        "{} is a road without a model yet: its command goes on where it was stopped{}",
        dir.display(),
        damaged_all.iter().map(|reason| format!("\n{reason}")).collect::<String>()
    )
}

/// The stage of a run, as the newest of its checkpoints that can be read tells it; whether that is whole is
/// looked at later.
fn stage_of(run: &Path) -> Option<String> {
    let newest = steps(&run.join("checkpoints")).ok()?.into_iter().rev();
    let manifests = newest.map(|(_, path)| Manifest::from_bytes(&fs::read(path.join(MANIFEST)).ok()?).ok());
    manifests.flatten().next().map(|manifest| manifest.about.stage)
}
