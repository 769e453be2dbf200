//! Forward: a running maximum, a running sum and a running output a row (Dao et al. 2022).

use super::super::gemm::{Factor, Kernel, Part};
use super::super::level::{LANES, Level, multiversion, reduce_lanes, sum_lanes};
use super::super::math::exp2;
use super::super::pointwise::Mask;
use super::super::pool::Disjoint;
use super::super::scratch::Buffer;
use super::super::tensor::{Sink, Values};
use super::super::{Cpu, CpuTensor};
use super::{
    DROPOUT_COLUMNS, KEYS, KeyBlock, Matrix, ROWS, Task, block_of, block_range, column_words, head_rows,
    pack_columns, pack_rows, parts, row_words, task, tasks,
};
use crate::shapes::{rows_of, size_of_shape, total_rows};
use crate::{AttentionShape, Dropout};
use std::f32::consts::{LN_2, LOG2_E};
use std::ops::Range;

pub(in super::super) fn forward(
    cpu: &mut Cpu,
    out: &mut CpuTensor,
    lse: &mut CpuTensor,
    qkv: &CpuTensor,
    lens: &[u32],
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) {
    let rows = assert_lengths("attention_forward", [out, qkv], lse, lens, shape);
    let mask = mask("attention_forward", rows, shape, dropout);
    let (kernel, level, head_dim) = (cpu.kernel, cpu.options.level, shape.head_dim);
    let (out, lse, values) = (out.sink(), Disjoint::new(lse.f32s_mut()), qkv.values());

    let tasks = tasks("attention_forward", rows, lens.len(), shape);
    let parts = parts(cpu.pool.threads(), tasks);
    cpu.pool.run(tasks * parts, &|chunk, scratch| {
        let (task, part) = (task(shape, lens, chunk / parts), chunk % parts);
        let blocks = task.rows().div_ceil(ROWS);
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
            keys: block_of(packed_keys, kernel.right_words(head_dim, KEYS), b),
            values: block_of(packed_values, kernel.right_words(KEYS, head_dim), b),
        };
        for b in (part..blocks).step_by(parts) {
            let rows = b * ROWS..task.rows().min((b + 1) * ROWS);
            // SAFETY: every task's rows are handed out once.
            unsafe {
                attend(
                    (kernel, level),
                    task,
                    rows,
                    values,
                    key_block,
                    mask,
                    (&out, Some(&lse)),
                    attend_buffers,
                )
            };
        }
    });
}

/// Number of rows, once the lengths of `out`, `qkv` and `lse` are those of the shape.
pub(super) fn assert_lengths(
    operation: &str,
    [out, qkv]: [&CpuTensor; 2],
    lse: &CpuTensor,
    lens: &[u32],
    shape: &AttentionShape,
) -> usize {
    shape.assert_valid(operation);
    let rows = total_rows(operation, rows_of(lens));
    assert_eq!(out.len(), size_of_shape(operation, &[rows, shape.q_width()]), "{operation}: values of out");
    assert_eq!(qkv.len(), size_of_shape(operation, &[rows, shape.qkv_width()]), "{operation}: values of qkv");
    assert_eq!(lse.len(), size_of_shape(operation, &[rows, shape.n_head]), "{operation}: values of lse");
    rows
}

/// The dropout of probabilities.
pub(super) fn mask(
    operation: &str,
    rows: usize,
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) -> Option<Mask> {
    let dropout = dropout.filter(|dropout| dropout.p > 0.0)?;
    // Every probability has a number.
    size_of_shape(operation, &[rows, shape.n_head, DROPOUT_COLUMNS]);
    Some(Mask::new(dropout, shape.n_head as u64 * DROPOUT_COLUMNS as u64))
}

/// Attention of at most [`ROWS`] rows over all the keys that they see.
///
/// # Safety
///
/// No other thread touches what belongs to these rows in `out` and `lse` meanwhile.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn attend<'k>(
    (kernel, level): (Kernel, Level),
    task: Task<'_>,
    rows: Range<usize>,
    qkv: Values<'_>,
    key_block: impl Fn(usize) -> KeyBlock<'k>,
    mask: Option<Mask>,
    (out, lse): (&Sink<'_>, Option<&Disjoint<'_, f32>>),
    buffers: &mut [Buffer],
) {
    let (d, m) = (task.shape.head_dim, rows.len());
    let [queries, left, scores, sums, probabilities, ..] = buffers else { panic!("too few buffers") };
    let left = left.words(kernel.left_words(m, d));
    let (queries, stride) =
        head_rows(level, queries.floats(m * d), qkv, task.shape.qkv_width(), task, rows.clone());
    kernel.pack_left(left, Factor::along_k(queries, stride), m, d);
    let scores = scores.floats(m * KEYS);
    let (max, rest) = sums.floats(m * (2 + d)).split_at_mut(m);
    let (sum, sums) = rest.split_at_mut(m);
    max.fill(f32::NEG_INFINITY);
    sum.fill(0.0);
    sums.fill(0.0);
    for b in task.blocks(&rows) {
        let KeyBlock { positions: block, keys, values } = key_block(b);
        let n = block.len();
        let seen =
            |panel: Range<usize>| task.seen_in(rows.start + panel.start..rows.start + panel.end, &block);
        kernel.multiply(scores, KEYS, left, keys, (m, n, d), false, |panel| Part {
            cols: seen(panel),
            k: 0..d,
        });
        softmax(level, scores, sums, max, sum, task, rows.clone(), block.clone(), mask);
        let probabilities = probabilities.words(kernel.left_words(m, n));
        kernel.pack_left(probabilities, Factor::along_k(Values::F32(scores), KEYS), m, n);
        kernel.multiply(sums, d, probabilities, values, (m, d, n), true, |panel| Part {
            cols: 0..d,
            k: seen(panel),
        });
    }
    // SAFETY: the caller's promise.
    unsafe { finish(level, out, lse, sums, max, sum, task, rows) };
}

