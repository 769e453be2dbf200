//! The engine: continues token sequences, many at once, with a cache of keys and values.
//!
//! Requests enter free slots as others finish; a pass carries whole prompts and single tokens alike. What a
//! request gets is batch-invariant: rows are computed independently and draws are numbered by request.

use super::cache::{Cache, forward_cached};
use super::sample::{Sampler, Sampling};
use super::{Config, NotFinite, Weights, specs};
use kernels::{Backend, CacheSpan};
use std::ops::ControlFlow;

/// A cache that grows does so by as many positions, so that it does not grow for every text.
const CAPACITY_STEP: usize = 256;

/// One sequence to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// The tokens so far; at least one, at most as many as the context holds.
    pub prompt: Vec<u32>,
    /// How many tokens to add at most.
    pub max_tokens: usize,
    /// How they are drawn.
    pub sampling: Sampling,
    /// The number that tells this request's draws from those of others.
    pub number: u64,
    /// Tokens that end the sequence; they are not part of it.
    pub stop_tokens: Vec<u32>,
}

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token, or the watcher said so.
    Stop,
    /// `max_tokens` were drawn, or the context is full.
    Length,
}

/// A continuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The tokens after the prompt.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub finish: Finish,
    /// The stop token that was drawn, where one was.
    pub end: Option<u32>,
}

impl Generated {
    /// What comes of a request for no tokens.
    fn nothing() -> Self {
        Generated { tokens: Vec::new(), finish: Finish::Length, end: None }
    }
}

/// A model ready to be sampled from: its weights laid out for products of few rows, and a cache.
pub struct Engine<B: Backend> {
    pub(super) config: Config,
    pub(super) weights: Weights<B::Tensor>,
    pub(super) cache: Cache<B>,
    pub(super) slots: Vec<Option<Running>>,
    sampler: Sampler,
    /// Positions that a slot has.
    pub(super) capacity: usize,
    /// Ids below it may be drawn.
    pub(super) n_tokens: usize,
}

pub(super) struct Running {
    index: usize,
    cached: usize,
    tokens: Vec<u32>,
}

impl<B: Backend> Engine<B> {
    /// Copies `weights` into the layout of decoding; `slots` sequences can be continued at once.
    pub fn new(b: &mut B, config: &Config, weights: &Weights<B::Tensor>, slots: usize) -> Self {
        Engine::with_capacity(b, config, weights, slots, config.seq_len)
    }

    /// The same with room for `capacity` positions in a slot instead of the whole context.
    pub fn with_capacity(
        b: &mut B,
        config: &Config,
        weights: &Weights<B::Tensor>,
        slots: usize,
        capacity: usize,
    ) -> Self {
        assert!(slots > 0, "an engine needs a slot");
        assert!((1..=config.seq_len).contains(&capacity), "{capacity} positions of {}", config.seq_len);
        Engine {
            config: config.clone(),
            weights: decoding_weights(b, config, weights),
            cache: Cache::new(b, config, slots, capacity),
            slots: (0..slots).map(|_| None).collect(),
            sampler: Sampler::default(),
            capacity,
            n_tokens: config.vocab_size,
        }
    }

    /// Sees to it that there are `slots` slots of `capacity` positions at least. What the cache held may be
    /// gone.
    pub fn reserve(&mut self, b: &mut B, slots: usize, capacity: usize) {
        let Config { seq_len, .. } = self.config;
        assert!(slots > 0 && (1..=seq_len).contains(&capacity), "{slots} slots, {capacity} of {seq_len}");
        if slots <= self.slots.len() && capacity <= self.capacity {
            return;
        }
        self.capacity = capacity.next_multiple_of(CAPACITY_STEP).min(seq_len);
        self.cache = Cache::new(b, &self.config, slots, self.capacity);
        self.slots = (0..slots).map(|_| None).collect();
    }

    /// Draws ids below `n_tokens` only: an embedding may be padded beyond the tokenizer's vocabulary (Qwen's
    /// is), and what such rows score means nothing.
    pub fn limited_to(self, n_tokens: usize) -> Self {
        assert!((1..=self.config.vocab_size).contains(&n_tokens), "{n_tokens} tokens of a vocabulary");
        Engine { n_tokens, ..self }
    }

