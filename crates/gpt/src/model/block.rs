//! One decoder block, forward and backward: `x + attention(norm(x))`, then `x + mlp(norm(x))`.

use super::{Block, Config};
use kernels::{AttentionShape, Backend, CacheSpan, Dropout, LinearShape};

/// What a block leaves behind for its backward pass. `rows` × the width named.
pub(super) struct BlockActivations<T> {
    norm1: T,
    stats1: T,
    qkv: T,
    attended: T,
    lse: T,
    mid: T,
    norm2: T,
    stats2: T,
    up: T,
    gelu: T,
    branch: T,
}

impl<T> BlockActivations<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B) -> Self {
        BlockActivations {
            norm1: b.activation(0),
            stats1: b.zeros(0),
            qkv: b.activation(0),
            attended: b.activation(0),
            lse: b.zeros(0),
            mid: b.zeros(0),
            norm2: b.activation(0),
            stats2: b.zeros(0),
            up: b.activation(0),
            gelu: b.activation(0),
            branch: b.activation(0),
        }
    }

    pub(super) fn resize<B: Backend<Tensor = T>>(&mut self, b: &mut B, c: &Config, rows: usize) {
        let Self { norm1, stats1, qkv, attended, lse, mid, norm2, stats2, up, gelu, branch } = self;
        for x in [norm1, attended, mid, norm2, branch] {
            b.resize(x, rows * c.d_model);
        }
        for x in [stats1, stats2] {
            b.resize(x, rows * 2);
        }
        for x in [up, gelu] {
            b.resize(x, rows * c.d_ff);
        }
        b.resize(qkv, rows * 3 * c.d_model);
        b.resize(lse, rows * c.n_head);
    }
}

/// Gradients between the operations of a block, used by one block after another.
pub(super) struct BlockGradients<T> {
    branch: T,
    norm: T,
    attended: T,
    qkv: T,
    up: T,
    gelu: T,
}

impl<T> BlockGradients<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B) -> Self {
        BlockGradients {
            branch: b.activation(0),
            norm: b.activation(0),
            attended: b.activation(0),
            qkv: b.activation(0),
            up: b.activation(0),
            gelu: b.activation(0),
        }
    }

    pub(super) fn resize<B: Backend<Tensor = T>>(&mut self, b: &mut B, c: &Config, rows: usize) {
        let Self { branch, norm, attended, qkv, up, gelu } = self;
        for x in [branch, norm, attended] {
            b.resize(x, rows * c.d_model);
        }
        for x in [up, gelu] {
            b.resize(x, rows * c.d_ff);
        }
        b.resize(qkv, rows * 3 * c.d_model);
    }
}

/// What a row may look at.
pub(super) enum Attend<'a, T> {
    /// The rows before it in its own sequence of the batch.
    Within(&'a [usize]),
    /// Everything that its slot of the cache holds; the batch's own rows are appended first.
    Cached { keys: &'a mut T, values: &'a mut T, spans: &'a [CacheSpan], capacity: usize },
}

/// Where a block drops values: a stream of random numbers for each of its three places.
#[derive(Clone, Copy)]
pub(super) struct BlockDropout {
    pub(super) attention: Dropout,
    pub(super) attn_branch: Dropout,
    pub(super) mlp_branch: Dropout,
}

/// The shapes of a block's products over `rows` rows.
struct Shapes {
    qkv: LinearShape,
    attn_out: LinearShape,
    up: LinearShape,
    down: LinearShape,
    attention: AttentionShape,
}

fn shapes(c: &Config, rows: usize) -> Shapes {
    let linear = |d_in, d_out| LinearShape { rows, d_in, d_out };
    Shapes {
        qkv: linear(c.d_model, 3 * c.d_model),
        attn_out: linear(c.d_model, c.d_model),
        up: linear(c.d_model, c.d_ff),
        down: linear(c.d_ff, c.d_model),
        attention: AttentionShape {
            n_head: c.n_head,
            n_kv_head: c.n_head,
            head_dim: c.head_dim(),
            scale: 1.0 / (c.head_dim() as f32).sqrt(),
            window: None,
        },
    }
}

/// `out = block(x)`, both `[rows, d_model]` of the residual stream.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    a: &mut BlockActivations<B::Tensor>,
    out: &mut B::Tensor,
    x: &B::Tensor,
    attend: Attend<'_, B::Tensor>,
    dropout: Option<&BlockDropout>,
) {
    let s = shapes(c, b.len(x) / c.d_model);

    b.layer_norm_forward(&mut a.norm1, &mut a.stats1, x, &w.norm1.weight, Some(&w.norm1.bias), c.norm_eps);
    b.linear_forward(&mut a.qkv, &a.norm1, &w.qkv.weight, Some(&w.qkv.bias), s.qkv);
    match attend {
        Attend::Within(lens) => {
            let dropped = dropout.map(|d| &d.attention);
            b.attention_forward(&mut a.attended, &mut a.lse, &a.qkv, lens, &s.attention, dropped);
        }
        Attend::Cached { keys, values, spans, capacity } => {
            b.attention_cached(&mut a.attended, keys, values, &a.qkv, spans, capacity, &s.attention);
        }
    }
    b.linear_forward(&mut a.branch, &a.attended, &w.attn_out.weight, Some(&w.attn_out.bias), s.attn_out);
    if let Some(d) = dropout {
        b.dropout(&mut a.branch, c.d_model, &d.attn_branch);
    }
    b.add(&mut a.mid, x, &a.branch);

    b.layer_norm_forward(
        &mut a.norm2,
        &mut a.stats2,
        &a.mid,
        &w.norm2.weight,
        Some(&w.norm2.bias),
        c.norm_eps,
    );
    b.linear_forward(&mut a.up, &a.norm2, &w.mlp_up.weight, Some(&w.mlp_up.bias), s.up);
    b.gelu_forward(&mut a.gelu, &a.up);
    b.linear_forward(&mut a.branch, &a.gelu, &w.mlp_down.weight, Some(&w.mlp_down.bias), s.down);
    if let Some(d) = dropout {
        b.dropout(&mut a.branch, c.d_model, &d.mlp_branch);
    }
    b.add(out, &a.mid, &a.branch);
}

