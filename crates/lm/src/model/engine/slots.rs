//! Slots: who holds which keys and values, and where a request that waits goes.

use super::Engine;
use super::request::{Constraint, Finish, Generated, Reading, Request, RequestId, Usage};
use kernels::Backend;
use std::collections::BTreeMap;
use std::ops::Range;

/// A prompt that shares as many tokens with one that is being read waits for that one, if they are half of it.
const WORTH_WAITING: usize = 16;

/// Room for the keys and values of one sequence.
#[derive(Default)]
pub(super) struct Slot {
    /// The tokens whose keys and values it holds.
    pub(super) held: Vec<u32>,
    /// Whose they are.
    owner: u64,
    /// When a request took it last: the number of admissions then.
    used: u64,
    pub(super) running: Option<Running>,
    /// Whether this pass reads what was still unread.
    pub(super) is_read: bool,
    /// Whether it draws a token for it, too.
    pub(super) draws: bool,
    /// The rows of this pass that something is told of.
    pub(super) told: Range<usize>,
}

impl Slot {
    /// The request in it, unless it is paused.
    pub(super) fn at_work(&self) -> Option<&Running> {
        self.running.as_ref().filter(|running| !running.paused)
    }

    /// Tokens of the sequence at work whose keys and values it does not hold yet.
    pub(super) fn unread(&self) -> usize {
        self.at_work().map_or(0, |running| running.len() - self.held.len())
    }
}

/// A request in a slot.
pub(super) struct Running {
    pub(super) id: RequestId,
    pub(super) request: Request,
    pub(super) constraint: Option<Box<dyn Constraint>>,
    pub(super) tokens: Vec<u32>,
    /// Whether it gets no rows for now.
    pub(super) paused: bool,
    cached_tokens: usize,
    /// How often each token was generated, where penalties ask for it.
    counts: BTreeMap<u32, u32>,
    /// Bias and penalties together, made anew for each draw.
    pub(super) added: Vec<(u32, f32)>,
}

/// A request that has no slot yet.
pub(super) struct Waiting {
    pub(super) id: RequestId,
    pub(super) request: Request,
    pub(super) constraint: Option<Box<dyn Constraint>>,
}

/// Where a request goes: the slot, another whose keys and values it begins with, and how many they are.
struct Place {
    slot: usize,
    from: usize,
    len: usize,
}

impl Running {
    pub(super) fn new(
        id: RequestId,
        request: Request,
        constraint: Option<Box<dyn Constraint>>,
        cached_tokens: usize,
    ) -> Self {
        let (tokens, counts, added) = (Vec::new(), BTreeMap::new(), Vec::new());
        Running { id, request, constraint, tokens, paused: false, cached_tokens, counts, added }
    }

    /// Token `i` of the sequence.
    pub(super) fn token(&self, i: usize) -> u32 {
        let prompt = &self.request.prompt;
        if i < prompt.len() { prompt[i] } else { self.tokens[i - prompt.len()] }
    }

    /// Tokens of the sequence.
    pub(super) fn len(&self) -> usize {
        self.request.prompt.len() + self.tokens.len()
    }

    /// Adds a token that was drawn.
    pub(super) fn push(&mut self, token: u32) {
        self.tokens.push(token);
        let Request { presence_penalty, frequency_penalty, .. } = self.request;
        if presence_penalty != 0.0 || frequency_penalty != 0.0 {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    /// Fills `added`.
    pub(super) fn adjust(&mut self) {
        let Request { logit_bias, presence_penalty, frequency_penalty, .. } = &self.request;
        self.added.clear();
        self.added.extend(logit_bias);
        for (&token, &count) in &self.counts {
            let penalty = presence_penalty + frequency_penalty * count as f32;
            match self.added[..logit_bias.len()].iter_mut().find(|(id, _)| *id == token) {
                Some((_, added)) => *added -= penalty,
                None => self.added.push((token, -penalty)),
            }
        }
    }

    /// What came of it.
    pub(super) fn into_generated(self, finish: Finish, end: Option<u32>) -> Generated {
        let usage = Usage {
            prompt_tokens: self.request.prompt.len(),
            cached_tokens: self.cached_tokens,
            drawn_tokens: self.tokens.len() + usize::from(end.is_some()),
        };
        Generated { tokens: self.tokens, finish, end, usage }
    }
}

impl<B: Backend> Engine<B> {
    /// Gives free slots to requests that wait, the oldest first, each beginning with the keys and values that
    /// some slot has of its prompt. At least one token is left to be read: a draw needs its logits. One that
    /// waits for others' keys and values is overtaken, but by no more requests than there are slots: answers
    /// are wanted about in their order.
    pub(super) fn admit(&mut self, b: &mut B) {
        let mut next = 0;
        while next < self.queue.len().min(self.slots.len()) && self.running() < self.slots.len() {
            let Some(Place { slot, from, len }) = self.place_for(&self.queue[next].request) else {
                next += 1;
                continue;
            };
            let Some(Waiting { id, request, constraint }) = self.queue.remove(next) else { return };
            if from != slot {
                self.cache.fork(b, &self.config, from, slot..slot + 1, len);
                self.slots[slot].held = self.slots[from].held[..len].to_vec();
            }
            self.admissions += 1;
            let place = &mut self.slots[slot];
            place.held.truncate(len);
            (place.owner, place.used) = (request.owner, self.admissions);
            place.running = Some(Running::new(id, request, constraint, len));
        }
    }

    /// The free slot that a request takes: the one that holds the longest beginning of its prompt, or, where a
    /// slot at work holds a longer one, the one that was used longest ago. None if the request had better
    /// wait for a slot that is reading the same.
    fn place_for(&self, request: &Request) -> Option<Place> {
        let most = if request.reading == Reading::Nothing { request.prompt.len() - 1 } else { 0 };
        let shares = |held: &[u32]| common(held, &request.prompt).min(most);
        let of_owner = || self.slots.iter().enumerate().filter(|(_, slot)| slot.owner == request.owner);
        let held = of_owner().map(|(i, slot)| (shares(&slot.held), slot.running.is_none(), i));
        let (len, is_free, from) = held.max_by_key(|&(len, is_free, _)| (len, is_free)).unwrap_or_default();
        let in_the_making = of_owner().filter_map(|(_, slot)| slot.running.as_ref());
        let promised = in_the_making.filter(|it| !it.paused).map(|it| shares(&it.request.prompt)).max();
        let promised = promised.unwrap_or(0);
        if promised > len && promised >= WORTH_WAITING && 2 * promised >= request.prompt.len() {
            return None;
        }
        if len > 0 && is_free {
            return Some(Place { slot: from, from, len });
        }
        let free = self.slots.iter().enumerate().filter(|(_, slot)| slot.running.is_none());
        let (slot, _) = free.min_by_key(|(_, slot)| slot.used)?;
        Some(if len > 0 { Place { slot, from, len } } else { Place { slot, from: slot, len: 0 } })
    }

    /// Drops every request.
    pub(super) fn abandon(&mut self) {
        self.queue.clear();
        self.unheard.clear();
        self.slots.iter_mut().for_each(|slot| slot.running = None);
    }

    /// Takes all slots for something else than requests: they hold nothing afterwards.
    pub(super) fn take_slots(&mut self) {
        assert!(self.is_idle(), "the engine works for somebody else");
        self.slots.iter_mut().for_each(|slot| slot.held.clear());
    }
}

/// How many tokens two sequences begin with alike.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