    /// Continues every request; `on_token(index, token)` hears each token at once and may end its sequence.
    /// Results are in the order of the requests.
    ///
    /// # Errors
    /// Logits that a token was to be drawn by are not finite.
    pub fn generate(
        &mut self,
        b: &mut B,
        requests: &[Request],
        on_token: impl FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>, NotFinite> {
        let mut results = vec![Generated::nothing(); requests.len()];
        self.generate_each(b, requests, on_token, |index, generated| {
            results[index] = generated;
            ControlFlow::Continue(())
        })?;
        Ok(results)
    }

    /// As [`generate`](Self::generate), but `on_done(index, generated)` hears each continuation as soon as it
    /// is whole, about in the order of the requests, and may end the work: what is in the making then is
    /// lost.
    ///
    /// # Errors
    /// Logits that a token was to be drawn from are not finite.
    pub fn generate_each(
        &mut self,
        b: &mut B,
        requests: &[Request],
        mut on_token: impl FnMut(usize, u32) -> ControlFlow<()>,
        mut on_done: impl FnMut(usize, Generated) -> ControlFlow<()>,
    ) -> Result<(), NotFinite> {
        for index in (0..requests.len()).filter(|&i| requests[i].max_tokens == 0) {
            if on_done(index, Generated::nothing()).is_break() {
                return Ok(());
            }
        }
        let mut waiting = (0..requests.len()).filter(|&i| requests[i].max_tokens > 0);
        let (mut tokens, mut spans, mut wanted, mut logits) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        loop {
            self.admit(requests, &mut waiting);
            tokens.clear();
            spans.clear();
            wanted.clear();
            for (slot, running) in self.slots.iter().enumerate() {
                let Some(running) = running else { continue };
                let prompt = &requests[running.index].prompt;
                let new = if running.cached == 0 {
                    prompt.as_slice()
                } else {
                    &running.tokens[running.tokens.len() - 1..]
                };
                tokens.extend_from_slice(new);
                spans.push(CacheSpan { slot, start: running.cached, len: new.len() });
                wanted.push(tokens.len() as u32 - 1);
            }
            if spans.is_empty() {
                return Ok(());
            }
            logits.resize(wanted.len() * self.config.vocab_size, 0.0);
            forward_cached(
                b,
                &self.config,
                &self.weights,
                &mut self.cache,
                &tokens,
                &spans,
                &wanted,
                &mut logits,
            );
            for (span, logits) in spans.iter().zip(logits.chunks_exact(self.config.vocab_size)) {
                let running = self.slots[span.slot].as_mut().expect("a span belongs to a running sequence");
                running.cached += span.len;
                let (index, request) = (running.index, &requests[running.index]);
                let position = running.tokens.len();
                if let Err(fault) = NotFinite::check(logits, index, request.prompt.len() + position) {
                    self.slots.fill_with(|| None);
                    return Err(fault);
                }
                let token = self.sampler.draw(
                    &logits[..self.n_tokens],
                    &request.sampling,
                    request.number,
                    position as u64,
                );
                let end = request.stop_tokens.contains(&token).then_some(token);
                let finish = if end.is_some() {
                    Some(Finish::Stop)
                } else {
                    running.tokens.push(token);
                    let full = running.cached == self.capacity || running.tokens.len() == request.max_tokens;
                    match on_token(index, token) {
                        ControlFlow::Break(()) => Some(Finish::Stop),
                        ControlFlow::Continue(()) => full.then_some(Finish::Length),
                    }
                };
                if let Some(finish) = finish {
                    let running = self.slots[span.slot].take().expect("checked above");
                    let generated = Generated { tokens: running.tokens, finish, end };
                    if on_done(index, generated).is_break() {
                        self.slots.fill_with(|| None);
                        return Ok(());
                    }
                }
            }
        }
    }

    fn admit(&mut self, requests: &[Request], waiting: &mut impl Iterator<Item = usize>) {
        for slot in self.slots.iter_mut().filter(|slot| slot.is_none()) {
            let Some(index) = waiting.next() else { return };
            let len = requests[index].prompt.len();
            assert!(len > 0, "a prompt needs at least one token");
            assert!(
                len <= self.capacity,
                "a prompt of {len} tokens does not fit {} positions",
                self.capacity
            );
            *slot = Some(Running { index, cached: 0, tokens: Vec::new() });
        }
    }
}

/// Matrices packed, everything else copied; the head is always a matrix of its own here, because the
/// embedding must stay readable row by row.
fn decoding_weights<B: Backend>(
    b: &mut B,
    config: &Config,
    weights: &Weights<B::Tensor>,
) -> Weights<B::Tensor> {
    let mut leaves = weights.leaves().into_iter();
    let mut decoding = specs(config).map(|spec| {
        let leaf = leaves.next().expect("specs describe every leaf");
        match spec.shape[..] {
            [d_out, d_in] if !matches!(spec.name.as_str(), "wte" | "wpe") => b.packed(leaf, d_in, d_out),
            _ => {
                let mut copy = b.zeros(b.len(leaf));
                b.copy(&mut copy, leaf);
                copy
            }
        }
    });
    if config.tied_head {
        decoding.lm_head = Some(b.packed(&weights.wte, config.d_model, config.vocab_size));
    }
    decoding
}

#[cfg(test)]
mod tests {
    use super::super::{Activations, Sequences, forward, init};
    use super::*;
    use kernels::Reference;

