//! A model that was opened: its shape is known, its numbers are read when they are asked for.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use kernels::Backend;

use super::adapter::{AdapterFiles, Base};
use super::family::{Names, Piece};
use super::generation::Generation;
use super::gguf::metadata::Metadata;
use super::gguf::vocabulary;
use super::manifest::Manifest;
use super::tensor_file::TensorFiles;
use super::{EXACT, FIRST_MOMENT, OPTIMIZER, SECOND_MOMENT};
use crate::model::{self, Config, Leaf, Method, Spec, Weights, specs};
use text::hub::Name;
use text::tokenizer::Tokenizer;

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
    /// What is merged into its weights as they are read, and what is told of the model without.
    pub(super) adapter: Option<(AdapterFiles, Base)>,
    /// What a GGUF file says about its tokenizer, among others.
    pub(super) vocabulary: Option<Metadata>,
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

    /// The tokenizer that lies beside it, or in its GGUF file; none where there is none: such a model
    /// can be scored and trained on token ids, not prompted with text.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        if let Some(metadata) = self.vocabulary.as_ref().filter(|_| !Tokenizer::is_in(&self.path)) {
            let context = || format!("cannot use the tokenizer of {}", self.path.display());
            let tokenizer = vocabulary::read(metadata).with_context(context)?;
            return Ok(
                tokenizer.map(|tokenizer| tokenizer.with_ends(self.generation.end_tokens.iter().copied()))
            );
        }
        let base = self.adapter.as_ref().map(|(_, base)| &base.path);
        let Some(dir) = [Some(&self.path), base].into_iter().flatten().find(|dir| Tokenizer::is_in(dir))
        else {
            return Ok(None);
        };
        let tokenizer = Tokenizer::from_dir(dir)?;
        Ok(Some(tokenizer.with_ends(self.generation.end_tokens.iter().copied())))
    }

    /// The same, for whoever reads or writes texts.
    ///
    /// # Errors
    /// There is none.
    pub fn needed_tokenizer(&self) -> Result<Tokenizer> {
        self.tokenizer()?.with_context(|| {
            format!(
                "{} has no tokenizer: put the tokenizer.json that it was trained with into it",
                self.path.display()
            )
        })
    }

    /// BLAKE3 of the files that hold its tensors: tells one model from another.
    pub fn digest(&self) -> Result<String> {
        let own = self.tensors.digest()?;
        Ok(match &self.adapter {
            None => own,
            Some((adapter, _)) => {
                blake3::hash(format!("{own} {}", adapter.digest()?).as_bytes()).to_hex().to_string()
            }
        })
    }

    /// Reads the weights leaf by leaf and makes of each what `make` makes of it: [`to_host`] keeps them,
    /// [`to_backend`] uploads them. At most one leaf is in memory besides what `make` keeps.
    pub fn weights<T>(&self, mut make: impl FnMut(&Spec, Vec<f32>) -> T) -> Result<Weights<T>> {
        read_tree(&self.specs, |spec| Ok(make(spec, self.read(spec)?)))
    }

    /// The weights of a model of another shape, described by `specs`: `make` is given the arrays that have
    /// the same name here, and none for those that this model lacks.
    pub fn weights_as<T>(
        &self,
        specs: &Weights<Spec>,
        mut make: impl FnMut(&Spec, Option<Vec<f32>>) -> Result<T>,
    ) -> Result<Weights<T>> {
        let own = self.specs.leaves();
        read_tree(specs, |spec| {
            let here = own.iter().find(|here| here.name == spec.name);
            make(spec, here.map(|here| self.read(here)).transpose()?)
        })
    }

    /// The weights to go on training with: those that the model's files do not hold exactly, because of their
    /// number format or the family's layout, are in `optimizer.safetensors` bit for bit.
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

    /// The first and second moments of an optimizer, read likewise; none where there is no `optimizer.safetensors`.
    /// What [has no second moment](Method::has_second_moment) has no values there.
    ///
    /// # Errors
    /// They are another optimizer's.
    pub fn moments<T>(
        &self,
        method: Method,
        mut make: impl FnMut(&Spec, Vec<f32>) -> T,
    ) -> Result<Option<(Weights<T>, Weights<T>)>> {
        let Some(tensors) = self.optimizer()? else { return Ok(None) };
        let held = self.manifest.as_ref().map_or(Method::AdamW, |manifest| manifest.about.optimizer);
        ensure!(
            held == method,
            "{} has moments of {held}, which {method} cannot go on with: begin with a fresh optimizer, or set \
             optimizer={held}",
            self.path.join(OPTIMIZER).display()
        );
        let mut read = |prefix: &str, has: &dyn Fn(&Spec) -> bool| {
            read_tree(&self.specs, |spec| {
                let name = format!("{prefix}{}", spec.name);
                let values = if has(spec) { read_as_it_is(&tensors, name, spec)? } else { Vec::new() };
                Ok(make(spec, values))
            })
        };
        let first = read(FIRST_MOMENT, &|_| true)?;
        Ok(Some((first, read(SECOND_MOMENT, &|spec| method.has_second_moment(&self.specs, spec))?)))
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

    /// A leaf of such a tree.
    ///
    /// # Errors
    /// The file is not there, or holds something else.
    pub fn leaf_beside(&self, name: &str, prefix: &str, spec: &Spec) -> Result<Vec<f32>> {
        let path = self.path.join(name);
        ensure!(path.exists(), "{}: missing", path.display());
        let tensors = TensorFiles::open(&[path], str::to_owned)?;
        read_as_it_is(&tensors, format!("{prefix}{}", spec.name), spec)
    }

    fn optimizer(&self) -> Result<Option<TensorFiles>> {
        let path = self.path.join(OPTIMIZER);
        // That of an adapter is no optimizer of what it is merged into.
        (self.adapter.is_none() && path.exists())
            .then(|| TensorFiles::open(&[path], str::to_owned))
            .transpose()
    }

    /// A leaf, put together from the model's tensors.
    pub(super) fn read(&self, spec: &Spec) -> Result<Vec<f32>> {
        let Some((adapter, _)) = &self.adapter else {
            return read_pieces(&self.tensors, &self.names.pieces(&self.config, spec), spec);
        };
        if let Some(own) = adapter.read(spec)? {
            return Ok(own);
        }
        let mut values = read_pieces(&self.tensors, &self.names.pieces(&self.config, spec), spec)?;
        adapter.merge(spec, &mut values)?;
        Ok(values)
    }

    /// The numbers that training an adapter goes on from: of a leaf that is learned, its weights and its two
    /// moments.
    ///
    /// # Errors
    /// It is no checkpoint of such a training, or a file cannot be read.
    pub fn learned(&self, spec: &Spec) -> Result<[Vec<f32>; 3]> {
        let (adapter, _) = self.adapter.as_ref().context("it holds no adapter")?;
        let path = self.path.join(OPTIMIZER);
        ensure!(path.exists(), "it has no optimizer state");
        let tensors = TensorFiles::open(&[path], str::to_owned)?;
        let exact = format!("{EXACT}{}", spec.name);
        let weights = match tensors.contains(&exact) {
            true => read_as_it_is(&tensors, exact, spec)?,
            false => adapter.read(spec)?.with_context(|| format!("its adapter has no {}", spec.name))?,
        };
        let moment = |prefix: &str| read_as_it_is(&tensors, format!("{prefix}{}", spec.name), spec);
        Ok([weights, moment(FIRST_MOMENT)?, moment(SECOND_MOMENT)?])
    }
}

