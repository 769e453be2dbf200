//! Shapes and settings of operations.

/// A target that asks for nothing: its log-probability is 0 and has no gradient.
pub const NO_TARGET: u32 = u32::MAX;

/// `rows` rows of `d_in` values in, `d_out` values out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Number of rows.
    pub rows: usize,
    /// Values of an input row.
    pub d_in: usize,
    /// Values of an output row.
    pub d_out: usize,
}

/// Shape and masking of an attention layer.
///
/// A row of `qkv` holds `n_head` queries, then `n_kv_head` keys, then `n_kv_head` values of `head_dim` each.
/// Query head `h` reads key/value head `h / (n_head / n_kv_head)` (grouped-query attention, Ainslie et al. 2023).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; divides `n_head`.
    pub n_kv_head: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on the scores, usually 1/√head_dim.
    pub scale: f32,
    /// With `Some(w)` position `i` sees positions `i-w+1 ..= i` only (the banded layers of GPT-3); else `0 ..= i`.
    pub window: Option<usize>,
}

impl AttentionShape {
    /// Values of a row of queries, and of a row of the output.
    pub fn q_width(&self) -> usize {
        self.n_head * self.head_dim
    }
    /// Values of a row of keys, and of a row of values.
    pub fn kv_width(&self) -> usize {
        self.n_kv_head * self.head_dim
    }
    /// Values of a row of `qkv`.
    pub fn qkv_width(&self) -> usize {
        self.q_width() + 2 * self.kv_width()
    }
}

/// `len` new rows of the sequence in cache slot `slot`, the first of them at position `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSpan {
    /// Which sequence of the cache.
    pub slot: usize,
    /// Positions that the slot holds already.
    pub start: usize,
    /// Rows to append.
    pub len: usize,
}

/// Shape of the language-model head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadShape {
    /// Number of rows.
    pub rows: usize,
    /// Values of a hidden row.
    pub d_model: usize,
    /// Rows of the head's matrix.
    pub vocab_size: usize,
    /// Logits are divided by it before the softmax; 1 for a plain language model.
    pub temperature: f32,
}

/// Dropout (Srivastava et al. 2014): each value becomes 0 with probability `p`, else is divided by `1 - p`.
///
/// The decision for column `c` of row `r` is [`rng::uniform`](crate::rng::uniform)`(seed, stream, (first_row + r) *
/// width + c) < p`, so that the backward pass asks again instead of reading a mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of a zero; with 0 the operation does nothing.
    pub p: f32,
    /// The run's seed, mixed with the step.
    pub seed: u64,
    /// Which place in the model.
    pub stream: u64,
    /// Index of the batch's first row in the whole step's batch.
    pub first_row: u64,
}

/// Settings of one AdamW update (Loshchilov & Hutter 2019, decoupled weight decay).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to √v̂, after the bias correction (as PyTorch does; TensorFlow 1 adds it before).
    pub eps: f32,
    /// Decoupled weight decay; 0 for biases and norms.
    pub weight_decay: f32,
    /// Number of this update, from 1: the bias corrections are `1 - betaᵗ`.
    pub step: u64,
    /// Factor on the gradient before everything else: the clipping.
    pub grad_scale: f32,
}
