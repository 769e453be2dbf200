//! The shape of a model, its size and its cost.

use anyhow::{Result, ensure};
use kernels::LinearShape;
use serde::Serialize;

use super::Rope;

/// The shape of a decoder: sizes, and one choice an axis on which the families differ.
///
/// | | GPT-1 | GPT-2 | GPT-3 | Llama, Qwen |
/// |---|---|---|---|---|
/// | `norm` | LayerNorm | LayerNorm | LayerNorm | RMSNorm |
/// | `norm_place` | post | pre | pre | pre |
/// | `positions` | learned | learned | learned | rotary |
/// | `mlp` | GELU | GELU | GELU | SwiGLU |
/// | `biases` | all | all | all but q, k, v | none; Qwen2: q, k, v |
/// | `qk_norm` | | | | Qwen3 |
/// | `band` | | | every second layer | |
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Positions of the context.
    pub seq_len: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Query heads of a block.
    pub n_head: usize,
    /// Key and value heads of a block; each serves `n_head / n_kv_head` query heads.
    pub n_kv_head: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of the feed-forward layer; GPT-2 has `4 · d_model`.
    pub d_ff: usize,
    /// Probability of dropout on the embedding, the attention's probabilities and both residual branches.
    pub dropout: f32,
    /// The ε of the norms.
    pub norm_eps: f32,
    /// Whether the head is the token embedding (GPT-2's is) or a matrix of its own.
    pub tied_head: bool,
    /// How rows are normalised.
    pub norm: NormKind,
    /// Where.
    pub norm_place: NormPlace,
    /// How a token knows its place.
    pub positions: Positions,
    /// The feed-forward layer's kind.
    pub mlp: Mlp,
    /// Which linear layers add a bias.
    pub biases: Biases,
    /// Whether every head of queries and keys is normalised before attention (Henry et al. 2020).
    pub qk_norm: bool,
    /// Outputs of a head that scores rows instead of predicting tokens: 1 for a reward or a value, as many as
    /// there are classes for a classifier; none for a language model.
    pub n_label: Option<usize>,
    /// With `Some(w)` every second block, from the second on, sees the last `w` positions only: the "locally
    /// banded" layers of GPT-3 (Brown et al. 2020, §2.1).
    pub band: Option<usize>,
}

/// How rows are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Mean 0, variance 1, gain and bias (Ba et al. 2016).
    LayerNorm,
    /// Mean square 1, gain (Zhang & Sennrich 2019).
    RmsNorm,
}

/// Where norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// `x + f(norm(x))`, and one more after the last block (GPT-2).
    Pre,
    /// `norm(x + f(x))` (Vaswani et al. 2017, GPT-1).
    Post,
}

/// How a token knows its place.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// An embedding for each position, added to the token's.
    Learned,
    /// Queries and keys are rotated.
    Rotary(Rope),
}

/// The kind of feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mlp {
    /// `down(gelu(up(x)))`.
    Gelu,
    /// `down(silu(gate(x)) · up(x))` (Shazeer 2020).
    SwiGlu,
}

/// Which linear layers of a block add a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Biases {
    /// Every one.
    All,
    /// All but queries, keys and values, as GPT-Neo's files have it.
    AllButQkv,
    /// Queries, keys and values only (Qwen2).
    Qkv,
    /// None.
    None,
}

impl Biases {
    /// Whether queries, keys and values have one.
    pub(super) fn on_qkv(self) -> bool {
        matches!(self, Biases::All | Biases::Qkv)
    }
    /// Whether the other layers have one.
    pub(super) fn on_others(self) -> bool {
        matches!(self, Biases::All | Biases::AllButQkv)
    }
}

impl Config {
    /// A GPT-2 (Radford et al. 2019) without dropout: what the other families are told apart from.
    pub fn gpt2(vocab_size: usize, seq_len: usize, n_layer: usize, n_head: usize, d_model: usize) -> Self {
        Config {
            vocab_size,
            seq_len,
            n_layer,
            n_head,
            n_kv_head: n_head,
            // Without heads there is nothing to divide by; `check` says so.
            head_dim: d_model.checked_div(n_head).unwrap_or(0),
            d_model,
            d_ff: d_model.saturating_mul(4),
            dropout: 0.0,
            norm_eps: 1e-5,
            tied_head: true,
            norm: NormKind::LayerNorm,
            norm_place: NormPlace::Pre,
            positions: Positions::Learned,
            mlp: Mlp::Gelu,
            biases: Biases::All,
            qk_norm: false,
            n_label: None,
            band: None,
        }
    }

