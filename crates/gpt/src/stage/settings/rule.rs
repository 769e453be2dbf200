//! What a recipe leaves to the model and its examples: a rule stands in a preset where a number could, and
//! whoever gives the number overrules it.

use crate::model::{Config, PASS_TOKENS};
use crate::stage::Init;
use crate::stage::training_loop::Machine;
use anyhow::{Context, Result};
use serde::Deserialize;

/// What decides a key that nobody gave.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "by", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Rule {
    /// A rate that falls with the width of the model.
    Size(BySize),
    /// As many epochs as make `seen` examples in all, at least one and at most `most`.
    Examples { seen: usize, most: u64 },
    /// `ours` for a model that mynah pretrained; for others, what their configuration says.
    Origin { ours: f64 },
    /// As many tokens as [`Config::pass_tokens`] lets through the model at once; on a GPU as many as fit.
    Memory,
}

/// `value · (width / d_model)^power`: `value` for a model that is `width` wide, and for narrower ones, of
/// which nothing is known. With a power of 1 an update of AdamW moves what a matrix puts out by as much in a
/// wide model as in a narrow one (Yang et al. 2022, "Tensor Programs V"); pretrained models bear less.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct BySize {
    width: usize,
    value: f64,
    power: f64,
}

/// What a rule looks at.
#[derive(Clone, Copy)]
pub(in crate::stage) struct Fit<'a> {
    /// The stage, as recipes name it.
    pub(in crate::stage) stage: &'static str,
    /// The model that training begins from.
    pub(in crate::stage) init: &'a Init,
    /// Examples of an epoch.
    pub(in crate::stage) examples: usize,
    /// What computes.
    pub(in crate::stage) machine: &'a Machine,
}

/// The rate of an adapter is so many times that of the whole model (Schulman et al. 2025, "LoRA Without Regret").
const ADAPTER_RATE: f64 = 10.0;

/// The models whose values `--help` tells.
const SHOWN: [(&str, usize); 3] = [("nano", 192), ("baby", 384), ("gpt2", 768)];

impl Rule {
    /// The rule that a value of a preset is; none for a plain value.
    ///
    /// # Errors
    /// It is a table, and no rule.
    pub(super) fn of(value: &toml::Value) -> Result<Option<Rule>> {
        let rule = value.as_table().map(|table| table.clone().try_into());
        rule.transpose().context("a rule is by size, by examples or by origin")
    }

    /// The value for a model and its examples, and what of them decides it.
    pub(super) fn decide(&self, fit: &Fit<'_>) -> (toml::Value, String) {
        let Config { d_model, n_layer, dropout, .. } = fit.init.model().config;
        match self {
            Rule::Size(rate) => {
                let (value, why) = (rate.at(d_model), format!("{d_model} wide"));
                match fit.init.adapter() {
                    Some(_) => (shortened(ADAPTER_RATE * value).into(), format!("{why}, of an adapter")),
                    None => (value.into(), why),
                }
            }
            Rule::Examples { seen, most } => {
                let epochs = epochs(*seen, *most, fit.examples);
                (toml::Value::Integer(epochs as i64), format!("{} examples", fit.examples))
            }
            Rule::Origin { ours } if !fit.init.is_adopted() => ((*ours).into(), "pretrained by mynah".into()),
            Rule::Origin { .. } => {
                let own = dropout.to_string().parse().unwrap_or(f64::from(dropout));
                (own.into(), "as the model says".into())
            }
            Rule::Memory => {
                let tokens = fit.init.model().config.pass_tokens();
                (toml::Value::Integer(tokens as i64), format!("{d_model} wide, {n_layer} layers"))
            }
        }
    }

    /// A value that the rule could have, to check the rest of a recipe with.
    pub(super) fn usual(&self) -> toml::Value {
        match self {
            Rule::Size(rate) => rate.value.into(),
            Rule::Examples { .. } => 1.into(),
            Rule::Origin { ours } => (*ours).into(),
            Rule::Memory => (PASS_TOKENS as i64).into(),
        }
    }

