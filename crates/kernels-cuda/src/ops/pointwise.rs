//! Operations element by element.

use super::{assert_len, assert_rows, int, kind, launch};
use crate::device::Address;
use crate::{Cuda, CudaIds, CudaTensor};
use kernels::shapes::{assert_rows_exist, size_of_shape};
use kernels::{AttentionShape, Dropout};

/// As the kernel numbers them.
#[derive(Clone, Copy)]
enum Operation {
    Copy,
    Fill,
    Add,
    Average,
    Gelu,
    GeluBackward,
    Scale,
}

/// Values that a block goes through.
const BLOCK: usize = 1024;

/// `out = operation(a, b)`; an operand that there is not is nowhere.
fn run(
    cuda: &Cuda,
    operation: Operation,
    (out, out_bf): (Address, bool),
    (a, a_bf): (Address, bool),
    (b, b_bf): (Address, bool),
    scalar: f32,
    n: usize,
) {
    let (operation, [out_bf, a_bf, b_bf]) = (operation as i32, [out_bf, a_bf, b_bf].map(i32::from));
    let count = n as u64;
    launch!(cuda, "pointwise", [n.div_ceil(BLOCK), 1, 1], 256, 0; operation, out, out_bf, a, a_bf, b, b_bf, scalar, count);
}

const NOTHING: (Address, bool) = (0, false);

fn of(x: &CudaTensor) -> (Address, bool) {
    (x.at(), x.bf16())
}

fn to(x: &mut CudaTensor) -> (Address, bool) {
    (x.at_mut(), x.bf16())
}

pub(crate) fn convert(cuda: &Cuda, out: (Address, bool), x: (Address, bool), n: usize) {
    run(cuda, Operation::Copy, out, x, NOTHING, 0.0, n);
}

pub(crate) fn copy(cuda: &Cuda, out: &mut CudaTensor, x: &CudaTensor) {
    assert_len(x, out.len(), "x");
    convert(cuda, to(out), of(x), x.len());
}

pub(crate) fn fill(cuda: &Cuda, out: &mut CudaTensor, value: f32) {
    let n = out.len();
    run(cuda, Operation::Fill, to(out), NOTHING, NOTHING, value, n);
}

pub(crate) fn add(cuda: &Cuda, out: &mut CudaTensor, a: &CudaTensor, b: &CudaTensor) {
    assert_len(a, out.len(), "a");
    assert_len(b, out.len(), "b");
    run(cuda, Operation::Add, to(out), of(a), of(b), 0.0, a.len());
}

pub(crate) fn accumulate(cuda: &Cuda, sum: &mut CudaTensor, x: &CudaTensor) {
    assert_len(x, sum.len(), "x");
    let before = of(sum);
    run(cuda, Operation::Add, to(sum), before, of(x), 0.0, x.len());
}

pub(crate) fn scale(cuda: &Cuda, x: &mut CudaTensor, factor: f32) {
    let (before, n) = (of(x), x.len());
    run(cuda, Operation::Scale, to(x), before, NOTHING, factor, n);
}

pub(crate) fn scale_columns(
    cuda: &Cuda,
    x: &mut CudaTensor,
    factors: &CudaTensor,
    bias: Option<&CudaTensor>,
) {
    assert_rows(x, factors.len(), "x");
    if let Some(bias) = bias {
        assert_len(bias, factors.len(), "bias");
    }
    let (n, width, (by, by_kind)) = (x.len() as u64, factors.len() as u64, of(factors));
    let ((add, add_kind), by_kind) = (bias.map_or(NOTHING, of), i32::from(by_kind));
    let (at, add_kind) = (x.at_mut(), i32::from(add_kind));
    launch!(cuda, "scale_columns", blocks(n), 256, 0; at, kind(x), by, by_kind, add, add_kind, n, width);
}

pub(crate) fn average(cuda: &Cuda, mean: &mut CudaTensor, x: &CudaTensor, decay: f32) {
    assert_len(x, mean.len(), "x");
    let before = of(mean);
    run(cuda, Operation::Average, to(mean), before, of(x), decay, x.len());
}

