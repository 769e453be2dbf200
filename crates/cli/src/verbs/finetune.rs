//! `mynah finetune`: a classifier from a language model, as GPT-1 made them.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpt::data::rows::Record;
use gpt::data::{Form, Labelled, NoGold, is_held_out};
use gpt::eval::Interval;
use gpt::stage::{Examples, FinetuneOptions, FinetuneSettings, Init, TaskReport, finetune};
use serde_json::json;

use super::stages::{HELD_OUT, LoraArgs, RecipeArgs, RowArgs, keys};
use crate::options::{number, whole};
use crate::session::{Ended, Purpose, Session, closing};
use crate::terminal::text::{count, table};

const DETAILS: &str = "\
Labelled texts are JSON lines: classification {\"text\",\"label\"}; entailment {\"premise\",\"hypothesis\",\"label\"}; similarity
{\"a\",\"b\",\"label\"}, where labels with fractions are degrees; multiple-choice {\"context\"?,\"question\"?,\"answers\":[…],\"label\":index}.
Labels that print alike are one class. Texts without a gold label are left out and counted: null, empty, -, and -1 beside 0 and other
whole numbers from 0 on. --fields names other columns.
The vocabulary grows by <|start|>, <|delimiter|> and <|extract|>; the head reads the row of the last.

Examples:
  mynah finetune --model runs/base --task classification --train reviews.jsonl --out runs/reviews
  mynah classify --model runs/reviews \"I would see it again.\"";

/// Teach a model a task by labelled texts (GPT-1)
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n{DETAILS}", keys::<FinetuneSettings>()))]
pub(crate) struct FinetuneArgs {
    /// The model to begin from
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// What is decided about a text: classification, entailment, similarity or multiple-choice
    #[arg(long, value_name = "TASK", value_parser = str::parse::<Form>)]
    task: Form,
    /// Labelled texts to learn from: JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    train: PathBuf,
    /// Labelled texts to measure with [default: a tenth of the others]
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// Run directory
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// λ, the weight of language modelling beside the task; 0 for the task alone [default: 0.5]
    #[arg(long, value_name = "F", value_parser = number, help_heading = "Recipe")]
    aux_lm: Option<f64>,
    /// Let only the head and the embeddings of the marks learn
    #[arg(long, help_heading = "Recipe")]
    freeze_trunk: bool,
    /// How often every text is seen [default: by their number]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1..), help_heading = "Recipe")]
    epochs: Option<u64>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    rows: RowArgs,
}

pub(crate) fn run(args: &FinetuneArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let further = [
        args.aux_lm.map(|weight| format!("aux_lm={weight:?}")),
        args.freeze_trunk.then(|| "freeze_trunk=true".to_owned()),
        args.epochs.map(|epochs| format!("epochs={epochs}")),
    ];
    let settings = args.recipe.resolve_shared::<FinetuneSettings>(&args.out, session, &further)?;
    let with_marks = |name, model| Init::with_marks(name, model, &Examples::marks());
    let init = args.lora.init(&args.model, "init", &args.out, session, with_marks)?;
    let (train, val) = labelled(args, session)?;
    let examples = Examples::new(args.task, &train, &val, &init, settings.seq_len()?)?.read_from(&args.train);
    let options = FinetuneOptions {
        init: &init,
        examples: &examples,
        out: args.out.clone(),
        settings,
        seed: session.seed(),
    };
    let mut compute = session.compute(Purpose::Training(&args.out))?;
    let machine = session.machine(&mut compute);
    let outcome = finetune(compute, &machine, &options, session.watcher())?;
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

/// The texts to learn from and those to measure with.
fn labelled(args: &FinetuneArgs, session: &Session) -> Result<(Vec<Labelled>, Vec<Labelled>)> {
    let rows = args.rows.reader(args.task.fields(), session)?;
    let row = |record: Record| args.task.read(&record, true);
    // Which labels are none, those to learn from decide.
    let mut none = NoGold::of([]);
    let all = rows.read_and(&args.train, row, |lines| {
        none = NoGold::of(lines.rows.iter().filter_map(|line| line.label.as_ref()));
        lines.leave_out(|line| none.fault(line))
    })?;
    if let Some(val) = &args.val {
        let val = rows.read_and(val, row, |lines| lines.leave_out(|line| none.fault(line)))?;
        rows.columns.check()?;
        return Ok((all, val));
    }
    rows.columns.check()?;
    let text = |line: &Labelled| serde_json::to_vec(&line.texts).expect("texts are JSON");
    let (held_out, train) = all.into_iter().partition(|line| is_held_out(&text(line), HELD_OUT));
    Ok((train, held_out))
}

/// A report as tables.
pub(crate) fn figures(report: &TaskReport) -> String {
    let mut rows = vec![["held out", "value", "95 % interval"].map(String::from)];
    if let Some(rate) = &report.accuracy {
        let [value, low, high] = [rate.value, rate.low, rate.high].map(|x| format!("{:.1} %", 100.0 * x));
        rows.push(["accuracy".into(), value, format!("{low} – {high}")]);
    }
    let intervals =
        [("macro F1", report.macro_f1), ("Matthews", report.matthews), ("Pearson", report.pearson)];
    for (name, interval) in intervals {
        let Some(Interval { value, low, high }) = interval else { continue };
        rows.push([name.into(), format!("{value:.3}"), format!("{low:.3} – {high:.3}")]);
    }
    rows.push(["loss".into(), format!("{:.4}", report.loss), format!("{} texts", count(report.n as u64))]);
    let mut text = table(&rows);
    if let Some(confusion) = &report.confusion {
        let mut rows = vec![vec!["is ↓ told →".to_owned()]];
        rows[0].extend(report.labels.iter().cloned());
        rows[0].extend(["precision", "recall", "F1"].map(String::from));
        for (label, counts) in report.labels.iter().zip(&confusion.counts) {
            let mut row = vec![label.clone()];
            row.extend(counts.iter().map(ToString::to_string));
            let of = &report.classes[label];
            row.extend([of.precision, of.recall, of.f1].map(|x| format!("{x:.3}")));
            rows.push(row);
        }
        text += &table(&rows);
    }
    text
}