/// Turns `dx` from the gradient of the block's output into that of its input, and adds to the weights' gradients.
/// The forward pass in reverse, line by line.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    dw: &mut Block<B::Tensor>,
    a: &BlockActivations<B::Tensor>,
    g: &mut BlockGradients<B::Tensor>,
    dx: &mut B::Tensor,
    x: &B::Tensor,
    lens: &[usize],
    dropout: Option<&BlockDropout>,
    group_rows: usize,
) {
    let s = shapes(c, b.len(x) / c.d_model);

    b.copy(&mut g.branch, dx);
    if let Some(d) = dropout {
        b.dropout(&mut g.branch, c.d_model, &d.mlp_branch);
    }
    linear_weight(b, &mut dw.mlp_down, &g.branch, &a.gelu, s.down, group_rows);
    b.linear_backward_input(&mut g.gelu, &g.branch, &w.mlp_down.weight, s.down);
    b.gelu_backward(&mut g.up, &g.gelu, &a.up);
    linear_weight(b, &mut dw.mlp_up, &g.up, &a.norm2, s.up, group_rows);
    b.linear_backward_input(&mut g.norm, &g.up, &w.mlp_up.weight, s.up);
    norm(b, dx, &mut dw.norm2, &g.norm, &a.mid, &a.stats2, &w.norm2.weight, group_rows);

    b.copy(&mut g.branch, dx);
    if let Some(d) = dropout {
        b.dropout(&mut g.branch, c.d_model, &d.attn_branch);
    }
    linear_weight(b, &mut dw.attn_out, &g.branch, &a.attended, s.attn_out, group_rows);
    b.linear_backward_input(&mut g.attended, &g.branch, &w.attn_out.weight, s.attn_out);
    let dropped = dropout.map(|d| &d.attention);
    b.attention_backward(&mut g.qkv, &g.attended, &a.attended, &a.lse, &a.qkv, lens, &s.attention, dropped);
    linear_weight(b, &mut dw.qkv, &g.qkv, &a.norm1, s.qkv, group_rows);
    b.linear_backward_input(&mut g.norm, &g.qkv, &w.qkv.weight, s.qkv);
    norm(b, dx, &mut dw.norm1, &g.norm, x, &a.stats1, &w.norm1.weight, group_rows);
}

fn linear_weight<B: Backend>(
    b: &mut B,
    dw: &mut super::Linear<B::Tensor>,
    dout: &B::Tensor,
    x: &B::Tensor,
    shape: LinearShape,
    group_rows: usize,
) {
    b.linear_backward_weight(&mut dw.weight, Some(&mut dw.bias), dout, x, shape, group_rows);
}

#[allow(clippy::too_many_arguments)]
pub(super) fn norm<B: Backend>(
    b: &mut B,
    dx: &mut B::Tensor,
    dw: &mut super::Norm<B::Tensor>,
    dout: &B::Tensor,
    x: &B::Tensor,
    stats: &B::Tensor,
    weight: &B::Tensor,
    group_rows: usize,
) {
    b.layer_norm_backward(dx, &mut dw.weight, Some(&mut dw.bias), dout, x, stats, weight, group_rows);
}
