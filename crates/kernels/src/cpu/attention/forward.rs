//! Forward: a running maximum, a running sum and a running output a row (Dao et al. 2022).

use super::super::gemm::{Factor, Kernel, Part};
use super::super::level::{LANES, Level, multiversion, sum_lanes};
use super::super::math::exp;
use super::super::pointwise::Mask;
use super::super::pool::Disjoint;
use super::super::scratch::Buffer;
use super::super::tensor::{Sink, Values};
use super::super::{Cpu, CpuTensor};
use super::{
    BLOCK, DROPOUT_COLUMNS, KeyBlock, Matrix, Task, assert_shape, block_of, block_range, column_words,
    for_each_part, gather, pack_columns, pack_rows, row_words, task,
};
use crate::{AttentionShape, Dropout};
use std::ops::Range;

pub(in super::super) fn forward(
    cpu: &mut Cpu,
    out: &mut CpuTensor,
    lse: &mut CpuTensor,
    qkv: &CpuTensor,
    lens: &[usize],
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) {
    assert_shape(shape);
    let rows: usize = lens.iter().sum();
    assert_eq!(out.len(), rows * shape.q_width(), "values of out");
    assert_eq!(lse.len(), rows * shape.n_head, "values of lse");
    assert_eq!(qkv.len(), rows * shape.qkv_width(), "values of qkv");
    let mask = mask(shape, dropout);
    let (kernel, level, head_dim) = (cpu.kernel, cpu.options.level, shape.head_dim);
    let (out, lse, values) = (out.sink(), Disjoint::new(lse.f32s_mut()), qkv.values());

    let tasks = lens.len() * shape.n_kv_head;
    // Few tasks are split: each part takes every so many blocks of rows and packs the keys again.
    let threads = cpu.pool.threads();
    let parts = if tasks >= 2 * threads { 1 } else { (4 * threads).div_ceil(tasks.max(1)) };
    cpu.pool.run(tasks * parts, &|chunk, scratch| {
        let (task, part) = (task(shape, lens, chunk / parts), chunk % parts);
        let blocks = task.rows().div_ceil(BLOCK);
        if part >= blocks {
            return;
        }
        let [packed_keys, packed_values, attend_buffers @ ..] = &mut scratch.buffers;
        let start = task.first_row * shape.qkv_width() + task.key_column();
        let keys = Matrix { values, start, stride: shape.qkv_width() };
        let values_matrix = Matrix { start: start + shape.kv_width(), ..keys };
        let packed_keys = packed_keys.words(column_words(kernel, task.positions, head_dim));
        let packed_values = packed_values.words(row_words(kernel, task.positions, head_dim));
        pack_columns(kernel, packed_keys, keys, task.positions, head_dim);
        pack_rows(kernel, packed_values, values_matrix, task.positions, head_dim);
        let key_block = |b| KeyBlock {
            positions: block_range(b, task.positions),
            keys: block_of(packed_keys, kernel.right_words(head_dim, BLOCK), b),
            values: block_of(packed_values, kernel.right_words(BLOCK, head_dim), b),
        };
        for b in (part..blocks).step_by(parts) {
            let rows = b * BLOCK..task.rows().min((b + 1) * BLOCK);
            attend((kernel, level), task, rows, values, key_block, mask, (out, Some(lse)), attend_buffers);
        }
    });
}

/// The dropout of probabilities.
pub(super) fn mask(shape: &AttentionShape, dropout: Option<&Dropout>) -> Option<Mask> {
    dropout
        .filter(|dropout| dropout.p > 0.0)
        .map(|dropout| Mask::new(dropout, (shape.n_head * DROPOUT_COLUMNS) as u64))
}

/// Attention of at most [`BLOCK`] rows over all the keys that they see.
#[allow(clippy::too_many_arguments)]
pub(super) fn attend<'k>(
    (kernel, level): (Kernel, Level),
    task: Task<'_>,
    rows: Range<usize>,
    qkv: Values<'_>,
    key_block: impl Fn(usize) -> KeyBlock<'k>,
    mask: Option<Mask>,
    (out, lse): (Sink<'_>, Option<Disjoint<'_, f32>>),
    buffers: &mut [Buffer],
) {
    let (d, m) = (task.shape.head_dim, rows.len());
    let [queries, left, scores, sums, probabilities, ..] = buffers else { panic!("too few buffers") };
    let queries = queries.floats(m * d);
    gather(level, queries, qkv, task.shape.qkv_width(), task, rows.clone());
    let left = left.words(kernel.left_words(m, d));
    kernel.pack_left(left, Factor::along_k(Values::F32(queries), d), m, d);
    let scores = scores.floats(m * BLOCK);
    let (max, rest) = sums.floats(m * (2 + d)).split_at_mut(m);
    let (sum, sums) = rest.split_at_mut(m);
    max.fill(f32::NEG_INFINITY);
    sum.fill(0.0);
    sums.fill(0.0);
    for b in task.blocks(&rows) {
        let KeyBlock { positions: block, keys, values } = key_block(b);
        let n = block.len();
        for_each_part(kernel, task, &rows, &block, |rows, seen| {
            let part = Part { rows, cols: seen, k: 0..d };
            kernel.multiply_part(scores, BLOCK, left, keys, (m, n, d), part, false);
        });
        softmax(level, scores, sums, max, sum, task, rows.clone(), block.clone(), mask);
        let probabilities = probabilities.words(kernel.left_words(m, n));
        kernel.pack_left(probabilities, Factor::along_k(Values::F32(scores), BLOCK), m, n);
        for_each_part(kernel, task, &rows, &block, |rows, seen| {
            let part = Part { rows, cols: 0..d, k: seen };
            kernel.multiply_part(sums, d, probabilities, values, (m, d, n), part, true);
        });
    }
    finish(level, out, lse, sums, max, sum, task, rows, queries);
}

