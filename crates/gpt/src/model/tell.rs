//! What a model says of given continuations: their log-probabilities, with the prompt's keys and values computed once.

use super::Engine;
use super::gpt::forward_cached;
use kernels::{Backend, CacheSpan};

/// Rows of a pass of which logits are wanted, at most: those of a large vocabulary fill much memory.
const ROWS: usize = 64;
/// Rows of a pass of the prompt.
const PROMPT_ROWS: usize = 1024;

/// What the model says of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Whether no token is more likely.
    pub is_best: bool,
}

impl<T> Engine<T> {
    /// What the model says of every token of each continuation of `prompt`, which has at least one token. Each continuation takes the
    /// place of the one before in the cache, so that the prompt is read once.
    pub fn tell<B: Backend<Tensor = T>>(
        &mut self,
        b: &mut B,
        prompt: &[u32],
        continuations: &[&[u32]],
    ) -> Vec<Vec<Told>> {
        assert!(!prompt.is_empty(), "a continuation follows something");
        let longest = continuations.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        assert!(prompt.len() + longest <= self.capacity + 1, "a continuation does not fit the cache");
        let mut start = 0;
        let mut first = Vec::new();
        for part in prompt.chunks(PROMPT_ROWS) {
            let is_last = start + part.len() == prompt.len();
            let wanted = if is_last { vec![part.len() as u32 - 1] } else { Vec::new() };
            first = self.logits(b, part, start, &wanted);
            start += part.len();
        }
        let mut tell = |tokens: &&[u32]| -> Vec<Told> {
            let Some((&head, rest)) = tokens.split_first() else { return Vec::new() };
            let mut said = vec![told(&first, head)];
            let mut at = prompt.len();
            for (part, targets) in tokens.chunks(ROWS).zip(rest.chunks(ROWS)) {
                let part = &part[..targets.len()];
                let wanted: Vec<u32> = (0..part.len() as u32).collect();
                let logits = self.logits(b, part, at, &wanted);
                let rows = logits.chunks_exact(self.config.vocab_size).zip(targets);
                said.extend(rows.map(|(row, &target)| told(row, target)));
                at += part.len();
            }
            said
        };
        continuations.iter().map(&mut tell).collect()
    }

    /// The logits of the rows `wanted` of some tokens that follow `start` cached ones in the first slot.
    fn logits<B: Backend<Tensor = T>>(
        &mut self,
        b: &mut B,
        tokens: &[u32],
        start: usize,
        wanted: &[u32],
    ) -> Vec<f32> {
        let mut logits = vec![0.0; wanted.len() * self.config.vocab_size];
        let span = CacheSpan { slot: 0, start, len: tokens.len() };
        forward_cached(b, &self.config, &self.weights, &mut self.cache, tokens, &[span], wanted, &mut logits);
        logits
    }
}

/// `logits[token] - log Σ e^logits`.
fn told(logits: &[f32], token: u32) -> Told {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - highest).exp()).sum();
    let logit = logits[token as usize];
    Told { logprob: f64::from(logit - highest) - sum.ln(), is_best: logit >= highest }
}

#[cfg(test)]
mod tests {
    use super::super::{Activations, Config, Sequences, Targets, forward, init, logprobs};
    use super::*;
    use kernels::{NO_TARGET, Reference};

    #[test]
    fn continuations_are_told_as_by_the_full_pass() {
        let config = Config { d_ff: 16, ..Config::gpt2(29, 90, 2, 2, 8) };
        let b = &mut Reference;
        let weights = init(b, &config, 1);
        let mut engine = Engine::new(b, &config, &weights, 1);
        let prompt = [3, 1, 4, 1, 5];
        let long: Vec<u32> = (0..80).map(|i| i * 7 % 29).collect();
        let continuations = [&long[..], &[2, 6], &[9], &[]];
        let told = engine.tell(b, &prompt, &continuations);
        for (continuation, told) in continuations.iter().zip(&told) {
            let tokens = [&prompt[..], continuation].concat();
            let mut targets = tokens[1..].to_vec();
            targets.push(NO_TARGET);
            let mut a = Activations::new(b, &config);
            let batch = Sequences { tokens: &tokens, lens: &[tokens.len()], noise: None };
            forward(b, &config, &weights, &mut a, batch);
            let mut expected = vec![0.0; tokens.len()];
            logprobs(b, &config, &weights, &a, Targets::new(&targets), &mut expected, None);
            assert_eq!(told.len(), continuation.len());
            for (told, expected) in told.iter().zip(&expected[prompt.len() - 1..]) {
                assert!((told.logprob - expected).abs() < 1e-5, "{told:?}, {expected}");
            }
        }
    }
}
