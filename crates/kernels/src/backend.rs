//! What the operations of a GPT compute: one trait, forward and backward next to each other.
//!
//! # Conventions
//!
//! * A tensor is a flat array; shapes travel beside it. Matrices are row-major. A *row* is one token position.
//! * A batch is the rows of its sequences, one sequence after another, without padding; `lens` lists their lengths.
//! * Outputs come first and are **overwritten**. Two kinds of gradients are **added to** instead: those of weights
//!   (a step accumulates over micro-batches) and that of the residual stream (`dx` of a norm, of a gather).
//! * Shapes are asserted. A mismatch is a bug of the caller and panics.
//! * Results do not depend on the number of threads.
//! * Gradients of weights are summed within groups of `group_rows` rows first, then group after group in order, so
//!   that they do not depend on how a batch is cut into micro-batches (as long as the cuts are between groups).
//! * The bits of an output row depend on that row's inputs only, never on how many rows are computed with it: what
//!   a model computes alone, in a batch, at once or token by token with a cache, is the same in `f32`.

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

/// The operations of a GPT. See the [module](self) for the conventions.
pub trait Backend {
    /// An array of numbers in this backend's memory.
    type Tensor;

    // ---- memory -------------------------------------------------------------------------------------------------

    /// `len` zeros, kept exactly (`f32`; `f64` in the reference): weights, gradients, moments, the residual stream.
    fn zeros(&mut self, len: usize) -> Self::Tensor;

    /// `len` zeros for values between operations, which the backend may keep in the precision of its products.
    fn activation(&mut self, len: usize) -> Self::Tensor;

    /// A copy of the matrix `weight` (`[d_out, d_in]`) laid out for the quickest product. Only the `weight` of
    /// [`linear_forward`](Self::linear_forward) may be such a tensor; results have the same bits.
    fn packed(&mut self, weight: &Self::Tensor, d_in: usize, d_out: usize) -> Self::Tensor;

    /// Number of values.
    fn len(&self, x: &Self::Tensor) -> usize;

    /// Host → tensor. Lengths must agree.
    fn upload(&mut self, out: &mut Self::Tensor, values: &[f32]);

    /// Tensor → host. Lengths must agree; not for packed tensors.
    fn download(&mut self, out: &mut [f32], x: &Self::Tensor);

    /// `out = x`. Lengths must agree.
    fn copy(&mut self, out: &mut Self::Tensor, x: &Self::Tensor);

    /// Changes the number of values, whose contents are lost. Memory is kept when a tensor shrinks, so that sizes
    /// which were seen before allocate nothing.
    fn resize(&mut self, x: &mut Self::Tensor, len: usize);

    /// Sets every value.
    fn fill(&mut self, out: &mut Self::Tensor, value: f32);

    // ---- element by element -------------------------------------------------------------------------------------

    /// `out = a + b`. Its backward pass is the identity towards both.
    fn add(&mut self, out: &mut Self::Tensor, a: &Self::Tensor, b: &Self::Tensor);

    /// `sum += x`.
    fn accumulate(&mut self, sum: &mut Self::Tensor, x: &Self::Tensor);

    /// GELU in its tanh form (Hendrycks & Gimpel 2016): `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    fn gelu_forward(&mut self, out: &mut Self::Tensor, x: &Self::Tensor);
    /// `dx = dout · gelu'(x)`.
    fn gelu_backward(&mut self, dx: &mut Self::Tensor, dout: &Self::Tensor, x: &Self::Tensor);

    /// SwiGLU (Shazeer 2020): a row of `x` holds `d_ff` gate values, then `d_ff` up values;
    /// `out = silu(gate) · up`, rows of `d_ff`, with `silu(z) = z / (1 + e⁻ᶻ)`.
    fn swiglu_forward(&mut self, out: &mut Self::Tensor, x: &Self::Tensor, d_ff: usize);
    /// With `s = 1 / (1 + e⁻ᵍᵃᵗᵉ)`, rows of `dx` laid out as those of `x`:
    /// `dgate = dout · up · s · (1 + gate · (1 - s))`, `dup = dout · gate · s`.
    fn swiglu_backward(&mut self, dx: &mut Self::Tensor, dout: &Self::Tensor, x: &Self::Tensor, d_ff: usize);

    /// [`Dropout`] in place on rows of `width` values. The map is linear and diagonal, hence its own backward pass.
    fn dropout(&mut self, x: &mut Self::Tensor, width: usize, dropout: &Dropout);

    // ---- rows ---------------------------------------------------------------------------------------------------

    /// `out[r] = wte[tokens[r]] + wpe[positions[r]]`, rows of `d_model`. Without `wpe` the first term alone.
    fn embed_forward(
        &mut self,
        out: &mut Self::Tensor,
        wte: &Self::Tensor,
        wpe: Option<&Self::Tensor>,
        tokens: &[u32],
        positions: &[u32],
        d_model: usize,
    );
    /// `dwte[tokens[r]] += dout[r]`, `dwpe[positions[r]] += dout[r]`, rows in order.
    fn embed_backward(
        &mut self,
        dwte: &mut Self::Tensor,
        dwpe: Option<&mut Self::Tensor>,
        dout: &Self::Tensor,
        tokens: &[u32],
        positions: &[u32],
        d_model: usize,
    );

