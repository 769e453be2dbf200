//! The recipe of a pretraining.

use super::presets::{self, apply};
use super::{Shape, at_least_one, keys};
use crate::checkpoint::Dtype;
use crate::model::{Config, Keep, Method, PASS_TOKENS};
use crate::stage::training_loop::{Best, Pace};
use crate::train::{Decay, Optimizer, Schedule};
use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::Path;

described! {
    /// Everything that decides a pretraining besides its data, its seed and where it begins.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Settings {
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
        /// How the rate falls to that: cosine, linear or sqrt (1 - √x).
        #[serde(default, skip_serializing_if = "Decay::is_usual")]
        pub decay: Decay,
        /// Steps of linear warm-up.
        pub warmup_steps: u64,
        /// Steps of the fall at the end of the run, before which the rate stays what it is (warm-up, stable, decay);
        /// without it the rate falls from the warm-up on. The state before the fall is kept: other runs can end it
        /// otherwise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub decay_steps: Option<u64>,
        /// What learns: adamw, which is the default, or muon for the matrices of blocks (Jordan et al. 2024) and AdamW for
        /// the rest, with one rate for both.
        #[serde(default, skip_serializing_if = "Method::is_usual")]
        pub optimizer: Method,
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
        /// What the square of the softmax's logarithmic denominator costs beside the cross entropy, as its mean over the tokens
        /// that count (PaLM's z-loss, 1e-4; Chowdhery et al. 2022); 0 for nothing.
        #[serde(default, skip_serializing_if = "keys::is_zero")]
        pub z_loss: f64,
        /// Tokens of a step.
        pub batch_tokens: usize,
        /// Tokens of them that go through the model at once at most, where a window is not longer: memory
        /// grows with it. On a processor no bit of the result depends on it, and it is 4096 where it is not given; on a GPU
        /// bits do, and as many as its free memory has room for when the run begins are kept with the run.
        pub micro_batch_tokens: Option<usize>,
        /// Whether the insides of blocks are computed again on the way back and not kept (activation checkpointing, Chen et
        /// al. 2016): a pass takes a fraction of the memory and a step about a quarter more time; no bit of the result depends
        /// on it.
        #[serde(default)]
        pub recompute: bool,
        /// Lanes in which a step's gradients and losses are summed, whose sums are added in a balanced tree:
        /// a power of two up to 64. Every number has bits of its own; log₂ of it more gradients are in
        /// memory.
        #[serde(default = "keys::one_lane")]
        pub lanes: usize,
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
        /// Number format of checkpoints: f32, f16 or bf16. Training goes on from exact numbers all the same.
        #[serde(default)]
        pub dtype: Dtype,
        /// Words whose tokens make a sequence count for more of the loss (`--key-token`).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub key_tokens: Vec<String>,
        /// With key tokens, a sequence counts `α (1 + n)` times: this is α, and n counts them in it.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        pub key_token_alpha: f64,
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
fn is_one(x: &f64) -> bool {
    *x == 1.0
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
    pub fn resolve(name: &str, changes: &[String]) -> Result<(Shape, Self)> {
        Settings::of_table(presets::table(name)?, name, changes)
    }

    /// The recipe of the run in this directory, with `changes`; none where none has begun there.
    ///
    /// # Errors
    /// Its recipe cannot be read, or is that of another stage; a change is none.
    pub fn of_run(dir: &Path, changes: &[String]) -> Result<Option<(Shape, Self)>> {
        let path = dir.join("config.toml");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let context = || format!("{} is no recipe of a pretraining", path.display());
        let mut recipe: toml::Table = toml::from_str(&text).with_context(context)?;
        let Some(toml::Value::Table(mut table)) = recipe.remove("settings") else {
            return Err(anyhow!("it has no settings")).with_context(context);
        };
        if let Some(toml::Value::Table(runtime)) = recipe.remove("runtime") {
            table.extend(runtime);
        }
        table.retain(|key, _| Self::keys().any(|known| known == key));
        Settings::of_table(table, "the run", changes).with_context(context).map(Some)
    }

    /// The same of a table's keys.
    pub(super) fn of_table(mut table: toml::Table, name: &str, changes: &[String]) -> Result<(Shape, Self)> {
        keys::check(&apply(&mut table, changes)?, Self::keys())?;
        let (shape, training) = split(table);
        let context = || format!("the recipe made of {name} and --set is not valid");
        let settings: Settings = training.try_into().with_context(context)?;
        let mut shape: Shape = shape.try_into().with_context(context)?;
        shape.resolve(&settings)?;
        settings.check()?;
        Ok((shape, settings))
    }

    /// Whether the preset `name`, or the file, says how many lanes there are.
    pub fn says_lanes(name: &str) -> bool {
        presets::table(name).is_ok_and(|table| table.contains_key("lanes"))
    }

    /// The same for training that begins from `model`, whose shape it has: the preset, if there is one, says
    /// how to train and not what.
    ///
    /// # Errors
    /// As in [`resolve`](Self::resolve); a change of the shape; windows longer than the model's context.
    pub fn resolve_for(name: Option<&str>, changes: &[String], model: &Config) -> Result<Self> {
        let mut table = name.map_or_else(presets::continuing, presets::table)?;
        if let Some(toml::Value::Integer(seq_len)) = table.get_mut("seq_len") {
            *seq_len = (*seq_len).min(model.seq_len as i64);
        }
        let changed = apply(&mut table, changes)?;
        keys::check(&changed, Self::keys())?;
        let (asked, training) = split(table);
        let is = toml::Table::try_from(Shape::of(model)).context("a shape is a TOML table")?;
        for (key, value) in asked.iter().filter(|(key, _)| changed.contains(key)) {
            ensure!(
                is.get(key) == Some(value),
                "{key} = {value} cannot be: the model that training begins from decides it; leave it out"
            );
        }
        let settings: Settings = training.try_into().context("the recipe is not valid")?;
        ensure!(
            settings.seq_len <= model.seq_len,
            "seq_len {} is longer than the model's context of {}",
            settings.seq_len,
            model.seq_len
        );
        settings.check()?;
        Ok(settings)
    }

    /// The keys of a recipe: the shape's first.
    fn keys() -> impl Iterator<Item = &'static str> {
        Shape::KEYS.iter().chain(Settings::KEYS).map(|(key, _)| *key)
    }

    fn check(&self) -> Result<()> {
        ensure!(self.seq_len > 0, "seq_len is 0: a window has at least one token");
        ensure!(
            self.batch_tokens > 0 && self.batch_tokens.is_multiple_of(self.seq_len),
            "batch_tokens {} is not a multiple of seq_len {}: a step is made of whole sequences; {} would do",
            self.batch_tokens,
            self.seq_len,
            self.batch_tokens.div_ceil(self.seq_len).max(1) * self.seq_len
        );
        at_least_one([
            ("steps", self.steps),
            ("eval_every", self.eval_every),
            ("checkpoint_every", self.checkpoint_every),
            ("eval_windows", self.eval_windows as u64),
            ("keep_last", self.keep_last as u64),
            ("micro_batch_tokens", self.micro_batch_tokens.map_or(1, |tokens| tokens as u64)),
        ])?;
        keys::check_lanes(self.lanes)?;
        ensure!(
            self.decay_steps.is_none_or(|fall| fall >= 1 && self.warmup_steps + fall <= self.steps),
            "decay_steps is {}: it is at least 1, and with the warm-up of {} at most the {} steps of the run",
            self.decay_steps.unwrap_or(0),
            self.warmup_steps,
            self.steps
        );
        for (key, value) in [("lr", self.lr), ("eps", self.eps), ("key_token_alpha", self.key_token_alpha)] {
            ensure!(value.is_finite() && value > 0.0, "{key} is {value}: it must be a positive number");
        }
        for (key, value) in
            [("weight_decay", self.weight_decay), ("grad_clip", self.grad_clip), ("z_loss", self.z_loss)]
        {
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
        ensure!(
            !self.key_tokens.iter().any(|word| word.trim().is_empty()),
            "a key token is empty: name words, such as plt"
        );
        ensure!(
            self.key_token_alpha == 1.0 || !self.key_tokens.is_empty(),
            "key_token_alpha is {}, but there are no key tokens: name some with --key-token",
            self.key_token_alpha
        );
        Ok(())
    }

    /// The learning rate over the run.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            lr: self.lr as f32,
            min_lr_frac: self.min_lr_frac as f32,
            decay: self.decay,
            warmup_steps: self.warmup_steps,
            decay_steps: self.decay_steps,
            steps: self.steps,
        }
    }

    /// When validations, samples and checkpoints are due.
    pub(in crate::stage) fn pace(&self) -> Pace {
        Pace {
            steps: self.steps,
            eval_every: self.eval_every,
            checkpoint_every: self.checkpoint_every,
            sample_every: self.sample_every,
            keep_last: self.keep_last,
            kept: self.decay_steps.and_then(|fall| self.steps.checked_sub(fall)),
            best: Best { metric: "val_loss", highest: false, at_the_end: false },
        }
    }

    /// The optimizer's settings.
    pub fn optimizer(&self) -> Optimizer {
        Optimizer {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            eps: self.eps as f32,
            eps_hat: false,
            weight_decay: self.weight_decay as f32,
            grad_clip: self.grad_clip as f32,
        }
    }

    /// What a pass keeps.
    pub(in crate::stage) fn keep(&self) -> Keep {
        Keep::of(self.recompute)
    }

    /// Sequences of a step.
    pub fn sequences(&self) -> usize {
        self.batch_tokens / self.seq_len
    }

    /// Tokens that go through the model at once, unless a GPU's memory decides: those of whole windows.
    pub fn pass_tokens(&self) -> usize {
        self.whole_windows(self.micro_batch_tokens.unwrap_or(PASS_TOKENS))
    }

    /// Of so many tokens those of whole windows: of one at least, and of no more than a step has.
    pub(in crate::stage) fn whole_windows(&self, tokens: usize) -> usize {
        (tokens / self.seq_len).clamp(1, self.sequences()) * self.seq_len
    }
}

