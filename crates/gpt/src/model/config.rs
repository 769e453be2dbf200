//! The shape of a model, its size and its cost.

use anyhow::{Result, ensure};

/// The shape of a GPT-2 (Radford et al. 2019): pre-norm blocks with LayerNorm, learned positions, GELU, biases
/// everywhere, the head tied to the token embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Positions of the context.
    pub seq_len: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Attention heads of a block.
    pub n_head: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of the feed-forward layer; GPT-2 has `4 · d_model`.
    pub d_ff: usize,
    /// Probability of dropout on the embedding, the attention's probabilities and both residual branches.
    pub dropout: f32,
    /// The ε of LayerNorm.
    pub norm_eps: f32,
    /// Whether the head is the token embedding (GPT-2's is) or a matrix of its own.
    pub tied_head: bool,
}

impl Config {
    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.d_model / self.n_head
    }

    /// Refuses shapes that no model can have.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("vocab_size", self.vocab_size),
            ("seq_len", self.seq_len),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("d_model", self.d_model),
            ("d_ff", self.d_ff),
        ] {
            ensure!(value > 0, "{name} is 0: every size of a model must be at least 1");
        }
        ensure!(
            self.d_model.is_multiple_of(self.n_head),
            "d_model {} is not a multiple of n_head {}: every head gets d_model / n_head values",
            self.d_model,
            self.n_head
        );
        ensure!(
            self.seq_len <= 1 << 20,
            "seq_len {} is above the limit of 1,048,576 positions",
            self.seq_len
        );
        ensure!(
            (0.0..1.0).contains(&self.dropout),
            "dropout {} is not in 0 ≤ p < 1: it is the probability of a zero",
            self.dropout
        );
        Ok(())
    }

    /// Learned numbers, the tied head counted once.
    pub fn parameters(&self) -> usize {
        super::specs(self).leaves().iter().map(|spec| spec.len()).sum()
    }

    /// Floating-point operations of one training step per token: 6 for each weight of a product (2 forward, 4
    /// backward), and attention's two products at half the context on average, as causality leaves them.
    pub fn training_flops_per_token(&self) -> f64 {
        let (d, ff, t) = (self.d_model as f64, self.d_ff as f64, self.seq_len as f64);
        let block = 4.0 * d * d + 2.0 * d * ff;
        let attention = 2.0 * d * (t / 2.0);
        6.0 * (self.n_layer as f64 * (block + attention) + d * self.vocab_size as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpt2(n_layer: usize, n_head: usize, d_model: usize) -> Config {
        Config {
            vocab_size: 50_257,
            seq_len: 1024,
            n_layer,
            n_head,
            d_model,
            d_ff: 4 * d_model,
            dropout: 0.1,
            norm_eps: 1e-5,
            tied_head: true,
        }
    }

    #[test]
    fn sizes_are_those_of_the_released_models() {
        assert_eq!(gpt2(12, 12, 768).parameters(), 124_439_808);
        assert_eq!(gpt2(24, 16, 1024).parameters(), 354_823_168);
        assert_eq!(gpt2(36, 20, 1280).parameters(), 774_030_080);
        assert_eq!(gpt2(48, 25, 1600).parameters(), 1_557_611_200);
    }

    #[test]
    fn impossible_shapes_are_refused_by_name() {
        let mut config = gpt2(1, 5, 768);
        assert!(config.check().unwrap_err().to_string().contains("multiple of n_head"));
        config.n_head = 0;
        assert!(config.check().unwrap_err().to_string().contains("n_head is 0"));
    }
}
