//! One function for each operation: the same calls on every backend.

use crate::lab::Error::{Exact, Product};
use crate::lab::{Lab, Sizes};
use kernels::{
    AdamW, AttentionShape, Backend, CacheSpan, Draw, Drawn, Dropout, HeadShape, LinearShape, NO_TARGET,
    Parameter,
};

/// Groups of unequal lengths, of `most` rows at most, some of none.
fn groups(rows: usize, most: usize) -> Vec<usize> {
    let (mut groups, mut left) = (Vec::new(), rows);
    for wanted in [most, most / 2, 1].into_iter().cycle() {
        if left == 0 {
            break;
        }
        groups.push(wanted.min(left));
        left -= wanted.min(left);
    }
    groups
}

pub(crate) fn copy<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let (x, mut out) = (lab.activation(rows * width), lab.activation(rows * width));
    lab.backend.copy(&mut out, &x);
    lab.record("out", &out, Exact);
    let (x, mut out) = (lab.exact(rows * width), lab.exact(rows * width));
    lab.backend.copy(&mut out, &x);
    lab.record("out", &out, Exact);
}

pub(crate) fn resize<B: Backend>(lab: &mut Lab<B>, [before, len, ..]: Sizes) {
    for mut x in [lab.activation(before), lab.exact(before)] {
        lab.backend.resize(&mut x, len);
        let values = lab.noise(len);
        lab.backend.upload(&mut x, &values);
        lab.record("x", &x, Product);
    }
}

pub(crate) fn fill<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    for mut out in [lab.activation(rows * width), lab.exact(rows * width)] {
        lab.backend.fill(&mut out, 1.5);
        lab.record("out", &out, Exact);
    }
}

/// Towards the residual stream, which is exact, and between activations.
pub(crate) fn add<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let len = rows * width;
    let (a, b) = (lab.exact(len), lab.activation(len));
    let mut out = lab.exact(len);
    lab.backend.add(&mut out, &a, &b);
    lab.record("stream", &out, Exact);
    let mut out = lab.activation(len);
    lab.backend.add(&mut out, &b, &b);
    lab.record("activation", &out, Product);
}

pub(crate) fn accumulate<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let (mut sum, x) = (lab.exact(rows * width), lab.activation(rows * width));
    lab.backend.accumulate(&mut sum, &x);
    lab.record("sum", &sum, Exact);
}

pub(crate) fn average<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let (mut mean, x) = (lab.exact(rows * width), lab.exact(rows * width));
    lab.backend.average(&mut mean, &x, 0.992);
    lab.record("mean", &mean, Exact);
}

pub(crate) fn gelu_forward<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let (mut out, x) = (lab.activation(rows * width), lab.activation(rows * width));
    lab.backend.gelu_forward(&mut out, &x);
    lab.record("out", &out, Product);
}

pub(crate) fn gelu_backward<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let [mut dx, dout, x] = [(); 3].map(|()| lab.activation(rows * width));
    lab.backend.gelu_backward(&mut dx, &dout, &x);
    lab.record("dx", &dx, Product);
}

pub(crate) fn swiglu_forward<B: Backend>(lab: &mut Lab<B>, [rows, d_ff, ..]: Sizes) {
    let (mut out, x) = (lab.activation(rows * d_ff), lab.activation(rows * 2 * d_ff));
    lab.backend.swiglu_forward(&mut out, &x, d_ff);
    lab.record("out", &out, Product);
}

pub(crate) fn swiglu_backward<B: Backend>(lab: &mut Lab<B>, [rows, d_ff, ..]: Sizes) {
    let [mut dx, x] = [(); 2].map(|()| lab.activation(rows * 2 * d_ff));
    let dout = lab.activation(rows * d_ff);
    lab.backend.swiglu_backward(&mut dx, &dout, &x, d_ff);
    lab.record("dx", &dx, Product);
}

pub(crate) fn dropout<B: Backend>(lab: &mut Lab<B>, [rows, width, first_row, _]: Sizes) {
    for p in [0.0, 0.1, 0.5] {
        let dropout = Dropout { p, seed: 3, stream: 4, first_row: first_row as u64 };
        let (mut x, mut stream) = (lab.activation(rows * width), lab.exact(rows * width));
        lab.backend.dropout(&mut x, width, &dropout);
        lab.record("x", &x, Product);
        lab.backend.dropout(&mut stream, width, &dropout);
        lab.record("stream", &stream, Exact);
    }
}