pub(crate) fn gelu_forward(cuda: &Cuda, out: &mut CudaTensor, x: &CudaTensor) {
    assert_len(x, out.len(), "x");
    run(cuda, Operation::Gelu, to(out), of(x), NOTHING, 0.0, x.len());
}

pub(crate) fn gelu_backward(cuda: &Cuda, dx: &mut CudaTensor, dout: &CudaTensor, x: &CudaTensor) {
    assert_len(dout, dx.len(), "dout");
    assert_len(x, dx.len(), "x");
    run(cuda, Operation::GeluBackward, to(dx), of(dout), of(x), 0.0, x.len());
}

pub(crate) fn swiglu_forward(cuda: &Cuda, out: &mut CudaTensor, x: &CudaTensor, d_ff: usize) {
    let rows = assert_rows(x, size_of_shape("swiglu_forward", &[2, d_ff]), "x");
    assert_len(out, rows * d_ff, "out");
    let (n, d_ff, to, from) = ((rows * d_ff) as u64, int(d_ff), out.at_mut(), x.at());
    launch!(cuda, "swiglu_forward", blocks(n), 256, 0; to, kind(out), from, kind(x), n, d_ff);
}

pub(crate) fn swiglu_backward(
    cuda: &Cuda,
    dx: &mut CudaTensor,
    dout: &CudaTensor,
    x: &CudaTensor,
    d_ff: usize,
) {
    let rows = assert_rows(x, size_of_shape("swiglu_backward", &[2, d_ff]), "x");
    assert_len(dx, x.len(), "dx");
    assert_len(dout, rows * d_ff, "dout");
    let (n, d_ff, to, by, from) = ((rows * d_ff) as u64, int(d_ff), dx.at_mut(), dout.at(), x.at());
    launch!(cuda, "swiglu_backward", blocks(n), 256, 0; to, kind(dx), by, kind(dout), from, kind(x), n, d_ff);
}

pub(crate) fn dropout(cuda: &Cuda, x: &mut CudaTensor, width: usize, dropout: &Dropout) {
    assert_rows(x, width, "x");
    let &Dropout { p, seed, stream, first_row } = dropout;
    if p == 0.0 {
        return;
    }
    // Numbers of random numbers may wrap.
    let (n, first, at) = (x.len() as u64, first_row.wrapping_mul(width as u64), x.at_mut());
    launch!(cuda, "dropout", blocks(n), 256, 0; at, kind(x), n, first, p, seed, stream);
}

/// Turns every pair by its angle times `direction`: 1 forward, -1 back.
pub(crate) fn rotate(
    cuda: &Cuda,
    qkv: &mut CudaTensor,
    table: &CudaTensor,
    positions: &CudaIds,
    shape: &AttentionShape,
    direction: f32,
) {
    let operation = if direction > 0.0 { "rope_forward" } else { "rope_backward" };
    shape.assert_valid(operation);
    let (head_dim, rows) = (shape.head_dim, positions.host().len());
    assert!(head_dim.is_multiple_of(2), "a head of {head_dim} values has no pairs");
    assert_len(qkv, size_of_shape(operation, &[rows, shape.qkv_width()]), "qkv");
    assert_rows_exist(operation, positions.host(), table.len(), head_dim);
    let (heads, half) = (shape.n_head + shape.n_kv_head, head_dim / 2);
    let n = (rows * heads * half) as u64;
    let (heads, half, width) = (int(heads), int(half), int(shape.qkv_width()));
    let (to, angles, positions) = (qkv.at_mut(), table.at(), positions.at());
    launch!(cuda, "rope", blocks(n), 256, 0; to, kind(qkv), angles, positions, n, heads, half, width, direction);
}

/// Blocks of 256 threads, one for each of `n` values.
fn blocks(n: u64) -> [usize; 3] {
    [(n as usize).div_ceil(256), 1, 1]
}
