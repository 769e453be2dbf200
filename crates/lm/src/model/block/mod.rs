//! One decoder block, forward and backward: attention and a feed-forward layer, each in a residual branch.
//!
//! With norms before the layers (GPT-2 and everything since) a branch is `x + f(norm(x))`; with norms after
//! them (GPT-1) it is `norm(x + f(x))`. What `f` is stands in `attention` and `mlp`.

pub(super) mod attention;
mod linear;
mod mlp;
pub(super) mod norm;

pub(super) use attention::Attend;
pub(super) use linear::Scratch;

use super::{Block, Config, Linear, NormPlace, OfMatrices, Pair};
use kernels::{Backend, Dropout};
use linear::{Layer, Learned};
use norm::stats_width;

/// The matrices of a block, in the order of [`Config::products`] and of [`OfMatrices`].
const QKV: usize = 0;
const ATTN_OUT: usize = 1;
const MLP_UP: usize = 2;
const MLP_DOWN: usize = 3;

/// What a block leaves behind for its backward pass. `rows` × `d_model` unless said otherwise.
pub(super) struct BlockActivations<T> {
    /// The first norm's output: attention's input, or in a post-norm block the feed-forward layer's.
    norm1: T,
    stats1: T,
    attention: attention::Activations<T>,
    /// The sum after attention.
    mid: T,
    /// The second norm's output: the feed-forward layer's input. A post-norm block writes it to the block's
    /// output.
    norm2: T,
    stats2: T,
    mlp: mlp::Activations<T>,
    /// The sum after the feed-forward layer. A pre-norm block writes it to the block's output.
    end: T,
    branch: T,
}

impl<T> BlockActivations<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B, c: &Config) -> Self {
        BlockActivations {
            // A post-norm block adds to its first norm's output, so that one is part of the residual stream.
            norm1: match c.norm_place {
                NormPlace::Pre => b.activation(0),
                NormPlace::Post => b.zeros(0),
            },
            stats1: b.zeros(0),
            attention: attention::Activations::new(b),
            mid: b.zeros(0),
            norm2: b.activation(0),
            stats2: b.zeros(0),
            mlp: mlp::Activations::new(b),
            end: b.zeros(0),
            branch: b.activation(0),
        }
    }

    pub(super) fn resize<B: Backend<Tensor = T>>(&mut self, b: &mut B, c: &Config, rows: usize) {
        let Self { norm1, stats1, attention, mid, norm2, stats2, mlp, end, branch } = self;
        let second = match c.norm_place {
            NormPlace::Pre => norm2,
            NormPlace::Post => end,
        };
        for x in [norm1, mid, second, branch] {
            b.resize(x, rows * c.d_model);
        }
        for x in [stats1, stats2] {
            b.resize(x, rows * stats_width(c));
        }
        attention.resize(b, c, rows);
        mlp.resize(b, c, rows);
    }
}

/// Gradients between the operations of a block, used by one block after another.
pub(super) struct BlockGradients<T> {
    branch: T,
    /// Of a branch's input.
    input: T,
    attention: attention::Gradients<T>,
    mlp: mlp::Gradients<T>,
    /// Of the sum after the feed-forward layer, in post-norm blocks.
    end: T,
    scratch: Scratch<T>,
}

impl<T> BlockGradients<T> {
    pub(super) fn new<B: Backend<Tensor = T>>(b: &mut B) -> Self {
        BlockGradients {
            branch: b.activation(0),
            input: b.activation(0),
            attention: attention::Gradients::new(b),
            mlp: mlp::Gradients::new(b),
            end: b.zeros(0),
            scratch: Scratch::new(b),
        }
    }

    pub(super) fn resize<B: Backend<Tensor = T>>(&mut self, b: &mut B, c: &Config, rows: usize) {
        let Self { branch, input, attention, mlp, end, scratch: _ } = self;
        for x in [branch, input] {
            b.resize(x, rows * c.d_model);
        }
        attention.resize(b, c, rows);
        mlp.resize(b, c, rows);
        if c.norm_place == NormPlace::Post {
            b.resize(end, rows * c.d_model);
        }
    }
}

/// Where a block stands and what its rows are.
pub(super) struct Place<'a, B: Backend> {
    /// The block's number.
    pub(super) layer: usize,
    /// Position of each row in its sequence.
    pub(super) positions: &'a B::Ids,
    /// The rotary embedding's table, where positions are rotary.
    pub(super) angles: Option<&'a B::Tensor>,
    /// Where values are dropped, in training.
    pub(super) dropout: Option<BlockDropout>,
    /// Rows of the groups within which gradients are summed first.
    pub(super) groups: &'a [usize],
    /// Whether matrices are learned, so that their gradients are wanted.
    pub(super) learns: bool,
    /// What stands beside its matrices.
    pub(super) adapter: Option<&'a OfMatrices<Pair<B::Tensor>>>,
    /// Where values that adapters read are dropped, in training.
    pub(super) adapter_dropout: Option<[Dropout; 4]>,
    /// Whether the block is computed for its insides alone: what it puts out is there.
    pub(super) again: bool,
}

