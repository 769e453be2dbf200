//! What an optimizer step costs beside its tokens, to be timed.

use super::{Lane, Optimizer, Trainer};
use crate::model::{Config, Method, Sequences, some_weights};
use kernels::Backend;

/// Optimizer steps of a model of shape `c` that learn from two tokens: what every step of a training costs, however
/// many tokens it has.
pub fn update_work<B: Backend>(mut b: B, c: Config, method: Method) -> impl FnMut() {
    let weights = some_weights(&mut b, &c);
    let mut trainer = Trainer::by(method, &mut b, c, weights);
    let optimizer =
        Optimizer { beta1: 0.9, beta2: 0.95, eps: 1e-8, eps_hat: false, weight_decay: 0.1, grad_clip: 1.0 };
    move || {
        let batch = Sequences { tokens: &[0, 0], lens: &[2], noise: None };
        trainer.accumulate(&mut b, batch, &[0, 0], &[-0.5, -0.5], Lane::Only);
        trainer.update(&mut b, &optimizer, 0.0, None);
    }
}
