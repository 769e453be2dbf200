//! A model that a stage begins from: its vocabulary grown where new special tokens ask for it, its head
//! exchanged where the stage scores instead of predicting.

use crate::checkpoint::{self, About, AdapterFiles, BaseModel, Checkpoint, Stored};
use crate::model::{
    Adapter, BaseStorage, Config, Leaf, Lora, Method, Spec, Weights, fresh, set_magnitudes, specs,
};
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::with_ours;
use crate::train::run::{Input, Recipe};
use crate::train::{Frozen, Reference};
use anyhow::{Context, Result, ensure};
use kernels::{Backend, rng};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A model to begin from.
pub struct Init {
    name: String,
    model: Checkpoint,
    /// Its tokenizer as it is, and with the special tokens added; none where its directory has none.
    tokenizers: Option<(Tokenizer, Tokenizer)>,
    /// Whether the embeddings of added tokens are drawn, instead of beginning at the mean of the others.
    draws: bool,
    /// What is learned beside it, which stays as it is.
    adapter: Option<Beside>,
}

/// An adapter to begin with.
struct Beside {
    /// Its shape.
    adapter: Adapter<Spec>,
    /// Its numbers; it begins afresh where there are none.
    files: Option<AdapterFiles>,
    /// What it stands beside.
    base: BaseModel,
}

/// Weights, the two moments, and the number of updates behind them.
pub(super) type Optimized<T> = (Weights<T>, (Weights<T>, Weights<T>), u64);

impl Init {
    /// The model `name`, with `special` tokens added to its vocabulary; their embeddings begin at the mean of
    /// the others.
    ///
    /// # Errors
    /// Tokens are to be added, but the model has no tokenizer.
    pub fn new(
        name: String,
        model: Checkpoint,
        tokenizer: Option<Tokenizer>,
        special: &[String],
    ) -> Result<Self> {
        ensure!(
            tokenizer.is_some() || special.is_empty(),
            "{name} has no tokenizer that special tokens could be added to"
        );
        let extended = tokenizer.as_ref().map(|own| own.extended(special)).transpose()?;
        Ok(Init { name, model, tokenizers: tokenizer.zip(extended), draws: false, adapter: None })
    }

    /// The model of a directory, as it is.
    ///
    /// # Errors
    /// There is no model that can be read.
    pub fn open(dir: &Path, progress: &dyn Progress) -> Result<Self> {
        let model = checkpoint::open(dir, progress)?;
        let tokenizer = model.tokenizer()?;
        Self::new(dir.display().to_string(), model, tokenizer, &[])
    }

    /// The model `name` with a chat template: its own, or else mynah's, whose special tokens are added.
    ///
    /// # Errors
    /// It has no tokenizer.
    pub fn with_chat(name: String, model: Checkpoint) -> Result<Self> {
        let own = model.needed_tokenizer()?;
        let extended = with_ours(&own)?;
        Ok(Init { name, model, tokenizers: Some((own, extended)), draws: false, adapter: None })
    }

    /// The same model with an adapter beside it, which is learned in its stead: that of `files`, whose rate of
    /// dropout is that of `lora`, or a fresh one.
    ///
    /// # Errors
    /// The model lacks what `lora` names, or tokens that are to be learned.
    pub fn beside(self, lora: &Lora, files: Option<AdapterFiles>) -> Result<Self> {
        let (known, tokens) = (self.known_tokens(), self.tokenizer().map_or(0, Tokenizer::vocab_size));
        ensure!(
            tokens <= known,
            "{} would get {} new tokens, whose embeddings an adapter does not learn: begin from a model that has a chat \
             template, or whose tokens it needs, or leave --lora out",
            self.name,
            tokens.saturating_sub(known)
        );
        let mut adapter = match &files {
            Some(files) => files.adapter.clone(),
            None => self.model.fresh_adapter(lora)?,
        };
        adapter.lora.dropout = lora.dropout;
        ensure!(
            !(adapter.lora.dora && adapter.lora.dropout > 0.0),
            "the adapter has magnitudes (DoRA) and a dropout of {}, which are not trained together: give --lora dropout=0",
            adapter.lora.dropout
        );
        let (model, revision) = match &self.model.origin {
            Some(name) => (name.repository().to_owned(), Some(name.revision().to_owned())),
            None => (std::path::absolute(&self.model.path)?.display().to_string(), None),
        };
        let base = BaseModel { model, revision, digest: self.model.digest()? };
        Ok(Init { adapter: Some(Beside { adapter, files, base }), ..self })
    }

