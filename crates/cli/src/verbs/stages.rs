//! What the verbs of the stages after pretraining share: the recipe's flags, the models and files they read.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::Args;
use gpt::checkpoint::{self, Checkpoint, Stored};
use gpt::data::messages::{judged, prompt, ranking};
use gpt::data::rows::{Fault, Lines, MAX_BAD, Record, records_of};
use gpt::data::{Columns, Conversations, Judged, Prompt, Ranking, ReadOptions, TooLong, is_held_out};
use gpt::model::Lora;
use gpt::stage::{Init, StageConfig, StageSettings};
use gpt::tokenizer::Tokenizer;
use gpt::tokenizer::chat::ChatTemplate;
use gpt::train::run::Recipe;
use kernels::BlockFormat;

use crate::options::{Usage, amount, number};
use crate::session::Session;
use crate::terminal::text::{plural, table};

/// The share of a file that is held out where no file of held-out items is given.
pub(crate) const HELD_OUT: f64 = 0.1;

/// How a stage is trained.
#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Optimizer steps; of PPO and GRPO, iterations [default: the recipe's]
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
    /// The resolved recipe of a training into `out`, which several processes may do together.
    pub(crate) fn resolve_shared<S: StageConfig>(
        &self,
        out: &Path,
        session: &Session,
        further: &[Option<String>],
    ) -> Result<StageSettings<S>> {
        self.resolve_after(session.lanes(out).into_iter().collect(), further)
    }

    /// What the last `--set` says of a key that is a word.
    pub(crate) fn word(&self, key: &str) -> Option<&str> {
        let pairs = self.set.iter().rev().filter_map(|change| change.split_once('='));
        let value = pairs.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).next();
        value.map(|value| value.trim_matches(['"', '\'']))
    }

    /// The resolved recipe: defaults, then `--set`, then flags, `further` ones among them.
    pub(crate) fn resolve_after<S: StageConfig>(
        &self,
        defaults: Vec<String>,
        further: &[Option<String>],
    ) -> Result<StageSettings<S>> {
        let mut changes = defaults;
        changes.extend_from_slice(&self.set);
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

/// What is learned in place of the whole model.
#[derive(Debug, Default, Args)]
pub(crate) struct LoraArgs {
    /// Learn an adapter beside the model, which stays as it is: r=16,alpha=32,dropout=0.05,targets=q_proj+v_proj,
    /// or targets=all; rslora is a key [default: r=16, alpha twice r, no dropout, all]
    #[arg(
        long, value_name = "KEY=VALUE,…", value_parser = Lora::from_str, num_args = 0..=1,
        default_missing_value = "", help_heading = "Recipe"
    )]
    lora: Option<Lora>,
    /// Go on with this adapter beside the model: a run that trained one, a checkpoint or the directory of PEFT
    #[arg(long, value_name = "ADAPTER", help_heading = "Recipe")]
    adapter: Option<PathBuf>,
    /// How the matrices beneath the adapter are stored [default: as in its file]
    #[arg(long, value_name = "q8_0|q4_0|nf4", value_parser = BlockFormat::from_str, help_heading = "Recipe")]
    base: Option<BlockFormat>,
}

impl LoraArgs {
    /// Whether there is anything of it.
    pub(crate) fn is_asked(&self) -> bool {
        self.lora.is_some() || self.adapter.is_some()
    }

    /// Whether any flag of it was given.
    pub(crate) fn is_given(&self) -> bool {
        self.is_asked() || self.base.is_some()
    }

    /// How the matrices beneath are stored in the run `out`: a GGUF file's blocks stay as they are where the device
    /// computes with blocks.
    pub(crate) fn stored(&self, out: &Path, session: &Session) -> Result<Stored> {
        Ok(match self.base {
            Some(format) => Stored::In(format),
            None if session.trains_on_gpu(out)? => Stored::Exactly,
            None => Stored::AsInFile,
        })
    }

