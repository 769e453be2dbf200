//! [`Cpu`] as a [`Backend`]: which function does what.

use super::gemm::Kernel;
use super::pool::Disjoint;
use super::tensor::{Sink, Values};
use super::{
    Cpu, CpuTensor, Precision, attention, draw, head, linear, norm, optimizer, pointwise, rope, rows, swiglu,
};
use crate::shapes::append;
use crate::{
    AdamW, AttentionShape, Backend, BlockMatrix, Draw, Drawn, Dropout, HeadShape, LinearShape, Parameter,
    TokenLogprob,
};
use std::ops::Range;

impl Backend for Cpu {
    type Tensor = CpuTensor;
    type Ids = Vec<u32>;
    type Scalars = Vec<f64>;

    fn zeros(&mut self, len: usize) -> CpuTensor {
        CpuTensor::zeros_f32(len)
    }

    fn arena(&mut self, lens: &[usize]) -> Vec<CpuTensor> {
        CpuTensor::arena(lens)
    }

    fn activation(&mut self, len: usize) -> CpuTensor {
        match self.options.precision {
            Precision::F32 => CpuTensor::zeros_f32(len),
            Precision::Bf16 => CpuTensor::zeros_bf16(len),
        }
    }

    fn blocks(&mut self, matrix: BlockMatrix) -> CpuTensor {
        CpuTensor::blocks(matrix)
    }

    fn packed(&mut self, weight: &CpuTensor, d_in: usize, d_out: usize) -> CpuTensor {
        linear::packed(self, weight, d_in, d_out)
    }

    fn share(&mut self, weight: &mut CpuTensor) -> CpuTensor {
        weight.share()
    }

    fn len(&self, x: &CpuTensor) -> usize {
        x.len()
    }

    fn upload(&mut self, out: &mut CpuTensor, values: &[f32]) {
        pointwise::copy(self, out.sink(), Values::F32(values));
    }