multiversion! {
    /// Scores become probabilities, as yet relative to the running maximum; what was summed under an older
    /// maximum is scaled to the new one. Maxima are those of `scale · log₂e · score`: powers of two are
    /// quicker.
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
        let scale = task.shape.scale * LOG2_E;
        let (scores, _) = scores.as_chunks_mut::<KEYS>();
        // Step by step for all the rows: what one row's steps wait for, others do not.
        let mut new_max = [f32::NEG_INFINITY; ROWS];
        let mut vectors = [0; ROWS];
        for (i, (scores, r)) in scores.iter_mut().zip(rows.clone()).enumerate() {
            let seen = task.seen_in(r..r + 1, &block);
            vectors[i] = seen.end.div_ceil(LANES);
            scores[..seen.start].fill(f32::NEG_INFINITY);
            scores[seen.end..vectors[i] * LANES].fill(f32::NEG_INFINITY);
            new_max[i] = scaled_max(&scores.as_chunks().0[..vectors[i]], scale, max[i]);
        }
        let mut shrink = [1.0; ROWS];
        for ((shrink, old), new) in shrink.iter_mut().zip(max).zip(new_max) {
            *shrink = if new == *old { 1.0 } else { exp2(*old - new) };
            *old = new;
        }
        for (i, (scores, sum)) in scores.iter_mut().zip(sum).enumerate() {
            let (seen, unseen) = scores.as_chunks_mut().0.split_at_mut(vectors[i]);
            // A row that has seen nothing yet must not subtract infinities.
            let max = if new_max[i] == f32::NEG_INFINITY { 0.0 } else { new_max[i] };
            *sum = *sum * shrink[i] + exp_and_sum(seen, scale, max);
            unseen.fill([0.0; LANES]);
        }
        for (sums, shrink) in sums.chunks_exact_mut(task.shape.head_dim).zip(shrink) {
            if shrink != 1.0 {
                sums.iter_mut().for_each(|sum| *sum *= shrink);
            }
        }
        if let Some(mask) = mask {
            for (scores, r) in scores.iter_mut().zip(rows) {
                let index = task.query(r) * DROPOUT_COLUMNS + block.start;
                for (c, p) in scores.iter_mut().enumerate() {
                    *p *= mask.factor((index + c) as u64);
                }
            }
        }
    }

    /// Divides by the softmax's denominator and stores.
    ///
    /// # Safety
    ///
    /// As [`attend`].
    unsafe fn finish(
        out: &Sink<'_>,
        lse: Option<&Disjoint<'_, f32>>,
        sums: &mut [f32],
        max: &[f32],
        sum: &[f32],
        task: Task<'_>,
        rows: Range<usize>,
    ) {
        let head_dim = task.shape.head_dim;
        let state = max.iter().zip(sum).zip(sums.chunks_exact_mut(head_dim));
        for (r, ((max, sum), sums)) in rows.zip(state) {
            let factor = 1.0 / sum;
            sums.iter_mut().for_each(|sum| *sum *= factor);
            // SAFETY: the caller's promise: these are the row's.
            unsafe {
                out.put(task.offset(r, task.shape.q_width()), sums);
                if let Some(lse) = lse {
                    lse.slice(task.query(r), 1)[0] = (max + sum.log2()) * LN_2;
                }
            }
        }
    }
}

/// The largest `score · scale`, or `max`. NaN is passed over: it shows in [`exp_and_sum`].
#[inline(always)]
fn scaled_max(scores: &[[f32; LANES]], scale: f32, max: f32) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [max; LANES];
    for scores in scores {
        for (lane, score) in lanes.iter_mut().zip(scores) {
            *lane = larger(*lane, score * scale);
        }
    }
    reduce_lanes(lanes, larger)
}

/// Scores become `2^(score · scale - max)`; returns their sum.
#[inline(always)]
fn exp_and_sum(scores: &mut [[f32; LANES]], scale: f32, max: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    for scores in scores {
        for (lane, score) in lanes.iter_mut().zip(scores) {
            *score = exp2(*score * scale - max);
            *lane += *score;
        }
    }
    sum_lanes(lanes)
}