pub(crate) fn embed_forward<B: Backend>(lab: &mut Lab<B>, [rows, d_model, vocab_size, seq_len]: Sizes) {
    let (wte, wpe) = (lab.exact(vocab_size * d_model), lab.exact(seq_len * d_model));
    let (tokens, positions) = (lab.indices(rows, vocab_size), lab.indices(rows, seq_len));
    let (tokens, positions) = (lab.ids_of(&tokens), lab.ids_of(&positions));
    for wpe in [None, Some(&wpe)] {
        let mut out = lab.exact(rows * d_model);
        lab.backend.embed_forward(&mut out, &wte, wpe, &tokens, &positions, d_model);
        lab.record("out", &out, Exact);
    }
}

pub(crate) fn embed_backward<B: Backend>(lab: &mut Lab<B>, [rows, d_model, vocab_size, seq_len]: Sizes) {
    let dout = lab.exact(rows * d_model);
    let (tokens, positions) = (lab.indices(rows, vocab_size), lab.indices(rows, seq_len));
    let (tokens, positions) = (lab.ids_of(&tokens), lab.ids_of(&positions));
    for with_positions in [false, true] {
        let (mut dwte, mut dwpe) = (lab.exact(vocab_size * d_model), lab.exact(seq_len * d_model));
        let dwpe_if = with_positions.then_some(&mut dwpe);
        lab.backend.embed_backward(&mut dwte, dwpe_if, &dout, &tokens, &positions, d_model);
        lab.record("dwte", &dwte, Exact);
        lab.record("dwpe", &dwpe, Exact);
    }
}

pub(crate) fn gather_forward<B: Backend>(lab: &mut Lab<B>, [rows, width, rows_of_x, _]: Sizes) {
    let (mut out, x) = (lab.activation(rows * width), lab.activation(rows_of_x * width));
    let rows = lab.indices(rows, rows_of_x);
    let rows = lab.ids_of(&rows);
    lab.backend.gather_forward(&mut out, &x, &rows, width);
    lab.record("out", &out, Product);
}

pub(crate) fn gather_backward<B: Backend>(lab: &mut Lab<B>, [rows, width, rows_of_x, _]: Sizes) {
    let (mut dx, dout) = (lab.exact(rows_of_x * width), lab.activation(rows * width));
    let rows = lab.indices(rows, rows_of_x);
    let rows = lab.ids_of(&rows);
    lab.backend.gather_backward(&mut dx, &dout, &rows, width);
    lab.record("dx", &dx, Exact);
}

pub(crate) fn layer_norm_forward<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let (x, weight, bias) = (lab.exact(rows * width), lab.exact(width), lab.exact(width));
    for bias in [None, Some(&bias)] {
        let (mut out, mut stats) = (lab.activation(rows * width), lab.exact(rows * 2));
        lab.backend.layer_norm_forward(&mut out, &mut stats, &x, &weight, bias, EPS);
        lab.record("out", &out, Product);
        lab.record("stats", &stats, Exact);
    }
}

/// Large enough that a row of one value, whose variance is 0, does not blow rounding errors up.
const EPS: f32 = 1e-2;

pub(crate) fn layer_norm_backward<B: Backend>(lab: &mut Lab<B>, [rows, width, most, _]: Sizes) {
    let (x, weight) = (lab.exact(rows * width), lab.exact(width));
    let (mut out, mut stats) = (lab.activation(rows * width), lab.exact(rows * 2));
    lab.backend.layer_norm_forward(&mut out, &mut stats, &x, &weight, None, EPS);
    let dout = lab.activation(rows * width);
    for with_bias in [false, true] {
        let (mut dx, mut dweight, mut dbias) = (lab.exact(rows * width), lab.exact(width), lab.exact(width));
        let dbias_if = with_bias.then_some(&mut dbias);
        lab.backend.layer_norm_backward(
            &mut dx,
            &mut dweight,
            dbias_if,
            &dout,
            &x,
            &stats,
            &weight,
            &groups(rows, most),
        );
        lab.record("dx", &dx, Exact);
        lab.record("dweight", &dweight, Exact);
        lab.record("dbias", &dbias, Exact);
    }
}

