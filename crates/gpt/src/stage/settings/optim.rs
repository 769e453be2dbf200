//! How a stage is optimised, which is alike in all that come after pretraining.

use super::keys;
use crate::checkpoint::Dtype;
use crate::model::{Keep, Method};
use crate::stage::training_loop::{Best, Pace};
use crate::train::{Decay, Optimizer, Schedule};
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

described! {
    /// How a stage is optimised. A preset file says all of it for each stage (`presets/stages/`).
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct OptimConfig {
        /// Highest learning rate.
        pub lr: f64,
        /// What is left of it at the end, as a fraction; 1 is a constant rate.
        pub min_lr_frac: f64,
        /// How the rate falls to that: cosine, linear or sqrt (1 - √x).
        #[serde(default)]
        pub decay: Decay,
        /// Steps of linear warm-up.
        pub warmup_steps: u64,
        /// What learns: adamw, which is the default, or muon for the matrices of blocks (Jordan et al. 2024) and AdamW for
        /// the rest, with one rate for both.
        #[serde(default, skip_serializing_if = "Method::is_usual")]
        pub optimizer: Method,
        /// Decoupled weight decay of matrices and embeddings.
        pub weight_decay: f64,
        /// AdamW's decay of the first moment.
        pub beta1: f64,
        /// AdamW's decay of the second moment.
        pub beta2: f64,
        /// AdamW's ε.
        pub eps: f64,
        /// Whether ε is added before the second moment's bias is corrected, as TensorFlow does, and not
        /// after, as PyTorch does.
        #[serde(default)]
        pub eps_hat: bool,
        /// The gradient's norm is clipped to this; 0 never clips.
        pub grad_clip: f64,
        /// Probability of dropout.
        pub dropout: f64,
        /// Tokens that go through a model at once at most, where an example is not longer: memory grows with
        /// it, and with one lane sums of gradients are cut by it.
        pub micro_batch_tokens: usize,
        /// Whether the insides of blocks are computed again on the way back and not kept (activation checkpointing, Chen et
        /// al. 2016): a pass takes a fraction of the memory and a step about a quarter more time; no bit of the result depends
        /// on it.
        #[serde(default)]
        pub recompute: bool,
        /// Lanes in which a step's gradients and losses are summed, whose sums are added in a balanced tree:
        /// a power of two up to 64. Every number has bits of its own, with more than one whatever
        /// micro_batch_tokens is; log₂ of it more gradients are in memory.
        #[serde(default = "keys::one_lane")]
        pub lanes: usize,
        /// Steps of the run; as many as the epochs have where it is not given.
        pub steps: Option<u64>,
        /// Steps between validations; an epoch, or a tenth of the run, where it is not given.
        pub eval_every: Option<u64>,
        /// Steps between checkpoints; as between validations where it is not given.
        pub checkpoint_every: Option<u64>,
        /// Steps between samples, 0 for none; as between validations where it is not given.
        pub sample_every: Option<u64>,
        /// Checkpoints that are kept, besides the best one.
        pub keep_last: usize,
        /// Number format of checkpoints: f32, f16 or bf16. Training goes on from exact numbers all the same.
        #[serde(default)]
        pub dtype: Dtype,
    }
}

impl OptimConfig {
    pub(super) fn check(&self) -> Result<()> {
        for (key, value) in [("lr", self.lr), ("eps", self.eps)] {
            ensure!(value.is_finite() && value > 0.0, "{key} is {value}: it must be a positive number");
        }
        for (key, value) in [("weight_decay", self.weight_decay), ("grad_clip", self.grad_clip)] {
            ensure!(value.is_finite() && value >= 0.0, "{key} is {value}: it must not be negative");
        }
        for (key, value) in [("beta1", self.beta1), ("beta2", self.beta2), ("dropout", self.dropout)] {
            ensure!((0.0..1.0).contains(&value), "{key} is {value}: it must be in 0 ≤ {key} < 1");
        }
        let given = [
            ("steps", self.steps),
            ("eval_every", self.eval_every),
            ("checkpoint_every", self.checkpoint_every),
            ("keep_last", Some(self.keep_last as u64)),
            ("micro_batch_tokens", Some(self.micro_batch_tokens as u64)),
        ];
        keys::check_lanes(self.lanes)?;
        keys::at_least_one(given.into_iter().filter_map(|(key, value)| Some((key, value?))))?;
        ensure!(
            (0.0..=1.0).contains(&self.min_lr_frac),
            "min_lr_frac is {}: it is a fraction",
            self.min_lr_frac
        );
        Ok(())
    }

    /// The learning rate over a run of `steps`.
    pub(in crate::stage) fn schedule(&self, steps: u64) -> Schedule {
        Schedule {
            lr: self.lr as f32,
            min_lr_frac: self.min_lr_frac as f32,
            decay: self.decay,
            warmup_steps: self.warmup_steps,
            decay_steps: None,
            steps,
        }
    }

    /// What a pass keeps.
    pub(in crate::stage) fn keep(&self) -> Keep {
        Keep::of(self.recompute)
    }

    /// AdamW's settings.
    pub(in crate::stage) fn optimizer(&self) -> Optimizer {
        Optimizer {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            eps: self.eps as f32,
            eps_hat: self.eps_hat,
            weight_decay: self.weight_decay as f32,
            grad_clip: self.grad_clip as f32,
        }
    }

    /// When things are due in a run of `steps`, where `usual` steps lie between validations unless the recipe
    /// says otherwise.
    pub(in crate::stage) fn pace(&self, steps: u64, usual: u64, best: Best) -> Pace {
        let eval_every = self.eval_every.unwrap_or(usual.clamp(1, steps.max(1)));
        Pace {
            steps,
            eval_every,
            checkpoint_every: self.checkpoint_every.unwrap_or(eval_every),
            sample_every: self.sample_every.unwrap_or(eval_every),
            keep_last: self.keep_last,
            kept: None,
            best,
        }
    }
}
