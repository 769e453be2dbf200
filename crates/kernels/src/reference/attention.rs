//! Attention, one query at a time.

use super::pointwise::keep;
use super::{F64Tensor, add_scaled, assert_len, dot};
use crate::shapes::{DROPOUT_COLUMNS, assert_spans_fit, rows_of, size_of_shape, total_rows};
use crate::{AttentionShape, CacheSpan, Dropout};
use std::ops::Range;

pub(super) fn forward(
    out: &mut F64Tensor,
    lse: &mut F64Tensor,
    qkv: &F64Tensor,
    lens: &[u32],
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) {
    assert_shapes("attention_forward", out, lse, qkv, lens, shape, dropout);
    for_each_query(lens, shape, |row, head, start, seen| {
        let key = |j| part(shape, &qkv.0, start + j, key_column(shape, head));
        let value = |j| part(shape, &qkv.0, start + j, value_column(shape, head));
        let query = part(shape, &qkv.0, row, head * shape.head_dim);
        let out = &mut out.0[row * shape.q_width() + head * shape.head_dim..][..shape.head_dim];
        lse.0[row * shape.n_head + head] = attend(out, query, key, value, seen, shape.scale, |j| {
            keep_probability(shape, dropout, row, head, j)
        });
    });
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    dqkv: &mut F64Tensor,
    dout: &F64Tensor,
    out: &F64Tensor,
    lse: &F64Tensor,
    qkv: &F64Tensor,
    lens: &[u32],
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) {
    assert_shapes("attention_backward", out, lse, qkv, lens, shape, dropout);
    assert_len(dout, out.0.len(), "dout");
    assert_len(dqkv, qkv.0.len(), "dqkv");
    let (width, scale) = (shape.head_dim, f64::from(shape.scale));
    dqkv.0.fill(0.0);
    for_each_query(lens, shape, |row, head, start, seen| {
        let query_column = head * width;
        let query = part(shape, &qkv.0, row, query_column);
        let dout = &dout.0[row * shape.q_width() + query_column..][..width];
        let out = &out.0[row * shape.q_width() + query_column..][..width];
        // Σⱼ pⱼ · dpⱼ, the term that the softmax subtracts.
        let mean_dp = dot(dout, out);
        for j in seen {
            let (key_column, value_column) = (key_column(shape, head), value_column(shape, head));
            let key = part(shape, &qkv.0, start + j, key_column);
            let value = part(shape, &qkv.0, start + j, value_column);
            let p = (scale * dot(query, key) - lse.0[row * shape.n_head + head]).exp();
            let kept = keep_probability(shape, dropout, row, head, j);
            let dscore = p * (kept * dot(dout, value) - mean_dp);
            add_scaled(part_mut(shape, &mut dqkv.0, row, query_column), dscore * scale, key);
            add_scaled(part_mut(shape, &mut dqkv.0, start + j, key_column), dscore * scale, query);
            add_scaled(part_mut(shape, &mut dqkv.0, start + j, value_column), p * kept, dout);
        }
    });
}

pub(super) fn cached(
    out: &mut F64Tensor,
    keys: &mut F64Tensor,
    values: &mut F64Tensor,
    qkv: &F64Tensor,
    spans: &[u32],
    capacity: usize,
    shape: &AttentionShape,
) {
    let (operation, spans) = ("attention_cached", CacheSpan::of_ids(spans));
    shape.assert_valid(operation);
    let (width, kv_width) = (shape.head_dim, shape.kv_width());
    let rows = total_rows(operation, spans.clone().map(|span| span.len));
    assert_len(out, size_of_shape(operation, &[rows, shape.q_width()]), "out");
    assert_len(qkv, size_of_shape(operation, &[rows, shape.qkv_width()]), "qkv");
    assert_len(values, keys.0.len(), "values");
    assert_spans_fit(operation, spans.clone(), keys.0.len(), capacity, shape);
    let mut row = 0;
    for span in spans {
        for position in span.start..span.start + span.len {
            let at = (span.slot * capacity + position) * kv_width;
            let (k, v) =
                qkv.0[row * shape.qkv_width() + shape.q_width()..][..2 * kv_width].split_at(kv_width);
            keys.0[at..at + kv_width].copy_from_slice(k);
            values.0[at..at + kv_width].copy_from_slice(v);
            for head in 0..shape.n_head {
                let at = |j| (span.slot * capacity + j) * kv_width + kv_head(shape, head) * width;
                let query = part(shape, &qkv.0, row, head * width);
                let out = &mut out.0[row * shape.q_width() + head * width..][..width];
                let key = |j| &keys.0[at(j)..at(j) + width];
                let value = |j| &values.0[at(j)..at(j) + width];
                attend(out, query, key, value, seen(shape, position), shape.scale, |_| 1.0);
            }
            row += 1;
        }
    }
}

