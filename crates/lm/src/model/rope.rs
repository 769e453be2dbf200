//! Rotary position embedding (Su et al. 2021) and the ways in which published models stretch it over longer
//! contexts.

use std::f64::consts::TAU;

use anyhow::{Result, ensure};
use serde::Serialize;

/// Which angles a position turns queries and keys by: pair `i` of a head turns by `position ·
/// theta^(-2i/head_dim)`, slowed down by the scaling.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rope {
    /// The base; 10,000 in the paper.
    pub theta: f64,
    /// How the angles are slowed down.
    pub scaling: RopeScaling,
}

impl Default for Rope {
    fn default() -> Self {
        Rope { theta: 10_000.0, scaling: RopeScaling::None }
    }
}

/// How angles are slowed down so that a longer context fits.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All angles by the same factor (Chen et al. 2023).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Slow pairs by the factor, fast ones not at all, with a ramp between (Llama 3.1, Grattafiori et al.
    /// 2024).
    Llama3 {
        /// The factor.
        factor: f64,
        /// Pairs that turn less often than this within the original context are slow.
        low_freq_factor: f64,
        /// Pairs that turn more often are fast.
        high_freq_factor: f64,
        /// The context that the model was first trained with.
        original_seq_len: usize,
    },
    /// YaRN (Peng et al. 2023): the same idea with a ramp over the index of the pair, and a factor on queries
    /// and keys.
    Yarn {
        /// The factor.
        factor: f64,
        /// Turns within the original context above which a pair is fast.
        beta_fast: f64,
        /// Turns below which a pair is slow.
        beta_slow: f64,
        /// The context that the model was first trained with.
        original_seq_len: usize,
        /// Factor on cosines and sines; the paper's is `0.1 ln(factor) + 1`.
        attention_factor: f64,
        /// Whether the ends of the ramp are rounded outwards to whole pairs.
        truncate: bool,
    },
}

impl Rope {
    /// Refuses numbers that give no angles.
    pub(super) fn check(&self) -> Result<()> {
        let positive = |name: &str, value: f64| {
            ensure!(
                value.is_finite() && value > 0.0,
                "the rotary embedding's {name} is {value}: it must be positive"
            );
            Ok(())
        };
        positive("theta", self.theta)?;
        match self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => positive("factor", factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_seq_len } => {
                positive("factor", factor)?;
                positive("low_freq_factor", low_freq_factor)?;
                positive("high_freq_factor - low_freq_factor", high_freq_factor - low_freq_factor)?;
                positive("original context", original_seq_len as f64)
            }
            RopeScaling::Yarn {
                factor, beta_fast, beta_slow, original_seq_len, attention_factor, ..
            } => {
                positive("factor", factor)?;
                positive("beta_fast", beta_fast)?;
                positive("beta_slow", beta_slow)?;
                positive("attention_factor", attention_factor)?;
                positive("original context", original_seq_len as f64)
            }
        }
    }

    /// The table of [`Backend::rope_forward`](kernels::Backend::rope_forward): `[seq_len, head_dim]`, cosines
    /// of a position's angles, then their sines. Angles are products of `f32`s, as published models were
    /// trained with.
    pub(super) fn table(&self, seq_len: usize, head_dim: usize) -> Vec<f32> {
        let frequencies = self.frequencies(head_dim);
        let factor = match self.scaling {
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
        };
        let mut table = Vec::with_capacity(seq_len * head_dim);
        for position in 0..seq_len {
            let angle = |frequency: &f32| f64::from(position as f32 * frequency);
            table.extend(frequencies.iter().map(|f| (angle(f).cos() * factor) as f32));
            table.extend(frequencies.iter().map(|f| (angle(f).sin() * factor) as f32));
        }
        table
    }

    /// How fast each pair turns, in radians per position.
    pub fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        let plain = |pair: usize| self.theta.powf(-((2 * pair) as f64) / head_dim as f64);
        let scaled = |pair: usize| -> f64 {
            let frequency = plain(pair);
            match self.scaling {
                RopeScaling::None => frequency,
                RopeScaling::Linear { factor } => frequency / factor,
                RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_seq_len } => {
                    let turns = original_seq_len as f64 * frequency / TAU;
                    let fast = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    mix(frequency, frequency / factor, fast)
                }
                RopeScaling::Yarn { factor, beta_fast, beta_slow, original_seq_len, truncate, .. } => {
                    // The (fractional) pair that makes so many turns within the original context.
                    let pair_of = |turns: f64| {
                        head_dim as f64 * (original_seq_len as f64 / (turns * TAU)).ln()
                            / (2.0 * self.theta.ln())
                    };
                    let (mut low, mut high) = (pair_of(beta_fast), pair_of(beta_slow));
                    if truncate {
                        (low, high) = (low.floor(), high.ceil());
                    }
                    let (low, mut high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
                    if low == high {
                        high += 0.001;
                    }
                    let slow = (pair as f64 - low) / (high - low);
                    mix(frequency, frequency / factor, 1.0 - slow)
                }
            }
        };
        (0..head_dim / 2).map(|pair| scaled(pair) as f32).collect()
    }
}

/// `fast` of the first, the rest of the second; `fast` outside 0 … 1 is cut.
fn mix(first: f64, second: f64, fast: f64) -> f64 {
    let fast = fast.clamp(0.0, 1.0);
    fast * first + (1.0 - fast) * second
}
