//! Attention: in tiles on tensor cores where values and widths allow it, else a warp a query.

use super::{assert_len, kind, launch};
use crate::memory::{Buffer, Plain};
use crate::{Cuda, CudaIds, CudaTensor};
use kernels::shapes::{
    DROPOUT_COLUMNS, assert_fork_fits, assert_spans_fit, rows_of, size_of_shape, total_rows,
};
use kernels::{AttentionShape, CacheSpan, Dropout};
use std::ops::Range;

/// Queries, or keys, of a tile: of the quick kernels for heads of up to 64 values, twice as many.
const TILE: usize = 64;
/// What the general kernels have registers for.
const WIDEST: usize = 256;

/// As the kernels take it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Heads {
    n_head: i32,
    n_kv_head: i32,
    width: i32,
    window: i32,
    scale: f32,
}

/// As the kernels take it.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Drop {
    seed: u64,
    stream: u64,
    first_row: u64,
    p: f32,
    on: i32,
}

// SAFETY: five numbers of four bytes.
unsafe impl Plain for Heads {}
// SAFETY: three numbers of eight bytes, then two of four.
unsafe impl Plain for Drop {}

impl Drop {
    fn of(dropout: Option<&Dropout>) -> Self {
        dropout.filter(|dropout| dropout.p > 0.0).map_or(Drop::default(), |dropout| {
            let &Dropout { p, seed, stream, first_row } = dropout;
            Drop { seed, stream, first_row, p, on: 1 }
        })
    }
}

impl Heads {
    fn of(operation: &str, shape: &AttentionShape) -> Self {
        let &AttentionShape { n_head, n_kv_head, head_dim, scale, window } = shape;
        assert!(head_dim <= WIDEST, "{operation}: heads of {head_dim} values; on a GPU up to {WIDEST}");
        // A window that sees everything is none.
        let window = window.and_then(|window| i32::try_from(window).ok()).unwrap_or(0);
        let [n_head, n_kv_head, width] = [n_head, n_kv_head, head_dim].map(super::int);
        Heads { n_head, n_kv_head, width, window, scale }
    }
}

/// Bytes of shared memory of `rows` rows in tiles of this width.
fn shared_bytes(width: usize, rows: usize) -> u32 {
    (2 * rows * (width + 8)) as u32
}

/// The quick kernels for heads of up to so many values, and what they take.
struct Quick {
    width: usize,
    /// Tiles of 64 queries, or keys, that a block owns.
    own: usize,
    /// Rows of the tiles that gradients walk.
    walked: usize,
    forward: &'static str,
    backward_queries: &'static str,
    backward_keys: &'static str,
}

const QUICK: [Quick; 2] = [
    Quick {
        width: 64,
        own: 2,
        walked: 32,
        forward: "flash_forward_64",
        backward_queries: "flash_backward_queries_64",
        backward_keys: "flash_backward_keys_64",
    },
    Quick {
        width: 128,
        own: 1,
        walked: 32,
        forward: "flash_forward_128",
        backward_queries: "flash_backward_queries_128",
        backward_keys: "flash_backward_keys_128",
    },
];

/// Which of them is for heads of this width; none where values are copied 16 bytes at a time and these are
/// not such pieces, or registers do not hold them.
fn quick(qkv: &CudaTensor, shape: &AttentionShape) -> Option<&'static Quick> {
    let pieces = qkv.bf16() && shape.head_dim.is_multiple_of(8);
    QUICK.iter().find(|quick| pieces && shape.head_dim <= quick.width)
}

/// The batch's tiles of `own` times 64 rows, those with most to see first, and how many.
fn tiles<'a>(cuda: &Cuda, lens: &'a CudaIds, own: usize) -> &'a (Buffer, usize) {
    lens.tiles[own - 1].get_or_init(|| {
        let (mut list, mut start) = (Vec::new(), 0u32);
        for &len in lens.host() {
            list.extend((0..len).step_by(own * TILE).map(|first| [start, len, first, 0]));
            start += len;
        }
        list.sort_by_key(|&[start, _, first, _]| (std::cmp::Reverse(first), start));
        (Buffer::of(cuda.device(), list.as_flattened()), list.len())
    })
}

/// Panics unless lengths are those of a batch; returns its rows.
fn assert_shapes(
    operation: &str,
    out: &CudaTensor,
    lse: &CudaTensor,
    qkv: &CudaTensor,
    lens: &CudaIds,
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) -> usize {
    shape.assert_valid(operation);
    let rows = total_rows(operation, rows_of(lens.host()));
    assert_len(out, size_of_shape(operation, &[rows, shape.q_width()]), "out");
    assert_len(lse, size_of_shape(operation, &[rows, shape.n_head]), "lse");
    assert_len(qkv, size_of_shape(operation, &[rows, shape.qkv_width()]), "qkv");
    if dropout.is_some() {
        // Every probability has a number.
        size_of_shape(operation, &[rows, shape.n_head, DROPOUT_COLUMNS]);
    }
    rows
}

