//! Adapters on the disk: a PEFT directory, which `peft` loads as it is, and whose own load here.
//!
//! ```text
//! adapter_config.json          what it is: rank, alpha, targets, and the base it stands beside
//! adapter_model.safetensors    A and B of every adapted matrix of the family's files, and a head that scores
//! ```
//!
//! Its one idea: a directory with an adapter is a [`Checkpoint`] like any other, whose matrices are those of its
//! base with the adapter [merged](crate::model::PairShape::merge) as they are read. `config` understands and
//! writes the settings, `layout` knows which rows of which of our arrays a matrix of the family is, `arrays` takes
//! our arrays apart and puts them together.

mod arrays;
mod config;
mod layout;
mod merge;
mod save;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use config::BaseModel;
pub(super) use config::base_of;
use layout::Layout;
pub use merge::Merged;
pub(super) use save::write;

use super::family::{SCORE_BIAS, SCORE_WEIGHT};
use super::find::{AdapterDir, resolve_adapter};
use super::manifest::Manifest;
use super::model::Checkpoint;
use super::tensor_file::TensorFiles;
use super::{ADAPTER_CONFIG, ADAPTER_MODEL};
use crate::model::{Adapter, Config, Lora, Spec, adapter_specs, specs};
use arrays::{read_magnitude, read_pair};
use text::progress::Progress;

/// An adapter whose headers were read and found to fit a model. The numbers are still on the disk.
pub struct AdapterFiles {
    /// Its directory.
    pub path: PathBuf,
    /// Its shape.
    pub adapter: Adapter<Spec>,
    /// Scores that a head of its own gives; none where it has none.
    pub n_label: Option<usize>,
    layout: Layout,
    tensors: TensorFiles,
}

impl AdapterFiles {
    /// Opens what stands beside `base`.
    ///
    /// # Errors
    /// What of it is not supported, is of another model, or is missing, misshaped or unknown.
    fn open(
        dir: &Path,
        manifest: Option<&Manifest>,
        base: &Checkpoint,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let shown = dir.join(ADAPTER_CONFIG).display().to_string();
        let told = config::read(dir)?;
        warnings.extend(told.warnings.iter().map(|warning| format!("{shown}: {warning}")));
        let known = manifest.and_then(|manifest| manifest.about.base.as_ref());
        if let Some(known) = known {
            ensure!(
                known.digest == base.digest()?,
                "{}: it was trained beside {}, and {} holds other weights: name that model",
                dir.display(),
                known.model,
                base.path.display()
            );
        }
        ensure!(
            base.config.n_label.is_none() || !told.scores,
            "{shown}: it brings a head that scores, and {} has one: name the language model it was trained beside",
            base.path.display()
        );
        let file = dir.join(ADAPTER_MODEL);
        let tensors = TensorFiles::open(std::slice::from_ref(&file), str::to_owned)?;
        let lora = told.lora(&base.config, &tensors).with_context(|| shown.clone())?;
        let layout = Layout::new(&base.config, &lora).with_context(|| shown.clone())?;
        let n_label = if told.scores {
            let name = arrays::full_name(SCORE_WEIGHT);
            let head =
                tensors.get(&name).with_context(|| format!("{}: {name} is missing", file.display()))?;
            Some(head.shape().first().copied().unwrap_or(0))
        } else {
            None
        };
        layout.check(&tensors, n_label.map(|n_label| [n_label, base.config.d_model]))?;
        let adapter = adapter_specs(&layout.adapter());
        Ok(AdapterFiles { path: dir.to_owned(), adapter, n_label, layout, tensors })
    }

