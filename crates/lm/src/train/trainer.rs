//! One optimizer step: accumulate micro-batches, clip, update. Shared by every stage.
//!
//! The backend comes in with every call: a stage trains several models on one.

use super::lanes::{Lane, LaneGradients};
use super::muon::{Matrix, Muon};
use super::passes::{Outputs, Passes};
use super::scoring::Learns;
use crate::model::{
    self, Config, Gradients, HeadDerivatives, Keep, Method, Sequences, Spec, Targets, Weights,
};
use kernels::{AdamW, Backend, Parameter};
use ranks::Ranks;

/// An optimizer's settings that do not change from step to step; those of Muon are [its own](Method::Muon), but for
/// decay and clipping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Whether it is added before that root is corrected for its bias ([`AdamW::eps_hat`]).
    pub eps_hat: bool,
    /// Decoupled weight decay of matrices and embeddings.
    pub weight_decay: f32,
    /// The gradient's norm is scaled down to this; 0 leaves it as it is.
    pub grad_clip: f32,
}

/// What a call of [`Trainer::update`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// The gradient's norm before clipping.
    pub grad_norm: f64,
    /// Whether weights and moments changed: not when the loss or the norm is NaN or infinite.
    pub applied: bool,
}

/// The two moments of a model.
type Moments<T> = (Weights<T>, Weights<T>);

/// The state of training: weights, gradients, moments, and the buffers of a pass.
pub struct Trainer<B: Backend> {
    /// The model's shape.
    pub config: Config,
    /// The model.
    pub weights: Weights<B::Tensor>,
    /// What z² costs beside a cross entropy whose derivatives are [given](Self::accumulate), as
    /// [`Backend::head_backward`] has it; 0 for nothing.
    pub z_loss: f32,
    /// What learns it.
    pub(super) method: Method,
    /// The first moment; with [other ranks](Self::join), that of some leaves, and the others are empty.
    pub first_moment: Weights<B::Tensor>,
    /// The second moment, likewise; that of what [Muon](Method::is_muons) learns is empty too.
    pub second_moment: Weights<B::Tensor>,
    muon: Option<Muon<B>>,
    pub(super) specs: Weights<Spec>,
    pub(super) gradients: Gradients<B::Tensor>,
    pub(super) passes: Passes<B>,
    pub(super) learns: Learns<B>,
    pub(super) lanes: LaneGradients<B::Tensor>,
    /// Who does a step together.
    pub(super) ranks: Ranks,
    /// The rank that has the moments of each leaf.
    pub(super) owners: Vec<usize>,
    /// The moments of all leaves, on the first rank before they are saved.
    pub(super) whole_moments: Option<Moments<B::Tensor>>,
    /// Whether the gradients are those of all ranks.
    pub(super) whole: bool,
    /// Gradients that were set aside.
    aside: Option<Weights<B::Tensor>>,
    pub(super) accumulated: bool,
    /// Log-probabilities of the step's targets, micro-batch by micro-batch: nobody waits for them before the
    /// update.
    pub(super) results: B::Scalars,
    /// The gradients' norms that were measured in the step, that of the update last, and whether it happened.
    norms: B::Scalars,
    /// How many of them were measured before the update.
    measured: usize,
    /// The loss, where it is known before the update.
    loss: B::Scalars,
    /// Updates so far: the `t` of AdamW's bias correction.
    updates: B::Scalars,
    /// What was read of both after the last update.
    told: Vec<f64>,
    told_norms: Vec<f64>,
}

/// What a loss makes of the entropies of the head's distributions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entropies {
    /// Nothing: they are not computed.
    Unasked,
    /// It is told them.
    Told,
    /// It is told them, and has derivatives by them.
    Learned,
}

/// A loss's derivatives by what the head says of each row.
#[derive(Clone, Debug)]
pub struct Derivatives {
    /// By the log-probability of its target.
    pub logprobs: Vec<f64>,
    /// By the entropy of its distribution.
    pub entropies: Vec<f64>,
}

impl<B: Backend> Trainer<B> {
    /// A trainer of `weights`, with moments at zero. Where an adapter stands beside them, that and a head that
    /// scores are learned, and nothing else.
    pub fn new(b: &mut B, config: Config, weights: Weights<B::Tensor>) -> Self {
        Self::by(Method::AdamW, b, config, weights)
    }