    fn config() -> Config {
        Config { d_ff: 16, dropout: 0.1, ..Config::gpt2(29, 12, 2, 2, 8) }
    }

    fn request(number: u64, prompt: &[u32], max_tokens: usize) -> Request {
        let sampling = Sampling { temperature: 1.0, top_k: 20, top_p: 0.95, seed: 11 };
        Request { prompt: prompt.to_vec(), max_tokens, sampling, number, stop_tokens: vec![28] }
    }

    #[test]
    fn generation_is_batch_invariant_and_slots_are_reused() {
        let (b, config) = (&mut Reference, config());
        let weights = init(b, &config, 1);
        let requests: Vec<Request> =
            (0..7).map(|i| request(i, &[i as u32 + 1, 2, 3][..1 + i as usize % 3], 3 + i as usize)).collect();
        let alone: Vec<Generated> = requests
            .iter()
            .map(|r| {
                let mut engine = Engine::new(b, &config, &weights, 1);
                engine
                    .generate(b, std::slice::from_ref(r), |_, _| ControlFlow::Continue(()))
                    .unwrap()
                    .remove(0)
            })
            .collect();
        for slots in [2, 3, 7] {
            let mut engine = Engine::new(b, &config, &weights, slots);
            for _ in 0..2 {
                assert_eq!(engine.generate(b, &requests, |_, _| ControlFlow::Continue(())).unwrap(), alone);
            }
        }
    }

    #[test]
    fn a_full_context_ends_a_sequence_with_the_last_token_it_can_predict() {
        let (b, config) = (&mut Reference, config());
        let weights = init(b, &config, 1);
        let mut engine = Engine::new(b, &config, &weights, 1);
        let mut request = request(0, &[1; 10], 100);
        request.stop_tokens.clear();
        let result = engine.generate(b, &[request], |_, _| ControlFlow::Continue(())).unwrap().remove(0);
        assert_eq!(
            (result.tokens.len(), result.finish),
            (3, Finish::Length),
            "positions 10, 11, and one beyond"
        );
    }

    #[test]
    fn the_watcher_and_stop_tokens_end_a_sequence() {
        let (b, config) = (&mut Reference, config());
        let weights = init(b, &config, 1);
        let mut engine = Engine::new(b, &config, &weights, 1);
        let endless = Request { stop_tokens: Vec::new(), ..request(0, &[1], 6) };
        let free = engine
            .generate(b, std::slice::from_ref(&endless), |_, _| ControlFlow::Continue(()))
            .unwrap()
            .remove(0);
        let stopped = engine
            .generate(b, std::slice::from_ref(&endless), |_, _| ControlFlow::Break(()))
            .unwrap()
            .remove(0);
        assert_eq!(stopped, Generated { tokens: free.tokens[..1].to_vec(), finish: Finish::Stop, end: None });
        let with_stop = Request { stop_tokens: vec![free.tokens[2]], ..endless };
        let first = free.tokens.iter().position(|&t| t == free.tokens[2]).unwrap();
        let stopped = engine.generate(b, &[with_stop], |_, _| ControlFlow::Continue(())).unwrap().remove(0);
        let end = Some(free.tokens[2]);
        assert_eq!(stopped, Generated { tokens: free.tokens[..first].to_vec(), finish: Finish::Stop, end });
    }

