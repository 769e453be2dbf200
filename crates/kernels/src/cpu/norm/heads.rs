//! QK-norm: RMSNorm of the query heads and key heads within rows of `qkv`.

use super::super::level::multiversion;
use super::super::pool::Disjoint;
use super::super::rows::for_each_rows;
use super::super::tensor::{Values, ValuesMut};
use super::super::{Cpu, CpuTensor};
use super::rms::{norm_backward_row, norm_row};
use super::{add_slice, assert_rows, sum_partials};
use crate::AttentionShape;
use crate::shapes::assert_groups;
use std::ops::Range;

/// Query heads and key heads of a row.
fn normed_heads(shape: &AttentionShape) -> usize {
    shape.n_head + shape.n_kv_head
}

#[allow(clippy::too_many_arguments)]
pub(in super::super) fn forward(
    cpu: &mut Cpu,
    out: &mut CpuTensor,
    stats: &mut CpuTensor,
    qkv: &CpuTensor,
    weights: [&CpuTensor; 2],
    eps: f32,
    shape: &AttentionShape,
) {
    let rows = assert_lengths("head_norm_forward", qkv, stats, weights, shape);
    assert_eq!(out.len(), qkv.len(), "values of out");
    let (level, out, stats) = (cpu.options.level, out.sink(), Disjoint::new(stats.f32s_mut()));
    let (qkv, weights) = (qkv.values(), weights.map(CpuTensor::f32s));
    let (width, heads) = (shape.qkv_width(), normed_heads(shape));
    for_each_rows(&mut cpu.pool, rows, width, |rows, [a, b, _]| {
        let (start, len) = (rows.start * width, rows.len() * width);
        // SAFETY: every row is handed out once.
        let (mut out, stats) =
            unsafe { (out.part(start, len), stats.slice(rows.start * heads, rows.len() * heads)) };
        norm_rows(level, &mut out, stats, qkv.part(start, len), weights, eps, shape, a, b);
    });
}

#[allow(clippy::too_many_arguments)]
pub(in super::super) fn backward(
    cpu: &mut Cpu,
    dqkv: &mut CpuTensor,
    dweights: [&mut CpuTensor; 2],
    dout: &CpuTensor,
    qkv: &CpuTensor,
    stats: &CpuTensor,
    weights: [&CpuTensor; 2],
    shape: &AttentionShape,
    groups: &[usize],
) {
    let rows = assert_lengths("head_norm_backward", qkv, stats, weights, shape);
    assert_groups("head_norm_backward", groups, rows);
    for (len, name) in [(dqkv.len(), "dqkv"), (dout.len(), "dout")] {
        assert_eq!(len, qkv.len(), "values of {name}");
    }
    let [dq_weight, dk_weight] = dweights.map(CpuTensor::f32s_mut);
    assert_eq!([dq_weight.len(), dk_weight.len()], [shape.head_dim; 2], "values of the gains' gradients");

    let (level, dqkv, dout, qkv) = (cpu.options.level, dqkv.sink(), dout.values(), qkv.values());
    let (stats, weights) = (stats.f32s(), weights.map(CpuTensor::f32s));
    let (width, heads) = (shape.qkv_width(), normed_heads(shape));
    let work = |rows: Range<usize>, sums: &mut [f32], [a, b, c]: [&mut [f32]; 3]| {
        let (start, len) = (rows.start * width, rows.len() * width);
        // SAFETY: every row is handed out once.
        let mut dqkv = unsafe { dqkv.part(start, len) };
        let (dout, qkv) = (dout.part(start, len), qkv.part(start, len));
        let stats = &stats[rows.start * heads..rows.end * heads];
        norm_backward_rows(level, &mut dqkv, sums, dout, qkv, stats, weights, shape, a, b, c);
    };
    sum_partials(cpu, groups, [2 * shape.head_dim, width], work, |sums| {
        add_slice(level, dq_weight, &sums[..shape.head_dim]);
        add_slice(level, dk_weight, &sums[shape.head_dim..]);
    });
}

