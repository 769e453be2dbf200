//! One function for each operation: the same calls on every backend.

mod products;
mod tokens;

pub(crate) use products::*;
pub(crate) use tokens::*;

use crate::lab::Error::{Exact, Product};
use crate::lab::{Lab, Sizes};
use kernels::{AdamW, AttentionShape, Backend, Dropout, Parameter};

/// Groups of unequal lengths, of `most` rows at most, some of none.
pub(crate) fn groups(rows: usize, most: usize) -> Vec<usize> {
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

pub(crate) fn scale<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let (mut x, mut stream) = (lab.activation(rows * width), lab.exact(rows * width));
    lab.backend.scale(&mut x, -2.5);
    lab.record("x", &x, Product);
    lab.backend.scale(&mut stream, -2.5);
    lab.record("stream", &stream, Exact);
}

pub(crate) fn scale_columns<B: Backend>(lab: &mut Lab<B>, [rows, width, ..]: Sizes) {
    let (mut x, mut stream) = (lab.activation(rows * width), lab.exact(rows * width));
    let (factors, bias) = (lab.exact(width), lab.exact(width));
    lab.backend.scale_columns(&mut stream, &factors, Some(&bias));
    lab.record("stream", &stream, Exact);
    lab.backend.scale_columns(&mut x, &factors, None);
    lab.record("x", &x, Product);
    let by = lab.activation(rows * width);
    lab.backend.scale_columns(&mut x, &by, None);
    lab.record("value by value", &x, Product);
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

/// On noise of norm 1.
pub(crate) fn newton_schulz<B: Backend>(lab: &mut Lab<B>, [rows, columns, ..]: Sizes) {
    let noise = lab.noise(rows * columns);
    let norm = noise.iter().map(|x| x * x).sum::<f32>().sqrt();
    let values: Vec<f32> = noise.iter().map(|x| x / norm).collect();
    let mut x = lab.exact_of(&values);
    let [mut a, mut b, mut c] = [3, 0, 1].map(|len| lab.exact(len));
    lab.backend.newton_schulz(&mut x, [&mut a, &mut b, &mut c], rows, columns);
    lab.record("x", &x, Exact);
}

/// Gives the list of all operations to a macro: what every backend is held to.
macro_rules! for_every_operation {
    ($make:ident) => {
        $make! {
                blocks
                copy
                resize
                fill
                add
                accumulate
                scale
                scale_columns
                average
                gelu_forward
                gelu_backward
                swiglu_forward
                swiglu_backward
                dropout
                embed_forward
                embed_backward
                gather_forward
                gather_backward
                layer_norm_forward
                layer_norm_backward
                add_layer_norm_forward
                rms_norm_forward
                rms_norm_backward
                add_rms_norm_forward
                head_norm_forward
                head_norm_backward
                rope_forward
                rope_backward
                linear_forward
                linear_backward_input
                linear_backward_weight
                linear_gelu_forward
                linear_gelu_backward_input
                linear_add_forward
                attention_forward
                attention_backward
                attention_cached
                cache_fork
                head_forward
                head_backward
                draw
                token_logprobs
                likeliest
                clear
                norm
                adamw
                newton_schulz
        }
    };
}
pub(crate) use for_every_operation;

/// Fails when the trait has an operation that `covered` lacks.
pub(crate) fn assert_covered(covered: &[&str]) {
    // Every other test makes, fills and reads tensors, those of the optimizer in an arena; `bits` compares
    // `packed` with the plain matrix.
    const IN_PASSING: &[&str] =
        &["zeros", "arena", "activation", "packed", "share", "len", "upload", "download"];
    /// Lists that other tests upload, to longer and to shorter ones, and read.
    const LISTS: &[&str] = &["ids", "upload_ids", "scalars", "upload_scalars", "read"];
    let mut needed = crate::harness::operations();
    needed.retain(|name| !IN_PASSING.contains(name) && !LISTS.contains(name));
    assert_eq!(needed, covered, "operations of the trait (left), those with a conformance test (right)");
}
