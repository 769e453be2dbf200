//! Batch invariance of the engine: 200 prompts alone, and 32 slots to which they
//! come at random, in another order, cold and with what earlier prompts left in the cache, read in pieces of
//! random length, beside others that are cancelled; in both precisions, on models of both kinds.

#![allow(clippy::unwrap_used)] // A test that finds no value has failed.

use kernels::{Cpu, CpuOptions, Precision, rng};
use lm::model::{Config, Engine, Event, Finish, Request, Sampling, init};
use std::collections::BTreeMap;
use std::time::Duration;

const PROMPTS: u64 = 200;
const VOCAB: usize = 300;

/// Tokens, and the bits of their log-probabilities.
type Answer = Vec<(u32, u64)>;

/// A random number below `n`, the `index`-th of `stream`.
fn below(stream: u64, index: u64, n: u64) -> u64 {
    rng::below(7, stream, index, n)
}

/// Prompts of up to 70 tokens; a third of them begin alike.
fn request(number: u64) -> Request {
    let len = 1 + below(1, number, 70);
    let of = |at| if number.is_multiple_of(3) && at < 40 { 0 } else { number + 1 };
    let prompt = (0..len).map(|at| below(2, of(at) << 8 | at, VOCAB as u64) as u32).collect();
    let temperature = [1.0, 0.0, 0.7][number as usize % 3];
    let sampling = Sampling { temperature, top_k: 50 * (number as usize % 2), top_p: 0.95, seed: 3 };
    Request {
        prompt,
        max_tokens: 12,
        sampling,
        number,
        stop_tokens: vec![5],
        logprobs: Some(0),
        ..Request::default()
    }
}

/// Submits requests in the order of `numbers`, now and then between passes, and cancels those that are not
/// `wanted`.
fn answers(
    b: &mut Cpu,
    engine: &mut Engine<Cpu>,
    numbers: &[u64],
    wanted: impl Fn(u64) -> bool,
    arrival: u64,
) -> BTreeMap<u64, Answer> {
    let (mut of, mut answers) = (BTreeMap::new(), BTreeMap::<u64, Answer>::new());
    let mut waiting = numbers.iter().peekable();
    for pass in 0.. {
        if waiting.peek().is_none() && engine.is_idle() {
            break;
        }
        for &number in waiting.by_ref().take(below(arrival, pass, 8) as usize) {
            of.insert(engine.submit(request(number), None), number);
        }
        for event in engine.step(b) {
            match event {
                Event::Token { id, token, logprobs } => {
                    let number = of[&id];
                    answers.entry(number).or_default().push((token, logprobs.unwrap().logprob.to_bits()));
                    if !wanted(number) && answers[&number].len() == 4 {
                        assert_eq!(engine.cancel(id).unwrap().finish, Finish::Cancelled);
                    }
                }
                Event::Read { .. } => {}
                Event::Done { id, generated } => {
                    let told = answers.entry(of[&id]).or_default().iter().map(|(token, _)| *token);
                    assert_eq!(told.collect::<Vec<_>>(), generated.tokens);
                }
            }
        }
    }
    answers.retain(|number, _| wanted(*number));
    answers
}

#[test]
fn bits_do_not_depend_on_the_batch() {
    let gpt2 = Config { d_ff: 128, ..Config::gpt2(VOCAB, 96, 2, 2, 32) };
    let modern = Config { d_ff: 96, n_kv_head: 2, ..Config::modern(VOCAB, 96, 2, 4, 48) };
    for (config, precision) in [
        (&gpt2, Precision::F32),
        (&gpt2, Precision::Bf16),
        (&modern, Precision::F32),
        (&modern, Precision::Bf16),
    ] {
        let b = &mut Cpu::new(CpuOptions { threads: 2, precision, ..CpuOptions::default() });
        let mut weights = init(b, config, 1);
        // Far from uniform, so that a difference would show.
        for leaf in weights.leaves_mut() {
            let mut values = vec![0.0; kernels::Backend::len(b, leaf)];
            kernels::Backend::download(b, &mut values, leaf);
            values.iter_mut().for_each(|value| *value *= 6.0);
            kernels::Backend::upload(b, leaf, &values);
        }
        let in_order: Vec<u64> = (0..PROMPTS).collect();
        let mut alone = BTreeMap::new();
        for &number in &in_order {
            let mut engine = Engine::new(b, config, &weights, 1);
            alone.extend(answers(b, &mut engine, &[number], |_| true, 0));
        }
        let distinct: std::collections::BTreeSet<_> = alone.values().collect();
        assert!(alone.len() == 200 && distinct.len() > 150, "{} answers differ", distinct.len());

        let backwards: Vec<u64> = (0..PROMPTS).rev().collect();
        let mut engine = Engine::new(b, config, &weights, 32);
        for (i, numbers) in [&in_order, &backwards, &in_order].into_iter().enumerate() {
            let got = answers(b, &mut engine, numbers, |_| true, 10 + i as u64);
            assert!(got == alone, "{precision:?}: in a batch, run {i}");
        }
        let mut hurried = Engine::new(b, config, &weights, 32).with_passes_of(Duration::from_micros(300));
        let some = |number: u64| number % 4 != 1;
        let got = answers(b, &mut hurried, &backwards, some, 20);
        alone.retain(|&number, _| some(number));
        assert!(got == alone, "{precision:?}: beside requests that are cancelled");
    }
}
