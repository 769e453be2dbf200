//! How far the road to a chat goes: usual amounts of data and training by name, and what a size makes of
//! them.

mod cost;
mod named;
mod plan;

use super::budget::Budget;
use crate::model::Config;
use crate::stage::{Settings, Shape};
use anyhow::{Context, Result};

/// Names of the scales, and what they are.
pub const SCALES: [(&str, &str); 4] = [
    ("tiny", "for tests: every stage in a minute, and nothing learned well"),
    ("laptop", "ten minutes, whatever the machine does in them"),
    ("evening", "a larger model, in three hours"),
    (
        "gpu",
        "124 million parameters, as much as a GPU would train in hours: there is no backend for one yet, and here it takes weeks",
    ),
];

/// The scale of the default road.
pub const DEFAULT_SCALE: &str = "laptop";

/// How often PPO learns from an answer.
const PPO_EPOCHS: f64 = 4.0;

/// A stage whose amounts a size multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Pretrain,
    Sft,
    Candidates,
    Reward,
    Ppo,
    Dpo,
    Compare,
}

impl Stage {
    /// In the order of the road.
    pub(super) const ALL: [Stage; 7] = [
        Stage::Pretrain,
        Stage::Sft,
        Stage::Candidates,
        Stage::Reward,
        Stage::Ppo,
        Stage::Dpo,
        Stage::Compare,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Stage::Pretrain => "pretrain",
            Stage::Sft => "sft",
            Stage::Candidates => "candidates",
            Stage::Reward => "reward",
            Stage::Ppo => "ppo",
            Stage::Dpo => "dpo",
            Stage::Compare => "compare",
        }
    }
}

/// Usual amounts of data and training: those of size 1.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    name: &'static str,
    /// Minutes of the whole road, where nobody says otherwise and these decide its size.
    minutes: Option<f64>,
    text_bytes: u64,
    pub(super) vocab_size: usize,
    /// The preset of pretraining, recipe keys besides the preset's, and its steps.
    preset: &'static str,
    pretrain: &'static [&'static str],
    pretrain_steps: u64,
    demonstrations: usize,
    prompts: usize,
    /// Held-out prompts at most.
    pub(super) held_out: usize,
    /// Answers to a prompt that are ranked.
    pub(super) k: usize,
    /// Answers of which the best by reward is taken, to compare.
    pub(super) best_of: usize,
    /// Tokens of an answer at most.
    pub(super) max_tokens: usize,
    sft: Amount,
    reward: Amount,
    ppo: Amount,
    /// Held-out prompts that PPO's policy is measured with.
    measured: usize,
    dpo: Amount,
}

/// Usual steps of a stage, its batch, and further recipe keys.
#[derive(Clone, Copy, Debug)]
struct Amount {
    steps: u64,
    batch_size: usize,
    keys: &'static [&'static str],
}

impl Amount {
    /// At a size the batch grows by its root, and so do the steps: a short training needs updates as much as
    /// examples.
    fn at(self, size: f64) -> (u64, usize) {
        let examples = self.steps as f64 * self.batch_size as f64 * size;
        let batch = (self.batch_size as f64 * size.sqrt()).round().max(MIN_BATCH.min(self.batch_size as f64));
        (((examples / batch).round() as u64).max(1), batch as usize)
    }

    /// Recipe changes as they are typed.
    fn changes(self, size: f64) -> Vec<String> {
        let (steps, batch_size) = self.at(size);
        let sized = [format!("steps={steps}"), format!("batch_size={batch_size}")];
        sized.into_iter().chain(self.keys.iter().map(|key| key.to_string())).collect()
    }
}

/// Batches are not smaller.
const MIN_BATCH: f64 = 8.0;

impl Scale {
    /// Refuses a name that is not a scale.
    pub(super) fn named(name: &str) -> Result<Scale> {
        let names: Vec<&str> = SCALES.iter().map(|(name, _)| *name).collect();
        Scale::of(name).with_context(|| {
            format!("there is no scale `{name}` of the road: choose one of {}", names.join(", "))
        })
    }

    /// What the road may cost where nobody says otherwise; none for amounts that are fixed.
    pub(super) fn budget(&self) -> Option<Budget> {
        self.minutes.map(Budget::Minutes)
    }

    /// Bytes of text to pretrain on.
    pub(super) fn text_bytes(&self, size: f64) -> u64 {
        ((self.text_bytes as f64 * size) as u64).max(600_000)
    }

    /// Demonstrations to learn from.
    pub(super) fn demonstrations(&self, size: f64) -> usize {
        times(self.demonstrations, size, 600)
    }

    /// Prompts whose answers are ranked.
    pub(super) fn prompts(&self, size: f64) -> usize {
        times(self.prompts, size, 300)
    }

    /// Held-out prompts that the models are compared on. Their number grows by the root, as a figure's
    /// precision does.
    pub(super) fn compared(&self, size: f64) -> usize {
        times(self.held_out, size.sqrt(), 40).min(self.held_out)
    }

    /// Shape and recipe of pretraining.
    pub(super) fn pretraining(&self, size: f64) -> Result<(Shape, Settings)> {
        let mut changes: Vec<String> = self.pretrain.iter().map(|change| change.to_string()).collect();
        let (_, usual) = Settings::resolve(self.preset, &changes)?;
        let steps = ((self.pretrain_steps as f64 * size) as u64).max(2 * usual.warmup_steps);
        let tenth = (steps / 10).max(1);
        changes.push(format!("steps={steps}"));
        changes.extend(["eval_every", "checkpoint_every"].map(|key| format!("{key}={tenth}")));
        Settings::resolve(self.preset, &changes)
    }

