//! One pass of an engine: which rows are in it, and what comes of their logits.

use super::Engine;
use super::cache::forward_cached;
use super::request::{Event, Finish, Logprobs};
use super::slots::{Running, Slot};
use kernels::{Backend, CacheSpan, Draw, Drawn};
use std::time::Instant;

/// The rows of a pass, slot by slot.
#[derive(Default)]
pub(super) struct Pass {
    tokens: Vec<u32>,
    spans: Vec<CacheSpan>,
    /// The last row of each sequence that a token is drawn for.
    wanted: Vec<u32>,
    drawn: Vec<Drawn>,
    /// Whether a prompt has to wait for another pass.
    full: bool,
}

impl<B: Backend> Engine<B> {
    /// One pass: gives free slots to requests that wait, reads as much of their prompts as the budget allows,
    /// and draws the next token of every other sequence. Says what came of it, slot by slot, a token before
    /// the end that it may be. With nothing to do there are no events.
    pub fn step(&mut self, b: &mut B) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.unheard);
        self.admit(b);
        self.collect_rows();
        let Pass { tokens, spans, wanted, full, .. } = &self.pass;
        if spans.is_empty() {
            return events;
        }
        let begun = Instant::now();
        forward_cached(b, &self.config, &self.weights, &mut self.cache, tokens, spans, wanted);
        self.budget.learn(begun.elapsed(), *full);
        self.draw(b);
        let logprobs = self.logprobs(b);
        self.tell_of_prompts(b, &mut events);
        for ((place, &drawn), logprobs) in
            self.slots.iter_mut().filter(|slot| slot.draws).zip(&self.pass.drawn).zip(logprobs)
        {
            let Some(running) = &mut place.running else { continue };
            let (id, asked) = (running.id, running.request.logprobs.is_some());
            let (finish, end) = match drawn {
                Drawn::Token(token) if running.request.stop_tokens.contains(&token) => {
                    (Some(Finish::Stop), Some(token))
                }
                Drawn::Token(token) if !asked || logprobs.is_some() => {
                    running.push(token);
                    events.push(Event::Token { id, token, logprobs });
                    let most = running.tokens.len() == running.request.max_tokens;
                    ((most || place.held.len() == self.capacity).then_some(Finish::Length), None)
                }
                Drawn::Nothing => (Some(Finish::Forbidden), None),
                _ => (Some(Finish::Failed), None),
            };
            if finish == Some(Finish::Failed) {
                // Nobody's prompt goes on from what is not finite.
                place.held.clear();
            }
            let over = finish.and_then(|finish| Some(place.running.take()?.into_generated(finish, end)));
            events.extend(over.map(|generated| Event::Done { id, generated }));
        }
        events
    }

    /// Fills the pass: a row of every sequence that is being continued, and of the prompts as much as there is
    /// room for. Half of it is for those that are read soonest, since nobody wants to wait for others' long
    /// prompts; the rest is for the oldest, which nobody overtakes for ever.
    fn collect_rows(&mut self) {
        let reads_prompt = |slot: &Slot| slot.at_work().is_some_and(|running| running.tokens.is_empty());
        let decoding =
            self.slots.iter().filter(|slot| slot.at_work().is_some() && !reads_prompt(slot)).count();
        let mut prompts: Vec<usize> =
            (0..self.slots.len()).filter(|&i| reads_prompt(&self.slots[i])).collect();
        let room = self.budget.prompt_rows(decoding);
        let mut read = vec![0; self.slots.len()];
        let age = |slot: usize| self.slots[slot].at_work().map(|running| running.id);
        prompts.sort_by_key(|&slot| (self.slots[slot].unread(), age(slot)));
        let shared = self.share(room / 2, &prompts, &mut read);
        prompts.sort_by_key(|&slot| age(slot));
        self.share(room - shared, &prompts, &mut read);

        let Pass { tokens, spans, wanted, full, .. } = &mut self.pass;
        tokens.clear();
        spans.clear();
        wanted.clear();
        *full = false;
        for (i, slot) in self.slots.iter_mut().enumerate() {
            let unread = slot.unread();
            let len = if reads_prompt(slot) { read[i] } else { unread };
            *full |= len < unread;
            (slot.is_read, slot.draws, slot.told) = (len > 0 && len == unread, false, 0..0);
            let start = slot.held.len();
            let Some(running) = slot.running.as_ref().filter(|_| len > 0) else { continue };
            slot.draws = slot.is_read && running.request.max_tokens > 0;
            if running.tells() {
                slot.told = tokens.len()..tokens.len() + len;
            }
            slot.held.extend((start..start + len).map(|at| running.token(at)));
            tokens.extend_from_slice(&slot.held[start..]);
            spans.push(CacheSpan { slot: i, start, len });
            wanted.extend(slot.draws.then_some(tokens.len() as u32 - 1));
        }
    }

    /// Gives so many rows to prompts, in their order, as far as each has something to be read: how many it gave.
    fn share(&self, rows: usize, prompts: &[usize], read: &mut [usize]) -> usize {
        let mut room = rows;
        for &slot in prompts {
            let most = self.slots[slot].unread().min(self.slots[slot].most_rows());
            let more = (most - read[slot]).min(room);
            read[slot] += more;
            room -= more;
        }
        rows - room
    }

    /// Draws a token from each wanted row.
    fn draw(&mut self, b: &mut B) {
        let n_tokens = self.n_tokens;
        let wanted = self.slots.iter_mut().filter(|slot| slot.draws).filter_map(|slot| slot.running.as_mut());
        let draws: Vec<Draw<'_>> = wanted
            .map(|running| {
                running.adjust();
                let Running { request, constraint, tokens, added, .. } = running;
                let allowed = constraint.as_mut().map(|constraint| constraint.allowed(tokens));
                Draw { added, allowed, ..request.sampling.draw(request.number, tokens.len(), n_tokens) }
            })
            .collect();
        let drawn = &mut self.pass.drawn;
        drawn.clear();
        drawn.resize(draws.len(), Drawn::NotFinite);
        b.draw(drawn, &self.cache.logits, self.config.vocab_size, &draws);
    }

    /// What the model says of the tokens that were drawn, where that is asked; none where it is not finite.
    fn logprobs(&self, b: &mut B) -> Vec<Option<Logprobs>> {
        let (logits, vocab_size) = (&self.cache.logits, self.config.vocab_size);
        let wanted = self.slots.iter().filter(|slot| slot.draws).filter_map(|slot| slot.running.as_ref());
        wanted
            .zip(&self.pass.drawn)
            .enumerate()
            .map(|(row, (running, &drawn))| {
                let (Some(count), Drawn::Token(token)) = (running.request.logprobs, drawn) else {
                    return None;
                };
                said_of(b, logits, vocab_size, row, token, count)
            })
            .collect()
    }
}

/// What a row of logits says of a token, and of so many of the likeliest; none where it is not finite.
pub(super) fn said_of<B: Backend>(
    b: &mut B,
    logits: &B::Tensor,
    vocab_size: usize,
    row: usize,
    token: u32,
    likeliest: usize,
) -> Option<Logprobs> {
    let mut top = vec![0; likeliest.min(vocab_size)];
    b.likeliest(&mut top, logits, vocab_size, row);
    let asked: Vec<(usize, u32)> = [token].iter().chain(&top).map(|&token| (row, token)).collect();
    let mut said = vec![None; asked.len()];
    b.token_logprobs(&mut said, logits, vocab_size, &asked);
    let mut said = said.into_iter().map(|said| said.map(|said| said.logprob));
    let logprob = said.next()??;
    let top = top.into_iter().zip(said).map(|(token, logprob)| Some((token, logprob?)));
    Some(Logprobs { logprob, top: top.collect::<Option<_>>()? })
}
