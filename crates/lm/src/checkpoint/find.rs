//! From what a person names to what is loaded: the newest good checkpoint of a run or of a road's last stage,
//! a checkpoint, any Hugging Face model directory, or a GGUF file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::gguf::header::is_gguf;
use super::manifest::{MANIFEST, Manifest, verify};
use super::missing;
use super::road::{self, is_road};
use text::hub::{Hub, Name};
use text::progress::Progress;

/// A model directory, or a GGUF file, that can be loaded.
#[derive(Clone, Debug)]
pub struct ModelDir {
    /// The directory or the file.
    pub path: PathBuf,
    /// Where it comes from, with every digest checked; none for what others wrote.
    pub manifest: Option<Manifest>,
    /// For a model of the hub, what it is, pinned to a commit.
    pub origin: Option<Name>,
    /// What a person should know: damaged checkpoints by file and reason, an unverified model.
    pub warnings: Vec<String>,
}

/// The newest checkpoint in `dir` (`step-NNNNNN` directories) whose digests are all right, if there is one.
#[derive(Clone, Debug)]
pub struct Newest {
    /// Its directory and manifest.
    pub found: Option<(PathBuf, Manifest)>,
    /// The newer ones that are damaged, by file and reason.
    pub damaged: Vec<String>,
}

/// Looks for the newest good checkpoint of a run's `checkpoints` directory. A directory that does not exist
/// has none.
pub fn newest_good(dir: &Path) -> Result<Newest> {
    let mut damaged = Vec::new();
    for (step, path) in steps(dir)?.into_iter().rev() {
        match verify(&path).and_then(|manifest| {
            ensure!(
                manifest.about.step == step,
                "{}: was written as step {}, and is not what its name says",
                path.join(MANIFEST).display(),
                manifest.about.step
            );
            Ok(manifest)
        }) {
            Ok(manifest) => return Ok(Newest { found: Some((path, manifest)), damaged }),
            Err(error) => damaged.push(format!("{error:#}")),
        }
    }
    Ok(Newest { found: None, damaged })
}

/// The `step-NNNNNN` directories in a directory by step, oldest first, good or not. A directory that does not
/// exist has none.
pub fn steps(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let context = || format!("cannot list {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(context)?,
    };
    let mut steps = Vec::new();
    for entry in entries {
        let path = entry.with_context(context)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(step) = name.strip_prefix("step-").and_then(|digits| digits.parse().ok()) {
            steps.push((step, path));
        }
    }
    steps.sort();
    Ok(steps)
}

/// Finds the model that `path` names: a run directory (its newest good checkpoint), a road's directory (its
/// last good stage), a checkpoint, any Hugging Face model directory, a GGUF file, or a model of the hub
/// (`hf:OWNER/NAME[@REVISION]`), which is fetched.
///
/// # Errors
/// Nothing is there, or every checkpoint is damaged; says which file and how. Of the hub: see [`Hub::model`].
pub fn resolve_model(path: &Path, progress: &dyn Progress) -> Result<ModelDir> {
    let Some(name) = Name::of(path)? else { return resolve_local(path) };
    let model = Hub::from_env()?.model(&name, progress)?;
    let local = resolve_local(&model.path)?;
    // Its files were held against the digests of the hub.
    Ok(ModelDir { origin: Some(model.name), warnings: Vec::new(), ..local })
}

fn resolve_local(path: &Path) -> Result<ModelDir> {
    let shown = path.display();
    ensure!(
        path.exists(),
        "{shown} does not exist{}: name a run directory, a Hugging Face model directory, a GGUF file, or hf:OWNER/NAME",
        missing::meant(path)
    );
    if path.is_file() && is_gguf(path) {
        return Ok(ModelDir { path: path.to_owned(), manifest: None, origin: None, warnings: Vec::new() });
    }
    ensure!(path.is_dir(), "{shown} is {}", missing::about_file(path));
    if path.join(super::CONFIG).exists() || path.join(MANIFEST).exists() {
        return single(path);
    }
    if is_road(path) {
        return road::last_stage(path);
    }
    let checkpoints = path.join("checkpoints");
    let shelf = if checkpoints.is_dir() { &checkpoints } else { path };
    let Newest { found, damaged } = newest_good(shelf)?;
    match found {
        Some((path, manifest)) => Ok(ModelDir {
            path,
            manifest: Some(manifest),
            origin: None,
            warnings: with_note(damaged, "an older one is used"),
        }),
        None if damaged.is_empty() && checkpoints.is_dir() => bail!(
            "{shown} is a run without a good checkpoint: it failed, or was stopped, before it had one; its report.html says which"
        ),
        None if damaged.is_empty() => bail!("{shown} holds no model: {}", missing::about_dir(path)),
        None => bail!("every checkpoint in {} is damaged:\n{}", shelf.display(), damaged.join("\n")),
    }
}

fn with_note(damaged: Vec<String>, note: &str) -> Vec<String> {
    damaged.into_iter().map(|reason| format!("{reason}: {note}")).collect()
}

/// A directory that is a model itself.
fn single(path: &Path) -> Result<ModelDir> {
    let path = path.to_owned();
    if path.join(MANIFEST).exists() {
        let manifest = verify(&path)?;
        return Ok(ModelDir { path, manifest: Some(manifest), origin: None, warnings: Vec::new() });
    }
    // Ours always has both: the manifest was lost, and with it the proof that the rest is whole.
    ensure!(
        !path.join(super::OPTIMIZER).exists(),
        "{}: missing, though {} is there: the checkpoint is damaged",
        path.join(MANIFEST).display(),
        super::OPTIMIZER
    );
    let warnings = vec![format!("{}: no {MANIFEST}, hence unverified", path.display())];
    Ok(ModelDir { path, manifest: None, origin: None, warnings })
}
