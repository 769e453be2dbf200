//! What a size costs, in operations and in seconds, and the size that a budget pays for.

use super::super::budget::{Operations, Speeds, reading_flops};
use super::{Amount, PPO_EPOCHS, Scale, Stage};
use crate::model::Config;
use anyhow::{Result, ensure};

/// Tokens of a conversation with the lessons: the mean of prompt, answer and what the chat template puts
/// around them.
const CONVERSATION_TOKENS: usize = 40;
/// Measurements of PPO's policy on held-out prompts, before, in between, and of the state that is chosen.
const PPO_MEASUREMENTS: f64 = 12.0;
/// Seconds that a stage takes whatever its size: measuring speeds, reading models and data.
const FIXED_SECS: f64 = 3.0;
/// Models that are compared with one answer a prompt.
const COMPARED: usize = 4;

impl Stage {
    /// How much longer a stage takes than its operations at measured speeds: short sequences, the optimizer,
    /// validations, samples, files. Held against the stages of one road, on two cores of a Zen
    /// 3.
    fn overhead(self) -> f64 {
        match self {
            Stage::Pretrain => 1.1,
            Stage::Sft => 1.3,
            Stage::Candidates => 1.1,
            Stage::Reward => 1.3,
            Stage::Ppo => 1.2,
            Stage::Dpo => 1.6,
            Stage::Compare => 0.9,
        }
    }
}

impl Scale {
    /// What a stage costs at a size. Every answer of a conversation is read with its prompt.
    pub(in crate::stage::road) fn operations(
        &self,
        stage: Stage,
        size: f64,
        config: &Config,
    ) -> Result<Operations> {
        let conversation = CONVERSATION_TOKENS as f64;
        let read = conversation * reading_flops(config, CONVERSATION_TOKENS);
        let learned = 3.0 * read;
        let examples = |stage: Amount| {
            let (steps, batch_size) = stage.at(size);
            steps as f64 * batch_size as f64
        };
        let k = self.k as f64;
        let passes = |passes| Operations { passes, sampling: 0.0 };
        Ok(match stage {
            Stage::Pretrain => {
                let (_, settings) = self.pretraining(size)?;
                let tokens = settings.steps * settings.batch_tokens as u64;
                passes(tokens as f64 * config.training_flops_per_token())
            }
            Stage::Sft => passes(examples(self.sft) * learned),
            Stage::Candidates => Operations { passes: 0.0, sampling: self.prompts(size) as f64 * k * read },
            Stage::Reward => passes(examples(self.reward) * k * learned),
            Stage::Ppo => {
                let measured = PPO_MEASUREMENTS * self.measured(size) as f64;
                let episodes = examples(self.ppo);
                // Policy, reference, value and reward model read an episode; policy and value model learn
                // from it.
                let learned = 4.0 * read + 2.0 * PPO_EPOCHS * learned;
                Operations {
                    passes: episodes * learned + measured * 4.0 * read,
                    sampling: (episodes + measured) * read,
                }
            }
            Stage::Dpo => passes(examples(self.dpo) * k * (learned + read)),
            Stage::Compare => {
                let answers = self.compared(size) * (COMPARED + self.best_of);
                let sampling = answers as f64 * read;
                Operations { passes: 2.0 * sampling, sampling }
            }
        })
    }

    /// Seconds that a stage takes at a size.
    pub(in crate::stage::road) fn secs(
        &self,
        stage: Stage,
        size: f64,
        config: &Config,
        speeds: Speeds,
    ) -> Result<f64> {
        Ok(FIXED_SECS + stage.overhead() * self.operations(stage, size, config)?.secs(speeds))
    }

    /// The size at which the stages from `first` on take `secs` seconds.
    pub(in crate::stage::road) fn size_in(
        &self,
        secs: f64,
        first: Stage,
        config: &Config,
        speeds: Speeds,
    ) -> Result<f64> {
        largest(secs, |size| self.secs_from(first, size, config, speeds))
    }

    /// Seconds that the stages from `first` on take at a size.
    pub(in crate::stage::road) fn secs_from(
        &self,
        first: Stage,
        size: f64,
        config: &Config,
        speeds: Speeds,
    ) -> Result<f64> {
        let stages = Stage::ALL.into_iter().skip_while(|stage| *stage != first);
        stages.map(|stage| self.secs(stage, size, config, speeds)).sum()
    }

