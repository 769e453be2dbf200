//! [`Cuda`] as a [`Backend`]: which function does what.

use crate::memory::{bytes_of, bytes_of_mut};
use crate::ops::norm::{self, Kind};
use crate::ops::{attention, draw, exchange, head, linear, optimizer, pointwise, rows};
use crate::{Cuda, CudaIds, CudaScalars, CudaTensor};
use kernels::{AdamW, AttentionShape, Backend, BlockMatrix, Draw, Drawn, Dropout};
use kernels::{HeadShape, LinearShape, Parameter, TokenLogprob};
use std::ops::Range;

impl Backend for Cuda {
    type Tensor = CudaTensor;
    type Ids = CudaIds;
    type Scalars = CudaScalars;

    fn zeros(&mut self, len: usize) -> CudaTensor {
        CudaTensor::new(self.device(), len, false)
    }
    fn arena(&mut self, lens: &[usize]) -> Vec<CudaTensor> {
        CudaTensor::arena(self.device(), lens)
    }
    fn activation(&mut self, len: usize) -> CudaTensor {
        CudaTensor::new(self.device(), len, self.is_bf16())
    }
    fn blocks(&mut self, matrix: BlockMatrix) -> CudaTensor {
        panic!("blocks: no kernel reads weights in {}: keep them exactly", matrix.bands()[0].format);
    }
    fn share(&mut self, weight: &mut CudaTensor) -> CudaTensor {
        weight.share()
    }
    fn packed(&mut self, weight: &CudaTensor, d_in: usize, d_out: usize) -> CudaTensor {
        linear::packed(self, weight, d_in, d_out)
    }
    fn len(&self, x: &CudaTensor) -> usize {
        x.len()
    }
    fn upload(&mut self, out: &mut CudaTensor, values: &[f32]) {
        assert_eq!(out.len(), values.len(), "upload: values");
        if values.is_empty() {
            return;
        }
        let (bytes, bf16, to) = (bytes_of(values), out.bf16(), out.at_mut());
        if !bf16 {
            // SAFETY: the tensor has as many values.
            return unsafe { self.device().upload(to, bytes) };
        }
        let exact = self.scratch(bytes.len());
        // SAFETY: it was just allocated with this size.
        unsafe { self.device().upload(exact.at(), bytes) };
        pointwise::convert(self, (to, true), (exact.at(), false), values.len());
    }

    fn download(&mut self, out: &mut [f32], x: &CudaTensor) {
        assert_eq!(x.len(), out.len(), "download: values");
        if out.is_empty() {
            return;
        }
        let exact = self.scratch(if x.bf16() { 4 * out.len() } else { 0 });
        let from = if x.bf16() {
            pointwise::convert(self, (exact.at(), false), (x.at(), true), out.len());
            exact.at()
        } else {
            x.at()
        };
        // SAFETY: as many values are there.
        unsafe { self.device().download(bytes_of_mut(out), from) };
    }

    fn ids(&mut self) -> CudaIds {
        CudaIds::new(self.device(), &[])
    }

    fn upload_ids(&mut self, out: &mut CudaIds, values: &[u32]) {
        out.set(self.device(), values);
    }

    fn scalars(&mut self) -> CudaScalars {
        CudaScalars::new(self.device())
    }

    fn upload_scalars(&mut self, out: &mut CudaScalars, values: &[f64]) {
        out.set(self.device(), values);
    }

    fn read(&mut self, out: &mut Vec<f64>, lists: &[&CudaScalars]) {
        out.clear();
        for list in lists {
            let start = out.len();
            out.resize(start + list.len(), 0.0);
            if list.len() > 0 {
                // SAFETY: as many values are there.
                unsafe { self.device().download(bytes_of_mut(&mut out[start..]), list.at()) };
            }
        }
    }

    fn copy(&mut self, out: &mut CudaTensor, x: &CudaTensor) {
        pointwise::copy(self, out, x);
    }
    fn resize(&mut self, x: &mut CudaTensor, len: usize) {
        x.resize(self.device(), len);
    }
    fn fill(&mut self, out: &mut CudaTensor, value: f32) {
        pointwise::fill(self, out, value);
    }
    fn add(&mut self, out: &mut CudaTensor, a: &CudaTensor, b: &CudaTensor) {
        pointwise::add(self, out, a, b);
    }
    fn accumulate(&mut self, sum: &mut CudaTensor, x: &CudaTensor) {
        pointwise::accumulate(self, sum, x);
    }
    fn scale(&mut self, x: &mut CudaTensor, factor: f32) {
        pointwise::scale(self, x, factor);
    }

