//! Linear layers, one product at a time.

use super::{F64Tensor, add_scaled, assert_len, dot, row, row_mut};
use crate::LinearShape;
use crate::shapes::{assert_groups, size_of_shape};
use std::ops::Range;

pub(super) fn forward(
    out: &mut F64Tensor,
    x: &F64Tensor,
    weight: &F64Tensor,
    bias: Option<&F64Tensor>,
    shape: LinearShape,
) {
    let LinearShape { rows, d_in, d_out } = shape;
    assert_linear("linear_forward", out, x, weight, bias, shape);
    for r in 0..rows {
        for (o, out) in row_mut(&mut out.0, r, d_out).iter_mut().enumerate() {
            *out = dot(row(&x.0, r, d_in), row(&weight.0, o, d_in)) + bias.map_or(0.0, |bias| bias.0[o]);
        }
    }
}

pub(super) fn backward_input(dx: &mut F64Tensor, dout: &F64Tensor, weight: &F64Tensor, shape: LinearShape) {
    assert_linear("linear_backward_input", dout, dx, weight, None, shape);
    dx.0.fill(0.0);
    for r in 0..shape.rows {
        for (o, &dout) in row(&dout.0, r, shape.d_out).iter().enumerate() {
            add_scaled(row_mut(&mut dx.0, r, shape.d_in), dout, row(&weight.0, o, shape.d_in));
        }
    }
}

pub(super) fn backward_weight(
    dweight: &mut F64Tensor,
    mut dbias: Option<&mut F64Tensor>,
    dout: &F64Tensor,
    x: &F64Tensor,
    shape: LinearShape,
    groups: &[usize],
) {
    let LinearShape { rows, d_in, d_out } = shape;
    assert_linear("linear_backward_weight", dout, x, dweight, dbias.as_deref(), shape);
    for group in rows_of_groups("linear_backward_weight", groups, rows) {
        let (mut dweight_sum, mut dbias_sum) = (vec![0.0; d_out * d_in], vec![0.0; d_out]);
        for r in group {
            for (o, &dout) in row(&dout.0, r, d_out).iter().enumerate() {
                add_scaled(row_mut(&mut dweight_sum, o, d_in), dout, row(&x.0, r, d_in));
                dbias_sum[o] += dout;
            }
        }
        add_scaled(&mut dweight.0, 1.0, &dweight_sum);
        if let Some(dbias) = &mut dbias {
            add_scaled(&mut dbias.0, 1.0, &dbias_sum);
        }
    }
}

fn assert_linear(
    operation: &str,
    out: &F64Tensor,
    x: &F64Tensor,
    weight: &F64Tensor,
    bias: Option<&F64Tensor>,
    LinearShape { rows, d_in, d_out }: LinearShape,
) {
    assert_len(out, size_of_shape(operation, &[rows, d_out]), "out");
    assert_len(x, size_of_shape(operation, &[rows, d_in]), "x");
    assert_len(weight, size_of_shape(operation, &[d_out, d_in]), "weight");
    if let Some(bias) = bias {
        assert_len(bias, d_out, "bias");
    }
}

/// The rows of each group within which gradients of weights are summed first.
pub(super) fn rows_of_groups(
    operation: &str,
    groups: &[usize],
    rows: usize,
) -> impl Iterator<Item = Range<usize>> {
    assert_groups(operation, groups, rows);
    groups.iter().scan(0, |end, rows| {
        *end += rows;
        Some(*end - rows..*end)
    })
}
