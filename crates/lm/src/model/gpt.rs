//! The model, forward and backward: embedding → blocks → norm → head, as a list of operation calls.
//!
//! State belongs to the caller: weights, gradients and activations come in as arguments.

use super::block::{self, Attend, BlockActivations, BlockDropout, BlockGradients, Place, Scratch, norm};
use super::score::{ScoreActivations, ScoreGradients};
use super::{Config, Keep, Spec, Weights, is_learned, zeros_where};
use kernels::{Backend, Dropout, HeadShape};

/// Sequences of tokens, one after another, and how they are noised.
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a> {
    /// The tokens of all sequences.
    pub tokens: &'a [u32],
    /// The length of each sequence; they add up to `tokens`. Positions count from 0 in each.
    pub lens: &'a [usize],
    /// Dropout during training; none in evaluation.
    pub noise: Option<Noise>,
}

/// Which random numbers dropout takes: a pure function of these, so that the backward pass and a repeated run
/// agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    /// The run's seed mixed with the step.
    pub seed: u64,
    /// Index of the first row in the step's whole batch, so that micro-batches do not repeat each other's
    /// masks.
    pub first_row: u64,
}

/// What the language-model head is asked: how likely some token is after each row.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// One for each row, or [`NO_TARGET`](kernels::NO_TARGET).
    pub tokens: &'a [u32],
    /// Logits are divided by it: 1 for a language model, the sampling temperature for a policy, whose
    /// distribution is the one that was sampled from.
    pub temperature: f32,
}

impl<'a> Targets<'a> {
    /// Of a language model.
    pub fn new(tokens: &'a [u32]) -> Self {
        Targets { tokens, temperature: 1.0 }
    }
}

/// Derivatives of a loss by what the language-model head tells of each row.
#[derive(Clone, Copy, Debug)]
pub struct HeadDerivatives<'a, S> {
    /// By the log-probability of the target.
    pub logprobs: &'a S,
    /// By the entropy of the distribution, if the loss has it.
    pub entropies: Option<&'a S>,
}

impl<'a, S> HeadDerivatives<'a, S> {
    /// Of a loss that knows log-probabilities only.
    pub fn by_logprobs(logprobs: &'a S) -> Self {
        HeadDerivatives { logprobs, entropies: None }
    }
}

/// What the forward pass leaves for the backward pass: the batch itself, once for all that asks for it, and
/// what became of it.
pub struct Activations<B: Backend> {
    batch: BatchIds<B>,
    noise: Option<Noise>,
    pub(super) targets: B::Ids,
    pub(super) asked: HeadShape,
    angles: Option<B::Tensor>,
    /// The residual stream before each block, and after the last.
    residual: Vec<B::Tensor>,
    /// Of every block, or of the one that was computed last.
    blocks: Vec<BlockActivations<B::Tensor>>,
    scratch: Scratch<B::Tensor>,
    stats: B::Tensor,
    /// The last norm's output `[rows, d_model]`: what the head reads.
    pub hidden: B::Tensor,
    pub(super) score: ScoreActivations<B>,
}

/// The rows of a batch in the backend's memory.
struct BatchIds<B: Backend> {
    tokens: B::Ids,
    positions: B::Ids,
    lens: B::Ids,
    /// What is made on the host before it is uploaded.
    host: Vec<u32>,
}

impl<B: Backend> BatchIds<B> {
    fn new(b: &mut B) -> Self {
        BatchIds { tokens: b.ids(), positions: b.ids(), lens: b.ids(), host: Vec::new() }
    }

    fn upload(&mut self, b: &mut B, batch: Sequences<'_>) {
        let Self { tokens, positions, lens, host } = self;
        b.upload_ids(tokens, batch.tokens);
        host.clear();
        host.extend(batch.lens.iter().flat_map(|&len| 0..len as u32));
        b.upload_ids(positions, host);
        host.clear();
        host.extend(batch.lens.iter().map(|&len| len as u32));
        b.upload_ids(lens, host);
    }
}

impl<B: Backend> Activations<B> {
    /// Buffers for a model that keep the insides of all blocks; they grow to the first batch.
    pub fn new(b: &mut B, c: &Config) -> Self {
        Self::keeping(b, c, Keep::Blocks)
    }