    fn scale_columns(&mut self, x: &mut CudaTensor, factors: &CudaTensor, bias: Option<&CudaTensor>) {
        pointwise::scale_columns(self, x, factors, bias);
    }

    fn average(&mut self, mean: &mut CudaTensor, x: &CudaTensor, decay: f32) {
        pointwise::average(self, mean, x, decay);
    }

    fn gelu_forward(&mut self, out: &mut CudaTensor, x: &CudaTensor) {
        pointwise::gelu_forward(self, out, x);
    }

    fn gelu_backward(&mut self, dx: &mut CudaTensor, dout: &CudaTensor, x: &CudaTensor) {
        pointwise::gelu_backward(self, dx, dout, x);
    }

    fn swiglu_forward(&mut self, out: &mut CudaTensor, x: &CudaTensor, d_ff: usize) {
        pointwise::swiglu_forward(self, out, x, d_ff);
    }

    fn swiglu_backward(&mut self, dx: &mut CudaTensor, dout: &CudaTensor, x: &CudaTensor, d_ff: usize) {
        pointwise::swiglu_backward(self, dx, dout, x, d_ff);
    }

    fn dropout(&mut self, x: &mut CudaTensor, width: usize, dropout: &Dropout) {
        pointwise::dropout(self, x, width, dropout);
    }

    fn embed_forward(
        &mut self,
        out: &mut CudaTensor,
        wte: &CudaTensor,
        wpe: Option<&CudaTensor>,
        tokens: &CudaIds,
        positions: &CudaIds,
        d_model: usize,
    ) {
        rows::embed_forward(self, out, wte, wpe, tokens, positions, d_model);
    }

    fn embed_backward(
        &mut self,
        dwte: &mut CudaTensor,
        dwpe: Option<&mut CudaTensor>,
        dout: &CudaTensor,
        tokens: &CudaIds,
        positions: &CudaIds,
        d_model: usize,
    ) {
        rows::embed_backward(self, dwte, dwpe, dout, tokens, positions, d_model);
    }

    fn gather_forward(&mut self, out: &mut CudaTensor, x: &CudaTensor, rows: &CudaIds, width: usize) {
        rows::gather_forward(self, out, x, rows, width);
    }

    fn gather_backward(&mut self, dx: &mut CudaTensor, dout: &CudaTensor, rows: &CudaIds, width: usize) {
        rows::gather_backward(self, dx, dout, rows, width);
    }

    fn layer_norm_forward(
        &mut self,
        out: &mut CudaTensor,
        stats: &mut CudaTensor,
        x: &CudaTensor,
        weight: &CudaTensor,
        bias: Option<&CudaTensor>,
        eps: f32,
    ) {
        norm::forward(self, Kind::Layer, out, stats, x, None, weight, bias, eps);
    }

    fn layer_norm_backward(
        &mut self,
        dx: &mut CudaTensor,
        dweight: &mut CudaTensor,
        dbias: Option<&mut CudaTensor>,
        dout: &CudaTensor,
        x: &CudaTensor,
        stats: &CudaTensor,
        weight: &CudaTensor,
        groups: &[usize],
    ) {
        norm::backward(self, Kind::Layer, dx, dweight, dbias, dout, x, stats, weight, groups);
    }

    fn add_layer_norm_forward(
        &mut self,
        sum: &mut CudaTensor,
        out: &mut CudaTensor,
        stats: &mut CudaTensor,
        a: &CudaTensor,
        b: &CudaTensor,
        weight: &CudaTensor,
        bias: Option<&CudaTensor>,
        eps: f32,
    ) {
        norm::forward(self, Kind::Layer, out, stats, a, Some((sum, b)), weight, bias, eps);
    }

    fn rms_norm_forward(
        &mut self,
        out: &mut CudaTensor,
        stats: &mut CudaTensor,
        x: &CudaTensor,
        weight: &CudaTensor,
        eps: f32,
    ) {
        norm::forward(self, Kind::Rms, out, stats, x, None, weight, None, eps);
    }

