//! What a run begins with: random weights, or those of a model that is there already.

use super::data::Data;
use crate::model::{Config, Method};
use crate::stage::learner::Origin;
use crate::stage::{Init, Settings, Shape};
use crate::tokenizer::Tokenizer;
use anyhow::Result;

/// Where a run begins.
pub enum Start {
    /// At random weights of this shape.
    Random(Shape),
    /// At a model.
    Model {
        /// The model.
        init: Box<Init>,
        /// Whether its moments and its number of updates go on, or begin at zero.
        continue_optimizer: bool,
    },
}

impl Start {
    /// The model to begin from, if there is one.
    pub(super) fn init(&self) -> Option<&Init> {
        match self {
            Start::Random(_) => None,
            Start::Model { init, .. } => Some(init),
        }
    }

    /// The shape of the model, for data in this vocabulary.
    ///
    /// # Errors
    /// No model can have the shape; the data does not belong to the model.
    pub(super) fn config(&self, settings: &Settings, data: &Data) -> Result<Config> {
        let config = match self {
            Start::Random(shape) => shape.config(data.vocab_size(), settings),
            Start::Model { init, .. } => {
                init.check(data.tokenizer(), data.vocab_size())?;
                let config = init.config(settings.dropout as f32);
                let tokens = self.tokenizer(data.tokenizer()).vocab_size();
                Config { vocab_size: config.vocab_size.max(tokens), ..config }
            }
        };
        config.check()?;
        Ok(config)
    }

    /// The tokenizer that goes with the trained model, where its data was made with `of_data`.
    pub(super) fn tokenizer<'a>(&'a self, of_data: &'a Tokenizer) -> &'a Tokenizer {
        self.init().and_then(Init::tokenizer).unwrap_or(of_data)
    }

    /// The same as what a model in training begins from.
    pub(super) fn origin(&self, seed: u64, method: Method) -> Origin<'_> {
        let continue_optimizer = matches!(self, Start::Model { continue_optimizer: true, .. });
        Origin { init: self.init(), continue_optimizer, seed, method }
    }
}
