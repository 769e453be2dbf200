//! Pieces of a model's work to be timed, so that what depends on a machine's speed is measured and not
//! assumed.

use super::{
    Activations, Config, Engine, Gradients, HeadDerivatives, Request, Sampling, Sequences, Targets, Weights,
    backward, forward, head_backward, specs,
};
use kernels::Backend;
use std::ops::ControlFlow;

/// Passes forward and backward over `sequences` whole windows of a model of shape `c`: what training does,
/// less the optimizer.
pub fn training_work<B: Backend>(mut b: B, c: Config, sequences: usize) -> impl FnMut() {
    let weights = some_weights(&mut b, &c);
    let (mut a, mut g) = (Activations::new(&mut b, &c), Gradients::new(&mut b, &c, &specs(&c)));
    let lens = vec![c.seq_len; sequences];
    let tokens = some_tokens(&c, sequences * c.seq_len);
    let (mut derivatives, mut logprobs) = (b.scalars(), b.scalars());
    b.upload_scalars(&mut derivatives, &vec![-1.0 / tokens.len() as f64; tokens.len()]);
    move || {
        let (b, c) = (&mut b, &c);
        let batch = Sequences { tokens: &tokens, lens: &lens, noise: None };
        forward(b, c, &weights, &mut a, batch);
        a.ask(b, Targets::new(&tokens));
        let derivatives = HeadDerivatives::by_logprobs(&derivatives);
        b.upload_scalars(&mut logprobs, &[]);
        head_backward(b, c, &weights, &mut g, &a, derivatives, &mut logprobs, &lens);
        backward(b, c, &weights, &mut g, &mut a, &lens);
    }
}

/// Sampling of `new` tokens after prompts of `prompt` tokens, `sequences` at once.
pub fn sampling_work<B: Backend>(
    mut b: B,
    c: Config,
    sequences: usize,
    prompt: usize,
    new: usize,
) -> impl FnMut() {
    let weights = some_weights(&mut b, &c);
    let mut engine = Engine::with_capacity(&mut b, &c, &weights, sequences, prompt + new);
    let mut requests: Vec<Request> = (0..sequences as u64)
        .map(|number| Request {
            prompt: some_tokens(&c, prompt),
            max_tokens: new,
            sampling: Sampling::default(),
            number,
            ..Request::default()
        })
        .collect();
    move || {
        // Another owner's prompts are read anew.
        requests.iter_mut().for_each(|request| request.owner += 1);
        drop(engine.generate(&mut b, &requests, |_, _| ControlFlow::Continue(())));
    }
}

/// Weights that are quickly made and are not 0: a multiplier at rest is quicker than one at work.
pub(crate) fn some_weights<B: Backend>(b: &mut B, c: &Config) -> Weights<B::Tensor> {
    specs(c).map(|spec| {
        let mut tensor = b.zeros(spec.len());
        b.upload(&mut tensor, &vec![0.01; spec.len()]);
        tensor
    })
}

fn some_tokens(c: &Config, n: usize) -> Vec<u32> {
    (0..n).map(|i| (i % c.vocab_size) as u32).collect()
}