    #[test]
    fn ids_beyond_the_limit_are_never_drawn() {
        let (b, config) = (&mut Reference, config());
        let weights = init(b, &config, 3);
        let requests: Vec<Request> = (0..20)
            .map(|i| {
                let mut request = Request { stop_tokens: Vec::new(), ..request(i, &[1], 8) };
                (request.sampling.temperature, request.sampling.top_k) = (5.0, 0);
                request
            })
            .collect();
        let mut largest = |engine: Engine<_>| {
            let mut engine = engine;
            let texts = engine.generate(b, &requests, |_, _| ControlFlow::Continue(())).unwrap();
            texts.into_iter().flat_map(|text| text.tokens).max()
        };
        let engine = || Engine::new(&mut Reference, &config, &weights, 2);
        assert!(largest(engine()) > Some(6), "the whole vocabulary is drawn from");
        assert_eq!(largest(engine().limited_to(7)), Some(6));
    }

    /// The weights are finite; the products of a token's hidden state with them are not.
    #[test]
    fn logits_that_overflow_are_no_tokens_and_no_likelihoods() {
        use crate::model::{Beams, NotFinite};
        use kernels::cpu::{Cpu, CpuOptions};
        let (b, config) = (&mut Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() }), config());
        let go_on = |_: usize, _: u32| ControlFlow::Continue(());
        for huge in [f32::MAX, f32::MIN] {
            let mut weights = init(b, &config, 1);
            let sound = Engine::new(b, &config, &weights, 2).generate(b, &[request(0, &[1, 2], 4)], go_on);
            assert!(sound.is_ok());
            let gain = vec![huge; config.d_model];
            b.upload(&mut weights.final_norm.as_mut().unwrap().weight, &gain);
            let mut engine = Engine::new(b, &config, &weights, 2);
            let fault = NotFinite { sequence: 0, tokens: 2 };
            for _ in 0..2 {
                assert_eq!(engine.generate(b, &[request(0, &[1, 2], 4)], go_on), Err(fault), "and again");
            }
            assert_eq!(engine.score_continuations(b, &[1, 2], &[&[3, 4]]), Err(fault));
            let beams = Beams { width: 2, alpha: 0.6, max_tokens: 3 };
            assert_eq!(engine.beam_search(b, &[1, 2], &beams, |_| false), Err(fault));
        }
    }

    /// A row of huge numbers is not one of zeros: its norm overflows, and that must show in what comes of it.
    #[test]
    fn an_embedding_whose_norm_overflows_is_found() {
        use kernels::cpu::{Cpu, CpuOptions};
        let b = &mut Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() });
        for config in [config(), Config { d_ff: 16, ..Config::modern(29, 12, 2, 2, 8) }] {
            let mut weights = init(b, &config, 1);
            let mut rows = vec![0.01; 29 * config.d_model];
            rows[3 * config.d_model] = 1e30;
            b.upload(&mut weights.wte, &rows);
            let mut engine = Engine::new(b, &config, &weights, 1);
            let found = engine.generate(b, &[request(0, &[1, 3], 4)], |_, _| ControlFlow::Continue(()));
            assert_eq!(found.unwrap_err().tokens, 2);
        }
    }

    #[test]
    fn greedy_tokens_are_those_of_the_full_forward_pass() {
        let (b, config) = (&mut Reference, config());
        let weights = init(b, &config, 2);
        let mut engine = Engine::new(b, &config, &weights, 1);
        let mut greedy = request(0, &[4, 5], 8);
        greedy.sampling.temperature = 0.0;
        let got = engine.generate(b, &[greedy], |_, _| ControlFlow::Continue(())).unwrap().remove(0).tokens;
        let mut tokens = vec![4, 5];
        let mut a = Activations::new(b, &config);
        for &want in &got {
            forward(
                b,
                &config,
                &weights,
                &mut a,
                Sequences { tokens: &tokens, lens: &[tokens.len()], noise: None },
            );
            let hidden = &a.hidden.0[(tokens.len() - 1) * config.d_model..];
            let logit = |id: usize| -> f64 {
                (0..config.d_model).map(|k| hidden[k] * weights.wte.0[id * config.d_model + k]).sum()
            };
            let best = (0..config.vocab_size).max_by(|&i, &j| logit(i).total_cmp(&logit(j))).unwrap() as u32;
            assert_eq!(want, best);
            tokens.push(best);
        }
    }
}
