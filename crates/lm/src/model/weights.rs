//! Every learned array of a model, as a tree whose leaves vary: tensors, gradients, moments, descriptions.
//!
//! A tree is taken apart exhaustively, so that a forgotten field does not compile; names, shapes, initial
//! values and weight decay are said once, in [`specs`].

use super::{Adapter, Config, NormKind, NormPlace};
use kernels::{Backend, BlockMatrix};

/// The tree. `T` is a tensor, a gradient, a moment, a [`Spec`] …
#[derive(Clone, Debug, PartialEq)]
pub struct Weights<T> {
    /// Token embedding `[vocab_size, d_model]`.
    pub wte: T,
    /// Position embedding `[seq_len, d_model]`, where positions are learned.
    pub wpe: Option<T>,
    /// The blocks, first to last.
    pub blocks: Vec<Block<T>>,
    /// The norm after the last block, where norms stand before the layers.
    pub final_norm: Option<Norm<T>>,
    /// The head's own matrix `[vocab_size, d_model]`; none where it is tied to `wte`, or rows are scored.
    pub lm_head: Option<T>,
    /// The head that scores rows, `[n_label, d_model]`. Where the last norm has a bias, that is bias enough;
    /// several scores have none, since `transformers` knows none.
    pub score: Option<Linear<T>>,
    /// What stands beside matrices that stay as they are; none where all is learned.
    pub adapter: Option<Adapter<T>>,
}

/// One decoder block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block<T> {
    /// Attention's norm.
    pub norm1: Norm<T>,
    /// Queries, keys and values in one product.
    pub qkv: Linear<T>,
    /// The gain of every query head's norm `[head_dim]`, where there is one.
    pub q_norm: Option<T>,
    /// The gain of every key head's norm `[head_dim]`.
    pub k_norm: Option<T>,
    /// Attention's output projection.
    pub attn_out: Linear<T>,
    /// The feed-forward layer's norm.
    pub norm2: Norm<T>,
    /// Feed-forward, to `d_ff`; SwiGLU's gate and value in one product, the gate first.
    pub mlp_up: Linear<T>,
    /// Feed-forward, back to `d_model`.
    pub mlp_down: Linear<T>,
}

/// A norm's gain and, for LayerNorm, its bias, `[d_model]` each.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm<T> {
    /// Gain.
    pub weight: T,
    /// Bias.
    pub bias: Option<T>,
}

/// A linear layer: `weight` `[d_out, d_in]` and, perhaps, `bias` `[d_out]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear<T> {
    /// The matrix, one row an output.
    pub weight: T,
    /// The bias.
    pub bias: Option<T>,
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
    /// Whether it is a matrix of a block, whose products are most of a model's work and whose numbers most of its
    /// numbers.
    pub fn is_block_matrix(&self) -> bool {
        self.name.starts_with("blocks.") && self.shape.len() == 2 && !self.is_adapter()
    }
    /// Whether there are none; never, for a checked configuration.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A leaf on the host.
pub enum Leaf {
    /// As numbers.
    Values(Vec<f32>),
    /// In blocks.
    Blocks(BlockMatrix),
}

impl Leaf {
    /// The leaf in a backend's memory.
    pub fn upload<B: Backend>(self, b: &mut B) -> B::Tensor {
        match self {
            Leaf::Values(values) => {
                let mut tensor = b.zeros(values.len());
                b.upload(&mut tensor, &values);
                tensor
            }
            Leaf::Blocks(matrix) => b.blocks(matrix),
        }
    }
}

/// How a leaf begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform between minus this and this.
    Uniform(f32),
}

/// Describes every array of a model. The initialisation is GPT-1's N(0, 0.02), norms 1 and 0, biases 0; with
/// norms before the layers, the projections that write into the residual stream are divided by √(number of
/// residual layers) (Radford et al. 2019, §2.3). A head of one score draws from N(0, 1/√(d_model + 1)) (Huang
/// et al. 2024, detail 8), one of several like every other matrix (Radford et al. 2018, §4.1).
pub fn specs(config: &Config) -> Weights<Spec> {
    let (d, ff) = (config.d_model, config.d_ff);
    let std = 0.02;
    let residual = match config.norm_place {
        NormPlace::Pre => std / (2.0 * config.n_layer as f32).sqrt(),
        NormPlace::Post => std,
    };
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
        bias: (config.norm == NormKind::LayerNorm).then(|| vector(format!("{name}.bias"), d, 0.0)),
    };
    let linear = |name: String, d_out, d_in, std, biased: bool| Linear {
        weight: matrix(format!("{name}.weight"), d_out, d_in, std),
        bias: biased.then(|| vector(format!("{name}.bias"), d_out, 0.0)),
    };
    let (on_qkv, on_others) = (config.biases.on_qkv(), config.biases.on_others());
    let qkv_width = config.q_width() + 2 * config.kv_width();
    let gain = |name: String| config.qk_norm.then(|| vector(name, config.head_dim, 1.0));
    Weights {
        wte: matrix("wte".into(), config.vocab_size, d, std),
        wpe: config.rope().is_none().then(|| matrix("wpe".into(), config.seq_len, d, std)),
        blocks: (0..config.n_layer)
            .map(|i| Block {
                norm1: norm(format!("blocks.{i}.norm1")),
                qkv: linear(format!("blocks.{i}.qkv"), qkv_width, d, std, on_qkv),
                q_norm: gain(format!("blocks.{i}.q_norm")),
                k_norm: gain(format!("blocks.{i}.k_norm")),
                attn_out: linear(format!("blocks.{i}.attn_out"), d, config.q_width(), residual, on_others),
                norm2: norm(format!("blocks.{i}.norm2")),
                mlp_up: linear(format!("blocks.{i}.mlp_up"), config.up_width(), d, std, on_others),
                mlp_down: linear(format!("blocks.{i}.mlp_down"), d, ff, residual, on_others),
            })
            .collect(),
        final_norm: (config.norm_place == NormPlace::Pre).then(|| norm("final_norm".into())),
        lm_head: (!config.tied_head && config.n_label.is_none())
            .then(|| matrix("lm_head".into(), config.vocab_size, d, std)),
        score: config.n_label.map(|n_label| {
            let std = if n_label == 1 { 1.0 / (d as f32 + 1.0).sqrt() } else { std };
            linear("score".into(), n_label, d, std, n_label == 1 && config.norm == NormKind::RmsNorm)
        }),
        adapter: None,
    }
}

