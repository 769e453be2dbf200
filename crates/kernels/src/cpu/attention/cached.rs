//! Attention with a cache of keys and values.
//!
//! A slot of the cache is, head by head, `capacity × head_dim` values. Where the precision allows it, whole blocks of
//! keys are kept there as the packed factors that products read, so that a step packs its own keys only. Otherwise,
//! and in a last block that is not whole, rows are kept as they are and packed for every use.

use super::super::bf16::narrow;
use super::super::gemm::{Kernel, UNIT};
use super::super::level::Level;
use super::super::scratch::Buffer;
use super::super::tensor::{Sink, Values};
use super::super::{Cpu, CpuTensor};
use super::forward::attend;
use super::{
    KEYS, KeyBlock, Matrix, ROWS, Task, assert_shape, block_of, block_range, column_words, pack_columns,
    pack_rows, row_words,
};
use crate::{AttentionShape, CacheSpan};
use std::ops::Range;

#[allow(clippy::too_many_arguments)]
pub(in super::super) fn cached(
    cpu: &mut Cpu,
    out: &mut CpuTensor,
    keys: &mut CpuTensor,
    values: &mut CpuTensor,
    qkv: &CpuTensor,
    spans: &[CacheSpan],
    capacity: usize,
    shape: &AttentionShape,
) {
    assert_shape(shape);
    let rows: usize = spans.iter().map(|span| span.len).sum();
    assert_eq!(out.len(), rows * shape.q_width(), "values of out");
    assert_eq!(qkv.len(), rows * shape.qkv_width(), "values of qkv");
    assert_eq!(keys.len(), values.len(), "values of the caches");
    for (i, span) in spans.iter().enumerate() {
        assert!(span.start + span.len <= capacity, "{span:?} does not fit a cache of {capacity} positions");
        assert!((span.slot + 1) * capacity * shape.kv_width() <= keys.len(), "{span:?}: no such slot");
        assert!(spans[..i].iter().all(|other| other.slot != span.slot), "{span:?}: two spans in one slot");
    }
    let (kernel, level, head_dim) = (cpu.kernel, cpu.options.level, shape.head_dim);
    let direct = kernel.packs_as_stored(keys.values()) && head_dim.is_multiple_of(UNIT);
    let whole = if direct { capacity / KEYS * KEYS } else { 0 };
    let (out, qkv, keys, values) = (out.sink(), qkv.values(), keys.sink(), values.sink());
    cpu.pool.run(spans.len() * shape.n_kv_head, &|chunk, scratch| {
        let (i, kv_head) = (chunk / shape.n_kv_head, chunk % shape.n_kv_head);
        let CacheSpan { slot, start: first_position, len: positions } = spans[i];
        let first_row = spans[..i].iter().map(|span| span.len).sum();
        let task = Task { shape, first_row, first_position, positions, kv_head };
        let start = (slot * shape.n_kv_head + kv_head) * capacity * head_dim;
        // SAFETY: a head of a slot belongs to one chunk, because no two spans share a slot.
        let [keys, values] =
            unsafe { [keys, values].map(|sink| Memory::new(sink, start, capacity * head_dim)) };
        let cache = Cache { kernel, whole, head_dim, keys, values };
        run((kernel, level), task, cache, qkv, out, &mut scratch.buffers);
    });
}

