//! Attention with a cache of keys and values.
//!
//! A slot of the cache is, head by head, `capacity × head_dim` values. Where the precision allows it, whole
//! blocks of keys are kept there as the packed factors that products read, so that a step packs its own keys
//! only. Otherwise, and in a last block that is not whole, rows are kept as they are and packed for every
//! use.

use super::super::gemm::{Kernel, UNIT};
use super::super::level::Level;
use super::super::scratch::{Buffer, Scratch};
use super::super::tensor::{Sink, Values, ValuesMut};
use super::super::{Cpu, CpuTensor};
use super::forward::attend;
use super::{
    KEYS, KeyBlock, Matrix, ROWS, Task, block_of, block_range, column_words, pack_columns, pack_rows, parts,
    row_words, tasks,
};
use crate::shapes::{assert_fork_fits, assert_spans_fit, size_of_shape, total_rows};
use crate::{AttentionShape, CacheSpan};
use std::ops::Range;

#[allow(clippy::too_many_arguments)]
pub(in super::super) fn cached(
    cpu: &mut Cpu,
    out: &mut CpuTensor,
    keys: &mut CpuTensor,
    values: &mut CpuTensor,
    qkv: &CpuTensor,
    spans: &[u32],
    capacity: usize,
    shape: &AttentionShape,
) {
    let operation = "attention_cached";
    shape.assert_valid(operation);
    let spans = CacheSpan::of_ids(spans);
    let rows = total_rows(operation, spans.clone().map(|span| span.len));
    assert_eq!(out.len(), size_of_shape(operation, &[rows, shape.q_width()]), "values of out");
    assert_eq!(qkv.len(), size_of_shape(operation, &[rows, shape.qkv_width()]), "values of qkv");
    assert_eq!(keys.len(), values.len(), "values of the caches");
    assert_spans_fit(operation, spans.clone(), keys.len(), capacity, shape);
    let (kernel, level, head_dim) = (cpu.kernel, cpu.options.level, shape.head_dim);
    let direct = kernel.packs_as_stored(keys.values()) && head_dim.is_multiple_of(UNIT);
    let layout = Layout { kernel, whole: if direct { capacity / KEYS * KEYS } else { 0 }, head_dim };
    let (qkv, out) = (qkv.values(), out.sink());
    // A task, and where its head's part of the caches begins.
    let head_len = capacity * head_dim;
    let task = |t: usize| {
        let (i, kv_head) = (t / shape.n_kv_head, t % shape.n_kv_head);
        let (before, span) = (spans.clone().take(i), spans.clone().nth(i).expect("a task has a span"));
        let CacheSpan { slot, start: first_position, len: positions } = span;
        let first_row = before.map(|span| span.len).sum();
        let task = Task { shape, first_row, first_position, positions, kv_head };
        // The slot exists, so this does not wrap.
        (task, (slot * shape.n_kv_head + kv_head) * head_len)
    };
    let (key_sink, value_sink) = (keys.sink(), values.sink());
    let append = |t: usize, scratch: &mut Scratch| {
        let (task, start) = task(t);
        // SAFETY: no two spans share a slot, hence no two tasks a head of one; nothing is attended to
        // meanwhile.
        let [keys, values] = unsafe { [&key_sink, &value_sink].map(|sink| sink.part(start, head_len)) };
        layout.append(task, keys, values, qkv, &mut scratch.buffers[0]);
    };
    let attend = |t: usize, part, scratch: &mut Scratch| {
        let (task, start) = task(t);
        // SAFETY: what there is of this head has been appended, and nobody writes to it any more.
        let [keys, values] = unsafe { [&key_sink, &value_sink].map(|sink| sink.values(start, head_len)) };
        // SAFETY: every part of a task is handed out once.
        unsafe {
            attend_part((layout, level), task, part, [keys, values], qkv, &out, &mut scratch.buffers);
        }
    };

    let (pool, tasks) = (&mut cpu.pool, tasks(operation, rows, spans.len(), shape));
    let longest = spans.clone().map(|span| span.len).max().unwrap_or(0);
    let row_blocks = (longest * shape.n_head / shape.n_kv_head).div_ceil(ROWS);
    let parts = parts(pool.threads(), tasks).min(row_blocks);
    if parts <= 1 {
        pool.run(tasks, &|t, scratch| {
            append(t, scratch);
            attend(t, (0, 1), scratch);
        });
    } else {
        pool.run(tasks, &append);
        pool.run(tasks * parts, &|chunk, scratch| attend(chunk / parts, (chunk % parts, parts), scratch));
    }
}

/// See [`Backend::cache_fork`](crate::Backend::cache_fork).
pub(in super::super) fn fork(
    cpu: &mut Cpu,
    cache: &mut CpuTensor,
    from: usize,
    into: Range<usize>,
    len: usize,
    capacity: usize,
    shape: &AttentionShape,
) {
    assert_fork_fits(cache.len(), from, &into, len, capacity, shape);
    let (heads, head_len) = (shape.n_kv_head, capacity * shape.head_dim);
    // The positions of a block that is kept packed are interleaved: the whole block goes.
    let used = head_len.min(len.next_multiple_of(KEYS) * shape.head_dim);
    if used == 0 {
        return;
    }
    let sink = cache.sink();
    cpu.pool.run(into.len() * heads, &|t, _| {
        let (slot, head) = (into.start + t / heads, t % heads);
        // SAFETY: tasks write heads of their own, of slots that nobody reads.
        unsafe { sink.copy((from * heads + head) * head_len, (slot * heads + head) * head_len, used) };
    });
}

