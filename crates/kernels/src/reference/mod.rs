//! The operations in `f64` with naive loops: the executable specification.
//!
//! Every loop mirrors the formula in the documentation of [`Backend`] and nothing is done for speed. It
//! exists so that models can be checked by finite differences, and so that fast backends have something to
//! agree with.

mod attention;
mod blocks;
mod distil;
mod draw;
mod head;
mod linear;
mod norm;
mod orthogonal;
mod pointwise;
mod rope;
mod swiglu;

use crate::shapes::{append, assert_fork_fits, assert_rows_exist, size_of_shape};
use crate::{
    AdamW, AttentionShape, Backend, BlockMatrix, Draw, Drawn, Dropout, HeadShape, LinearShape, Parameter,
    TokenLogprob,
};
use linear::rows_of_groups;
use std::ops::Range;

/// `f64` and naive loops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

/// A tensor of the [`Reference`]: its values, for anybody to read and to change.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct F64Tensor(pub Vec<f64>);

impl Backend for Reference {
    type Tensor = F64Tensor;
    type Ids = Vec<u32>;
    type Scalars = Vec<f64>;

    fn zeros(&mut self, len: usize) -> F64Tensor {
        F64Tensor(vec![0.0; len])
    }
    fn arena(&mut self, lens: &[usize]) -> Vec<F64Tensor> {
        lens.iter().map(|&len| self.zeros(len)).collect()
    }
    fn activation(&mut self, len: usize) -> F64Tensor {
        self.zeros(len)
    }
    fn blocks(&mut self, matrix: BlockMatrix) -> F64Tensor {
        blocks::values(&matrix)
    }
    fn share(&mut self, weight: &mut F64Tensor) -> F64Tensor {
        F64Tensor(weight.0.clone())
    }
    fn packed(&mut self, weight: &F64Tensor, d_in: usize, d_out: usize) -> F64Tensor {
        assert_len(weight, size_of_shape("packed", &[d_out, d_in]), "weight");
        weight.clone()
    }
    fn len(&self, x: &F64Tensor) -> usize {
        x.0.len()
    }
    fn upload(&mut self, out: &mut F64Tensor, values: &[f32]) {
        assert_len(out, values.len(), "out");
        for (out, &value) in out.0.iter_mut().zip(values) {
            *out = f64::from(value);
        }
    }

    fn download(&mut self, out: &mut [f32], x: &F64Tensor) {
        assert_len(x, out.len(), "x");
        for (out, &x) in out.iter_mut().zip(&x.0) {
            *out = x as f32;
        }
    }

    fn ids(&mut self) -> Vec<u32> {
        Vec::new()
    }

    fn upload_ids(&mut self, out: &mut Vec<u32>, values: &[u32]) {
        values.clone_into(out);
    }

    fn scalars(&mut self) -> Vec<f64> {
        Vec::new()
    }

    fn upload_scalars(&mut self, out: &mut Vec<f64>, values: &[f64]) {
        values.clone_into(out);
    }

    fn read(&mut self, out: &mut Vec<f64>, lists: &[&Vec<f64>]) {
        out.clear();
        lists.iter().for_each(|list| out.extend_from_slice(list));
    }

    fn copy(&mut self, out: &mut F64Tensor, x: &F64Tensor) {
        assert_len(x, out.0.len(), "x");
        out.0.copy_from_slice(&x.0);
    }

    /// NaN stands for the lost contents, so that nobody reads them unnoticed.
    fn resize(&mut self, x: &mut F64Tensor, len: usize) {
        x.0.clear();
        x.0.resize(len, f64::NAN);
    }

    fn fill(&mut self, out: &mut F64Tensor, value: f32) {
        out.0.fill(f64::from(value));
    }

    fn add(&mut self, out: &mut F64Tensor, a: &F64Tensor, b: &F64Tensor) {
        assert_len(a, out.0.len(), "a");
        assert_len(b, out.0.len(), "b");
        for (i, out) in out.0.iter_mut().enumerate() {
            *out = a.0[i] + b.0[i];
        }
    }
    fn accumulate(&mut self, sum: &mut F64Tensor, x: &F64Tensor) {
        assert_len(x, sum.0.len(), "x");
        add_scaled(&mut sum.0, 1.0, &x.0);
    }
    fn scale(&mut self, x: &mut F64Tensor, factor: f32) {
        x.0.iter_mut().for_each(|x| *x *= f64::from(factor));
    }
    fn scale_columns(&mut self, x: &mut F64Tensor, factors: &F64Tensor, bias: Option<&F64Tensor>) {
        pointwise::scale_columns(x, factors, bias);
    }
    fn average(&mut self, mean: &mut F64Tensor, x: &F64Tensor, decay: f32) {
        pointwise::average(mean, x, decay);
    }

