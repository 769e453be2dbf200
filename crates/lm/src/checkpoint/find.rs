//! From what a person names to what is loaded: the newest good checkpoint of a run or of a road's last stage,
//! a checkpoint, any Hugging Face model directory, or a GGUF file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::ADAPTER_CONFIG;
use super::adapter::base_of;
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
    /// What stands beside it.
    pub adapter: Option<AdapterDir>,
}

/// A directory that holds an adapter and no model.
#[derive(Clone, Debug)]
pub struct AdapterDir {
    /// The directory.
    pub path: PathBuf,
    /// Where it comes from; none for what others wrote.
    pub manifest: Option<Manifest>,
    /// What a person should know.
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
/// (`hf:OWNER/NAME[@REVISION]`), which is fetched. Of an adapter's directory the base is found, too; `BASE+ADAPTER`
/// names both.
///
/// # Errors
/// Nothing is there, or every checkpoint is damaged; says which file and how. Of the hub: see [`Hub::model`].
pub fn resolve_model(path: &Path, progress: &dyn Progress) -> Result<ModelDir> {
    if let Some((base, adapter)) = taken_apart(path) {
        let base = resolve_model(&base, progress)?;
        ensure!(base.adapter.is_none(), "{} is a model with an adapter already", base.path.display());
        return Ok(ModelDir { adapter: Some(resolve_adapter(&adapter, progress)?), ..base });
    }
    let Some(name) = Name::of(path)? else {
        return beside_base(resolve_local(path)?, progress);
    };
    beside_base(resolve_on_hub(&name, progress)?, progress)
}

/// `BASE+ADAPTER`: the name of a model with an adapter beside it.
pub fn with_adapter_named(base: &Path, adapter: &Path) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push("+");
    name.push(adapter);
    name.into()
}

/// Such a name as the two that it was made of; none where it is another, such as a directory with a + in its own.
fn taken_apart(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let text = path.to_str().filter(|_| !path.exists())?;
    let mut parts =
        text.char_indices().filter(|(_, c)| *c == '+').map(|(at, _)| (&text[..at], &text[at + 1..]));
    let known = |base: &str| Path::new(base).exists() || base.starts_with("hf:");
    let (base, adapter) = parts.rfind(|(base, adapter)| known(base) && !adapter.is_empty())?;
    Some((base.into(), adapter.into()))
}

/// What the hub has under this name, fetched.
fn resolve_on_hub(name: &Name, progress: &dyn Progress) -> Result<ModelDir> {
    let model = Hub::from_env()?.model(name, progress)?;
    let local = resolve_local(&model.path)?;
    // Its files were held against the digests of the hub.
    Ok(ModelDir { origin: Some(model.name), warnings: Vec::new(), ..local })
}

/// Finds the adapter that `path` names: a run directory that trained one (its newest good checkpoint), a
/// checkpoint, the directory of PEFT, or one of the hub.
///
/// # Errors
/// Nothing is there, it is a whole model, or every checkpoint is damaged.
pub(super) fn resolve_adapter(path: &Path, progress: &dyn Progress) -> Result<AdapterDir> {
    let found = match Name::of(path)? {
        Some(name) => resolve_on_hub(&name, progress)?,
        None => resolve_local(path)?,
    };
    let ModelDir { path: dir, manifest, warnings, .. } = found;
    ensure!(
        is_adapter(&dir),
        "{} is a model and no adapter, which has a file {ADAPTER_CONFIG}: name it with --model, without --adapter",
        path.display()
    );
    Ok(AdapterDir { path: dir, manifest, warnings })
}

fn is_adapter(dir: &Path) -> bool {
    dir.join(ADAPTER_CONFIG).exists() && !dir.join(super::CONFIG).exists()
}

/// The base that an adapter names, with the adapter beside it; any other model as it is.
fn beside_base(found: ModelDir, progress: &dyn Progress) -> Result<ModelDir> {
    if !is_adapter(&found.path) {
        return Ok(found);
    }
    let ModelDir { path, manifest, warnings, .. } = found;
    let shown = path.display();
    let (base, revision) = base_of(&path)?.with_context(|| {
        format!("{shown} is an adapter that names no base: name it, with --model BASE --adapter {shown}")
    })?;
    let revision = revision.map_or_else(String::new, |revision| format!("@{revision}"));
    let on_the_hub = || PathBuf::from(format!("hf:{base}{revision}"));
    let place = if Path::new(&base).exists() { PathBuf::from(&base) } else { on_the_hub() };
    ensure!(
        Path::new(&base).exists() || !Path::new(&base).is_absolute(),
        "{shown} is an adapter beside {base}, which is not there: name its base, with --model BASE --adapter {shown}"
    );
    let base = resolve_model(&place, progress)
        .with_context(|| format!("{shown} is an adapter, and its base cannot be used"))?;
    Ok(ModelDir { adapter: Some(AdapterDir { path, manifest, warnings }), ..base })
}

fn resolve_local(path: &Path) -> Result<ModelDir> {
    let shown = path.display();
    ensure!(
        path.exists(),
        "{shown} does not exist{}: name a run directory, a Hugging Face model directory, a GGUF file, or hf:OWNER/NAME",
        missing::meant(path)
    );
    if path.is_file() && is_gguf(path) {
        return Ok(ModelDir {
            path: path.to_owned(),
            manifest: None,
            origin: None,
            warnings: Vec::new(),
            adapter: None,
        });
    }
    ensure!(path.is_dir(), "{shown} is {}", missing::about_file(path));
    if [super::CONFIG, ADAPTER_CONFIG, MANIFEST].iter().any(|file| path.join(file).exists()) {
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
            adapter: None,
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
        return Ok(ModelDir {
            path,
            manifest: Some(manifest),
            origin: None,
            warnings: Vec::new(),
            adapter: None,
        });
    }
    // Ours always has both: the manifest was lost, and with it the proof that the rest is whole.
    ensure!(
        !path.join(super::OPTIMIZER).exists(),
        "{}: missing, though {} is there: the checkpoint is damaged",
        path.join(MANIFEST).display(),
        super::OPTIMIZER
    );
    let warnings = vec![format!("{}: no {MANIFEST}, hence unverified", path.display())];
    Ok(ModelDir { path, manifest: None, origin: None, warnings, adapter: None })
}