/// What is said about the model, and everything else.
fn split(table: toml::Table) -> (toml::Table, toml::Table) {
    table.into_iter().partition(|(key, _)| Shape::KEYS.iter().any(|(name, _)| name == key))
}

#[cfg(test)]
mod tests {
    use super::super::PRESETS;
    use super::*;

    #[test]
    fn every_preset_resolves() {
        let parameters = |name: &str, vocab_size| {
            let (shape, settings) = Settings::resolve(name, &[]).unwrap();
            shape.config(vocab_size, &settings).parameters()
        };
        for (name, _) in PRESETS {
            assert!(parameters(name, 50_257) > 0, "{name}");
        }
        assert_eq!(parameters("gpt2", 50_257), 124_439_808);
        assert_eq!(parameters("gpt1", 40_478), 116_534_784);
        // What the paper rounds to 175.0 billion, less the biases of queries, keys and values.
        assert_eq!(parameters("gpt3-175b", 50_257), 174_604_259_328 - 96 * 3 * 12_288);
    }

    #[test]
    fn a_pass_shrinks_with_the_size_of_the_model() {
        for (preset, tokens) in [("nano", 4096), ("baby", 4096), ("gpt2", 2048), ("gpt3-175b", 256)] {
            let (shape, settings) = Settings::resolve(preset, &[]).unwrap();
            let config = shape.config(50_257, &settings);
            assert_eq!(config.pass_tokens(), tokens, "{preset}");
        }
    }

