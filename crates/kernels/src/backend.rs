//! What the operations of a GPT compute: one trait, forward and backward next to each other.
#![doc = include_str!("conventions.md")]

use crate::{
    AdamW, AttentionShape, BlockMatrix, Draw, Drawn, Dropout, HeadShape, LinearShape, Parameter, TokenLogprob,
};
use std::ops::Range;

/// The operations of a GPT. See the [module](self) for the conventions.
#[allow(clippy::too_many_arguments)]
pub trait Backend {
    /// An array of numbers in this backend's memory.
    type Tensor;

    /// A list of whole numbers below 2³² in this backend's memory: tokens, positions, rows, lengths.
    type Ids;

    /// A list of `f64` in this backend's memory: results that are read late, and derivatives by them.
    type Scalars;

    // ---- memory

    /// `len` zeros, kept exactly (`f32`; `f64` in the reference): weights, gradients, moments, the residual
    /// stream.
    fn zeros(&mut self, len: usize) -> Self::Tensor;

    /// Zeros of these lengths as [`zeros`](Self::zeros) makes them, in one piece of memory, one after
    /// another, each on a boundary of the backend's own: all leaves of a model, its gradients, its moments.
    /// It is freed with the last of them.
    fn arena(&mut self, lens: &[usize]) -> Vec<Self::Tensor>;

    /// `len` zeros for values between operations, which the backend may keep in the precision of its
    /// products.
    fn activation(&mut self, len: usize) -> Self::Tensor;

    /// A matrix that is not learned: the `weight` of [`linear_forward`](Self::linear_forward) and
    /// [`linear_backward_input`](Self::linear_backward_input), with the bits that its values give; also read by
    /// [`packed`](Self::packed), `copy`, `accumulate` and `download`.
    fn blocks(&mut self, matrix: BlockMatrix) -> Self::Tensor;

    /// A copy of the matrix `weight` (`[d_out, d_in]`) laid out for the quickest product. Only the `weight`
    /// of [`linear_forward`](Self::linear_forward) may be such a tensor; results have the same bits.
    fn packed(&mut self, weight: &Self::Tensor, d_in: usize, d_out: usize) -> Self::Tensor;

    /// A second handle of a weight. Both are read only from then on; the memory, which a backend has once for all handles
    /// if it can, is freed with the last of them.
    fn share(&mut self, weight: &mut Self::Tensor) -> Self::Tensor;

    /// Number of values.
    fn len(&self, x: &Self::Tensor) -> usize;
    /// Host → tensor. Lengths must agree.
    fn upload(&mut self, out: &mut Self::Tensor, values: &[f32]);
    /// Tensor → host. Lengths must agree; not for packed tensors.
    fn download(&mut self, out: &mut [f32], x: &Self::Tensor);

    /// An empty list.
    fn ids(&mut self) -> Self::Ids;
    /// Host → list, whose length becomes that of `values`. Memory is kept when a list shrinks.
    fn upload_ids(&mut self, out: &mut Self::Ids, values: &[u32]);
    /// An empty list.
    fn scalars(&mut self) -> Self::Scalars;
    /// Host → list, whose length becomes that of `values`. Memory is kept when a list shrinks.
    fn upload_scalars(&mut self, out: &mut Self::Scalars, values: &[f64]);
    /// Lists → host: `out` becomes what they hold, one list after another.
    fn read(&mut self, out: &mut Vec<f64>, lists: &[&Self::Scalars]);

    /// `out = x`. Lengths must agree.
    fn copy(&mut self, out: &mut Self::Tensor, x: &Self::Tensor);

    /// Changes the number of values, whose contents are lost. Memory is kept when a tensor shrinks, so that
    /// sizes which were seen before allocate nothing.
    fn resize(&mut self, x: &mut Self::Tensor, len: usize);

    /// Sets every value.
    fn fill(&mut self, out: &mut Self::Tensor, value: f32);
    // ---- element by element