    /// The same that keep as much as is said.
    pub fn keeping(b: &mut B, c: &Config, keep: Keep) -> Self {
        Activations {
            batch: BatchIds::new(b),
            noise: None,
            targets: b.ids(),
            asked: HeadShape::new(0, c.d_model, c.vocab_size),
            angles: angles(b, c, c.seq_len),
            residual: (0..=c.n_layer).map(|_| b.zeros(0)).collect(),
            blocks: (0..keep.blocks(c)).map(|_| BlockActivations::new(b, c)).collect(),
            scratch: Scratch::new(b),
            stats: b.zeros(0),
            hidden: b.activation(0),
            score: ScoreActivations::new(b),
        }
    }

    /// Says what the head is asked in this pass: [`logprobs`] and [`head_backward`] come next.
    pub fn ask(&mut self, b: &mut B, targets: Targets<'_>) {
        b.upload_ids(&mut self.targets, targets.tokens);
        self.asked.rows = targets.tokens.len();
        self.asked.temperature = targets.temperature;
        self.asked.z_loss = 0.0;
    }

    /// What [`head_backward`] adds to the loss that was [asked](Self::ask) about: `z_loss` times the mean of z², weighed as
    /// the log-probabilities are.
    pub fn price_z(&mut self, z_loss: f32) {
        self.asked.z_loss = z_loss;
    }

    fn resize(&mut self, b: &mut B, c: &Config, rows: usize) {
        self.blocks.iter_mut().for_each(|block| block.resize(b, c, rows));
        for x in self.residual.iter_mut().chain([&mut self.hidden]) {
            b.resize(x, rows * c.d_model);
        }
        b.resize(&mut self.stats, rows * norm::stats_width(c));
    }
}

/// The rotary embedding's table for this many positions, where positions are rotary.
pub(super) fn angles<B: Backend>(b: &mut B, c: &Config, positions: usize) -> Option<B::Tensor> {
    let table = c.rope()?.table(positions, c.head_dim);
    let mut tensor = b.zeros(table.len());
    b.upload(&mut tensor, &table);
    Some(tensor)
}

/// Gradients of a model's weights, and the buffers that the backward pass needs between operations.
pub struct Gradients<T> {
    /// One for each weight. For a tied head the token embedding's gradient is complete after
    /// [`finish`](Self::finish) only.
    pub weights: Weights<T>,
    /// The head's share of a tied embedding's gradient. It is summed apart so that the order of additions,
    /// hence the bits, do not depend on how the batch is cut into micro-batches.
    tied_head: Option<T>,
    /// Whether the blocks' matrices are learned. Where they are not, a third of a step's products is spared,
    /// and their gradients stay at zero.
    pub blocks_learn: bool,
    /// Whether embeddings and the language-model head are.
    embeddings_learn: bool,
    /// Gradient of the hidden state, written by the head.
    pub hidden: T,
    pub(super) score: ScoreGradients<T>,
    residual: T,
    block: BlockGradients<T>,
}

impl<T> Gradients<T> {
    /// Zeros for what is learned of a model that `specs` describe: all of it, or what is beside it.
    pub fn new<B: Backend<Tensor = T>>(b: &mut B, c: &Config, specs: &Weights<Spec>) -> Self {
        let all = specs.adapter.is_none();
        // Norms write theirs in any case; they are small.
        let weights = zeros_where(b, specs, |spec| is_learned(specs, spec) || spec.shape.len() == 1);
        let tied = all && c.tied_head && c.n_label.is_none();
        Gradients {
            weights,
            tied_head: tied.then(|| b.zeros(c.vocab_size * c.d_model)),
            blocks_learn: all,
            embeddings_learn: all,
            hidden: b.activation(0),
            score: ScoreGradients::new(b),
            residual: b.zeros(0),
            block: BlockGradients::new(b),
        }
    }

    /// Sets the gradients to zero: a new step begins.
    pub fn clear<B: Backend<Tensor = T>>(&mut self, b: &mut B) {
        let mut gradients = self.weights.leaves_mut();
        gradients.extend(&mut self.tied_head);
        b.clear(&mut gradients);
    }

    /// Moves the head's share into a tied embedding's gradient: the step's last micro-batch is done.
    pub fn finish<B: Backend<Tensor = T>>(&mut self, b: &mut B) {
        if let Some(head) = &mut self.tied_head {
            b.accumulate(&mut self.weights.wte, head);
            b.fill(head, 0.0);
        }
    }

