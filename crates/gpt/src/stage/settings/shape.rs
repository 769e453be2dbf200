//! What a recipe says about the model.

use super::Settings;
use crate::checkpoint;
use crate::model::{Config, NormPlace, Positions, Rope};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

described! {
    /// The shape of a model that begins with random weights, except its vocabulary and its context.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Shape {
        /// The kind of model: gpt1, gpt2, gpt3 or modern.
        #[serde(default)]
        pub family: Family,
        /// Blocks.
        pub n_layer: usize,
        /// Attention heads of a block.
        pub n_head: usize,
        /// Key and value heads, at most `n_head`; `n_head` where it is not given. For modern.
        pub n_kv_head: Option<usize>,
        /// Width of the residual stream.
        pub d_model: usize,
        /// Width of the feed-forward layer; `4 · d_model`, for modern `8/3 · d_model`, where it is not given.
        pub d_ff: Option<usize>,
        /// Whether heads of queries and keys are normalised. For modern.
        #[serde(default)]
        pub qk_norm: bool,
        /// Base of the rotary positions' angles; 10,000 where it is not given. For modern.
        pub rope_theta: Option<f64>,
        /// How far back every second block sees. For gpt3, whose paper does not tell: 256 where it is not
        /// given.
        pub band: Option<usize>,
        /// Whether the head is the token embedding.
        #[serde(default = "yes")]
        pub tied_head: bool,
    }
}

/// The families of models that a recipe can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Norms after the layers (Radford et al. 2018).
    Gpt1,
    /// Norms before the layers (Radford et al. 2019).
    #[default]
    Gpt2,
    /// GPT-2 with every second block banded (Brown et al. 2020).
    Gpt3,
    /// Llama's and Qwen's layout.
    Modern,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Family::Gpt1 => "gpt1",
            Family::Gpt2 => "gpt2",
            Family::Gpt3 => "gpt3",
            Family::Modern => "modern",
        }
    }
}

fn yes() -> bool {
    true
}

impl Shape {
    /// What a recipe would say of this model.
    pub(super) fn of(model: &Config) -> Shape {
        let family = match (&model.positions, model.norm_place, model.band) {
            (Positions::Rotary(_), ..) => Family::Modern,
            (_, NormPlace::Post, _) => Family::Gpt1,
            (_, _, Some(_)) => Family::Gpt3,
            _ => Family::Gpt2,
        };
        Shape {
            family,
            n_layer: model.n_layer,
            n_head: model.n_head,
            n_kv_head: Some(model.n_kv_head),
            d_model: model.d_model,
            d_ff: Some(model.d_ff),
            qk_norm: model.qk_norm,
            rope_theta: model.rope().map(|rope| rope.theta),
            band: model.band,
            tied_head: model.tied_head,
        }
    }

    /// Fills in what follows from the rest, and refuses what no model can be.
    pub(super) fn resolve(&mut self, settings: &Settings) -> Result<()> {
        let modern = self.family == Family::Modern;
        for (key, given, belongs) in [
            ("n_kv_head", self.n_kv_head.is_some_and(|n| n != self.n_head), modern),
            ("qk_norm", self.qk_norm, modern),
            ("rope_theta", self.rope_theta.is_some(), modern),
            ("band", self.band.is_some(), self.family == Family::Gpt3),
        ] {
            ensure!(
                belongs || !given,
                "{key} is given, but a model of the family {} has no such thing",
                self.family.name()
            );
        }
        let config = self.config(1, settings);
        config.check()?;
        checkpoint::architecture_of(&config)?;
        (self.d_ff, self.n_kv_head, self.band) = (Some(config.d_ff), Some(config.n_kv_head), config.band);
        Ok(())
    }

    /// A model of this shape, with the context and the dropout of `settings`.
    pub fn config(&self, vocab_size: usize, settings: &Settings) -> Config {
        let family = match self.family {
            Family::Gpt1 => Config::gpt1,
            Family::Gpt2 => Config::gpt2,
            Family::Gpt3 => Config::gpt3,
            Family::Modern => Config::modern,
        };
        let shape = family(vocab_size, settings.seq_len, self.n_layer, self.n_head, self.d_model);
        let positions = match (&shape.positions, self.rope_theta) {
            (Positions::Rotary(rope), Some(theta)) => Positions::Rotary(Rope { theta, ..rope.clone() }),
            _ => shape.positions.clone(),
        };
        Config {
            n_kv_head: self.n_kv_head.unwrap_or(shape.n_kv_head),
            d_ff: self.d_ff.unwrap_or(shape.d_ff),
            dropout: settings.dropout as f32,
            tied_head: self.tied_head,
            qk_norm: self.qk_norm,
            band: self.band.or(shape.band),
            positions,
            ..shape
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_decides_how_positions_rotate() {
        let theta = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
            let (shape, settings) = Settings::resolve("modern-tiny", &changes).unwrap();
            shape.config(100, &settings).rope().unwrap().theta
        };
        assert_eq!(theta(&["rope_theta=5e4"]), 5e4);
        assert_ne!(theta(&[]), 5e4);
        let error = Settings::resolve("tiny", &["rope_theta=5e4".into()]).unwrap_err();
        assert!(error.to_string().starts_with("rope_theta is given, but"), "{error}");
    }
}
