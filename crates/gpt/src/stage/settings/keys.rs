//! Names of recipe keys, and suggestions for misspelt ones.

use crate::nearest::nearest;
use anyhow::{Result, bail, ensure};

/// Names that other programs have for what is a key here.
const ELSEWHERE: [(&str, &str); 38] = [
    ("gradient_checkpointing", "recompute"),
    ("activation_checkpointing", "recompute"),
    ("learning_rate", "lr"),
    ("max_lr", "lr"),
    ("min_lr", "min_lr_frac"),
    ("wd", "weight_decay"),
    ("warmup", "warmup_steps"),
    ("max_grad_norm", "grad_clip"),
    ("clip", "grad_clip"),
    ("max_steps", "steps"),
    ("iters", "steps"),
    ("max_iters", "steps"),
    ("iterations", "steps"),
    ("num_train_epochs", "epochs"),
    ("num_epochs", "epochs"),
    ("eval_steps", "eval_every"),
    ("save_steps", "checkpoint_every"),
    ("save_every", "checkpoint_every"),
    ("batch", "batch_size"),
    ("batch", "batch_tokens"),
    ("batch_size", "batch_tokens"),
    ("per_device_train_batch_size", "batch_size"),
    ("block_size", "seq_len"),
    ("context", "seq_len"),
    ("context_length", "seq_len"),
    ("n_ctx", "seq_len"),
    ("max_seq_len", "seq_len"),
    ("layers", "n_layer"),
    ("num_hidden_layers", "n_layer"),
    ("heads", "n_head"),
    ("num_attention_heads", "n_head"),
    ("hidden_size", "d_model"),
    ("n_embd", "d_model"),
    ("kl", "kl_coef"),
    ("init_kl_coef", "kl_coef"),
    ("max_new_tokens", "max_tokens"),
    ("center_rewards_coefficient", "centre_coef"),
    ("rpo_alpha", "sft_coef"),
];

/// Refuses the first key that is not among the `known` ones, with the one that was meant.
pub(super) fn check<'k>(given: &[String], known: impl Iterator<Item = &'k str>) -> Result<()> {
    let known: Vec<&str> = known.collect();
    let Some(key) = given.iter().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    let elsewhere = ELSEWHERE.iter().find(|(name, ours)| name == key && known.contains(ours));
    let meant = elsewhere.map(|(_, ours)| *ours).or_else(|| nearest(key, known.iter().copied()));
    let meant = meant.map_or_else(String::new, |name| format!(" (did you mean {name}?)"));
    bail!("there is no recipe key `{key}`{meant}: choose among {}", known.join(", "))
}

/// Whether a key is as if it were not there.
pub(in crate::stage) fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

/// Lanes where a recipe says nothing of them.
pub(super) fn one_lane() -> usize {
    1
}

/// Refuses lanes that are no balanced tree.
pub(super) fn check_lanes(lanes: usize) -> Result<()> {
    ensure!(
        lanes.is_power_of_two() && lanes <= 64,
        "lanes is {lanes}: it must be a power of two up to 64 (1, 2, 4, 8, 16, 32 or 64)"
    );
    Ok(())
}

/// Refuses numbers of which there must be some.
pub(in crate::stage) fn at_least_one<'k>(values: impl IntoIterator<Item = (&'k str, u64)>) -> Result<()> {
    for (key, value) in values {
        ensure!(value > 0, "{key} is 0: it must be at least 1");
    }
    Ok(())
}
