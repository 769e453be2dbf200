//! Engines on small models.

use super::*;
use crate::model::{Activations, Sequences, forward, init};
use kernels::Reference;

fn config() -> Config {
    Config { d_ff: 16, dropout: 0.1, ..Config::gpt2(29, 12, 2, 2, 8) }
}

fn request(number: u64, prompt: &[u32], max_tokens: usize) -> Request {
    let sampling = Sampling { temperature: 1.0, top_k: 20, top_p: 0.95, seed: 11 };
    Request {
        prompt: prompt.to_vec(),
        max_tokens,
        sampling,
        number,
        stop_tokens: vec![28],
        ..Request::default()
    }
}

/// Continues requests, and leaves out what they took.
fn texts<B: Backend>(b: &mut B, engine: &mut Engine<B>, requests: &[Request]) -> Vec<Text> {
    let generated = engine.generate(b, requests, |_, _| ControlFlow::Continue(())).unwrap();
    generated.into_iter().map(|it| (it.tokens, it.finish, it.end)).collect()
}

type Text = (Vec<u32>, Finish, Option<u32>);

/// Steps until nothing is left to do.
fn finish<B: Backend>(b: &mut B, engine: &mut Engine<B>) -> Vec<(RequestId, Generated)> {
    let mut over = Vec::new();
    while !engine.is_idle() {
        over.extend(engine.step(b).into_iter().filter_map(|event| match event {
            Event::Done { id, generated } => Some((id, generated)),
            Event::Token { .. } | Event::Read { .. } => None,
        }));
    }
    over
}

#[test]
fn generation_is_batch_invariant_and_slots_are_reused() {
    let (b, config) = (&mut Reference, config());
    let weights = init(b, &config, 1);
    let requests: Vec<Request> =
        (0..7).map(|i| request(i, &[i as u32 + 1, 2, 3][..1 + i as usize % 3], 3 + i as usize)).collect();
    let alone: Vec<Text> = requests
        .iter()
        .map(|r| {
            let mut engine = Engine::new(b, &config, &weights, 1);
            texts(b, &mut engine, std::slice::from_ref(r)).remove(0)
        })
        .collect();
    for slots in [2, 3, 7] {
        for rows in [1, 2, 100] {
            let mut engine = Engine::new(b, &config, &weights, slots);
            engine.budget = Budget::of_rows(rows);
            for _ in 0..2 {
                assert_eq!(texts(b, &mut engine, &requests), alone, "{slots} slots, {rows} rows");
            }
        }
    }
}

#[test]
fn a_request_is_cancelled_in_the_queue_in_its_prompt_and_in_its_answer() {
    let (b, config) = (&mut Reference, config());
    let weights = init(b, &config, 1);
    let mut engine = Engine::new(b, &config, &weights, 1);
    engine.budget = Budget::of_rows(2);
    let expected = texts(b, &mut engine, &[request(5, &[9, 8, 7], 4)]);
    let endless = |number, prompt: &[u32]| Request { stop_tokens: vec![], ..request(number, prompt, 6) };
    let [first, second, third, fourth] = [
        engine.submit(endless(0, &[1; 5]), None),
        engine.submit(endless(1, &[2; 5]), None),
        engine.submit(endless(2, &[3; 5]), None),
        engine.submit(request(5, &[9, 8, 7], 4), None),
    ];
    assert!(engine.step(b).is_empty(), "two of five tokens are read");
    let cancelled = engine.cancel(second).unwrap();
    assert_eq!((cancelled.finish, cancelled.usage.drawn_tokens), (Finish::Cancelled, 0), "in the queue");
    assert_eq!(engine.cancel(first).unwrap().usage, Usage { prompt_tokens: 5, ..Usage::default() });
    let events: usize = (0..4).map(|_| engine.step(b).len()).sum();
    assert_eq!(
        (events, engine.running(), engine.waiting()),
        (2, 1, 1),
        "five tokens in three passes, and one more"
    );
    assert_eq!(engine.cancel(third).unwrap().tokens.len(), 2);
    assert_eq!((engine.cancel(third), engine.running()), (None, 0));
    let over = finish(b, &mut engine);
    assert_eq!(over.len(), 1);
    let (id, Generated { tokens, finish, end, .. }) = over[0].clone();
    assert_eq!((id, (tokens, finish, end)), (fourth, expected[0].clone()));
}