    fn rms_norm_backward(
        &mut self,
        dx: &mut CudaTensor,
        dweight: &mut CudaTensor,
        dout: &CudaTensor,
        x: &CudaTensor,
        stats: &CudaTensor,
        weight: &CudaTensor,
        groups: &[usize],
    ) {
        norm::backward(self, Kind::Rms, dx, dweight, None, dout, x, stats, weight, groups);
    }

    fn add_rms_norm_forward(
        &mut self,
        sum: &mut CudaTensor,
        out: &mut CudaTensor,
        stats: &mut CudaTensor,
        a: &CudaTensor,
        b: &CudaTensor,
        weight: &CudaTensor,
        eps: f32,
    ) {
        norm::forward(self, Kind::Rms, out, stats, a, Some((sum, b)), weight, None, eps);
    }

    fn head_norm_forward(
        &mut self,
        out: &mut CudaTensor,
        stats: &mut CudaTensor,
        qkv: &CudaTensor,
        q_weight: &CudaTensor,
        k_weight: &CudaTensor,
        eps: f32,
        shape: &AttentionShape,
    ) {
        norm::heads_forward(self, out, stats, qkv, [q_weight, k_weight], eps, shape);
    }

    fn head_norm_backward(
        &mut self,
        dqkv: &mut CudaTensor,
        dq_weight: &mut CudaTensor,
        dk_weight: &mut CudaTensor,
        dout: &CudaTensor,
        qkv: &CudaTensor,
        stats: &CudaTensor,
        q_weight: &CudaTensor,
        k_weight: &CudaTensor,
        shape: &AttentionShape,
        groups: &[usize],
    ) {
        let (dgains, gains) = ([dq_weight, dk_weight], [q_weight, k_weight]);
        norm::heads_backward(self, dqkv, dgains, dout, qkv, stats, gains, shape, groups);
    }

    fn rope_forward(
        &mut self,
        qkv: &mut CudaTensor,
        table: &CudaTensor,
        positions: &CudaIds,
        shape: &AttentionShape,
    ) {
        pointwise::rotate(self, qkv, table, positions, shape, 1.0);
    }

    fn rope_backward(
        &mut self,
        dqkv: &mut CudaTensor,
        table: &CudaTensor,
        positions: &CudaIds,
        shape: &AttentionShape,
    ) {
        pointwise::rotate(self, dqkv, table, positions, shape, -1.0);
    }

    fn linear_forward(
        &mut self,
        out: &mut CudaTensor,
        x: &CudaTensor,
        weight: &CudaTensor,
        bias: Option<&CudaTensor>,
        shape: LinearShape,
    ) {
        linear::forward(self, out, x, weight, bias, shape);
    }

    fn linear_backward_input(
        &mut self,
        dx: &mut CudaTensor,
        dout: &CudaTensor,
        weight: &CudaTensor,
        shape: LinearShape,
    ) {
        linear::backward_input(self, dx, dout, weight, shape);
    }

    fn linear_backward_weight(
        &mut self,
        dweight: &mut CudaTensor,
        dbias: Option<&mut CudaTensor>,
        dout: &CudaTensor,
        x: &CudaTensor,
        shape: LinearShape,
        groups: &[usize],
    ) {
        linear::backward_weight(self, dweight, dbias, dout, x, shape, groups);
    }

    fn linear_gelu_forward(
        &mut self,
        out: &mut CudaTensor,
        product: &mut CudaTensor,
        x: &CudaTensor,
        weight: &CudaTensor,
        bias: Option<&CudaTensor>,
        shape: LinearShape,
    ) {
        linear::gelu_forward(self, out, product, x, weight, bias, shape);
    }

    fn linear_gelu_backward_input(
        &mut self,
        dx: &mut CudaTensor,
        between: &mut CudaTensor,
        dout: &CudaTensor,
        weight: &CudaTensor,
        x: &CudaTensor,
        shape: LinearShape,
    ) {
        linear::gelu_backward_input(self, dx, between, dout, weight, x, shape);
    }

    fn linear_add_forward(
        &mut self,
        out: &mut CudaTensor,
        between: &mut CudaTensor,
        residual: &CudaTensor,
        x: &CudaTensor,
        weight: &CudaTensor,
        bias: Option<&CudaTensor>,
        shape: LinearShape,
    ) {
        linear::add_forward(self, out, between, residual, x, weight, bias, shape);
    }