    fn download(&mut self, out: &mut [f32], x: &CpuTensor) {
        pointwise::copy(self, Sink::F32(Disjoint::new(out)), x.values());
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

    fn copy(&mut self, out: &mut CpuTensor, x: &CpuTensor) {
        pointwise::copy(self, out.sink(), x.values());
    }

    fn resize(&mut self, x: &mut CpuTensor, len: usize) {
        x.resize(len);
    }

    fn fill(&mut self, out: &mut CpuTensor, value: f32) {
        pointwise::fill(self, out, value);
    }

    fn add(&mut self, out: &mut CpuTensor, a: &CpuTensor, b: &CpuTensor) {
        pointwise::add(self, out, a, b);
    }

    fn accumulate(&mut self, sum: &mut CpuTensor, x: &CpuTensor) {
        pointwise::accumulate(self, sum, x);
    }

    fn scale(&mut self, x: &mut CpuTensor, factor: f32) {
        pointwise::scale(self, x, factor);
    }

    fn scale_columns(&mut self, x: &mut CpuTensor, factors: &CpuTensor, bias: Option<&CpuTensor>) {
        pointwise::scale_columns(self, x, factors, bias);
    }

    fn average(&mut self, mean: &mut CpuTensor, x: &CpuTensor, decay: f32) {
        pointwise::average(self, mean, x, decay);
    }

    fn gelu_forward(&mut self, out: &mut CpuTensor, x: &CpuTensor) {
        pointwise::gelu_forward(self, out, x);
    }

    fn gelu_backward(&mut self, dx: &mut CpuTensor, dout: &CpuTensor, x: &CpuTensor) {
        pointwise::gelu_backward(self, dx, dout, x);
    }

    fn swiglu_forward(&mut self, out: &mut CpuTensor, x: &CpuTensor, d_ff: usize) {
        swiglu::forward(self, out, x, d_ff);
    }

    fn swiglu_backward(&mut self, dx: &mut CpuTensor, dout: &CpuTensor, x: &CpuTensor, d_ff: usize) {
        swiglu::backward(self, dx, dout, x, d_ff);
    }

    fn dropout(&mut self, x: &mut CpuTensor, width: usize, dropout: &Dropout) {
        pointwise::dropout(self, x, width, dropout);
    }

    fn embed_forward(
        &mut self,
        out: &mut CpuTensor,
        wte: &CpuTensor,
        wpe: Option<&CpuTensor>,
        tokens: &Vec<u32>,
        positions: &Vec<u32>,
        d_model: usize,
    ) {
        rows::embed_forward(self, out, wte, wpe, tokens, positions, d_model);
    }

    fn embed_backward(
        &mut self,
        dwte: &mut CpuTensor,
        dwpe: Option<&mut CpuTensor>,
        dout: &CpuTensor,
        tokens: &Vec<u32>,
        positions: &Vec<u32>,
        d_model: usize,
    ) {
        rows::embed_backward(self, dwte, dwpe, dout, tokens, positions, d_model);
    }

    fn gather_forward(&mut self, out: &mut CpuTensor, x: &CpuTensor, rows: &Vec<u32>, width: usize) {
        rows::gather_forward(self, out, x, rows, width);
    }

    fn gather_backward(&mut self, dx: &mut CpuTensor, dout: &CpuTensor, rows: &Vec<u32>, width: usize) {
        rows::gather_backward(self, dx, dout, rows, width);
    }

    fn layer_norm_forward(
        &mut self,
        out: &mut CpuTensor,
        stats: &mut CpuTensor,
        x: &CpuTensor,
        weight: &CpuTensor,
        bias: Option<&CpuTensor>,
        eps: f32,
    ) {
        norm::layer::forward(self, out, stats, x, weight, bias, eps);
    }

    fn layer_norm_backward(
        &mut self,
        dx: &mut CpuTensor,
        dweight: &mut CpuTensor,
        dbias: Option<&mut CpuTensor>,
        dout: &CpuTensor,
        x: &CpuTensor,
        stats: &CpuTensor,
        weight: &CpuTensor,
        groups: &[usize],
    ) {
        norm::layer::backward(self, dx, dweight, dbias, dout, x, stats, weight, groups);
    }

    fn rms_norm_forward(
        &mut self,
        out: &mut CpuTensor,
        stats: &mut CpuTensor,
        x: &CpuTensor,
        weight: &CpuTensor,
        eps: f32,
    ) {
        norm::rms::forward(self, out, stats, x, weight, eps);
    }

    fn rms_norm_backward(
        &mut self,
        dx: &mut CpuTensor,
        dweight: &mut CpuTensor,
        dout: &CpuTensor,
        x: &CpuTensor,
        stats: &CpuTensor,
        weight: &CpuTensor,
        groups: &[usize],
    ) {
        norm::rms::backward(self, dx, dweight, dout, x, stats, weight, groups);
    }

    fn head_norm_forward(
        &mut self,
        out: &mut CpuTensor,
        stats: &mut CpuTensor,
        qkv: &CpuTensor,
        q_weight: &CpuTensor,
        k_weight: &CpuTensor,
        eps: f32,
        shape: &AttentionShape,
    ) {
        norm::heads::forward(self, out, stats, qkv, [q_weight, k_weight], eps, shape);
    }

    fn head_norm_backward(
        &mut self,
        dqkv: &mut CpuTensor,
        dq_weight: &mut CpuTensor,
        dk_weight: &mut CpuTensor,
        dout: &CpuTensor,
        qkv: &CpuTensor,
        stats: &CpuTensor,
        q_weight: &CpuTensor,
        k_weight: &CpuTensor,
        shape: &AttentionShape,
        groups: &[usize],
    ) {
        let (dweights, weights) = ([dq_weight, dk_weight], [q_weight, k_weight]);
        norm::heads::backward(self, dqkv, dweights, dout, qkv, stats, weights, shape, groups);
    }

    fn rope_forward(
        &mut self,
        qkv: &mut CpuTensor,
        table: &CpuTensor,
        positions: &Vec<u32>,
        shape: &AttentionShape,
    ) {
        rope::rotate(self, qkv, table, positions, shape, 1.0);
    }

    fn rope_backward(
        &mut self,
        dqkv: &mut CpuTensor,
        table: &CpuTensor,
        positions: &Vec<u32>,
        shape: &AttentionShape,
    ) {
        rope::rotate(self, dqkv, table, positions, shape, -1.0);
    }

    fn linear_forward(
        &mut self,
        out: &mut CpuTensor,
        x: &CpuTensor,
        weight: &CpuTensor,
        bias: Option<&CpuTensor>,
        shape: LinearShape,
    ) {
        linear::forward(self, out, x, weight, bias, shape);
    }

    fn linear_backward_input(
        &mut self,
        dx: &mut CpuTensor,
        dout: &CpuTensor,
        weight: &CpuTensor,
        shape: LinearShape,
    ) {
        linear::backward_input(self, dx, dout, weight, shape);
    }

    fn linear_backward_weight(
        &mut self,
        dweight: &mut CpuTensor,
        dbias: Option<&mut CpuTensor>,
        dout: &CpuTensor,
        x: &CpuTensor,
        shape: LinearShape,
        groups: &[usize],
    ) {
        linear::backward_weight(self, dweight, dbias, dout, x, shape, groups);
    }

    fn attention_forward(
        &mut self,
        out: &mut CpuTensor,
        lse: &mut CpuTensor,
        qkv: &CpuTensor,
        lens: &Vec<u32>,
        shape: &AttentionShape,
        dropout: Option<&Dropout>,
    ) {
        attention::forward(self, out, lse, qkv, lens, shape, dropout);
    }

    fn attention_backward(
        &mut self,
        dqkv: &mut CpuTensor,
        dout: &CpuTensor,
        out: &CpuTensor,
        lse: &CpuTensor,
        qkv: &CpuTensor,
        lens: &Vec<u32>,
        shape: &AttentionShape,
        dropout: Option<&Dropout>,
    ) {
        attention::backward(self, dqkv, dout, out, lse, qkv, lens, shape, dropout);
    }

    fn attention_cached(
        &mut self,
        out: &mut CpuTensor,
        keys: &mut CpuTensor,
        values: &mut CpuTensor,
        qkv: &CpuTensor,
        spans: &Vec<u32>,
        capacity: usize,
        shape: &AttentionShape,
    ) {
        attention::cached(self, out, keys, values, qkv, spans, capacity, shape);
    }

    fn cache_fork(
        &mut self,
        cache: &mut CpuTensor,
        from: usize,
        into: Range<usize>,
        len: usize,
        capacity: usize,
        shape: &AttentionShape,
    ) {
        attention::fork(self, cache, from, into, len, capacity, shape);
    }

    fn head_forward(
        &mut self,
        logprobs: &mut Vec<f64>,
        entropies: Option<&mut Vec<f64>>,
        hidden: &CpuTensor,
        weight: &CpuTensor,
        targets: &Vec<u32>,
        shape: &HeadShape,
    ) {
        let logprobs = append(logprobs, shape.rows);
        let entropies = entropies.map(|entropies| append(entropies, shape.rows));
        head::forward(self, logprobs, entropies, hidden, weight, targets, shape);
    }

    fn head_backward(
        &mut self,
        logprobs: &mut Vec<f64>,
        dhidden: &mut CpuTensor,
        dweight: Option<&mut CpuTensor>,
        dlogprobs: &Vec<f64>,
        dentropies: Option<&Vec<f64>>,
        hidden: &CpuTensor,
        weight: &CpuTensor,
        targets: &Vec<u32>,
        shape: &HeadShape,
        groups: &[usize],
    ) {
        let logprobs = append(logprobs, shape.rows);
        let derivatives = (dlogprobs.as_slice(), dentropies.map(Vec::as_slice));
        head::backward(self, logprobs, dhidden, dweight, derivatives, hidden, weight, targets, shape, groups);
    }

    fn draw(&mut self, out: &mut [Drawn], logits: &CpuTensor, vocab_size: usize, draws: &[Draw<'_>]) {
        draw::draw(self, out, logits, vocab_size, draws);
    }

    fn token_logprobs(
        &mut self,
        out: &mut [Option<TokenLogprob>],
        logits: &CpuTensor,
        vocab_size: usize,
        asked: &[(usize, u32)],
    ) {
        draw::token_logprobs(self, out, logits, vocab_size, asked);
    }

    fn likeliest(&mut self, out: &mut [u32], logits: &CpuTensor, vocab_size: usize, row: usize) {
        draw::likeliest(self, out, logits, vocab_size, row);
    }

    fn clear(&mut self, tensors: &mut [&mut CpuTensor]) {
        optimizer::clear(self, tensors);
    }

    fn norm(&mut self, out: &mut Vec<f64>, tensors: &[&CpuTensor]) {
        optimizer::norm(self, out, tensors);
    }

    fn adamw(
        &mut self,
        parameters: &mut [Parameter<'_, CpuTensor>],
        settings: &AdamW,
        updates: &mut Vec<f64>,
        norms: &mut Vec<f64>,
        finite: &[&Vec<f64>],
    ) {
        optimizer::adamw(self, parameters, settings, updates, norms, finite);
    }

    fn newton_schulz(&mut self, x: &mut CpuTensor, work: [&mut CpuTensor; 3], rows: usize, columns: usize) {
        let kernel = std::mem::replace(&mut self.kernel, Kernel::new(self.options.level, Precision::F32));
        crate::newton_schulz(self, x, work, rows, columns);
        self.kernel = kernel;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuOptions;

    #[test]
    fn values_come_back_from_every_storage() {
        for precision in [Precision::F32, Precision::Bf16] {
            let mut cpu = Cpu::new(CpuOptions { precision, ..CpuOptions::default() });
            let values: Vec<f32> = (0..5000u16).map(|i| f32::from(i % 100) - 50.5).collect();
            for mut x in [Backend::zeros(&mut cpu, 1), Backend::activation(&mut cpu, 5000)] {
                cpu.resize(&mut x, 5000);
                cpu.upload(&mut x, &values);
                let mut copy = Backend::activation(&mut cpu, 5000);
                cpu.copy(&mut copy, &x);
                let mut back = vec![0.0; 5000];
                cpu.download(&mut back, &copy);
                assert_eq!((back, Backend::len(&cpu, &copy)), (values.clone(), 5000));
            }
        }
    }
}
