//! `mynah distil`: a student learns a teacher's distributions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gpt::data::{Conversations, TooLong, messages};
use gpt::output::Input;
use gpt::stage::{
    DistilFigures, DistilOptions, DistilSettings, DistilSource, Init, TeacherStore, distil, store_teacher,
};
use gpt::tokenizer::chat::ChatTemplate;
use serde_json::json;

use super::out::{Force, kept, model, recipe, say_finished, shortest};
use super::stages::{HELD_OUT, LoraArgs, RecipeArgs, RowArgs, RowReader, init, keys};
use crate::options::{Usage, whole};
use crate::session::{Ended, Purpose, Session, closing};
use crate::terminal::text::{bytes, plural};

const DETAILS: &str = "\
Teacher and student have one tokenizer. Of the demonstrations, those of `mynah sft`, the tokens of answers are learned; in the share lmbda of steps the
student answers itself, and the teacher says of its own tokens what it would have said. With --store the teacher is asked once, of each token its
likeliest --top ones are kept with their log-probabilities, and --teacher takes that file in place of the model; what is left to 1 stays one more outcome.

Examples:
  mynah distil --teacher runs/nano --model runs/tiny --data demonstrations.jsonl --out runs/distilled
  mynah distil --teacher runs/nano --model runs/tiny --data demonstrations.jsonl --set lmbda=0 --set beta=0 --out runs/distilled
  mynah distil --teacher runs/nano --data demonstrations.jsonl --store nano.safetensors --top 16
  mynah distil --teacher nano.safetensors --model runs/tiny --data demonstrations.jsonl --out runs/distilled";

/// Teach a small model what a larger one knows, token by token
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n{DETAILS}", keys::<DistilSettings>()))]
pub(crate) struct DistilArgs {
    /// The model to learn from, or a file of --store
    #[arg(long, value_name = "MODEL|FILE")]
    teacher: PathBuf,
    /// The model that learns
    #[arg(long, value_name = "MODEL", required_unless_present = "store", conflicts_with = "store")]
    model: Option<PathBuf>,
    /// Demonstrations: JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Demonstrations to validate with [default: a tenth of --data]
    #[arg(long, value_name = "FILE")]
    val: Option<PathBuf>,
    /// Run directory
    #[arg(long, value_name = "RUN", required_unless_present = "store", conflicts_with = "store")]
    out: Option<PathBuf>,
    /// Train nothing, but keep what the teacher says of the data in this file
    #[arg(long, value_name = "FILE", help_heading = "What a teacher says, in a file")]
    store: Option<PathBuf>,
    /// Tokens that are kept of each distribution, the likeliest
    #[arg(
        long, value_name = "K", default_value_t = 16, requires = "store", value_parser = whole::<usize>(1..),
        help_heading = "What a teacher says, in a file"
    )]
    top: usize,
    /// What the teacher's logits are divided by before
    #[arg(
        long, value_name = "F", default_value_t = 1.0, requires = "store", value_parser = temperature,
        help_heading = "What a teacher says, in a file"
    )]
    store_temperature: f64,
    #[command(flatten)]
    force: Force,
    /// How often every demonstration is seen [default: by their number]
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1..), help_heading = "Recipe")]
    epochs: Option<u64>,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    rows: RowArgs,
}

fn temperature(text: &str) -> Result<f64, String> {
    // As it is computed with: what is 0 in 32 bits divides by 0.
    let value = text.parse::<f64>().ok().filter(|value| (*value as f32).is_normal() && *value > 0.0);
    value.ok_or_else(|| "not a number above 0, such as 0.5 or 1".into())
}

pub(crate) fn run(args: &DistilArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    match (&args.model, &args.out, &args.store) {
        (Some(student), Some(out), None) => train(args, student, out, session),
        (.., Some(file)) => keep(args, file, session),
        _ => unreachable!("clap wants a model and a run directory, or a file"),
    }
}

/// The demonstrations of a file as this model reads them.
fn read(path: &Path, model: &Init, context: usize, rows: &RowReader<'_>) -> Result<Conversations> {
    let tokenizer = model.tokenizer().context("a model with a chat template has a tokenizer")?;
    let template = ChatTemplate::of(tokenizer)?.context("it was given a chat template")?;
    rows.conversations(path, &template, tokenizer, context, TooLong::Drop)
}