    fn gelu_forward(&mut self, out: &mut F64Tensor, x: &F64Tensor) {
        pointwise::gelu_forward(out, x);
    }

    fn gelu_backward(&mut self, dx: &mut F64Tensor, dout: &F64Tensor, x: &F64Tensor) {
        pointwise::gelu_backward(dx, dout, x);
    }

    fn swiglu_forward(&mut self, out: &mut F64Tensor, x: &F64Tensor, d_ff: usize) {
        swiglu::forward(out, x, d_ff);
    }

    fn swiglu_backward(&mut self, dx: &mut F64Tensor, dout: &F64Tensor, x: &F64Tensor, d_ff: usize) {
        swiglu::backward(dx, dout, x, d_ff);
    }

    fn dropout(&mut self, x: &mut F64Tensor, width: usize, dropout: &Dropout) {
        pointwise::dropout(x, width, dropout);
    }

    fn embed_forward(
        &mut self,
        out: &mut F64Tensor,
        wte: &F64Tensor,
        wpe: Option<&F64Tensor>,
        tokens: &Vec<u32>,
        positions: &Vec<u32>,
        d_model: usize,
    ) {
        assert_looked_up("embed_forward", out, wte, tokens, d_model);
        self.gather_forward(out, wte, tokens, d_model);
        if let Some(wpe) = wpe {
            assert_looked_up("embed_forward", out, wpe, positions, d_model);
            for (out, &position) in out.0.chunks_exact_mut(d_model).zip(positions) {
                add_scaled(out, 1.0, row(&wpe.0, position as usize, d_model));
            }
        }
    }

    fn embed_backward(
        &mut self,
        dwte: &mut F64Tensor,
        dwpe: Option<&mut F64Tensor>,
        dout: &F64Tensor,
        tokens: &Vec<u32>,
        positions: &Vec<u32>,
        d_model: usize,
    ) {
        assert_looked_up("embed_backward", dout, dwte, tokens, d_model);
        self.gather_backward(dwte, dout, tokens, d_model);
        if let Some(dwpe) = dwpe {
            assert_looked_up("embed_backward", dout, dwpe, positions, d_model);
            self.gather_backward(dwpe, dout, positions, d_model);
        }
    }

    fn gather_forward(&mut self, out: &mut F64Tensor, x: &F64Tensor, rows: &Vec<u32>, width: usize) {
        assert_looked_up("gather_forward", out, x, rows, width);
        for (out, &r) in out.0.chunks_exact_mut(width).zip(rows) {
            out.copy_from_slice(row(&x.0, r as usize, width));
        }
    }

    fn gather_backward(&mut self, dx: &mut F64Tensor, dout: &F64Tensor, rows: &Vec<u32>, width: usize) {
        assert_looked_up("gather_backward", dout, dx, rows, width);
        for (dout, &r) in dout.0.chunks_exact(width).zip(rows) {
            add_scaled(row_mut(&mut dx.0, r as usize, width), 1.0, dout);
        }
    }

    fn layer_norm_forward(
        &mut self,
        out: &mut F64Tensor,
        stats: &mut F64Tensor,
        x: &F64Tensor,
        weight: &F64Tensor,
        bias: Option<&F64Tensor>,
        eps: f32,
    ) {
        norm::layer_forward(out, stats, x, weight, bias, eps);
    }

    fn layer_norm_backward(
        &mut self,
        dx: &mut F64Tensor,
        dweight: &mut F64Tensor,
        dbias: Option<&mut F64Tensor>,
        dout: &F64Tensor,
        x: &F64Tensor,
        stats: &F64Tensor,
        weight: &F64Tensor,
        groups: &[usize],
    ) {
        norm::layer_backward(dx, dweight, dbias, dout, x, stats, weight, groups);
    }