/// Every so many blocks of a task's rows attend to all that is in their head's part of the caches.
///
/// # Safety
///
/// No other thread touches what belongs to these rows in `out` meanwhile.
unsafe fn attend_part(
    (layout, level): (Layout, Level),
    task: Task<'_>,
    (part, parts): (usize, usize),
    [keys, values]: [Values<'_>; 2],
    qkv: Values<'_>,
    out: &Sink<'_>,
    buffers: &mut [Buffer],
) {
    let Layout { kernel, whole, head_dim } = layout;
    let row_blocks = task.rows().div_ceil(ROWS);
    if part >= row_blocks {
        return;
    }
    let [packed_keys, packed_values, attend_buffers @ ..] = buffers else { panic!("too few buffers") };
    // What is not kept packed, from the first block on that these rows see.
    let seen = task.blocks(&(part * ROWS..task.rows()));
    let first = seen.start.max(whole / KEYS);
    let rest = (task.first_position + task.positions).saturating_sub(first * KEYS);
    let packed_keys = packed_keys.words(column_words(kernel, rest, head_dim));
    let packed_values = packed_values.words(row_words(kernel, rest, head_dim));
    let matrix = |values| Matrix { values, start: first * KEYS * head_dim, stride: head_dim };
    pack_columns(kernel, packed_keys, matrix(keys), rest, head_dim);
    pack_rows(kernel, packed_values, matrix(values), rest, head_dim);

    let (key_words, value_words) = (words(keys), words(values));
    let key_block = |b: usize| {
        if b < first {
            let block = layout.block_words(b);
            let (keys, values) = (&key_words[block.clone()], &value_words[block]);
            return KeyBlock { positions: b * KEYS..(b + 1) * KEYS, keys, values };
        }
        let positions = block_range(b - first, rest);
        KeyBlock {
            positions: first * KEYS + positions.start..first * KEYS + positions.end,
            keys: block_of(packed_keys, kernel.right_words(head_dim, KEYS), b - first),
            values: block_of(packed_values, kernel.right_words(KEYS, head_dim), b - first),
        }
    };
    for block in (part..row_blocks).step_by(parts) {
        let rows = block * ROWS..task.rows().min((block + 1) * ROWS);
        // SAFETY: the caller's promise.
        unsafe { attend((kernel, level), task, rows, qkv, key_block, None, (out, None), attend_buffers) };
    }
}

/// How the keys and the values of a head lie in its part of the caches.
#[derive(Clone, Copy)]
struct Layout {
    kernel: Kernel,
    /// Positions that are kept packed: whole blocks.
    whole: usize,
    head_dim: usize,
}

impl Layout {
    /// Where block `b` lies among the words.
    fn block_words(&self, b: usize) -> Range<usize> {
        let words = self.kernel.right_words(self.head_dim, KEYS);
        b * words..(b + 1) * words
    }

    /// Writes a task's new keys and values.
    fn append(
        &self,
        task: Task<'_>,
        mut keys: ValuesMut<'_>,
        mut values: ValuesMut<'_>,
        qkv: Values<'_>,
        scratch: &mut Buffer,
    ) {
        let Self { kernel, whole, head_dim } = *self;
        let (key, value) = scratch.floats(2 * head_dim).split_at_mut(head_dim);
        for i in 0..task.positions {
            let start = (task.first_row + i) * task.shape.qkv_width() + task.key_column();
            let key = qkv.read(start, head_dim, key);
            let value = qkv.read(start + task.shape.kv_width(), head_dim, value);
            let position = task.first_position + i;
            if position < whole {
                let words = self.block_words(position / KEYS);
                let keys = &mut words_mut(&mut keys)[words.clone()];
                let values = &mut words_mut(&mut values)[words];
                kernel.put_column(keys, (head_dim, KEYS), position % KEYS, key);
                kernel.put_row(values, (KEYS, head_dim), position % KEYS, value);
            } else {
                keys.put(position * head_dim, key);
                values.put(position * head_dim, value);
            }
        }
    }
}

/// The words in a head's memory, from the first whole one on: it begins with one where whole blocks are kept
/// packed.
fn words<'a>(values: Values<'a>) -> &'a [u32] {
    // SAFETY: any bits are a `u32`.
    unsafe {
        match values {
            Values::F32(values) => values.align_to().1,
            Values::Bf16(values) => values.align_to().1,
            Values::Blocks(_) => panic!("only weights are in blocks"),
        }
    }
}

/// Mutable [`words`].
fn words_mut<'a>(values: &'a mut ValuesMut<'_>) -> &'a mut [u32] {
    // SAFETY: any bits are a `u32`, an `f32`, or two `u16`.
    unsafe {
        match values {
            ValuesMut::F32(values) => values.align_to_mut().1,
            ValuesMut::Bf16(values) => values.align_to_mut().1,
        }
    }
}
