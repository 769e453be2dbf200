//! Linear layers: products, and what follows them.

use super::norm::Columns;
use super::{assert_len, int, kind, launch};
use crate::device::{Factor, Product, Then};
use crate::{Cuda, CudaTensor};
use kernels::LinearShape;
use kernels::shapes::{assert_groups, size_of_shape};

/// Columns of a row that a block goes through after a product.
const BLOCK: usize = 1024;

/// What follows a product, as the kernel numbers it.
#[derive(Clone, Copy)]
enum After {
    Bias,
    BiasGelu,
    BiasAdd,
}

/// Rows of results that the library writes with something after their product are such multiples long.
const FUSED_MULTIPLE: usize = 8;

/// Computes a product and what becomes of it in one go, where the library can.
fn fused(cuda: &Cuda, p: &Product) -> bool {
    let can =
        p.bf16 && p.out.1 && p.out_row.is_multiple_of(FUSED_MULTIPLE) && p.sizes.iter().all(|&size| size > 0);
    // SAFETY: operations assert the lengths of what they multiply.
    can && unsafe { cuda.device().product(p) }
}

/// Computes a product: by the library, or by the kernel for those that it does not do.
pub(crate) fn product(cuda: &Cuda, p: &Product) {
    let [m, n, k] = p.sizes;
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: operations assert the lengths of what they multiply.
    if k > 0 && unsafe { cuda.device().product(p) } {
        return;
    }
    let ((out, out_bf), out_row, add) = (p.out, p.out_row as u64, i32::from(p.add));
    let step = |factor: Factor| (factor.at, factor.row as u64, factor.term as u64);
    let ((a, a_row, a_term), (b, b_row, b_term)) = (step(p.a), step(p.b));
    let (out_bf, bf) = (i32::from(out_bf), i32::from(p.bf16));
    launch!(cuda, "product", [m.div_ceil(16), n.div_ceil(16), 1], 256, 0;
        out, out_bf, out_row, a, bf, a_row, a_term, b, bf, b_row, b_term, int(m), int(n), int(k), p.alpha, add);
}

fn assert_shapes(operation: &str, x: &CudaTensor, weight: &CudaTensor, out: &CudaTensor, shape: LinearShape) {
    let LinearShape { rows, d_in, d_out } = shape;
    assert_len(x, size_of_shape(operation, &[rows, d_in]), "the rows of d_in");
    assert_len(weight, size_of_shape(operation, &[d_in, d_out]), "the weight");
    assert_len(out, size_of_shape(operation, &[rows, d_out]), "the rows of d_out");
}

pub(crate) fn packed(cuda: &Cuda, weight: &CudaTensor, d_in: usize, d_out: usize) -> CudaTensor {
    assert_len(weight, size_of_shape("packed", &[d_in, d_out]), "weight");
    let mut copy = CudaTensor::new(cuda.device(), weight.len(), cuda.is_bf16());
    super::pointwise::copy(cuda, &mut copy, weight);
    copy
}

/// `out = x · weightᵀ`.
fn of_rows(
    cuda: &Cuda,
    out: &mut CudaTensor,
    x: &CudaTensor,
    weight: &CudaTensor,
    shape: LinearShape,
) -> Product {
    assert_shapes("linear_forward", x, weight, out, shape);
    let LinearShape { rows, d_in, d_out } = shape;
    let ((a, bf16), (b, _)) = (cuda.operand(x, 0), cuda.operand(weight, 0));
    let by_row = |at| Factor { at, row: d_in, term: 1 };
    Product {
        out: (out.at_mut(), out.bf16()),
        out_row: d_out,
        a: by_row(a),
        b: by_row(b),
        bf16,
        sizes: [rows, d_out, d_in],
        then: Then::Nothing,
        alpha: 1.0,
        add: false,
    }
}

/// Where products read a bias, which is as long as their rows: nowhere if there is none, or it is not read
/// there.
fn bias_at(cuda: &Cuda, bias: Option<&CudaTensor>, width: usize) -> u64 {
    bias.map_or(0, |bias| {
        assert_len(bias, width, "bias");
        if cuda.is_bf16() { cuda.operand(bias, 0).0 } else { 0 }
    })
}

/// What follows a product `x` of rows of `width`.
fn after(
    cuda: &Cuda,
    operation: After,
    x: &mut CudaTensor,
    bias: Option<&CudaTensor>,
    out: Option<&mut CudaTensor>,
    residual: Option<&CudaTensor>,
    width: usize,
) {
    if let Some(bias) = bias {
        assert_len(bias, width, "bias");
    }
    let (mut to, mut to_kind) = (0, 0);
    if let Some(out) = out {
        assert_len(out, x.len(), "out");
        (to, to_kind) = (out.at_mut(), kind(out));
    }
    let (from, from_kind) = residual.map_or((0, 0), |residual| {
        assert_len(residual, x.len(), "residual");
        (residual.at(), kind(residual))
    });
    let rows = x.len().checked_div(width).unwrap_or(0);
    let (operation, at, bias) = (operation as i32, x.at_mut(), bias.map_or(0, CudaTensor::at));
    launch!(cuda, "after_product", [rows, width.div_ceil(BLOCK), 1], 256, 0;
        operation, at, kind(x), bias, to, to_kind, from, from_kind, int(width));
}