/// Of the residual stream and of what is between operations.
pub(crate) fn rms_norm_forward<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let weight = lab.exact(width);
    for x in [lab.exact(rows * width), lab.activation(rows * width)] {
        let (mut out, mut stats) = (lab.activation(rows * width), lab.exact(rows));
        lab.backend.rms_norm_forward(&mut out, &mut stats, &x, &weight, EPS);
        lab.record("out", &out, Product);
        lab.record("stats", &stats, Exact);
    }
}

pub(crate) fn rms_norm_backward<B: Backend>(lab: &mut Lab<B>, [rows, width, most, _]: Sizes) {
    let (x, weight) = (lab.exact(rows * width), lab.exact(width));
    let (mut out, mut stats) = (lab.activation(rows * width), lab.exact(rows));
    lab.backend.rms_norm_forward(&mut out, &mut stats, &x, &weight, EPS);
    let dout = lab.activation(rows * width);
    let (mut dx, mut dweight) = (lab.exact(rows * width), lab.exact(width));
    lab.backend.rms_norm_backward(&mut dx, &mut dweight, &dout, &x, &stats, &weight, &groups(rows, most));
    lab.record("dx", &dx, Exact);
    lab.record("dweight", &dweight, Exact);
}

pub(crate) fn add_layer_norm_forward<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let (a, b) = (lab.exact(rows * width), lab.activation(rows * width));
    let (weight, bias) = (lab.exact(width), lab.exact(width));
    for bias in [None, Some(&bias)] {
        let (mut sum, mut out) = (lab.exact(rows * width), lab.activation(rows * width));
        let mut stats = lab.exact(rows * 2);
        lab.backend.add_layer_norm_forward(&mut sum, &mut out, &mut stats, &a, &b, &weight, bias, EPS);
        lab.record("sum", &sum, Exact);
        lab.record("out", &out, Product);
        lab.record("stats", &stats, Exact);
    }
}

pub(crate) fn add_rms_norm_forward<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let (a, b, weight) = (lab.exact(rows * width), lab.activation(rows * width), lab.exact(width));
    let (mut sum, mut out) = (lab.exact(rows * width), lab.activation(rows * width));
    let mut stats = lab.exact(rows);
    lab.backend.add_rms_norm_forward(&mut sum, &mut out, &mut stats, &a, &b, &weight, EPS);
    lab.record("sum", &sum, Exact);
    lab.record("out", &out, Product);
    lab.record("stats", &stats, Exact);
}

/// Heads alone and shared, in turn.
fn heads_shape(rows: usize, head_dim: usize) -> AttentionShape {
    let (n_head, n_kv_head) = [(2, 2), (6, 2), (3, 1)][rows % 3];
    AttentionShape { n_head, n_kv_head, head_dim, scale: 1.0, window: None }
}

pub(crate) fn head_norm_forward<B: Backend>(lab: &mut Lab<B>, [rows, head_dim, ..]: Sizes) {
    let shape = heads_shape(rows, head_dim);
    let (qkv, mut out) = (lab.activation(rows * shape.qkv_width()), lab.activation(rows * shape.qkv_width()));
    let (q_weight, k_weight) = (lab.exact(head_dim), lab.exact(head_dim));
    let mut stats = lab.exact(rows * (shape.n_head + shape.n_kv_head));
    lab.backend.head_norm_forward(&mut out, &mut stats, &qkv, &q_weight, &k_weight, EPS, &shape);
    lab.record("out", &out, Product);
    lab.record("stats", &stats, Exact);
}

pub(crate) fn head_norm_backward<B: Backend>(lab: &mut Lab<B>, [rows, head_dim, most, _]: Sizes) {
    let shape = heads_shape(rows, head_dim);
    let [qkv, mut out, mut dqkv] = [(); 3].map(|()| lab.activation(rows * shape.qkv_width()));
    let [q_weight, k_weight, mut dq, mut dk] = [(); 4].map(|()| lab.exact(head_dim));
    let mut stats = lab.exact(rows * (shape.n_head + shape.n_kv_head));
    lab.backend.head_norm_forward(&mut out, &mut stats, &qkv, &q_weight, &k_weight, EPS, &shape);
    // Once for the rows' gradients, once for the gains', which are sums over heads besides rows.
    for terms in [1, rows * shape.n_head] {
        let dout = lab.noise_of_sums(rows * shape.qkv_width(), terms);
        let dout = lab.activation_of(&dout);
        lab.backend.head_norm_backward(
            &mut dqkv,
            &mut dq,
            &mut dk,
            &dout,
            &qkv,
            &stats,
            &q_weight,
            &k_weight,
            &shape,
            &groups(rows, most),
        );
        if terms == 1 {
            lab.record("dqkv", &dqkv, Product);
            [dq, dk] = [(); 2].map(|()| lab.exact(head_dim));
        }
    }
    lab.record("dq_weight", &dq, Exact);
    lab.record("dk_weight", &dk, Exact);
}