    fn rms_norm_forward(
        &mut self,
        out: &mut F64Tensor,
        stats: &mut F64Tensor,
        x: &F64Tensor,
        weight: &F64Tensor,
        eps: f32,
    ) {
        norm::rms_forward(out, stats, x, weight, eps);
    }

    fn rms_norm_backward(
        &mut self,
        dx: &mut F64Tensor,
        dweight: &mut F64Tensor,
        dout: &F64Tensor,
        x: &F64Tensor,
        stats: &F64Tensor,
        weight: &F64Tensor,
        groups: &[usize],
    ) {
        norm::rms_backward(dx, dweight, dout, x, stats, weight, groups);
    }

    fn head_norm_forward(
        &mut self,
        out: &mut F64Tensor,
        stats: &mut F64Tensor,
        qkv: &F64Tensor,
        q_weight: &F64Tensor,
        k_weight: &F64Tensor,
        eps: f32,
        shape: &AttentionShape,
    ) {
        norm::head_forward(out, stats, qkv, q_weight, k_weight, eps, shape);
    }

    fn head_norm_backward(
        &mut self,
        dqkv: &mut F64Tensor,
        dq_weight: &mut F64Tensor,
        dk_weight: &mut F64Tensor,
        dout: &F64Tensor,
        qkv: &F64Tensor,
        stats: &F64Tensor,
        q_weight: &F64Tensor,
        k_weight: &F64Tensor,
        shape: &AttentionShape,
        groups: &[usize],
    ) {
        let weights = [q_weight, k_weight];
        norm::head_backward(dqkv, [dq_weight, dk_weight], dout, qkv, stats, weights, shape, groups);
    }

    fn rope_forward(
        &mut self,
        qkv: &mut F64Tensor,
        table: &F64Tensor,
        positions: &Vec<u32>,
        shape: &AttentionShape,
    ) {
        rope::rotate(qkv, table, positions, shape, 1.0);
    }

    fn rope_backward(
        &mut self,
        dqkv: &mut F64Tensor,
        table: &F64Tensor,
        positions: &Vec<u32>,
        shape: &AttentionShape,
    ) {
        rope::rotate(dqkv, table, positions, shape, -1.0);
    }

    fn linear_forward(
        &mut self,
        out: &mut F64Tensor,
        x: &F64Tensor,
        weight: &F64Tensor,
        bias: Option<&F64Tensor>,
        shape: LinearShape,
    ) {
        linear::forward(out, x, weight, bias, shape);
    }

    fn linear_backward_input(
        &mut self,
        dx: &mut F64Tensor,
        dout: &F64Tensor,
        weight: &F64Tensor,
        shape: LinearShape,
    ) {
        linear::backward_input(dx, dout, weight, shape);
    }

    fn linear_backward_weight(
        &mut self,
        dweight: &mut F64Tensor,
        dbias: Option<&mut F64Tensor>,
        dout: &F64Tensor,
        x: &F64Tensor,
        shape: LinearShape,
        groups: &[usize],
    ) {
        linear::backward_weight(dweight, dbias, dout, x, shape, groups);
    }

    fn attention_forward(
        &mut self,
        out: &mut F64Tensor,
        lse: &mut F64Tensor,
        qkv: &F64Tensor,
        lens: &Vec<u32>,
        shape: &AttentionShape,
        dropout: Option<&Dropout>,
    ) {
        attention::forward(out, lse, qkv, lens, shape, dropout);
    }

    fn attention_backward(
        &mut self,
        dqkv: &mut F64Tensor,
        dout: &F64Tensor,
        out: &F64Tensor,
        lse: &F64Tensor,
        qkv: &F64Tensor,
        lens: &Vec<u32>,
        shape: &AttentionShape,
        dropout: Option<&Dropout>,
    ) {
        attention::backward(dqkv, dout, out, lse, qkv, lens, shape, dropout);
    }

    fn attention_cached(
        &mut self,
        out: &mut F64Tensor,
        keys: &mut F64Tensor,
        values: &mut F64Tensor,
        qkv: &F64Tensor,
        spans: &Vec<u32>,
        capacity: usize,
        shape: &AttentionShape,
    ) {
        attention::cached(out, keys, values, qkv, spans, capacity, shape);
    }