fn read_pieces(tensors: &TensorFiles, pieces: &[Piece], spec: &Spec) -> Result<Vec<f32>> {
    let mut values = vec![0.0; spec.len()];
    for piece in pieces {
        let out = &mut values[piece.values.clone()];
        tensors.read_finite(&piece.name, tensors.expect(&piece.name, &piece.shape)?, out)?;
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

/// Uploads the leaves of a model to a backend, tree after tree, each tree into one
/// [arena](kernels::Backend::arena).
pub fn to_backend<B: Backend>(backend: &mut B, config: &Config) -> impl FnMut(&Spec, Vec<f32>) -> B::Tensor {
    let (specs, mut arena) = (specs(config), Vec::new().into_iter());
    move |_, values| {
        let mut leaf = arena.next().unwrap_or_else(|| {
            arena = model::arena(backend, &specs).into_iter();
            arena.next().expect("a model has leaves")
        });
        backend.upload(&mut leaf, &values);
        leaf
    }
}

/// The same of the moments of an optimizer: first all first ones, then the second ones that there are.
pub fn moments_to_backend<B: Backend>(
    backend: &mut B,
    config: &Config,
    method: Method,
) -> impl FnMut(&Spec, Vec<f32>) -> B::Tensor {
    let specs = specs(config);
    let mut moments =
        model::arena(backend, &specs)
            .into_iter()
            .chain(model::arena_where(backend, &specs, |spec| method.has_second_moment(&specs, spec)));
    move |_, values| {
        let mut leaf = moments.next().expect("a model has two trees of moments");
        backend.upload(&mut leaf, &values);
        leaf
    }
}

/// The same of one tree, of which the leaves that `has_numbers` names have numbers, and the others blocks.
pub fn to_backend_where<B: Backend>(
    backend: &mut B,
    config: &Config,
    has_numbers: impl FnMut(&Spec) -> bool,
) -> impl FnMut(Leaf) -> B::Tensor {
    let mut arena = model::arena_where(backend, &specs(config), has_numbers).into_iter();
    move |leaf| {
        let mut tensor = arena.next().expect("an arena has a tensor for every leaf");
        match leaf {
            Leaf::Values(values) => backend.upload(&mut tensor, &values),
            Leaf::Blocks(matrix) => tensor = backend.blocks(matrix),
        }
        tensor
    }
}

/// A tree of what `read` gives for each leaf.
pub(super) fn read_tree<T>(
    specs: &Weights<Spec>,
    read: impl FnMut(&Spec) -> Result<T>,
) -> Result<Weights<T>> {
    let mut leaves = specs.leaves().into_iter().map(read).collect::<Result<Vec<T>>>()?.into_iter();
    Ok(specs.map(|_| leaves.next().expect("map visits the leaves in the order of leaves()")))
}