type Rope<B> =
    fn(&mut B, &mut <B as Backend>::Tensor, &<B as Backend>::Tensor, &<B as Backend>::Ids, &AttentionShape);

fn rope<B: Backend>(lab: &mut Lab<B>, [rows, half, seq_len, _]: Sizes, rotate: Rope<B>) {
    let shape = heads_shape(rows, 2 * half);
    let (mut qkv, table) = (lab.activation(rows * shape.qkv_width()), lab.exact(seq_len * 2 * half));
    let positions = lab.indices(rows, seq_len);
    let positions = lab.ids_of(&positions);
    rotate(&mut lab.backend, &mut qkv, &table, &positions, &shape);
    lab.record("qkv", &qkv, Product);
}

pub(crate) fn rope_forward<B: Backend>(lab: &mut Lab<B>, sizes: Sizes) {
    rope(lab, sizes, B::rope_forward);
}

pub(crate) fn rope_backward<B: Backend>(lab: &mut Lab<B>, sizes: Sizes) {
    rope(lab, sizes, B::rope_backward);
}

/// Of rows between operations and of rows that are kept exactly, as those after a norm behind the sublayer
/// are.
pub(crate) fn linear_forward<B: Backend>(lab: &mut Lab<B>, [rows, d_in, d_out, _]: Sizes) {
    let (x, exact, bias) = (lab.activation(rows * d_in), lab.exact(rows * d_in), lab.exact(d_out));
    let weight = lab.noise_of_sums(d_out * d_in, d_in);
    let weight = lab.exact_of(&weight);
    for (x, bias) in [(&x, None), (&x, Some(&bias)), (&exact, None)] {
        let mut out = lab.activation(rows * d_out);
        lab.backend.linear_forward(&mut out, x, &weight, bias, LinearShape { rows, d_in, d_out });
        lab.record("out", &out, Product);
    }
}

pub(crate) fn linear_backward_input<B: Backend>(lab: &mut Lab<B>, [rows, d_in, d_out, _]: Sizes) {
    let (mut dx, dout) = (lab.activation(rows * d_in), lab.activation(rows * d_out));
    let weight = lab.noise_of_sums(d_out * d_in, d_out);
    let weight = lab.exact_of(&weight);
    lab.backend.linear_backward_input(&mut dx, &dout, &weight, LinearShape { rows, d_in, d_out });
    lab.record("dx", &dx, Product);
}

pub(crate) fn linear_backward_weight<B: Backend>(lab: &mut Lab<B>, [rows, d_in, d_out, most]: Sizes) {
    let dout = lab.noise_of_sums(rows * d_out, rows);
    let (dout, x, exact) = (lab.activation_of(&dout), lab.activation(rows * d_in), lab.exact(rows * d_in));
    let shape = LinearShape { rows, d_in, d_out };
    for (x, with_bias) in [(&x, false), (&x, true), (&exact, false)] {
        let (mut dweight, mut dbias) = (lab.exact(d_out * d_in), lab.exact(d_out));
        let dbias_if = with_bias.then_some(&mut dbias);
        lab.backend.linear_backward_weight(&mut dweight, dbias_if, &dout, x, shape, &groups(rows, most));
        lab.record("dweight", &dweight, Product);
        lab.record("dbias", &dbias, Exact);
    }
}

pub(crate) fn linear_gelu_forward<B: Backend>(lab: &mut Lab<B>, [rows, d_in, d_out, _]: Sizes) {
    let (x, bias) = (lab.activation(rows * d_in), lab.exact(d_out));
    let weight = lab.noise_of_sums(d_out * d_in, d_in);
    let (weight, shape) = (lab.exact_of(&weight), LinearShape { rows, d_in, d_out });
    for bias in [None, Some(&bias)] {
        let (mut out, mut product) = (lab.activation(rows * d_out), lab.activation(rows * d_out));
        lab.backend.linear_gelu_forward(&mut out, &mut product, &x, &weight, bias, shape);
        lab.record("out", &out, Product);
        lab.record("product", &product, Product);
    }
}

