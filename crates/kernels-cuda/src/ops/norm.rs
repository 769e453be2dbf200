//! Normalisation, and sums of columns.

use super::{assert_len, assert_rows, int, kind, launch};
use crate::device::Address;
use crate::memory::Buffer;
use crate::{Cuda, CudaTensor};
use kernels::AttentionShape;
use kernels::shapes::assert_groups;

/// Rows that a block sums, as the kernel has it.
const SUM_ROWS: usize = 256;
/// The kernels that give a norm's gradients in one pass, for rows of up to so many values, and rows of their
/// blocks.
const FUSED: [(usize, &str); 3] =
    [(512, "norm_rows_backward_512"), (768, "norm_rows_backward_768"), (1024, "norm_rows_backward_1024")];
const FUSED_ROWS: usize = 64;

/// What a row becomes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Layer normalisation.
    Layer,
    /// Of the root mean square.
    Rms,
}

impl Kind {
    /// Values that are kept of a row.
    fn stats(self) -> usize {
        match self {
            Kind::Layer => 2,
            Kind::Rms => 1,
        }
    }
}

/// `out = norm(x)`; with `sum`, of `x + other`, which goes there.
#[allow(clippy::too_many_arguments)]
pub(crate) fn forward(
    cuda: &Cuda,
    norm: Kind,
    out: &mut CudaTensor,
    stats: &mut CudaTensor,
    x: &CudaTensor,
    sum: Option<(&mut CudaTensor, &CudaTensor)>,
    weight: &CudaTensor,
    bias: Option<&CudaTensor>,
    eps: f32,
) {
    let width = weight.len();
    let rows = assert_rows(x, width, "x");
    assert_len(out, rows * width, "out");
    assert_len(stats, rows * norm.stats(), "stats");
    if let Some(bias) = bias {
        assert_len(bias, width, "bias");
    }
    let (mut to, mut to_kind, mut other, mut other_kind) = (0, 0, 0, 0);
    if let Some((sum, with)) = sum {
        assert_len(sum, x.len(), "sum");
        assert_len(with, x.len(), "b");
        (to, to_kind, other, other_kind) = (sum.at_mut(), kind(sum), with.at(), kind(with));
    }
    let bias = bias.map_or(0, CudaTensor::at);
    let (layer, result, stats, from, weight) =
        (i32::from(norm == Kind::Layer), out.at_mut(), stats.at_mut(), x.at(), weight.at());
    launch!(cuda, "norm_forward", [rows.div_ceil(4), 1, 1], 128, 0;
        layer, result, kind(out), stats, to, to_kind, from, kind(x), other, other_kind, weight, bias, eps,
        int(rows), int(width));
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn backward(
    cuda: &Cuda,
    norm: Kind,
    dx: &mut CudaTensor,
    dweight: &mut CudaTensor,
    dbias: Option<&mut CudaTensor>,
    dout: &CudaTensor,
    x: &CudaTensor,
    stats: &CudaTensor,
    weight: &CudaTensor,
    groups: &[usize],
) {
    let width = weight.len();
    let rows = assert_rows(x, width, "x");
    assert_len(dx, rows * width, "dx");
    assert_len(dout, rows * width, "dout");
    assert_len(stats, rows * norm.stats(), "stats");
    assert_len(dweight, width, "dweight");
    let layer = i32::from(norm == Kind::Layer);
    if let Some((_, kernel)) = FUSED.into_iter().find(|(most, _)| width.is_multiple_of(4) && width <= *most) {
        assert_groups("norm_backward", groups, rows);
        let parts = rows.div_ceil(FUSED_ROWS);
        let dbias = dbias.map_or(0, |dbias| {
            assert_len(dbias, width, "dbias");
            dbias.at_mut()
        });
        let partial = |target: u64| cuda.scratch(if target == 0 { 0 } else { parts * width * 4 });
        let targets = [dweight.at_mut(), dbias];
        let sums = targets.map(partial);
        let sums = sums.each_ref().map(Buffer::at);
        launch!(cuda, kernel, [parts, 1, 1], 256, 0;
            layer, dx.at_mut(), kind(dx), sums[0], sums[1], dout.at(), kind(dout), x.at(), kind(x), stats.at(),
            weight.at(), int(rows), int(width));
        return add_sums(cuda, targets, sums, parts, width);
    }
    let (to, by, from, kept, gains) = (dx.at_mut(), dout.at(), x.at(), stats.at(), weight.at());
    launch!(cuda, "norm_backward", [rows.div_ceil(4), 1, 1], 128, 0;
        layer, to, kind(dx), by, kind(dout), from, kind(x), kept, gains, int(rows), int(width));
    let sums = Columns {
        width,
        heads: 1,
        row_width: width,
        offset: 0,
        normed: Some(Normed { x, stats, layer, stats_width: norm.stats(), stats_offset: 0 }),
    };
    sums.add(cuda, Some(dweight), dbias, dout, groups, rows);
}

/// Columns of rows, or of heads within rows, that are added up.
pub(crate) struct Columns<'a> {
    /// How many.
    pub(crate) width: usize,
    /// Heads of a row that are added up, from `offset` on.
    pub(crate) heads: usize,
    pub(crate) row_width: usize,
    pub(crate) offset: usize,
    /// What else there is of the norm whose gains they are.
    pub(crate) normed: Option<Normed<'a>>,
}

/// The input of a norm and what was kept of its rows.
pub(crate) struct Normed<'a> {
    x: &'a CudaTensor,
    stats: &'a CudaTensor,
    layer: i32,
    stats_width: usize,
    stats_offset: usize,
}