/// Appends a task's new keys and values and attends to all that are there.
fn run(
    (kernel, level): (Kernel, Level),
    task: Task<'_>,
    mut cache: Cache<'_>,
    qkv: Values<'_>,
    out: Sink<'_>,
    buffers: &mut [Buffer],
) {
    let (head_dim, whole) = (cache.head_dim, cache.whole);
    let [row, packed_keys, packed_values, attend_buffers @ ..] = buffers else { panic!("too few buffers") };
    let (key, value) = row.floats(2 * head_dim).split_at_mut(head_dim);
    for i in 0..task.positions {
        let start = (task.first_row + i) * task.shape.qkv_width() + task.key_column();
        let key = qkv.read(start, head_dim, key);
        let value = qkv.read(start + task.shape.kv_width(), head_dim, value);
        cache.store(task.first_position + i, key, value);
    }
    let rest = (task.first_position + task.positions).saturating_sub(whole);
    let packed_keys = packed_keys.words(column_words(kernel, rest, head_dim));
    let packed_values = packed_values.words(row_words(kernel, rest, head_dim));
    let matrix = |values| Matrix { values, start: whole * head_dim, stride: head_dim };
    pack_columns(kernel, packed_keys, matrix(cache.keys.values()), rest, head_dim);
    pack_rows(kernel, packed_values, matrix(cache.values.values()), rest, head_dim);

    let whole_blocks = whole / KEYS;
    let key_block = |b: usize| {
        if b < whole_blocks {
            let words = cache.block_words(b);
            let (keys, values) = (&cache.keys.words()[words.clone()], &cache.values.words()[words]);
            return KeyBlock { positions: b * KEYS..(b + 1) * KEYS, keys, values };
        }
        let packed = b - whole_blocks;
        let positions = block_range(packed, rest);
        KeyBlock {
            positions: whole + positions.start..whole + positions.end,
            keys: block_of(packed_keys, kernel.right_words(head_dim, KEYS), packed),
            values: block_of(packed_values, kernel.right_words(KEYS, head_dim), packed),
        }
    };
    for start in (0..task.rows()).step_by(ROWS) {
        let rows = start..task.rows().min(start + ROWS);
        attend((kernel, level), task, rows, qkv, key_block, None, (out, None), attend_buffers);
    }
}

/// The keys and the values of one head of one slot.
struct Cache<'a> {
    kernel: Kernel,
    /// Positions that are kept packed: whole blocks.
    whole: usize,
    head_dim: usize,
    keys: Memory<'a>,
    values: Memory<'a>,
}

impl Cache<'_> {
    /// Where block `b` lies among the words.
    fn block_words(&self, b: usize) -> Range<usize> {
        let words = self.kernel.right_words(self.head_dim, KEYS);
        b * words..(b + 1) * words
    }

    fn store(&mut self, position: usize, key: &[f32], value: &[f32]) {
        if position < self.whole {
            let words = self.block_words(position / KEYS);
            let keys = &mut self.keys.words_mut()[words.clone()];
            self.kernel.put_column(keys, (self.head_dim, KEYS), position % KEYS, key);
            let values = &mut self.values.words_mut()[words];
            self.kernel.put_row(values, (KEYS, self.head_dim), position % KEYS, value);
        } else {
            self.keys.write(position * self.head_dim, key);
            self.values.write(position * self.head_dim, value);
        }
    }
}

/// Part of a tensor's memory, as numbers or as the words of packed factors.
enum Memory<'a> {
    F32(&'a mut [f32]),
    Bf16(&'a mut [u16]),
}

impl<'a> Memory<'a> {
    /// # Safety
    ///
    /// While it lives, nothing else touches these `len` values from `start` on.
    unsafe fn new(sink: Sink<'a>, start: usize, len: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            match sink {
                Sink::F32(values) => Self::F32(values.slice(start, len)),
                Sink::Bf16(values) => Self::Bf16(values.slice(start, len)),
            }
        }
    }

    fn values(&self) -> Values<'_> {
        match self {
            Self::F32(values) => Values::F32(values),
            Self::Bf16(values) => Values::Bf16(values),
        }
    }

    /// From the first whole word on; a head's memory begins with one where whole blocks are kept packed.
    fn words(&self) -> &[u32] {
        // SAFETY: any bits are a `u32`.
        unsafe {
            match self {
                Self::F32(values) => values.align_to().1,
                Self::Bf16(values) => values.align_to().1,
            }
        }
    }

    /// Mutable [`words`](Self::words).
    fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: any bits are a `u32`, an `f32`, or two `u16`.
        unsafe {
            match self {
                Self::F32(values) => values.align_to_mut().1,
                Self::Bf16(values) => values.align_to_mut().1,
            }
        }
    }

    fn write(&mut self, start: usize, x: &[f32]) {
        match self {
            Self::F32(values) => values[start..start + x.len()].copy_from_slice(x),
            Self::Bf16(values) => narrow(&mut values[start..start + x.len()], x),
        }
    }
}