pub(crate) fn linear_gelu_backward_input<B: Backend>(lab: &mut Lab<B>, [rows, d_in, d_out, _]: Sizes) {
    let [mut dx, mut between, x] = [(); 3].map(|()| lab.activation(rows * d_in));
    let dout = lab.activation(rows * d_out);
    let weight = lab.noise_of_sums(d_out * d_in, d_out);
    let (weight, shape) = (lab.exact_of(&weight), LinearShape { rows, d_in, d_out });
    lab.backend.linear_gelu_backward_input(&mut dx, &mut between, &dout, &weight, &x, shape);
    lab.record("dx", &dx, Product);
}

pub(crate) fn linear_add_forward<B: Backend>(lab: &mut Lab<B>, [rows, d_in, d_out, _]: Sizes) {
    let (x, residual, bias) = (lab.activation(rows * d_in), lab.exact(rows * d_out), lab.exact(d_out));
    let weight = lab.noise_of_sums(d_out * d_in, d_in);
    let (weight, shape) = (lab.exact_of(&weight), LinearShape { rows, d_in, d_out });
    for bias in [None, Some(&bias)] {
        let (mut out, mut between) = (lab.exact(rows * d_out), lab.activation(rows * d_out));
        lab.backend.linear_add_forward(&mut out, &mut between, &residual, &x, &weight, bias, shape);
        lab.record("out", &out, Product);
    }
}

/// Heads alone, shared, and shared within a window, in turn; with dropout or without. No model has wider
/// heads.
fn attention_shape(head_dim: usize, [variant, window]: [usize; 2]) -> (AttentionShape, Option<Dropout>) {
    let head_dim = head_dim.min(130);
    let (n_head, n_kv_head, window) = [(3, 3, None), (4, 2, None), (2, 1, Some(window))][variant % 3];
    let scale = 1.0 / (head_dim as f32).sqrt();
    let dropout = Dropout { p: 0.2, seed: 3, stream: 4, first_row: 5 };
    let shape = AttentionShape { n_head, n_kv_head, head_dim, scale, window };
    (shape, variant.is_multiple_of(2).then_some(dropout))
}

pub(crate) fn attention_forward<B: Backend>(lab: &mut Lab<B>, [len, other_len, head_dim, window]: Sizes) {
    let (lens, rows) = ([len, 1, other_len], len + 1 + other_len);
    let lens = lab.ids_of(&lens.map(|len| len as u32));
    let (shape, dropout) = attention_shape(head_dim, [len + head_dim, window]);
    let qkv = lab.activation(rows * shape.qkv_width());
    let (mut out, mut lse) = (lab.activation(rows * shape.q_width()), lab.exact(rows * shape.n_head));
    lab.backend.attention_forward(&mut out, &mut lse, &qkv, &lens, &shape, dropout.as_ref());
    lab.record("out", &out, Product);
    lab.record("lse", &lse, Product);
}

pub(crate) fn attention_backward<B: Backend>(lab: &mut Lab<B>, [len, other_len, head_dim, window]: Sizes) {
    let (lens, rows) = ([len, 1, other_len], len + 1 + other_len);
    let lens = lab.ids_of(&lens.map(|len| len as u32));
    let (shape, dropout) = attention_shape(head_dim, [len + head_dim, window]);
    let dropout = dropout.as_ref();
    let (qkv, dout) = (lab.activation(rows * shape.qkv_width()), lab.activation(rows * shape.q_width()));
    let (mut out, mut lse) = (lab.activation(rows * shape.q_width()), lab.exact(rows * shape.n_head));
    lab.backend.attention_forward(&mut out, &mut lse, &qkv, &lens, &shape, dropout);
    let mut dqkv = lab.activation(rows * shape.qkv_width());
    lab.backend.attention_backward(&mut dqkv, &dout, &out, &lse, &qkv, &lens, &shape, dropout);
    lab.record("dqkv", &dqkv, Product);
}