    /// What the language-model head writes: the gradients of the hidden state, and of the head where it is learned.
    pub(super) fn at_the_head<B: Backend<Tensor = T>>(
        &mut self,
        b: &mut B,
        c: &Config,
    ) -> (&mut T, Option<&mut T>) {
        let dhead = self.embeddings_learn.then(|| match &mut self.weights.lm_head {
            Some(own) => own,
            // A model that scores has it only where language modelling is learned beside.
            None => self.tied_head.get_or_insert_with(|| b.zeros(c.vocab_size * c.d_model)),
        });
        (&mut self.hidden, dhead)
    }

    pub(super) fn resize<B: Backend<Tensor = T>>(&mut self, b: &mut B, c: &Config, rows: usize) {
        self.block.resize(b, c, rows);
        b.resize(&mut self.residual, rows * c.d_model);
        b.resize(&mut self.hidden, rows * c.d_model);
    }
}

/// Runs the trunk over `batch`; the result is `a.hidden`.
pub fn forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Weights<B::Tensor>,
    a: &mut Activations<B>,
    batch: Sequences<'_>,
) {
    assert_eq!(
        batch.tokens.len(),
        batch.lens.iter().sum::<usize>(),
        "lens do not add up to the batch's rows"
    );
    assert!(batch.lens.iter().all(|&len| len <= c.seq_len), "a sequence is longer than the context");
    a.resize(b, c, batch.tokens.len());
    a.batch.upload(b, batch);
    a.noise = batch.noise;

    let BatchIds { tokens, positions, .. } = &a.batch;
    b.embed_forward(&mut a.residual[0], &w.wte, w.wpe.as_ref(), tokens, positions, c.d_model);
    if let Some(dropout) = embedding_dropout(c, batch.noise) {
        b.dropout(&mut a.residual[0], c.d_model, &dropout);
    }
    for i in 0..c.n_layer {
        block_forward(b, c, w, a, i, false);
    }
    let last = &a.residual[c.n_layer];
    match &w.final_norm {
        Some(final_norm) => norm::forward(b, c, final_norm, &mut a.hidden, &mut a.stats, last),
        None => b.copy(&mut a.hidden, last),
    }
}

/// Block `i` of a pass, for the first time or [again](Place::again).
fn block_forward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Weights<B::Tensor>,
    a: &mut Activations<B>,
    i: usize,
    again: bool,
) {
    let Activations { batch, noise, angles, residual, blocks, scratch, .. } = a;
    let place = place(c, w, batch, *noise, angles.as_ref(), i, again);
    let (before, after) = residual.split_at_mut(i + 1);
    let (insides, attend) = (i.min(blocks.len() - 1), Attend::Within(&batch.lens));
    let a = &mut blocks[insides];
    block::forward(b, c, &w.blocks[i], a, &mut after[0], scratch, &before[i], attend, &place);
}

/// Where block `i` of a pass stands.
fn place<'a, B: Backend>(
    c: &Config,
    w: &'a Weights<B::Tensor>,
    batch: &'a BatchIds<B>,
    noise: Option<Noise>,
    angles: Option<&'a B::Tensor>,
    i: usize,
    again: bool,
) -> Place<'a, B> {
    Place {
        layer: i,
        positions: &batch.positions,
        angles,
        dropout: block_dropout(c, noise, i),
        groups: &[],
        learns: false,
        adapter: w.adapter.as_ref().map(|adapter| &adapter.blocks[i]),
        adapter_dropout: adapter_dropout(c, w, noise, i),
        again,
    }
}

