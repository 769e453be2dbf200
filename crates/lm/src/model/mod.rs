//! The model: its shape, its weights, its forward and backward pass, and the engine that samples from it.

mod block;
mod config;
mod engine;
mod gpt;
mod memory;
mod not_finite;
mod rope;
mod score;
mod speed;
mod weights;

pub use config::{Biases, Config, DEFAULT_BAND, Mlp, NormKind, NormPlace, Positions};
pub use engine::{
    Beams, Cache, Constraint, Engine, Event, Finish, Generated, Logprobs, Reading, Request, RequestId,
    Sampling, TokenLogprob, Told, Usage, forward_cached,
};
pub use gpt::{
    Activations, Gradients, HeadDerivatives, Noise, Sequences, Targets, backward, forward, head_backward,
    logprobs,
};
pub use memory::{EXACT_BYTES, PASS_TOKENS, TrainingMemory};
pub use not_finite::NotFinite;
pub use rope::{Rope, RopeScaling};
pub use score::{Before, scores, scores_backward};
pub use speed::{sampling_work, training_work};
pub use weights::{Block, Init, Linear, Norm, Spec, Weights, specs};

use kernels::{Backend, rng};
use text::streams;

/// Why a model that scores is refused where text is asked for.
pub const SCORES: &str = "the model scores texts and writes none: ask a classifier with `mynah classify`, \
     a reward model with `mynah score`; to get texts, give a language model";

/// Fresh weights: leaf `i`, from 1, in the order of [`Weights::leaves`] draws from stream `i` of
/// [`WEIGHTS`](text::streams::WEIGHTS).
pub fn init<B: Backend>(backend: &mut B, config: &Config, seed: u64) -> Weights<B::Tensor> {
    let (mut weights, specs) = (zeros(backend, config), specs(config));
    for (number, (leaf, spec)) in (1..).zip(weights.leaves_mut().into_iter().zip(specs.leaves())) {
        backend.upload(leaf, &fresh(spec, seed, number));
    }
    weights
}

/// The first values of the `leaf`-th array, from 1.
pub fn fresh(spec: &Spec, seed: u64, leaf: u64) -> Vec<f32> {
    match spec.init {
        Init::Constant(value) => vec![value; spec.len()],
        Init::Normal(std) => {
            let stream = streams::WEIGHTS.at(leaf);
            (0..spec.len() as u64).map(|i| (rng::normal(seed, stream, i) * f64::from(std)) as f32).collect()
        }
    }
}

/// Zeros in the shape of a model, all leaves in one [arena](Backend::arena): gradients, moments.
pub fn zeros<B: Backend>(backend: &mut B, config: &Config) -> Weights<B::Tensor> {
    let specs = specs(config);
    let mut leaves = arena(backend, &specs).into_iter();
    specs.map(|_| leaves.next().expect("an arena has a tensor for every leaf"))
}

/// Zeros for leaves of these shapes, in the order of [`Weights::leaves`].
pub(crate) fn arena<B: Backend>(backend: &mut B, specs: &Weights<Spec>) -> Vec<B::Tensor> {
    backend.arena(&specs.leaves().into_iter().map(Spec::len).collect::<Vec<usize>>())
}