#[test]
fn the_beginning_of_a_prompt_that_a_slot_holds_is_not_read_again() {
    let (b, config) = (&mut Reference, config());
    let config = Config { seq_len: 64, ..config };
    let weights = init(b, &config, 1);
    let prompt: Vec<u32> = (0..20).collect();
    let of = |owner, prompt: &[u32]| Request { stop_tokens: vec![], owner, ..request(1, prompt, 4) };
    let cold = |b: &mut Reference, request: &Request| {
        let mut engine = Engine::new(b, &config, &weights, 1);
        texts(b, &mut engine, std::slice::from_ref(request)).remove(0).0
    };
    let mut engine = Engine::new(b, &config, &weights, 3);
    let mut ask = |engine: &mut Engine<_>, requests: &[Request]| -> Vec<usize> {
        let answers = engine.generate(b, requests, |_, _| ControlFlow::Continue(())).unwrap();
        for (request, answer) in requests.iter().zip(&answers) {
            assert_eq!(answer.tokens, cold(b, request), "{request:?}");
        }
        answers.iter().map(|answer| answer.usage.cached_tokens).collect()
    };
    assert_eq!(ask(&mut engine, &[of(0, &prompt)]), [0]);
    assert_eq!(
        ask(&mut engine, &[of(0, &prompt)]),
        [19],
        "the last token is always read: its logits are wanted"
    );
    let longer = [&prompt[..], &[3, 4]].concat();
    assert_eq!(ask(&mut engine, &[of(0, &longer)]), [20]);
    let other = [&prompt[..12], &[25]].concat();
    assert_eq!(ask(&mut engine, &[of(1, &other)]), [0], "another owner's");
    // Three at once: one in place, one beside it by a copy, one that begins otherwise.
    assert_eq!(ask(&mut engine, &[of(0, &longer), of(0, &other), of(0, &[7, 7])]), [21, 12, 0]);
    // Of prompts that nobody holds yet, one is read and the others wait for it.
    let fresh: Vec<u32> = (0..18).rev().collect();
    assert_eq!(ask(&mut engine, &[of(0, &fresh), of(0, &fresh), of(0, &fresh)]), [0, 17, 17]);
    // The slot that was used longest ago is given away, and what was asked last is still held.
    let mut engine = Engine::new(b, &config, &weights, 2);
    let prompts = [[1; 5], [2; 5], [1; 5], [3; 5], [1; 5]];
    let mut ask = |prompt: &[u32]| {
        let answer = engine.generate(b, &[of(0, prompt)], |_, _| ControlFlow::Continue(())).unwrap();
        answer[0].usage.cached_tokens
    };
    assert_eq!(prompts.map(|prompt| ask(&prompt)), [0, 0, 4, 0, 4]);
    // Those who wait are overtaken by no more than there are slots.
    for prompt in [&fresh[..], &fresh, &fresh, &[9, 9]] {
        engine.submit(of(0, prompt), None);
    }
    engine.step(b);
    assert_eq!((engine.running(), engine.waiting()), (1, 3));
}

