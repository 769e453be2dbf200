//! The scales by name.

use super::{Amount, Scale};

/// Recipe keys of every reward model of the road: its scores have variance 1 from the start, so that no step
/// is lost to a warm-up.
const NORMALISED: [&str; 2] = ["normalise_before=true", "warmup_steps=0"];

/// Below so many operations of the whole road, the laptop's model is narrow: a model learns most from about
/// twenty tokens a parameter (Hoffmann et al. 2022), and a wide one would see two.
const NARROW_BELOW: f64 = 3e14;

impl Scale {
    /// The scale with the model that so many operations are best spent on.
    pub(in crate::stage::road) fn paid_by(self, operations: f64) -> Scale {
        if self.name != "laptop" || operations >= NARROW_BELOW {
            return self;
        }
        Scale {
            pretrain: &[
                "seq_len=128",
                "sample_every=4000",
                "d_model=128",
                "n_head=2",
                "batch_tokens=1024",
                "beta2=0.975",
            ],
            pretrain_steps: 2 * self.pretrain_steps,
            ..self
        }
    }

    /// The scale of this name, of [`SCALES`].
    pub(super) fn of(name: &str) -> Option<Scale> {
        let laptop = Scale {
            name: "laptop",
            minutes: Some(10.0),
            text_bytes: 62_000_000,
            vocab_size: 2048,
            preset: "modern-nano",
            pretrain: &["seq_len=128", "sample_every=2000"],
            pretrain_steps: 8000,
            demonstrations: 144_000,
            prompts: 16_000,
            held_out: 1600,
            k: 4,
            best_of: 8,
            max_tokens: 32,
            // Every demonstration once: they are written as easily as they are repeated.
            sft: Amount { steps: 4500, batch_size: 32, keys: &["lr=1e-3", "dropout=0.0"] },
            reward: Amount { steps: 1800, batch_size: 16, keys: &["lr=1e-3", NORMALISED[0], NORMALISED[1]] },
            ppo: Amount { steps: 60, batch_size: 128, keys: &["lr=5e-5", "kl_coef=0.2"] },
            measured: 128,
            dpo: Amount { steps: 120, batch_size: 32, keys: &["lr=1e-4"] },
        };
        Some(match name {
            "tiny" => Scale {
                name: "tiny",
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
                    keys: &["lr=1e-3", NORMALISED[0], NORMALISED[1]],
                },
                ppo: Amount { steps: 6, batch_size: 32, keys: &["lr=2e-4"] },
                measured: 24,
                dpo: Amount { steps: 60, batch_size: 32, keys: &["lr=1e-4"] },
                ..laptop
            },
            "laptop" => laptop,
            "evening" => Scale {
                name: "evening",
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
                    keys: &["lr=1e-3", NORMALISED[0], NORMALISED[1]],
                },
                ppo: Amount { steps: 200, batch_size: 128, keys: &["lr=5e-5", "kl_coef=0.05"] },
                measured: 256,
                ..laptop
            },
            "gpu" => Scale {
                name: "gpu",
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
                    keys: &["lr=3e-5", NORMALISED[0], NORMALISED[1]],
                },
                ppo: Amount { steps: 300, batch_size: 256, keys: &["lr=1e-5", "kl_coef=0.05"] },
                measured: 256,
                dpo: Amount { steps: 120, batch_size: 32, keys: &["lr=1e-5"] },
                ..laptop
            },
            _ => return None,
        })
    }
}
