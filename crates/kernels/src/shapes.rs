//! Shapes and settings of operations, and what every backend asserts of them before it looks at memory.

use std::ops::Range;

/// A target that asks for nothing: its log-probability is 0 and has no gradient.
pub const NO_TARGET: u32 = u32::MAX;

/// Key positions per row and head that the numbering of attention dropout has room for.
pub const DROPOUT_COLUMNS: usize = 1 << 20;

/// How many values `shape` has: the product of its sizes.
///
/// Every operation asks this before it looks at memory. A product that wraps around can be the length of a
/// tensor that is far too short, and every index that is computed from the same sizes would then lie outside
/// of it.
///
/// # Panics
///
/// In the name of `operation`, if the product does not fit a `usize`.
pub fn size_of_shape(operation: &str, shape: &[usize]) -> usize {
    let product = shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    product.unwrap_or_else(|| panic!("{operation}: {shape:?} values are more than any memory has"))
}

/// The rows of a batch of sequences. Panics in the name of `operation` if there are more than a `usize`
/// counts.
pub fn total_rows(operation: &str, lens: impl Iterator<Item = usize> + Clone) -> usize {
    let sum = lens.clone().try_fold(0usize, |sum, len| sum.checked_add(len));
    sum.unwrap_or_else(|| panic!("{operation}: sequences of {:?} rows", lens.collect::<Vec<_>>()))
}

/// Panics in the name of `operation` unless groups of these lengths are `rows` rows.
pub fn assert_groups(operation: &str, groups: &[usize], rows: usize) {
    let grouped = total_rows(operation, groups.iter().copied());
    assert!(grouped == rows, "{operation}: {grouped} rows in groups, of {rows}");
}

/// Panics in the name of `operation` unless every one of `rows` is among the whole rows of `width` in a table
/// of `len` values.
pub fn assert_rows_exist(operation: &str, rows: &[u32], len: usize, width: usize) {
    assert!(width > 0, "{operation}: rows without values");
    let (known, highest) = (len / width, rows.iter().copied().max());
    if let Some(row) = highest {
        assert!((row as usize) < known, "{operation}: row {row} of {known}");
    }
}

/// Makes room for `more` results at the end of a list, and gives it to be written.
pub(crate) fn append(list: &mut Vec<f64>, more: usize) -> &mut [f64] {
    let len = list.len();
    list.resize(len + more, 0.0);
    &mut list[len..]
}

/// Lengths as numbers of rows.
pub fn rows_of(lens: &[u32]) -> impl Iterator<Item = usize> + Clone {
    lens.iter().map(|&len| len as usize)
}

/// Panics in the name of `operation` unless `spans` cover `capacity` positions at most, each in a slot of its
/// own, in caches of `len` values.
pub fn assert_spans_fit(
    operation: &str,
    spans: impl Iterator<Item = CacheSpan> + Clone,
    len: usize,
    capacity: usize,
    shape: &AttentionShape,
) {
    for (i, span) in spans.clone().enumerate() {
        let end = span.start.checked_add(span.len);
        assert!(
            end.is_some_and(|end| end <= capacity),
            "{operation}: {span:?} in a cache of {capacity} positions"
        );
        assert_slot_exists(operation, span.slot, len, capacity, shape);
        let alone = spans.clone().take(i).all(|other| other.slot != span.slot);
        assert!(alone, "{operation}: {span:?}: two spans in one slot");
    }
}

/// Panics unless the first `len` of `capacity` positions can be copied from one slot of a cache of
/// `cache_len` values to others.
pub fn assert_fork_fits(
    cache_len: usize,
    from: usize,
    into: &Range<usize>,
    len: usize,
    capacity: usize,
    shape: &AttentionShape,
) {
    shape.assert_valid("cache_fork");
    let positions = len <= capacity && !into.contains(&from);
    assert!(positions, "cache_fork: {len} of {capacity} positions, {from} to {into:?}");
    for slot in into.clone().next_back().into_iter().chain([from]) {
        assert_slot_exists("cache_fork", slot, cache_len, capacity, shape);
    }
}

/// Panics in the name of `operation` unless caches of `len` values have the slot.
fn assert_slot_exists(operation: &str, slot: usize, len: usize, capacity: usize, shape: &AttentionShape) {
    let slot_len = size_of_shape(operation, &[capacity, shape.n_kv_head, shape.head_dim]);
    // Slots without positions take no memory.
    if let Some(slots) = len.checked_div(slot_len) {
        assert!(slot < slots, "{operation}: slot {slot} of {slots}");
    }
}

/// `rows` rows of `d_in` values in, `d_out` values out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Number of rows.
    pub rows: usize,
    /// Values of an input row.
    pub d_in: usize,
    /// Values of an output row.
    pub d_out: usize,
}

