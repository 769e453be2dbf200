//! `mynah reward`: a reward model from rankings.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpt::data::Prompter;
use gpt::data::messages::{self, answered};
use gpt::eval::Rate;
use gpt::stage::{Rankings, RewardOptions, RewardReport, RewardSettings, reward};
use serde_json::json;

use super::stages::{HELD_OUT, LoraArgs, RecipeArgs, RowArgs, init, keys};
use crate::session::{Ended, Purpose, Session, closing};
use crate::terminal::text::{count, table};

const DETAILS: &str = "\
The rankings are JSON lines: {\"messages\":[…],\"completions\":[\"…\",…],\"ranks\":[1,3,2,…]}, {\"prompt\",\"chosen\",\"rejected\"}, or
{\"chosen\":[messages],\"rejected\":[messages]} with or without a prompt, as UltraFeedback, distilabel and HH-RLHF have them;
--fields names other columns. All pairs of a prompt's answers are one element of a batch; ties make no pair.

Examples:
  mynah reward --model runs/sft --rankings rankings.jsonl --out runs/reward
  mynah score --model runs/reward --data candidates.jsonl";

/// Train a reward model on ranked answers
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n{DETAILS}", keys::<RewardSettings>()))]
pub(crate) struct RewardArgs {
    /// The model to begin from, usually that of `mynah sft`
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Ranked answers: JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    rankings: PathBuf,
    /// Rankings to measure with [default: those of a tenth of the prompts]
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// Demonstrations, whose scores get mean 0 and variance 1 [default: all answers of the rankings]
    #[arg(long, value_name = "FILE")]
    demonstrations: Option<PathBuf>,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    rows: RowArgs,
}

pub(crate) fn run(args: &RewardArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let settings = args.recipe.resolve_shared::<RewardSettings>(&args.out, session, &[])?;
    let init = init(&args.model, "init", &args.out, false, &args.lora, session)?;
    let tokenizer = init.needed_tokenizer()?;
    let prompter = Prompter::new(tokenizer)?;
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let (train, val) = rows.rankings(&args.rankings, args.val.as_deref())?;
    let context = init.model().config.seq_len;
    let rankings = Rankings::new(&train, &val, HELD_OUT, &prompter, context, session.watcher())?;
    let rankings = rankings.read_from(&args.rankings);
    let mut demonstrations = Vec::new();
    if let Some(path) = &args.demonstrations {
        for shown in rows.read(path, answered)? {
            let prompt = prompter.prompt_with(&shown.messages, shown.extra.get("tools"))?;
            let answer = prompter.answer(&shown.completions[0]);
            if prompt.len() + answer.len() <= context {
                demonstrations.push((prompt, answer));
            }
        }
    }
    rows.columns.check()?;
    let options = RewardOptions {
        init: &init,
        rankings: &rankings,
        demonstrations: &demonstrations,
        out: args.out.clone(),
        settings,
        seed: session.seed(),
    };
    let mut compute = session.compute(Purpose::Training(&args.out))?;
    let machine = session.machine(&mut compute);
    let outcome = reward(compute, &machine, &options, session.watcher())?;
    let summary = json!({
        "step": outcome.ending.step, "stopped": outcome.ending.stopped, "held_out": outcome.evaluation,
        "run": args.out, "report": outcome.ending.report,
    });
    session.summary(&summary, || {
        let measured = outcome.evaluation.as_ref().map_or_else(String::new, figures);
        format!("{measured}{}", closing(&outcome.ending, "steps", None))
    })?;
    Ok(Ended::of(&outcome.ending))
}

/// How good a reward model is, as people read it.
fn figures(judged: &RewardReport) -> String {
    let percent = |share: &Rate| {
        let [value, low, high] = [share.value, share.low, share.high].map(|x| format!("{:.1} %", 100.0 * x));
        [value, format!("{low} – {high}"), count(share.n)]
    };
    let row = |name: String, share: &Rate| {
        let [value, interval, n] = percent(share);
        [name, value, interval, n]
    };
    let mut rows = vec![["held-out pairs", "right", "95 % interval", "pairs"].map(String::from)];
    rows.push(row("all".into(), &judged.pair_accuracy));
    rows.extend(judged.by_gap.iter().map(|(gap, share)| row(format!("ranks {gap} apart"), share)));
    rows.extend(judged.by_k.iter().map(|(k, share)| row(format!("of {k} answers"), share)));
    format!("{}scores and length correlate by {:.2}\n", table(&rows), judged.length_correlation)
}
