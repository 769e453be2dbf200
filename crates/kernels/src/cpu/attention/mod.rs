//! Causal softmax attention in tiles: the matrix of scores exists in blocks of 64 × 64 only.
//!
//! A [`Task`] is one key/value head of one sequence with all the query heads that read it. Its *rows* are its
//! queries, position by position and, within a position, head by head: so a head more is only a row more.
//!
//! Keys come in [`KeyBlock`]s that begin at multiples of [`KEYS`], whoever asks: a row meets the same blocks
//! in the same order whether its sequence is computed at once or token by token, and blocks in which it sees
//! nothing leave its sums as they are. With the products' sums in order of k, that makes cached and full
//! attention agree in every bit.

mod backward;
mod cached;
mod forward;

pub(super) use backward::backward;
pub(super) use cached::{cached, fork};
pub(super) use forward::forward;

#[cfg(test)]
mod tests;

use super::bf16::widen;
use super::gemm::{Factor, Kernel};
use super::level::{Level, multiversion};
use super::tensor::Values;
use crate::AttentionShape;
use crate::shapes::{DROPOUT_COLUMNS, rows_of, size_of_shape};
use std::ops::Range;

/// Keys of a block.
const KEYS: usize = 128;
/// Rows that meet a block of keys together.
const ROWS: usize = 64;

/// One sequence (or its new positions) and one key/value head.
#[derive(Clone, Copy)]
struct Task<'a> {
    shape: &'a AttentionShape,
    /// Row of the batch where the positions begin.
    first_row: usize,
    /// The first of the positions.
    first_position: usize,
    /// How many there are.
    positions: usize,
    kv_head: usize,
}

impl Task<'_> {
    /// Query heads of a key/value head.
    #[inline(always)]
    fn group(&self) -> usize {
        self.shape.n_head / self.shape.n_kv_head
    }

    /// Number of rows.
    fn rows(&self) -> usize {
        self.positions * self.group()
    }

    /// Where among all the queries of the batch, `[rows, n_head]`, row `r` is.
    #[inline(always)]
    fn query(&self, r: usize) -> usize {
        (self.first_row + r / self.group()) * self.shape.n_head
            + self.kv_head * self.group()
            + r % self.group()
    }

    /// Where in rows of `width` values, which begin with the queries, row `r` begins.
    #[inline(always)]
    fn offset(&self, r: usize, width: usize) -> usize {
        let head = self.kv_head * self.group() + r % self.group();
        (self.first_row + r / self.group()) * width + head * self.shape.head_dim
    }

    /// Where in a row of `qkv` the key is; the value comes `kv_width` later.
    fn key_column(&self) -> usize {
        self.shape.q_width() + self.kv_head * self.shape.head_dim
    }

    /// The positions that row `r` sees.
    #[inline(always)]
    fn seen(&self, r: usize) -> Range<usize> {
        let position = self.first_position + r / self.group();
        self.shape.window.map_or(0, |window| (position + 1).saturating_sub(window))..position + 1
    }

    /// The keys of a block that any of some rows sees, counted from the block's first.
    #[inline(always)]
    fn seen_in(&self, rows: Range<usize>, block: &Range<usize>) -> Range<usize> {
        let (start, end) = (self.seen(rows.start).start, self.seen(rows.end - 1).end);
        let end = end.clamp(block.start, block.end);
        start.clamp(block.start, end) - block.start..end - block.start
    }

    /// Those of `rows` that see any of the positions `keys`, counted from the first of them.
    fn seeing(&self, keys: Range<usize>, rows: &Range<usize>) -> Range<usize> {
        let row_of =
            |position: usize| position.saturating_sub(self.first_position).saturating_mul(self.group());
        let end =
            self.shape.window.map_or(usize::MAX, |window| row_of((keys.end - 1).saturating_add(window)));
        let end = end.clamp(rows.start, rows.end);
        row_of(keys.start).clamp(rows.start, end) - rows.start..end - rows.start
    }

    /// The blocks of keys that any of some rows sees.
    fn blocks(&self, rows: &Range<usize>) -> Range<usize> {
        self.seen(rows.start).start / KEYS..self.seen(rows.end - 1).end.div_ceil(KEYS)
    }
}

/// The tasks of a batch of `sequences`; none where it has no rows.
fn tasks(operation: &str, rows: usize, sequences: usize, shape: &AttentionShape) -> usize {
    if rows == 0 { 0 } else { size_of_shape(operation, &[sequences, shape.n_kv_head]) }
}