pub(crate) fn forward(
    cuda: &Cuda,
    out: &mut CudaTensor,
    lse: &mut CudaTensor,
    qkv: &CudaTensor,
    lens: &CudaIds,
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) {
    assert_shapes("attention_forward", out, lse, qkv, lens, shape, dropout);
    let (heads, drop) = (Heads::of("attention_forward", shape), Drop::of(dropout));
    assert!(out.bf16() == qkv.bf16(), "attention_forward: values of two kinds");
    let quick = quick(qkv, shape);
    let (tiles, count) = tiles(cuda, lens, quick.map_or(1, |quick| quick.own));
    let (grid, list) = ([*count, shape.n_head, 1], tiles.at());
    let (to, of_rows, from) = (out.at_mut(), lse.at_mut(), qkv.at());
    let Some(quick) = quick else {
        launch!(cuda, "attention_forward", grid, 128, 0; to, of_rows, from, kind(qkv), list, heads, drop);
        return;
    };
    // Its own tile, and twice two of 64 keys and values.
    let shared = shared_bytes(quick.width, (quick.own + 4) * TILE);
    launch!(cuda, quick.forward, grid, 128, shared; to, of_rows, from, list, heads, drop);
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn backward(
    cuda: &Cuda,
    dqkv: &mut CudaTensor,
    dout: &CudaTensor,
    out: &CudaTensor,
    lse: &CudaTensor,
    qkv: &CudaTensor,
    lens: &CudaIds,
    shape: &AttentionShape,
    dropout: Option<&Dropout>,
) {
    let rows = assert_shapes("attention_backward", out, lse, qkv, lens, shape, dropout);
    assert_len(dout, out.len(), "dout");
    assert_len(dqkv, qkv.len(), "dqkv");
    let same = [&*dqkv, dout, out].iter().all(|x| x.bf16() == qkv.bf16());
    assert!(same, "attention_backward: values of two kinds");
    let (heads, drop) = (Heads::of("attention_backward", shape), Drop::of(dropout));
    let delta = cuda.scratch(rows * shape.n_head * 4);
    let (by, of_rows, from, means) = (dout.at(), lse.at(), qkv.at(), delta.at());
    let (pairs, bf) = (rows * shape.n_head, kind(qkv));
    let result = out.at();
    launch!(cuda, "attention_delta", [pairs.div_ceil(4), 1, 1], 128, 0;
        means, by, result, bf, super::int(pairs), heads.width);
    let quick = quick(qkv, shape);
    let (tiles, count) = tiles(cuda, lens, quick.map_or(1, |quick| quick.own));
    let (to, list) = (dqkv.at_mut(), tiles.at());
    let (of_queries, of_keys) = ([*count, shape.n_head, 1], [*count, shape.n_kv_head, 1]);
    let Some(quick) = quick else {
        for (kernel, grid) in
            [("attention_backward_queries", of_queries), ("attention_backward_keys", of_keys)]
        {
            launch!(cuda, kernel, grid, 128, 0; to, by, of_rows, means, from, bf, list, heads, drop);
        }
        return;
    };
    // Two own tiles, and twice two of those that are walked, whose rows have two numbers each.
    let shared = shared_bytes(quick.width, 2 * quick.own * TILE + 4 * quick.walked);
    launch!(cuda, quick.backward_queries, of_queries, 128, shared;
        to, by, of_rows, means, from, list, heads, drop);
    launch!(cuda, quick.backward_keys, of_keys, 128, shared + 16 * quick.walked as u32;
        to, by, of_rows, means, from, list, heads, drop);
}

#[allow(clippy::too_many_arguments)]
pub(crate) fn cached(
    cuda: &Cuda,
    out: &mut CudaTensor,
    keys: &mut CudaTensor,
    values: &mut CudaTensor,
    qkv: &CudaTensor,
    ids: &CudaIds,
    capacity: usize,
    shape: &AttentionShape,
) {
    let (operation, spans) = ("attention_cached", CacheSpan::of_ids(ids.host()));
    shape.assert_valid(operation);
    let rows = total_rows(operation, spans.clone().map(|span| span.len));
    assert_len(out, size_of_shape(operation, &[rows, shape.q_width()]), "out");
    assert_len(qkv, size_of_shape(operation, &[rows, shape.qkv_width()]), "qkv");
    assert_len(values, keys.len(), "values");
    assert_spans_fit(operation, spans.clone(), keys.len(), capacity, shape);
    let same = [&*out, keys, values].iter().all(|x| x.bf16() == qkv.bf16());
    assert!(same, "attention_cached: values of two kinds");
    let heads = Heads::of(operation, shape);
    let places = ids.places.get_or_init(|| {
        let place = |span: CacheSpan| {
            (span.start..span.start + span.len).map(move |at| [span.slot as u32, at as u32])
        };
        let places: Vec<[u32; 2]> = spans.flat_map(place).collect();
        Buffer::of(cuda.device(), places.as_flattened())
    });
    let (list, bf, capacity) = (places.at(), kind(qkv), super::int(capacity));
    let (keys, values, from, to) = (keys.at_mut(), values.at_mut(), qkv.at(), out.at_mut());
    launch!(cuda, "cache_write", [rows, 1, 1], 256, 0; keys, values, bf, from, bf, list, capacity, heads);
    launch!(cuda, "attention_cached", [(rows * shape.n_head).div_ceil(4), 1, 1], 128, 0;
        to, keys, values, from, bf, list, super::int(rows), capacity, heads);
}

pub(crate) fn fork(
    cuda: &Cuda,
    cache: &mut CudaTensor,
    from: usize,
    into: Range<usize>,
    len: usize,
    capacity: usize,
    shape: &AttentionShape,
) {
    assert_fork_fits(cache.len(), from, &into, len, capacity, shape);
    let value = if cache.bf16() { 2 } else { 4 };
    let (bytes, slot) = (len * shape.kv_width() * value, capacity * shape.kv_width() * value);
    let at = cache.at_mut();
    for to in into.filter(|_| bytes > 0) {
        // SAFETY: the slots are in the cache and differ.
        unsafe { cuda.device().copy(at + (to * slot) as u64, at + (from * slot) as u64, bytes) };
    }
}
