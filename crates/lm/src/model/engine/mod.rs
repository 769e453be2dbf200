//! The engine: continues token sequences, many at once, with a cache of keys and values.
//!
//! Requests are [submitted](Engine::submit) and [cancelled](Engine::cancel) at any time; each
//! [step](Engine::step) is one pass through the model, which carries pieces of prompts and single tokens
//! alike and says what came of it. Its results are batch-invariant: what a request gets does not depend on
//! what else is in its pass, nor on how its prompt was cut, nor on what of it was in the cache: rows are
//! computed independently, and draws are numbered by request.
//!
//! * `request`: what is asked and answered. `sampling`: how tokens are drawn.
//! * `reading`: what is told of a prompt's own tokens.
//! * `decoding`: weights as an engine has them, and engines that are made leaf by leaf.
//! * `slots`: who holds which keys and values. `cache`: the pass over them. `step`: which rows are in a pass,
//!   `budget` how many.
//! * `continuations`, `beam`: likelihoods and beam search, which take the slots for themselves.

mod beam;
mod budget;
mod cache;
mod continuations;
mod decoding;
mod reading;
mod request;
mod sampling;
mod slots;
mod step;
#[cfg(test)]
mod tests;

pub use beam::Beams;
pub use cache::{Cache, forward_cached};
pub use decoding::{Making, leaf_names};
pub use kernels::TokenLogprob;
pub use request::{Constraint, Event, Finish, Generated, Logprobs, Reading, Request, RequestId, Told, Usage};
pub use sampling::Sampling;

use super::{Config, NotFinite, Weights};
use budget::{Budget, MOST_ROWS};
use decoding::decoding_weights;
use kernels::Backend;
use slots::{Running, Slot, Waiting};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Duration;
use step::Pass;

/// A cache that grows does so by as many positions, so that it does not grow for every text.
const CAPACITY_STEP: usize = 256;

