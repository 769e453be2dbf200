//! What a run begins with: random weights, or those of a model that is there already, its vocabulary grown where new
//! special tokens ask for it.

use crate::checkpoint::{self, Checkpoint};
use crate::data::Mixture;
use crate::model::{self, Config, Spec, Weights};
use crate::stage::{Settings, Shape};
use crate::tokenizer::Tokenizer;
use anyhow::{Context, Result, ensure};
use kernels::Backend;
use std::ops::Range;
use std::path::PathBuf;

/// Where a run begins.
pub enum Start {
    /// At random weights of this shape.
    Random(Shape),
    /// At a model.
    Model(Box<Init>),
}

/// A model to begin from, and how.
pub struct Init {
    name: String,
    model: Checkpoint,
    /// Its tokenizer as it is, and with the special tokens added; none where its directory has none.
    tokenizers: Option<(Tokenizer, Tokenizer)>,
    continue_optimizer: bool,
}

/// A run's first state.
pub(super) struct First<T> {
    pub(super) weights: Weights<T>,
    /// Moments and the number of updates behind them, where an optimizer goes on.
    pub(super) optimizer: Option<(Weights<T>, Weights<T>, u64)>,
}

impl Init {
    /// The model `name`, with `special` tokens added to its vocabulary; their embeddings begin at the mean of the
    /// others. With `continue_optimizer` its moments and its number of updates go on, else they begin at zero.
    ///
    /// # Errors
    /// Tokens are to be added, but the model has no tokenizer.
    pub fn new(
        name: String,
        model: Checkpoint,
        tokenizer: Option<Tokenizer>,
        special: &[String],
        continue_optimizer: bool,
    ) -> Result<Self> {
        ensure!(
            tokenizer.is_some() || special.is_empty(),
            "{name} has no tokenizer that special tokens could be added to"
        );
        let extended = tokenizer.as_ref().map(|own| own.extended(special)).transpose()?;
        Ok(Init { name, model, tokenizers: tokenizer.zip(extended), continue_optimizer })
    }

    /// The model.
    pub fn model(&self) -> &Checkpoint {
        &self.model
    }

    /// How the person named the model.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What a lineage calls the model: its name, and of a model of the hub the commit.
    pub(super) fn origin(&self) -> PathBuf {
        self.model.origin.as_ref().map_or_else(|| self.name.clone(), ToString::to_string).into()
    }

    /// Whether the model's optimizer goes on.
    pub(super) fn continues_optimizer(&self) -> bool {
        self.continue_optimizer
    }

    /// Refuses data made with another tokenizer than the model's, with or without the tokens that are added.
    fn check(&self, data: &Mixture) -> Result<()> {
        let data = data.tokenizer();
        let rows = self.model.config.vocab_size;
        match &self.tokenizers {
            Some((own, extended)) => ensure!(
                data.same_tokens(own) || data.same_tokens(extended),
                "the data was made with another tokenizer than that of {}: run `mynah tokenize` with the model's, or, \
                 for tokens that are added to it, with one made by `mynah tokenizer extend` and the same --special",
                self.name
            ),
            None => ensure!(
                data.vocab_size() <= rows,
                "the data has {} tokens and {} only {rows}: they do not belong together",
                data.vocab_size(),
                self.name
            ),
        }
        Ok(())
    }

    /// The tokens that the tokenizer knew before any was added.
    fn known_tokens(&self) -> usize {
        let known = self.tokenizers.as_ref().map(|(own, _)| own.vocab_size());
        known.unwrap_or(self.model.config.vocab_size)
    }

    /// The state that the model stands for, with the vocabulary of `config`.
    fn state<B: Backend>(&self, b: &mut B, config: &Config) -> Result<First<B::Tensor>> {
        let known = self.known_tokens();
        let tokens = self.tokenizers.as_ref().map_or(known, |(_, extended)| extended.vocab_size());
        let grow = |spec: &Spec, values, value| match spec.name.as_str() {
            "wte" | "lm_head" => grown(values, spec.shape[1], config.vocab_size, known..tokens, value),
            _ => values,
        };
        let mut upload = checkpoint::to_backend(b);
        let mut weight = |spec: &Spec, values| upload(spec, grow(spec, values, NewRows::Mean));
        if !self.continue_optimizer {
            return Ok(First { weights: self.model.weights(&mut weight)?, optimizer: None });
        }
        let weights = self.model.exact_weights(&mut weight)?;
        let (m, v) = self
            .model
            .moments(|spec, values| upload(spec, grow(spec, values, NewRows::Zero)))?
            .with_context(|| {
                format!("{} has no optimizer state to go on with: begin with a fresh one", self.name)
            })?;
        let updates = self.model.manifest.as_ref().map_or(0, |manifest| manifest.about.updates);
        Ok(First { weights, optimizer: Some((m, v, updates)) })
    }
}

impl Start {
    /// The shape of the model, for data in this vocabulary.
    ///
    /// # Errors
    /// No model can have the shape; the data does not belong to the model.
    pub(super) fn config(&self, settings: &Settings, data: &Mixture) -> Result<Config> {
        let config = match self {
            Start::Random(shape) => shape.config(data.vocab_size(), settings),
            Start::Model(init) => {
                init.check(data)?;
                Config {
                    vocab_size: init.model.config.vocab_size.max(self.tokenizer(data).vocab_size()),
                    dropout: settings.dropout as f32,
                    ..init.model.config.clone()
                }
            }
        };
        config.check()?;
        Ok(config)
    }

    /// The tokenizer that goes with the trained model.
    pub(super) fn tokenizer<'a>(&'a self, data: &'a Mixture) -> &'a Tokenizer {
        match self {
            Start::Model(init) => init.tokenizers.as_ref().map_or(data.tokenizer(), |(_, extended)| extended),
            Start::Random(_) => data.tokenizer(),
        }
    }

    /// The first state, on `b`.
    pub(super) fn state<B: Backend>(
        &self,
        b: &mut B,
        config: &Config,
        seed: u64,
    ) -> Result<First<B::Tensor>> {
        match self {
            Start::Random(_) => Ok(First { weights: model::init(b, config, seed), optimizer: None }),
            Start::Model(init) => init.state(b, config),
        }
    }
}

/// What the rows of new tokens begin as.
enum NewRows {
    /// The mean of the rows of the tokens that were there: what an unknown token is worth on average.
    Mean,
    /// Zeros: moments.
    Zero,
}

/// An embedding of `width` columns with `rows` rows, those of the tokens `new` set to their first value. Rows beyond all
/// tokens (embeddings are often padded) stay as they are.
fn grown(mut values: Vec<f32>, width: usize, rows: usize, new: Range<usize>, value: NewRows) -> Vec<f32> {
    let first = match value {
        NewRows::Zero => vec![0.0; width],
        NewRows::Mean => {
            let mut sum = vec![0.0f64; width];
            for row in values[..new.start * width].chunks(width) {
                sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            }
            sum.into_iter().map(|sum| (sum / new.start as f64) as f32).collect()
        }
    };
    values.resize(rows * width, 0.0);
    for row in values[new.start * width..new.end * width].chunks_mut(width) {
        row.copy_from_slice(&first);
    }
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
    }
}
