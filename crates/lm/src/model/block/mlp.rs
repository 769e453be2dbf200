//! The feed-forward branch: up, the activation, down, dropout.

use super::super::{Block, Config, Linear, Mlp};
use super::{Place, linear_backward};
use kernels::Backend;

/// What the branch leaves behind for its backward pass.
pub(super) struct Activations<T> {
    up: T,
    active: T,
}

impl<T> Activations<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B) -> Self {
        Activations { up: b.activation(0), active: b.activation(0) }
    }

    pub(super) fn resize<B: Backend<Tensor = T>>(&mut self, b: &mut B, c: &Config, rows: usize) {
        let Self { up, active } = self;
        b.resize(up, rows * c.up_width());
        b.resize(active, rows * c.d_ff);
    }
}

/// Gradients between the branch's operations: as wide as what they are gradients of.
pub(super) type Gradients<T> = Activations<T>;

/// `out = mlp(x)`, before the residual sum.
pub(super) fn forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    a: &mut Activations<B::Tensor>,
    out: &mut B::Tensor,
    x: &B::Tensor,
    place: &Place<'_, B>,
) {
    activate(b, c, w, a, x);
    let [.., to_out] = c.products(b.len(x) / c.d_model);
    b.linear_forward(out, &a.active, &w.mlp_down.weight, w.mlp_down.bias.as_ref(), to_out);
    if let Some(d) = &place.dropout {
        b.dropout(out, c.d_model, &d.mlp_branch);
    }
}

/// `out = residual + mlp(x)`.
#[allow(clippy::too_many_arguments)]
pub(super) fn add_forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    a: &mut Activations<B::Tensor>,
    out: &mut B::Tensor,
    branch: &mut B::Tensor,
    residual: &B::Tensor,
    x: &B::Tensor,
    place: &Place<'_, B>,
) {
    if place.dropout.is_some() {
        forward(b, c, w, a, branch, x, place);
        return b.add(out, residual, branch);
    }
    activate(b, c, w, a, x);
    let [.., to_out] = c.products(b.len(x) / c.d_model);
    let Linear { weight, bias } = &w.mlp_down;
    b.linear_add_forward(out, branch, residual, &a.active, weight, bias.as_ref(), to_out);
}

/// `a.active = activation(up(x))`.
fn activate<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    a: &mut Activations<B::Tensor>,
    x: &B::Tensor,
) {
    let [.., to_up, _] = c.products(b.len(x) / c.d_model);
    let Linear { weight, bias } = &w.mlp_up;
    match c.mlp {
        Mlp::Gelu => b.linear_gelu_forward(&mut a.active, &mut a.up, x, weight, bias.as_ref(), to_up),
        Mlp::SwiGlu => {
            b.linear_forward(&mut a.up, x, weight, bias.as_ref(), to_up);
            b.swiglu_forward(&mut a.active, &a.up, c.d_ff);
        }
    }
}

/// `dx` from `dout`, which is overwritten by its own dropout; adds to the weights' gradients.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    dw: &mut Block<B::Tensor>,
    a: &Activations<B::Tensor>,
    g: &mut Gradients<B::Tensor>,
    dx: &mut B::Tensor,
    dout: &mut B::Tensor,
    x: &B::Tensor,
    place: &Place<'_, B>,
) {
    let [.., to_up, to_out] = c.products(b.len(x) / c.d_model);
    if let Some(d) = &place.dropout {
        b.dropout(dout, c.d_model, &d.mlp_branch);
    }
    linear_backward(b, &mut dw.mlp_down, dout, &a.active, to_out, place);
    let down = &w.mlp_down.weight;
    match c.mlp {
        Mlp::Gelu => b.linear_gelu_backward_input(&mut g.up, &mut g.active, dout, down, &a.up, to_out),
        Mlp::SwiGlu => {
            b.linear_backward_input(&mut g.active, dout, down, to_out);
            b.swiglu_backward(&mut g.up, &g.active, &a.up, c.d_ff);
        }
    }
    linear_backward(b, &mut dw.mlp_up, &g.up, x, to_up, place);
    b.linear_backward_input(dx, &g.up, &w.mlp_up.weight, to_up);
}
