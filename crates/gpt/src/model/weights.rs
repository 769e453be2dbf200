//! Every learned array of a model, as a tree whose leaves vary: tensors, gradients, moments, descriptions.
//!
//! A tree is taken apart exhaustively, so that a forgotten field does not compile; names, shapes, initial values and
//! weight decay are said once, in [`specs`].

use super::Config;

/// The tree. `T` is a tensor, a gradient, a moment, a [`Spec`] …
#[derive(Clone, Debug, PartialEq)]
pub struct Weights<T> {
    /// Token embedding `[vocab_size, d_model]`.
    pub wte: T,
    /// Position embedding `[seq_len, d_model]`.
    pub wpe: T,
    /// The blocks, first to last.
    pub blocks: Vec<Block<T>>,
    /// The norm after the last block.
    pub final_norm: Norm<T>,
    /// The head's own matrix `[vocab_size, d_model]`; none where it is tied to `wte`.
    pub lm_head: Option<T>,
}

/// One decoder block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block<T> {
    /// Before attention.
    pub norm1: Norm<T>,
    /// Queries, keys and values in one product.
    pub qkv: Linear<T>,
    /// Attention's output projection.
    pub attn_out: Linear<T>,
    /// Before the feed-forward layer.
    pub norm2: Norm<T>,
    /// Feed-forward, to `d_ff`.
    pub mlp_up: Linear<T>,
    /// Feed-forward, back to `d_model`.
    pub mlp_down: Linear<T>,
}

/// A norm's gain and bias, `[d_model]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm<T> {
    /// Gain.
    pub weight: T,
    /// Bias.
    pub bias: T,
}

/// A linear layer: `weight` `[d_out, d_in]`, `bias` `[d_out]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear<T> {
    /// The matrix, one row an output.
    pub weight: T,
    /// The bias.
    pub bias: T,
}

/// What a leaf is.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Where it stands in the tree, such as `blocks.0.qkv.weight`.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
    /// Its first value.
    pub init: Init,
    /// Whether weight decay applies: to matrices and embeddings, not to biases and norms.
    pub decay: bool,
}

impl Spec {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether there are none; never, for a checked configuration.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a leaf begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
}

/// Describes every array of a model: GPT-2's initialisation is N(0, 0.02), the projections that write into the
/// residual stream divided by √(number of residual layers), norms 1 and 0, biases 0 (Radford et al. 2019, §2.3).
pub fn specs(config: &Config) -> Weights<Spec> {
    let (d, ff) = (config.d_model, config.d_ff);
    let std = 0.02;
    let residual = std / (2.0 * config.n_layer as f32).sqrt();
    let matrix = |name: String, rows, columns, std| Spec {
        name,
        shape: vec![rows, columns],
        init: Init::Normal(std),
        decay: true,
    };
    let vector =
        |name: String, len, value| Spec { name, shape: vec![len], init: Init::Constant(value), decay: false };
    let norm = |name: String| Norm {
        weight: vector(format!("{name}.weight"), d, 1.0),
        bias: vector(format!("{name}.bias"), d, 0.0),
    };
    let linear = |name: String, d_out, d_in, std| Linear {
        weight: matrix(format!("{name}.weight"), d_out, d_in, std),
        bias: vector(format!("{name}.bias"), d_out, 0.0),
    };
    Weights {
        wte: matrix("wte".into(), config.vocab_size, d, std),
        wpe: matrix("wpe".into(), config.seq_len, d, std),
        blocks: (0..config.n_layer)
            .map(|i| Block {
                norm1: norm(format!("blocks.{i}.norm1")),
                qkv: linear(format!("blocks.{i}.qkv"), 3 * d, d, std),
                attn_out: linear(format!("blocks.{i}.attn_out"), d, d, residual),
                norm2: norm(format!("blocks.{i}.norm2")),
                mlp_up: linear(format!("blocks.{i}.mlp_up"), ff, d, std),
                mlp_down: linear(format!("blocks.{i}.mlp_down"), d, ff, residual),
            })
            .collect(),
        final_norm: norm("final_norm".into()),
        lm_head: (!config.tied_head).then(|| matrix("lm_head".into(), config.vocab_size, d, std)),
    }
}

impl<T> Weights<T> {
    /// The head's matrix: its own, or the token embedding.
    pub fn head(&self) -> &T {
        self.lm_head.as_ref().unwrap_or(&self.wte)
    }

    /// All leaves, in the order of the forward pass.
    pub fn leaves(&self) -> Vec<&T> {
        let Weights { wte, wpe, blocks, final_norm, lm_head } = self;
        let mut leaves = vec![wte, wpe];
        for Block { norm1, qkv, attn_out, norm2, mlp_up, mlp_down } in blocks {
            leaves.extend([&norm1.weight, &norm1.bias, &qkv.weight, &qkv.bias]);
            leaves.extend([&attn_out.weight, &attn_out.bias, &norm2.weight, &norm2.bias]);
            leaves.extend([&mlp_up.weight, &mlp_up.bias, &mlp_down.weight, &mlp_down.bias]);
        }
        leaves.extend([&final_norm.weight, &final_norm.bias]);
        leaves.extend(lm_head);
        leaves
    }

    /// All leaves, in the same order, to change.
    pub fn leaves_mut(&mut self) -> Vec<&mut T> {
        let Weights { wte, wpe, blocks, final_norm, lm_head } = self;
        let mut leaves = vec![wte, wpe];
        for Block { norm1, qkv, attn_out, norm2, mlp_up, mlp_down } in blocks {
            leaves.extend([&mut norm1.weight, &mut norm1.bias, &mut qkv.weight, &mut qkv.bias]);
            leaves.extend([&mut attn_out.weight, &mut attn_out.bias, &mut norm2.weight, &mut norm2.bias]);
            leaves.extend([&mut mlp_up.weight, &mut mlp_up.bias, &mut mlp_down.weight, &mut mlp_down.bias]);
        }
        leaves.extend([&mut final_norm.weight, &mut final_norm.bias]);
        leaves.extend(lm_head);
        leaves
    }

    /// The same tree with other leaves, made in the order of [`leaves`](Self::leaves).
    pub fn map<U>(&self, mut f: impl FnMut(&T) -> U) -> Weights<U> {
        let Weights { wte, wpe, blocks, final_norm, lm_head } = self;
        Weights {
            wte: f(wte),
            wpe: f(wpe),
            blocks: blocks.iter().map(|block| block.map(&mut f)).collect(),
            final_norm: final_norm.map(&mut f),
            lm_head: lm_head.as_ref().map(&mut f),
        }
    }
}

impl<T> Block<T> {
    fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> Block<U> {
        let Block { norm1, qkv, attn_out, norm2, mlp_up, mlp_down } = self;
        Block {
            norm1: norm1.map(f),
            qkv: qkv.map(f),
            attn_out: attn_out.map(f),
            norm2: norm2.map(f),
            mlp_up: mlp_up.map(f),
            mlp_down: mlp_down.map(f),
        }
    }
}

impl<T> Norm<T> {
    fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> Norm<U> {
        let Norm { weight, bias } = self;
        Norm { weight: f(weight), bias: f(bias) }
    }
}

impl<T> Linear<T> {
    fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> Linear<U> {
        let Linear { weight, bias } = self;
        Linear { weight: f(weight), bias: f(bias) }
    }
}
