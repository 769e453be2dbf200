//! A model directory → configuration and weights.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use kernels::Backend;
use serde_json::Value;

use super::family::{Family, Names, Piece};
use super::find::{ModelDir, resolve_model};
use super::generation::{Generation, read_object};
use super::gguf;
use super::manifest::Manifest;
use super::shards::open_tensors;
use super::tensor_file::TensorFiles;
use super::{CONFIG, EXACT, FIRST_MOMENT, MODEL, OPTIMIZER, SECOND_MOMENT};
use crate::hub::Name;
use crate::model::{Config, Spec, Weights, specs};
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;

/// No array of a model has a longer side; keeps the products of sizes far from overflow.
const MAX_SIZE: usize = 1 << 30;

/// The names of [`specs`] of the token embedding and of the head.
pub(super) const EMBEDDING: &str = "wte";
pub(super) const HEAD: &str = "lm_head";

/// A model whose headers were read and found to fit its configuration. The numbers are still on the disk.
pub struct Checkpoint {
    /// The directory, or the GGUF file.
    pub path: PathBuf,
    /// The model's shape.
    pub config: Config,
    /// Where it comes from; none for a directory that others wrote.
    pub manifest: Option<Manifest>,
    /// For a model of the hub, what it is, pinned to a commit: `hf:OWNER/NAME@COMMIT`.
    pub origin: Option<Name>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// What its own files say about how it writes.
    pub generation: Generation,
    pub(super) architecture: &'static str,
    pub(super) names: &'static Names,
    pub(super) specs: Weights<Spec>,
    pub(super) tensors: TensorFiles,
    /// What a GGUF file says about its tokenizer, among others.
    pub(super) vocabulary: Option<gguf::Metadata>,
}

/// Opens the model that `path` names (see [`resolve_model`]) and checks that names, shapes and number formats are
/// those of its configuration.
///
/// # Errors
/// Which file and which tensor is missing, unknown, misshaped or damaged, or what is not supported.
pub fn open(path: &Path, progress: &dyn Progress) -> Result<Checkpoint> {
    resolve_model(path, progress)?.open()
}

impl ModelDir {
    /// Opens the directory or the file; see [`open`].
    pub fn open(self) -> Result<Checkpoint> {
        if self.path.is_file() {
            return gguf::open(self);
        }
        let ModelDir { path, manifest, origin, mut warnings } = self;
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
            vocabulary: None,
        })
    }
}

impl Checkpoint {
    /// The class that `transformers` loads it with, such as `GPT2LMHeadModel`.
    pub fn architecture(&self) -> &'static str {
        self.architecture
    }

    /// The number formats of its tensors: `F32`, or several.
    pub fn dtype(&self) -> String {
        self.tensors.dtypes().join(", ")
    }

    /// The tokenizer that lies beside it, or in its GGUF file; none where there is none: the model is whole, only
    /// speechless.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        if let Some(metadata) = &self.vocabulary {
            let context = || format!("cannot use the tokenizer of {}", self.path.display());
            let tokenizer = gguf::tokenizer(metadata).with_context(context)?;
            return Ok(
                tokenizer.map(|tokenizer| tokenizer.with_ends(self.generation.end_tokens.iter().copied()))
            );
        }
        if !Tokenizer::is_in(&self.path) {
            return Ok(None);
        }
        let tokenizer = Tokenizer::from_dir(&self.path)?;
        Ok(Some(tokenizer.with_ends(self.generation.end_tokens.iter().copied())))
    }

    /// BLAKE3 of the files that hold its tensors: tells one model from another.
    pub fn digest(&self) -> Result<String> {
        self.tensors.digest()
    }

    /// Reads the weights leaf by leaf and makes of each what `make` makes of it: [`to_host`] keeps them,
    /// [`to_backend`] uploads them. At most one leaf is in memory besides what `make` keeps.
    pub fn weights<T>(&self, mut make: impl FnMut(&Spec, Vec<f32>) -> T) -> Result<Weights<T>> {
        read_tree(&self.specs, |spec| Ok(make(spec, self.read(spec)?)))
    }

    /// The weights of a model of another shape, described by `specs`: `make` is given the arrays that have the same name
    /// here, and none for those that this model lacks.
    pub fn weights_as<T>(
        &self,
        specs: &Weights<Spec>,
        mut make: impl FnMut(&Spec, Option<Vec<f32>>) -> T,
    ) -> Result<Weights<T>> {
        let own = self.specs.leaves();
        read_tree(specs, |spec| {
            let here = own.iter().find(|here| here.name == spec.name);
            Ok(make(spec, here.map(|here| self.read(here)).transpose()?))
        })
    }

    /// The weights to go on training with: those that the model's files do not hold exactly, because of their number
    /// format or the family's layout, are in `optimizer.safetensors` bit for bit.
    pub fn exact_weights<T>(&self, mut make: impl FnMut(&Spec, Vec<f32>) -> T) -> Result<Weights<T>> {
        let optimizer = self.optimizer()?;
        read_tree(&self.specs, |spec| {
            let exact = format!("{EXACT}{}", spec.name);
            match optimizer.as_ref().filter(|tensors| tensors.contains(&exact)) {
                Some(tensors) => Ok(make(spec, read_as_it_is(tensors, exact, spec)?)),
                None => Ok(make(spec, self.read(spec)?)),
            }
        })
    }

    /// The optimizer's first and second moments, read likewise; none where there is no `optimizer.safetensors`.
    pub fn moments<T>(
        &self,
        mut make: impl FnMut(&Spec, Vec<f32>) -> T,
    ) -> Result<Option<(Weights<T>, Weights<T>)>> {
        let Some(tensors) = self.optimizer()? else { return Ok(None) };
        let mut read = |prefix: &str| {
            read_tree(&self.specs, |spec| {
                Ok(make(spec, read_as_it_is(&tensors, format!("{prefix}{}", spec.name), spec)?))
            })
        };
        Ok(Some((read(FIRST_MOMENT)?, read(SECOND_MOMENT)?)))
    }

    /// A tree of the further model that was saved under this file name ([`Beside`](super::Beside)).
    ///
    /// # Errors
    /// The file is not there, or holds something else.
    pub fn beside<T>(
        &self,
        name: &str,
        config: &Config,
        prefix: &str,
        mut make: impl FnMut(&Spec, Vec<f32>) -> T,
    ) -> Result<Weights<T>> {
        let path = self.path.join(name);
        ensure!(path.exists(), "{}: missing", path.display());
        let tensors = TensorFiles::open(&[path], str::to_owned)?;
        read_tree(&specs(config), |spec| {
            Ok(make(spec, read_as_it_is(&tensors, format!("{prefix}{}", spec.name), spec)?))
        })
    }

    fn optimizer(&self) -> Result<Option<TensorFiles>> {
        let path = self.path.join(OPTIMIZER);
        path.exists().then(|| TensorFiles::open(&[path], str::to_owned)).transpose()
    }

    /// A leaf, put together from the model's tensors.
    pub(super) fn read(&self, spec: &Spec) -> Result<Vec<f32>> {
        read_pieces(&self.tensors, &self.names.pieces(&self.config, spec), spec)
    }
}