    /// The same with the matrices of the model's blocks stored so; from blocks they are unpacked while products read
    /// them.
    ///
    /// # Panics
    /// If nothing is learned beside it.
    pub fn stored(mut self, stored: Stored) -> Self {
        let base = match stored {
            Stored::Exactly => BaseStorage::NUMBERS,
            Stored::AsInFile => BaseStorage::AsItIs { spared: self.model.spared_bytes() },
            Stored::In(format) => BaseStorage::In(format),
        };
        self.adapter.as_mut().expect("an adapter stands beside a stored base").adapter.base = base;
        self
    }

    /// The shape of what is learned beside the model, where that stays as it is.
    pub fn adapter(&self) -> Option<&Adapter<Spec>> {
        self.adapter.as_ref().map(|beside| &beside.adapter)
    }

    /// Whether it scores already.
    pub(super) fn scores(&self) -> bool {
        let files = self.adapter.as_ref().and_then(|beside| beside.files.as_ref());
        self.model.config.n_label.or(files.and_then(|files| files.n_label)).is_some()
    }

    /// The model `name` with special tokens that mean nothing yet: their embeddings are drawn from N(0, 0.02)
    /// (Radford et al. 2018), each differently.
    ///
    /// # Errors
    /// It has no tokenizer.
    pub fn with_marks(name: String, model: Checkpoint, marks: &[String]) -> Result<Self> {
        let tokenizer = model.tokenizer()?;
        Ok(Init { draws: true, ..Init::new(name, model, tokenizer, marks)? })
    }

    /// The model.
    pub fn model(&self) -> &Checkpoint {
        &self.model
    }

