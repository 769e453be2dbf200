//! The recipe of a pretraining: preset, file, `--set`, flags → one resolved table of settings.

use crate::model::Config;
use crate::train::{Optimizer, Schedule};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The presets that come with the program, by name.
pub const PRESETS: [(&str, &str); 7] = [
    ("tiny", include_str!("../../../../presets/tiny.toml")),
    ("nano", include_str!("../../../../presets/nano.toml")),
    ("baby", include_str!("../../../../presets/baby.toml")),
    ("gpt2", include_str!("../../../../presets/gpt2.toml")),
    ("gpt2-medium", include_str!("../../../../presets/gpt2-medium.toml")),
    ("gpt2-large", include_str!("../../../../presets/gpt2-large.toml")),
    ("gpt2-xl", include_str!("../../../../presets/gpt2-xl.toml")),
];

/// A struct whose fields can tell what they are: their documentation is there at run time, for `--help`.
macro_rules! described {
    ($(#[$outer:meta])* pub struct $name:ident {
        $(#[doc = $doc:literal] $(#[$inner:meta])* pub $field:ident: $type:ty,)+
    }) => {
        $(#[$outer])*
        pub struct $name {
            $(#[doc = $doc] $(#[$inner])* pub $field: $type,)+
        }

        impl $name {
            /// Every key and what it is, in order.
            pub const KEYS: &[(&str, &str)] = &[$((stringify!($field), $doc)),+];
        }
    };
}

described! {
    /// Everything that decides a pretraining besides its data, its seed and where it starts.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Settings {
        /// Blocks.
        pub n_layer: usize,
        /// Attention heads of a block.
        pub n_head: usize,
        /// Width of the residual stream.
        pub d_model: usize,
        /// Width of the feed-forward layer; `4 · d_model` where it is not given.
        #[serde(default)]
        pub d_ff: usize,
        /// Tokens of the context.
        pub seq_len: usize,
        /// Probability of dropout.
        #[serde(default)]
        pub dropout: f64,
        /// Highest learning rate.
        pub lr: f64,
        /// What is left of it at the end, as a fraction.
        #[serde(default = "tenth")]
        pub min_lr_frac: f64,
        /// Steps of linear warm-up.
        pub warmup_steps: u64,
        /// Decoupled weight decay of matrices and embeddings.
        #[serde(default = "tenth")]
        pub weight_decay: f64,
        /// AdamW's decay of the first moment.
        #[serde(default = "beta1")]
        pub beta1: f64,
        /// AdamW's decay of the second moment.
        #[serde(default = "beta2")]
        pub beta2: f64,
        /// AdamW's ε.
        #[serde(default = "eps")]
        pub eps: f64,
        /// The gradient's norm is clipped to this; 0 never clips.
        #[serde(default = "one")]
        pub grad_clip: f64,
        /// Tokens of a step.
        pub batch_tokens: usize,
        /// Steps of the run.
        pub steps: u64,
        /// Steps between validations.
        pub eval_every: u64,
        /// Windows of a validation, `seq_len` tokens each, evenly spread over the validation split.
        #[serde(default = "eval_windows")]
        pub eval_windows: usize,
        /// Steps between checkpoints.
        pub checkpoint_every: u64,
        /// Steps between samples; 0 for none.
        pub sample_every: u64,
        /// Checkpoints that are kept, besides the best one.
        #[serde(default = "keep_last")]
        pub keep_last: usize,
    }
}

fn tenth() -> f64 {
    0.1
}
fn beta1() -> f64 {
    0.9
}
fn beta2() -> f64 {
    0.95
}
fn eps() -> f64 {
    1e-8
}
fn one() -> f64 {
    1.0
}
fn eval_windows() -> usize {
    64
}
fn keep_last() -> usize {
    2
}

impl Settings {
    /// The preset `name`, or the TOML file of that path, with `changes` (`key=value`) applied in order.
    ///
    /// # Errors
    /// An unknown preset, key or value is named, together with what there is.
    pub fn resolve(name: &str, changes: &[String]) -> Result<Self> {
        let text = match PRESETS.iter().find(|preset| preset.0 == name) {
            Some(preset) => preset.1.to_string(),
            None if name.ends_with(".toml") => {
                std::fs::read_to_string(name).with_context(|| format!("cannot read the preset {name}"))?
            }
            None => {
                let names: Vec<&str> = PRESETS.iter().map(|preset| preset.0).collect();
                bail!(
                    "there is no preset `{name}`: choose one of {}, or a path ending in .toml",
                    names.join(", ")
                )
            }
        };
        let mut table: toml::Table =
            toml::from_str(&text).with_context(|| format!("the preset {name} is not a TOML table"))?;
        for change in changes {
            let Some((key, value)) = change.split_once('=') else {
                bail!("`{change}` is not of the form key=value, such as lr=1e-3")
            };
            let (key, value) = (key.trim(), value.trim());
            let parsed: toml::Table = toml::from_str(&format!("value = {value}")).map_err(|_| {
                anyhow::anyhow!("`{value}` is not a value that {key} could have: write a number")
            })?;
            table.insert(key.to_string(), parsed["value"].clone());
        }
        let mut settings: Settings =
            table.try_into().with_context(|| format!("the recipe made of {name} and --set is not valid"))?;
        if settings.d_ff == 0 {
            settings.d_ff = 4 * settings.d_model;
        }
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        self.config(1).check()?;
        ensure!(
            self.batch_tokens > 0 && self.batch_tokens.is_multiple_of(self.seq_len),
            "batch_tokens {} is not a multiple of seq_len {}: a step is made of whole sequences; {} would do",
            self.batch_tokens,
            self.seq_len,
            self.batch_tokens.div_ceil(self.seq_len).max(1) * self.seq_len
        );
        for (key, value) in [
            ("steps", self.steps),
            ("eval_every", self.eval_every),
            ("checkpoint_every", self.checkpoint_every),
            ("eval_windows", self.eval_windows as u64),
            ("keep_last", self.keep_last as u64),
        ] {
            ensure!(value > 0, "{key} is 0: it must be at least 1");
        }
        for (key, value) in [("lr", self.lr), ("eps", self.eps)] {
            ensure!(value.is_finite() && value > 0.0, "{key} is {value}: it must be a positive number");
        }
        for (key, value) in [("weight_decay", self.weight_decay), ("grad_clip", self.grad_clip)] {
            ensure!(value.is_finite() && value >= 0.0, "{key} is {value}: it must not be negative");
        }
        for (key, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            ensure!((0.0..1.0).contains(&value), "{key} is {value}: it must be in 0 ≤ {key} < 1");
        }
        ensure!(
            (0.0..=1.0).contains(&self.min_lr_frac),
            "min_lr_frac is {}: it is a fraction",
            self.min_lr_frac
        );
        Ok(())
    }

    /// The model's shape, for a vocabulary.
    pub fn config(&self, vocab_size: usize) -> Config {
        Config {
            vocab_size,
            seq_len: self.seq_len,
            n_layer: self.n_layer,
            n_head: self.n_head,
            d_model: self.d_model,
            d_ff: self.d_ff,
            dropout: self.dropout as f32,
            norm_eps: 1e-5,
            tied_head: true,
        }
    }

    /// The learning rate over the run.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            lr: self.lr as f32,
            min_lr_frac: self.min_lr_frac as f32,
            warmup_steps: self.warmup_steps,
            steps: self.steps,
        }
    }

    /// AdamW's settings.
    pub fn optimizer(&self) -> Optimizer {
        Optimizer {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            eps: self.eps as f32,
            weight_decay: self.weight_decay as f32,
            grad_clip: self.grad_clip as f32,
        }
    }

    /// Sequences of a step.
    pub fn sequences(&self) -> usize {
        self.batch_tokens / self.seq_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_resolves() {
        for (name, _) in PRESETS {
            let settings = Settings::resolve(name, &[]).unwrap();
            assert_eq!(settings.d_ff, 4 * settings.d_model, "{name}");
        }
        assert_eq!(Settings::resolve("gpt2", &[]).unwrap().config(50_257).parameters(), 124_439_808);
    }

    #[test]
    fn changes_apply_in_order_and_mistakes_are_named() {
        let set = |changes: &[&str]| {
            Settings::resolve("tiny", &changes.iter().map(|c| c.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(set(&["lr=1", "lr = 2e-3"]).unwrap().lr, 2e-3);
        let message = |changes: &[&str]| format!("{:#}", set(changes).unwrap_err());
        assert!(message(&["learning_rate=1"]).contains("unknown field `learning_rate`, expected one of"));
        assert!(message(&["lr"]).contains("key=value"));
        assert!(message(&["steps=many"]).contains("steps"));
        assert!(message(&["batch_tokens=100"]).contains("128 would do"));
        assert!(message(&["n_head=3"]).contains("multiple of n_head"));
        assert!(message(&["beta2=1"]).contains("beta2"));
        let unknown = Settings::resolve("huge", &[]).unwrap_err().to_string();
        assert!(unknown.contains("gpt2-xl") && unknown.contains("tiny"));
    }
}
