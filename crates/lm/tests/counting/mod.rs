//! A backend that counts what crosses between the host and the memory of the one inside.

use kernels::{
    AdamW, AttentionShape, Backend, BlockMatrix, Draw, Drawn, Dropout, HeadShape, LinearShape, Parameter,
    TokenLogprob,
};
use std::ops::Range;

/// Copies to the backend and back. A list of nothing crosses nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Crossings {
    pub(crate) up: u64,
    pub(crate) up_bytes: u64,
    /// Each waits for all the work before it.
    pub(crate) reads: u64,
    pub(crate) down_bytes: u64,
}

impl std::iter::Sum for Crossings {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            up: a.up + b.up,
            up_bytes: a.up_bytes + b.up_bytes,
            reads: a.reads + b.reads,
            down_bytes: a.down_bytes + b.down_bytes,
        })
    }
}

impl std::fmt::Display for Crossings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { up, up_bytes, reads, down_bytes } = self;
        write!(f, "{up:3} ({up_bytes:4} B) {reads:3} ({down_bytes:4} B)")
    }
}

pub(crate) struct Counting<B> {
    inner: B,
    pub(crate) crossings: Crossings,
}

impl<B> Counting<B> {
    pub(crate) fn new(inner: B) -> Self {
        Counting { inner, crossings: Crossings::default() }
    }

    fn up<T: ?Sized>(&mut self, values: &T) {
        let bytes = size_of_val(values) as u64;
        self.crossings.up += u64::from(bytes > 0);
        self.crossings.up_bytes += bytes;
    }

    fn down<T: ?Sized>(&mut self, values: &T) {
        self.crossings.reads += 1;
        self.crossings.down_bytes += size_of_val(values) as u64;
    }
}

/// Methods that leave everything where it is.
macro_rules! inside {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name(&mut self, $($argument: $type),*) $(-> $result)? {
            self.inner.$name($($argument),*)
        })*
    };
}

#[allow(clippy::too_many_arguments)]
impl<B: Backend> Backend for Counting<B> {
    type Tensor = B::Tensor;
    type Ids = B::Ids;
    type Scalars = B::Scalars;

    fn len(&self, x: &B::Tensor) -> usize {
        self.inner.len(x)
    }

    fn upload(&mut self, out: &mut B::Tensor, values: &[f32]) {
        self.up(values);
        self.inner.upload(out, values);
    }

    fn upload_ids(&mut self, out: &mut B::Ids, values: &[u32]) {
        self.up(values);
        self.inner.upload_ids(out, values);
    }

    fn upload_scalars(&mut self, out: &mut B::Scalars, values: &[f64]) {
        self.up(values);
        self.inner.upload_scalars(out, values);
    }

    fn download(&mut self, out: &mut [f32], x: &B::Tensor) {
        self.down(out);
        self.inner.download(out, x);
    }

    fn read(&mut self, out: &mut Vec<f64>, lists: &[&B::Scalars]) {
        self.inner.read(out, lists);
        self.down(out.as_slice());
    }

