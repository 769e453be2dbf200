//! `mynah kto`: learning from answers that are called good or bad one by one.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;
use gpt::data::{Prompter, messages};
use gpt::objective::UnpairedLoss;
use gpt::stage::{Judgements, KtoFigures, KtoOptions, KtoSettings, kto};
use serde_json::json;

use super::stages::{HELD_OUT, LoraArgs, RecipeArgs, RowArgs, init, keys};
use crate::session::{Ended, Purpose, Session, closing};

/// Improve a model on answers that are called good or bad one by one
#[derive(Debug, Args)]
#[command(after_help = format!("{}\nExamples:\n  mynah kto --model runs/sft --data thumbs.jsonl --out runs/kto", keys::<KtoSettings>()))]
pub(crate) struct KtoArgs {
    /// The model to begin from and to stay close to, usually that of `mynah sft`
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Rows with prompt, completion and label (true or false): JSON lines, CSV, TSV or Parquet; or a store with thumbs
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Rows to measure with [default: those of a tenth of the prompts]
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// What is learned of an answer [default: kto]
    #[arg(long, value_name = "LOSS", value_parser = PossibleValuesParser::new(UnpairedLoss::ALL.map(UnpairedLoss::name)))]
    loss: Option<String>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    rows: RowArgs,
}

pub(crate) fn run(args: &KtoArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let loss = args.loss.as_ref().map(|loss| format!("loss={loss}"));
    let settings = args.recipe.resolve_shared::<KtoSettings>(&args.out, session, &[loss])?;
    let init = init(&args.model, "init", &args.out, false, &args.lora, session)?;
    let prompter = Prompter::new(init.needed_tokenizer()?)?;
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let train = rows.judged(&args.data)?;
    let val = args.val.as_ref().map(|val| rows.judged(val)).transpose()?.unwrap_or_default();
    rows.columns.check()?;
    let context = init.model().config.seq_len;
    let judgements = Judgements::new(&train, &val, HELD_OUT, &prompter, context, session.watcher())?;
    let options = KtoOptions {
        init: &init,
        judgements: &judgements.read_from(&args.data),
        out: args.out.clone(),
        settings,
        seed: session.seed(),
    };
    let mut compute = session.compute(Purpose::Training(&args.out))?;
    let machine = session.machine(&mut compute);
    let outcome = kto(compute, &machine, &options, session.watcher())?;
    let summary = json!({
        "step": outcome.ending.step, "stopped": outcome.ending.stopped, "val_loss": outcome.after.map(|after| after.loss),
        "val_margin": outcome.after.and_then(|after| after.margin), "run": args.out, "report": outcome.ending.report,
    });
    session.summary(&summary, || {
        let loss = |after: KtoFigures| format!("held-out loss {:.4}", after.loss);
        closing(&outcome.ending, "steps", outcome.after.map(loss))
    })?;
    Ok(Ended::of(&outcome.ending))
}