    /// How the person named the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its tokenizer with the tokens added, where it has one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizers.as_ref().map(|(_, extended)| extended)
    }

    /// The same, for a stage that reads texts.
    ///
    /// # Errors
    /// It has none.
    pub fn needed_tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer().with_context(|| {
            format!("{} has no tokenizer: put the tokenizer.json that it was trained with into it", self.name)
        })
    }

    /// What a lineage calls the model: its name, and of a model of the hub the commit.
    pub(super) fn origin(&self) -> String {
        self.model.origin.as_ref().map_or_else(|| self.name.clone(), ToString::to_string)
    }

    /// Whether somebody else pretrained it.
    pub(super) fn is_adopted(&self) -> bool {
        self.model.manifest.as_ref().is_none_or(|manifest| manifest.about.adopted)
    }

    /// Where a model that begins from this one comes from.
    pub(super) fn begins(&self, about: About) -> About {
        let base = self.adapter.as_ref().map(|beside| beside.base.clone());
        About { parent: Some(self.origin()), adopted: self.is_adopted(), base, ..about }
    }

    /// Refuses data made with another tokenizer than the model's, with or without the tokens that are added.
    pub(super) fn check(&self, data: &Tokenizer, data_tokens: usize) -> Result<()> {
        let rows = self.model.config.vocab_size;
        match &self.tokenizers {
            Some((own, extended)) => ensure!(
                data.same_tokens(own) || data.same_tokens(extended),
                "the data was made with another tokenizer than that of {}: run `mynah tokenize` with the model's, or, \
                 for tokens that are added to it, with one made by `mynah tokenizer extend` and the same --special",
                self.name
            ),
            None => ensure!(
                data_tokens <= rows,
                "the data has {data_tokens} tokens and {} only {rows}: they do not belong together",
                self.name
            ),
        }
        Ok(())
    }

    /// Its shape, with room for the tokens added.
    pub(super) fn config(&self, dropout: f32) -> Config {
        let tokens = self.tokenizer().map_or(0, Tokenizer::vocab_size);
        let config = self.model.config.clone();
        Config { vocab_size: config.vocab_size.max(tokens), dropout, ..config }
    }

    /// The same, for a stage that trains a language model.
    ///
    /// # Errors
    /// The model scores instead of predicting.
    pub(super) fn language_config(&self, dropout: f32) -> Result<Config> {
        let config = self.config(dropout);
        let parent = self.model.manifest.as_ref().and_then(|manifest| manifest.about.parent.as_ref());
        ensure!(
            config.n_label.is_none(),
            "{} scores texts and writes none ({}): a language model is needed{}",
            self.name,
            self.model.architecture(),
            parent
                .map_or_else(String::new, |parent| format!(", such as {parent}, from which it was trained"))
        );
        Ok(config)
    }

    /// The shape of a model that scores what this one reads.
    pub(super) fn scoring_config(&self, dropout: f32, n_label: usize) -> Config {
        Config { n_label: Some(n_label), ..self.config(dropout) }
    }

    /// The tokens that the tokenizer knew before any was added.
    fn known_tokens(&self) -> usize {
        self.tokenizers.as_ref().map_or(self.model.config.vocab_size, |(own, _)| own.vocab_size())
    }

    /// An array of this model as `spec` of a grown model.
    fn grow(&self, spec: &Spec, values: Vec<f32>, new_rows: NewRows) -> Vec<f32> {
        let known = self.known_tokens();
        let tokens = self.tokenizer().map_or(known, Tokenizer::vocab_size);
        match spec.name.as_str() {
            "wte" | "lm_head" => grown(values, spec.shape[1], spec.shape[0], known..tokens, new_rows),
            _ => values,
        }
    }

    /// The weights of a model of the shape `config`, which is [`config`](Self::config) or
    /// [`scoring_config`](Self::scoring_config); a head that this model does not have draws from `seed`.
    pub(super) fn weights<B: Backend>(
        &self,
        b: &mut B,
        config: &Config,
        seed: u64,
    ) -> Result<Weights<B::Tensor>> {
        ensure!(
            self.adapter.is_none() || config.vocab_size == self.model.config.vocab_size,
            "the data has tokens that {} does not know, whose embeddings an adapter does not learn: leave --lora out",
            self.name
        );
        let mut upload = checkpoint::to_backend_where(b, config, |spec| !self.is_in_blocks(spec));
        let new_rows = if self.draws { NewRows::Drawn { seed } } else { NewRows::Mean };
        let mut leaf = 0;
        let mut weights = self.model.weights_as(&specs(config), |spec, values| {
            leaf += 1;
            let values = match (values, self.learned(spec)?) {
                (_, Some(values)) => values,
                (Some(values), None) => self.grow(spec, values, new_rows),
                (None, None) => fresh(spec, seed, leaf),
            };
            Ok(upload(self.stored_leaf(spec, values)?))
        })?;
        drop(upload);
        weights.adapter = self.adapter_weights(b, leaf, seed)?;
        if let Some(Beside { files, .. }) = &self.adapter {
            set_magnitudes(b, &mut weights, files.is_none());
        }
        Ok(weights)
    }

    /// How the matrices of blocks are stored.
    fn base(&self) -> BaseStorage {
        self.adapter().map_or(BaseStorage::NUMBERS, |adapter| adapter.base)
    }

    fn is_in_blocks(&self, spec: &Spec) -> bool {
        match self.base() {
            BaseStorage::NUMBERS => false,
            BaseStorage::AsItIs { .. } => spec.is_block_matrix() && self.model.is_in_blocks(spec),
            BaseStorage::In(_) => spec.is_block_matrix(),
        }
    }

    /// A leaf of these values as it is stored.
    fn stored_leaf(&self, spec: &Spec, values: Vec<f32>) -> Result<Leaf> {
        Ok(match self.base() {
            BaseStorage::In(format) if self.is_in_blocks(spec) => Leaf::Blocks(
                checkpoint::quantised(spec, format, &values)
                    .context("leave --base out to keep the model exactly")?,
            ),
            BaseStorage::AsItIs { .. } if self.is_in_blocks(spec) => {
                self.model.blocks_in_file(spec)?.map_or(Leaf::Values(values), Leaf::Blocks)
            }
            _ => Leaf::Values(values),
        })
    }

    /// What the files of an adapter have of a leaf.
    fn learned(&self, spec: &Spec) -> Result<Option<Vec<f32>>> {
        let files = self.adapter.as_ref().and_then(|beside| beside.files.as_ref());
        files.map_or(Ok(None), |files| files.read(spec))
    }

    /// The adapter as it begins, beside weights of `leaf` leaves.
    fn adapter_weights<B: Backend>(
        &self,
        b: &mut B,
        mut leaf: u64,
        seed: u64,
    ) -> Result<Option<Adapter<B::Tensor>>> {
        let Some(Beside { adapter, .. }) = &self.adapter else { return Ok(None) };
        let lens: Vec<usize> = adapter.leaves().into_iter().map(Spec::len).collect();
        let mut arena = b.arena(&lens).into_iter();
        let tensors = adapter.map(|spec| {
            leaf += 1;
            let values = self.learned(spec)?.unwrap_or_else(|| fresh(spec, seed, leaf));
            let mut tensor = arena.next().expect("an arena has a tensor for every leaf");
            b.upload(&mut tensor, &values);
            anyhow::Ok(tensor)
        });
        tensors.transposed().map(Some)
    }

    /// The policy that a training of these first `weights` stays close to: the model with the adapter that it begins with,
    /// which adds nothing where it is a fresh one.
    pub(super) fn reference<B: Backend>(
        &self,
        b: &mut B,
        config: &Config,
        weights: &Weights<B::Tensor>,
        seed: u64,
    ) -> Result<Reference<B>> {
        let mut copy = |leaf: &B::Tensor| {
            let mut copy = b.zeros(b.len(leaf));
            b.copy(&mut copy, leaf);
            copy
        };
        Ok(match &self.adapter {
            None => {
                let weights = self.weights(b, config, seed)?;
                Reference::Apart(Box::new(Frozen::new(b, config.clone(), weights)))
            }
            Some(Beside { files: None, .. }) => Reference::Beside(None),
            Some(_) => Reference::Beside(weights.adapter.as_ref().map(|adapter| adapter.map(&mut copy))),
        })
    }

    /// Refuses dropout, the adapter's too, where the policy has to give the log-probabilities that its samples were
    /// drawn with (Huang et al. 2024, detail 13).
    pub(super) fn check_no_dropout(&self, dropout: f64) -> Result<()> {
        const WHY: &str = "with it the policy would not give the log-probabilities of its samples";
        ensure!(dropout == 0.0, "dropout is {dropout}: {WHY}; leave it at 0");
        if let Some(adapter) = self.adapter() {
            let dropout = adapter.lora.dropout;
            ensure!(dropout == 0.0, "the adapter's dropout is {dropout}: {WHY}; give --lora dropout=0");
        }
        Ok(())
    }

    /// Weights and optimizer to go on with exactly.
    ///
    /// # Errors
    /// The model has no optimizer state, or that of another optimizer.
    pub(super) fn optimized<B: Backend>(
        &self,
        b: &mut B,
        config: &Config,
        method: Method,
    ) -> Result<Optimized<B::Tensor>> {
        ensure!(
            self.adapter.is_none(),
            "a model's optimizer does not go on beside it: leave --optimizer or --lora out"
        );
        let target = specs(config);
        let mut leaves = target.leaves().into_iter().cycle();
        let mut next = |values, new_rows| {
            let spec = leaves.next().expect("a model has arrays");
            (spec, self.grow(spec, values, new_rows))
        };
        let mut upload = checkpoint::to_backend(b, config);
        let weights = self.model.exact_weights(|_, values| {
            let (spec, values) = next(values, NewRows::Mean);
            upload(spec, values)
        })?;
        drop(upload);
        let mut upload = checkpoint::moments_to_backend(b, config, method);
        let moments = self.model.moments(method, |_, values| {
            let (spec, values) = next(values, NewRows::Zero);
            upload(spec, values)
        });
        let moments = moments?.with_context(|| {
            format!("{} has no optimizer state to go on with: begin with a fresh one", self.name)
        })?;
        let updates = self.model.manifest.as_ref().map_or(0, |manifest| manifest.about.updates);
        Ok((weights, moments, updates))
    }

    /// Notes the model as the input `key` of a run.
    pub(super) fn record(&self, recipe: &mut Recipe, key: &str) -> Result<()> {
        let place = if self.model.origin.is_some() { self.origin().into() } else { self.model.path.clone() };
        let place: PathBuf = place;
        if let Some(Beside { adapter, files, .. }) = &self.adapter {
            recipe.settings.insert("lora".into(), adapter.lora.to_string().into());
            if let BaseStorage::In(format) = adapter.base {
                recipe.settings.insert("base".into(), format.to_string().into());
            }
            if let Some(files) = files {
                recipe.inputs.insert(format!("{key}_adapter"), Input::new(&files.path, files.digest()?));
            }
        }
        recipe.note_asked(key, &self.name);
        recipe.inputs.insert(key.to_owned(), Input::new(&place, self.model.digest()?));
        if let Some(tokenizer) = self.tokenizer() {
            recipe.inputs.insert(format!("{key}_tokenizer"), Input::new(&place, tokenizer.digest()));
        }
        Ok(())
    }
}