    /// The same with another optimizer.
    pub fn by(method: Method, b: &mut B, config: Config, weights: Weights<B::Tensor>) -> Self {
        let moments = fresh_moments(b, &model::specs_of(&config, &weights), method);
        Self::with_moments(method, b, config, weights, moments, 0)
    }

    /// A trainer whose optimizer goes on.
    pub fn with_moments(
        method: Method,
        b: &mut B,
        config: Config,
        weights: Weights<B::Tensor>,
        (first_moment, second_moment): Moments<B::Tensor>,
        updates: u64,
    ) -> Self {
        let mut count = b.scalars();
        let specs = model::specs_of(&config, &weights);
        b.upload_scalars(&mut count, &[updates as f64]);
        Trainer {
            z_loss: 0.0,
            method,
            muon: Muon::of(b, method, &config, &specs),
            first_moment,
            second_moment,
            gradients: Gradients::new(b, &config, &specs),
            passes: Passes::new(b, &config, Keep::Blocks),
            lanes: LaneGradients::new(),
            ranks: Ranks::alone(),
            owners: vec![0; specs.leaves().len()],
            whole_moments: None,
            whole: false,
            aside: None,
            learns: Learns::of(b, &specs),
            specs,
            accumulated: false,
            results: b.scalars(),
            norms: b.scalars(),
            measured: 0,
            loss: b.scalars(),
            updates: count,
            told: Vec::new(),
            told_norms: Vec::new(),
            config,
            weights,
        }
    }

    /// From now on a pass keeps as much as is said; no bit depends on it.
    pub fn keep(&mut self, b: &mut B, keep: Keep) {
        self.passes = Passes::new(b, &self.config, keep);
    }

    /// Adds a micro-batch's gradients for a loss with derivative `derivatives` by each target's
    /// log-probability; those are [told](Self::told) after the update. They are part of the sum of `lane`.
    pub fn accumulate(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        targets: &[u32],
        derivatives: &[f64],
        lane: Lane,
    ) {
        self.begin(b, lane);
        let Self { config, weights, gradients, passes, results, z_loss, .. } = self;
        let Passes { activations, derivatives: [by_logprob, _], .. } = passes;
        b.upload_scalars(by_logprob, derivatives);
        model::forward(b, config, weights, activations, batch);
        activations.ask(b, Targets::new(targets));
        activations.price_z(*z_loss);
        let by = HeadDerivatives::by_logprobs(&*by_logprob);
        let rows = batch.tokens.len();
        let groups = lane.groups(batch.lens, &rows);
        model::head_backward(b, config, weights, gradients, activations, by, results, groups);
        model::backward(b, config, weights, gradients, activations, groups);
    }