    /// What decides, and how, for people.
    pub(super) fn describe(&self) -> (&'static str, String) {
        match self {
            Rule::Size(rate) => {
                let shown = SHOWN.map(|(name, width)| format!("{name} {:?}", rate.at(width)));
                ("by size", shown.join(", "))
            }
            Rule::Examples { seen, most } => {
                ("by number", format!("{seen} / their number, from 1 to {most}"))
            }
            Rule::Origin { ours } => {
                ("by origin", format!("{ours}, of models that others trained what they say"))
            }
            Rule::Memory => {
                let how = "or half as many until their pass keeps at most 1.5 GB; on a GPU as many as its free memory has room for, when the run begins";
                ("by memory", format!("{PASS_TOKENS}, {how}"))
            }
        }
    }
}

/// As many as make `seen` examples in all, from 1 to `most`.
fn epochs(seen: usize, most: u64, examples: usize) -> u64 {
    ((seen as f64 / examples.max(1) as f64).round() as u64).clamp(1, most.max(1))
}

impl BySize {
    /// The value for a model that is `d_model` wide, to three digits.
    fn at(&self, d_model: usize) -> f64 {
        let narrower = (self.width as f64 / d_model as f64).min(1.0);
        let value = self.value * narrower.powf(self.power);
        shortened(value)
    }
}

/// A rate to three digits.
fn shortened(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{
        DistilSettings, DpoSettings, FinetuneSettings, GrpoSettings, KtoSettings, PpoSettings,
        RewardSettings, SftSettings, StageConfig,
    };

    fn rule(defaults: &str, key: &str) -> Rule {
        let table: toml::Table = toml::from_str(defaults).unwrap();
        Rule::of(&table[key]).unwrap().unwrap()
    }

    /// The rates of docs/rlhf.md, section 7, to the paper's for GPT-1.
    #[test]
    fn rates_fall_with_the_width() {
        for (defaults, expected) in [
            (FinetuneSettings::DEFAULTS, [1e-3, 1e-3, 2.5e-4, 1.11e-4, 6.25e-5]),
            (SftSettings::DEFAULTS, [1e-3, 1e-3, 3.54e-4, 1.92e-4, 1.25e-4]),
            (DistilSettings::DEFAULTS, [1e-3, 1e-3, 3.54e-4, 1.92e-4, 1.25e-4]),
            (RewardSettings::DEFAULTS, [5e-4, 5e-4, 1.25e-4, 5.56e-5, 3.13e-5]),
            (DpoSettings::DEFAULTS, [1e-4, 1e-4, 2.97e-5, 1.46e-5, 8.84e-6]),
            (KtoSettings::DEFAULTS, [1e-4, 1e-4, 2.97e-5, 1.46e-5, 8.84e-6]),
            (GrpoSettings::DEFAULTS, [2e-4, 2e-4, 5.95e-5, 2.92e-5, 1.77e-5]),
            (PpoSettings::DEFAULTS, [5e-5, 5e-5, 2.1e-5, 1.27e-5, 8.84e-6]),
        ] {
            let Rule::Size(rate) = rule(defaults, "lr") else { panic!("{defaults}") };
            assert_eq!([64, 192, 384, 576, 768].map(|width| rate.at(width)), expected);
        }
    }

    #[test]
    fn fewer_examples_are_seen_more_often() {
        for (defaults, expected) in [
            (FinetuneSettings::DEFAULTS, [10, 10, 3, 2, 1]),
            (SftSettings::DEFAULTS, [8, 8, 4, 2, 1]),
            (DistilSettings::DEFAULTS, [8, 8, 4, 2, 1]),
            (RewardSettings::DEFAULTS, [3, 3, 1, 1, 1]),
            (DpoSettings::DEFAULTS, [3, 3, 1, 1, 1]),
            (KtoSettings::DEFAULTS, [3, 3, 3, 2, 1]),
        ] {
            let Rule::Examples { seen, most } = rule(defaults, "epochs") else { panic!("{defaults}") };
            assert_eq!([0, 500, 8_000, 16_000, 1_000_000].map(|n| epochs(seen, most, n)), expected);
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        let value = |text: &str| toml::from_str::<toml::Table>(text).unwrap()["lr"].clone();
        assert_eq!(Rule::of(&value("lr = 1e-3")).unwrap(), None);
        for text in ["lr = {}", "lr = { by = 'luck' }", "lr = { by = 'origin' }"] {
            let error = format!("{:#}", Rule::of(&value(text)).unwrap_err());
            assert!(error.contains("by size, by examples or by origin"), "{error}");
        }
    }
}
