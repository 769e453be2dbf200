//! The rotary embedding in a GGUF file: entries under `rope.`, and for Llama 3's scaling a tensor of factors.

use anyhow::{Context, Result, bail, ensure};

use super::super::tensor_file::TensorFiles;
use super::entries::Entries;
use super::fields::Fields;
use crate::model::{Rope, RopeScaling};

/// By how much each pair turns slower: the tensor in which files keep Llama 3's scaling.
pub(super) const FACTORS: &str = "rope_freqs.weight";

const THETA: &str = "rope.freq_base";
const TYPE: &str = "rope.scaling.type";
const FACTOR: &str = "rope.scaling.factor";
const ORIGINAL: &str = "rope.scaling.original_context_length";
const BETA_FAST: &str = "rope.scaling.yarn_beta_fast";
const BETA_SLOW: &str = "rope.scaling.yarn_beta_slow";

/// Numbers of YaRN that change nothing when they are as here, and are not supported otherwise.
const YARN_NEUTRAL: [(&str, f64); 4] = [
    ("rope.scaling.attn_factor", 1.0),
    ("rope.scaling.yarn_attn_factor", 1.0),
    ("rope.scaling.yarn_ext_factor", 1.0),
    ("rope.scaling.yarn_log_multiplier", 0.0),
];

/// Llama 3's scaling has no entries: these numbers are those of all its models.
const LLAMA_3: (f64, f64, usize) = (1.0, 4.0, 8192);

/// Reads the embedding of a model with a context of `seq_len`.
///
/// # Errors
/// Names what is not supported.
pub(super) fn read(
    fields: &Fields<'_>,
    tensors: &TensorFiles,
    head_dim: usize,
    seq_len: usize,
) -> Result<Rope> {
    let theta = fields.float(THETA)?.unwrap_or(Rope::default().theta);
    // A factor alone is a linear one; 0 is none. The second name is the older one.
    let named =
        |name: &str| -> Result<Option<f64>> { Ok(fields.float(name)?.filter(|factor| *factor != 0.0)) };
    let factor = named(FACTOR)?.or(named("rope.scale_linear")?);
    let original_seq_len = fields.optional_size(ORIGINAL)?;
    let scaling = match (fields.text(TYPE)?.unwrap_or("linear"), factor) {
        ("none", _) | ("linear", None) => RopeScaling::None,
        ("linear", Some(factor)) => RopeScaling::Linear { factor },
        ("yarn", factor) => {
            for (name, neutral) in YARN_NEUTRAL {
                let value = fields.float(name)?.unwrap_or(neutral);
                ensure!(value == neutral, "{} {value} is not supported, only {neutral} is", fields.key(name));
            }
            let factor = factor.with_context(|| format!("{} is missing", fields.key(FACTOR)))?;
            RopeScaling::Yarn {
                factor,
                beta_fast: fields.float(BETA_FAST)?.unwrap_or(32.0),
                beta_slow: fields.float(BETA_SLOW)?.unwrap_or(1.0),
                original_seq_len: original_seq_len.unwrap_or(seq_len),
                attention_factor: yarn_attention_factor(factor),
                truncate: true,
            }
        }
        (other, _) => bail!("{} {other:?} is not supported; known are none, linear, yarn", fields.key(TYPE)),
    };
    let plain = Rope { theta, scaling };
    if !tensors.contains(FACTORS) {
        return Ok(plain);
    }
    ensure!(plain.scaling == RopeScaling::None, "{FACTORS} and {} contradict each other", fields.key(TYPE));
    let tensor = tensors.expect(FACTORS, &[head_dim / 2])?;
    let mut factors = vec![0.0; head_dim / 2];
    tensors.read_finite(FACTORS, tensor, &mut factors)?;
    with_factors(plain, &factors, head_dim, original_seq_len)
}

/// The embedding whose pairs turn slower by these factors, the slowest pair last.
fn with_factors(
    plain: Rope,
    factors: &[f32],
    head_dim: usize,
    original_seq_len: Option<usize>,
) -> Result<Rope> {
    let slowest = f64::from(factors.last().copied().unwrap_or(1.0));
    if factors.iter().all(|factor| *factor == 1.0) {
        return Ok(plain);
    }
    let (low_freq_factor, high_freq_factor, original) = LLAMA_3;
    let original_seq_len = original_seq_len.unwrap_or(original);
    let scaled = |factor: f64| {
        let scaling = RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_seq_len };
        Rope { scaling, ..plain.clone() }
    };
    // The slowest pair of a small head may keep a share of its speed: with it, 1/slowest = share + (1 −
    // share)/factor.
    let share = 1.0 / f64::from(*self::factors(&scaled(f64::MAX), head_dim).last().unwrap_or(&1.0));
    let factor = if share == 0.0 { slowest } else { (1.0 - share) / (1.0 / slowest - share) };
    let rope = scaled(factor);
    let ours = self::factors(&rope, head_dim);
    // Whoever wrote them may have computed in single precision.
    let agree = ours.iter().zip(factors).all(|(a, b)| (a - b).abs() <= 1e-4 * b.abs());
    ensure!(
        agree,
        "{FACTORS} is not the scaling of Llama 3 (factor {factor}, low {low_freq_factor}, high {high_freq_factor}, \
         original context {original_seq_len}), and no other is supported"
    );
    Ok(rope)
}

/// By how much each pair turns slower than without scaling.
pub(super) fn factors(rope: &Rope, head_dim: usize) -> Vec<f32> {
    let plain = Rope { scaling: RopeScaling::None, ..rope.clone() };
    let pairs = plain.frequencies(head_dim).into_iter().zip(rope.frequencies(head_dim));
    pairs.map(|(plain, scaled)| plain / scaled).collect()
}

/// The paper's (Peng et al. 2023, §3.4), which is what programs that read GGUF compute.
fn yarn_attention_factor(factor: f64) -> f64 {
    if factor > 1.0 { 0.1 * factor.ln() + 1.0 } else { 1.0 }
}

/// Writes the entries of an embedding; `has_factors` tells whether the architecture has the tensor of
/// factors.
///
/// # Errors
/// There are no words for it.
pub(super) fn write(
    entries: &mut Entries,
    rope: &Rope,
    key: &impl Fn(&str) -> String,
    has_factors: bool,
) -> Result<()> {
    entries.float(&key(THETA), rope.theta as f32);
    match rope.scaling {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            entries.text(&key(TYPE), "linear");
            entries.float(&key(FACTOR), factor as f32);
        }
        RopeScaling::Llama3 { original_seq_len, .. } => {
            ensure!(
                has_factors,
                "the rotary embedding of Llama 3 can be written in the architecture llama only"
            );
            entries.size(&key(ORIGINAL), original_seq_len)?;
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_seq_len, attention_factor, truncate } => {
            let usual = yarn_attention_factor(factor);
            ensure!(
                truncate && (attention_factor - usual).abs() < 1e-6,
                "YaRN with another attention factor than {usual} or with truncate false has no words in GGUF"
            );
            entries.text(&key(TYPE), "yarn");
            entries.float(&key(FACTOR), factor as f32);
            entries.size(&key(ORIGINAL), original_seq_len)?;
            entries.float(&key(BETA_FAST), beta_fast as f32);
            entries.float(&key(BETA_SLOW), beta_slow as f32);
        }
    }
    Ok(())
}