fn read_pieces(tensors: &TensorFiles, pieces: &[Piece], spec: &Spec) -> Result<Vec<f32>> {
    let mut values = vec![0.0; spec.len()];
    for piece in pieces {
        let out = &mut values[piece.values.clone()];
        tensors.read(tensors.expect(&piece.name, &piece.shape)?, out)?;
        piece.make_ours(out);
    }
    Ok(values)
}

fn read_as_it_is(tensors: &TensorFiles, name: String, spec: &Spec) -> Result<Vec<f32>> {
    read_pieces(tensors, &[Piece::whole(name, spec)], spec)
}

/// Keeps a leaf in host memory.
pub fn to_host(_: &Spec, values: Vec<f32>) -> Vec<f32> {
    values
}

/// Uploads leaves to a backend.
pub fn to_backend<B: Backend>(backend: &mut B) -> impl FnMut(&Spec, Vec<f32>) -> B::Tensor {
    |_, values| {
        let mut tensor = backend.zeros(values.len());
        backend.upload(&mut tensor, &values);
        tensor
    }
}

/// A tree of what `read` gives for each leaf.
fn read_tree<T>(specs: &Weights<Spec>, read: impl FnMut(&Spec) -> Result<T>) -> Result<Weights<T>> {
    let mut leaves = specs.leaves().into_iter().map(read).collect::<Result<Vec<T>>>()?.into_iter();
    Ok(specs.map(|_| leaves.next().expect("map visits the leaves in the order of leaves()")))
}

fn read_config(path: &Path, warnings: &mut Vec<String>) -> Result<(&'static Family, Config)> {
    let fields = read_object(path)?.with_context(|| format!("there is no {CONFIG}"))?;
    let json = Value::Object(fields);
    let family = Family::of(&json)?;
    let config = family.config(&json, warnings)?;
    check_sizes(&config)?;
    Ok((family, config))
}

/// Refuses a configuration that no model can have, before anything is made of its size.
pub(super) fn check_sizes(config: &Config) -> Result<()> {
    let &Config { vocab_size, seq_len, n_layer, n_head, n_kv_head, head_dim, d_model, d_ff, .. } = config;
    let sizes = [vocab_size, seq_len, n_layer, n_head, n_kv_head, head_dim, d_model, d_ff];
    let small = |size: usize| size <= MAX_SIZE;
    ensure!(
        sizes.into_iter().all(small) && small(config.q_width()) && small(config.kv_width()),
        "a size is beyond any model: {config:?}"
    );
    ensure!(config.norm_eps.is_finite() && config.norm_eps >= 0.0, "the norm's ε is {}", config.norm_eps);
    config.check()
}

/// Whether there is a matrix for the head that is not the embedding again.
pub(super) fn has_other_head(tensors: &TensorFiles, names: &Names, config: &Config) -> Result<bool> {
    if !tensors.contains(names.of(HEAD)) {
        return Ok(false);
    }
    let shape = [config.vocab_size, config.d_model];
    let [embedding, head] = [EMBEDDING, HEAD].map(|ours| tensors.expect(names.of(ours), &shape));
    Ok(!tensors.equal(embedding?, head?)?)
}

/// Every leaf is there with its shape, and nothing else is.
pub(super) fn check_tensors(
    tensors: &TensorFiles,
    names: &Names,
    config: &Config,
    specs: &Weights<Spec>,
) -> Result<()> {
    // A tied head may be there again.
    let mut expected = BTreeSet::from([names.of(HEAD).to_owned()]);
    for piece in specs.leaves().into_iter().flat_map(|spec| names.pieces(config, spec)) {
        tensors.expect(&piece.name, &piece.shape)?;
        expected.insert(piece.name);
    }
    let unknown: Vec<&str> =
        tensors.names().filter(|name| !expected.contains(*name) && !names.is_buffer(name)).take(5).collect();
    if let Some(first) = unknown.first() {
        let path = tensors.file_of(first).unwrap_or(Path::new(MODEL)).display();
        bail!("{path}: unknown tensors, which this architecture does not have: {}", unknown.join(", "));
    }
    Ok(())
}
