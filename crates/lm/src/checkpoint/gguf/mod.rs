//! GGUF, the file of llama.cpp, Ollama and LM Studio: a model with its configuration and its tokenizer, in
//! one file.
//!
//! Its one idea: a GGUF file is a [`Checkpoint`] like any other, only with other names, other orders of rows
//! and denser number formats. [`header`] reads the container, [`entries`] and [`write`] make one;
//! [`architecture`] knows names and configurations, [`vocabulary`] the tokenizer.

mod architecture;
mod entries;
mod fields;
pub(super) mod header;
pub(super) mod metadata;
mod rope;
mod split;
pub(super) mod vocabulary;
mod write;

use anyhow::{Context, Result, ensure};

#[cfg(test)]
pub(super) use entries::Entries;
pub use write::{Quant, Written, write};

use super::disk;
use super::find::ModelDir;
use super::fit::{HEAD, check_sizes, check_tensors, has_other_head};
use super::generation::Generation;
use super::model::Checkpoint;
use super::tensor_file::TensorFiles;
use crate::model::specs;
use architecture::Architecture;
use fields::Fields;

/// Opens a file and checks that names, shapes and number formats are those of its configuration.
///
/// # Errors
/// What is wrong with the file, or not supported.
pub(super) fn open(model: ModelDir) -> Result<Checkpoint> {
    let shown = model.path.display().to_string();
    understand(model).context(shown)
}

fn understand(model: ModelDir) -> Result<Checkpoint> {
    let ModelDir { path, manifest, origin, mut warnings, adapter: _ } = model;
    let file = disk::open(&path)?;
    let header::Header { metadata, tensors } = header::read(&file)?;
    let parts = metadata.unsigned("split.count")?.unwrap_or(1);
    ensure!(parts <= 1, "it is one of the {parts} parts of a model: join them (llama-gguf-split --merge)");
    let architecture = Architecture::of(&metadata)?;
    let tensors = TensorFiles::new(path.clone(), file, tensors);

    let fields = Fields::new(&metadata, architecture.name);
    let mut config = architecture.config(&fields, &tensors)?;
    check_sizes(&config)?;
    ensure!(
        config.n_layer <= tensors.len(),
        "{} layers, but the model has {} tensors in all",
        config.n_layer,
        tensors.len()
    );
    let names = &architecture.names;
    config.tied_head = !tensors.contains(names.of(HEAD)) || !has_other_head(&tensors, names, &config)?;
    let specs = specs(&config);
    check_tensors(&tensors, names, &config, &specs)?;
    warnings.extend(
        fields
            .not_asked_for()
            .map(|key| format!("{}: {key} is not understood, and not used", path.display())),
    );
    let architecture = architecture.class;
    Ok(Checkpoint {
        path,
        config,
        manifest,
        origin,
        warnings,
        architecture,
        names,
        specs,
        tensors,
        generation: Generation::of_gguf(&metadata)?,
        adapter: None,
        vocabulary: Some(metadata),
    })
}

/// The entries of a file that holds nothing else.
#[cfg(test)]
pub(super) fn metadata_of(entries: &Entries) -> Result<metadata::Metadata> {
    let mut bytes = header::MAGIC.to_vec();
    bytes.extend_from_slice(&header::VERSIONS.end().to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&entries.count.to_le_bytes());
    bytes.extend_from_slice(&entries.bytes);
    bytes.resize(bytes.len().next_multiple_of(header::ALIGNMENT as usize), 0);
    let mut file = tempfile::tempfile()?;
    std::io::Write::write_all(&mut file, &bytes)?;
    Ok(header::read(&file)?.metadata)
}