impl<T> Weights<T> {
    /// The head's matrix: its own, or the token embedding.
    pub fn head(&self) -> &T {
        self.lm_head.as_ref().unwrap_or(&self.wte)
    }

    /// All leaves, in the order of the forward pass.
    pub fn leaves(&self) -> Vec<&T> {
        let Weights { wte, wpe, blocks, final_norm, lm_head, score, adapter } = self;
        let mut leaves = vec![wte];
        leaves.extend(wpe);
        for Block { norm1, qkv, q_norm, k_norm, attn_out, norm2, mlp_up, mlp_down } in blocks {
            norm1.collect(&mut leaves);
            qkv.collect(&mut leaves);
            leaves.extend(q_norm.iter().chain(k_norm));
            attn_out.collect(&mut leaves);
            norm2.collect(&mut leaves);
            mlp_up.collect(&mut leaves);
            mlp_down.collect(&mut leaves);
        }
        final_norm.iter().for_each(|norm| norm.collect(&mut leaves));
        leaves.extend(lm_head);
        score.iter().for_each(|score| score.collect(&mut leaves));
        adapter.iter().for_each(|adapter| adapter.collect(&mut leaves));
        leaves
    }

    /// All leaves, in the same order, to change.
    pub fn leaves_mut(&mut self) -> Vec<&mut T> {
        let Weights { wte, wpe, blocks, final_norm, lm_head, score, adapter } = self;
        let mut leaves = vec![wte];
        leaves.extend(wpe);
        for Block { norm1, qkv, q_norm, k_norm, attn_out, norm2, mlp_up, mlp_down } in blocks {
            norm1.collect_mut(&mut leaves);
            qkv.collect_mut(&mut leaves);
            leaves.extend(q_norm.iter_mut().chain(k_norm));
            attn_out.collect_mut(&mut leaves);
            norm2.collect_mut(&mut leaves);
            mlp_up.collect_mut(&mut leaves);
            mlp_down.collect_mut(&mut leaves);
        }
        final_norm.iter_mut().for_each(|norm| norm.collect_mut(&mut leaves));
        leaves.extend(lm_head);
        score.iter_mut().for_each(|score| score.collect_mut(&mut leaves));
        adapter.iter_mut().for_each(|adapter| adapter.collect_mut(&mut leaves));
        leaves
    }

    /// The same tree with other leaves, made in the order of [`leaves`](Self::leaves).
    pub fn map<U>(&self, mut f: impl FnMut(&T) -> U) -> Weights<U> {
        let Weights { wte, wpe, blocks, final_norm, lm_head, score, adapter } = self;
        Weights {
            wte: f(wte),
            wpe: wpe.as_ref().map(&mut f),
            blocks: blocks.iter().map(|block| block.map(&mut f)).collect(),
            final_norm: final_norm.as_ref().map(|norm| norm.map(&mut f)),
            lm_head: lm_head.as_ref().map(&mut f),
            score: score.as_ref().map(|score| score.map(&mut f)),
            adapter: adapter.as_ref().map(|adapter| adapter.map(&mut f)),
        }
    }
}

impl<T> Block<T> {
    fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> Block<U> {
        let Block { norm1, qkv, q_norm, k_norm, attn_out, norm2, mlp_up, mlp_down } = self;
        Block {
            norm1: norm1.map(f),
            qkv: qkv.map(f),
            q_norm: q_norm.as_ref().map(&mut *f),
            k_norm: k_norm.as_ref().map(&mut *f),
            attn_out: attn_out.map(f),
            norm2: norm2.map(f),
            mlp_up: mlp_up.map(f),
            mlp_down: mlp_down.map(f),
        }
    }
}

/// A layer of a weight and, perhaps, a bias.
macro_rules! weight_and_bias {
    ($layer:ident) => {
        impl<T> $layer<T> {
            fn collect<'a>(&'a self, leaves: &mut Vec<&'a T>) {
                let $layer { weight, bias } = self;
                leaves.push(weight);
                leaves.extend(bias);
            }
            fn collect_mut<'a>(&'a mut self, leaves: &mut Vec<&'a mut T>) {
                let $layer { weight, bias } = self;
                leaves.push(weight);
                leaves.extend(bias);
            }
            fn map<U>(&self, f: &mut impl FnMut(&T) -> U) -> $layer<U> {
                let $layer { weight, bias } = self;
                $layer { weight: f(weight), bias: bias.as_ref().map(f) }
            }
        }
    };
}

weight_and_bias!(Norm);
weight_and_bias!(Linear);