    /// GPT-1 (Radford et al. 2018): norms after the residual sums, hence none after the last block.
    pub fn gpt1(vocab_size: usize, seq_len: usize, n_layer: usize, n_head: usize, d_model: usize) -> Self {
        Config { norm_place: NormPlace::Post, ..Config::gpt2(vocab_size, seq_len, n_layer, n_head, d_model) }
    }

    /// GPT-3 (Brown et al. 2020): every second layer sees a band. Queries, keys and values have no biases, so
    /// that a checkpoint is a GPT-Neo directory, the only published layout with such layers.
    pub fn gpt3(vocab_size: usize, seq_len: usize, n_layer: usize, n_head: usize, d_model: usize) -> Self {
        let band = Some(DEFAULT_BAND);
        Config {
            biases: Biases::AllButQkv,
            band,
            ..Config::gpt2(vocab_size, seq_len, n_layer, n_head, d_model)
        }
    }

    /// The layout of Llama (Touvron et al. 2023): RMSNorm, rotary positions, SwiGLU of about `8/3 · d_model`,
    /// no biases.
    pub fn modern(vocab_size: usize, seq_len: usize, n_layer: usize, n_head: usize, d_model: usize) -> Self {
        Config {
            // Three matrices instead of two: two thirds of the width cost the same; rounded up for whole
            // tiles.
            d_ff: (d_model.saturating_mul(8) / 3).next_multiple_of(64),
            norm: NormKind::RmsNorm,
            positions: Positions::Rotary(Rope::default()),
            mlp: Mlp::SwiGlu,
            biases: Biases::None,
            ..Config::gpt2(vocab_size, seq_len, n_layer, n_head, d_model)
        }
    }

    /// Width of all query heads.
    pub fn q_width(&self) -> usize {
        self.n_head * self.head_dim
    }

    /// Width of all key heads, and of all value heads.
    pub fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_dim
    }

    /// Width of the feed-forward layer's first product.
    pub fn up_width(&self) -> usize {
        match self.mlp {
            Mlp::Gelu => self.d_ff,
            Mlp::SwiGlu => 2 * self.d_ff,
        }
    }

    /// How far back the block of this number sees, where that is not everything.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.band.filter(|_| layer % 2 == 1)
    }

    /// Refuses shapes that no model can have.
    pub fn check(&self) -> Result<()> {
        for (name, value) in [
            ("vocab_size", self.vocab_size),
            ("seq_len", self.seq_len),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_kv_head", self.n_kv_head),
            ("d_model", self.d_model),
            ("d_ff", self.d_ff),
            ("n_label", self.n_label.unwrap_or(1)),
            ("band", self.band.unwrap_or(1)),
        ] {
            ensure!(value > 0, "{name} is 0: every size of a model must be at least 1");
        }
        ensure!(
            self.head_dim > 0 && (self.head_dim * self.n_head == self.d_model || self.rope().is_some()),
            "d_model {} is not a multiple of n_head {}: every head gets d_model / n_head values",
            self.d_model,
            self.n_head
        );
        ensure!(
            self.n_head.is_multiple_of(self.n_kv_head),
            "n_head {} is not a multiple of n_kv_head {}: every key/value head serves the same number of query heads",
            self.n_head,
            self.n_kv_head
        );
        ensure!(
            self.rope().is_none() || self.head_dim.is_multiple_of(2),
            "head_dim {} is odd: rotary positions turn pairs of values",
            self.head_dim
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
        self.rope().map_or(Ok(()), Rope::check)
    }

    /// The rotary embedding, where positions are rotary.
    pub fn rope(&self) -> Option<&Rope> {
        match &self.positions {
            Positions::Learned => None,
            Positions::Rotary(rope) => Some(rope),
        }
    }

    /// The products of a block over `rows` rows: to queries, keys and values, attention's output, and into
    /// and out of the feed-forward layer.
    pub fn products(&self, rows: usize) -> [LinearShape; 4] {
        [
            LinearShape { rows, d_in: self.d_model, d_out: self.q_width() + 2 * self.kv_width() },
            LinearShape { rows, d_in: self.q_width(), d_out: self.d_model },
            LinearShape { rows, d_in: self.d_model, d_out: self.up_width() },
            LinearShape { rows, d_in: self.d_ff, d_out: self.d_model },
        ]
    }

    /// Learned numbers, the tied head counted once.
    pub fn parameters(&self) -> usize {
        super::specs(self).leaves().iter().map(|spec| spec.len()).sum()
    }

    /// Those of them that embed tokens and learned positions.
    pub fn embedding_parameters(&self) -> usize {
        let specs = super::specs(self);
        specs.wte.len() + specs.wpe.map_or(0, |wpe| wpe.len())
    }

    /// Floating-point operations of one training step per token: 6 for each weight of a product (2 forward, 4
    /// backward), and attention's two products over what a position sees on average, as causality and bands
    /// leave it.
    ///
    /// In sequences of the whole context; see
    /// [`training_flops_per_token_of`](Self::training_flops_per_token_of).
    pub fn training_flops_per_token(&self) -> f64 {
        self.training_flops_per_token_of(self.seq_len as f64)
    }

    /// The same in sequences of `len` tokens each.
    pub fn training_flops_per_token_of(&self, len: f64) -> f64 {
        let (d, q) = (self.d_model as f64, self.q_width() as f64);
        let qkv = d * (q + 2.0 * self.kv_width() as f64);
        let block = qkv + q * d + d * (self.up_width() + self.d_ff) as f64;
        let seen = |layer| {
            let (t, w) = (len, self.window(layer).map_or(len, |window| window as f64).min(len));
            // The first w positions see half of the band on average, the others all of it.
            w - w * w / (2.0 * t)
        };
        let attention: f64 = (0..self.n_layer).map(|layer| 2.0 * q * seen(layer)).sum();
        let head = self.n_label.unwrap_or(self.vocab_size) as f64;
        6.0 * (self.n_layer as f64 * block + attention + d * head)
    }
}