    fn attention_forward(
        &mut self,
        out: &mut CudaTensor,
        lse: &mut CudaTensor,
        qkv: &CudaTensor,
        lens: &CudaIds,
        shape: &AttentionShape,
        dropout: Option<&Dropout>,
    ) {
        attention::forward(self, out, lse, qkv, lens, shape, dropout);
    }

    fn attention_backward(
        &mut self,
        dqkv: &mut CudaTensor,
        dout: &CudaTensor,
        out: &CudaTensor,
        lse: &CudaTensor,
        qkv: &CudaTensor,
        lens: &CudaIds,
        shape: &AttentionShape,
        dropout: Option<&Dropout>,
    ) {
        attention::backward(self, dqkv, dout, out, lse, qkv, lens, shape, dropout);
    }

    fn attention_cached(
        &mut self,
        out: &mut CudaTensor,
        keys: &mut CudaTensor,
        values: &mut CudaTensor,
        qkv: &CudaTensor,
        spans: &CudaIds,
        capacity: usize,
        shape: &AttentionShape,
    ) {
        attention::cached(self, out, keys, values, qkv, spans, capacity, shape);
    }

    fn cache_fork(
        &mut self,
        cache: &mut CudaTensor,
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
        logprobs: &mut CudaScalars,
        entropies: Option<&mut CudaScalars>,
        hidden: &CudaTensor,
        weight: &CudaTensor,
        targets: &CudaIds,
        shape: &HeadShape,
    ) {
        head::forward(self, logprobs, entropies, hidden, weight, targets, shape);
    }

    fn head_backward(
        &mut self,
        logprobs: &mut CudaScalars,
        dhidden: &mut CudaTensor,
        dweight: Option<&mut CudaTensor>,
        dlogprobs: &CudaScalars,
        dentropies: Option<&CudaScalars>,
        hidden: &CudaTensor,
        weight: &CudaTensor,
        targets: &CudaIds,
        shape: &HeadShape,
        groups: &[usize],
    ) {
        head::backward(
            self, logprobs, dhidden, dweight, dlogprobs, dentropies, hidden, weight, targets, shape, groups,
        );
    }

    fn draw(&mut self, out: &mut [Drawn], logits: &CudaTensor, vocab_size: usize, draws: &[Draw<'_>]) {
        draw::draw(self, out, logits, vocab_size, draws);
    }

    fn token_logprobs(
        &mut self,
        out: &mut [Option<TokenLogprob>],
        logits: &CudaTensor,
        vocab_size: usize,
        asked: &[(usize, u32)],
    ) {
        let logits = self.on_host(logits);
        self.cpu.token_logprobs(out, &logits, vocab_size, asked);
    }

    fn likeliest(&mut self, out: &mut [u32], logits: &CudaTensor, vocab_size: usize, row: usize) {
        let logits = self.on_host(logits);
        self.cpu.likeliest(out, &logits, vocab_size, row);
    }

    fn clear(&mut self, tensors: &mut [&mut CudaTensor]) {
        optimizer::clear(self, tensors);
    }
    fn norm(&mut self, out: &mut CudaScalars, tensors: &[&CudaTensor]) {
        optimizer::norm(self, out, tensors);
    }

    fn adamw(
        &mut self,
        parameters: &mut [Parameter<'_, CudaTensor>],
        settings: &AdamW,
        updates: &mut CudaScalars,
        norms: &mut CudaScalars,
        finite: &[&CudaScalars],
    ) {
        optimizer::adamw(self, parameters, settings, updates, norms, finite);
    }
    fn newton_schulz(&mut self, x: &mut CudaTensor, work: [&mut CudaTensor; 3], rows: usize, columns: usize) {
        self.in_f32(|cuda| kernels::newton_schulz(cuda, x, work, rows, columns));
    }
    fn add_up_ranks(&mut self, x: &mut [&mut CudaTensor], additions: &[[usize; 2]], sum: usize) -> bool {
        exchange::add_up(self, x, additions, sum)
    }
    fn send_to_ranks(&mut self, x: &mut [&mut CudaTensor], from: usize) -> bool {
        exchange::send(self, x, from)
    }
}
