//! `mynah classify`: what a classifier makes of texts.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use gpt::checkpoint::{self, Task};
use gpt::data::rows::Record;
use gpt::data::{Form, Label, Labelled, NoGold};
use gpt::stage::{Decision, classify, task_of};
use serde_json::{Map, json};

use super::AdapterArg;
use super::complete::Model;
use super::stages::RowArgs;
use crate::options::Usage;
use crate::session::{Ended, Purpose, Session};

/// Print what a classifier of `mynah finetune` makes of texts
#[derive(Debug, Args)]
#[command(after_help = "\
A text is given as it is, by `-` on standard input, one a line, or with --data as JSON lines of the task's form, with or without
labels; where there are labels, how many were met is told. With --json one line a text: {\"label\":…,\"scores\":{…}}.

Examples:
  mynah classify --model runs/reviews \"I would see it again.\"
  mynah classify --model runs/entailment --data pairs.jsonl --json")]
pub(crate) struct ClassifyArgs {
    /// The classifier
    #[arg(long, value_name = "MODEL")]
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) adapter: AdapterArg,
    /// A text, or - for lines of standard input
    #[arg(value_name = "TEXT|-", conflicts_with = "data")]
    text: Option<String>,
    /// Texts of the task's form: JSON lines, CSV, TSV or Parquet
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    #[command(flatten)]
    rows: RowArgs,
}

pub(crate) fn run(args: &ClassifyArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let task = task_of(&checkpoint::open(&args.model, session.terminal())?)?;
    let texts = texts(args, &task, session)?;
    let Model { mut compute, config, weights, tokenizer, .. } =
        Model::load(&args.model, Purpose::Figures, session)?;
    let decisions = classify(&mut compute, config, weights, &task, &tokenizer, &texts, session.watcher())?;
    for (line, Decision { label, scores, .. }) in texts.iter().zip(&decisions) {
        let by_name: Map<_, _> = scores.iter().map(|(name, score)| (name.clone(), json!(score))).collect();
        session.result(&json!({ "label": label, "scores": by_name }), || {
            let best = scores
                .iter()
                .find(|(name, _)| name == label)
                .map_or(String::new(), |(_, score)| format!("{score:.3}"));
            let texts: Vec<String> = line.texts.iter().map(|text| text.replace('\n', "⏎")).collect();
            format!("{label}  {best}  {}\n", texts.join(" │ "))
        })?;
    }
    let cut = decisions.iter().filter(|decision| decision.cut).count();
    if cut > 0 {
        session.say(&format!("{cut} of {} were cut to {} tokens", texts.len(), task.1.max_tokens));
    }
    let labels: Vec<(&Label, &Decision)> = texts
        .iter()
        .zip(&decisions)
        .filter_map(|(line, decision)| Some((line.label.as_ref()?, decision)))
        .collect();
    if !labels.is_empty() {
        let met = labels
            .iter()
            .filter(|(label, decision)| label.among(std::slice::from_ref(&decision.label)).is_some())
            .count();
        session.say(&format!("{met} of {} labels were met", labels.len()));
    }
    Ok(Ended::Done)
}

/// What is to be classified.
fn texts(args: &ClassifyArgs, (form, task): &(Form, Task), session: &Session) -> Result<Vec<Labelled>> {
    if let Some(data) = &args.data {
        let rows = args.rows.reader(form.fields(), session)?;
        let mut lines = rows.read(data, |record: Record| form.read(&record, false))?;
        rows.columns.check()?;
        let known: Vec<Label> = task.labels.iter().cloned().map(Label::Class).collect();
        let none = NoGold::of(known.iter().chain(lines.iter().filter_map(|line| line.label.as_ref())));
        for line in &mut lines {
            line.label = line.label.take().filter(|label| !none.is(label));
        }
        return Ok(lines);
    }
    if *form != Form::Classification {
        return Err(Usage(format!(
            "the model was taught {form}, which is about several texts: give them with --data"
        ))
        .into());
    }
    let lines = match args.text.as_deref() {
        Some(text) if text != "-" => return Ok(vec![Labelled { texts: vec![text.to_owned()], label: None }]),
        None if std::io::stdin().is_terminal() => {
            return Err(Usage("give a text, - for standard input, or --data".into()).into());
        }
        _ => std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?,
    };
    let lines = lines.lines().filter(|line| !line.trim().is_empty());
    let texts: Vec<Labelled> =
        lines.map(|line| Labelled { texts: vec![line.to_owned()], label: None }).collect();
    if texts.is_empty() {
        bail!("there is no text on standard input");
    }
    Ok(texts)
}
