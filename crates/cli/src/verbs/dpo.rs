//! `mynah dpo`: learning from rankings without a reward model.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;
use gpt::data::{Prompter, messages};
use gpt::objective::PreferenceLoss;
use gpt::stage::{DpoFigures, DpoOptions, DpoSettings, Rankings, dpo};
use serde_json::json;

use super::stages::{HELD_OUT, LoraArgs, RecipeArgs, RowArgs, init, keys};
use crate::session::{Ended, Purpose, Session, closing};

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
    /// What is learned of a pair, with what its authors take for beta and sft_coef [default: sigmoid, which is DPO]
    #[arg(long, value_name = "LOSS", value_parser = PossibleValuesParser::new(PreferenceLoss::ALL.map(PreferenceLoss::name)))]
    loss: Option<String>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    rows: RowArgs,
}

/// What the authors of the loss take for other keys, however it is named.
fn usual(args: &DpoArgs) -> Vec<String> {
    let name = args.loss.as_deref().or_else(|| args.recipe.word("loss"));
    let loss = PreferenceLoss::ALL.into_iter().find(|loss| Some(loss.name()) == name);
    loss.map(DpoSettings::usual_of).unwrap_or_default()
}

pub(crate) fn run(args: &DpoArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let mut usual = usual(args);
    usual.extend(session.lanes(&args.out));
    let loss = args.loss.as_ref().map(|loss| format!("loss={loss}"));
    let settings = args.recipe.resolve_after::<DpoSettings>(usual, &[loss])?;
    let init = init(&args.model, "init", &args.out, false, &args.lora, session)?;
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
        "step": outcome.ending.step, "stopped": outcome.ending.stopped, "val_loss": outcome.after.map(|after| after.loss),
        "val_accuracy": outcome.after.map(|after| after.accuracy), "run": args.out, "report": outcome.ending.report,
    });
    session.summary(&summary, || {
        let right = |after: DpoFigures| format!("{:.1} % of held-out pairs right", 100.0 * after.accuracy);
        closing(&outcome.ending, "steps", outcome.after.map(right))
    })?;
    Ok(Ended::of(&outcome.ending))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        dpo: DpoArgs,
    }

    #[test]
    fn a_loss_has_its_coefficients_however_it_is_named() {
        for (words, loss) in [
            (&["--loss", "simpo"][..], PreferenceLoss::Simpo),
            (&["--set", "loss=simpo"], PreferenceLoss::Simpo),
            (&["--set", "loss=simpo", "--set", "loss = \"orpo\""], PreferenceLoss::Orpo),
            (&["--set", "loss=simpo", "--loss", "orpo"], PreferenceLoss::Orpo),
            (&["--set", "beta=0.3"], PreferenceLoss::Sigmoid),
        ] {
            let typed = ["dpo", "--model", "m", "--rankings", "r", "--out", "o"].iter().chain(words);
            let Typed { dpo } = Typed::try_parse_from(typed).expect("a command");
            assert_eq!(usual(&dpo), DpoSettings::usual_of(loss), "{words:?}");
        }
    }
}