    /// `out = a + b`. Its backward pass is the identity towards both.
    fn add(&mut self, out: &mut Self::Tensor, a: &Self::Tensor, b: &Self::Tensor);
    /// `sum += x`.
    fn accumulate(&mut self, sum: &mut Self::Tensor, x: &Self::Tensor);
    /// `x *= factor`. Linear and diagonal, hence its own backward pass.
    fn scale(&mut self, x: &mut Self::Tensor, factor: f32);
    /// `x[r, c] = x[r, c] · factors[c] + bias[c]`, rows as long as `factors`. Without a bias likewise its own.
    fn scale_columns(&mut self, x: &mut Self::Tensor, factors: &Self::Tensor, bias: Option<&Self::Tensor>);
    /// `mean = decay · mean + (1 - decay) · x`: an exponential moving average.
    fn average(&mut self, mean: &mut Self::Tensor, x: &Self::Tensor, decay: f32);
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

    /// [`Dropout`] in place on rows of `width` values. The map is linear and diagonal, hence its own backward
    /// pass.
    fn dropout(&mut self, x: &mut Self::Tensor, width: usize, dropout: &Dropout);

    // ---- rows

    /// `out[r] = wte[tokens[r]] + wpe[positions[r]]`, rows of `d_model`. Without `wpe` the first term alone.
    fn embed_forward(
        &mut self,
        out: &mut Self::Tensor,
        wte: &Self::Tensor,
        wpe: Option<&Self::Tensor>,
        tokens: &Self::Ids,
        positions: &Self::Ids,
        d_model: usize,
    );
    /// `dwte[tokens[r]] += dout[r]`, `dwpe[positions[r]] += dout[r]`, rows in order.
    fn embed_backward(
        &mut self,
        dwte: &mut Self::Tensor,
        dwpe: Option<&mut Self::Tensor>,
        dout: &Self::Tensor,
        tokens: &Self::Ids,
        positions: &Self::Ids,
        d_model: usize,
    );

    /// `out[i] = x[rows[i]]`, rows of `width`.
    fn gather_forward(&mut self, out: &mut Self::Tensor, x: &Self::Tensor, rows: &Self::Ids, width: usize);
    /// `dx[rows[i]] += dout[i]`.
    fn gather_backward(&mut self, dx: &mut Self::Tensor, dout: &Self::Tensor, rows: &Self::Ids, width: usize);

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
    fn layer_norm_backward(
        &mut self,
        dx: &mut Self::Tensor,
        dweight: &mut Self::Tensor,
        dbias: Option<&mut Self::Tensor>,
        dout: &Self::Tensor,
        x: &Self::Tensor,
        stats: &Self::Tensor,
        weight: &Self::Tensor,
        groups: &[usize],
    );

    /// `sum = a + b`, then its [`layer_norm_forward`](Self::layer_norm_forward).
    fn add_layer_norm_forward(
        &mut self,
        sum: &mut Self::Tensor,
        out: &mut Self::Tensor,
        stats: &mut Self::Tensor,
        a: &Self::Tensor,
        b: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        eps: f32,
    ) {
        self.add(sum, a, b);
        self.layer_norm_forward(out, stats, sum, weight, bias, eps);
    }

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
    /// With `x̂ = x·rstd` and `g = dout·weight`: `dx += rstd · (g - x̂ · mean(g·x̂))`, `dweight += Σ
    /// dout·x̂`.
    fn rms_norm_backward(
        &mut self,
        dx: &mut Self::Tensor,
        dweight: &mut Self::Tensor,
        dout: &Self::Tensor,
        x: &Self::Tensor,
        stats: &Self::Tensor,
        weight: &Self::Tensor,
        groups: &[usize],
    );

    /// `sum = a + b`, then its [`rms_norm_forward`](Self::rms_norm_forward).
    fn add_rms_norm_forward(
        &mut self,
        sum: &mut Self::Tensor,
        out: &mut Self::Tensor,
        stats: &mut Self::Tensor,
        a: &Self::Tensor,
        b: &Self::Tensor,
        weight: &Self::Tensor,
        eps: f32,
    ) {
        self.add(sum, a, b);
        self.rms_norm_forward(out, stats, sum, weight, eps);
    }

