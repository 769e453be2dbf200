//! How far the road to a chat goes: usual amounts of data and training by name, and what a size makes of them.

use super::budget::{Budget, Operations, Speeds, reading_flops};
use crate::model::Config;
use crate::stage::{Settings, Shape};
use anyhow::{Context, Result, ensure};

/// Names of the scales, and what they are.
pub const SCALES: [(&str, &str); 4] = [
    ("tiny", "for tests: every stage in a minute, and nothing learned well"),
    ("laptop", "ten minutes, whatever the machine does in them"),
    ("evening", "a larger model, in three hours"),
    ("gpu", "124 million parameters: for a machine of another kind"),
];

/// The scale of the default road.
pub const DEFAULT_SCALE: &str = "laptop";

/// Tokens of a conversation with the lessons: the mean of prompt, answer and what the chat template puts around them.
const CONVERSATION_TOKENS: usize = 40;
/// Measurements of PPO's policy on held-out prompts, before, in between, and of the state that is chosen.
const PPO_MEASUREMENTS: f64 = 12.0;
/// How often PPO learns from an answer.
const PPO_EPOCHS: f64 = 4.0;
/// Seconds that a stage takes whatever its size: measuring speeds, reading models and data.
const FIXED_SECS: f64 = 3.0;
/// Models that are compared with one answer a prompt.
const COMPARED: usize = 4;

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

    /// How much longer a stage takes than its operations at measured speeds: short sequences, the optimizer, validations, samples,
    /// files. Estimates: roads of two and five minutes ended in time with them.
    fn overhead(self) -> f64 {
        match self {
            Stage::Pretrain => 1.1,
            Stage::Sft => 1.3,
            Stage::Candidates => 1.1,
            Stage::Reward => 1.3,
            Stage::Ppo => 1.2,
            Stage::Dpo => 1.3,
            Stage::Compare => 1.1,
        }
    }
}

/// Usual amounts of data and training: those of size 1.
#[derive(Clone, Debug)]
pub(super) struct Scale {
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
    /// At a size the batch grows by its root, and so do the steps: a short training needs updates as much as examples.
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
    /// The scale of this name, of [`SCALES`].
    fn of(name: &str) -> Option<Scale> {
        let laptop = Scale {
            minutes: Some(10.0),
            text_bytes: 48_000_000,
            vocab_size: 1024,
            preset: "modern-nano",
            pretrain: &["seq_len=128", "sample_every=2000"],
            pretrain_steps: 8000,
            demonstrations: 16_000,
            prompts: 16_000,
            held_out: 1600,
            k: 4,
            best_of: 8,
            max_tokens: 32,
            sft: Amount { steps: 950, batch_size: 32, keys: &["lr=1e-3", "dropout=0.1"] },
            reward: Amount {
                steps: 1800,
                batch_size: 16,
                keys: &["lr=1e-3", "normalise_before=true", "warmup_steps=0"],
            },
            ppo: Amount { steps: 60, batch_size: 128, keys: &["lr=5e-5", "kl_coef=0.2"] },
            measured: 128,
            dpo: Amount { steps: 120, batch_size: 32, keys: &["lr=1e-4"] },
        };
        Some(match name {
            "tiny" => Scale {
                minutes: None,
                text_bytes: 600_000,
                vocab_size: 400,
                preset: "tiny",
                pretrain: &["seq_len=192", "batch_tokens=1536"],
                pretrain_steps: 120,
                demonstrations: 600,
                prompts: 300,
                held_out: 40,
                best_of: 2,
                max_tokens: 24,
                sft: Amount { steps: 18, batch_size: 32, keys: &["lr=2e-3"] },
                reward: Amount {
                    steps: 34,
                    batch_size: 16,
                    keys: &["lr=1e-3", "normalise_before=true", "warmup_steps=0"],
                },
                ppo: Amount { steps: 6, batch_size: 32, keys: &["lr=2e-4"] },
                measured: 24,
                dpo: Amount { steps: 60, batch_size: 32, keys: &["lr=1e-4"] },
                ..laptop
            },
            "laptop" => laptop,
            "evening" => Scale {
                minutes: Some(180.0),
                text_bytes: 96_000_000,
                vocab_size: 2048,
                preset: "modern-baby",
                pretrain_steps: 16_000,
                prompts: 12_000,
                held_out: 800,
                reward: Amount {
                    steps: 1350,
                    batch_size: 16,
                    keys: &["lr=1e-3", "normalise_before=true", "warmup_steps=0"],
                },
                ppo: Amount { steps: 200, batch_size: 128, keys: &["lr=5e-5", "kl_coef=0.05"] },
                measured: 256,
                ..laptop
            },
            "gpu" => Scale {
                minutes: None,
                text_bytes: 64_000_000,
                vocab_size: 4096,
                preset: "modern-small",
                pretrain: &["seq_len=256"],
                pretrain_steps: 10_000,
                demonstrations: 20_000,
                prompts: 12_000,
                held_out: 800,
                sft: Amount { steps: 1800, batch_size: 32, keys: &["lr=1e-4", "dropout=0.1"] },
                reward: Amount {
                    steps: 1350,
                    batch_size: 16,
                    keys: &["lr=3e-5", "normalise_before=true", "warmup_steps=0"],
                },
                ppo: Amount { steps: 300, batch_size: 256, keys: &["lr=1e-5", "kl_coef=0.05"] },
                measured: 256,
                dpo: Amount { steps: 120, batch_size: 32, keys: &["lr=1e-5"] },
                ..laptop
            },
            _ => return None,
        })
    }

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