/// A model ready to be sampled from: its weights laid out for products of few rows, and a cache.
pub struct Engine<B: Backend> {
    config: Config,
    weights: Weights<B::Tensor>,
    cache: Cache<B>,
    slots: Vec<Slot>,
    queue: VecDeque<Waiting>,
    /// What happened outside of a step.
    unheard: Vec<Event>,
    budget: Budget,
    pass: Pass,
    /// Positions that a slot has.
    capacity: usize,
    /// Ids below it may be drawn.
    n_tokens: usize,
    /// Requests so far.
    submissions: u64,
    /// Requests so far that got a slot.
    admissions: u64,
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
        let weights = decoding_weights(b, config, weights);
        Engine::of(b, config, weights, slots, capacity)
    }

    /// An engine of weights in the layout of decoding.
    fn of(
        b: &mut B,
        config: &Config,
        weights: Weights<B::Tensor>,
        slots: usize,
        capacity: usize,
    ) -> Engine<B> {
        Engine {
            config: config.clone(),
            weights,
            cache: Cache::new(b, config, slots, capacity),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            queue: VecDeque::new(),
            unheard: Vec::new(),
            budget: Budget::of_rows(MOST_ROWS),
            pass: Pass::default(),
            capacity,
            n_tokens: config.vocab_size,
            submissions: 0,
            admissions: 0,
        }
    }

    /// Sees to it that there are `slots` slots of `capacity` positions at least. A cache that grows is a new
    /// one: it holds nothing.
    pub fn reserve(&mut self, b: &mut B, slots: usize, capacity: usize) {
        let Config { seq_len, .. } = self.config;
        assert!(slots > 0 && (1..=seq_len).contains(&capacity), "{slots} slots, {capacity} of {seq_len}");
        if slots <= self.slots.len() && capacity <= self.capacity {
            return;
        }
        assert!(self.is_idle(), "a cache cannot grow under a request");
        self.capacity = capacity.next_multiple_of(CAPACITY_STEP).min(seq_len);
        self.cache = Cache::new(b, &self.config, slots, self.capacity);
        self.slots = (0..slots).map(|_| Slot::default()).collect();
    }

    /// Draws ids below `n_tokens` only: an embedding may be padded beyond the tokenizer's vocabulary (Qwen's
    /// is), and what such rows score means nothing.
    pub fn limited_to(self, n_tokens: usize) -> Self {
        assert!((1..=self.config.vocab_size).contains(&n_tokens), "{n_tokens} tokens of a vocabulary");
        Engine { n_tokens, ..self }
    }

    /// Reads prompts in pieces, so that a pass takes no longer than `limit` as far as that can be told from
    /// the passes before it.
    pub fn with_passes_of(self, limit: Duration) -> Self {
        Engine { budget: Budget::within(limit), ..self }
    }

    /// Positions of a slot: tokens of a prompt and its continuation, the last of which needs none.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes a request into the queue; `constraint` says what may be drawn.
    ///
    /// # Panics
    /// If the prompt is empty or does not fit a slot, or a bias is that of no token.
    pub fn submit(&mut self, request: Request, constraint: Option<Box<dyn Constraint>>) -> RequestId {
        let len = request.prompt.len();
        assert!(len > 0, "a prompt needs at least one token");
        assert!(len <= self.capacity, "a prompt of {len} tokens does not fit {} positions", self.capacity);
        let id = RequestId(self.submissions);
        self.submissions += 1;
        if request.max_tokens == 0 && request.reading == Reading::Nothing {
            let usage = Usage { prompt_tokens: len, ..Usage::default() };
            let generated = Generated { tokens: Vec::new(), finish: Finish::Length, end: None, usage };
            self.unheard.push(Event::Done { id, generated });
        } else {
            self.queue.push_back(Waiting { id, request, constraint });
        }
        id
    }

    /// Ends a request, wherever it is, and gives what came of it so far: nothing where it is over already.
    /// Its slot is free at once, and no event will name it.
    pub fn cancel(&mut self, id: RequestId) -> Option<Generated> {
        if let Some(at) = self.queue.iter().position(|waiting| waiting.id == id) {
            let Waiting { id, request, constraint } = self.queue.remove(at)?;
            return Some(Running::new(id, request, constraint, 0).into_generated(Finish::Cancelled, None));
        }
        let running = self.slot_of(id)?.running.take();
        running.map(|running| running.into_generated(Finish::Cancelled, None))
    }

    /// After a panic within a [step](Self::step): ends the requests that have a slot, and says which they
    /// are. Those that wait go on waiting. The cache is a new one.
    pub fn recover(&mut self, b: &mut B) -> Vec<RequestId> {
        self.cache = Cache::new(b, &self.config, self.slots.len(), self.capacity);
        self.pass = Pass::default();
        let slots = std::mem::take(&mut self.slots);
        self.slots = slots.iter().map(|_| Slot::default()).collect();
        slots.into_iter().filter_map(|slot| Some(slot.running?.id)).collect()
    }

    /// Whether a request that has a slot gets rows; one that does not keeps its slot.
    pub fn pause(&mut self, id: RequestId, paused: bool) {
        if let Some(running) = self.slot_of(id).and_then(|slot| slot.running.as_mut()) {
            running.paused = paused;
        }
    }

    fn slot_of(&mut self, id: RequestId) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.running.as_ref().is_some_and(|running| running.id == id))
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.unheard.is_empty() && self.running() == 0
    }

    /// Whether a [step](Self::step) would get on: it would not where all requests that have a slot are paused.
    pub fn can_step(&self) -> bool {
        let has_free = self.running() < self.slots.len();
        !self.unheard.is_empty()
            || (has_free && !self.queue.is_empty())
            || self.slots.iter().any(|slot| slot.at_work().is_some())
    }

    /// Requests that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Requests that have a slot.
    pub fn running(&self) -> usize {
        self.slots.iter().filter(|slot| slot.running.is_some()).count()
    }

    /// Continues every request; `on_token(index, token)` hears each token at once and may end its sequence.
    /// Results are in the order of the requests.
    ///
    /// # Errors
    /// Logits that a token was to be drawn from are not finite.
    pub fn generate(
        &mut self,
        b: &mut B,
        requests: &[Request],
        on_token: impl FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>, NotFinite> {
        let mut results = vec![None; requests.len()];
        self.generate_each(b, requests, on_token, |index, generated| {
            results[index] = Some(generated);
            ControlFlow::Continue(())
        })?;
        Ok(results.into_iter().map(|generated| generated.expect("every request came to an end")).collect())
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
        assert!(self.is_idle(), "the engine works for somebody else");
        let (first, mut stopped) = (self.submissions, vec![false; requests.len()]);
        for request in requests {
            self.submit(request.clone(), None);
        }
        let index_of = |id: RequestId| (id.0 - first) as usize;
        while !self.is_idle() {
            for event in self.step(b) {
                let (id, done) = match event {
                    Event::Token { id, token, .. } => {
                        stopped[index_of(id)] = on_token(index_of(id), token).is_break();
                        (id, if stopped[index_of(id)] { self.cancel(id) } else { None })
                    }
                    Event::Read { .. } => continue,
                    Event::Done { id, generated } => (id, Some(generated)),
                };
                let Some(mut generated) = done else { continue };
                let index = index_of(id);
                if generated.finish == Finish::Failed {
                    self.abandon();
                    let tokens = generated.usage.prompt_tokens + generated.tokens.len();
                    return Err(NotFinite { sequence: index, tokens });
                }
                if stopped[index] {
                    generated.finish = Finish::Stop;
                }
                if on_done(index, generated).is_break() {
                    self.abandon();
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