/// Writes what a teacher says of the data.
fn keep(args: &DistilArgs, file: &Path, session: &Session) -> Result<Ended> {
    if session.ranks().size() > 1 {
        let usage = "what a teacher says is written by one process: start it without mpirun";
        return Err(Usage(usage.into()).into());
    }
    let out = session.out(file, args.force.force, &[&args.teacher, &args.data])?;
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let teacher = init(&args.teacher, "teacher", file, true, &LoraArgs::default(), session)?;
    let data = read(&args.data, &teacher, teacher.model().config.seq_len, &rows)?;
    rows.columns.check()?;
    let temperature = args.store_temperature as f32;
    let settings = json!({ "top": args.top, "temperature": shortest(temperature) });
    let inputs =
        vec![("teacher", model(&args.teacher, session)?), ("data", Input::new(&args.data, data.digest()))];
    let recipe = recipe("distil", &settings, inputs)?;
    if out.is_finished(&recipe, &[])? {
        say_finished(&out, session);
        return Ok(Ended::Done);
    }
    let mut compute = session.compute(Purpose::Figures)?;
    let content = store_teacher(&mut compute, &teacher, &data, args.top, temperature, session.watcher());
    let content = content.map_err(kept)?;
    out.write(&recipe, &content, &[])?;
    let conversations = data.per_epoch();
    let summary =
        json!({ "conversations": conversations, "top": args.top, "bytes": content.len(), "store": file });
    session.summary(&summary, || {
        let conversations = plural(conversations, "conversation");
        format!("{conversations}, {} → {}", bytes(content.len() as u64), file.display())
    })?;
    Ok(Ended::Done)
}

fn train(args: &DistilArgs, student: &Path, out: &Path, session: &Session) -> Result<Ended> {
    let stored = TeacherStore::is_at(&args.teacher).then(|| TeacherStore::open(&args.teacher)).transpose()?;
    // What such a file does not know nobody has to say.
    let usual = stored.as_ref().map(|stored| {
        vec!["lmbda=0".to_owned(), format!("temperature={:?}", shortest(stored.temperature()))]
    });
    let epochs = args.epochs.map(|epochs| format!("epochs={epochs}"));
    let mut usual = usual.unwrap_or_default();
    usual.extend(session.lanes(out));
    let settings = args.recipe.resolve_after::<DistilSettings>(usual, &[epochs])?;
    let student = init(student, "init", out, true, &args.lora, session)?;
    let asked = match &stored {
        Some(_) => None,
        None => Some(init(&args.teacher, "teacher", out, false, &LoraArgs::default(), session)?),
    };
    let reads = asked.iter().map(|teacher| teacher.model().config.seq_len);
    let context = reads.fold(student.model().config.seq_len, usize::min);
    let teacher = match (&stored, &asked) {
        (Some(stored), _) => DistilSource::Store(stored),
        (None, Some(asked)) => DistilSource::Model(asked),
        (None, None) => unreachable!("one of them is the teacher"),
    };
    let rows = args.rows.reader(messages::FIELDS, session)?;
    let read = |path: &Path| read(path, &student, context, &rows);
    let (train, val) = match &args.val {
        Some(val) => (read(&args.data)?, read(val)?),
        None => read(&args.data)?.split(HELD_OUT)?,
    };
    rows.columns.check()?;
    let options = DistilOptions {
        init: &student,
        teacher,
        train: &train,
        val: &val,
        out: out.to_owned(),
        settings,
        seed: session.seed(),
    };
    let mut compute = session.compute(Purpose::Training(out))?;
    let machine = session.machine(&mut compute);
    let outcome = distil(compute, &machine, &options, session.watcher())?;
    let summary = json!({
        "step": outcome.ending.step, "stopped": outcome.ending.stopped,
        "val_loss_before": outcome.before.map(|before| before.divergence),
        "val_cross_entropy_before": outcome.before.map(|before| before.cross_entropy),
        "val_loss": outcome.after.map(|after| after.divergence),
        "val_cross_entropy": outcome.after.map(|after| after.cross_entropy),
        "demonstrations": train.per_epoch(), "held_out": val.per_epoch(), "run": out, "report": outcome.ending.report,
    });
    session.summary(&summary, || {
        let measured = |after: DistilFigures| {
            format!("validation loss {:.4}, cross entropy {:.4}", after.divergence, after.cross_entropy)
        };
        closing(&outcome.ending, "steps", outcome.after.map(measured))
    })?;
    Ok(Ended::of(&outcome.ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_divides() {
        assert_eq!((temperature("0.5"), temperature("2")), (Ok(0.5), Ok(2.0)));
        for wrong in ["0", "-1", "nan", "inf", "1e-50", "1e50", "warm"] {
            assert!(temperature(wrong).is_err(), "{wrong}");
        }
    }
}
