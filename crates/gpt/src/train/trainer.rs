//! One optimizer step: accumulate micro-batches, clip, update. Shared by every stage.

use crate::model::{self, Activations, Config, Gradients, Sequences, Spec, Weights};
use kernels::{AdamW, Backend};

/// AdamW's settings that do not change from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
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

/// The state of training: weights, gradients, moments, and the buffers of a pass.
pub struct Trainer<B: Backend> {
    /// What computes.
    pub backend: B,
    /// The model's shape.
    pub config: Config,
    /// The model.
    pub weights: Weights<B::Tensor>,
    /// AdamW's first moment.
    pub first_moment: Weights<B::Tensor>,
    /// AdamW's second moment.
    pub second_moment: Weights<B::Tensor>,
    /// Updates so far: the `t` of AdamW's bias correction.
    pub updates: u64,
    specs: Weights<Spec>,
    gradients: Gradients<B::Tensor>,
    activations: Activations<B::Tensor>,
    logprobs: Vec<f64>,
    accumulated: bool,
}

impl<B: Backend> Trainer<B> {
    /// A trainer of `weights`, with moments at zero.
    pub fn new(mut backend: B, config: Config, weights: Weights<B::Tensor>) -> Self {
        let b = &mut backend;
        Trainer {
            first_moment: weights.map(|w| b.zeros(b.len(w))),
            second_moment: weights.map(|w| b.zeros(b.len(w))),
            gradients: Gradients::new(b, &config),
            activations: Activations::new(b, &config),
            specs: model::specs(&config),
            updates: 0,
            logprobs: Vec::new(),
            accumulated: false,
            backend,
            config,
            weights,
        }
    }

    /// Adds a micro-batch's gradients for a loss with derivative `derivatives` by each target's log-probability, and
    /// returns the log-probabilities. Sums are grouped by `group_rows` rows: any cut between groups gives the same bits.
    pub fn accumulate(
        &mut self,
        batch: Sequences<'_>,
        targets: &[u32],
        derivatives: &[f64],
        group_rows: usize,
    ) -> &[f64] {
        let Self { backend: b, config, weights, gradients, activations, .. } = self;
        if !self.accumulated {
            gradients.clear(b);
            self.accumulated = true;
        }
        self.logprobs.resize(targets.len(), 0.0);
        model::forward(b, config, weights, activations, batch);
        let logprobs = &mut self.logprobs;
        model::head_backward(
            b,
            config,
            weights,
            gradients,
            activations,
            targets,
            derivatives,
            logprobs,
            group_rows,
        );
        model::backward(b, config, weights, gradients, activations, batch, group_rows);
        &self.logprobs
    }

    /// Clips the accumulated gradient and updates weights and moments, unless `loss` or the norm is not finite:
    /// then nothing changes. Either way the next [`accumulate`](Self::accumulate) begins a new step.
    pub fn update(&mut self, optimizer: &Optimizer, lr: f32, loss: f64) -> Update {
        assert!(self.accumulated, "update without accumulate");
        self.accumulated = false;
        let Self { backend: b, gradients, .. } = self;
        gradients.finish(b);
        let squares: f64 = gradients.weights.leaves().into_iter().map(|g| b.sum_of_squares(g)).sum();
        let grad_norm = squares.sqrt();
        if !(loss.is_finite() && grad_norm.is_finite()) {
            return Update { grad_norm, applied: false };
        }
        self.updates += 1;
        let clip = f64::from(optimizer.grad_clip);
        let grad_scale = if clip > 0.0 && grad_norm > clip { (clip / grad_norm) as f32 } else { 1.0 };
        let settings = |spec: &Spec| AdamW {
            lr,
            beta1: optimizer.beta1,
            beta2: optimizer.beta2,
            eps: optimizer.eps,
            weight_decay: if spec.decay { optimizer.weight_decay } else { 0.0 },
            step: self.updates,
            grad_scale,
        };
        let moments = self.first_moment.leaves_mut().into_iter().zip(self.second_moment.leaves_mut());
        let leaves = self.weights.leaves_mut().into_iter().zip(gradients.weights.leaves());
        for (((weight, gradient), (m, v)), spec) in leaves.zip(moments).zip(self.specs.leaves()) {
            b.adamw(weight, m, v, gradient, &settings(spec));
        }
        Update { grad_norm, applied: true }
    }

    /// Log-probabilities of targets, without gradients.
    pub fn evaluate(&mut self, batch: Sequences<'_>, targets: &[u32]) -> &[f64] {
        let Self { backend: b, config, weights, activations, logprobs, .. } = self;
        logprobs.resize(targets.len(), 0.0);
        model::forward(b, config, weights, activations, batch);
        model::logprobs(b, config, weights, activations, targets, logprobs);
        logprobs
    }

    /// The gradients that [`accumulate`](Self::accumulate) has summed since the last update, the head's share of a
    /// tied embedding included, and the backend to read them with.
    pub fn gradients(&mut self) -> (&mut B, &Weights<B::Tensor>) {
        self.gradients.finish(&mut self.backend);
        (&mut self.backend, &self.gradients.weights)
    }
}