/// Two sequences at once, then more of each, in the other order.
pub(crate) fn attention_cached<B: Backend>(lab: &mut Lab<B>, [len, other_len, head_dim, window]: Sizes) {
    let (shape, _) = attention_shape(head_dim, [len + head_dim, window]);
    let capacity = len.max(other_len) + 2;
    // What was there before must not matter, not even multiplied by zero.
    let cache = vec![f32::NAN; 3 * capacity * shape.kv_width()];
    let (mut keys, mut values) = (lab.activation_of(&cache), lab.activation_of(&cache));
    let prefill = [CacheSpan { slot: 2, start: 0, len }, CacheSpan { slot: 0, start: 0, len: other_len }];
    let decode = [CacheSpan { slot: 0, start: other_len, len: 1 }, CacheSpan { slot: 2, start: len, len: 2 }];
    for spans in [prefill, decode] {
        let rows: usize = spans.iter().map(|span| span.len).sum();
        let spans = lab.spans_of(&spans);
        let (mut out, qkv) =
            (lab.activation(rows * shape.q_width()), lab.activation(rows * shape.qkv_width()));
        lab.backend.attention_cached(&mut out, &mut keys, &mut values, &qkv, &spans, capacity, &shape);
        lab.record("out", &out, Product);
    }
}

/// A sequence goes on in its own slot and, otherwise, in two others.
pub(crate) fn cache_fork<B: Backend>(lab: &mut Lab<B>, [len, other_len, head_dim, window]: Sizes) {
    let (shape, _) = attention_shape(head_dim, [len + head_dim, window]);
    let capacity = len + other_len;
    let cache = vec![f32::NAN; 3 * capacity * shape.kv_width()];
    let (mut keys, mut values) = (lab.activation_of(&cache), lab.activation_of(&cache));
    let prompt = [CacheSpan { slot: 2, start: 0, len }];
    let on = [2, 0, 1].map(|slot| CacheSpan { slot, start: len, len: if slot == 1 { other_len } else { 1 } });
    for spans in [&prompt[..], &on] {
        let rows: usize = spans.iter().map(|span| span.len).sum();
        let spans = lab.spans_of(spans);
        let (mut out, qkv) =
            (lab.activation(rows * shape.q_width()), lab.activation(rows * shape.qkv_width()));
        lab.backend.attention_cached(&mut out, &mut keys, &mut values, &qkv, &spans, capacity, &shape);
        lab.record("out", &out, Product);
        for cache in [&mut keys, &mut values] {
            lab.backend.cache_fork(cache, 2, 0..2, len, capacity, &shape);
        }
    }
}

/// Scores as a model's are: most of them far below the best, some tied, in more tokens than are ever sorted.
fn logits<B: Backend>(lab: &mut Lab<B>, rows: usize, vocab_size: usize) -> B::Tensor {
    let values: Vec<f32> = lab.noise(rows * vocab_size).iter().map(|x| (x * 64.0).round() / 8.0).collect();
    lab.exact_of(&values)
}

pub(crate) fn draw<B: Backend>(lab: &mut Lab<B>, [rows, vocab_size, top_k, seed]: Sizes) {
    let vocab_size = 8 * vocab_size;
    let logits = logits(lab, rows, vocab_size);
    let added: Vec<(u32, f32)> =
        (0..vocab_size as u32).step_by(3).map(|id| (id, if id % 2 == 0 { 3.0 } else { -100.0 })).collect();
    let allowed: Vec<u32> =
        lab.indices(vocab_size.div_ceil(32), 1 << 31).iter().map(|word| word | 1).collect();
    let none = vec![0; allowed.len()];
    let draw = |row: usize| Draw {
        temperature: [1.0, 0.0, 0.7, 1e-9, f32::INFINITY][row % 5],
        top_k: [0, top_k, 2 * top_k, 1][row / 2 % 4],
        top_p: [1.0, 0.9, 0.3, 0.999, 0.0][row / 3 % 5],
        random: [seed as u64, 3, row as u64],
        n_tokens: vocab_size - row % 2,
        added: if row % 4 == 1 { &added[..1] } else { [&[], &added[..added.len() - 1]][row / 5 % 2] },
        allowed: [None, None, Some(&allowed[..]), Some(&none[..])][row / 7 % 4],
    };
    let draws: Vec<Draw<'_>> = (0..rows).map(draw).collect();
    let mut drawn = vec![Drawn::Nothing; rows];
    lab.backend.draw(&mut drawn, &logits, vocab_size, &draws);
    let number = |drawn: &Drawn| match drawn {
        Drawn::Token(id) => f64::from(*id),
        Drawn::Nothing => -1.0,
        Drawn::NotFinite => -2.0,
    };
    lab.record_host("drawn", drawn.iter().map(number).collect(), Exact);
}