    /// Adds a micro-batch's gradients for a loss that is told what the head says of each row and writes its
    /// derivatives (they come as zeros), and returns what `loss` returns.
    pub fn accumulate_loss<R>(
        &mut self,
        b: &mut B,
        batch: Sequences<'_>,
        targets: Targets<'_>,
        entropies: Entropies,
        lane: Lane,
        loss: impl FnOnce(&Outputs<'_>, &mut Derivatives) -> R,
    ) -> R {
        self.begin(b, lane);
        let Self { config, weights, gradients, passes, .. } = self;
        let rows = targets.tokens.len();
        let mut derivatives = Derivatives { logprobs: vec![0.0; rows], entropies: vec![0.0; rows] };
        let with_entropies = entropies != Entropies::Unasked;
        let outputs = passes.outputs(b, config, weights, batch, targets, with_entropies);
        let told = loss(&outputs, &mut derivatives);
        let Passes { activations, said: [again, _], derivatives: [by_logprob, by_entropy], .. } = passes;
        b.upload_scalars(by_logprob, &derivatives.logprobs);
        let learns_entropies = entropies == Entropies::Learned;
        if learns_entropies {
            b.upload_scalars(by_entropy, &derivatives.entropies);
        }
        let by =
            HeadDerivatives { logprobs: &*by_logprob, entropies: learns_entropies.then_some(&*by_entropy) };
        let groups = lane.groups(batch.lens, &rows);
        b.upload_scalars(again, &[]);
        model::head_backward(b, config, weights, gradients, activations, by, again, groups);
        model::backward(b, config, weights, gradients, activations, groups);
        told
    }

    /// Clears what the last step accumulated, and what is accumulated next belongs to `lane`.
    pub(super) fn begin(&mut self, b: &mut B, lane: Lane) {
        self.begin_step(b);
        assert!(!self.whole, "gradients of all ranks are set aside before others are accumulated");
        self.lanes.enter(b, &mut self.gradients, lane);
    }

    fn begin_step(&mut self, b: &mut B) {
        if !self.accumulated {
            self.clear(b);
            b.upload_scalars(&mut self.results, &[]);
            b.upload_scalars(&mut self.norms, &[]);
            self.measured = 0;
            self.accumulated = true;
        }
    }

    /// Begins a step in which other ranks may have something to accumulate, and this one has nothing.
    fn begin_with_nothing(&mut self, b: &mut B) {
        if self.ranks.size() > 1 {
            self.begin_step(b);
        }
    }

    fn clear(&mut self, b: &mut B) {
        self.gradients.clear(b);
        self.lanes.clear();
        self.whole = false;
    }

    /// Makes the gradients those of all lanes.
    pub(super) fn finish(&mut self, b: &mut B) {
        self.lanes.finish(b, &mut self.gradients);
        self.add_up_ranks(b);
    }

    /// Measures the norm of the gradients that were accumulated so far: after the update it is among the
    /// [norms](Self::norms).
    pub fn measure_norm(&mut self, b: &mut B) {
        self.begin_with_nothing(b);
        self.append_norm(b);
        self.measured += 1;
    }

    fn append_norm(&mut self, b: &mut B) {
        self.finish(b);
        self.forget_frozen(b);
        let Self { specs, learns, gradients, norms, .. } = self;
        let gradients = gradients.weights.leaves().into_iter().zip(specs.leaves());
        let learned = gradients.filter(|(_, spec)| learns.any_of(spec)).map(|(gradient, _)| gradient);
        b.norm(norms, &learned.collect::<Vec<_>>());
    }

    /// Clips the accumulated gradient and updates weights and moments, unless `loss`, where it is known by
    /// now, one of the step's log-probabilities or the norm is not finite: then nothing changes. Either way
    /// the next [`accumulate`](Self::accumulate) begins a new step. Only when all of it is on its way are
    /// the step's results read.
    pub fn update(&mut self, b: &mut B, optimizer: &Optimizer, lr: f32, loss: Option<f64>) -> Update {
        self.begin_with_nothing(b);
        assert!(self.accumulated, "update without accumulate");
        self.append_norm(b);
        self.accumulated = false;
        let loss = self.loss_of_all(b, loss);
        let Self { weights, first_moment, second_moment, specs, gradients, learns, owners, ranks, .. } = self;
        let Self { results, norms, measured, loss: known, updates, told, told_norms, .. } = self;
        let Self { method, muon, config, .. } = self;
        let &Optimizer { beta1, beta2, eps, eps_hat, weight_decay, grad_clip } = optimizer;
        let settings = AdamW { lr, beta1, beta2, eps, eps_hat, grad_clip };
        let moments = first_moment.leaves_mut().into_iter().zip(second_moment.leaves_mut());
        let leaves = weights.leaves_mut().into_iter().zip(gradients.weights.leaves());
        let leaves = leaves.zip(moments).zip(specs.leaves()).zip(owners);
        let own = leaves.filter(|((_, spec), owner)| learns.any_of(spec) && **owner == ranks.rank());
        let (mut parameters, mut matrices) = (Vec::new(), Vec::new());
        for (((weight, grad), (m, v)), spec) in own.map(|(leaf, _)| leaf) {
            let decays = spec.decay && learns.all_of(spec);
            let weight_decay = if decays { weight_decay } else { 0.0 };
            if method.is_muons(spec) {
                matrices.push(Matrix { spec, weight, m, grad, weight_decay });
            } else {
                parameters.push(Parameter { weight, m, v, grad, weight_decay });
            }
        }
        b.upload_scalars(known, loss.as_slice());
        b.adamw(&mut parameters, &settings, updates, norms, &[results, known]);
        b.read(told, &[results, norms]);
        told_norms.clear();
        told_norms.extend(told.drain(told.len() - (*measured + 2)..));
        let applied = told_norms.pop() == Some(1.0);
        let grad_norm = told_norms.pop().expect("a norm was measured");
        if applied {
            let grad_scale = settings.grad_scale(grad_norm);
            for matrix in matrices {
                let muon = muon.as_mut().expect("what learns its matrices is there");
                muon.update(b, config, matrix, lr, grad_scale);
            }
            self.share_weights(b);
        }
        Update { grad_norm, applied }
    }

    /// Updates so far.
    pub fn updates(&self, b: &mut B) -> u64 {
        let mut updates = Vec::new();
        b.read(&mut updates, &[&self.updates]);
        updates[0] as u64
    }

    /// What [`accumulate`](Self::accumulate) has found out in the step that the last [`update`](Self::update)
    /// ended: the log-probabilities of all targets, micro-batch by micro-batch.
    pub fn told(&self) -> &[f64] {
        &self.told
    }

    /// The norms that were [measured](Self::measure_norm) in that step.
    pub fn norms(&self) -> &[f64] {
        &self.told_norms
    }

    /// Log-probabilities of targets, without gradients.
    pub fn evaluate(&mut self, b: &mut B, batch: Sequences<'_>, targets: &[u32]) -> &[f64] {
        self.passes.outputs(b, &self.config, &self.weights, batch, Targets::new(targets), false).logprobs
    }

    /// Log-probabilities of targets and the entropies of the distributions, without gradients.
    pub fn outputs(&mut self, b: &mut B, batch: Sequences<'_>, targets: Targets<'_>) -> Outputs<'_> {
        self.passes.outputs(b, &self.config, &self.weights, batch, targets, true)
    }