    fn cache_fork(
        &mut self,
        cache: &mut F64Tensor,
        from: usize,
        into: Range<usize>,
        len: usize,
        capacity: usize,
        shape: &AttentionShape,
    ) {
        assert_fork_fits(cache.0.len(), from, &into, len, capacity, shape);
        let row = |slot: usize| slot * capacity * shape.kv_width();
        for slot in into {
            cache.0.copy_within(row(from)..row(from) + len * shape.kv_width(), row(slot));
        }
    }

    fn head_forward(
        &mut self,
        logprobs: &mut Vec<f64>,
        entropies: Option<&mut Vec<f64>>,
        hidden: &F64Tensor,
        weight: &F64Tensor,
        targets: &Vec<u32>,
        shape: &HeadShape,
    ) {
        let logprobs = append(logprobs, shape.rows);
        let entropies = entropies.map(|entropies| append(entropies, shape.rows));
        head::forward(logprobs, entropies, hidden, weight, targets, shape);
    }

    fn head_backward(
        &mut self,
        logprobs: &mut Vec<f64>,
        dhidden: &mut F64Tensor,
        dweight: Option<&mut F64Tensor>,
        dlogprobs: &Vec<f64>,
        dentropies: Option<&Vec<f64>>,
        hidden: &F64Tensor,
        weight: &F64Tensor,
        targets: &Vec<u32>,
        shape: &HeadShape,
        groups: &[usize],
    ) {
        let logprobs = append(logprobs, shape.rows);
        let derivatives = (dlogprobs.as_slice(), dentropies.map(Vec::as_slice));
        head::backward(logprobs, dhidden, dweight, derivatives, hidden, weight, targets, shape, groups);
    }

    fn draw(&mut self, out: &mut [Drawn], logits: &F64Tensor, vocab_size: usize, draws: &[Draw<'_>]) {
        draw::draw(out, logits, vocab_size, draws);
    }

    fn token_logprobs(
        &mut self,
        out: &mut [Option<TokenLogprob>],
        logits: &F64Tensor,
        vocab_size: usize,
        asked: &[(usize, u32)],
    ) {
        draw::token_logprobs(out, logits, vocab_size, asked);
    }

    fn likeliest(&mut self, out: &mut [u32], logits: &F64Tensor, vocab_size: usize, row: usize) {
        draw::likeliest(out, logits, vocab_size, row);
    }

    fn clear(&mut self, tensors: &mut [&mut F64Tensor]) {
        tensors.iter_mut().for_each(|x| x.0.fill(0.0));
    }

    fn norm(&mut self, out: &mut Vec<f64>, tensors: &[&F64Tensor]) {
        let squares: f64 = tensors.iter().map(|x| dot(&x.0, &x.0)).sum();
        out.push(squares.sqrt());
    }

    fn adamw(
        &mut self,
        parameters: &mut [Parameter<'_, F64Tensor>],
        settings: &AdamW,
        updates: &mut Vec<f64>,
        norms: &mut Vec<f64>,
        finite: &[&Vec<f64>],
    ) {
        pointwise::adamw(parameters, settings, updates, norms, finite);
    }

    fn newton_schulz(&mut self, x: &mut F64Tensor, _: [&mut F64Tensor; 3], rows: usize, columns: usize) {
        orthogonal::newton_schulz(x, rows, columns);
    }
}

fn row(x: &[f64], r: usize, width: usize) -> &[f64] {
    &x[r * width..(r + 1) * width]
}

fn row_mut(x: &mut [f64], r: usize, width: usize) -> &mut [f64] {
    &mut x[r * width..(r + 1) * width]
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `sum += factor · x`.
fn add_scaled(sum: &mut [f64], factor: f64, x: &[f64]) {
    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += factor * x);
}

fn assert_len(x: &F64Tensor, len: usize, name: &str) {
    assert_eq!(x.0.len(), len, "values of {name}");
}

/// Rows of `width` values, as many as are looked up, all of them in the table.
fn assert_looked_up(operation: &str, values: &F64Tensor, table: &F64Tensor, rows: &[u32], width: usize) {
    assert_len(values, size_of_shape(operation, &[rows.len(), width]), "the rows that are looked up");
    assert_rows_exist(operation, rows, table.0.len(), width);
}

/// Rows of `width` values in `x`.
fn assert_rows(x: &F64Tensor, width: usize, name: &str) -> usize {
    let len = x.0.len();
    assert!(width > 0 && len.is_multiple_of(width), "{name}: {len} values are not rows of {width}");
    len / width
}