    /// BLAKE3 of its tensors.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn digest(&self) -> Result<String> {
        self.tensors.digest()
    }

    /// A leaf of the adapter, or of the head that it brings; none for what is the base's.
    ///
    /// # Errors
    /// The file cannot be read, or holds what is not finite.
    pub fn read(&self, spec: &Spec) -> Result<Option<Vec<f32>>> {
        if self.n_label.is_some() && spec.name.starts_with("score.") {
            let name = arrays::full_name(if spec.name == "score.weight" { SCORE_WEIGHT } else { SCORE_BIAS });
            let mut values = vec![0.0; spec.len()];
            // PEFT's own have no bias.
            if spec.name == "score.weight" || self.tensors.contains(&name) {
                let tensor = self.tensors.expect(&name, &spec.shape)?;
                self.tensors.read_finite(&name, tensor, &mut values)?;
            }
            return Ok(Some(values));
        }
        let is_leaf = |leaf: &&Spec| leaf.name == spec.name;
        let Some((block, matrix, pair)) = self.adapter.pairs().find(|(.., pair)| {
            [&pair.a, &pair.b].into_iter().chain(&pair.magnitude).any(|leaf| is_leaf(&leaf))
        }) else {
            return Ok(None);
        };
        if pair.magnitude.as_ref().is_some_and(|leaf| leaf.name == spec.name) {
            return read_magnitude(&self.layout, &self.tensors, block, matrix, pair.shape.d_out).map(Some);
        }
        let (a, b) = read_pair(&self.layout, &self.tensors, block, matrix, &pair.shape)?;
        Ok(Some(if spec.name == pair.a.name { a } else { b }))
    }

    /// Adds what stands beside a matrix of the base to its values.
    pub(super) fn merge(&self, spec: &Spec, values: &mut [f32]) -> Result<()> {
        let found = self
            .adapter
            .pairs()
            .find(|&(block, matrix, _)| spec.name == crate::model::weight_name(block, matrix));
        let Some((block, matrix, pair)) = found else { return Ok(()) };
        let (a, b) = read_pair(&self.layout, &self.tensors, block, matrix, &pair.shape)?;
        let magnitude = pair
            .magnitude
            .as_ref()
            .map(|_| read_magnitude(&self.layout, &self.tensors, block, matrix, pair.shape.d_out));
        pair.shape.merge(values, &a, &b, magnitude.transpose()?.as_deref());
        Ok(())
    }
}

/// The adapter of these settings beside a model of this shape, as it begins.
///
/// # Errors
/// A target that the model does not have, or that is no matrix of its blocks.
pub fn fresh_adapter(config: &Config, lora: &Lora) -> Result<Adapter<Spec>> {
    Ok(adapter_specs(&Layout::new(config, lora)?.adapter()))
}

impl Checkpoint {
    /// The adapter of these settings beside the model, as it begins.
    ///
    /// # Errors
    /// A target that the model does not have, or that is no matrix of its blocks.
    pub fn fresh_adapter(&self, lora: &Lora) -> Result<Adapter<Spec>> {
        fresh_adapter(&self.config, lora)
    }

    /// The model with an adapter merged into it as it is read: that of a run, of a checkpoint, or a PEFT directory.
    ///
    /// # Errors
    /// There is none, or it does not fit the model.
    pub fn with_adapter(self, path: &Path, progress: &dyn Progress) -> Result<Self> {
        self.beside_dir(resolve_adapter(path, progress)?)
    }

    /// The same, of a directory that was found.
    pub(super) fn beside_dir(self, dir: AdapterDir) -> Result<Self> {
        ensure!(
            self.adapter.is_none(),
            "{} is a model with an adapter already: merge the two (mynah merge), or name its base",
            self.path.display()
        );
        let AdapterDir { path, manifest, warnings } = dir;
        let mut warnings = [self.warnings.clone(), warnings].concat();
        let adapter = AdapterFiles::open(&path, manifest.as_ref(), &self, &mut warnings)?;
        let config = Config { n_label: adapter.n_label.or(self.config.n_label), ..self.config.clone() };
        let base = Base { path: self.path, manifest: self.manifest, n_label: self.config.n_label };
        Ok(Checkpoint {
            path,
            manifest,
            warnings,
            specs: specs(&config),
            config,
            adapter: Some((adapter, base)),
            ..self
        })
    }

    /// Whether an adapter is merged into it as it is read.
    pub fn is_adapted(&self) -> bool {
        self.adapter.is_some()
    }

    /// What such an adapter was asked to be, and where its base is.
    pub fn adapted(&self) -> Option<(&Lora, &Path)> {
        self.adapter.as_ref().map(|(files, base)| (&files.adapter.lora, base.path.as_path()))
    }

    /// The model as it is, and what stands beside it.
    pub fn apart(mut self) -> (Self, Option<AdapterFiles>) {
        let Some((adapter, base)) = self.adapter.take() else { return (self, None) };
        let Base { path, manifest, n_label } = base;
        let config = Config { n_label, ..self.config };
        (Checkpoint { path, manifest, specs: specs(&config), config, ..self }, Some(adapter))
    }
}

/// What is told of the model that an adapter stands beside.
pub(super) struct Base {
    pub(super) path: PathBuf,
    manifest: Option<Manifest>,
    n_label: Option<usize>,
}