/// The width of GPT-3's bands, which the paper leaves out: that of GPT-Neo (Black et al. 2021), the published
/// reproduction of such layers.
pub const DEFAULT_BAND: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_released_models() {
        let gpt2 = |n_layer, n_head, d| Config::gpt2(50_257, 1024, n_layer, n_head, d).parameters();
        assert_eq!(gpt2(12, 12, 768), 124_439_808);
        assert_eq!(gpt2(24, 16, 1024), 354_823_168);
        assert_eq!(gpt2(36, 20, 1280), 774_030_080);
        assert_eq!(gpt2(48, 25, 1600), 1_557_611_200);
        assert_eq!(Config::gpt1(40_478, 512, 12, 12, 768).parameters(), 116_534_784);
        let smollm2 =
            Config { n_kv_head: 3, d_ff: 1536, ..Config::modern(49_152, 8192, 30, 9, 576) }.parameters();
        assert_eq!(smollm2, 134_515_008);
    }

    #[test]
    fn impossible_shapes_are_refused_by_name() {
        let refusal = |config: Config| config.check().unwrap_err().to_string();
        assert!(refusal(Config::gpt2(9, 9, 1, 5, 768)).contains("multiple of n_head"));
        assert!(refusal(Config::gpt2(9, 9, 1, 0, 768)).contains("n_head is 0"));
        let modern = Config::modern(9, 9, 1, 4, 32);
        assert!(refusal(Config { n_kv_head: 3, ..modern.clone() }).contains("n_kv_head 3"));
        assert!(refusal(Config { head_dim: 7, ..modern.clone() }).contains("head_dim 7 is odd"));
        assert!(refusal(Config { band: Some(0), ..modern }).contains("band is 0"));
    }

    #[test]
    fn a_band_as_long_as_the_context_costs_what_no_band_costs() {
        let dense = Config::gpt2(100, 64, 2, 2, 32);
        let banded = |w| Config { band: Some(w), ..dense.clone() }.training_flops_per_token();
        assert_eq!(banded(64), dense.training_flops_per_token());
        assert_eq!(banded(100), dense.training_flops_per_token());
        assert!(banded(8) < dense.training_flops_per_token());
    }
}