    /// The size at which the whole road takes `flops` operations.
    pub(in crate::stage::road) fn size_of(&self, flops: f64, config: &Config) -> Result<f64> {
        largest(flops, |size| {
            let mut sum = Operations::default();
            for stage in Stage::ALL {
                sum += self.operations(stage, size, config)?;
            }
            Ok(sum.total())
        })
    }
}

/// The largest size whose cost, which rises with it, is within `budget`; the smallest size where none is.
fn largest(budget: f64, cost: impl Fn(f64) -> Result<f64>) -> Result<f64> {
    let (mut low, mut high) = (SMALLEST.ln(), LARGEST.ln());
    ensure!(budget.is_finite(), "a budget is a number");
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if cost(middle.exp())? <= budget { low = middle } else { high = middle }
    }
    Ok(low.exp())
}

/// Sizes that are looked at.
const SMALLEST: f64 = 1e-3;
const LARGEST: f64 = 1e3;

#[cfg(test)]
mod tests {
    use super::*;

    /// In passes forward over a conversation; learning from one is three.
    #[test]
    fn a_stage_costs_its_conversations() {
        let scale = Scale::named("laptop").unwrap();
        let config = scale.config().unwrap();
        let read = 40.0 * reading_flops(&config, 40);
        let cost = |stage| {
            let Operations { passes, sampling } = scale.operations(stage, 1.0, &config).unwrap();
            [passes / read, sampling / read].map(f64::round)
        };
        assert_eq!(cost(Stage::Sft), [4500.0 * 32.0 * 3.0, 0.0]);
        assert_eq!(cost(Stage::Candidates), [0.0, 16_000.0 * 4.0]);
        assert_eq!(cost(Stage::Reward), [1800.0 * 16.0 * 4.0 * 3.0, 0.0]);
        // Four models read an episode, two learn from it four times; 12 measurements of 128 prompts.
        let (episodes, measured) = (60.0 * 128.0, 12.0 * 128.0);
        assert_eq!(
            cost(Stage::Ppo),
            [episodes * (4.0 + 2.0 * 4.0 * 3.0) + measured * 4.0, episodes + measured]
        );
        assert_eq!(cost(Stage::Dpo), [120.0 * 32.0 * 4.0 * (3.0 + 1.0), 0.0]);
        // Four models with an answer to each prompt, and one with eight.
        assert_eq!(cost(Stage::Compare), [2.0 * 1600.0 * 12.0, 1600.0 * 12.0]);
    }

    #[test]
    fn a_budget_is_met_and_not_exceeded() {
        let scale = Scale::named("laptop").unwrap();
        let config = scale.config().unwrap();
        let flops = |size| -> f64 {
            Stage::ALL.map(|stage| scale.operations(stage, size, &config).unwrap().total()).iter().sum()
        };
        for budget in [3e13, 6e13, 3e14, 3e15] {
            let spent = flops(scale.size_of(budget, &config).unwrap());
            assert!(spent <= budget && spent > 0.97 * budget, "{spent:e} of {budget:e}");
        }
        // Twice the speed, twice the operations; and the last stage alone gets all that is left.
        let speeds = |factor: f64| Speeds { passes: 5e10 * factor, sampling: 2e10 * factor };
        let size = |factor, first| scale.size_in(600.0, first, &config, speeds(factor)).unwrap();
        assert!(size(2.0, Stage::Pretrain) > 1.8 * size(1.0, Stage::Pretrain));
        assert!(size(1.0, Stage::Compare) > 10.0 * size(1.0, Stage::Pretrain));
        let left = scale.secs(Stage::Dpo, size(1.0, Stage::Dpo), &config, speeds(1.0)).unwrap();
        assert!(left < 600.0);
        // No road is as short as a second.
        let first = Stage::Pretrain;
        let secs = |budget| {
            let size = scale.size_in(budget, first, &config, speeds(1.0)).unwrap();
            scale.secs_from(first, size, &config, speeds(1.0)).unwrap()
        };
        assert!(secs(600.0) > 580.0 && secs(600.0) <= 600.0 && secs(1.0) > 10.0);
    }
}