multiversion! {
    fn norm_rows(
        out: &mut ValuesMut<'_>,
        stats: &mut [f32],
        qkv: Values<'_>,
        weights: [&[f32]; 2],
        eps: f32,
        shape: &AttentionShape,
        scratch: &mut [f32],
        scratch_qkv: &mut [f32],
    ) {
        let (width, heads, head_dim) = (shape.qkv_width(), normed_heads(shape), shape.head_dim);
        for (r, stats) in stats.chunks_exact_mut(heads).enumerate() {
            let x = qkv.read(r * width, width, scratch_qkv);
            let out = out.overwrite(r * width, width, scratch);
            let pairs = out.values.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim));
            for (head, (rstd, (out, x))) in stats.iter_mut().zip(pairs).enumerate() {
                *rstd = norm_row(out, x, weights[usize::from(head >= shape.n_head)], eps);
            }
            out.values[heads * head_dim..].copy_from_slice(&x[heads * head_dim..]);
            out.store();
        }
    }

    /// `sums` gets the rows' share of the gradients of the queries' gain, then of the keys'.
    fn norm_backward_rows(
        dqkv: &mut ValuesMut<'_>,
        sums: &mut [f32],
        dout: Values<'_>,
        qkv: Values<'_>,
        stats: &[f32],
        weights: [&[f32]; 2],
        shape: &AttentionShape,
        scratch: &mut [f32],
        scratch_dout: &mut [f32],
        scratch_qkv: &mut [f32],
    ) {
        let (width, heads, head_dim) = (shape.qkv_width(), normed_heads(shape), shape.head_dim);
        for (r, stats) in stats.chunks_exact(heads).enumerate() {
            let dout = dout.read(r * width, width, scratch_dout);
            let x = qkv.read(r * width, width, scratch_qkv);
            let dx = dqkv.overwrite(r * width, width, scratch);
            let pairs = dout.chunks_exact(head_dim).zip(x.chunks_exact(head_dim));
            let triples = dx.values.chunks_exact_mut(head_dim).zip(pairs);
            for (head, (rstd, (dx, (dout, x)))) in stats.iter().zip(triples).enumerate() {
                let part = usize::from(head >= shape.n_head);
                let dweight = &mut sums[part * head_dim..][..head_dim];
                norm_backward_row(dx, dweight, dout, x, *rstd, weights[part], |dx, value| *dx = value);
            }
            dx.values[heads * head_dim..].copy_from_slice(&dout[heads * head_dim..]);
            dx.store();
        }
    }
}

/// Rows of `qkv`.
fn assert_lengths(
    operation: &str,
    qkv: &CpuTensor,
    stats: &CpuTensor,
    weights: [&CpuTensor; 2],
    shape: &AttentionShape,
) -> usize {
    shape.assert_valid(operation);
    let rows = assert_rows(qkv, shape.qkv_width());
    assert_eq!(stats.len(), rows * normed_heads(shape), "values of stats");
    assert_eq!(weights.map(CpuTensor::len), [shape.head_dim; 2], "values of the gains");
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{for_every_cpu, random, tensor};

    #[test]
    fn bits_depend_on_neither_threads_nor_level() {
        const ROWS: usize = 150;
        // Heads that fill no vector.
        let shape = AttentionShape { n_head: 6, n_kv_head: 2, head_dim: 20, scale: 1.0, window: None };
        for_every_cpu(|cpu| {
            let qkv = random(cpu, 1, ROWS * shape.qkv_width());
            let [q_weight, k_weight] = [2, 3].map(|seed| tensor(cpu, seed, shape.head_dim));
            let weights = [&q_weight, &k_weight];
            let (mut out, mut stats) = (cpu.activation(qkv.len()), cpu.zeros(ROWS * normed_heads(&shape)));
            forward(cpu, &mut out, &mut stats, &qkv, weights, 1e-5, &shape);
            let mut dqkv = cpu.activation(qkv.len());
            let [mut dq_weight, mut dk_weight] = [(); 2].map(|()| cpu.zeros(shape.head_dim));
            let dweights = [&mut dq_weight, &mut dk_weight];
            backward(cpu, &mut dqkv, dweights, &out, &qkv, &stats, weights, &shape, &[70, 80]);
            vec![out, stats, dqkv, dq_weight, dk_weight]
        });
    }
}
