//! Products and attention.

use super::groups;
use crate::lab::Error::{Exact, Product};
use crate::lab::{Lab, Sizes};
use kernels::{AttentionShape, Backend, BlockFormat, BlockMatrix, CacheSpan, Dropout, LinearShape};

/// A weight in blocks of every format, as products and the few others that may read it see it.
pub(crate) fn blocks<B: Backend>(lab: &mut Lab<B>, [rows, d_in, d_out, _]: Sizes) {
    let shape = LinearShape { rows, d_in, d_out };
    for format in BlockFormat::ALL {
        let matrix = match BlockFormat::MADE.contains(&format) {
            true => {
                let values = lab.noise_of_sums(d_out * d_in, d_in.max(d_out));
                BlockMatrix::quantise(format, &values, [d_out, d_in]).expect("small values")
            }
            false => BlockMatrix::noise(format, [d_out, d_in], 1),
        };
        let weight = lab.backend.blocks(matrix);
        let packed = lab.backend.packed(&weight, d_in, d_out);
        let (x, dout) = (lab.activation(rows * d_in), lab.activation(rows * d_out));
        for weight in [&weight, &packed] {
            let mut out = lab.activation(rows * d_out);
            lab.backend.linear_forward(&mut out, &x, weight, None, shape);
            lab.record("out", &out, Product);
        }
        let mut dx = lab.activation(rows * d_in);
        lab.backend.linear_backward_input(&mut dx, &dout, &weight, shape);
        lab.record("dx", &dx, Product);
        let (mut copy, mut sum) = (lab.exact(d_out * d_in), lab.exact(d_out * d_in));
        lab.backend.copy(&mut copy, &weight);
        lab.record("copy", &copy, Exact);
        lab.backend.accumulate(&mut sum, &weight);
        lab.record("sum", &sum, Exact);
        lab.record("values", &weight, Exact);
    }
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
