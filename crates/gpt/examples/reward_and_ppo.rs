//! A model's answers, ranked by a taste of our own, a reward model of that taste, and PPO towards it: goes on
//! from `train_and_complete`.
//!
//! ```text
//! cargo run --release -p mynah-gpt --example reward_and_ppo -- runs/library
//! ```

#![allow(clippy::print_stdout)] // That is what it is for.

use anyhow::{Context, Result};
use gpt::data::Prompter;
use gpt::progress::Silent;
use gpt::stage::*;
use gpt::{checkpoint, lessons, model::Sampling};
use kernels::{Cpu, CpuOptions};
use std::path::PathBuf;

/// The taste: short answers.
fn score(answer: &str) -> f64 {
    1.0 / (1.0 + answer.len() as f64 / 40.0)
}

fn main() -> Result<()> {
    let dir = PathBuf::from(std::env::args().nth(1).context("give the directory of train_and_complete")?);
    let (cpu, machine) = (|| Cpu::new(CpuOptions::default()), Machine::unmeasured());
    let policy = &Init::open(&dir.join("run"), &Silent)?;
    let prompter = Prompter::new(policy.tokenizer().context("a run keeps its tokenizer")?)?;
    let prompts = (0..).map(|i| lessons::prompt(0, lessons::Split::Train, i));
    let prompts: Vec<_> = prompts.filter(|prompt| prompt.messages.len() == 1).take(120).collect();

    // Four answers to each prompt, ranked.
    let (mut b, model) = (cpu(), policy.model());
    let weights = model.weights(checkpoint::to_backend(&mut b, &model.config))?;
    let asked = CandidatesOptions { k: 4, max_tokens: 24, sampling: Sampling::default() };
    let found = candidates(&mut b, (&model.config, &weights), &prompter, &prompts, &asked, &Silent)?;
    let scores = |answers: &[String]| answers.iter().map(|answer| score(answer)).collect();
    let scored = found.into_iter().map(|found| (found.clone(), scores(&found.completions))).collect();
    let (rankings, _) = lessons::simulate(scored, 0.05, 0);

    // A reward model learns the taste.
    let rankings = &Rankings::new(&rankings, &[], 0.1, &prompter, model.config.seq_len, &Silent)?;
    let settings =
        StageSettings::with(|optim, own: &mut RewardSettings| (optim.lr, own.batch_size) = (1e-3, 8))?;
    let (demonstrations, out) = (&[][..], dir.join("reward"));
    let run = RewardOptions { init: policy, rankings, demonstrations, out, settings, seed: 0 };
    let judged = reward(cpu(), &machine, &run, &Silent)?.evaluation;
    println!("held-out pairs: {:?}", judged.map(|judged| judged.pair_accuracy));

    // The policy learns from the reward model.
    let reward = &Init::open(&dir.join("reward"), &Silent)?;
    let (prompts, held_out) = prompts.split_at(100);
    let settings = StageSettings::with(|optim, own: &mut PpoSettings| {
        (optim.steps, own.batch_size, own.max_tokens) = (Some(6), 16, 24)
    })?;
    let (ptx, gold, out) = (Vec::new(), None, dir.join("ppo"));
    let run = PpoOptions { policy, reward, prompts, held_out, ptx, gold, out, settings, seed: 0 };
    let outcome = ppo(cpu(), &machine, &run, &Silent)?;
    println!("before: {:?}\nafter: {:?}", outcome.before, outcome.after);
    Ok(())
}
