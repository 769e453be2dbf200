//! The attention branch: queries, keys and values, normalised and rotated where the model does so, attention,
//! the output projection, dropout.

use super::super::{Block, Config, Pair};
use super::linear::{Kept, Scratch};
use super::{ATTN_OUT, Place, QKV};
use kernels::{AttentionShape, Backend};

/// What a row may look at.
pub(in super::super) enum Attend<'a, B: Backend> {
    /// The rows before it in its own sequence: training and evaluation.
    Within(&'a B::Ids),
    /// Everything its slot of the cache holds: generation.
    Cached { keys: &'a mut B::Tensor, values: &'a mut B::Tensor, spans: &'a B::Ids, capacity: usize },
}

/// What the branch leaves behind for its backward pass.
pub(super) struct Activations<T> {
    /// Queries, keys and values before their norms; empty where heads are not normalised.
    raw: T,
    head_stats: T,
    qkv: T,
    attended: T,
    lse: T,
    /// What the adapters of the two products keep.
    kept: [Kept<T>; 2],
}

impl<T> Activations<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B) -> Self {
        Activations {
            raw: b.activation(0),
            head_stats: b.zeros(0),
            qkv: b.activation(0),
            attended: b.activation(0),
            lse: b.zeros(0),
            kept: [(); 2].map(|()| Kept::new(b)),
        }
    }

    pub(super) fn resize<B: Backend<Tensor = T>>(&mut self, b: &mut B, c: &Config, rows: usize) {
        let Self { raw, head_stats, qkv, attended, lse, kept: _ } = self;
        let s = shape(c, 0);
        b.resize(qkv, rows * s.qkv_width());
        if c.qk_norm {
            b.resize(raw, rows * s.qkv_width());
            b.resize(head_stats, rows * (s.n_head + s.n_kv_head));
        }
        b.resize(attended, rows * s.q_width());
        b.resize(lse, rows * s.n_head);
    }
}

/// Gradients between the branch's operations.
pub(super) struct Gradients<T> {
    attended: T,
    qkv: T,
    raw: T,
}

impl<T> Gradients<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B) -> Self {
        Gradients { attended: b.activation(0), qkv: b.activation(0), raw: b.activation(0) }
    }

    pub(super) fn resize<B: Backend<Tensor = T>>(&mut self, b: &mut B, c: &Config, rows: usize) {
        let Self { attended, qkv, raw } = self;
        let s = shape(c, 0);
        b.resize(attended, rows * s.q_width());
        b.resize(qkv, rows * s.qkv_width());
        if c.qk_norm {
            b.resize(raw, rows * s.qkv_width());
        }
    }
}

pub(in super::super) fn shape(c: &Config, layer: usize) -> AttentionShape {
    AttentionShape {
        n_head: c.n_head,
        n_kv_head: c.n_kv_head,
        head_dim: c.head_dim,
        scale: 1.0 / (c.head_dim as f32).sqrt(),
        window: c.window(layer),
    }
}

/// `out = attention(x)`, before the residual sum.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    a: &mut Activations<B::Tensor>,
    out: &mut B::Tensor,
    scratch: &mut Scratch<B::Tensor>,
    x: &B::Tensor,
    attend: Attend<'_, B>,
    place: &Place<'_, B>,
) {
    let (s, rows) = (shape(c, place.layer), b.len(x) / c.d_model);
    let [kept_qkv, kept_out] = &mut a.kept;
    let dropout = place.dropout.as_ref();

    let projected = if c.qk_norm { &mut a.raw } else { &mut a.qkv };
    place.linear(c, &w.qkv, QKV, rows).forward(b, projected, kept_qkv, scratch, x);
    if let (Some(q), Some(k)) = (&w.q_norm, &w.k_norm) {
        b.head_norm_forward(&mut a.qkv, &mut a.head_stats, &a.raw, q, k, c.norm_eps, &s);
    }
    if let Some(angles) = place.angles {
        b.rope_forward(&mut a.qkv, angles, place.positions, &s);
    }
    match attend {
        Attend::Within(lens) => {
            let dropped = dropout.map(|d| &d.attention);
            b.attention_forward(&mut a.attended, &mut a.lse, &a.qkv, lens, &s, dropped);
        }
        Attend::Cached { keys, values, spans, capacity } => {
            b.attention_cached(&mut a.attended, keys, values, &a.qkv, spans, capacity, &s);
        }
    }
    place.linear(c, &w.attn_out, ATTN_OUT, rows).forward(b, out, kept_out, scratch, &a.attended);
    if let Some(d) = dropout {
        b.dropout(out, c.d_model, &d.attn_branch);
    }
}

/// `dx` from `dout`, which is overwritten by its own dropout; adds to the weights' gradients.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    dw: &mut Block<B::Tensor>,
    [dqkv, dattn_out]: [Option<&mut Pair<B::Tensor>>; 2],
    a: &Activations<B::Tensor>,
    g: &mut Gradients<B::Tensor>,
    scratch: &mut Scratch<B::Tensor>,
    dx: &mut B::Tensor,
    dout: &mut B::Tensor,
    x: &B::Tensor,
    lens: &B::Ids,
    place: &Place<'_, B>,
) {
    let (s, rows) = (shape(c, place.layer), b.len(x) / c.d_model);
    let [kept_qkv, kept_out] = &a.kept;
    let (dropout, groups) = (place.dropout.as_ref(), place.groups);

    if let Some(d) = dropout {
        b.dropout(dout, c.d_model, &d.attn_branch);
    }
    let to_out = place.linear(c, &w.attn_out, ATTN_OUT, rows);
    let learned = place.learned(&mut dw.attn_out, dattn_out);
    to_out.backward(b, &mut g.attended, learned, scratch, dout, &a.attended, kept_out);
    let dropped = dropout.map(|d| &d.attention);
    b.attention_backward(&mut g.qkv, &g.attended, &a.attended, &a.lse, &a.qkv, lens, &s, dropped);
    if let Some(angles) = place.angles {
        b.rope_backward(&mut g.qkv, angles, place.positions, &s);
    }
    let gains = w.q_norm.as_ref().zip(w.k_norm.as_ref()).zip(dw.q_norm.as_mut().zip(dw.k_norm.as_mut()));
    if let Some(((q, k), (dq, dk))) = gains {
        b.head_norm_backward(&mut g.raw, dq, dk, &g.qkv, &a.raw, &a.head_stats, q, k, &s, groups);
    }
    let projected = if c.qk_norm { &g.raw } else { &g.qkv };
    let to_qkv = place.linear(c, &w.qkv, QKV, rows);
    to_qkv.backward(b, dx, place.learned(&mut dw.qkv, dqkv), scratch, projected, x, kept_qkv);
}
