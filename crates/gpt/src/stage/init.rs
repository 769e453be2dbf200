//! A model that a stage begins from: its vocabulary grown where new special tokens ask for it, its head
//! exchanged where the stage scores instead of predicting.

use crate::checkpoint::{self, About, Checkpoint};
use crate::model::{Config, Spec, Weights, fresh, specs};
use crate::progress::Progress;
use crate::streams;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::with_ours;
use crate::train::run::{Input, Recipe};
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
        Ok(Init { name, model, tokenizers: tokenizer.zip(extended), draws: false })
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
        Ok(Init { name, model, tokenizers: Some((own, extended)), draws: false })
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
        About { parent: Some(self.origin()), adopted: self.is_adopted(), ..about }
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
        let mut upload = checkpoint::to_backend(b, config);
        let new_rows = if self.draws { NewRows::Drawn { seed } } else { NewRows::Mean };
        let mut leaf = 0;
        self.model.weights_as(&specs(config), |spec, values| {
            leaf += 1;
            match values {
                Some(values) => upload(spec, self.grow(spec, values, new_rows)),
                None => upload(spec, fresh(spec, seed, leaf)),
            }
        })
    }

    /// Weights and optimizer to go on with exactly.
    ///
    /// # Errors
    /// The model has no optimizer state.
    pub(super) fn optimized<B: Backend>(&self, b: &mut B, config: &Config) -> Result<Optimized<B::Tensor>> {
        let target = specs(config);
        let mut leaves = target.leaves().into_iter().cycle();
        let mut upload = checkpoint::to_backend(b, config);
        let mut next = |values, new_rows| {
            let spec = leaves.next().expect("a model has arrays");
            upload(spec, self.grow(spec, values, new_rows))
        };
        let weights = self.model.exact_weights(|_, values| next(values, NewRows::Mean))?;
        let moments = self.model.moments(|_, values| next(values, NewRows::Zero))?.with_context(|| {
            format!("{} has no optimizer state to go on with: begin with a fresh one", self.name)
        })?;
        let updates = self.model.manifest.as_ref().map_or(0, |manifest| manifest.about.updates);
        Ok((weights, moments, updates))
    }

    /// Notes the model as the input `key` of a run.
    pub(super) fn record(&self, recipe: &mut Recipe, key: &str) -> Result<()> {
        let place = if self.model.origin.is_some() { self.origin().into() } else { self.model.path.clone() };
        let place: PathBuf = place;
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
mod tests {
    use super::*;

    #[test]
    fn new_rows_begin_at_the_mean_and_padding_stays() {
        let rows = vec![1.0, 2.0, 3.0, 6.0, 9.0, 9.0];
        let mean = [2.0, 4.0];
        let padded = grown(rows.clone(), 2, 3, 2..3, NewRows::Mean);
        assert_eq!(padded, [&rows[..4], &mean].concat(), "the padding row is a token now");
        let longer = grown(rows.clone(), 2, 5, 2..5, NewRows::Mean);
        assert_eq!(longer, [&rows[..4], &mean, &mean, &mean].concat());
        assert_eq!(grown(rows.clone(), 2, 4, 3..4, NewRows::Zero), [&rows[..], &[0.0, 0.0]].concat());
        assert_eq!(grown(rows.clone(), 2, 3, 2..2, NewRows::Mean), rows);
        let drawn = grown(rows, 2, 4, 2..4, NewRows::Drawn { seed: 1 });
        assert_ne!(drawn[4..6], drawn[6..8], "marks differ from each other");
    }
}