impl<'a, B: Backend> Place<'a, B> {
    /// One of the block's matrices, with what stands beside it.
    fn linear(
        &self,
        c: &Config,
        linear: &'a Linear<B::Tensor>,
        matrix: usize,
        rows: usize,
    ) -> Layer<'a, B::Tensor> {
        let pair = self.adapter.and_then(|pairs| pairs[matrix].as_ref());
        let dropout = self.adapter_dropout.map(|dropout| dropout[matrix]);
        Layer { linear, shape: c.products(rows)[matrix], pair: pair.map(|pair| (pair, dropout)) }
    }

    /// What is learned of it.
    fn learned<'g>(
        &self,
        linear: &'g mut Linear<B::Tensor>,
        pair: Option<&'g mut Pair<B::Tensor>>,
    ) -> Learned<'g, B::Tensor>
    where
        'a: 'g,
    {
        Learned { linear: self.learns.then_some(linear), pair, groups: self.groups }
    }
}

/// Where a block drops values: a stream of random numbers for each of its three places.
#[derive(Clone, Copy)]
pub(super) struct BlockDropout {
    pub(super) attention: Dropout,
    pub(super) attn_branch: Dropout,
    pub(super) mlp_branch: Dropout,
}

/// `out = block(x)`, both `[rows, d_model]` of the residual stream. Computed [again](Place::again), `out` is what
/// it was.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    a: &mut BlockActivations<B::Tensor>,
    out: &mut B::Tensor,
    scratch: &mut Scratch<B::Tensor>,
    x: &B::Tensor,
    attend: Attend<'_, B>,
    place: &Place<'_, B>,
) {
    match c.norm_place {
        NormPlace::Pre => {
            norm::forward(b, c, &w.norm1, &mut a.norm1, &mut a.stats1, x);
            attention::forward(b, c, w, &mut a.attention, &mut a.branch, scratch, &a.norm1, attend, place);
            norm::add_forward(b, c, &w.norm2, &mut a.mid, &mut a.norm2, &mut a.stats2, x, &a.branch);
            mlp::add_forward(b, c, w, &mut a.mlp, out, &mut a.branch, scratch, &a.mid, &a.norm2, place);
        }
        NormPlace::Post => {
            attention::forward(b, c, w, &mut a.attention, &mut a.branch, scratch, x, attend, place);
            norm::add_forward(b, c, &w.norm1, &mut a.mid, &mut a.norm1, &mut a.stats1, x, &a.branch);
            mlp::forward(b, c, w, &mut a.mlp, &mut a.branch, scratch, &a.norm1, place);
            norm::add_forward(b, c, &w.norm2, &mut a.end, out, &mut a.stats2, &a.norm1, &a.branch);
        }
    }
}

/// Turns `dx` from the gradient of the block's output into that of its input, and adds to the weights'
/// gradients. The forward pass in reverse, line by line.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Block<B::Tensor>,
    dw: &mut Block<B::Tensor>,
    dadapter: Option<&mut OfMatrices<Pair<B::Tensor>>>,
    a: &BlockActivations<B::Tensor>,
    g: &mut BlockGradients<B::Tensor>,
    dx: &mut B::Tensor,
    x: &B::Tensor,
    lens: &B::Ids,
    place: &Place<'_, B>,
) {
    let groups = place.groups;
    let BlockGradients { branch, input, attention, mlp, end, scratch } = g;
    let dpairs = dadapter.map(|pairs| pairs.each_mut().map(Option::as_mut));
    let [dqkv, dattn_out, dup, ddown] = dpairs.unwrap_or_default();
    let (dof_attention, dof_mlp) = ([dqkv, dattn_out], [dup, ddown]);
    match c.norm_place {
        NormPlace::Pre => {
            b.copy(branch, dx);
            mlp::backward(b, c, w, dw, dof_mlp, &a.mlp, mlp, scratch, input, branch, &a.norm2, place);
            norm::backward(b, c, &w.norm2, &mut dw.norm2, dx, input, &a.mid, &a.stats2, groups);
            b.copy(branch, dx);
            let (of_attention, x_of) = (&a.attention, &a.norm1);
            attention::backward(
                b,
                c,
                w,
                dw,
                dof_attention,
                of_attention,
                attention,
                scratch,
                input,
                branch,
                x_of,
                lens,
                place,
            );
            norm::backward(b, c, &w.norm1, &mut dw.norm1, dx, input, x, &a.stats1, groups);
        }
        NormPlace::Post => {
            b.fill(end, 0.0);
            norm::backward(b, c, &w.norm2, &mut dw.norm2, end, dx, &a.end, &a.stats2, groups);
            b.copy(branch, end);
            mlp::backward(b, c, w, dw, dof_mlp, &a.mlp, mlp, scratch, input, branch, &a.norm1, place);
            b.accumulate(end, input);
            b.fill(dx, 0.0);
            norm::backward(b, c, &w.norm1, &mut dw.norm1, dx, end, &a.mid, &a.stats1, groups);
            b.copy(branch, dx);
            let of_attention = &a.attention;
            attention::backward(
                b,
                c,
                w,
                dw,
                dof_attention,
                of_attention,
                attention,
                scratch,
                input,
                branch,
                x,
                lens,
                place,
            );
            b.accumulate(dx, input);
        }
    }
}
