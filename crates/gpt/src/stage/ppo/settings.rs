//! The recipe of PPO.

use crate::stage::settings::{StageConfig, at_least_one, described};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

described! {
    /// What is PPO's own in its recipe. A step is an iteration: `batch_size` episodes, then `epochs` passes
    /// over them.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct PpoSettings {
        /// Episodes of an iteration.
        pub batch_size: usize,
        /// Passes over the episodes of an iteration.
        pub epochs: u64,
        /// Updates of a pass: the episodes are cut into as many minibatches.
        pub minibatches: usize,
        /// Tokens of an answer at most.
        pub max_tokens: usize,
        /// Logits are divided by it, in sampling and in every log-probability.
        pub temperature: f64,
        /// Price of a nat of KL to the reference policy.
        pub kl_coef: f64,
        /// Target KL of an answer for an adaptive coefficient; the coefficient is fixed where there is none.
        pub kl_target: Option<f64>,
        /// Horizon of the adaptive coefficient, in episodes.
        pub kl_horizon: f64,
        /// The held-out KL of an answer beyond which the run ends, with its best state.
        pub kl_limit: Option<f64>,
        /// How far the probability ratio counts beyond 1.
        pub clip_range: f64,
        /// How far a value counts from what it was.
        pub value_clip: f64,
        /// Highest learning rate of the value model; that of the policy where it is not given.
        pub value_lr: Option<f64>,
        /// Discount of later rewards.
        pub gamma: f64,
        /// Generalised advantage estimation's λ.
        pub gae_lambda: f64,
        /// Weight of the entropy bonus.
        pub entropy_coef: f64,
        /// Whether rewards are divided by their standard deviation.
        pub whiten_rewards: bool,
        /// Taken off the reward of an answer that does not end within max_tokens.
        pub missing_end_penalty: f64,
        /// Weight of the pretraining loss (mean over its tokens); 0 for none.
        pub ptx_coef: f64,
        /// Pretraining tokens of an update.
        pub ptx_tokens: usize,
        /// Decay of the policy's moving average, an update at a time; 0 for none. The average is what is
        /// saved.
        pub ema: f64,
        /// Held-out prompts of an evaluation.
        pub eval_prompts: usize,
    }
}

impl StageConfig for PpoSettings {
    const KEYS: &[(&str, &str)] = PpoSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../../presets/stages/ppo.toml");

    fn check(&self) -> Result<()> {
        at_least_one([
            ("batch_size", self.batch_size as u64),
            ("epochs", self.epochs),
            ("minibatches", self.minibatches as u64),
            ("max_tokens", self.max_tokens as u64),
            ("eval_prompts", self.eval_prompts as u64),
        ])?;
        ensure!(
            self.minibatches <= self.batch_size,
            "minibatches {} is more than the {} episodes of an iteration",
            self.minibatches,
            self.batch_size
        );
        for (key, value) in [
            ("temperature", Some(self.temperature)),
            ("kl_target", self.kl_target),
            ("kl_horizon", Some(self.kl_horizon)),
            ("kl_limit", self.kl_limit),
            ("clip_range", Some(self.clip_range)),
            ("value_clip", Some(self.value_clip)),
            ("value_lr", self.value_lr),
        ] {
            ensure!(
                value.is_none_or(|value| value.is_finite() && value > 0.0),
                "{key} is {}: it must be positive",
                value.unwrap_or_default()
            );
        }
        for (key, value) in [
            ("kl_coef", self.kl_coef),
            ("entropy_coef", self.entropy_coef),
            ("missing_end_penalty", self.missing_end_penalty),
            ("ptx_coef", self.ptx_coef),
        ] {
            ensure!(value.is_finite() && value >= 0.0, "{key} is {value}: it must not be negative");
        }
        for (key, value) in [("gamma", self.gamma), ("gae_lambda", self.gae_lambda)] {
            ensure!((0.0..=1.0).contains(&value), "{key} is {value}: it is a fraction");
        }
        ensure!((0.0..1.0).contains(&self.ema), "ema is {}: it must be in 0 ≤ ema < 1", self.ema);
        ensure!(self.ptx_coef == 0.0 || self.ptx_tokens > 0, "ptx_tokens is 0, but ptx_coef is not");
        Ok(())
    }
}