pub(crate) fn token_logprobs<B: Backend>(lab: &mut Lab<B>, [rows, vocab_size, count, _]: Sizes) {
    let logits = logits(lab, rows, vocab_size);
    let mut asked: Vec<usize> = lab.indices(count, rows).iter().map(|row| *row as usize).collect();
    asked.sort_unstable();
    let asked: Vec<(usize, u32)> = asked.into_iter().zip(lab.indices(count, vocab_size)).collect();
    let mut said = vec![None; count];
    lab.backend.token_logprobs(&mut said, &logits, vocab_size, &asked);
    let said: Vec<_> = said.into_iter().map(|said| said.expect("logits are finite")).collect();
    lab.record_host("logprob", said.iter().map(|said| said.logprob).collect(), Exact);
    lab.record_host("is_best", said.iter().map(|said| f64::from(u8::from(said.is_best))).collect(), Exact);
}

pub(crate) fn likeliest<B: Backend>(lab: &mut Lab<B>, [rows, vocab_size, count, _]: Sizes) {
    let logits = logits(lab, rows, 8 * vocab_size);
    let mut ids = vec![0; count.min(8 * vocab_size)];
    lab.backend.likeliest(&mut ids, &logits, 8 * vocab_size, rows - 1);
    lab.record_host("ids", ids.into_iter().map(f64::from).collect(), Exact);
}

fn head_shape([rows, d_model, vocab_size, _]: Sizes) -> HeadShape {
    HeadShape { rows, d_model, vocab_size, temperature: if rows % 2 == 0 { 1.0 } else { 0.8 } }
}

/// Every fifth row has no target.
fn head_targets<B: Backend>(lab: &mut Lab<B>, shape: &HeadShape) -> B::Ids {
    let mut targets = lab.indices(shape.rows, shape.vocab_size);
    targets.iter_mut().skip(3).step_by(5).for_each(|target| *target = NO_TARGET);
    lab.ids_of(&targets)
}

fn head_weight<B: Backend>(lab: &mut Lab<B>, shape: &HeadShape) -> B::Tensor {
    let weight = lab.noise_of_sums(shape.vocab_size * shape.d_model, shape.d_model);
    lab.exact_of(&weight)
}

pub(crate) fn head_forward<B: Backend>(lab: &mut Lab<B>, sizes: Sizes) {
    let shape = head_shape(sizes);
    let hidden = lab.activation(shape.rows * shape.d_model);
    let weight = head_weight(lab, &shape);
    let targets = head_targets(lab, &shape);
    // What is written is appended, and to nothing too.
    let (mut logprobs, mut entropies) = (lab.scalars_of(&[0.5, -0.5]), lab.scalars_of(&[]));
    lab.backend.head_forward(&mut logprobs, Some(&mut entropies), &hidden, &weight, &targets, &shape);
    lab.backend.head_forward(&mut logprobs, None, &hidden, &weight, &targets, &shape);
    lab.record_scalars("logprobs and entropies", &[&logprobs, &entropies], Product);
}

pub(crate) fn head_backward<B: Backend>(lab: &mut Lab<B>, sizes: Sizes) {
    let shape = head_shape(sizes);
    let [.., most] = sizes;
    let (hidden, mut dhidden) =
        (lab.activation(shape.rows * shape.d_model), lab.activation(shape.rows * shape.d_model));
    let weight = head_weight(lab, &shape);
    let mut dweight = lab.exact(shape.vocab_size * shape.d_model);
    let targets = head_targets(lab, &shape);
    let [dlogprobs, dentropies]: [Vec<f64>; 2] =
        [(); 2].map(|()| lab.noise(shape.rows).into_iter().map(f64::from).collect());
    let [dlogprobs, dentropies] = [dlogprobs, dentropies].map(|values| lab.scalars_of(&values));
    for dentropies in [None, Some(&dentropies)] {
        let mut logprobs = lab.scalars_of(&[0.5, -0.5]);
        lab.backend.head_backward(
            &mut logprobs,
            &mut dhidden,
            &mut dweight,
            &dlogprobs,
            dentropies,
            &hidden,
            &weight,
            &targets,
            &shape,
            &groups(shape.rows, most),
        );
        lab.record_scalars("logprobs", &[&logprobs], Product);
        lab.record("dhidden", &dhidden, Product);
        lab.record("dweight", &dweight, Product);
    }
}