/// Shape and masking of an attention layer.
///
/// A row of `qkv` holds `n_head` queries, then `n_kv_head` keys, then `n_kv_head` values of `head_dim` each.
/// Query head `h` reads key/value head `h / (n_head / n_kv_head)` (grouped-query attention, Ainslie et al.
/// 2023).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub n_head: usize,
    /// Key and value heads; divides `n_head`.
    pub n_kv_head: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Factor on the scores, usually 1/√head_dim.
    pub scale: f32,
    /// With `Some(w)` position `i` sees positions `i-w+1 ..= i` only (the banded layers of GPT-3); else `0
    /// ..= i`.
    pub window: Option<usize>,
}

/// Widths panic where no memory could hold such a row.
impl AttentionShape {
    /// Values of a row of queries, and of a row of the output.
    #[inline]
    pub fn q_width(&self) -> usize {
        self.width(Some(self.n_head))
    }
    /// Values of a row of keys, and of a row of values.
    #[inline]
    pub fn kv_width(&self) -> usize {
        self.width(Some(self.n_kv_head))
    }
    /// Values of a row of `qkv`.
    #[inline]
    pub fn qkv_width(&self) -> usize {
        self.width(self.qkv_heads())
    }

    /// Panics in the name of `operation` if there is no such layer, or none whose rows fit a memory.
    pub fn assert_valid(&self, operation: &str) {
        let Self { n_head, n_kv_head, head_dim, window, .. } = *self;
        let heads = head_dim > 0 && n_kv_head > 0 && n_head.is_multiple_of(n_kv_head);
        assert!(heads, "{operation}: {self:?} has no such heads");
        assert_ne!(window, Some(0), "{operation}: a window of no positions");
        let width = self.qkv_heads().and_then(|heads| heads.checked_mul(head_dim));
        assert!(width.is_some(), "{operation}: a row of {self:?} is larger than any memory");
    }

    fn qkv_heads(&self) -> Option<usize> {
        self.n_kv_head.checked_mul(2)?.checked_add(self.n_head)
    }

    #[inline]
    fn width(&self, heads: Option<usize>) -> usize {
        let width = heads.and_then(|heads| heads.checked_mul(self.head_dim));
        width.unwrap_or_else(|| panic!("a row of {self:?} is larger than any memory"))
    }
}

/// `len` new rows of the sequence in cache slot `slot`, the first of them at position `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSpan {
    /// Which sequence of the cache.
    pub slot: usize,
    /// Positions that the slot holds already.
    pub start: usize,
    /// Rows to append.
    pub len: usize,
}

impl CacheSpan {
    /// Spans as [`attention_cached`](crate::Backend::attention_cached) takes them: slot, start and length, one
    /// span after another.
    pub fn ids(spans: &[Self]) -> impl Iterator<Item = u32> {
        let id = |x| u32::try_from(x).expect("slots and positions of a cache are less than 2³²");
        spans.iter().flat_map(move |span| [span.slot, span.start, span.len].map(id))
    }

    /// The spans of such ids.
    pub fn of_ids(ids: &[u32]) -> impl ExactSizeIterator<Item = Self> + Clone {
        let (spans, rest) = ids.as_chunks::<3>();
        assert!(rest.is_empty(), "a span is three ids: {ids:?}");
        spans.iter().map(|span| {
            let [slot, start, len] = span.map(|id| id as usize);
            Self { slot, start, len }
        })
    }
}

/// Shape of the language-model head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadShape {
    /// Number of rows.
    pub rows: usize,
    /// Values of a hidden row.
    pub d_model: usize,
    /// Rows of the head's matrix.
    pub vocab_size: usize,
    /// Logits are divided by it before the softmax; 1 for a plain language model.
    pub temperature: f32,
    /// What the square of the softmax's logarithmic denominator `z` costs beside the cross entropy, in
    /// [`head_backward`](crate::Backend::head_backward) alone; 0 for nothing.
    pub z_loss: f32,
}

impl HeadShape {
    /// That of a plain language model.
    pub const fn new(rows: usize, d_model: usize, vocab_size: usize) -> Self {
        Self { rows, d_model, vocab_size, temperature: 1.0, z_loss: 0.0 }
    }
}

/// Shape of two language-model heads with one vocabulary, of which the first learns from the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DistilShape {
    /// The student's head; its temperature is the teacher's as well.
    pub student: HeadShape,
    /// Values of a hidden row of the teacher.
    pub teacher_d_model: usize,
    /// β of the divergence, from 0 to 1.
    pub beta: f32,
}

impl DistilShape {
    /// # Panics
    ///
    /// For `operation`, where a head is empty, its sizes wrap around, or a setting is out of its range.
    pub(crate) fn check(&self, operation: &str) {
        let &DistilShape { student, teacher_d_model, beta } = self;
        let HeadShape { rows, d_model, vocab_size, temperature, z_loss } = student;
        for width in [d_model, teacher_d_model] {
            size_of_shape(operation, &[rows, width]);
            size_of_shape(operation, &[vocab_size, width]);
        }
        assert!(vocab_size > 0 && d_model > 0 && teacher_d_model > 0, "{operation}: an empty head");
        assert!(temperature > 0.0, "{operation}: temperature {temperature}");
        assert!((0.0..=1.0).contains(&beta), "{operation}: β {beta}");
        assert!(z_loss == 0.0, "{operation}: z_loss {z_loss} is the cross entropy's");
    }
}

