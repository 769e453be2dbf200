//! What the verbs of the stages after pretraining share: the recipe's flags, the models and files they read.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use gpt::checkpoint;
use gpt::data::jsonl::{Fault, Lines, MAX_BAD, Record, read_jsonl};
use gpt::data::messages::{prompt, ranking};
use gpt::data::{Prompt, Ranking, is_held_out};
use gpt::stage::{Init, Own, StageSettings};
use gpt::train::run::Recipe;

use crate::args::{Usage, amount};
use crate::session::Session;
use crate::terminal::text::table;

/// The share of a file that is held out where no file of held-out items is given.
pub(crate) const HELD_OUT: f64 = 0.1;

/// How a stage is trained.
#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Optimizer steps; of PPO, iterations [default: the recipe's]
    #[arg(long, value_name = "N", value_parser = amount, help_heading = "Recipe")]
    steps: Option<u64>,
    /// Highest learning rate [default: the recipe's]
    #[arg(long, value_name = "F", allow_negative_numbers = true, help_heading = "Recipe")]
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
    pub(crate) fn resolve<S: Own>(&self, further: &[Option<String>]) -> Result<StageSettings<S>> {
        let mut changes = self.set.clone();
        changes.extend(self.lr.map(|lr| format!("lr={lr:?}")));
        changes.extend(self.steps.map(|n| format!("steps={n}")));
        changes.extend(self.dtype.as_ref().map(|dtype| format!("dtype={dtype}")));
        changes.extend(further.iter().flatten().cloned());
        StageSettings::resolve(&changes).map_err(|error| Usage(format!("{error:#}")).into())
    }
}

/// The keys of `--set` with their defaults and what they are.
pub(crate) fn keys<S: Own>() -> String {
    let settings = StageSettings::<S>::resolve(&[]).expect("the defaults resolve");
    let values = settings.table().expect("settings are a table");
    let value = |key: &str| values.get(key).map_or("-".to_string(), ToString::to_string);
    let keys: Vec<_> = StageSettings::<S>::keys().collect();
    let rows: Vec<[String; 2]> = keys.iter().map(|(key, _)| [(*key).to_string(), value(key)]).collect();
    let mut text = String::from("Recipe keys, for --set, with their defaults:\n");
    for (line, (_, meaning)) in table(&rows).lines().zip(keys) {
        text += format!("{line}  {}", meaning.trim()).trim_end();
        text.push('\n');
    }
    text
}

/// The model that `path` names, as the input `key` of the run `out`; with a chat template where `chat` is asked for.
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

/// Rows of a JSONL file; what became of the other lines is told.
pub(crate) fn read<T: Send>(
    path: &Path,
    max_bad: f64,
    session: &Session,
    row: impl Fn(Record) -> Result<T, Fault> + Sync,
) -> Result<Vec<T>> {
    if gpt::output::is_unfinished(path) {
        session.say(&format!("note: {} is not finished: the command that writes it stopped", path.display()));
    }
    let Lines { rows, report } = read_jsonl(path, max_bad, session.watcher(), row)
        .with_context(|| format!("cannot use {}", path.display()))?;
    if report.used < report.lines {
        session.say(&report.to_string());
    }
    Ok(rows)
}

/// A file of prompts, and held-out ones from a file of their own or from the same one.
pub(crate) fn prompts(
    path: &Path,
    held_out: Option<&Path>,
    max_bad: f64,
    session: &Session,
) -> Result<(Vec<Prompt>, Vec<Prompt>)> {
    let all = read(path, max_bad, session, prompt)?;
    if let Some(held_out) = held_out {
        return Ok((all, read(held_out, max_bad, session, prompt)?));
    }
    let text = |prompt: &Prompt| serde_json::to_vec(&prompt.messages).expect("messages are JSON");
    let (held_out, train) = all.into_iter().partition(|prompt| is_held_out(&text(prompt), HELD_OUT));
    Ok((train, held_out))
}

/// A file of rankings.
pub(crate) fn rankings(path: &Path, max_bad: f64, session: &Session) -> Result<Vec<Ranking>> {
    read(path, max_bad, session, ranking)
}

/// How many bad lines a file may have.
#[derive(Debug, Args)]
pub(crate) struct BadLines {
    /// The share of a file's lines that may be bad before it is refused
    #[arg(long, value_name = "SHARE", default_value_t = MAX_BAD, value_parser = share)]
    pub(crate) max_bad: f64,
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
