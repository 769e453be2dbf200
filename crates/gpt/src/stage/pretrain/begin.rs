//! What a run begins with: random weights, or those of a model that is there already.

use super::Options;
use super::data::Data;
use crate::model::{Config, Method, PASS_TOKENS};
use crate::progress::Progress;
use crate::stage::learner::Origin;
use crate::stage::memory::{MOST_PASS_TOKENS, Needs};
use crate::stage::training_loop::Machine;
use crate::stage::{Init, Settings, Shape};
use crate::tokenizer::Tokenizer;
use crate::train::run::{CONFIG, Recipe};
use anyhow::Result;

/// The key of a recipe.
pub(super) const MICRO_BATCH_TOKENS: &str = "micro_batch_tokens";

/// How many tokens go through the model at once at most: as many as the recipe says; on a GPU else as many as when the
/// run began, and when it begins as many as have room there.
pub(super) fn micro_batch_tokens(
    options: &Options,
    needs: Needs<'_>,
    machine: &Machine,
    progress: &dyn Progress,
) -> Result<usize> {
    let Options { settings, out, .. } = options;
    if let Some(given) = settings.micro_batch_tokens {
        return Ok(given);
    }
    let begun = out.join(CONFIG).exists() && machine.device != "cpu";
    let begun = begun.then(|| Recipe::load(out)).transpose()?.filter(|begun| begun.stage == "pretrain");
    let kept = begun.and_then(|begun| begun.settings.get(MICRO_BATCH_TOKENS)?.as_integer());
    if let Some(kept) = kept.and_then(|tokens| usize::try_from(tokens).ok()) {
        return Ok(kept);
    }
    let most = settings.batch_tokens.min(settings.whole_windows(MOST_PASS_TOKENS));
    let needs = Needs { lanes: settings.lanes, ..needs };
    Ok(needs.pass_tokens(settings.seq_len, most, machine, progress).unwrap_or(PASS_TOKENS))
}

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
