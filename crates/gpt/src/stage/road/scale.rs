//! How far the road to a chat goes: amounts of data and training by name.

use crate::model::Config;
use crate::stage::{Settings, Shape};
use anyhow::{Context, Result};
use kernels::Backend;

/// Names of the scales, and what they are.
pub const SCALES: [(&str, &str); 4] = [
    ("tiny", "for tests: every stage in a minute, and nothing learned well"),
    ("laptop", "ten minutes on two cores"),
    ("evening", "some hours on two cores"),
    ("gpu", "124 million parameters: for a machine of another kind"),
];

/// The scale of the default road.
pub const DEFAULT_SCALE: &str = "laptop";

/// Amounts of data and training.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    /// Bytes of pretraining text.
    pub(super) text_bytes: u64,
    pub(super) vocab_size: usize,
    /// The preset of pretraining.
    preset: &'static str,
    /// Recipe keys of pretraining besides the preset's.
    pretrain: &'static [&'static str],
    /// Seconds of pretraining, where these decide its steps.
    pretrain_secs: Option<f64>,
    pub(super) demonstrations: usize,
    pub(super) prompts: usize,
    pub(super) held_out: usize,
    /// Answers to a prompt that are ranked.
    pub(super) k: usize,
    /// Answers of which the best by reward is taken, to compare.
    pub(super) best_of: usize,
    /// Tokens of an answer at most.
    pub(super) max_tokens: usize,
    /// Recipe keys of the stages.
    pub(super) sft: &'static [&'static str],
    pub(super) reward: &'static [&'static str],
    pub(super) ppo: &'static [&'static str],
    pub(super) dpo: &'static [&'static str],
}

impl Scale {
    /// The scale of this name, of [`SCALES`].
    pub(super) fn of(name: &str) -> Option<Scale> {
        let laptop = Scale {
            text_bytes: 48_000_000,
            vocab_size: 1024,
            preset: "modern-nano",
            pretrain: &["seq_len=128", "sample_every=2000"],
            pretrain_secs: Some(300.0),
            demonstrations: 16_000,
            prompts: 16_000,
            held_out: 1600,
            k: 4,
            best_of: 8,
            max_tokens: 32,
            sft: &["lr=1e-3", "dropout=0.1", "epochs=2"],
            reward: &["lr=1e-3", "batch_size=16", "epochs=2"],
            ppo: &["steps=60", "lr=5e-5", "kl_coef=0.2", "batch_size=128"],
            dpo: &["lr=1e-4", "steps=120"],
        };
        Some(match name {
            "tiny" => Scale {
                text_bytes: 600_000,
                vocab_size: 400,
                preset: "tiny",
                pretrain: &["steps=120", "seq_len=192", "batch_tokens=1536"],
                pretrain_secs: None,
                demonstrations: 600,
                prompts: 300,
                held_out: 40,
                best_of: 2,
                max_tokens: 24,
                sft: &["lr=2e-3", "epochs=1"],
                ppo: &["steps=6", "lr=2e-4", "batch_size=32", "eval_prompts=24"],
                ..laptop
            },
            "laptop" => laptop,
            "evening" => Scale {
                text_bytes: 64_000_000,
                vocab_size: 2048,
                preset: "modern-baby",
                pretrain: &["seq_len=128", "sample_every=2000"],
                pretrain_secs: Some(7200.0),
                demonstrations: 16_000,
                prompts: 12_000,
                held_out: 800,
                ppo: &["steps=200", "lr=5e-5", "kl_coef=0.05", "batch_size=128", "eval_prompts=256"],
                ..laptop
            },
            "gpu" => Scale {
                text_bytes: 64_000_000,
                vocab_size: 4096,
                preset: "modern-small",
                pretrain: &["seq_len=256", "steps=10000"],
                pretrain_secs: None,
                demonstrations: 20_000,
                prompts: 12_000,
                held_out: 800,
                sft: &["lr=1e-4", "dropout=0.1", "epochs=3"],
                reward: &["lr=3e-5"],
                ppo: &["steps=300", "lr=1e-5", "kl_coef=0.05", "batch_size=256", "eval_prompts=256"],
                dpo: &["lr=1e-5"],
                ..laptop
            },
            _ => return None,
        })
    }

    /// Shape and recipe of pretraining: as many steps as fit its seconds at the speed that `measure` tells.
    pub(super) fn pretraining<B: Backend>(
        &self,
        b: &mut B,
        vocab_size: usize,
        measure: impl Fn(&mut B, &Config) -> f64,
    ) -> Result<(Shape, Settings)> {
        let changes: Vec<String> = self.pretrain.iter().map(|change| change.to_string()).collect();
        let (shape, mut settings) = Settings::resolve(self.preset, &changes)?;
        if let Some(secs) = self.pretrain_secs {
            let speed = measure(b, &shape.config(vocab_size, &settings));
            let steps = (secs * speed) as u64 / settings.batch_tokens as u64;
            settings.steps = steps.max(2 * settings.warmup_steps);
        }
        settings.eval_every = (settings.steps / 10).max(1);
        settings.checkpoint_every = settings.eval_every;
        Ok((shape, settings))
    }

    /// Recipe changes as they are typed.
    pub(super) fn changes(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| key.to_string()).collect()
    }

    /// Refuses a name that is not a scale.
    pub(super) fn named(name: &str) -> Result<Scale> {
        let names: Vec<&str> = SCALES.iter().map(|(name, _)| *name).collect();
        Scale::of(name).with_context(|| {
            format!("there is no scale `{name}` of the road: choose one of {}", names.join(", "))
        })
    }
}
