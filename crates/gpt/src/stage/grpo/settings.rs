//! The recipe of GRPO and its kin.

use crate::objective::grpo::{Advantages, KlEstimate, Ratio, Reduction, Surrogate};
use crate::stage::settings::{StageConfig, StageSettings, at_least_one, described};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where the distance from the reference has its price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlIn {
    /// In the loss.
    #[default]
    Loss,
    /// In the reward, when an answer is drawn.
    Reward,
}

described! {
    /// What is GRPO's own in its recipe. A step is an iteration: `group` answers to each of `batch_size`
    /// prompts, then `epochs` passes over them.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct GrpoSettings {
        /// Prompts of an iteration.
        pub batch_size: usize,
        /// Answers to each prompt, which are compared with each other.
        pub group: usize,
        /// Passes over the answers of an iteration.
        pub epochs: u64,
        /// Updates of a pass: the answers are cut into as many minibatches.
        pub minibatches: usize,
        /// Tokens of an answer at most.
        pub max_tokens: usize,
        /// Logits are divided by it, in sampling and in every log-probability.
        pub temperature: f64,
        /// How rewards become advantages: group (less the mean, over the deviation), mean, leave_one_out or
        /// whitened.
        pub advantages: Advantages,
        /// What is clipped: the ratio of a token, of a sequence, or sequence_mean, its geometric mean.
        pub ratio: Ratio,
        /// What tokens weigh: the same by sequence, among all tokens, or one over max_tokens.
        pub reduction: Reduction,
        /// How far the probability ratio counts below 1.
        pub clip_low: f64,
        /// How far it counts above 1.
        pub clip_high: f64,
        /// Price of a nat of KL to the model that training begins from; 0 for none, which saves that model's
        /// memory.
        pub kl_coef: f64,
        /// What estimates it: k1 or k3.
        pub kl: KlEstimate,
        /// Where it is paid: in the loss, or in the reward.
        pub kl_in: KlIn,
        /// Whether its estimate in the loss is multiplied by the ratio, so that its gradient is not biased.
        pub kl_corrected: bool,
        /// Weight of the entropy bonus.
        pub entropy_coef: f64,
        /// How often more prompts are answered at most until batch_size groups differ in their rewards; 1
        /// takes all groups.
        pub rounds: u64,
        /// The last share of max_tokens in which answers lose up to 1 by their length; 0 for none.
        pub overlong_frac: f64,
        /// Whether answers that are cut at max_tokens are not learned from.
        pub mask_cut: bool,
        /// Seconds that a reward program has for the answers of an iteration.
        pub program_secs: f64,
        /// Held-out prompts of an evaluation.
        pub eval_prompts: usize,
        /// Answers to each of them, the k of pass@k.
        pub eval_samples: usize,
    }
}

/// The usual names, with what their authors take where nobody says otherwise, as changes of the defaults.
const LOSSES: [(&str, &[&str]); 6] = [
    ("grpo", &[]),
    ("dr-grpo", &["advantages=mean", "reduction=max_tokens", "kl_coef=0.0"]),
    ("rloo", &["advantages=leave_one_out", "ratio=sequence", "kl_coef=0.05", "kl=k1", "kl_in=reward"]),
    ("reinforce++", &["advantages=whitened", "reduction=tokens", "kl_coef=0.01", "kl=k1", "kl_in=reward"]),
    ("dapo", &["reduction=tokens", "clip_high=0.28", "kl_coef=0.0", "rounds=4", "overlong_frac=0.2"]),
    ("gspo", &["ratio=sequence_mean", "clip_low=3e-4", "clip_high=4e-4", "kl_coef=0.0"]),
];

/// Answers of an iteration, or of an evaluation, at most.
const MOST_ANSWERS: usize = 1 << 24;

impl GrpoSettings {
    /// The names of `--loss`.
    pub fn losses() -> impl Iterator<Item = &'static str> {
        LOSSES.iter().map(|(name, _)| *name)
    }

    /// What a name stands for, as changes of the defaults; nothing for one that there is not.
    pub fn usual_of(loss: &str) -> Vec<String> {
        let changes = LOSSES.iter().find(|(name, _)| *name == loss).map_or(&[][..], |(_, changes)| changes);
        changes.iter().map(|change| (*change).to_owned()).collect()
    }

    pub(super) fn surrogate(&self) -> Surrogate {
        let &GrpoSettings { ratio, clip_low, clip_high, kl, kl_corrected, .. } = self;
        let kl_coef = if self.kl_in == KlIn::Loss { self.kl_coef } else { 0.0 };
        Surrogate { ratio, clip_low, clip_high, kl_coef, kl, kl_corrected }
    }

    /// Whether KL is paid for in the reward.
    pub(super) fn pays_kl(&self) -> bool {
        self.kl_in == KlIn::Reward && self.kl_coef > 0.0
    }

    /// Whether a policy has to be asked what it says of its answers before it learns from them. An only update is told
    /// that by its own pass, unless advantages depend on it.
    pub(super) fn asks_first(&self) -> bool {
        self.epochs > 1 || self.minibatches > 1 || self.pays_kl()
    }

    /// Tokens at the end of the longest answers that cost something.
    pub(super) fn overlong_tokens(&self) -> usize {
        (self.overlong_frac * self.max_tokens as f64).round() as usize
    }
}