/// The tasks of a batch: number `t` is key/value head `t % n_kv_head` of sequence `t / n_kv_head`.
fn task<'a>(shape: &'a AttentionShape, lens: &[u32], t: usize) -> Task<'a> {
    let (sequence, kv_head) = (t / shape.n_kv_head, t % shape.n_kv_head);
    let (first_row, positions) = (rows_of(&lens[..sequence]).sum(), lens[sequence] as usize);
    Task { shape, first_row, first_position: 0, positions, kv_head }
}

/// Into how many parts a task is split, where there are few of them: each part takes every so many blocks of
/// rows and packs the keys again.
fn parts(threads: usize, tasks: usize) -> usize {
    if tasks >= 2 * threads { 1 } else { (4 * threads).div_ceil(tasks.max(1)) }
}

/// The positions of block `b`, of `positions` in all.
fn block_range(b: usize, positions: usize) -> Range<usize> {
    b * KEYS..positions.min((b + 1) * KEYS)
}

/// Some keys and values, packed as right factors: of queries · keysᵀ and of probabilities · values.
struct KeyBlock<'a> {
    positions: Range<usize>,
    keys: &'a [u32],
    values: &'a [u32],
}

/// A matrix in memory: `values[start + row · stride ..]` are its rows.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: Values<'a>,
    start: usize,
    stride: usize,
}

impl<'a> Matrix<'a> {
    /// `width` columns of some rows, as values from the first of them on.
    fn rows(self, rows: &Range<usize>, width: usize) -> Values<'a> {
        let len = if rows.is_empty() { 0 } else { (rows.len() - 1) * self.stride + width };
        self.values.part(self.start + rows.start * self.stride, len)
    }
}

/// Packs block after block of `positions` rows as right factors `[head_dim, keys]`.
fn pack_columns(kernel: Kernel, words: &mut [u32], matrix: Matrix<'_>, positions: usize, head_dim: usize) {
    let block_words = kernel.right_words(head_dim, KEYS);
    for (b, words) in words.chunks_mut(block_words).enumerate() {
        let block = block_range(b, positions);
        let factor = Factor::along_k(matrix.rows(&block, head_dim), matrix.stride);
        kernel.pack_right(words, factor, head_dim, block.len());
    }
}

/// Packs block after block of `positions` rows as right factors `[keys, head_dim]`.
fn pack_rows(kernel: Kernel, words: &mut [u32], matrix: Matrix<'_>, positions: usize, head_dim: usize) {
    let block_words = kernel.right_words(KEYS, head_dim);
    for (b, words) in words.chunks_mut(block_words).enumerate() {
        let block = block_range(b, positions);
        let factor = Factor::across_k(matrix.rows(&block, head_dim), matrix.stride);
        kernel.pack_right(words, factor, block.len(), head_dim);
    }
}

/// Words that [`pack_columns`] fills.
fn column_words(kernel: Kernel, positions: usize, head_dim: usize) -> usize {
    let rest = kernel.right_words(head_dim, positions % KEYS);
    positions / KEYS * kernel.right_words(head_dim, KEYS) + rest
}

/// Words that [`pack_rows`] fills.
fn row_words(kernel: Kernel, positions: usize, head_dim: usize) -> usize {
    let rest = kernel.right_words(positions % KEYS, head_dim);
    positions / KEYS * kernel.right_words(KEYS, head_dim) + rest
}

/// Block `b`'s part of what [`pack_columns`] or [`pack_rows`] filled, with blocks of `block_words`.
fn block_of(words: &[u32], block_words: usize, b: usize) -> &[u32] {
    &words[b * block_words..words.len().min((b + 1) * block_words)]
}

/// A task's rows of `values`, whose rows are `width` long, as a matrix with a stride: in place where there is
/// one head to a key, else copied to `buffer`.
fn head_rows<'a>(
    level: Level,
    buffer: &'a mut [f32],
    values: Values<'a>,
    width: usize,
    task: Task<'_>,
    rows: Range<usize>,
) -> (Values<'a>, usize) {
    let head_dim = task.shape.head_dim;
    if task.group() == 1 {
        return (values.part(task.offset(rows.start, width), (rows.len() - 1) * width + head_dim), width);
    }
    gather(level, buffer, values, width, task, rows);
    (Values::F32(buffer), head_dim)
}

multiversion! {
    /// Copies some of a task's rows out of `values`, whose rows are `width` long.
    fn gather(out: &mut [f32], values: Values<'_>, width: usize, task: Task<'_>, rows: Range<usize>) {
        let head_dim = task.shape.head_dim;
        for (out, r) in out.chunks_exact_mut(head_dim).zip(rows) {
            let start = task.offset(r, width);
            match values {
                Values::F32(values) => out.copy_from_slice(&values[start..start + head_dim]),
                Values::Bf16(values) => widen(out, &values[start..start + head_dim]),
                Values::Blocks(values) => values.unpack(out, start),
            }
        }
    }
}