multiversion! {
    /// Scores become probabilities, as yet relative to the running maximum; what was summed under an older maximum
    /// is scaled to the new one.
    fn softmax(
        scores: &mut [f32],
        sums: &mut [f32],
        max: &mut [f32],
        sum: &mut [f32],
        task: Task<'_>,
        rows: Range<usize>,
        block: Range<usize>,
        mask: Option<Mask>,
    ) {
        let sums = sums.chunks_exact_mut(task.shape.head_dim);
        let state = max.iter_mut().zip(sum).zip(sums);
        for ((scores, r), ((max, sum), sums)) in scores.chunks_exact_mut(BLOCK).zip(rows).zip(state) {
            let seen = task.seen_in(&(r..r + 1), &block);
            let vectors = seen.start / LANES..seen.end.div_ceil(LANES);
            if seen.is_empty() {
                scores.fill(0.0);
                continue;
            }
            scores[..seen.start].fill(f32::NEG_INFINITY);
            scores[seen.end..vectors.end * LANES].fill(f32::NEG_INFINITY);
            let (all, _) = scores.as_chunks_mut::<LANES>();
            let new_max = scale_and_max(&mut all[vectors.clone()], task.shape.scale, *max);
            let (shrink, block_sum) = (exp(*max - new_max), exp_and_sum(&mut all[vectors.clone()], new_max));
            (*max, *sum) = (new_max, *sum * shrink + block_sum);
            if shrink != 1.0 {
                sums.iter_mut().for_each(|sum| *sum *= shrink);
            }
            scores[..vectors.start * LANES].fill(0.0);
            scores[vectors.end * LANES..].fill(0.0);
            if let Some(mask) = mask {
                let index = task.query(r) * DROPOUT_COLUMNS + block.start;
                for (c, p) in scores.iter_mut().enumerate() {
                    *p *= mask.factor((index + c) as u64);
                }
            }
        }
    }

    /// Divides by the softmax's denominator and stores.
    fn finish(
        out: Sink<'_>,
        lse: Option<Disjoint<'_, f32>>,
        sums: &[f32],
        max: &[f32],
        sum: &[f32],
        task: Task<'_>,
        rows: Range<usize>,
        scratch: &mut [f32],
    ) {
        let head_dim = task.shape.head_dim;
        let state = max.iter().zip(sum).zip(sums.chunks_exact(head_dim));
        for (r, ((max, sum), sums)) in rows.zip(state) {
            let factor = 1.0 / sum;
            let scale = |out: &mut [f32]| {
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = sum * factor;
                }
            };
            // SAFETY: a task's outputs are its own, and so are its logarithms.
            unsafe {
                out.write(task.offset(r, task.shape.q_width()), head_dim, scratch, scale);
                if let Some(lse) = lse {
                    lse.slice(task.query(r), 1)[0] = max + sum.ln();
                }
            }
        }
    }
}

/// Multiplies by `scale` and returns the largest, or `max`. NaN is passed over: it shows in [`exp_and_sum`].
#[inline(always)]
fn scale_and_max(scores: &mut [[f32; LANES]], scale: f32, max: f32) -> f32 {
    let mut lanes = [max; LANES];
    for scores in scores {
        for (lane, score) in lanes.iter_mut().zip(scores) {
            *score *= scale;
            *lane = if *score > *lane { *score } else { *lane };
        }
    }
    lanes.into_iter().fold(max, |max, lane| if lane > max { lane } else { max })
}

/// Replaces scores by `exp(score - max)` and returns their sum.
#[inline(always)]
fn exp_and_sum(scores: &mut [[f32; LANES]], max: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for scores in scores {
        for (lane, score) in lanes.iter_mut().zip(scores) {
            *score = exp(*score - max);
            *lane += *score;
        }
    }
    sum_lanes(lanes)
}
