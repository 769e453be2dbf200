//! The model: its shape, its weights, its forward and backward pass, and the engine that samples from it.

mod adapter;
mod block;
mod config;
mod distil;
mod engine;
mod gpt;
mod lora;
mod memory;
mod method;
mod not_finite;
mod rope;
mod score;
mod speed;
mod weights;

pub use adapter::{
    Adapter, BaseStorage, LowRank, MATRICES, OfMatrices, Pair, PairShape, adapter_specs, set_magnitudes,
    weight_name,
};
pub use config::{Biases, Config, DEFAULT_BAND, Mlp, NormKind, NormPlace, Positions};
pub use distil::{Teaching, divergences, divergences_backward};
pub use engine::{
    Beams, Cache, Constraint, Engine, Event, Finish, Generated, Logprobs, Making, Reading, Request,
    RequestId, Sampling, TokenLogprob, Told, Usage, forward_cached, leaf_names,
};
pub use gpt::{
    Activations, Gradients, HeadDerivatives, Noise, Sequences, Targets, backward, forward, head_backward,
    logprobs,
};
pub use lora::{Adapted, Lora, ends_in};
pub use memory::{EXACT_BYTES, Keep, LEAST_PASS_TOKENS, PASS_TOKENS, Pass, TrainingMemory};
pub use method::{Method, maps};
pub use not_finite::NotFinite;
pub use rope::{Rope, RopeScaling};
pub use score::{Before, scores, scores_backward};
pub(crate) use speed::some_weights;
pub use speed::{sampling_work, training_work};
pub use weights::{Block, Init, Leaf, Linear, Norm, Spec, Weights, specs};

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
        Init::Uniform(bound) => {
            let stream = streams::WEIGHTS.at(leaf);
            (0..spec.len() as u64).map(|i| bound * (2.0 * rng::uniform(seed, stream, i) - 1.0)).collect()
        }
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

/// Whether a leaf of the tree that `specs` describe is learned: all are, or, where there is an adapter, that and
/// the head that scores.
pub fn is_learned(specs: &Weights<Spec>, spec: &Spec) -> bool {
    specs.adapter.is_none() || spec.is_adapter() || spec.name.starts_with("score.")
}

/// Zeros in the shape of what is learned of a model that `specs` describe; leaves of what is not are empty.
pub fn zeros_learned<B: Backend>(backend: &mut B, specs: &Weights<Spec>) -> Weights<B::Tensor> {
    zeros_where(backend, specs, |spec| is_learned(specs, spec))
}

/// The same for leaves of which `has` says so, in order.
pub(crate) fn zeros_where<B: Backend>(
    backend: &mut B,
    specs: &Weights<Spec>,
    has: impl FnMut(&Spec) -> bool,
) -> Weights<B::Tensor> {
    let mut leaves = arena_where(backend, specs, has).into_iter();
    specs.map(|_| leaves.next().expect("an arena has a tensor for every leaf"))
}

/// Zeros for the leaves that there are, in the order of [`Weights::leaves`]; the others are empty.
pub(crate) fn arena_where<B: Backend>(
    backend: &mut B,
    specs: &Weights<Spec>,
    mut has: impl FnMut(&Spec) -> bool,
) -> Vec<B::Tensor> {
    let len = |spec: &Spec| if has(spec) { spec.len() } else { 0 };
    backend.arena(&specs.leaves().into_iter().map(len).collect::<Vec<usize>>())
}

/// Describes every array of a tree of weights, its adapter's included.
pub fn specs_of<T>(config: &Config, weights: &Weights<T>) -> Weights<Spec> {
    Weights { adapter: weights.adapter.as_ref().map(adapter_specs), ..specs(config) }
}

/// Zeros for leaves of these shapes, in the order of [`Weights::leaves`].
pub(crate) fn arena<B: Backend>(backend: &mut B, specs: &Weights<Spec>) -> Vec<B::Tensor> {
    arena_where(backend, specs, |_| true)
}
