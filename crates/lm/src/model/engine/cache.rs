//! The pass of an engine: new rows over the keys and values of those before them.

use crate::model::block::{self, Attend, BlockActivations, Place, Scratch, attention, norm};
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
    scratch: Scratch<B::Tensor>,
    stats: B::Tensor,
    hidden: B::Tensor,
    last: B::Tensor,
    told: ToldRows<B>,
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

/// Rows of the last pass that are told of.
struct ToldRows<B: Backend> {
    ids: B::Ids,
    hidden: B::Tensor,
    values: B::Tensor,
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
            scratch: Scratch::new(b),
            stats: b.zeros(0),
            hidden: b.activation(0),
            last: b.activation(0),
            told: ToldRows { ids: b.ids(), hidden: b.activation(0), values: b.zeros(0) },
            logits: b.zeros(0),
        }
    }

    /// The logits of rows of the last pass, `[rows, vocab_size]`.
    pub(super) fn logits_of(
        &mut self,
        b: &mut B,
        c: &Config,
        w: &Weights<B::Tensor>,
        rows: Range<usize>,
    ) -> &B::Tensor {
        self.through(b, c, w.head(), None, c.vocab_size, rows)
    }

    /// The scores of rows of the last pass, `[rows, n_label]`, of a model that scores.
    pub(super) fn scores_of(
        &mut self,
        b: &mut B,
        c: &Config,
        w: &Weights<B::Tensor>,
        rows: Range<usize>,
    ) -> &B::Tensor {
        let (head, labels) = w.score.as_ref().zip(c.n_label).expect("a model that scores");
        self.through(b, c, &head.weight, head.bias.as_ref(), labels, rows)
    }

    /// The hidden state of rows of the last pass, `[rows, d_model]`.
    pub(super) fn hidden_of(&mut self, b: &mut B, c: &Config, rows: Range<usize>) -> &B::Tensor {
        self.gather(b, c, rows);
        &self.told.hidden
    }

    fn gather(&mut self, b: &mut B, c: &Config, rows: Range<usize>) {
        let ToldRows { ids, hidden, .. } = &mut self.told;
        b.resize(hidden, rows.len() * c.d_model);
        b.upload_ids(ids, &rows.map(|row| row as u32).collect::<Vec<_>>());
        b.gather_forward(hidden, &self.hidden, ids, c.d_model);
    }

    fn through(
        &mut self,
        b: &mut B,
        c: &Config,
        head: &B::Tensor,
        bias: Option<&B::Tensor>,
        width: usize,
        rows: Range<usize>,
    ) -> &B::Tensor {
        let shape = LinearShape { rows: rows.len(), d_in: c.d_model, d_out: width };
        self.gather(b, c, rows);
        let ToldRows { hidden, values, .. } = &mut self.told;
        b.resize(values, shape.rows * width);
        b.linear_forward(values, hidden, head, bias, shape);
        values
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
        scratch,
        stats,
        hidden,
        last,
        logits,
        told: _,
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
        let place = Place {
            layer: i,
            positions,
            angles: angles.as_ref(),
            dropout: None,
            groups: &[],
            learns: false,
            adapter: w.adapter.as_ref().map(|adapter| &adapter.blocks[i]),
            adapter_dropout: None,
            again: false,
        };
        block::forward(b, c, block, a, next, scratch, x, attend, &place);
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
