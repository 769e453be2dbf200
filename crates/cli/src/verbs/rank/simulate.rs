//! `mynah rank simulate`: a judge ranks.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use gpt::data::messages::{self, candidates};
use gpt::lessons::{DEFAULT_NOISE, Judge, Simulated, simulate};
use gpt::output::{Input, digest};
use serde_json::json;

use super::super::out::{Force, RULE, recipe, say_finished};
use super::super::stages::RowArgs;
use crate::session::{Ended, Session};
use crate::terminal::text::{count, plural};

fn details() -> String {
    format!("{DETAILS}\n\n{RULE}\n\n{EXAMPLES}")
}

const DETAILS: &str = "\
Judges: `lessons` knows the answers of the built-in lessons, which their prompts carry in further fields; `length` prefers
short answers to any prompt. With noise, the better of two answers whose scores (from 0 to 1) differ by F wins in 73 of 100
cases, as σ(difference / F) has it; equal answers are ties.";

const EXAMPLES: &str = "\
Examples:
  mynah rank simulate --candidates candidates.jsonl --judge lessons --out rankings.jsonl
  mynah rank simulate --candidates candidates.jsonl --judge length --noise 0 --out rankings.jsonl";

/// Let a built-in judge rank them, who errs as people do
#[derive(Debug, Args)]
#[command(after_help = details())]
pub(crate) struct SimulateArgs {
    /// Candidates, JSON lines: {"messages","completions"}, as `mynah candidates` writes them
    #[arg(long, value_name = "FILE")]
    candidates: PathBuf,
    /// Who ranks them
    #[arg(long, value_enum, value_name = "lessons|length", hide_possible_values = true)]
    judge: JudgeName,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    force: Force,
    /// How much the judge errs; 0: never
    #[arg(long, value_name = "F", default_value_t = DEFAULT_NOISE, value_parser = noise)]
    noise: f64,
    #[command(flatten)]
    rows: RowArgs,
}

/// A [`Judge`] as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum JudgeName {
    Lessons,
    Length,
}

impl From<JudgeName> for Judge {
    fn from(name: JudgeName) -> Judge {
        match name {
            JudgeName::Lessons => Judge::Lessons,
            JudgeName::Length => Judge::Length,
        }
    }
}

fn noise(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|noise| noise.is_finite() && *noise >= 0.0);
    value.ok_or_else(|| "not a number from 0 up".into())
}

pub(crate) fn run(args: &SimulateArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let out = session.out(&args.out, args.force.force, &[&args.candidates])?;
    let judge = Judge::from(args.judge);
    let ranked_before = AtomicU64::new(0);
    // A prompt that the judge does not know is a bad line like any other.
    let scored = |record| {
        let mut found = candidates(record)?;
        let scores = judge.scores(&found)?;
        let was_ranked = found.extra.shift_remove("ranks").is_some();
        ranked_before.fetch_add(u64::from(was_ranked), Ordering::Relaxed);
        Ok((found, scores))
    };
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let scored = rows.read(&args.candidates, scored)?;
    rows.columns.check()?;
    let ranked_before = ranked_before.into_inner();
    if ranked_before > 0 {
        session
            .say(&format!("{} had ranks already, which the judge's replace", plural(ranked_before, "line")));
    }
    let settings = json!({
        "judge": format!("{judge:?}"), "noise": args.noise, "seed": session.seed().to_string(),
    });
    let recipe = recipe(
        "rank simulate",
        &settings,
        vec![("candidates", Input::new(&args.candidates, digest(&scored)))],
    )?;
    let is_finished = out.is_finished(&recipe, &[])?;
    let (rankings, simulated) = simulate(scored, args.noise, session.seed());
    let mut text = String::new();
    for ranking in &rankings {
        text += &serde_json::to_string(ranking).context("a ranking is JSON")?;
        text.push('\n');
    }
    if is_finished {
        say_finished(&out, session);
    } else {
        out.write(&recipe, text.as_bytes(), &[])?;
    }
    session.summary(&simulated, || format!("{}→ {}", describe(&simulated), args.out.display()))?;
    Ok(Ended::Done)
}

fn describe(simulated: &Simulated) -> String {
    let Simulated { rankings, answers, mean_score, ceiling } = simulated;
    let ceiling_text = ceiling.accuracy().map_or_else(String::new, |accuracy| {
        format!("a perfect reward model is right in {:.1} % of these pairs\n", 100.0 * accuracy)
    });
    format!(
        "{} of {}, mean score {mean_score:.3}\n{}, {}\n{ceiling_text}",
        plural(*rankings, "ranking"),
        plural(*answers, "answer"),
        plural(ceiling.pairs, "pair"),
        if ceiling.ties == 1 { "1 tie".into() } else { format!("{} ties", count(ceiling.ties)) },
    )
}