/// Noise in an arena: tensors of some values, of one, of none and of many.
fn arena<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) -> Vec<B::Tensor> {
    let lens = [width, 1, 0, rows * width];
    let mut tensors = lab.backend.arena(&lens);
    for (tensor, len) in tensors.iter_mut().zip(lens) {
        let zeros = lab.host(tensor);
        assert!(zeros.len() == len && zeros.iter().all(|&x| x == 0.0));
        let values = lab.noise(len);
        lab.backend.upload(tensor, &values);
    }
    tensors
}

fn record_all<B: Backend>(lab: &mut Lab<B>, name: &'static str, tensors: &[B::Tensor]) {
    tensors.iter().for_each(|tensor| lab.record(name, tensor, Exact));
}

/// All but one of an arena, which keeps its values.
pub(crate) fn clear<B: Backend>(lab: &mut Lab<B>, sizes: Sizes) {
    let mut tensors = arena(lab, sizes);
    let [some, _, none, many] = &mut tensors[..] else { unreachable!() };
    lab.backend.clear(&mut [some, none, many]);
    record_all(lab, "cleared, but for the second", &tensors);
}

pub(crate) fn norm<B: Backend>(lab: &mut Lab<B>, sizes: Sizes) {
    let tensors = arena(lab, sizes);
    let all: Vec<&B::Tensor> = tensors.iter().collect();
    let mut norms = lab.scalars_of(&[0.5]);
    lab.backend.norm(&mut norms, &all);
    lab.backend.norm(&mut norms, &all[1..2]);
    lab.backend.norm(&mut norms, &[]);
    lab.record_scalars("norms", &[&norms], Exact);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let x = lab.exact_of(&[1.0, bad]);
        let (mut norms, mut values) = (lab.scalars_of(&[]), Vec::new());
        lab.backend.norm(&mut norms, &[&x, all[0]]);
        lab.backend.read(&mut values, &[&norms]);
        lab.record_host("is finite", vec![f64::from(u8::from(values[0].is_finite()))], Exact);
    }
}

/// Updates with ε in both places, clipped and not; and those that must not happen, which change nothing.
pub(crate) fn adamw<B: Backend>(lab: &mut Lab<B>, sizes: Sizes) {
    let [.., step, _] = sizes;
    let [mut weights, mut m, mut v, grads] = [(); 4].map(|()| arena(lab, sizes));
    for v in &mut v {
        let positive: Vec<f32> = lab.host(v).iter().map(|x| x.abs() as f32).collect();
        lab.backend.upload(v, &positive);
    }
    let (mut updates, sound) = (lab.scalars_of(&[step as f64]), lab.scalars_of(&[1.0, -7.0]));
    for (norm, finite, eps_hat) in [
        (0.25, &sound, false),
        (2.0, &sound, true),
        (f64::NAN, &sound, false),
        (f64::INFINITY, &sound, false),
        (0.25, &lab.scalars_of(&[1.0, f64::NAN]), false),
        (0.25, &lab.scalars_of(&[f64::NEG_INFINITY]), false),
    ] {
        let mut norms = lab.scalars_of(&[f64::NAN, norm]);
        // Large rates, so that a mistake in any term shows.
        let settings = AdamW { lr: 0.1, beta1: 0.9, beta2: 0.95, eps: 1e-3, eps_hat, grad_clip: 0.5 };
        let leaves = weights.iter_mut().zip(&mut m).zip(&mut v).zip(&grads).zip([0.0, 0.1, 0.2, 0.1]);
        let mut parameters: Vec<_> = leaves
            .map(|((((weight, m), v), grad), weight_decay)| Parameter { weight, m, v, grad, weight_decay })
            .collect();
        let lists: [&B::Scalars; 2] = [finite, &sound];
        lab.backend.adamw(&mut parameters, &settings, &mut updates, &mut norms, &lists);
        record_all(lab, "weights", &weights);
        record_all(lab, "m", &m);
        record_all(lab, "v", &v);
        let mut noted = Vec::new();
        lab.backend.read(&mut noted, &[&norms, &updates]);
        lab.record_host("applied, updates", noted[2..].to_vec(), Exact);
    }
}