/// Shape of a language-model head that learns from what was kept of a teacher's distributions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredShape {
    /// The student's head.
    pub student: HeadShape,
    /// Tokens of each row of which the teacher's log-probability is known.
    pub k: usize,
    /// β of the divergence, from 0 to 1.
    pub beta: f32,
}

impl StoredShape {
    /// # Panics
    ///
    /// For `operation`, where lists have other lengths, or a setting is out of its range.
    pub(crate) fn check(&self, operation: &str, tokens: &[u32], logprobs: &[f64]) {
        let &StoredShape { student: HeadShape { rows, vocab_size, temperature, .. }, k, beta } = self;
        let known = size_of_shape(operation, &[rows, k]);
        assert!((1..=vocab_size).contains(&k), "{operation}: {k} of {vocab_size} tokens");
        assert!(
            tokens.len() == known && logprobs.len() == known,
            "{operation}: not {k} tokens of {rows} rows"
        );
        assert!(
            tokens.iter().all(|&token| (token as usize) < vocab_size),
            "{operation}: a token that is none"
        );
        assert!(temperature > 0.0, "{operation}: temperature {temperature}");
        assert!((0.0..=1.0).contains(&beta), "{operation}: β {beta}");
    }
}

/// Dropout (Srivastava et al. 2014): each value becomes 0 with probability `p`, else is divided by `1 - p`.
///
/// The decision for column `c` of row `r` is [`rng::uniform`](crate::rng::uniform)`(seed, stream, (first_row
/// + r) * width + c) < p`, so that the backward pass asks again instead of reading a mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of a zero; with 0 the operation does nothing.
    pub p: f32,
    /// The run's seed, mixed with the step.
    pub seed: u64,
    /// Which place in the model.
    pub stream: u64,
    /// Index of the batch's first row in the whole step's batch.
    pub first_row: u64,
}

/// Settings of one AdamW update (Loshchilov & Hutter 2019, decoupled weight decay).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to √v̂, after the bias correction, as PyTorch does.
    pub eps: f32,
    /// Whether it is added before the correction instead, as TensorFlow 1 does (ε̂ of Kingma & Ba 2015; what
    /// it changes in PPO: Huang et al. 2024).
    pub eps_hat: bool,
    /// Gradients whose norm is larger are scaled down to it; 0 leaves them as they are.
    pub grad_clip: f32,
}

/// A learned tensor, and what an update of it needs.
#[derive(Debug)]
pub struct Parameter<'a, T> {
    /// What is learned.
    pub weight: &'a mut T,
    /// The first moment.
    pub m: &'a mut T,
    /// The second moment.
    pub v: &'a mut T,
    /// The gradient.
    pub grad: &'a T,
    /// Decoupled weight decay; 0 for biases and norms.
    pub weight_decay: f32,
}

/// What an update does, besides its settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// Number of this update, from 1: the bias corrections are `1 - betaᵗ`.
    pub(crate) t: f64,
    /// What is added to √v̂.
    pub(crate) eps: f32,
    /// Factor on the gradient before everything else: the clipping.
    pub(crate) grad_scale: f32,
}

impl AdamW {
    /// Decides about an update, as [`Backend::adamw`](crate::Backend::adamw) says: counts it and notes it,
    /// where there is one.
    pub(crate) fn begin(
        &self,
        updates: &mut [f64],
        norms: &mut Vec<f64>,
        finite: &[&Vec<f64>],
    ) -> Option<Step> {
        let [updates] = updates else { panic!("adamw: {updates:?} is not one number of updates") };
        let norm = *norms.last().expect("adamw: a norm");
        let sound = finite.iter().copied().flatten().chain([&norm]).all(|x| x.is_finite());
        norms.push(f64::from(u8::from(sound)));
        if !sound {
            return None;
        }
        *updates += 1.0;
        let t = *updates;
        Some(Step { t, eps: self.eps_at(t), grad_scale: self.grad_scale(norm) })
    }

    /// The factor on gradients of this norm: what clipping leaves of them.
    pub fn grad_scale(&self, norm: f64) -> f32 {
        let clip = f64::from(self.grad_clip);
        if clip > 0.0 && norm > clip { (clip / norm) as f32 } else { 1.0 }
    }

    /// √(v̂) + ε̂/√(1 − β₂ᵗ) = (√v + ε̂)/√(1 − β₂ᵗ).
    fn eps_at(&self, t: f64) -> f32 {
        if !self.eps_hat {
            return self.eps;
        }
        let correction = 1.0 - f64::from(self.beta2).powf(t);
        (f64::from(self.eps) / correction.sqrt()) as f32
    }
}
