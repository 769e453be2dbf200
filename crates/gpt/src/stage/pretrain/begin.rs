//! What a run begins with: random weights, or those of a model that is there already.

use super::data::Data;
use crate::model::{self, Config, Weights};
use crate::stage::init::Optimized;
use crate::stage::{Init, Settings, Shape};
use crate::tokenizer::Tokenizer;
use anyhow::Result;
use kernels::Backend;

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

/// A run's first state.
pub(super) enum First<T> {
    /// With a fresh optimizer.
    Fresh(Weights<T>),
    /// With one that goes on.
    Continued(Optimized<T>),
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
                Config { vocab_size: config.vocab_size.max(self.tokenizer(data).vocab_size()), ..config }
            }
        };
        config.check()?;
        Ok(config)
    }

    /// The tokenizer that goes with the trained model.
    pub(super) fn tokenizer<'a>(&'a self, data: &'a Data) -> &'a Tokenizer {
        self.init().and_then(Init::tokenizer).unwrap_or(data.tokenizer())
    }

    /// The first state, on `b`.
    pub(super) fn state<B: Backend>(
        &self,
        b: &mut B,
        config: &Config,
        seed: u64,
    ) -> Result<First<B::Tensor>> {
        Ok(match self {
            Start::Random(_) => First::Fresh(model::init(b, config, seed)),
            Start::Model { init, continue_optimizer: false } => First::Fresh(init.weights(b, config, seed)?),
            Start::Model { init, continue_optimizer: true } => First::Continued(init.optimized(b, config)?),
        })
    }
}
