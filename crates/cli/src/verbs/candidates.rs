//! `mynah candidates`: answers to be ranked.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use gpt::data::messages::prompt;
use gpt::data::{Candidates, Prompter};
use gpt::model::Sampling;
use gpt::stage::{CandidatesOptions, candidates, score};
use serde_json::{Value, json};

use super::complete::Model;
use super::stages::{BadLines, read};
use crate::Ended;
use crate::session::Session;
use crate::terminal::text::count;

/// Sample several answers to each prompt, ready to be ranked
#[derive(Debug, Args)]
#[command(after_help = "\
A line of the file has the prompt's messages, its completions, and every further field of the prompt. With --best-by only the
answer that a reward model likes most is kept: best of K.

Examples:
  mynah candidates --model runs/sft --prompts prompts.jsonl --k 4 --out candidates.jsonl
  mynah candidates --model runs/sft --prompts prompts.jsonl --k 16 --best-by runs/reward --out best.jsonl")]
pub(crate) struct CandidatesArgs {
    /// The model that answers
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Prompts, JSON lines: {"prompt"} or {"messages"}
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Answers to each prompt
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    k: u16,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Tokens of an answer at most
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: usize,
    /// Logits are divided by it
    #[arg(long, value_name = "F", default_value_t = 1.0, value_parser = super::complete::temperature)]
    temperature: f32,
    /// Keep only the answer with the highest reward by this model
    #[arg(long, value_name = "MODEL")]
    best_by: Option<PathBuf>,
    #[command(flatten)]
    bad: BadLines,
}

pub(crate) fn run(args: &CandidatesArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let Model { mut cpu, config, weights, tokenizer, .. } = Model::load(&args.model, session)?;
    let prompts = read(&args.prompts, args.bad.max_bad, session, prompt)?;
    let prompter = Prompter::new(&tokenizer)?;
    let sampling = Sampling { temperature: args.temperature, top_k: 0, top_p: 1.0, seed: session.seed() };
    let options = CandidatesOptions { k: args.k.into(), max_tokens: args.max_tokens, sampling };
    let model = (&config, &weights);
    let mut found = candidates(&mut cpu, model, &prompter, &prompts, &options, session.watcher())?;
    prompter.notes().iter().for_each(|note| session.say(&format!("note: {note}")));
    let mut lines: Vec<Value> =
        found.iter().map(serde_json::to_value).collect::<Result<_, _>>().context("candidates are JSON")?;
    if let Some(path) = &args.best_by {
        let judge = Model::load(path, session)?;
        let prompter = Prompter::new(&judge.tokenizer)?;
        let rewards = score(&mut cpu, judge.config, judge.weights, &prompter, &found, session.watcher())?;
        lines = found.iter_mut().zip(rewards).map(|(found, rewards)| best(found, &rewards)).collect();
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    gpt::train::run::write_atomically(&args.out, text.as_bytes())?;
    let summary = json!({ "prompts": found.len(), "k": args.k, "out": args.out });
    session.summary(&summary, || {
        format!("{} prompts with {} answers each → {}", count(found.len() as u64), args.k, args.out.display())
    })?;
    Ok(Ended::Done)
}

/// The line of a prompt with its best answer alone.
fn best(found: &mut Candidates, rewards: &[f64]) -> Value {
    let best = (0..rewards.len()).max_by(|&i, &j| rewards[i].total_cmp(&rewards[j])).unwrap_or(0);
    found.completions = vec![found.completions.swap_remove(best)];
    let mut line = json!(found);
    line["rewards"] = json!([rewards[best]]);
    line
}
