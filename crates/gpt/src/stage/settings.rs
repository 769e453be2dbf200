//! The recipe of a pretraining: preset, file, `--set`, flags → one resolved table of settings.

use crate::model::{Config, Positions, Rope};
use crate::train::{Optimizer, Schedule};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

macro_rules! presets {
    ($($name:literal)+) => {
        [$(($name, include_str!(concat!("../../../../presets/", $name, ".toml")))),+]
    };
}

/// The presets that come with the program, by name.
pub const PRESETS: [(&str, &str); 23] = presets! {
    "tiny" "nano" "baby" "gpt1" "gpt2" "gpt2-medium" "gpt2-large" "gpt2-xl"
    "gpt3-small" "gpt3-medium" "gpt3-large" "gpt3-xl" "gpt3-2.7b" "gpt3-6.7b" "gpt3-13b" "gpt3-175b"
    "modern-tiny" "modern-nano" "modern-baby" "modern-small" "modern-medium" "modern-large" "modern-xl"
};

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
        /// The kind of model: gpt1, gpt2, gpt3 or modern.
        #[serde(default)]
        pub family: Family,
        /// Blocks.
        pub n_layer: usize,
        /// Attention heads of a block.
        pub n_head: usize,
        /// Key and value heads, at most `n_head`; `n_head` where it is not given. For modern.
        pub n_kv_head: Option<usize>,
        /// Width of the residual stream.
        pub d_model: usize,
        /// Width of the feed-forward layer; `4 · d_model`, for modern `8/3 · d_model`, where it is not given.
        pub d_ff: Option<usize>,
        /// Whether heads of queries and keys are normalised. For modern.
        #[serde(default)]
        pub qk_norm: bool,
        /// Base of the rotary positions' angles; 10,000 where it is not given. For modern.
        pub rope_theta: Option<f64>,
        /// How far back every second block sees. For gpt3, whose paper does not tell: 256 where it is not given.
        pub band: Option<usize>,
        /// Whether the head is the token embedding.
        #[serde(default = "yes")]
        pub tied_head: bool,
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

/// The families of models that a recipe can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Norms after the layers (Radford et al. 2018).
    Gpt1,
    /// Norms before the layers (Radford et al. 2019).
    #[default]
    Gpt2,
    /// GPT-2 with every second block banded (Brown et al. 2020).
    Gpt3,
    /// Llama's and Qwen's layout.
    Modern,
}

fn yes() -> bool {
    true
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
            let parsed = toml::from_str::<toml::Table>(&format!("value = {value}"));
            // What is not TOML is a name, such as that of a family.
            let parsed = parsed.map_or_else(
                |_| value.into(),
                |mut table| table.remove("value").unwrap_or_else(|| value.into()),
            );
            table.insert(key.to_string(), parsed);
        }
        let mut settings: Settings =
            table.try_into().with_context(|| format!("the recipe made of {name} and --set is not valid"))?;
        let shape = settings.config(1);
        settings.d_ff = Some(shape.d_ff);
        settings.n_kv_head = Some(shape.n_kv_head);
        settings.band = shape.band;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<()> {
        self.config(1).check()?;
        let modern = self.family == Family::Modern;
        for (key, given, belongs) in [
            ("n_kv_head", self.n_kv_head != Some(self.n_head), modern),
            ("qk_norm", self.qk_norm, modern),
            ("rope_theta", self.rope_theta.is_some(), modern),
            ("band", self.band.is_some(), self.family == Family::Gpt3),
        ] {
            ensure!(belongs || !given, "{key} is given, but no model of the family {:?} has it", self.family);
        }
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
        let family = match self.family {
            Family::Gpt1 => Config::gpt1,
            Family::Gpt2 => Config::gpt2,
            Family::Gpt3 => Config::gpt3,
            Family::Modern => Config::modern,
        };
        let shape = family(vocab_size, self.seq_len, self.n_layer, self.n_head, self.d_model);
        let positions = match (&shape.positions, self.rope_theta) {
            (Positions::Rotary(rope), Some(theta)) => Positions::Rotary(Rope { theta, ..rope.clone() }),
            _ => shape.positions.clone(),
        };
        Config {
            n_kv_head: self.n_kv_head.unwrap_or(shape.n_kv_head),
            d_ff: self.d_ff.unwrap_or(shape.d_ff),
            dropout: self.dropout as f32,
            tied_head: self.tied_head,
            qk_norm: self.qk_norm,
            band: self.band.or(shape.band),
            positions,
            ..shape
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
            assert_eq!(settings.d_ff.is_some(), settings.n_kv_head.is_some(), "{name}");
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
