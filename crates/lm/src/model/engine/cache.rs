//! The pass of an engine: new rows over the keys and values of those before them.

use crate::model::block::{self, Attend, BlockActivations, Place, attention, norm};
use crate::model::gpt::angles;
use crate::model::{Config, Weights};
use kernels::{Backend, CacheSpan, LinearShape};
use std::ops::Range;

/// Keys and values of the sequences that are being continued, and the buffers of a pass that keeps nothing
/// else.
pub struct Cache<B: Backend> {
    keys: Vec<B::Tensor>,
    values: Vec<B::Tensor>,
    capacity: usize,
    ids: PassIds<B>,
    angles: Option<B::Tensor>,
    residual: [B::Tensor; 2],
    block: BlockActivations<B::Tensor>,
    stats: B::Tensor,
    hidden: B::Tensor,
    last: B::Tensor,
    /// Of the rows that were wanted of the last pass, `[wanted, vocab_size]`.
    pub logits: B::Tensor,
}

/// What a pass is told, in the backend's memory.
struct PassIds<B: Backend> {
    tokens: B::Ids,
    positions: B::Ids,
    spans: B::Ids,
    wanted: B::Ids,
    /// What is made on the host before it is uploaded.
    host: Vec<u32>,
}

impl<B: Backend> PassIds<B> {
    fn new(b: &mut B) -> Self {
        let [tokens, positions, spans, wanted] = [(); 4].map(|()| b.ids());
        PassIds { tokens, positions, spans, wanted, host: Vec::new() }
    }

    fn upload(&mut self, b: &mut B, tokens: &[u32], spans: &[CacheSpan], wanted: &[u32]) {
        b.upload_ids(&mut self.tokens, tokens);
        b.upload_ids(&mut self.wanted, wanted);
        self.host.clear();
        self.host.extend(spans.iter().flat_map(|s| s.start as u32..(s.start + s.len) as u32));
        b.upload_ids(&mut self.positions, &self.host);
        self.host.clear();
        self.host.extend(CacheSpan::ids(spans));
        b.upload_ids(&mut self.spans, &self.host);
    }
}

impl<B: Backend> Cache<B> {
    /// Room for `slots` sequences of up to `capacity` positions.
    pub fn new(b: &mut B, c: &Config, slots: usize, capacity: usize) -> Self {
        let size = slots * capacity * c.kv_width();
        Cache {
            keys: (0..c.n_layer).map(|_| b.activation(size)).collect(),
            values: (0..c.n_layer).map(|_| b.activation(size)).collect(),
            capacity,
            ids: PassIds::new(b),
            angles: angles(b, c, capacity),
            residual: [b.zeros(0), b.zeros(0)],
            block: BlockActivations::new(b, c),
            stats: b.zeros(0),
            hidden: b.activation(0),
            last: b.activation(0),
            logits: b.zeros(0),
        }
    }

    /// Gives the slots `into` the first `len` positions of slot `from`.
    pub fn fork(&mut self, b: &mut B, c: &Config, from: usize, into: Range<usize>, len: usize) {
        for (layer, (keys, values)) in self.keys.iter_mut().zip(&mut self.values).enumerate() {
            for cache in [keys, values] {
                b.cache_fork(cache, from, into.clone(), len, self.capacity, &attention::shape(c, layer));
            }
        }
    }
}

/// Appends `tokens` (the rows of `spans`, in order) to their slots and leaves the logits of the rows
/// `wanted` in the cache.
#[allow(clippy::too_many_arguments)]
pub fn forward_cached<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Weights<B::Tensor>,
    cache: &mut Cache<B>,
    tokens: &[u32],
    spans: &[CacheSpan],
    wanted: &[u32],
) {
    let rows = tokens.len();
    assert_eq!(rows, spans.iter().map(|s| s.len).sum::<usize>(), "spans do not add up to the batch's rows");
    let Cache {
        keys,
        values,
        capacity,
        ids,
        angles,
        residual: [x, next],
        block: a,
        stats,
        hidden,
        last,
        logits,
    } = cache;
    a.resize(b, c, rows);
    for tensor in [&mut *x, &mut *next, &mut *hidden] {
        b.resize(tensor, rows * c.d_model);
    }
    b.resize(stats, rows * norm::stats_width(c));
    b.resize(last, wanted.len() * c.d_model);
    b.resize(logits, wanted.len() * c.vocab_size);
    ids.upload(b, tokens, spans, wanted);

    let PassIds { tokens, positions, spans, .. } = &*ids;
    b.embed_forward(x, &w.wte, w.wpe.as_ref(), tokens, positions, c.d_model);
    for (i, block) in w.blocks.iter().enumerate() {
        let attend =
            Attend::Cached { keys: &mut keys[i], values: &mut values[i], spans, capacity: *capacity };
        let place =
            Place { layer: i, positions, angles: angles.as_ref(), dropout: None, groups: &[], learns: false };
        block::forward(b, c, block, a, next, x, attend, &place);
        std::mem::swap(x, next);
    }
    match &w.final_norm {
        Some(final_norm) => norm::forward(b, c, final_norm, hidden, stats, x),
        None => b.copy(hidden, x),
    }
    b.gather_forward(last, hidden, &ids.wanted, c.d_model);
    let shape = LinearShape { rows: wanted.len(), d_in: c.d_model, d_out: c.vocab_size };
    b.linear_forward(logits, last, w.head(), None, shape);
}
