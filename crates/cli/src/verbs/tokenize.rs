//! `mynah tokenize`: the map over the data set, documents to token shards.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use gpt::data::{self, Cut, Fim, Kept, Lost, Meta, Overflow, TokenizeOptions, TokenizeTasksOptions};

use super::stages::field;
use crate::options::{number, whole};
use crate::session::{Ended, Session};
use crate::terminal::text::{bytes, count, plural, table};
use crate::verbs::corpus::fraction;

const EXAMPLES: &str = "\
Examples:
  mynah tokenize --corpus corpus --tokenizer tokenizer.json --out tokens
  mynah tokenize --corpus corpus --tokenizer tokenizer.json --out chunks --overflow chunk --context 128
  mynah tokenize --corpus corpus --tokenizer tokenizer.json --out infill --fim-rate 0.5
  mynah tokenize --tasks rows.jsonl --tokenizer tokenizer.json --out tasks

Rows of --tasks are {\"input\",\"task\",\"output\"}. In the task, names of special tokens become these: in
{\"input\":\"我是小明\",\"task\":\"[问题] 我是谁 [答案]\",\"output\":\"小明\"} two, if the tokenizer was made with
--special '[问题]' --special '[答案]'. All tokens of a row are predicted, those of input and task too. Text
and tasks are learned together by `mynah pretrain --mix tokens=0.5,tasks=0.5`.

The shards are NumPy arrays (uint16, or uint32 above 65,535 tokens) beside meta.json and the tokenizer.";

/// Turn a corpus, or rows of tasks, into token shards
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenizeArgs {
    /// Directory made by `mynah corpus`
    #[arg(long, value_name = "DIR", required_unless_present = "tasks")]
    corpus: Option<PathBuf>,
    /// Rows that say what is to be made of a text, in place of --corpus
    #[arg(long, value_name = "FILE", conflicts_with_all = ["corpus", "context", "overflow", "fim_rate"])]
    tasks: Option<PathBuf>,
    /// Columns of --tasks that have other names, such as input=text,output=summary
    #[arg(long, value_name = "FIELD=COLUMN,…", value_delimiter = ',', value_parser = field, requires = "tasks")]
    fields: Vec<(String, String)>,
    /// Share of the rows of --tasks that are held out, from 0 to below 1
    #[arg(long, value_name = "F", default_value_t = 0.01, conflicts_with = "corpus", value_parser = fraction)]
    val_fraction: f64,
    /// A tokenizer.json, or a directory that has one
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// Directory for the shards
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokens of a context, for chunk and drop
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1..), required_if_eq_any([("overflow", "chunk"), ("overflow", "drop")]))]
    context: Option<usize>,
    /// What becomes of documents longer than the context
    #[arg(long, value_name = "HOW", value_enum, default_value = "pack")]
    overflow: OverflowName,
    /// Cut this fraction of the training documents for fill-in-the-middle: the model learns to complete
    /// before a suffix
    #[arg(long, value_name = "F", value_parser = number, help_heading = "Fill-in-the-middle")]
    fim_rate: Option<f64>,
    /// Of those, the fraction in the order suffix, prefix, middle; the others are prefix, suffix, middle, the
    /// order that `mynah complete --suffix` asks in
    #[arg(
        long,
        value_name = "F",
        default_value_t = 0.5,
        requires = "fim_rate",
        help_heading = "Fill-in-the-middle"
    )]
    spm_rate: f64,
}

/// An [`Overflow`] as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverflowName {
    /// Concatenate documents with end-of-text between them; nothing is lost
    Pack,
    /// Cut each document into chunks of the context, keep only full ones
    Chunk,
    /// Leave documents out that are longer, pack the others
    Drop,
}

impl TokenizeArgs {
    fn of_corpus(&self, corpus: &Path, seed: u64) -> TokenizeOptions {
        TokenizeOptions {
            corpus: corpus.into(),
            tokenizer: self.tokenizer.clone(),
            out: self.out.clone(),
            context: self.context,
            overflow: match self.overflow {
                OverflowName::Pack => Overflow::Pack,
                OverflowName::Chunk => Overflow::Chunk,
                OverflowName::Drop => Overflow::Drop,
            },
            fim: self.fim_rate.map(|rate| Fim { rate, spm_rate: self.spm_rate, seed }),
        }
    }
}

pub(crate) fn run(args: &TokenizeArgs, session: &Session) -> Result<Ended> {
    session.start_threads()?;
    let meta = match (&args.corpus, &args.tasks) {
        (Some(corpus), _) => data::tokenize(&args.of_corpus(corpus, session.seed()), session.watcher())?,
        (None, Some(rows)) => {
            let options = TokenizeTasksOptions {
                rows: rows.clone(),
                tokenizer: args.tokenizer.clone(),
                out: args.out.clone(),
                fields: args.fields.clone(),
                val_fraction: args.val_fraction,
            };
            data::tokenize_tasks(&options, session.watcher())?
        }
        (None, None) => unreachable!("one of both is required"),
    };
    session.summary(&meta, || format!("{}→ {}", describe(&meta), args.out.display()))?;
    Ok(Ended::Done)
}

/// The shards as a page of text.
pub(crate) fn describe(meta: &Meta) -> String {
    let row = |name: &str, kept: &Kept| {
        let per_token = if kept.tokens == 0 { 0.0 } else { kept.bytes as f64 / kept.tokens as f64 };
        let cells = [count(kept.documents), bytes(kept.bytes), count(kept.tokens), format!("{per_token:.3}")];
        let [documents, text, tokens, per_token] = cells;
        [name.to_string(), documents, text, tokens, per_token]
    };
    let head = ["", "documents", "text", "tokens", "bytes per token"].map(String::from);
    let mut page = table(&[head, row("to train on", &meta.train), row("to validate on", &meta.val)]);
    for (name, Lost { documents, chunks, tokens, bytes: missing }) in
        [("training", meta.train_lost), ("validation", meta.val_lost)]
    {
        if missing > 0 {
            page +=
                &format!("  left out of {name}: {}, which the vocabulary has no token for\n", bytes(missing));
        }
        if tokens > 0 {
            let (documents, chunks) = (plural(documents, "document"), plural(chunks, "short chunk"));
            page += &format!("  left out of {name}: {documents}, {chunks}, {}\n", plural(tokens, "token"));
        }
    }
    if let Some(Cut { psm_documents, spm_documents }) = meta.fim_cut {
        let (psm, spm) = (count(psm_documents), count(spm_documents));
        page += &format!(
            "  cut for fill-in-the-middle: {psm} documents as prefix, suffix, middle, {spm} as suffix, prefix, middle\n"
        );
    }
    page + &format!("  {} tokens in the vocabulary, {}\n", count(meta.vocab_size as u64), meta.dtype)
}
