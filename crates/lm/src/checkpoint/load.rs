//! A model directory → configuration and weights.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::CONFIG;
use super::family::Family;
use super::find::{ModelDir, resolve_model};
use super::fit::{HEAD, check_sizes, check_tensors, has_other_head};
use super::generation::{Generation, read_object};
use super::gguf;
use super::model::Checkpoint;
use super::shards::open_tensors;
use crate::model::{Config, specs};
use text::progress::Progress;

/// Opens the model that `path` names (see [`resolve_model`]) and checks that names, shapes and number formats
/// are those of its configuration.
///
/// # Errors
/// Which file and which tensor is missing, unknown, misshaped or damaged, or what is not supported.
pub fn open(path: &Path, progress: &dyn Progress) -> Result<Checkpoint> {
    resolve_model(path, progress)?.open()
}

impl ModelDir {
    /// Opens the directory or the file; see [`open`].
    pub fn open(self) -> Result<Checkpoint> {
        match self.adapter {
            Some(dir) => ModelDir { adapter: None, ..self }.open()?.beside_dir(dir),
            None if self.path.is_file() => gguf::open(self),
            None => self.open_dir(),
        }
    }

    fn open_dir(self) -> Result<Checkpoint> {
        let ModelDir { path, manifest, origin, mut warnings, adapter: _ } = self;
        let config_path = path.join(CONFIG);
        let (family, mut config) =
            read_config(&config_path, &mut warnings).with_context(|| config_path.display().to_string())?;

        let tensors = open_tensors(&path, family, &mut warnings)?;
        ensure!(
            config.n_layer <= tensors.len(),
            "{}: {} layers, but the model has {} tensors in all",
            config_path.display(),
            config.n_layer,
            tensors.len()
        );
        if config.tied_head && config.n_label.is_none() && has_other_head(&tensors, &family.names, &config)? {
            config.tied_head = false;
            warnings.push(format!(
                "{}: tie_word_embeddings is true, but {} differs from the embedding: it is used",
                config_path.display(),
                family.names.of(HEAD)
            ));
        }
        let specs = specs(&config);
        check_tensors(&tensors, &family.names, &config, &specs)?;
        let generation = Generation::of_dir(&path)?;
        Ok(Checkpoint {
            path,
            generation,
            architecture: family.class(&config),
            config,
            manifest,
            origin,
            warnings,
            names: &family.names,
            specs,
            tensors,
            adapter: None,
            vocabulary: None,
        })
    }
}

fn read_config(path: &Path, warnings: &mut Vec<String>) -> Result<(&'static Family, Config)> {
    let fields = read_object(path)?.with_context(|| format!("there is no {CONFIG}"))?;
    let json = Value::Object(fields);
    let family = Family::of(&json)?;
    let config = family.config(&json, warnings)?;
    check_sizes(&config)?;
    Ok((family, config))
}
