//! What is told of a prompt's own tokens, while they are read.

use super::Engine;
use super::request::{Event, Finish, Reading, Told};
use super::slots::{Running, Slot};
use super::step::said_of;
use kernels::Backend;

/// Rows of such a prompt in a pass, at most: the logits of a large vocabulary fill much memory.
const ROWS: usize = 64;

impl Running {
    /// Whether something is told of what it reads.
    pub(super) fn tells(&self) -> bool {
        self.request.reading != Reading::Nothing && self.tokens.is_empty()
    }
}

impl Slot {
    /// Rows that a pass may read of its prompt.
    pub(super) fn most_rows(&self) -> usize {
        if self.at_work().is_some_and(Running::tells) { ROWS } else { usize::MAX }
    }
}

impl<B: Backend> Engine<B> {
    /// Tells of the rows that were read in this pass; ends requests that ask for nothing more.
    pub(super) fn tell_of_prompts(&mut self, b: &mut B, events: &mut Vec<Event>) {
        for i in 0..self.slots.len() {
            if self.slots[i].told.is_empty() {
                continue;
            }
            let told = self.tell_of(b, i);
            let slot = &mut self.slots[i];
            let Some(id) = slot.running.as_ref().map(|running| running.id) else { continue };
            let finish = match told {
                Some(told) => {
                    events.push(Event::Read { id, told });
                    (slot.is_read && !slot.draws).then_some(Finish::Length)
                }
                None => {
                    slot.held.clear();
                    Some(Finish::Failed)
                }
            };
            let over = finish.and_then(|finish| Some(slot.running.take()?.into_generated(finish, None)));
            events.extend(over.map(|generated| Event::Done { id, generated }));
        }
    }

    /// What the rows of a slot say; none where that is not finite.
    fn tell_of(&mut self, b: &mut B, slot: usize) -> Option<Told> {
        let Engine { config: c, weights: w, cache, slots, .. } = self;
        let Slot { running, told: rows, held, .. } = &slots[slot];
        let running = running.as_ref()?;
        let values = match running.request.reading {
            Reading::Nothing => return None,
            Reading::Logprobs(likeliest) => {
                let next = held.len() - rows.len() + 1;
                let logits = cache.logits_of(b, c, w, rows.clone());
                let targets = running.request.prompt[next..].iter().take(rows.len());
                let told = targets
                    .enumerate()
                    .map(|(row, &token)| said_of(b, logits, c.vocab_size, row, token, likeliest));
                return told.collect::<Option<_>>().map(Told::Logprobs);
            }
            Reading::Hidden => cache.hidden_of(b, c, rows.clone()),
            Reading::Scores => cache.scores_of(b, c, w, rows.clone()),
        };
        let mut out = vec![0.0; b.len(values)];
        b.download(&mut out, values);
        out.iter().all(|value| value.is_finite()).then_some(Told::Rows(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::engine::Budget;
    use crate::model::{Activations, Config, Request, Sequences, Targets, forward, init, logprobs, scores};
    use kernels::{NO_TARGET, Reference};

    const PROMPT: [u32; 7] = [3, 1, 4, 1, 5, 9, 2];

    fn config() -> Config {
        Config { d_ff: 16, ..Config::gpt2(29, 12, 2, 2, 8) }
    }

    /// What is told of the prompt, its pieces joined, beside another request and behind one like it.
    fn told(config: &Config, reading: Reading, rows: usize) -> Vec<Told> {
        let b = &mut Reference;
        let weights = init(b, config, 1);
        let mut engine = Engine::new(b, config, &weights, 2);
        engine.budget = Budget::of_rows(rows);
        let request = Request { prompt: PROMPT.to_vec(), reading, ..Request::default() };
        if config.n_label.is_none() {
            let before = Request { max_tokens: 2, reading: Reading::Nothing, ..request.clone() };
            engine.submit(before, None);
        }
        let asked = engine.submit(request, None);
        let (mut told, mut done) = (Vec::new(), None);
        while !engine.is_idle() {
            for event in engine.step(b) {
                match event {
                    Event::Read { id, told: of } if id == asked => told.push(of),
                    Event::Done { id, generated } if id == asked => done = Some(generated),
                    _ => {}
                }
            }
        }
        let done = done.expect("it came to an end");
        assert_eq!((done.finish, done.usage.prompt_tokens, done.usage.cached_tokens), (Finish::Length, 7, 0));
        told
    }

    fn rows(told: Vec<Told>) -> Vec<f32> {
        told.into_iter().flat_map(|told| if let Told::Rows(rows) = told { rows } else { vec![] }).collect()
    }

    #[test]
    fn prompts_are_told_as_by_the_full_pass() {
        let (b, config) = (&mut Reference, config());
        let weights = init(b, &config, 1);
        let mut a = Activations::new(b, &config);
        let batch = Sequences { tokens: &PROMPT, lens: &[PROMPT.len()], noise: None };
        forward(b, &config, &weights, &mut a, batch);
        let mut targets = PROMPT[1..].to_vec();
        targets.push(NO_TARGET);
        let mut expected = Vec::new();
        a.ask(b, Targets::new(&targets));
        logprobs(b, &weights, &a, &mut expected, None);
        let mut hidden = vec![0.0; b.len(&a.hidden)];
        b.download(&mut hidden, &a.hidden);
        for pieces in [1, 3, 100] {
            let mut said = Vec::new();
            for told in told(&config, Reading::Logprobs(3), pieces) {
                let Told::Logprobs(logprobs) = told else { panic!("{told:?}") };
                said.extend(logprobs);
            }
            assert_eq!(said.len(), PROMPT.len() - 1, "nothing is said of the first");
            for (said, expected) in said.iter().zip(&expected) {
                assert!((said.logprob - expected).abs() < 1e-6, "{said:?}, {expected}");
                assert!(said.top.len() == 3 && said.top.is_sorted_by(|a, b| a.1 >= b.1), "{said:?}");
            }
            let read = rows(told(&config, Reading::Hidden, pieces));
            assert_eq!(read.len(), hidden.len());
            assert!(read.iter().zip(&hidden).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn every_token_of_an_answer_is_scored() {
        let config = Config { n_label: Some(1), ..config() };
        let b = &mut Reference;
        let weights = init(b, &config, 1);
        let mut a = Activations::new(b, &config);
        let batch = Sequences { tokens: &PROMPT, lens: &[PROMPT.len()], noise: None };
        forward(b, &config, &weights, &mut a, batch);
        let mut expected = Vec::new();
        scores(b, &config, &weights, &mut a, &[0, 1, 2, 3, 4, 5, 6], None, &mut expected);
        for pieces in [1, 3, 100] {
            let told = rows(told(&config, Reading::Scores, pieces));
            assert_eq!(told.len(), expected.len());
            assert!(told.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{told:?} {expected:?}");
        }
    }
}