    /// `out[i] = x[rows[i]]`, rows of `width`.
    fn gather_forward(&mut self, out: &mut Self::Tensor, x: &Self::Tensor, rows: &[u32], width: usize);
    /// `dx[rows[i]] += dout[i]`.
    fn gather_backward(&mut self, dx: &mut Self::Tensor, dout: &Self::Tensor, rows: &[u32], width: usize);

    /// Layer normalisation (Ba et al. 2016) of rows as long as `weight`:
    /// `out = (x - mean) · rstd · weight + bias`, `rstd = 1/√(variance + eps)`, biased variance.
    /// `stats` gets `mean, rstd` of every row (2 values a row).
    fn layer_norm_forward(
        &mut self,
        out: &mut Self::Tensor,
        stats: &mut Self::Tensor,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        eps: f32,
    );
    /// With `x̂ = (x - mean)·rstd` and `g = dout·weight`:
    /// `dx += rstd · (g - mean(g) - x̂ · mean(g·x̂))`, `dweight += Σ dout·x̂`, `dbias += Σ dout`.
    #[allow(clippy::too_many_arguments)]
    fn layer_norm_backward(
        &mut self,
        dx: &mut Self::Tensor,
        dweight: &mut Self::Tensor,
        dbias: Option<&mut Self::Tensor>,
        dout: &Self::Tensor,
        x: &Self::Tensor,
        stats: &Self::Tensor,
        weight: &Self::Tensor,
        group_rows: usize,
    );

    /// RMSNorm (Zhang & Sennrich 2019) of rows as long as `weight`: `out = x · rstd · weight`,
    /// `rstd = 1/√(mean(x²) + eps)`. `stats` gets `rstd` of every row (1 value a row).
    fn rms_norm_forward(
        &mut self,
        out: &mut Self::Tensor,
        stats: &mut Self::Tensor,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        eps: f32,
    );
    /// With `x̂ = x·rstd` and `g = dout·weight`: `dx += rstd · (g - x̂ · mean(g·x̂))`, `dweight += Σ dout·x̂`.
    #[allow(clippy::too_many_arguments)]
    fn rms_norm_backward(
        &mut self,
        dx: &mut Self::Tensor,
        dweight: &mut Self::Tensor,
        dout: &Self::Tensor,
        x: &Self::Tensor,
        stats: &Self::Tensor,
        weight: &Self::Tensor,
        group_rows: usize,
    );

    /// QK-norm (Henry et al. 2020, in the form that Qwen3 has): every query head and every key head of `qkv` becomes
    /// its own [RMSNorm](Self::rms_norm_forward) over its `head_dim` values, with the gains `q_weight` for all query
    /// heads and `k_weight` for all key heads, `[head_dim]` each; values are copied. `stats` gets `rstd`,
    /// `[rows, n_head + n_kv_head]`.
    #[allow(clippy::too_many_arguments)]
    fn head_norm_forward(
        &mut self,
        out: &mut Self::Tensor,
        stats: &mut Self::Tensor,
        qkv: &Self::Tensor,
        q_weight: &Self::Tensor,
        k_weight: &Self::Tensor,
        eps: f32,
        shape: &AttentionShape,
    );
    /// `dqkv` from `dout`: head by head what [`rms_norm_backward`](Self::rms_norm_backward) adds; `dq_weight` and
    /// `dk_weight` are added to, the heads of a row belonging to its group.
    #[allow(clippy::too_many_arguments)]
    fn head_norm_backward(
        &mut self,
        dqkv: &mut Self::Tensor,
        dq_weight: &mut Self::Tensor,
        dk_weight: &mut Self::Tensor,
        dout: &Self::Tensor,
        qkv: &Self::Tensor,
        stats: &Self::Tensor,
        q_weight: &Self::Tensor,
        k_weight: &Self::Tensor,
        shape: &AttentionShape,
        group_rows: usize,
    );

    /// Rotary position embedding (Su et al. 2021) of the queries and keys of `qkv`, in place. With `half = head_dim/2`,
    /// values `i` and `i + half` of a head are a pair (as Llama's files have them), which is turned by an angle:
    /// `x[i], x[i+half] = x[i]·cos - x[i+half]·sin, x[i+half]·cos + x[i]·sin`. Row `p` of `table`,
    /// `[positions, head_dim]`, has the cosines of the `half` angles of position `p`, then their sines (a factor on
    /// both, as YaRN has it, is already in them). `head_dim` is even.
    fn rope_forward(
        &mut self,
        qkv: &mut Self::Tensor,
        table: &Self::Tensor,
        positions: &[u32],
        shape: &AttentionShape,
    );
    /// The transpose of [`rope_forward`](Self::rope_forward), in place on a gradient: turned back, the same factor.
    fn rope_backward(
        &mut self,
        dqkv: &mut Self::Tensor,
        table: &Self::Tensor,
        positions: &[u32],
        shape: &AttentionShape,
    );