/// One query over the keys it sees: `out = Σ softmax(scale · query · key)ⱼ · keepⱼ · valueⱼ`. Returns the
/// logarithm of the softmax's denominator.
fn attend<'a>(
    out: &mut [f64],
    query: &[f64],
    key: impl Fn(usize) -> &'a [f64],
    value: impl Fn(usize) -> &'a [f64],
    seen: Range<usize>,
    scale: f32,
    keep: impl Fn(usize) -> f64,
) -> f64 {
    let scores: Vec<f64> = seen.clone().map(|j| f64::from(scale) * dot(query, key(j))).collect();
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = max + scores.iter().map(|score| (score - max).exp()).sum::<f64>().ln();
    out.fill(0.0);
    for (j, score) in seen.zip(scores) {
        add_scaled(out, (score - lse).exp() * keep(j), value(j));
    }
    lse
}

/// Calls `query(row, head, row of the sequence's start, positions seen)` for every query of the batch.
fn for_each_query(
    lens: &[u32],
    shape: &AttentionShape,
    mut query: impl FnMut(usize, usize, usize, Range<usize>),
) {
    let mut start = 0;
    for len in rows_of(lens) {
        for position in 0..len {
            for head in 0..shape.n_head {
                query(start + position, head, start, seen(shape, position));
            }
        }
        start += len;
    }
}

/// The positions that the query at `position` sees.
fn seen(shape: &AttentionShape, position: usize) -> Range<usize> {
    let first = shape.window.map_or(0, |window| (position + 1).saturating_sub(window));
    first..position + 1
}

fn kv_head(shape: &AttentionShape, head: usize) -> usize {
    head / (shape.n_head / shape.n_kv_head)
}

/// Where in a row of `qkv` the key of query head `head` begins.
fn key_column(shape: &AttentionShape, head: usize) -> usize {
    shape.q_width() + kv_head(shape, head) * shape.head_dim
}

fn value_column(shape: &AttentionShape, head: usize) -> usize {
    key_column(shape, head) + shape.kv_width()
}

/// The head's worth of values that begins at `column` of a row of `qkv`.
fn part<'a>(shape: &AttentionShape, qkv: &'a [f64], row: usize, column: usize) -> &'a [f64] {
    &qkv[row * shape.qkv_width() + column..][..shape.head_dim]
}

fn part_mut<'a>(shape: &AttentionShape, qkv: &'a mut [f64], row: usize, column: usize) -> &'a mut [f64] {
    &mut qkv[row * shape.qkv_width() + column..][..shape.head_dim]
}

/// What dropout multiplies a probability by.
fn keep_probability(
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
    row: usize,
    head: usize,
    position: usize,
) -> f64 {
    let column = head * DROPOUT_COLUMNS + position;
    dropout.map_or(1.0, |dropout| keep(dropout, shape.n_head * DROPOUT_COLUMNS, row, column))
}

fn assert_shapes(
    operation: &str,
    out: &F64Tensor,
    lse: &F64Tensor,
    qkv: &F64Tensor,
    lens: &[u32],
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) {
    shape.assert_valid(operation);
    let rows = total_rows(operation, rows_of(lens));
    assert_len(out, size_of_shape(operation, &[rows, shape.q_width()]), "out");
    assert_len(lse, size_of_shape(operation, &[rows, shape.n_head]), "lse");
    assert_len(qkv, size_of_shape(operation, &[rows, shape.qkv_width()]), "qkv");
    if dropout.is_some() {
        // Every probability has a number.
        size_of_shape(operation, &[rows, shape.n_head, DROPOUT_COLUMNS]);
    }
}
