//! What the verbs of the stages after pretraining share: the recipe's flags, the models and files they read.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use gpt::checkpoint;
use gpt::data::messages::{prompt, ranking};
use gpt::data::rows::{Fault, Lines, MAX_BAD, Record};
use gpt::data::{Columns, Prompt, Ranking, is_held_out};
use gpt::stage::{Init, StageConfig, StageSettings};
use gpt::train::run::Recipe;

use crate::options::{Usage, amount, number};
use crate::session::Session;
use crate::terminal::text::{plural, table};

/// The share of a file that is held out where no file of held-out items is given.
pub(crate) const HELD_OUT: f64 = 0.1;

/// How a stage is trained.
#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Optimizer steps; of PPO, iterations [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = amount, help_heading = "Recipe")]
    steps: Option<u64>,
    /// Highest learning rate [default: by the model's size]
    #[arg(long, value_name = "F", value_parser = number, help_heading = "Recipe")]
    lr: Option<f64>,
    /// Number format of checkpoints [default: f32]
    #[arg(long, value_name = "f32|f16|bf16", help_heading = "Recipe")]
    dtype: Option<String>,
    /// Change any recipe key; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Recipe")]
    set: Vec<String>,
}

impl RecipeArgs {
    /// The resolved recipe: defaults, then `--set`, then flags, `further` ones among them.
    pub(crate) fn resolve<S: StageConfig>(&self, further: &[Option<String>]) -> Result<StageSettings<S>> {
        let mut changes = self.set.clone();
        changes.extend(self.lr.map(|lr| format!("lr={lr:?}")));
        changes.extend(self.steps.map(|n| format!("steps={n}")));
        changes.extend(self.dtype.as_ref().map(|dtype| format!("dtype={dtype}")));
        changes.extend(further.iter().flatten().cloned());
        StageSettings::resolve(&changes).map_err(|error| Usage(format!("{error:#}")).into())
    }
}

/// The keys of `--set` with their defaults and what they are.
pub(crate) fn keys<S: StageConfig>() -> String {
    let keys = StageSettings::<S>::described().expect("the defaults resolve");
    let rows: Vec<[String; 2]> = keys.iter().map(|(key, value, _)| [(*key).into(), value.clone()]).collect();
    let mut text = String::from("Recipe keys, for --set, with their defaults:\n");
    for (line, (_, _, meaning)) in table(&rows).lines().zip(keys) {
        text += format!("{line}  {meaning}").trim_end();
        text.push('\n');
    }
    text
}

/// The model that `path` names, as the input `key` of the run `out`; with a chat template where `chat` is
/// asked for.
pub(crate) fn init(path: &Path, key: &str, out: &Path, chat: bool, session: &Session) -> Result<Init> {
    let pinned = Recipe::pinned(out, key, path)?;
    let model = checkpoint::open(&pinned, session.watcher())?;
    model.warnings.iter().for_each(|warning| session.say(&format!("note: {warning}")));
    let name = path.display().to_string();
    if chat {
        return Init::with_chat(name, model);
    }
    let tokenizer = model.tokenizer()?;
    Init::new(name, model, tokenizer, &[])
}

/// How a verb reads rows.
#[derive(Debug, Args)]
pub(crate) struct RowArgs {
    /// The share of a file's lines that may be bad before it is refused
    #[arg(long, value_name = "SHARE", default_value_t = MAX_BAD, value_parser = share)]
    max_bad: f64,
    /// Columns that have other names, such as prompt=instruction,completion=output
    #[arg(long, value_name = "FIELD=COLUMN,…", value_delimiter = ',', value_parser = field)]
    fields: Vec<(String, String)>,
}

impl RowArgs {
    /// A reader of rows of the `known` fields.
    pub(crate) fn reader<'s>(&self, known: &[&str], session: &'s Session) -> Result<RowReader<'s>> {
        let columns =
            Columns::new(&self.fields, known).map_err(|error| Usage(format!("--fields: {error:#}")))?;
        Ok(RowReader { max_bad: self.max_bad, columns, session })
    }
}

/// Reads files of rows.
pub(crate) struct RowReader<'s> {
    pub(crate) max_bad: f64,
    pub(crate) columns: Columns,
    session: &'s Session,
}

impl RowReader<'_> {
    /// Rows of a file; what became of the other lines is told.
    pub(crate) fn read<T: Send>(
        &self,
        path: &Path,
        row: impl Fn(Record) -> Result<T, Fault> + Sync,
    ) -> Result<Vec<T>> {
        self.read_and(path, row, |_| Ok(()))
    }

    /// Rows of a file after `settle` has seen all of them; what became of the other lines is told.
    pub(crate) fn read_and<T: Send>(
        &self,
        path: &Path,
        row: impl Fn(Record) -> Result<T, Fault> + Sync,
        settle: impl FnOnce(&mut Lines<T>) -> Result<()>,
    ) -> Result<Vec<T>> {
        if gpt::output::is_unfinished(path) {
            let shown = path.display();
            self.session.say(&format!("note: {shown} is not finished: the command that writes it stopped"));
        }
        let mut lines = self.columns.read(path, self.max_bad, self.session.watcher(), row);
        if let Ok(lines) = &mut lines {
            settle(lines)?;
        }
        let Lines { rows, report, .. } = lines.with_context(|| format!("cannot use {}", path.display()))?;
        if report.used < report.lines {
            self.session.say(&report.to_string());
        }
        Ok(rows)
    }

    /// A file of prompts, and held-out ones from a file of their own or from the same one.
    pub(crate) fn prompts(&self, path: &Path, held_out: Option<&Path>) -> Result<(Vec<Prompt>, Vec<Prompt>)> {
        let all = self.read(path, prompt)?;
        if let Some(held_out) = held_out {
            return Ok((all, self.read(held_out, prompt)?));
        }
        let text = |prompt: &Prompt| serde_json::to_vec(&prompt.messages).expect("messages are JSON");
        let (held_out, train): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|prompt| is_held_out(&text(prompt), HELD_OUT));
        ensure!(
            !train.is_empty() && !held_out.is_empty(),
            "{}: of its {}, {} would be learned from and {} held out to measure with, as their texts decide for about a tenth: \
             give more prompts, or those to measure with in a file of their own (--val)",
            path.display(),
            plural((train.len() + held_out.len()) as u64, "prompt"),
            train.len(),
            held_out.len()
        );
        Ok((train, held_out))
    }

    /// Files of rankings to learn from and, if there are any, to measure with.
    pub(crate) fn rankings(&self, path: &Path, val: Option<&Path>) -> Result<(Vec<Ranking>, Vec<Ranking>)> {
        let train = self.read(path, ranking)?;
        let val = val.map(|val| self.read(val, ranking)).transpose()?;
        Ok((train, val.unwrap_or_default()))
    }
}

/// `FIELD=COLUMN`.
pub(crate) fn field(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((field, column)) if !field.is_empty() && !column.is_empty() => Ok((field.into(), column.into())),
        _ => Err("not FIELD=COLUMN, such as prompt=instruction".into()),
    }
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    value.ok_or_else(|| "not a share from 0 to 1".into())
}

/// `DIR` or `DIR=0.7`: token shards of the pretraining mix.
pub(crate) fn weighted(text: &str) -> Result<(PathBuf, f64), String> {
    match text.rsplit_once('=') {
        None => Ok((text.into(), 1.0)),
        Some(_) => super::pretrain::weighted(text),
    }
}