    /// The scores of some rows, without gradients.
    pub fn scores(&mut self, b: &mut B, batch: Sequences<'_>, rows: &[u32]) -> &[f32] {
        self.passes.scores(b, &self.config, &self.weights, batch, rows, None);
        &self.passes.scores
    }

    /// Keeps what was accumulated so far apart and begins at zero, so that the norms of two losses' gradients
    /// can be told apart; measures the norm of what was kept.
    pub fn set_aside(&mut self, b: &mut B) {
        self.measure_norm(b);
        let aside = self.aside.get_or_insert_with(|| zeros_like(b, &self.gradients.weights));
        for (kept, gradient) in aside.leaves_mut().into_iter().zip(self.gradients.weights.leaves()) {
            b.copy(kept, gradient);
        }
        self.clear(b);
    }

    /// Adds what was set aside.
    pub fn take_back(&mut self, b: &mut B) {
        self.finish(b);
        let aside = self.aside.as_ref().expect("something was set aside");
        for (gradient, kept) in self.gradients.weights.leaves_mut().into_iter().zip(aside.leaves()) {
            b.accumulate(gradient, kept);
        }
    }

    /// The gradients that were summed since the last update, the head's share of a tied embedding included.
    pub fn gradients(&mut self, b: &mut B) -> &Weights<B::Tensor> {
        self.begin_with_nothing(b);
        self.finish(b);
        &self.gradients.weights
    }

    /// Gives back the memory of a pass; the next one asks for it again. An engine's copy of the weights takes
    /// its place where samples are written, so that a machine that has room to train has room for them.
    pub fn release_pass(&mut self, b: &mut B) {
        self.keep(b, self.passes.keep);
    }

    /// Begins again with `weights` and a fresh optimizer.
    pub fn restart(&mut self, b: &mut B, weights: Weights<B::Tensor>) {
        let moments = fresh_moments(b, &self.specs, self.method);
        self.take_over(b, weights, moments, 0);
    }

    /// Takes over weights and optimizer, such as those of a checkpoint.
    pub fn take_over(
        &mut self,
        b: &mut B,
        weights: Weights<B::Tensor>,
        moments: Moments<B::Tensor>,
        updates: u64,
    ) {
        self.weights = weights;
        (self.first_moment, self.second_moment) = moments;
        self.keep_own_moments(b);
        self.set_updates(b, updates);
    }

    pub(super) fn set_updates(&mut self, b: &mut B, updates: u64) {
        b.upload_scalars(&mut self.updates, &[updates as f64]);
    }
}

/// Moments of what is learned, at zero.
fn fresh_moments<B: Backend>(b: &mut B, specs: &Weights<Spec>, method: Method) -> Moments<B::Tensor> {
    let second = model::zeros_where(b, specs, |spec| method.has_second_moment(specs, spec));
    (model::zeros_learned(b, specs), second)
}

/// Zeros in the shape of other gradients.
pub(super) fn zeros_like<B: Backend>(b: &mut B, tree: &Weights<B::Tensor>) -> Weights<B::Tensor> {
    let lens: Vec<usize> = tree.leaves().into_iter().map(|leaf| b.len(leaf)).collect();
    let mut leaves = b.arena(&lens).into_iter();
    tree.map(|_| leaves.next().expect("an arena has a tensor for every leaf"))
}
