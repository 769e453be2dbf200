//! The gated activation of a feed-forward layer.

use super::{F64Tensor, assert_len, assert_rows, row, row_mut};
use crate::shapes::size_of_shape;

pub(super) fn forward(out: &mut F64Tensor, x: &F64Tensor, d_ff: usize) {
    let rows = assert_rows(x, size_of_shape("swiglu_forward", &[2, d_ff]), "x");
    assert_len(out, rows * d_ff, "out");
    for r in 0..rows {
        let (gate, up) = row(&x.0, r, 2 * d_ff).split_at(d_ff);
        for (c, out) in row_mut(&mut out.0, r, d_ff).iter_mut().enumerate() {
            *out = gate[c] * sigmoid(gate[c]) * up[c];
        }
    }
}

pub(super) fn backward(dx: &mut F64Tensor, dout: &F64Tensor, x: &F64Tensor, d_ff: usize) {
    let rows = assert_rows(x, size_of_shape("swiglu_backward", &[2, d_ff]), "x");
    assert_len(dx, x.0.len(), "dx");
    assert_len(dout, rows * d_ff, "dout");
    for r in 0..rows {
        let (gate, up) = row(&x.0, r, 2 * d_ff).split_at(d_ff);
        let dout = row(&dout.0, r, d_ff);
        let (dgate, dup) = row_mut(&mut dx.0, r, 2 * d_ff).split_at_mut(d_ff);
        for c in 0..d_ff {
            let s = sigmoid(gate[c]);
            dgate[c] = dout[c] * up[c] * s * (1.0 + gate[c] * (1.0 - s));
            dup[c] = dout[c] * gate[c] * s;
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
