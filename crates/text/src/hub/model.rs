//! A model of the hub, or an adapter: which files of a repository are needed to load it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::listing::check_path;
use super::{Hub, Kind, Name, Repository};
use crate::progress::Progress;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// What makes a repository without a configuration of a model one of an adapter (PEFT).
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];
/// What is fetched besides, where it is there: how to speak, and the tokenizer in its forms.
const COMPANIONS: &[&str] = &[
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
];
/// Weights in formats that are programs or belong to other libraries.
const FOREIGN: &[&str] = &[".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx"];
/// So many names a message shows.
const SHOWN: usize = 12;

/// A model on this machine.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its directory, or the `.gguf` file that was named.
    pub path: PathBuf,
    /// What it is, pinned to a commit: `hf:OWNER/NAME@COMMIT`.
    pub name: Name,
}

/// Where the weights of a repository are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weights {
    Single,
    Sharded,
    /// Beside those of another model.
    Adapter,
}

/// The part of `model.safetensors.index.json` that tells the files.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Hub {
    /// The model or the adapter `name`, fetched where it is not in the cache.
    ///
    /// # Errors
    /// The repository or revision does not exist, is restricted, holds no model that can be read, cannot be
    /// reached and is not in the cache; or the cache cannot be written.
    pub fn model(&self, name: &Name, progress: &dyn Progress) -> Result<Model> {
        let repository = self.open(Kind::Model, name, progress)?;
        if let Some(file) = name.file() {
            pick(&repository, file)?;
            repository.fetch(&[file], progress)?;
            return Ok(Model { path: repository.dir().join(file), name: repository.name().clone() });
        }
        let weights = find_weights(&repository)?;
        let companions = COMPANIONS.iter().copied().filter(|file| repository.has(file));
        let mut files: Vec<&str> = companions.collect();
        match weights {
            Weights::Single => {
                files.extend([CONFIG, WEIGHTS]);
                repository.fetch(&files, progress)?;
            }
            Weights::Adapter => {
                files.extend(ADAPTER);
                repository.fetch(&files, progress)?;
            }
            Weights::Sharded => {
                repository.fetch(&[INDEX], progress)?;
                let shards = shards(&repository)?;
                files.push(CONFIG);
                files.extend(shards.iter().map(String::as_str));
                repository.fetch(&files, progress)?;
            }
        }
        Ok(Model { path: repository.dir(), name: repository.name().clone() })
    }
}

/// Where the weights are, or why there are none.
fn find_weights(repository: &Repository<'_>) -> Result<Weights> {
    let is_adapter = !repository.has(CONFIG) && ADAPTER.iter().all(|file| repository.has(file));
    if is_adapter {
        return Ok(Weights::Adapter);
    }
    if !repository.is_listed()
        && !(repository.has(CONFIG) && (repository.has(WEIGHTS) || repository.has(INDEX)))
    {
        return Err(repository.missing("a whole model"));
    }
    let name = repository.name();
    let ggufs = names_ending(repository, &[".gguf"]);
    match (repository.has(CONFIG), repository.has(WEIGHTS), repository.has(INDEX)) {
        (true, true, _) => Ok(Weights::Single),
        (true, false, true) => Ok(Weights::Sharded),
        _ if !ggufs.is_empty() => bail!(
            "{name} has its weights as .gguf files only: name one of them, as in hf:{}/{}\n  {}",
            name.repository(),
            ggufs[0],
            shown(&ggufs)
        ),
        (config, ..) => {
            let foreign = names_ending(repository, FOREIGN);
            ensure!(
                !config || foreign.is_empty(),
                "{name} has its weights in another format only ({}): {WEIGHTS} is read. transformers converts them: \
                 from_pretrained, then save_pretrained; then name the directory that this wrote",
                shown(&foreign)
            );
            let lacks = if config { format!("{WEIGHTS} nor {INDEX}") } else { CONFIG.to_owned() };
            bail!("{name} is no model that can be read: it has no {lacks}")
        }
    }
}

/// The `.gguf` file that was named must be there.
fn pick(repository: &Repository<'_>, file: &str) -> Result<()> {
    if repository.has(file) {
        return Ok(());
    }
    if !repository.is_listed() {
        return Err(repository.missing(file));
    }
    let ggufs = names_ending(repository, &[".gguf"]);
    ensure!(!ggufs.is_empty(), "{}: no .gguf file is in this repository", repository.name());
    bail!("{}: there is no such file; there are\n  {}", repository.name(), shown(&ggufs))
}

/// The files that the index names.
fn shards(repository: &Repository<'_>) -> Result<BTreeSet<String>> {
    let path = repository.dir().join(INDEX);
    let read = || -> Result<Index> { Ok(serde_json::from_slice(&std::fs::read(&path)?)?) };
    let index = read().with_context(|| path.display().to_string())?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    for shard in &shards {
        check_path(shard)?;
        ensure!(
            repository.has(shard) || !repository.is_listed(),
            "{}: {INDEX} names {shard}, which the repository does not have",
            repository.name()
        );
    }
    Ok(shards)
}

fn names_ending<'a>(repository: &'a Repository<'_>, endings: &[&str]) -> Vec<&'a str> {
    let ends = |file: &&str| endings.iter().any(|ending| file.to_ascii_lowercase().ends_with(ending));
    repository.files().filter(ends).collect()
}

fn shown(files: &[&str]) -> String {
    let mut text = files.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if files.len() > SHOWN {
        text += &format!(" and {} more", files.len() - SHOWN);
    }
    text
}
