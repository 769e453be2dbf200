//! Steps an engine by hand: a short request is answered while long prompts are read in pieces, one of them is
//! cancelled in the middle of its prompt, and no pass is long.
//!
//! ```text
//! cargo run --release -p mynah-gpt --example engine -- DIR
//! ```

#![allow(clippy::print_stdout)] // That is what it is for.

use anyhow::{Context, Result};
use gpt::checkpoint;
use gpt::model::{Engine, Event, Request};
use kernels::{Cpu, CpuOptions};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PASS: Duration = Duration::from_millis(40);

fn main() -> Result<()> {
    let dir = PathBuf::from(std::env::args().nth(1).context("give a model directory")?);
    let model = checkpoint::open(&dir, &gpt::progress::Silent)?;
    let b = &mut Cpu::new(CpuOptions::default());
    let weights = model.weights(checkpoint::to_backend(b, &model.config))?;
    let mut engine = Engine::new(b, &model.config, &weights, 4).with_passes_of(PASS);
    let long = (model.config.seq_len / 2).min(1500);
    let of = |number, len: usize, max_tokens| {
        let prompt = (0..len as u32).map(|i| (i * 7 + number as u32) % 1000).collect();
        Request { prompt, max_tokens, number, ..Request::default() }
    };

    // The first passes tell the engine how many rows it has time for.
    engine.submit(of(0, long, 1), None);
    while !engine.is_idle() {
        engine.step(b);
    }
    let short = engine.submit(of(1, 8, 200), None);
    engine.step(b);
    let [cancelled, other] = [2, 3].map(|number| engine.submit(of(number, long, 1), None));
    let (mut passes, mut gaps, mut last) = (Vec::new(), Vec::new(), Instant::now());
    while !engine.is_idle() {
        let began = Instant::now();
        let events = engine.step(b);
        passes.push(began.elapsed());
        if events.iter().any(|event| matches!(event, Event::Token { id, .. } if *id == short)) {
            gaps.push(last.elapsed());
            last = Instant::now();
        }
        if passes.len() == 5 {
            let was_running = engine.running();
            engine.cancel(cancelled);
            println!("cancelled in its prompt: {was_running} slots at work, then {}", engine.running());
        }
        if events.iter().any(|event| matches!(event, Event::Done { id, .. } if *id == other)) {
            println!("the other prompt of {long} tokens was read within {} passes", passes.len());
        }
    }
    passes.sort();
    gaps.sort();
    let [at_most, nearly] = [passes[passes.len() - 1], passes[passes.len() * 99 / 100]];
    println!("{} passes: the longest {at_most:.1?}, 99 % within {nearly:.1?}", passes.len());
    println!("between two tokens of the short one: at most {:.1?}", gaps[gaps.len() - 1]);
    Ok(())
}