    #[test]
    fn a_model_decides_its_shape_and_limits_the_windows() {
        let model = Config::gpt2(100, 48, 1, 1, 8);
        let resolve = |preset, changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
            Settings::resolve_for(preset, &changes, &model)
        };
        let settings = resolve(None, &["batch_tokens=96"]).unwrap();
        assert_eq!((settings.seq_len, settings.steps), (48, 200));
        assert_eq!(resolve(Some("tiny"), &["batch_tokens=96"]).unwrap().steps, 300);
        let message = |changes: &[&str]| format!("{:#}", resolve(None, changes).unwrap_err());
        assert!(message(&["n_layer=3"]).contains("n_layer = 3 cannot be: the model"));
        assert!(resolve(None, &["n_layer=1", "batch_tokens=96"]).is_ok(), "that is what the model has");
        assert!(message(&["seq_len=64"]).contains("longer than the model's context of 48"));
    }

    #[test]
    fn changes_apply_in_order_and_mistakes_are_named() {
        let set = |changes: &[&str]| {
            Settings::resolve("tiny", &changes.iter().map(|c| c.to_string()).collect::<Vec<_>>())
                .map(|(_, settings)| settings)
        };
        assert_eq!(set(&["lr=1", "lr = 2e-3"]).unwrap().lr, 2e-3);
        let message = |changes: &[&str]| format!("{:#}", set(changes).unwrap_err());
        let unknown = message(&["learning_rate=1"]);
        assert!(
            unknown.contains("no recipe key `learning_rate` (did you mean lr?): choose among"),
            "{unknown}"
        );
        assert!(message(&["block_size=1"]).contains("(did you mean seq_len?)"));
        assert!(message(&["batch_size=1"]).contains("(did you mean batch_tokens?)"));
        assert!(message(&["warmup_step=1"]).contains("(did you mean warmup_steps?)"));
        assert!(message(&["luck=1"]).contains("no recipe key `luck`: choose among"));
        assert!(message(&["lr"]).contains("key=value"));
        assert!(message(&["steps=many"]).contains("steps"));
        assert!(message(&["batch_tokens=100"]).contains("128 would do"));
        assert!(message(&["n_head=3"]).contains("multiple of n_head"));
        assert!(message(&["beta2=1"]).contains("beta2"));
        for lanes in ["0", "3", "6", "128"] {
            let message = message(&[&format!("lanes={lanes}")]);
            assert!(
                message.contains(&format!("lanes is {lanes}: it must be a power of two up to 64")),
                "{message}"
            );
        }
        assert_eq!(set(&[]).unwrap().lanes, 1);
        assert_eq!(set(&["lanes=64"]).unwrap().lanes, 64);
        assert!(message(&["z_loss=-1e-4"]).contains("z_loss is -0.0001: it must not be negative"));
        // What is off is no part of a recipe, so that older runs go on.
        let written = |settings: &Settings| toml::to_string(settings).unwrap();
        assert!(!written(&set(&[]).unwrap()).contains("z_loss"));
        assert!(written(&set(&["z_loss=1e-4"]).unwrap()).contains("z_loss = 0.0001"));
        assert_eq!(set(&["key_tokens=['plt', 'pd']"]).unwrap().key_tokens, ["plt", "pd"]);
        assert!(message(&["key_token_alpha=2"]).contains("no key tokens"));
        assert!(message(&["key_tokens=['']"]).contains("empty"));
        let near = Settings::resolve("tny", &[]).unwrap_err().to_string();
        assert!(near.contains("`tny` (did you mean tiny?)"), "{near}");
        let unknown = Settings::resolve("huge", &[]).unwrap_err().to_string();
        assert!(unknown.contains("gpt2-xl") && unknown.contains("tiny"));
    }
}