    /// QK-norm (Henry et al. 2020, in the form that Qwen3 has): every query head and every key head of `qkv`
    /// becomes its own [RMSNorm](Self::rms_norm_forward) over its `head_dim` values, with the gains
    /// `q_weight` for all query heads and `k_weight` for all key heads, `[head_dim]` each; values are copied.
    /// `stats` gets `rstd`, `[rows, n_head + n_kv_head]`.
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
    /// `dqkv` from `dout`: head by head what [`rms_norm_backward`](Self::rms_norm_backward) adds; `dq_weight`
    /// and `dk_weight` are added to, the heads of a row belonging to its group.
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
        groups: &[usize],
    );

    /// Rotary position embedding (Su et al. 2021) of the queries and keys of `qkv`, in place. With `half =
    /// head_dim/2`, values `i` and `i + half` of a head are a pair (as Llama's files have them), which is
    /// turned by an angle: `x[i], x[i+half] = x[i]·cos - x[i+half]·sin, x[i+half]·cos + x[i]·sin`. Row `p` of
    /// `table`, `[positions, head_dim]`, has the cosines of the `half` angles of position `p`, then their
    /// sines (a factor on both, as YaRN has it, is already in them). `head_dim` is even.
    fn rope_forward(
        &mut self,
        qkv: &mut Self::Tensor,
        table: &Self::Tensor,
        positions: &Self::Ids,
        shape: &AttentionShape,
    );
    /// The transpose of [`rope_forward`](Self::rope_forward), in place on a gradient: turned back, the same
    /// factor.
    fn rope_backward(
        &mut self,
        dqkv: &mut Self::Tensor,
        table: &Self::Tensor,
        positions: &Self::Ids,
        shape: &AttentionShape,
    );

    // ---- products

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
        groups: &[usize],
    );

    /// [`linear_forward`](Self::linear_forward) into `product`, then its GELU.
    fn linear_gelu_forward(
        &mut self,
        out: &mut Self::Tensor,
        product: &mut Self::Tensor,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        shape: LinearShape,
    ) {
        self.linear_forward(product, x, weight, bias, shape);
        self.gelu_forward(out, product);
    }
    /// `dx` of a product whose input is the GELU of `x`:
    /// [`linear_backward_input`](Self::linear_backward_input), then [`gelu_backward`](Self::gelu_backward).
    /// What becomes of `between`, which is as long as `x`, is unspecified.
    fn linear_gelu_backward_input(
        &mut self,
        dx: &mut Self::Tensor,
        between: &mut Self::Tensor,
        dout: &Self::Tensor,
        weight: &Self::Tensor,
        x: &Self::Tensor,
        shape: LinearShape,
    ) {
        self.linear_backward_input(between, dout, weight, shape);
        self.gelu_backward(dx, between, x);
    }
    /// `out = residual + ` [`linear_forward`](Self::linear_forward). What becomes of `between`, which is as
    /// long as the product, is unspecified.
    fn linear_add_forward(
        &mut self,
        out: &mut Self::Tensor,
        between: &mut Self::Tensor,
        residual: &Self::Tensor,
        x: &Self::Tensor,
        weight: &Self::Tensor,
        bias: Option<&Self::Tensor>,
        shape: LinearShape,
    ) {
        self.linear_forward(between, x, weight, bias, shape);
        self.add(out, residual, between);
    }

    /// Causal softmax attention (Vaswani et al. 2017) within each sequence of `lens`: `out = softmax(scale ·
    /// q kᵀ, masked) v`, in tiles with a running maximum (Dao et al. 2022): the matrix of scores is never
    /// stored. `lse` gets the logarithm of the softmax's denominator, `[rows, n_head]`. With `dropout` the
    /// probabilities are dropped; its column is `head · 2²⁰ + key position`, its width `n_head · 2²⁰`.
    fn attention_forward(
        &mut self,
        out: &mut Self::Tensor,
        lse: &mut Self::Tensor,
        qkv: &Self::Tensor,
        lens: &Self::Ids,
        shape: &AttentionShape,
        dropout: Option<&Dropout>,
    );
    /// `dqkv` from `dout`; probabilities are computed again from `qkv` and `lse`.
    fn attention_backward(
        &mut self,
        dqkv: &mut Self::Tensor,
        dout: &Self::Tensor,
        out: &Self::Tensor,
        lse: &Self::Tensor,
        qkv: &Self::Tensor,
        lens: &Self::Ids,
        shape: &AttentionShape,
        dropout: Option<&Dropout>,
    );

    /// Attention of new rows over everything their slot holds, themselves included: first their keys and
    /// values are written to the caches, then `out` is what [`attention_forward`](Self::attention_forward)
    /// gives for the same positions. `spans` are [`CacheSpan`](crate::CacheSpan)s as
    /// [`ids`](crate::CacheSpan::ids): they cover the rows in order, each in a slot of its own. A cache is an
    /// activation of `slots · capacity · kv_width` values, in an order of the backend's own; what it held
    /// before does not matter.
    fn attention_cached(
        &mut self,
        out: &mut Self::Tensor,
        keys: &mut Self::Tensor,
        values: &mut Self::Tensor,
        qkv: &Self::Tensor,
        spans: &Self::Ids,
        capacity: usize,
        shape: &AttentionShape,
    );

    /// Gives the slots `into` of a cache of keys or of values the first `len` positions of slot `from`, which
    /// is not among them; what they hold beyond is unspecified.
    fn cache_fork(
        &mut self,
        cache: &mut Self::Tensor,
        from: usize,
        into: Range<usize>,
        len: usize,
        capacity: usize,
        shape: &AttentionShape,
    );

    /// Appends the log-probability of each row's target: `logprobs[r] = log p[targets[r]]` of the
    /// distribution `p = softmax(hidden[r] · weightᵀ / temperature)`, and on request its entropy
    /// `entropies[r] = -Σ p[j] · log p[j]`, in nats. In chunks of rows, so that the `rows × vocab_size`
    /// logits never exist at once. Both are 0 for [`NO_TARGET`](crate::NO_TARGET).
    fn head_forward(
        &mut self,
        logprobs: &mut Self::Scalars,
        entropies: Option<&mut Self::Scalars>,
        hidden: &Self::Tensor,
        weight: &Self::Tensor,
        targets: &Self::Ids,
        shape: &HeadShape,
    );
    /// Gradients for given derivatives `dlogprobs` of the loss by each log-probability, and `dentropies` by
    /// each entropy `H` if the loss has them: `dlogit[j] = (dlogprob · ([j = target] - p[j]) - dentropy ·
    /// p[j] · (log p[j] + H)) / temperature`, `dhidden = dlogits · weight`, `dweight += dlogitsᵀ · hidden`.
    /// The logits are computed again, chunk by chunk, and what is appended to `logprobs` falls out of it: a
    /// loss whose derivatives are known beforehand, such as the plain cross entropy, needs no forward call.
    /// With a `z_loss` the loss has `-dlogprob · z_loss · z²` of each row besides, where `z` is the logarithm of
    /// its softmax's denominator (Chowdhery et al. 2022, PaLM, §5): `p[j]` after `[j = target] -` times
    /// `1 + 2 · z_loss · z`. Without `dweight` the head is not learned, and that product is spared.
    fn head_backward(
        &mut self,
        logprobs: &mut Self::Scalars,
        dhidden: &mut Self::Tensor,
        dweight: Option<&mut Self::Tensor>,
        dlogprobs: &Self::Scalars,
        dentropies: Option<&Self::Scalars>,
        hidden: &Self::Tensor,
        weight: &Self::Tensor,
        targets: &Self::Ids,
        shape: &HeadShape,
        groups: &[usize],
    );

    // ---- tokens

    /// A token for each row of `logits` (`[draws, vocab_size]`, kept exactly): what a draw is, is said in
    /// [`draw`](crate::draw). The same on every backend whose logits are the same.
    fn draw(&mut self, out: &mut [Drawn], logits: &Self::Tensor, vocab_size: usize, draws: &[Draw<'_>]);

    /// What rows of `logits` say of tokens, for each `(row, token)` that is asked: `logit - ln Σ e^logits`. None
    /// where that is not finite, or a logit of the row is not.
    fn token_logprobs(
        &mut self,
        out: &mut [Option<TokenLogprob>],
        logits: &Self::Tensor,
        vocab_size: usize,
        asked: &[(usize, u32)],
    );

    /// The likeliest tokens of a row of `logits`, as many as `out` holds, ties by the lower id.
    fn likeliest(&mut self, out: &mut [u32], logits: &Self::Tensor, vocab_size: usize, row: usize);

    // ---- optimizer

    /// Sets every value of tensors that are kept exactly to 0.
    fn clear(&mut self, tensors: &mut [&mut Self::Tensor]);
    /// Appends `√Σ x²` over all values of the tensors, which are kept exactly: summed in `f64` in a fixed
    /// order, tensor by tensor. NaN or infinity in them shows in the result.
    fn norm(&mut self, out: &mut Self::Scalars, tensors: &[&Self::Tensor]);

    /// One [`AdamW`] update of all parameters in one pass, where the last value of `norms`, which is their
    /// gradient's norm, and all values of the lists `finite` are finite; else nothing changes. Appends to
    /// `norms` whether there was an update: 1, or 0. `updates` holds one value, the number of updates so far,
    /// and counts this one: `t` from here on.
    ///
    /// With `g = grad · grad_clip / norm`, where `grad_clip` is positive and the norm is larger, and else
    /// `g = grad`: `m = β₁m + (1-β₁)g`, `v = β₂v + (1-β₂)g²`, `m̂ = m / (1-β₁ᵗ)`, `v̂ = v / (1-β₂ᵗ)`,
    /// `w -= lr · (m̂ / (√v̂ + ε) + weight_decay · w)`; with `eps_hat`, `ε/√(1-β₂ᵗ)` in place of `ε`.
    fn adamw(
        &mut self,
        parameters: &mut [Parameter<'_, Self::Tensor>],
        settings: &AdamW,
        updates: &mut Self::Scalars,
        norms: &mut Self::Scalars,
        finite: &[&Self::Scalars],
    );

    /// Five Newton–Schulz steps (Jordan et al. 2024, "Muon") on the matrix `x`, `[rows, columns]` and of norm 1
    /// at most, which leave its singular vectors and bring its singular values to about 1: each is `A = x xᵀ`,
    /// `x = 3.4445 x + (-4.775 A + 2.0315 A²) x`, or the same of the transpose where that has fewer rows. `x` and
    /// `work` are kept exactly, and products are of `f32` in any precision. What becomes of `work`, its lengths
    /// too, is unspecified.
    fn newton_schulz(
        &mut self,
        x: &mut Self::Tensor,
        work: [&mut Self::Tensor; 3],
        rows: usize,
        columns: usize,
    );

    // ---- several processes, whose devices exchange what is in their memory: all make the same calls

    /// Makes `tensors`, which are kept exactly, sums over all processes. What each of them has is a part; for every
    /// `[into, of]` of `additions`, one after another, the part `of` is added to the part `into`, and in the end the
    /// part `sum` is everybody's. Returns whether it did: without such devices nothing happens, and the values have
    /// to go through the hosts.
    fn add_up_ranks(&mut self, _: &mut [&mut Self::Tensor], _additions: &[[usize; 2]], _sum: usize) -> bool {
        false
    }
    /// Makes `tensors`, which are kept exactly, those of the process `from`. Returns whether it did, as above.
    fn send_to_ranks(&mut self, _: &mut [&mut Self::Tensor], _from: usize) -> bool {
        false
    }
}
