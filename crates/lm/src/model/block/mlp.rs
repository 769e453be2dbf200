//! The feed-forward branch: up, the activation, down, dropout.

use super::super::{Block, Config, Mlp, Pair};
use super::linear::{Kept, Scratch};
use super::{MLP_DOWN, MLP_UP, Place};
use kernels::Backend;

/// What the branch leaves behind for its backward pass.
pub(super) struct Activations<T> {
    up: T,
    active: T,
    /// What the adapters of the two products keep.
    kept: [Kept<T>; 2],
}

impl<T> Activations<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B) -> Self {
        Activations { up: b.activation(0), active: b.activation(0), kept: [(); 2].map(|()| Kept::new(b)) }
    }

    pub(super) fn resize<B: Backend<Tensor = T>>(&mut self, b: &mut B, c: &Config, rows: usize) {
        let Self { up, active, kept: _ } = self;
        b.resize(up, rows * c.up_width());
        b.resize(active, rows * c.d_ff);
    }
}

/// Gradients between the branch's operations: as wide as what they are gradients of.
pub(super) type Gradients<T> = Activations<T>;

/// `out = mlp(x)`, before the residual sum.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    a: &mut Activations<B::Tensor>,
    out: &mut B::Tensor,
    scratch: &mut Scratch<B::Tensor>,
    x: &B::Tensor,
    place: &Place<'_, B>,
) {
    activate(b, c, w, a, scratch, x, place);
    let Activations { active, kept: [_, kept], .. } = a;
    place.linear(c, &w.mlp_down, MLP_DOWN, b.len(x) / c.d_model).forward(b, out, kept, scratch, active);
    if let Some(d) = &place.dropout {
        b.dropout(out, c.d_model, &d.mlp_branch);
    }
}

/// `out = residual + mlp(x)`; nothing of it but the insides where the block is computed again.
#[allow(clippy::too_many_arguments)]
pub(super) fn add_forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    a: &mut Activations<B::Tensor>,
    out: &mut B::Tensor,
    branch: &mut B::Tensor,
    scratch: &mut Scratch<B::Tensor>,
    residual: &B::Tensor,
    x: &B::Tensor,
    place: &Place<'_, B>,
) {
    let to_out = place.linear(c, &w.mlp_down, MLP_DOWN, b.len(x) / c.d_model);
    if place.again && to_out.pair.is_none() {
        return activate(b, c, w, a, scratch, x, place);
    }
    if place.dropout.is_some() || to_out.pair.is_some() {
        forward(b, c, w, a, branch, scratch, x, place);
        return b.add(out, residual, branch);
    }
    activate(b, c, w, a, scratch, x, place);
    let (weight, bias) = (&w.mlp_down.weight, w.mlp_down.bias.as_ref());
    b.linear_add_forward(out, branch, residual, &a.active, weight, bias, to_out.shape);
}

/// `a.active = activation(up(x))`.
fn activate<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    a: &mut Activations<B::Tensor>,
    scratch: &mut Scratch<B::Tensor>,
    x: &B::Tensor,
    place: &Place<'_, B>,
) {
    let to_up = place.linear(c, &w.mlp_up, MLP_UP, b.len(x) / c.d_model);
    let Activations { up, active, kept: [kept, _] } = a;
    if c.mlp == Mlp::Gelu && to_up.pair.is_none() {
        let (weight, bias) = (&w.mlp_up.weight, w.mlp_up.bias.as_ref());
        return b.linear_gelu_forward(active, up, x, weight, bias, to_up.shape);
    }
    to_up.forward(b, up, kept, scratch, x);
    match c.mlp {
        Mlp::Gelu => b.gelu_forward(active, up),
        Mlp::SwiGlu => b.swiglu_forward(active, up, c.d_ff),
    }
}

/// `dx` from `dout`, which is overwritten by its own dropout; adds to the weights' gradients.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    dw: &mut Block<B::Tensor>,
    [dup, ddown]: [Option<&mut Pair<B::Tensor>>; 2],
    a: &Activations<B::Tensor>,
    g: &mut Gradients<B::Tensor>,
    scratch: &mut Scratch<B::Tensor>,
    dx: &mut B::Tensor,
    dout: &mut B::Tensor,
    x: &B::Tensor,
    place: &Place<'_, B>,
) {
    let rows = b.len(x) / c.d_model;
    let [kept_up, kept_down] = &a.kept;
    if let Some(d) = &place.dropout {
        b.dropout(dout, c.d_model, &d.mlp_branch);
    }
    let to_out = place.linear(c, &w.mlp_down, MLP_DOWN, rows);
    let learned = place.learned(&mut dw.mlp_down, ddown);
    if c.mlp == Mlp::Gelu && to_out.pair.is_none() {
        to_out.backward_weight(b, learned, scratch, dout, &a.active, kept_down);
        let (down, shape) = (&w.mlp_down.weight, to_out.shape);
        b.linear_gelu_backward_input(&mut g.up, &mut g.active, dout, down, &a.up, shape);
    } else {
        to_out.backward(b, &mut g.active, learned, scratch, dout, &a.active, kept_down);
        match c.mlp {
            Mlp::Gelu => b.gelu_backward(&mut g.up, &g.active, &a.up),
            Mlp::SwiGlu => b.swiglu_backward(&mut g.up, &g.active, &a.up, c.d_ff),
        }
    }
    let to_up = place.linear(c, &w.mlp_up, MLP_UP, rows);
    to_up.backward(b, dx, place.learned(&mut dw.mlp_up, dup), scratch, &g.up, x, kept_up);
}