#[test]
fn a_sequence_goes_on_in_every_pass_while_prompts_are_read_in_pieces() {
    let (b, config) = (&mut Reference, config());
    let config = Config { seq_len: 64, ..config };
    let weights = init(b, &config, 1);
    let mut engine = Engine::new(b, &config, &weights, 3);
    engine.budget = Budget::of_rows(5);
    let endless =
        |number, len| Request { stop_tokens: vec![], ..request(number, &vec![number as u32; len], 12) };
    let short = engine.submit(endless(1, 2), None);
    engine.step(b);
    let [second, third] = [engine.submit(endless(2, 17), None), engine.submit(endless(3, 3), None)];
    let mut firsts = Vec::new();
    for pass in 0..6 {
        let events = engine.step(b);
        let has =
            |wanted| events.iter().any(|event| matches!(event, Event::Token { id, .. } if *id == wanted));
        assert!(has(short), "pass {pass}");
        firsts.extend([second, third].into_iter().filter(|&id| has(id)).map(|id| (id, pass)));
        firsts.dedup_by_key(|(id, _)| *id);
    }
    assert_eq!(
        firsts[..2],
        [(third, 1), (second, 3)],
        "17 and 3 tokens are four passes of five; half of each is for the one that is read soonest"
    );
    engine.pause(second, true);
    let heard = |events: Vec<Event>, wanted| {
        events.iter().any(|event| matches!(event, Event::Token { id, .. } if *id == wanted))
    };
    assert!(!heard(engine.step(b), second));
    engine.pause(second, false);
    assert!(heard(engine.step(b), second));
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one_nor_the_long_one_for_ever() {
    let (b, config) = (&mut Reference, config());
    let weights = init(b, &config, 1);
    let mut engine = Engine::new(b, &config, &weights, 3);
    engine.budget = Budget::of_rows(4);
    let long = engine.submit(request(1, &[1; 12], 1), None);
    let mut shorts = 0;
    for pass in 1..=6 {
        // One short prompt after another.
        engine.submit(request(2, &[10 + pass, pass], 1), None);
        let over: Vec<RequestId> = finish_of(&engine.step(b));
        assert_eq!(over.contains(&long), pass == 6, "pass {pass}: two of its rows each time");
        shorts += over.iter().filter(|&&id| id != long).count();
    }
    assert_eq!(shorts, 6, "each was read at once");
}

/// Those that are over.
fn finish_of(events: &[Event]) -> Vec<RequestId> {
    events
        .iter()
        .filter_map(|event| if let Event::Done { id, .. } = event { Some(*id) } else { None })
        .collect()
}

#[test]
fn bias_penalties_and_constraints_say_what_is_drawn() {
    struct Even([u32; 1]);
    impl Constraint for Even {
        fn allowed(&mut self, generated: &[u32]) -> &[u32] {
            self.0 = if generated.len() == 3 { [0] } else { [0x0555_5555] };
            &self.0
        }
    }
    let (b, config) = (&mut Reference, config());
    let weights = init(b, &config, 1);
    let mut engine = Engine::new(b, &config, &weights, 1);
    let plain = Request { stop_tokens: vec![], ..request(1, &[1], 8) };
    let biased = Request { logit_bias: vec![(17, 100.0)], ..plain.clone() };
    assert_eq!(texts(b, &mut engine, std::slice::from_ref(&biased))[0].0, [17; 8]);
    let once = Request { presence_penalty: 200.0, ..biased.clone() };
    let drawn = texts(b, &mut engine, &[once]).remove(0).0;
    let mut distinct = drawn.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!((drawn[0], distinct.len()), (17, 8), "{drawn:?}");
    let thrice = Request { frequency_penalty: 40.0, ..biased };
    assert_eq!(texts(b, &mut engine, &[thrice])[0].0.iter().filter(|&&token| token == 17).count(), 3);
    let id = engine.submit(plain, Some(Box::new(Even([0]))));
    let (over, generated) = finish(b, &mut engine).remove(0);
    assert_eq!(
        (over, generated.finish, generated.tokens.len()),
        (id, Finish::Forbidden, 3),
        "then nothing is allowed"
    );
    assert!(generated.tokens.iter().all(|token| token % 2 == 0), "{generated:?}");
}

#[test]
fn logprobs_are_those_of_the_model_as_it_is() {
    let (b, config) = (&mut Reference, config());
    let weights = init(b, &config, 1);
    let mut engine = Engine::new(b, &config, &weights, 2);
    let asked = Request {
        logprobs: Some(3),
        logit_bias: vec![(4, 5.0)],
        stop_tokens: vec![],
        sampling: Sampling { temperature: 2.0, ..Sampling::default() },
        ..request(1, &[1, 2], 6)
    };
    engine.submit(asked, None);
    engine.submit(request(2, &[3], 3), None);
    let (mut tokens, mut said) = (Vec::new(), Vec::new());
    while !engine.is_idle() {
        for event in engine.step(b) {
            if let Event::Token { token, logprobs: Some(logprobs), .. } = event {
                tokens.push(token);
                said.push(logprobs);
            }
        }
    }
    let scores = engine.score_continuations(b, &[1, 2], &[&tokens]).unwrap().remove(0);
    assert_eq!(tokens.len(), 6);
    for (at, (said, score)) in said.iter().zip(scores).enumerate() {
        assert_eq!(said.logprob.to_bits(), score.logprob.to_bits());
        assert!(said.top.is_sorted_by(|a, b| a.1 >= b.1) && said.top.len() == 3);
        assert_eq!(said.top[0].1 == said.logprob, score.is_best, "{said:?}");
        let prompt = [&[1, 2], &tokens[..at]].concat();
        for &(token, logprob) in &said.top {
            let score = engine.score_continuations(b, &prompt, &[&[token]]).unwrap().remove(0);
            assert_eq!(logprob.to_bits(), score[0].logprob.to_bits());
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
    assert_eq!((result.tokens.len(), result.finish), (3, Finish::Length), "positions 10, 11, and one beyond");
}

#[test]
fn the_watcher_and_stop_tokens_end_a_sequence() {
    let (b, config) = (&mut Reference, config());
    let weights = init(b, &config, 1);
    let mut engine = Engine::new(b, &config, &weights, 1);
    let endless = Request { stop_tokens: Vec::new(), ..request(0, &[1], 6) };
    let free = texts(b, &mut engine, std::slice::from_ref(&endless)).remove(0).0;
    let stopped = engine.generate(b, std::slice::from_ref(&endless), |_, _| ControlFlow::Break(()));
    let stopped = stopped.unwrap().remove(0);
    assert_eq!((&stopped.tokens[..], stopped.finish, stopped.end), (&free[..1], Finish::Stop, None));
    let with_stop = Request { stop_tokens: vec![free[2]], ..endless };
    let first = free.iter().position(|&token| token == free[2]).unwrap();
    let stopped = engine.generate(b, &[with_stop], |_, _| ControlFlow::Continue(())).unwrap().remove(0);
    let usage = Usage { prompt_tokens: 1, cached_tokens: 0, drawn_tokens: first + 1 };
    let (tokens, end) = (free[..first].to_vec(), Some(free[2]));
    assert_eq!(stopped, Generated { tokens, finish: Finish::Stop, end, usage }, "the end was drawn too");
    let last = Request { max_tokens: 1, ..request(0, &[1], 1) };
    let stopped = engine.generate(b, &[last], |_, _| ControlFlow::Break(())).unwrap().remove(0);
    assert_eq!((stopped.tokens.len(), stopped.finish), (1, Finish::Stop), "whoever is asked comes first");
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

/// Allows everything, until it breaks.
struct Bomb;

impl Constraint for Bomb {
    fn allowed(&mut self, generated: &[u32]) -> &[u32] {
        assert!(generated.len() < 2, "boom");
        &[u32::MAX]
    }
}

#[test]
fn a_panic_costs_the_requests_of_its_pass_and_nothing_else() {
    let (b, config) = (&mut Reference, config());
    let weights = init(b, &config, 1);
    let mut engine = Engine::new(b, &config, &weights, 2);
    let expected = texts(b, &mut engine, &[request(5, &[9, 8, 7], 4)]);
    let endless = Request { stop_tokens: vec![], ..request(0, &[1; 5], 6) };
    let bomb = engine.submit(endless.clone(), Some(Box::new(Bomb)));
    let beside = engine.submit(Request { number: 1, ..endless }, None);
    let waiting = engine.submit(request(5, &[9, 8, 7], 4), None);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        while !engine.is_idle() {
            engine.step(b);
        }
    }));
    assert!(panic.is_err());
    let mut ended = engine.recover(b);
    ended.sort();
    assert_eq!(ended, [bomb, beside]);
    let over = finish(b, &mut engine);
    assert_eq!(over.len(), 1);
    assert_eq!((over[0].0, &over[0].1.tokens), (waiting, &expected[0].0));
}