pub(crate) fn forward(
    cuda: &Cuda,
    out: &mut CudaTensor,
    x: &CudaTensor,
    weight: &CudaTensor,
    bias: Option<&CudaTensor>,
    shape: LinearShape,
) {
    let p = of_rows(cuda, out, x, weight, shape);
    let then = Then::Bias(bias_at(cuda, bias, shape.d_out));
    if bias.is_some() && fused(cuda, &Product { then, ..p }) {
        return;
    }
    product(cuda, &p);
    if bias.is_some() {
        after(cuda, After::Bias, out, bias, None, None, shape.d_out);
    }
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn gelu_forward(
    cuda: &Cuda,
    out: &mut CudaTensor,
    between: &mut CudaTensor,
    x: &CudaTensor,
    weight: &CudaTensor,
    bias: Option<&CudaTensor>,
    shape: LinearShape,
) {
    let p = of_rows(cuda, between, x, weight, shape);
    assert_len(out, between.len(), "out");
    let then = Then::BiasGelu { bias: bias_at(cuda, bias, shape.d_out), aux: p.out.0 };
    // The GELU is the result here, and what it is of goes aside.
    if between.bf16() && fused(cuda, &Product { out: (out.at_mut(), out.bf16()), then, ..p }) {
        return;
    }
    product(cuda, &p);
    after(cuda, After::BiasGelu, between, bias, Some(out), None, shape.d_out);
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn add_forward(
    cuda: &Cuda,
    out: &mut CudaTensor,
    between: &mut CudaTensor,
    residual: &CudaTensor,
    x: &CudaTensor,
    weight: &CudaTensor,
    bias: Option<&CudaTensor>,
    shape: LinearShape,
) {
    product(cuda, &of_rows(cuda, between, x, weight, shape));
    after(cuda, After::BiasAdd, between, bias, Some(out), Some(residual), shape.d_out);
}

/// `dx = dout · weight`.
fn of_columns(
    cuda: &Cuda,
    dx: &mut CudaTensor,
    dout: &CudaTensor,
    weight: &CudaTensor,
    shape: LinearShape,
) -> Product {
    assert_shapes("linear_backward_input", dx, weight, dout, shape);
    let LinearShape { rows, d_in, d_out } = shape;
    let ((a, bf16), (b, _)) = (cuda.operand(dout, 0), cuda.operand(weight, 0));
    Product {
        out: (dx.at_mut(), dx.bf16()),
        out_row: d_in,
        a: Factor { at: a, row: d_out, term: 1 },
        b: Factor { at: b, row: 1, term: d_in },
        bf16,
        sizes: [rows, d_in, d_out],
        then: Then::Nothing,
        alpha: 1.0,
        add: false,
    }
}

pub(crate) fn backward_input(
    cuda: &Cuda,
    dx: &mut CudaTensor,
    dout: &CudaTensor,
    weight: &CudaTensor,
    shape: LinearShape,
) {
    product(cuda, &of_columns(cuda, dx, dout, weight, shape));
}

pub(crate) fn gelu_backward_input(
    cuda: &Cuda,
    dx: &mut CudaTensor,
    between: &mut CudaTensor,
    dout: &CudaTensor,
    weight: &CudaTensor,
    x: &CudaTensor,
    shape: LinearShape,
) {
    let p = of_columns(cuda, dx, dout, weight, shape);
    assert_len(x, dx.len(), "x");
    if x.bf16() && fused(cuda, &Product { then: Then::GeluSlope { aux: x.at() }, ..p }) {
        return;
    }
    backward_input(cuda, between, dout, weight, shape);
    super::pointwise::gelu_backward(cuda, dx, between, x);
}

pub(crate) fn backward_weight(
    cuda: &Cuda,
    dweight: &mut CudaTensor,
    dbias: Option<&mut CudaTensor>,
    dout: &CudaTensor,
    x: &CudaTensor,
    shape: LinearShape,
    groups: &[usize],
) {
    let operation = "linear_backward_weight";
    assert_shapes(operation, x, dweight, dout, shape);
    assert_groups(operation, groups, shape.rows);
    let LinearShape { rows, d_in, d_out } = shape;
    let ((a, bf16), (b, _)) = (cuda.operand(dout, 0), cuda.operand(x, 0));
    let (a, b) = (Factor { at: a, row: 1, term: d_out }, Factor { at: b, row: 1, term: d_in });
    let (out, sizes) = ((dweight.at_mut(), dweight.bf16()), [d_out, d_in, rows]);
    product(
        cuda,
        &Product { out, out_row: d_in, a, b, bf16, sizes, then: Then::Nothing, alpha: 1.0, add: true },
    );
    if dbias.is_some() {
        let columns = Columns { width: d_out, heads: 1, row_width: d_out, offset: 0, normed: None };
        columns.add(cuda, None, dbias, dout, groups, shape.rows);
    }
}
