//! The recipe of fine-tuning.

use crate::stage::StageSettings;
use crate::stage::settings::{StageConfig, at_least_one, described};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

described! {
    /// What is fine-tuning's own in its recipe.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct FinetuneSettings {
        /// How often every example is seen.
        pub epochs: u64,
        /// Examples of a step.
        pub batch_size: usize,
        /// Tokens of a text at most, marks included; the model's context where it is not given.
        pub seq_len: Option<usize>,
        /// The share of the steps that the warm-up takes at least.
        pub warmup_frac: f64,
        /// Probability of dropout of what the head reads.
        pub head_dropout: f64,
        /// λ: the weight of language modelling beside the task.
        pub aux_lm: f64,
        /// Whether only the head and the embeddings of the marks learn.
        pub freeze_trunk: bool,
    }
}

impl StageConfig for FinetuneSettings {
    const KEYS: &[(&str, &str)] = FinetuneSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../../presets/stages/finetune.toml");

    fn check(&self) -> Result<()> {
        at_least_one([("epochs", self.epochs), ("batch_size", self.batch_size as u64)])?;
        for (key, value) in [("warmup_frac", self.warmup_frac), ("head_dropout", self.head_dropout)] {
            ensure!((0.0..1.0).contains(&value), "{key} is {value}: it must be in 0 ≤ {key} < 1");
        }
        ensure!(self.aux_lm.is_finite() && self.aux_lm >= 0.0, "aux_lm is {}: it is a weight", self.aux_lm);
        Ok(())
    }
}

impl StageSettings<FinetuneSettings> {
    /// `seq_len`, where it is given: texts are cut before anything else is decided.
    ///
    /// # Errors
    /// None, for settings that were resolved.
    pub fn seq_len(&self) -> Result<Option<usize>> {
        let given = self.value("seq_len").cloned();
        given.map(toml::Value::try_into).transpose().context("seq_len is a number")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_where_a_length_is_given() {
        let seq_len = |changes: &[String]| StageSettings::resolve(changes).unwrap().seq_len().unwrap();
        assert_eq!(seq_len(&["seq_len=7".into()]), Some(7));
        assert_eq!(seq_len(&[]), None);
    }
}