/// The trunk in reverse, after [`forward`]: from `g.hidden` to the gradients of all weights but the head's.
/// Insides of blocks that were [not kept](Keep::Inputs) are computed again.
pub fn backward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Weights<B::Tensor>,
    g: &mut Gradients<B::Tensor>,
    a: &mut Activations<B>,
    groups: &[usize],
) {
    let dx = &mut g.residual;
    let last = &a.residual[c.n_layer];
    match (&w.final_norm, &mut g.weights.final_norm) {
        (Some(final_norm), Some(dfinal_norm)) => {
            b.fill(dx, 0.0);
            norm::backward(b, c, final_norm, dfinal_norm, dx, &g.hidden, last, &a.stats, groups);
        }
        _ => b.copy(dx, &g.hidden),
    }
    for (i, block) in w.blocks.iter().enumerate().rev() {
        // Those of the last one are there from the pass forward.
        if a.blocks.len() < c.n_layer && i + 1 < c.n_layer {
            block_forward(b, c, w, a, i, true);
        }
        let place = Place {
            groups,
            learns: g.blocks_learn,
            ..place(c, w, &a.batch, a.noise, a.angles.as_ref(), i, false)
        };
        let Weights { blocks, adapter, .. } = &mut g.weights;
        let (dw, dadapter) = (&mut blocks[i], adapter.as_mut().map(|adapter| &mut adapter.blocks[i]));
        let (insides, g, x) = (&a.blocks[i.min(a.blocks.len() - 1)], &mut g.block, &a.residual[i]);
        block::backward(b, c, block, dw, dadapter, insides, g, dx, x, &a.batch.lens, &place);
    }
    if !g.embeddings_learn {
        return;
    }
    if let Some(dropout) = embedding_dropout(c, a.noise) {
        b.dropout(dx, c.d_model, &dropout);
    }
    let (Weights { wte, wpe, .. }, BatchIds { tokens, positions, .. }) = (&mut g.weights, &a.batch);
    b.embed_backward(wte, wpe.as_mut(), dx, tokens, positions, c.d_model);
}

/// Appends the log-probability of each row's [target](Activations::ask) after a [`forward`] pass, and on
/// request the entropy of each row's distribution.
pub fn logprobs<B: Backend>(
    b: &mut B,
    w: &Weights<B::Tensor>,
    a: &Activations<B>,
    out: &mut B::Scalars,
    entropies: Option<&mut B::Scalars>,
) {
    b.head_forward(out, entropies, &a.hidden, w.head(), &a.targets, &a.asked);
}

/// The head's backward pass: `g.hidden` and the head's gradient from the loss's derivatives by what the head
/// tells of each row, and appends the log-probabilities themselves. [`backward`] comes next.
#[allow(clippy::too_many_arguments)]
pub fn head_backward<B: Backend>(
    b: &mut B,
    c: &Config,
    w: &Weights<B::Tensor>,
    g: &mut Gradients<B::Tensor>,
    a: &Activations<B>,
    derivatives: HeadDerivatives<'_, B::Scalars>,
    logprobs: &mut B::Scalars,
    groups: &[usize],
) {
    g.resize(b, c, a.asked.rows);
    let (dhidden, dhead) = g.at_the_head(b, c);
    b.head_backward(
        logprobs,
        dhidden,
        dhead,
        derivatives.logprobs,
        derivatives.entropies,
        &a.hidden,
        w.head(),
        &a.targets,
        &a.asked,
        groups,
    );
}

/// Stream 0 is the embedding's, then three for each block, then four for the adapters of each block.
fn dropout_at(p: f32, noise: Noise, stream: usize) -> Dropout {
    Dropout { p, seed: noise.seed, stream: stream as u64, first_row: noise.first_row }
}

fn embedding_dropout(c: &Config, noise: Option<Noise>) -> Option<Dropout> {
    noise.filter(|_| c.dropout > 0.0).map(|noise| dropout_at(c.dropout, noise, 0))
}

fn block_dropout(c: &Config, noise: Option<Noise>, layer: usize) -> Option<BlockDropout> {
    noise.filter(|_| c.dropout > 0.0).map(|noise| BlockDropout {
        attention: dropout_at(c.dropout, noise, 3 * layer + 1),
        attn_branch: dropout_at(c.dropout, noise, 3 * layer + 2),
        mlp_branch: dropout_at(c.dropout, noise, 3 * layer + 3),
    })
}

fn adapter_dropout<T>(
    c: &Config,
    w: &Weights<T>,
    noise: Option<Noise>,
    layer: usize,
) -> Option<[Dropout; 4]> {
    let p = w.adapter.as_ref()?.lora.dropout;
    let first = 3 * c.n_layer + 1 + 4 * layer;
    noise.filter(|_| p > 0.0).map(|noise| std::array::from_fn(|matrix| dropout_at(p, noise, first + matrix)))
}
