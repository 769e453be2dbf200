//! What a model says of given continuations: their log-probabilities, with the prompt's keys and values
//! computed once.

use super::budget::MOST_ROWS;
use super::cache::forward_cached;
use super::{Engine, NotFinite, TokenLogprob};
use kernels::{Backend, CacheSpan};

/// Rows of a pass of which logits are wanted, at most: those of a large vocabulary fill much memory.
const ROWS: usize = 64;

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
        self.read(b, prompt, self.slots.len().min(long.len().max(1)));
        let first = |(of, tokens): (usize, &&[u32])| Some((0, of, *tokens.first()?));
        let first: Vec<_> = continuations.iter().enumerate().filter_map(first).collect();
        let mut said = vec![Vec::new(); continuations.len()];
        self.tell(b, &first, prompt.len(), &mut said)?;
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
                self.pass_of(b, &tokens, &spans, &wanted);
                let asked =
                    |(i, row): (usize, &Row)| (i, row.continuation, continuations[row.continuation][row.at]);
                let asked: Vec<_> = rows.iter().enumerate().map(asked).collect();
                self.tell(b, &asked, prompt.len(), &mut said)?;
            }
        }
        Ok(said)
    }

    /// Adds what the last pass's row says of a continuation's next token, for each `(row, continuation,
    /// token)`.
    fn tell(
        &self,
        b: &mut B,
        asked: &[(usize, usize, u32)],
        prompt_len: usize,
        said: &mut [Vec<TokenLogprob>],
    ) -> Result<(), NotFinite> {
        let of_row: Vec<(usize, u32)> = asked.iter().map(|&(row, _, token)| (row, token)).collect();
        let mut logprobs = vec![None; asked.len()];
        b.token_logprobs(&mut logprobs, &self.cache.logits, self.config.vocab_size, &of_row);
        for (logprob, &(_, continuation, _)) in logprobs.into_iter().zip(asked) {
            let said = &mut said[continuation];
            let fault = NotFinite { sequence: continuation, tokens: prompt_len + said.len() };
            said.push(logprob.ok_or(fault)?);
        }
        Ok(())
    }

    /// Puts `prompt` into the first `slots` slots. The last pass has the logits after it.
    pub(super) fn read(&mut self, b: &mut B, prompt: &[u32], slots: usize) {
        assert!(!prompt.is_empty(), "a continuation follows something");
        self.take_slots();
        let mut start = 0;
        for part in prompt.chunks(MOST_ROWS) {
            let is_last = start + part.len() == prompt.len();
            let wanted = is_last.then_some(part.len() as u32 - 1);
            self.pass_of(b, part, &[CacheSpan { slot: 0, start, len: part.len() }], wanted.as_slice());
            start += part.len();
        }
        self.cache.fork(b, &self.config, 0, 1..slots, prompt.len());
    }

    /// Reads `tokens`, the rows of `spans`, for the logits after the rows `wanted`.
    pub(super) fn pass_of(&mut self, b: &mut B, tokens: &[u32], spans: &[CacheSpan], wanted: &[u32]) {
        forward_cached(b, &self.config, &self.weights, &mut self.cache, tokens, spans, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Activations, Config, Sequences, Targets, forward, init, logprobs};
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