/// What the rows of new tokens begin as.
#[derive(Clone, Copy)]
enum NewRows {
    /// The mean of the rows of the tokens that were there: what an unknown token is worth on average.
    Mean,
    /// Zeros: moments.
    Zero,
    /// N(0, 0.02).
    Drawn {
        /// Decides the numbers.
        seed: u64,
    },
}

/// An embedding of `width` columns with `rows` rows, those of the tokens `new` set to their first values.
/// Rows beyond all tokens (embeddings are often padded) stay as they are.
fn grown(mut values: Vec<f32>, width: usize, rows: usize, new: Range<usize>, value: NewRows) -> Vec<f32> {
    let drawn = |seed| {
        let value = |i: usize| (0.02 * rng::normal(seed, streams::NEW_ROWS, i as u64)) as f32;
        (new.start * width..new.end * width).map(value).collect()
    };
    let firsts = match value {
        NewRows::Zero => vec![0.0; new.len() * width],
        NewRows::Drawn { seed } => drawn(seed),
        NewRows::Mean => {
            let mut sum = vec![0.0f64; width];
            for row in values[..new.start * width].chunks(width) {
                sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            let mean: Vec<f32> = sum.into_iter().map(|sum| (sum / new.start as f64) as f32).collect();
            mean.repeat(new.len())
        }
    };
    values.resize(rows * width, 0.0);
    values[new.start * width..new.end * width].copy_from_slice(&firsts);
    values
}

#[cfg(test)]
mod tests;