    /// The model at `path` with what is learned beside it, made of it by `init`.
    pub(crate) fn init(
        &self,
        path: &Path,
        key: &str,
        out: &Path,
        session: &Session,
        init: impl FnOnce(String, Checkpoint) -> Result<Init>,
    ) -> Result<Init> {
        if self.base.is_some() && !self.is_asked() {
            let usage = "--base is how a model is stored that stays as it is: give --lora or --adapter, beside which it does";
            return Err(Usage(usage.into()).into());
        }
        let pinned = Recipe::pinned(out, key, path)?;
        let mut model = checkpoint::open(&pinned, session.watcher())?;
        ensure!(
            self.lora.is_none() || !model.is_adapted(),
            "{} is a model with an adapter: name its base with --model and go on with --adapter {0}, or merge the two \
             (mynah merge) and name the result",
            path.display()
        );
        let mut files = None;
        if let Some(adapter) = &self.adapter {
            (model, files) = model.with_adapter(adapter, session.watcher())?.apart();
        }
        model.warnings.iter().for_each(|warning| session.say(&format!("note: {warning}")));
        let init = init(path.display().to_string(), model)?;
        match (self.lora.clone(), files) {
            (None, None) => Ok(init),
            (Some(lora), None) => Ok(init.beside(&lora, None)?.stored(self.stored(out, session)?)),
            (lora, Some(files)) => {
                let own = files.adapter.lora.clone();
                let dropout = lora.as_ref().map_or(own.dropout, |lora| lora.dropout);
                if lora.is_some_and(|lora| lora != Lora { dropout, ..Lora::default() }) {
                    let usage = "--lora beside --adapter: the adapter's own settings hold, and only dropout may be given";
                    return Err(Usage(usage.into()).into());
                }
                Ok(init.beside(&Lora { dropout, ..own }, Some(files))?.stored(self.stored(out, session)?))
            }
        }
    }
}

/// The model that `path` names, as the input `key` of the run `out`; with a chat template where `chat` is
/// asked for.
pub(crate) fn init(
    path: &Path,
    key: &str,
    out: &Path,
    chat: bool,
    lora: &LoraArgs,
    session: &Session,
) -> Result<Init> {
    lora.init(path, key, out, session, |name, model| {
        if chat {
            return Init::with_chat(name, model);
        }
        let tokenizer = model.tokenizer()?;
        Init::new(name, model, tokenizer, &[])
    })
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
        self.told(path, lines)
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

    /// The rankings of a file, or what counts of a store.
    fn ranked(&self, path: &Path) -> Result<Vec<Ranking>> {
        if !feedback::is_store(path) {
            return self.read(path, ranking);
        }
        let records = feedback::Store::open_to_read(path)?.rankings()?;
        self.told(path, records_of(path, records, self.max_bad, ranking))
    }

    /// The demonstrations of a file; what of them is left out, cut or not told to the model is told.
    pub(crate) fn conversations(
        &self,
        path: &Path,
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        context: usize,
        too_long: TooLong,
    ) -> Result<Conversations> {
        let (max_bad, columns, session) = (self.max_bad, &self.columns, self.session);
        let seed = session.seed();
        let options = ReadOptions { template, tokenizer, context, too_long, max_bad, columns, seed };
        let (conversations, report) = Conversations::read(path, &options, session.watcher())
            .with_context(|| format!("cannot use {}", path.display()))?;
        let (cut, tokens) = conversations.cut();
        if report.used < report.lines {
            session.say(&report.to_string());
        }
        if cut > 0 {
            session.say(&format!("{cut} conversations lack their beginnings, {tokens} tokens in all"));
        }
        if conversations.untold_tools() > 0 {
            session.say(&format!(
                "{} with descriptions of tools: the chat template does not tell the model of them",
                plural(conversations.untold_tools(), "conversation")
            ));
        }
        template.notes().iter().for_each(|note| session.say(&format!("note: {note}")));
        Ok(conversations)
    }

    /// The judged answers of a file, or those of a store that have a thumb.
    pub(crate) fn judged(&self, path: &Path) -> Result<Vec<Judged>> {
        if !feedback::is_store(path) {
            return self.read(path, judged);
        }
        let records = feedback::Store::open_to_read(path)?.labelled()?;
        self.told(path, records_of(path, records, self.max_bad, judged))
    }

    /// The rows of lines; what became of the others is told.
    fn told<T>(&self, path: &Path, lines: Result<Lines<T>>) -> Result<Vec<T>> {
        let Lines { rows, report, .. } = lines.with_context(|| format!("cannot use {}", path.display()))?;
        if report.used < report.lines {
            self.session.say(&report.to_string());
        }
        Ok(rows)
    }

    /// Files of rankings to learn from and, if there are any, to measure with.
    pub(crate) fn rankings(&self, path: &Path, val: Option<&Path>) -> Result<(Vec<Ranking>, Vec<Ranking>)> {
        let train = self.ranked(path)?;
        let val = val.map(|val| self.ranked(val)).transpose()?;
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
