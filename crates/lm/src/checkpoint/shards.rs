//! The files that hold a model's tensors: one, or shards with an index or without.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::family::Family;
use super::generation::read_object;
use super::manifest::is_plain;
use super::tensor_file::TensorFiles;
use super::{INDEX, MODEL};

/// The parts of `model.safetensors.index.json` that are read.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The model's tensors under their full names: one file, or shards.
pub(super) fn open_tensors(dir: &Path, family: &Family, warnings: &mut Vec<String>) -> Result<TensorFiles> {
    let (single, index) = (dir.join(MODEL), dir.join(INDEX));
    let wrapped = Cell::new(None);
    let full_name = |name: &str| {
        let own = unwrapped(name);
        if own != name {
            wrapped.set(Some(name.to_owned()));
        }
        family.full_name(&own)
    };
    let tensors = if single.exists() {
        TensorFiles::open(&[single], full_name)?
    } else if index.exists() {
        let read = || -> Result<Index> {
            Ok(serde_json::from_value(read_object(&index)?.unwrap_or_default().into())?)
        };
        let weight_map = read().with_context(|| index.display().to_string())?.weight_map;
        let names: BTreeSet<&String> = weight_map.values().collect();
        for name in &names {
            ensure!(is_plain(name), "{}: {name:?} is not the name of a file beside it", index.display());
        }
        let paths: Vec<PathBuf> = names.into_iter().map(|name| dir.join(name)).collect();
        let tensors = TensorFiles::open(&paths, full_name)?;
        for (name, file) in &weight_map {
            let held = tensors.file_of(&full_name(name));
            ensure!(held == Some(&dir.join(file)), "{}: {name} is not in {file}", index.display());
        }
        tensors
    } else {
        TensorFiles::open(&shards_without_index(dir)?, full_name)?
    };
    if let Some(name) = wrapped.take() {
        warnings.push(format!(
            "{}: tensors have names such as {name}, which torch.compile or DistributedDataParallel wrapped; they are read without",
            dir.display()
        ));
    }
    Ok(tensors)
}

/// A tensor's name without what `torch.compile` (`_orig_mod.`) and `DistributedDataParallel` (`module.`) put
/// around a model or parts of it.
fn unwrapped(name: &str) -> String {
    let mut name = name.replace("_orig_mod.", "");
    while let Some(rest) = name.strip_prefix("module.") {
        name = rest.to_owned();
    }
    name
}

/// The files `model-00001-of-00002.safetensors` … where no index tells of them.
///
/// # Errors
/// One is missing, or there are none: names what is there.
fn shards_without_index(dir: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list {}", dir.display());
    let mut there = Vec::new();
    for entry in fs::read_dir(dir).with_context(context)? {
        there.push(entry.with_context(context)?.file_name().to_string_lossy().into_owned());
    }
    there.sort();
    let parts = |name: &str| -> Option<(usize, usize)> {
        let (number, of) = name.strip_prefix("model-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
        Some((number.parse().ok()?, of.parse().ok()?))
    };
    let shards: BTreeMap<usize, &String> =
        there.iter().filter_map(|name| Some((parts(name)?.0, name))).collect();
    if let Some(of) = there.iter().find_map(|name| parts(name)).map(|(_, of)| of) {
        let missing: Vec<String> = (1..=of)
            .filter(|number| !shards.contains_key(number))
            .map(|number| number.to_string())
            .take(5)
            .collect();
        ensure!(
            missing.is_empty() && shards.len() == of,
            "{}: there are {} of {of} shards and no {INDEX}; missing is shard {}",
            dir.display(),
            shards.len(),
            missing.join(", ")
        );
        return Ok(shards.into_values().map(|name| dir.join(name)).collect());
    }
    const WEIGHTS: [&str; 7] = [".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5"];
    let weights: Vec<&str> = there
        .iter()
        .map(String::as_str)
        .filter(|name| WEIGHTS.iter().any(|end| name.ends_with(end)))
        .take(5)
        .collect();
    let found = match weights.as_slice() {
        [] => "there are no weights in any format".to_owned(),
        weights => format!("there is {}", weights.join(", ")),
    };
    let hint = match weights.iter().find(|name| name.ends_with(".gguf")) {
        Some(gguf) => format!("name the file itself, {}", dir.join(gguf).display()),
        None if weights.iter().any(|name| name.ends_with(".safetensors")) => {
            format!("a model's weights are in {MODEL}, or in shards model-00001-of-….safetensors")
        }
        None => {
            "a model in another format is converted by transformers: from_pretrained, then save_pretrained"
                .to_owned()
        }
    };
    bail!("{}: neither {MODEL} nor {INDEX}; {found}: {hint}", dir.display())
}
