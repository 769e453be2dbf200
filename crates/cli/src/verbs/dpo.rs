//! `mynah dpo`: learning from rankings without a reward model.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpt::data::{Prompter, messages};
use gpt::stage::{DpoOptions, DpoSettings, Rankings, dpo};
use serde_json::json;

use super::stages::{HELD_OUT, RecipeArgs, RowArgs, init, keys};
use crate::session::{Ended, Purpose, Session};
use crate::terminal::text::count;

/// Improve a model on ranked answers directly, without a reward model
#[derive(Debug, Args)]
#[command(after_help = format!("{}\nExamples:\n  mynah dpo --model runs/sft --rankings rankings.jsonl --out runs/dpo", keys::<DpoSettings>()))]
pub(crate) struct DpoArgs {
    /// The model to begin from and to stay close to, usually that of `mynah sft`
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Ranked answers: JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    rankings: PathBuf,
    /// Rankings to measure with [default: those of a tenth of the prompts]
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    rows: RowArgs,
}

pub(crate) fn run(args: &DpoArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let settings = args.recipe.resolve::<DpoSettings>(&[])?;
    let init = init(&args.model, "init", &args.out, false, session)?;
    let tokenizer = init.needed_tokenizer()?;
    let prompter = Prompter::new(tokenizer)?;
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let (train, val) = rows.rankings(&args.rankings, args.val.as_deref())?;
    let context = init.model().config.seq_len;
    rows.columns.check()?;
    let rankings = Rankings::new(&train, &val, HELD_OUT, &prompter, context, session.watcher())?;
    let rankings = rankings.read_from(&args.rankings);
    let options = DpoOptions {
        init: &init,
        rankings: &rankings,
        out: args.out.clone(),
        settings,
        seed: session.seed(),
    };
    let mut compute = session.compute(Purpose::Training(&args.out))?;
    let machine = session.machine(&mut compute);
    let outcome = dpo(compute, &machine, &options, session.watcher())?;
    let summary = json!({
        "step": outcome.ending.step, "stopped": outcome.ending.stopped, "val_loss": outcome.val_loss,
        "val_accuracy": outcome.val_accuracy, "run": args.out, "report": outcome.ending.report,
    });
    session.summary(&summary, || {
        format!(
            "{} steps, {:.1} % of held-out pairs right → {}",
            count(outcome.ending.step),
            100.0 * outcome.val_accuracy,
            outcome.ending.report.display()
        )
    })?;
    Ok(Ended::of(&outcome.ending))
}