impl StageSettings<GrpoSettings> {
    /// How long a reward program may take.
    pub fn program_time(&self) -> Duration {
        let secs = self
            .value("program_secs")
            .and_then(|value| value.as_float().or(value.as_integer().map(|secs| secs as f64)));
        Duration::from_secs_f64(secs.unwrap_or_default())
    }
}

impl StageConfig for GrpoSettings {
    const KEYS: &[(&str, &str)] = GrpoSettings::KEYS;
    const DEFAULTS: &str = include_str!("../../../../../presets/stages/grpo.toml");

    fn check(&self) -> Result<()> {
        at_least_one([
            ("batch_size", self.batch_size as u64),
            ("group", self.group as u64),
            ("epochs", self.epochs),
            ("minibatches", self.minibatches as u64),
            ("max_tokens", self.max_tokens as u64),
            ("rounds", self.rounds),
            ("eval_prompts", self.eval_prompts as u64),
            ("eval_samples", self.eval_samples as u64),
        ])?;
        ensure!(
            self.group > 1 || self.advantages == Advantages::Whitened,
            "group is 1: an answer is compared with the others of its group, so take at least 2, or advantages=whitened"
        );
        let of_evaluation = ("eval_prompts and eval_samples", self.eval_prompts, self.eval_samples);
        for (keys, prompts, times) in [("batch_size and group", self.batch_size, self.group), of_evaluation] {
            ensure!(
                prompts.checked_mul(times).is_some_and(|answers| answers <= MOST_ANSWERS),
                "{keys} are {prompts} and {times}: more than {MOST_ANSWERS} answers at once do not fit in any memory"
            );
        }
        let answers = self.batch_size * self.group;
        ensure!(
            self.minibatches <= answers,
            "minibatches {} is more than the {answers} answers of an iteration",
            self.minibatches
        );
        for (key, value) in [
            ("temperature", self.temperature),
            ("clip_low", self.clip_low),
            ("clip_high", self.clip_high),
            ("program_secs", self.program_secs),
        ] {
            ensure!(value.is_finite() && value > 0.0, "{key} is {value}: it must be positive");
        }
        for (key, value) in [("kl_coef", self.kl_coef), ("entropy_coef", self.entropy_coef)] {
            ensure!(value.is_finite() && value >= 0.0, "{key} is {value}: it must not be negative");
        }
        ensure!(self.clip_low <= 1.0, "clip_low is {}: a ratio is never below 0", self.clip_low);
        ensure!(
            (0.0..=1.0).contains(&self.overlong_frac),
            "overlong_frac is {}: it is a fraction",
            self.overlong_frac
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_recipe() {
        for loss in GrpoSettings::losses() {
            let changes = GrpoSettings::usual_of(loss);
            let settings = StageSettings::<GrpoSettings>::resolve(&changes);
            assert!(settings.is_ok(), "{loss}: {settings:?}");
            assert_eq!(changes.is_empty(), loss == "grpo");
        }
        assert!(GrpoSettings::usual_of("ppo").is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (changes, said) in [
            (&["group=1"][..], "at least 2"),
            (&["minibatches=200"], "128 answers"),
            (&["group=9223372036854775807"], "batch_size and group"),
            (&["eval_samples=1000000000000"], "eval_prompts and eval_samples"),
            (&["clip_low=1.5"], "never below 0"),
            (&["kl_in=nowhere"], "nowhere"),
            (&["overlong_frac=2.0"], "fraction"),
            (&["advantages=k3"], "k3"),
        ] {
            let changes: Vec<String> = changes.iter().map(|change| (*change).into()).collect();
            let error = StageSettings::<GrpoSettings>::resolve(&changes).unwrap_err();
            assert!(format!("{error:#}").contains(said), "{error:#}");
        }
        let alone = ["group=1", "advantages=whitened"].map(str::to_owned);
        assert!(StageSettings::<GrpoSettings>::resolve(&alone).is_ok());
    }
}