impl Columns<'_> {
    /// `weights += Σ dout · x̂`, `biases += Σ dout`, over all rows at once.
    pub(crate) fn add(
        &self,
        cuda: &Cuda,
        weights: Option<&mut CudaTensor>,
        biases: Option<&mut CudaTensor>,
        dout: &CudaTensor,
        groups: &[usize],
        rows: usize,
    ) {
        let width = self.width;
        for gradient in [weights.as_deref(), biases.as_deref()].into_iter().flatten() {
            assert_len(gradient, width, "the gradient of a gain or a bias");
        }
        assert_groups("a sum of columns", groups, rows);
        let count = rows * self.heads;
        let parts = count.div_ceil(SUM_ROWS);
        if parts == 0 {
            return;
        }
        let targets: [Address; 2] = [weights, biases].map(|x| x.map_or(0, |x| x.at_mut()));
        let partials = targets.map(|target| cuda.scratch(if target == 0 { 0 } else { parts * width * 4 }));
        let sums = partials.each_ref().map(Buffer::at);
        let (x, x_kind, stats, layer, stats_width, stats_offset) = match &self.normed {
            None => (0, 0, 0, 0, 0, 0),
            Some(Normed { x, stats, layer, stats_width, stats_offset }) => {
                (x.at(), kind(x), stats.at(), *layer, int(*stats_width), int(*stats_offset))
            }
        };
        let fours = [width, self.row_width, self.offset].iter().all(|x| x.is_multiple_of(4));
        let columns = if fours { 128 } else { 32 };
        launch!(cuda, "column_sums", [width.div_ceil(columns), parts, 1], 256, 0;
            sums[0], sums[1], dout.at(), kind(dout), x, x_kind, stats, layer, stats_width, stats_offset,
            int(count), int(width), int(self.heads), int(self.row_width), int(self.offset));
        add_sums(cuda, targets, sums, parts, width);
    }
}

/// Adds `parts` rows of partial sums each to the targets that there are.
fn add_sums(cuda: &Cuda, targets: [Address; 2], sums: [Address; 2], parts: usize, width: usize) {
    for (target, sums) in targets.into_iter().zip(sums).filter(|&(target, _)| target != 0 && parts > 0) {
        launch!(cuda, "add_sums", [width.div_ceil(32), 1, 1], 256, 0; target, sums, int(parts), int(width));
    }
}

/// Panics unless `qkv` is rows of heads whose queries and keys have these statistics and gains; returns how
/// many.
fn assert_heads(
    operation: &str,
    qkv: &CudaTensor,
    stats: &CudaTensor,
    gains: [&CudaTensor; 2],
    shape: &AttentionShape,
) -> usize {
    shape.assert_valid(operation);
    let rows = assert_rows(qkv, shape.qkv_width(), "qkv");
    assert_len(stats, rows * (shape.n_head + shape.n_kv_head), "stats");
    gains.iter().for_each(|gain| assert_len(gain, shape.head_dim, "a gain"));
    rows
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn heads_forward(
    cuda: &Cuda,
    out: &mut CudaTensor,
    stats: &mut CudaTensor,
    qkv: &CudaTensor,
    gains: [&CudaTensor; 2],
    eps: f32,
    shape: &AttentionShape,
) {
    let rows = assert_heads("head_norm_forward", qkv, stats, gains, shape);
    assert_len(out, qkv.len(), "out");
    let warps = rows * (shape.n_head + 2 * shape.n_kv_head);
    let (to, kept, from, [q, k]) = (out.at_mut(), stats.at_mut(), qkv.at(), gains.map(CudaTensor::at));
    let (rows, n_head, n_kv_head, width) =
        (int(rows), int(shape.n_head), int(shape.n_kv_head), int(shape.head_dim));
    launch!(cuda, "head_norm_forward", [warps.div_ceil(4), 1, 1], 128, 0;
        to, kind(out), kept, from, kind(qkv), q, k, eps, rows, n_head, n_kv_head, width);
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn heads_backward(
    cuda: &Cuda,
    dqkv: &mut CudaTensor,
    dgains: [&mut CudaTensor; 2],
    dout: &CudaTensor,
    qkv: &CudaTensor,
    stats: &CudaTensor,
    gains: [&CudaTensor; 2],
    shape: &AttentionShape,
    groups: &[usize],
) {
    let rows = assert_heads("head_norm_backward", qkv, stats, gains, shape);
    assert_len(dqkv, qkv.len(), "dqkv");
    assert_len(dout, qkv.len(), "dout");
    let warps = rows * (shape.n_head + 2 * shape.n_kv_head);
    let (to, by, from, kept, [q, k]) =
        (dqkv.at_mut(), dout.at(), qkv.at(), stats.at(), gains.map(CudaTensor::at));
    launch!(cuda, "head_norm_backward", [warps.div_ceil(4), 1, 1], 128, 0;
        to, kind(dqkv), by, kind(dout), from, kind(qkv), kept, q, k,
        int(rows), int(shape.n_head), int(shape.n_kv_head), int(shape.head_dim));
    let stats_width = shape.n_head + shape.n_kv_head;
    let parts = [(0, shape.n_head, 0), (shape.q_width(), shape.n_kv_head, shape.n_head)];
    for (dgain, (offset, heads, stats_offset)) in dgains.into_iter().zip(parts) {
        let normed = Normed { x: qkv, stats, layer: 0, stats_width, stats_offset };
        let (width, row_width) = (shape.head_dim, shape.qkv_width());
        let columns = Columns { width, heads, row_width, offset, normed: Some(normed) };
        columns.add(cuda, Some(dgain), None, dout, groups, rows);
    }
}
