//! What a model says of given continuations: their log-probabilities, with the prompt's keys and values
//! computed once.

use super::cache::forward_cached;
use super::{Engine, NotFinite};
use kernels::{Backend, CacheSpan};

/// Rows of a pass of which logits are wanted, at most: those of a large vocabulary fill much memory.
const ROWS: usize = 64;
/// Rows of a pass of the prompt.
const PROMPT_ROWS: usize = 1024;

/// What the model says of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Whether no token is more likely.
    pub is_best: bool,
}

/// A token that is read, and what is asked after it.
struct Row {
    slot: usize,
    continuation: usize,
    /// Which token of the continuation is told; the one before it is read.
    at: usize,
}

impl<B: Backend> Engine<B> {
    /// What the model says of every token of each continuation of `prompt`, which has at least one token. The
    /// prompt is read once; as many continuations as there are slots are read together.
    ///
    /// # Errors
    /// Logits that a token was to be told by are not finite.
    pub fn score_continuations(
        &mut self,
        b: &mut B,
        prompt: &[u32],
        continuations: &[&[u32]],
    ) -> Result<Vec<Vec<TokenLogprob>>, NotFinite> {
        let longest = continuations.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        assert!(prompt.len() + longest <= self.capacity + 1, "a continuation does not fit the cache");
        let long: Vec<usize> = (0..continuations.len()).filter(|&i| continuations[i].len() > 1).collect();
        let first = self.read(b, prompt, self.slots.len().min(long.len().max(1)));
        let after_prompt = |(of, tokens): (usize, &&[u32])| {
            let told = tokens.first().map(|&head| token_logprob(&first, head, (of, prompt.len())));
            told.into_iter().collect()
        };
        let mut said = continuations
            .iter()
            .enumerate()
            .map(after_prompt)
            .collect::<Result<Vec<Vec<TokenLogprob>>, _>>()?;
        for group in long.chunks(self.slots.len()) {
            let of = |(slot, &continuation): (usize, &usize)| {
                (1..continuations[continuation].len()).map(move |at| Row { slot, continuation, at })
            };
            let rows: Vec<Row> = group.iter().enumerate().flat_map(of).collect();
            for rows in rows.chunks(ROWS) {
                let tokens: Vec<u32> =
                    rows.iter().map(|row| continuations[row.continuation][row.at - 1]).collect();
                let of_slot = rows.chunk_by(|a, b| a.slot == b.slot);
                let span = |rows: &[Row]| CacheSpan {
                    slot: rows[0].slot,
                    start: prompt.len() + rows[0].at - 1,
                    len: rows.len(),
                };
                let spans: Vec<CacheSpan> = of_slot.map(span).collect();
                let wanted: Vec<u32> = (0..rows.len() as u32).collect();
                let logits = self.logits(b, &tokens, &spans, &wanted);
                for (row, logits) in rows.iter().zip(logits.chunks_exact(self.config.vocab_size)) {
                    let &Row { continuation, at, .. } = row;
                    let place = (continuation, prompt.len() + at);
                    said[continuation].push(token_logprob(logits, continuations[continuation][at], place)?);
                }
            }
        }
        Ok(said)
    }

    /// Puts `prompt` into the first `slots` slots, and gives the logits after it.
    pub(super) fn read(&mut self, b: &mut B, prompt: &[u32], slots: usize) -> Vec<f32> {
        assert!(!prompt.is_empty(), "a continuation follows something");
        let mut start = 0;
        let mut logits = Vec::new();
        for part in prompt.chunks(PROMPT_ROWS) {
            let is_last = start + part.len() == prompt.len();
            let wanted = if is_last { vec![part.len() as u32 - 1] } else { Vec::new() };
            logits = self.logits(b, part, &[CacheSpan { slot: 0, start, len: part.len() }], &wanted);
            start += part.len();
        }
        self.cache.fork(b, &self.config, 0, 1..slots, prompt.len());
        logits
    }

    /// Reads `tokens`, the rows of `spans`, and gives the logits after the rows `wanted`.
    pub(super) fn logits(
        &mut self,
        b: &mut B,
        tokens: &[u32],
        spans: &[CacheSpan],
        wanted: &[u32],
    ) -> Vec<f32> {
        let mut logits = vec![0.0; wanted.len() * self.config.vocab_size];
        forward_cached(b, &self.config, &self.weights, &mut self.cache, tokens, spans, wanted, &mut logits);
        logits
    }
}

/// `logits[token] - log Σ e^logits`, where these are the logits of a sequence after so many tokens.
fn token_logprob(
    logits: &[f32],
    token: u32,
    (sequence, tokens): (usize, usize),
) -> Result<TokenLogprob, NotFinite> {
    NotFinite::check(logits, sequence, tokens)?;
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - highest).exp()).sum();
    let logit = logits[token as usize];
    let below = logit - highest;
    // Both may be finite, and their difference beyond what can be written.
    NotFinite::check(&[below], sequence, tokens)?;
    Ok(TokenLogprob { logprob: f64::from(below) - sum.ln(), is_best: logit >= highest })
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
        let prompt = [3, 1, 4, 1, 5];
        let long: Vec<u32> = (0..80).map(|i| i * 7 % 29).collect();
        let continuations = [&long[..], &[2, 6], &[9], &[], &[7, 7, 7], &long[3..60]];
        let mut told = Vec::new();
        for slots in [1, 2, 5] {
            let mut engine = Engine::new(b, &config, &weights, slots);
            told.push(engine.score_continuations(b, &prompt, &continuations).unwrap());
        }
        assert!(told[1] == told[0] && told[2] == told[0], "scores are batch-invariant");
        for (continuation, told) in continuations.iter().zip(&told[0]) {
            let tokens = [&prompt[..], continuation].concat();
            let mut targets = tokens[1..].to_vec();
            targets.push(NO_TARGET);
            let mut a = Activations::new(b, &config);
            let batch = Sequences { tokens: &tokens, lens: &[tokens.len()], noise: None };
            forward(b, &config, &weights, &mut a, batch);
            let mut expected = Vec::new();
            a.ask(b, Targets::new(&targets));
            logprobs(b, &weights, &a, &mut expected, None);
            assert_eq!(told.len(), continuation.len());
            for (told, expected) in told.iter().zip(&expected[prompt.len() - 1..]) {
                assert!((told.logprob - expected).abs() < 1e-5, "{told:?}, {expected}");
            }
        }
    }
}