    fn draw(&mut self, out: &mut [Drawn], logits: &B::Tensor, vocab_size: usize, draws: &[Draw<'_>]) {
        self.up(draws);
        self.down(out);
        self.inner.draw(out, logits, vocab_size, draws);
    }

    fn token_logprobs(
        &mut self,
        out: &mut [Option<TokenLogprob>],
        logits: &B::Tensor,
        vocab_size: usize,
        asked: &[(usize, u32)],
    ) {
        self.up(asked);
        self.down(out);
        self.inner.token_logprobs(out, logits, vocab_size, asked);
    }

    fn likeliest(&mut self, out: &mut [u32], logits: &B::Tensor, vocab_size: usize, row: usize) {
        self.down(out);
        self.inner.likeliest(out, logits, vocab_size, row);
    }

    inside! {
        fn zeros(len: usize) -> B::Tensor;
        fn arena(lens: &[usize]) -> Vec<B::Tensor>;
        fn activation(len: usize) -> B::Tensor;
        fn blocks(matrix: BlockMatrix) -> B::Tensor;
        fn packed(weight: &B::Tensor, d_in: usize, d_out: usize) -> B::Tensor;
        fn share(weight: &mut B::Tensor) -> B::Tensor;
        fn ids() -> B::Ids;
        fn scalars() -> B::Scalars;
        fn copy(out: &mut B::Tensor, x: &B::Tensor);
        fn resize(x: &mut B::Tensor, len: usize);
        fn fill(out: &mut B::Tensor, value: f32);
        fn add(out: &mut B::Tensor, a: &B::Tensor, b: &B::Tensor);
        fn accumulate(sum: &mut B::Tensor, x: &B::Tensor);
        fn scale(x: &mut B::Tensor, factor: f32);
        fn scale_columns(x: &mut B::Tensor, factors: &B::Tensor, bias: Option<&B::Tensor>);
        fn average(mean: &mut B::Tensor, x: &B::Tensor, decay: f32);
        fn gelu_forward(out: &mut B::Tensor, x: &B::Tensor);
        fn gelu_backward(dx: &mut B::Tensor, dout: &B::Tensor, x: &B::Tensor);
        fn swiglu_forward(out: &mut B::Tensor, x: &B::Tensor, d_ff: usize);
        fn swiglu_backward(dx: &mut B::Tensor, dout: &B::Tensor, x: &B::Tensor, d_ff: usize);
        fn dropout(x: &mut B::Tensor, width: usize, dropout: &Dropout);
        fn embed_forward(
            out: &mut B::Tensor, wte: &B::Tensor, wpe: Option<&B::Tensor>, tokens: &B::Ids,
            positions: &B::Ids, d_model: usize
        );
        fn embed_backward(
            dwte: &mut B::Tensor, dwpe: Option<&mut B::Tensor>, dout: &B::Tensor, tokens: &B::Ids,
            positions: &B::Ids, d_model: usize
        );
        fn gather_forward(out: &mut B::Tensor, x: &B::Tensor, rows: &B::Ids, width: usize);
        fn gather_backward(dx: &mut B::Tensor, dout: &B::Tensor, rows: &B::Ids, width: usize);
        fn layer_norm_forward(
            out: &mut B::Tensor, stats: &mut B::Tensor, x: &B::Tensor, weight: &B::Tensor,
            bias: Option<&B::Tensor>, eps: f32
        );
        fn layer_norm_backward(
            dx: &mut B::Tensor, dweight: &mut B::Tensor, dbias: Option<&mut B::Tensor>, dout: &B::Tensor,
            x: &B::Tensor, stats: &B::Tensor, weight: &B::Tensor, groups: &[usize]
        );
        fn add_layer_norm_forward(
            sum: &mut B::Tensor, out: &mut B::Tensor, stats: &mut B::Tensor, a: &B::Tensor, b: &B::Tensor,
            weight: &B::Tensor, bias: Option<&B::Tensor>, eps: f32
        );
        fn rms_norm_forward(
            out: &mut B::Tensor, stats: &mut B::Tensor, x: &B::Tensor, weight: &B::Tensor, eps: f32
        );
        fn rms_norm_backward(
            dx: &mut B::Tensor, dweight: &mut B::Tensor, dout: &B::Tensor, x: &B::Tensor,
            stats: &B::Tensor, weight: &B::Tensor, groups: &[usize]
        );
        fn add_rms_norm_forward(
            sum: &mut B::Tensor, out: &mut B::Tensor, stats: &mut B::Tensor, a: &B::Tensor, b: &B::Tensor,
            weight: &B::Tensor, eps: f32
        );
        fn head_norm_forward(
            out: &mut B::Tensor, stats: &mut B::Tensor, qkv: &B::Tensor, q_weight: &B::Tensor,
            k_weight: &B::Tensor, eps: f32, shape: &AttentionShape
        );
        fn head_norm_backward(
            dqkv: &mut B::Tensor, dq_weight: &mut B::Tensor, dk_weight: &mut B::Tensor, dout: &B::Tensor,
            qkv: &B::Tensor, stats: &B::Tensor, q_weight: &B::Tensor, k_weight: &B::Tensor,
            shape: &AttentionShape, groups: &[usize]
        );
        fn rope_forward(qkv: &mut B::Tensor, table: &B::Tensor, positions: &B::Ids, shape: &AttentionShape);
        fn rope_backward(dqkv: &mut B::Tensor, table: &B::Tensor, positions: &B::Ids, shape: &AttentionShape);
        fn linear_forward(
            out: &mut B::Tensor, x: &B::Tensor, weight: &B::Tensor, bias: Option<&B::Tensor>,
            shape: LinearShape
        );
        fn linear_backward_input(
            dx: &mut B::Tensor, dout: &B::Tensor, weight: &B::Tensor, shape: LinearShape
        );
        fn linear_backward_weight(
            dweight: &mut B::Tensor, dbias: Option<&mut B::Tensor>, dout: &B::Tensor, x: &B::Tensor,
            shape: LinearShape, groups: &[usize]
        );
        fn linear_gelu_forward(
            out: &mut B::Tensor, product: &mut B::Tensor, x: &B::Tensor, weight: &B::Tensor,
            bias: Option<&B::Tensor>, shape: LinearShape
        );
        fn linear_gelu_backward_input(
            dx: &mut B::Tensor, between: &mut B::Tensor, dout: &B::Tensor, weight: &B::Tensor,
            x: &B::Tensor, shape: LinearShape
        );
        fn linear_add_forward(
            out: &mut B::Tensor, between: &mut B::Tensor, residual: &B::Tensor, x: &B::Tensor,
            weight: &B::Tensor, bias: Option<&B::Tensor>, shape: LinearShape
        );
        fn attention_forward(
            out: &mut B::Tensor, lse: &mut B::Tensor, qkv: &B::Tensor, lens: &B::Ids,
            shape: &AttentionShape, dropout: Option<&Dropout>
        );
        fn attention_backward(
            dqkv: &mut B::Tensor, dout: &B::Tensor, out: &B::Tensor, lse: &B::Tensor, qkv: &B::Tensor,
            lens: &B::Ids, shape: &AttentionShape, dropout: Option<&Dropout>
        );
        fn attention_cached(
            out: &mut B::Tensor, keys: &mut B::Tensor, values: &mut B::Tensor, qkv: &B::Tensor,
            spans: &B::Ids, capacity: usize, shape: &AttentionShape
        );
        fn cache_fork(
            cache: &mut B::Tensor, from: usize, into: Range<usize>, len: usize, capacity: usize,
            shape: &AttentionShape
        );
        fn head_forward(
            logprobs: &mut B::Scalars, entropies: Option<&mut B::Scalars>, hidden: &B::Tensor,
            weight: &B::Tensor, targets: &B::Ids, shape: &HeadShape
        );
        fn head_backward(
            logprobs: &mut B::Scalars, dhidden: &mut B::Tensor, dweight: Option<&mut B::Tensor>,
            dlogprobs: &B::Scalars, dentropies: Option<&B::Scalars>, hidden: &B::Tensor,
            weight: &B::Tensor, targets: &B::Ids, shape: &HeadShape, groups: &[usize]
        );
        fn clear(tensors: &mut [&mut B::Tensor]);
        fn norm(out: &mut B::Scalars, tensors: &[&B::Tensor]);
        fn adamw(
            parameters: &mut [Parameter<'_, B::Tensor>], settings: &AdamW, updates: &mut B::Scalars,
            norms: &mut B::Scalars, finite: &[&B::Scalars]
        );
        fn newton_schulz(
            x: &mut B::Tensor, work: [&mut B::Tensor; 3], rows: usize, columns: usize
        );
    }
}