    // ---- products -----------------------------------------------------------------------------------------------

    /// `out = x · weightᵀ + bias` with `weight` `[d_out, d_in]`. Cost: `2 · rows · d_in · d_out` operations.
    fn linear_forward(
        &mut self,
        out: &mut Self::Tensor,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        shape: LinearShape,
    );
    /// `dx = dout · weight`.
    fn linear_backward_input(
        &mut self,
        dx: &mut Self::Tensor,
        dout: &Self::Tensor,
        weight: &Self::Tensor,
        shape: LinearShape,
    );
    /// `dweight += doutᵀ · x`, `dbias += Σ dout`.
    fn linear_backward_weight(
        &mut self,
        dweight: &mut Self::Tensor,
        dbias: Option<&mut Self::Tensor>,
        dout: &Self::Tensor,
        x: &Self::Tensor,
        shape: LinearShape,
        group_rows: usize,
    );

    /// Causal softmax attention (Vaswani et al. 2017) within each sequence of `lens`:
    /// `out = softmax(scale · q kᵀ, masked) v`, in tiles with a running maximum (Dao et al. 2022): the matrix of
    /// scores is never stored. `lse` gets the logarithm of the softmax's denominator, `[rows, n_head]`.
    /// With `dropout` the probabilities are dropped; its column is `head · 2²⁰ + key position`, its width
    /// `n_head · 2²⁰`.
    fn attention_forward(
        &mut self,
        out: &mut Self::Tensor,
        lse: &mut Self::Tensor,
        qkv: &Self::Tensor,
        lens: &[usize],
        shape: &AttentionShape,
        dropout: Option<&Dropout>,
    );
    /// `dqkv` from `dout`; probabilities are computed again from `qkv` and `lse`.
    #[allow(clippy::too_many_arguments)]
    fn attention_backward(
        &mut self,
        dqkv: &mut Self::Tensor,
        dout: &Self::Tensor,
        out: &Self::Tensor,
        lse: &Self::Tensor,
        qkv: &Self::Tensor,
        lens: &[usize],
        shape: &AttentionShape,
        dropout: Option<&Dropout>,
    );

    /// Attention of new rows over everything their slot holds, themselves included: first their keys and values are
    /// written to the caches, then `out` is what [`attention_forward`](Self::attention_forward) gives for the same
    /// positions. `spans` cover the rows in order, each in a slot of its own. A cache is an activation of
    /// `slots · capacity · kv_width` values, in an order of the backend's own; what it held before does not matter.
    #[allow(clippy::too_many_arguments)]
    fn attention_cached(
        &mut self,
        out: &mut Self::Tensor,
        keys: &mut Self::Tensor,
        values: &mut Self::Tensor,
        qkv: &Self::Tensor,
        spans: &[CacheSpan],
        capacity: usize,
        shape: &AttentionShape,
    );

    /// Log-probability of each row's target: `logprobs[r] = log softmax(hidden[r] · weightᵀ / temperature)[targets[r]]`,
    /// in chunks of rows, so that the `rows × vocab_size` logits never exist at once. 0 for [`NO_TARGET`].
    fn head_forward(
        &mut self,
        logprobs: &mut [f64],
        hidden: &Self::Tensor,
        weight: &Self::Tensor,
        targets: &[u32],
        shape: &HeadShape,
    );
    /// Gradients for given derivatives `dlogprobs` of the loss by each log-probability:
    /// `dlogit[j] = dlogprob · ([j = target] - softmax[j]) / temperature`, `dhidden = dlogits · weight`,
    /// `dweight += dlogitsᵀ · hidden`. The logits are computed again, chunk by chunk, and `logprobs` falls out of it:
    /// a loss whose derivatives are known beforehand, such as the plain cross entropy, needs no forward call.
    #[allow(clippy::too_many_arguments)]
    fn head_backward(
        &mut self,
        logprobs: &mut [f64],
        dhidden: &mut Self::Tensor,
        dweight: &mut Self::Tensor,
        dlogprobs: &[f64],
        hidden: &Self::Tensor,
        weight: &Self::Tensor,
        targets: &[u32],
        shape: &HeadShape,
        group_rows: usize,
    );

    // ---- optimizer ----------------------------------------------------------------------------------------------

    /// `Σ x²`, summed in `f64` in a fixed order. NaN or infinity in `x` shows in the result.
    fn sum_of_squares(&mut self, x: &Self::Tensor) -> f64;

    /// One [`AdamW`] update in one pass: with `g = grad · grad_scale`,
    /// `m = β₁m + (1-β₁)g`, `v = β₂v + (1-β₂)g²`, `w -= lr · (m̂ / (√v̂ + ε) + weight_decay · w)`.
    fn adamw(
        &mut self,
        weight: &mut Self::Tensor,
        m: &mut Self::Tensor,
        v: &mut Self::Tensor,
        grad: &Self::Tensor,
        settings: &AdamW,
    );
}
