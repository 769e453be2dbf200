//! The norm of a row of the residual stream, forward and backward.

use super::super::{Config, Norm, NormKind};
use kernels::Backend;

/// Values that the forward pass keeps of each row.
pub(in super::super) fn stats_width(c: &Config) -> usize {
    match c.norm {
        NormKind::LayerNorm => 2,
        NormKind::RmsNorm => 1,
    }
}

/// `out = norm(x)`.
pub(in super::super) fn forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Norm<B::Tensor>,
    out: &mut B::Tensor,
    stats: &mut B::Tensor,
    x: &B::Tensor,
) {
    match c.norm {
        NormKind::LayerNorm => {
            b.layer_norm_forward(out, stats, x, &w.weight, w.bias.as_ref(), c.norm_eps);
        }
        NormKind::RmsNorm => b.rms_norm_forward(out, stats, x, &w.weight, c.norm_eps),
    }
}

/// `sum = a + b`, `out = norm(sum)`.
#[allow(clippy::too_many_arguments)]
pub(in super::super) fn add_forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Norm<B::Tensor>,
    sum: &mut B::Tensor,
    out: &mut B::Tensor,
    stats: &mut B::Tensor,
    x: &B::Tensor,
    branch: &B::Tensor,
) {
    match c.norm {
        NormKind::LayerNorm => {
            b.add_layer_norm_forward(sum, out, stats, x, branch, &w.weight, w.bias.as_ref(), c.norm_eps);
        }
        NormKind::RmsNorm => b.add_rms_norm_forward(sum, out, stats, x, branch, &w.weight, c.norm_eps),
    }
}

/// Adds to `dx` and to the weights' gradients.
#[allow(clippy::too_many_arguments)]
pub(in super::super) fn backward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Norm<B::Tensor>,
    dw: &mut Norm<B::Tensor>,
    dx: &mut B::Tensor,
    dout: &B::Tensor,
    x: &B::Tensor,
    stats: &B::Tensor,
    groups: &[usize],
) {
    match c.norm {
        NormKind::LayerNorm => {
            let dbias = dw.bias.as_mut();
            b.layer_norm_backward(dx, &mut dw.weight, dbias, dout, x, stats, &w.weight, groups);
        }
        NormKind::RmsNorm => b.rms_norm_backward(dx, &mut dw.weight, dout, x, stats, &w.weight, groups),
    }
}