    /// Recipe changes of supervised fine-tuning.
    pub(super) fn sft(&self, size: f64) -> Vec<String> {
        self.sft.changes(size)
    }

    /// Recipe changes of the reward model.
    pub(super) fn reward(&self, size: f64) -> Vec<String> {
        self.reward.changes(size)
    }

    /// Recipe changes of PPO.
    pub(super) fn ppo(&self, size: f64) -> Vec<String> {
        let warmup_steps = (self.ppo.at(size).0 / 6).clamp(1, 10);
        let mut changes = self.ppo.changes(size);
        changes.push(format!("warmup_steps={warmup_steps}"));
        changes.push(format!("max_tokens={}", self.max_tokens));
        changes.push(format!("eval_prompts={}", self.measured(size)));
        changes.push(format!("epochs={PPO_EPOCHS}"));
        changes
    }

    /// Held-out prompts that PPO's policy is measured with.
    fn measured(&self, size: f64) -> usize {
        times(self.measured, size.sqrt(), 24).min(self.measured)
    }

    /// Recipe changes of DPO.
    pub(super) fn dpo(&self, size: f64) -> Vec<String> {
        self.dpo.changes(size)
    }

    /// The shape of the road's models.
    pub(super) fn config(&self) -> Result<Config> {
        let (shape, settings) = self.pretraining(1.0)?;
        Ok(shape.config(self.vocab_size, &settings))
    }
}

/// `n` times `size`, and not less than `least`, of which there may be fewer at size 1.
fn times(n: usize, size: f64, least: usize) -> usize {
    ((n as f64 * size).round() as usize).max(least.min(n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::{DpoSettings, PpoSettings, RewardSettings, SftSettings, StageSettings};

    #[test]
    fn every_scale_resolves_at_every_size() {
        let named = SCALES.map(|(name, _)| Scale::named(name).unwrap());
        let paid = named.clone().map(|scale| scale.paid_by(1e13));
        for scale in named.into_iter().chain(paid) {
            let name = scale.name;
            let config = scale.config().unwrap();
            for size in [0.001, 0.03, 1.0, 40.0] {
                let (_, settings) = scale.pretraining(size).unwrap();
                assert!(settings.warmup_steps < settings.steps, "{name} {size}");
                StageSettings::<SftSettings>::resolve(&scale.sft(size)).unwrap();
                StageSettings::<RewardSettings>::resolve(&scale.reward(size)).unwrap();
                StageSettings::<PpoSettings>::resolve(&scale.ppo(size)).unwrap();
                StageSettings::<DpoSettings>::resolve(&scale.dpo(size)).unwrap();
                for stage in Stage::ALL {
                    assert!(
                        scale.operations(stage, size, &config).unwrap().total() > 0.0,
                        "{name} {stage:?}"
                    );
                }
            }
        }
        assert!(Scale::named("huge").unwrap_err().to_string().contains("laptop"));
    }

    #[test]
    fn a_test_has_less_of_everything() {
        let amounts = |name| {
            let scale = Scale::named(name).unwrap();
            let trained = [scale.sft, scale.reward, scale.ppo, scale.dpo].map(|amount| amount.steps);
            let others =
                [scale.vocab_size, scale.demonstrations, scale.prompts, scale.held_out, scale.best_of]
                    .map(|amount| amount as u64);
            let more =
                [scale.text_bytes, scale.pretrain_steps, scale.max_tokens as u64, scale.measured as u64];
            [&trained[..], &others, &more].concat()
        };
        let (tiny, laptop) = (amounts("tiny"), amounts("laptop"));
        assert!(tiny.iter().zip(&laptop).all(|(tiny, laptop)| tiny < laptop), "{tiny:?} {laptop:?}");
    }

    #[test]
    fn few_operations_pay_for_a_narrow_model() {
        let width =
            |name, operations| Scale::named(name).unwrap().paid_by(operations).config().unwrap().d_model;
        assert_eq!((width("laptop", 6e13), width("laptop", 6e14)), (128, 192));
        assert_eq!(width("evening", 6e13), width("evening", 6e15));
        // Operations are shared out among the stages as before.
        let share = |scale: &Scale| {
            let config = scale.config().unwrap();
            let cost = |stage| scale.operations(stage, 1.0, &config).unwrap().total();
            cost(Stage::Pretrain) / Stage::ALL.map(cost).iter().sum::<f64>()
        };
        let laptop = Scale::named("laptop").unwrap();
        let (narrow, wide) = (share(&laptop.clone().paid_by(6e13)), share(&laptop));
        assert!((narrow - wide).abs() < 0.02, "{narrow} {wide}");
    }

    #[test]
    fn the_usual_amounts_are_those_of_size_one() {
        let scale = Scale::named("laptop").unwrap();
        assert_eq!(scale.sft.at(1.0), (4500, 32));
        assert_eq!(
            (scale.demonstrations(1.0), scale.prompts(1.0), scale.compared(1.0)),
            (144_000, 16_000, 1600)
        );
        let pretraining = scale.pretraining(1.0).unwrap().1;
        assert_eq!(
            (pretraining.steps, pretraining.eval_every, pretraining.checkpoint_every),
            (8000, 800, 800)
        );
        // Half as many examples, in steps and batches that both have shrunk.
        let (steps, batch) = scale.ppo.at(0.25);
        assert_eq!((steps, batch), (30, 64));
    }
}