    /// Held-out prompts that the models are compared on. Their number grows by the root, as a figure's precision does.
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

    /// What a stage costs at a size. Every answer of a conversation is read with its prompt.
    fn operations(&self, stage: Stage, size: f64, config: &Config) -> Result<Operations> {
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
                // Policy, reference, value and reward model read an episode; policy and value model learn from it.
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
    pub(super) fn secs(&self, stage: Stage, size: f64, config: &Config, speeds: Speeds) -> Result<f64> {
        Ok(FIXED_SECS + stage.overhead() * self.operations(stage, size, config)?.secs(speeds))
    }

    /// What the road does at a size, stage by stage; with the time of each where the machine's speeds are known.
    pub(super) fn describe(&self, size: f64, config: &Config, speeds: Option<Speeds>) -> Result<String> {
        let (_, pretraining) = self.pretraining(size)?;
        let (prompts, k) = (self.prompts(size), self.k);
        let trained = |amount: Amount, of: &str| {
            let (steps, batch_size) = amount.at(size);
            format!("{steps} steps of {batch_size} {of}")
        };
        let mut text = String::from("The plan:");
        for stage in Stage::ALL {
            let amount = match stage {
                Stage::Pretrain => {
                    format!("{} steps of {} tokens", pretraining.steps, pretraining.batch_tokens)
                }
                Stage::Sft => trained(self.sft, "demonstrations"),
                Stage::Candidates => format!("{k} answers to each of {prompts} prompts"),
                Stage::Reward => trained(self.reward, "rankings"),
                Stage::Ppo => trained(self.ppo, "answers"),
                Stage::Dpo => trained(self.dpo, "rankings"),
                Stage::Compare => format!("on {} held-out prompts", self.compared(size)),
            };
            text += &format!("\n  {:<10} {amount}", stage.name());
            if let Some(speeds) = speeds {
                text += &format!(", about {:.0} s", self.secs(stage, size, config, speeds)?);
            }
        }
        let operations: f64 = Stage::ALL
            .into_iter()
            .map(|stage| Ok(self.operations(stage, size, config)?.total()))
            .sum::<Result<f64>>()?;
        text += &format!("\n{operations:.2e} operations");
        if speeds.is_some() {
            text +=
                "; each stage is sized again when it begins, by the speed and the time that are left then";
        }
        Ok(text)
    }

    /// The size at which the stages from `first` on take `secs` seconds.
    pub(super) fn size_in(&self, secs: f64, first: Stage, config: &Config, speeds: Speeds) -> Result<f64> {
        let stages = Stage::ALL.into_iter().skip_while(|stage| *stage != first);
        largest(secs, |size| {
            stages.clone().map(|stage| self.secs(stage, size, config, speeds)).sum::<Result<f64>>()
        })
    }

    /// The size at which the whole road takes `flops` operations.
    pub(super) fn size_of(&self, flops: f64, config: &Config) -> Result<f64> {
        largest(flops, |size| {
            let mut sum = Operations::default();
            for stage in Stage::ALL {
                sum += self.operations(stage, size, config)?;
            }
            Ok(sum.total())
        })
    }
}

/// `n` times `size`, and not less than `least`, of which there may be fewer at size 1.
fn times(n: usize, size: f64, least: usize) -> usize {
    ((n as f64 * size).round() as usize).max(least.min(n))
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
    use crate::stage::{DpoSettings, PpoSettings, RewardSettings, SftSettings, StageSettings};

    #[test]
    fn every_scale_resolves_at_every_size() {
        for (name, _) in SCALES {
            let scale = Scale::named(name).unwrap();
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
    fn the_usual_amounts_are_those_of_size_one() {
        let scale = Scale::named("laptop").unwrap();
        assert_eq!(scale.sft.at(1.0), (950, 32));
        assert_eq!(
            (scale.demonstrations(1.0), scale.prompts(1.0), scale.compared(1.0)),
            (16_000, 16_000, 1600)
        );
        assert_eq!(scale.pretraining(1.0).unwrap().1.steps, 8000);
        // Half as many examples, in steps and batches that both have shrunk.
        let (steps, batch) = scale.ppo.at(0.25);
        assert_eq!((steps, batch), (30, 64));
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
    }
}
