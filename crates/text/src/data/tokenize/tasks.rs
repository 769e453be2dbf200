//! Rows of tasks as token shards: one more part of a mixture to pretrain on.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde_json::json;

use super::write::{Job, end_of_text};
use super::{Overflow, SHARD_TOKENS};
use crate::corpus::Split;
use crate::data::rows::{Fault, Lines, MAX_BAD, Record};
use crate::data::{Columns, Meta, TaskRow, is_held_out};
use crate::progress::Progress;
use crate::tokenizer::Tokenizer;

/// Which rows to tokenize, and how.
#[derive(Clone, Debug, Default)]
pub struct TokenizeTasksOptions {
    /// A JSONL file of [`TaskRow`]s.
    pub rows: PathBuf,
    /// `tokenizer.json`, or a directory that has one; it has the special tokens that the tasks name.
    pub tokenizer: PathBuf,
    /// Where the shards go.
    pub out: PathBuf,
    /// Which columns are read as which fields of a row, by pairs of field and column.
    pub fields: Vec<(String, String)>,
    /// The share of rows to validate on. Which, their contents decide: equal ones stay together.
    pub val_fraction: f64,
}

/// A row, encoded.
struct Encoded {
    split: Split,
    ids: Vec<u32>,
    /// Bytes that the vocabulary has no token for.
    missing_bytes: u64,
    digest: blake3::Hash,
}

/// Writes the tokens of rows as [`tokenize`](super::tokenize()) writes those of a packed corpus: a window may
/// hold several rows and be cut anywhere, and all tokens are predicted, those of inputs and tasks too. Unlike
/// a corpus, all rows are in memory at once.
///
/// # Errors
/// Those of [`Columns::read`]; a task that names no special token is a bad line. The tokenizer has no token
/// that ends a document; `out` holds other shards.
pub fn tokenize_tasks(options: &TokenizeTasksOptions, progress: &dyn Progress) -> Result<Meta> {
    let TokenizeTasksOptions { rows, tokenizer: path, out, fields, val_fraction } = options;
    let columns = Columns::new(fields, TaskRow::FIELDS)?;
    ensure!((0.0..1.0).contains(val_fraction), "{val_fraction} is not a share from 0 to below 1");
    let tokenizer = Tokenizer::from_file(path)?;
    let end_of_text = end_of_text(&tokenizer, path)?;
    tokenizer.warnings().iter().for_each(|warning| progress.line(&format!("note: {warning}")));
    let encoded = |record: Record| encode(&record, &tokenizer, *val_fraction);
    let Lines { rows: encoded, report, .. } = columns.read(rows, MAX_BAD, progress, encoded)?;
    columns.check()?;
    if report.used < report.lines {
        progress.line(&report.to_string());
    }
    let mut digest = blake3::Hasher::new();
    encoded.iter().for_each(|row| {
        digest.update(row.digest.as_bytes());
    });
    let digest = digest.finalize().to_hex().to_string();
    let job = Job {
        out,
        tokenizer: &tokenizer,
        tokenizer_path: path,
        end_of_text,
        identity: json!({ "tasks": digest, "tokenizer": tokenizer.digest(), "val_fraction": val_fraction }),
        overflow: Overflow::Pack,
        context: None,
        fim: None,
        source: (rows, &digest),
        shard_tokens: SHARD_TOKENS,
    };
    job.run(progress, |mapper, split| {
        for row in encoded.iter().filter(|row| row.split == split) {
            mapper.lost.bytes += row.missing_bytes;
            mapper.document(mapper.text_bytes(&row.ids), row.ids.clone())?;
        }
        Ok(())
    })
}

fn encode(record: &Record, tokenizer: &Tokenizer, val_fraction: f64) -> Result<Encoded, Fault> {
    let row = TaskRow::read(record)?;
    let ids = row.tokens(tokenizer);
    let ids = ids.map_err(|error| Fault::bad("not a task of this tokenizer", format!("{error:#}")))?;
    let text = serde_json::to_vec(&row).expect("three strings are JSON");
    let split = if is_held_out(&text, val_fraction) { Split::Val } else { Split::Train };
    let missing_bytes =
        [&row.input, &row.task, &row.output].map(|text| tokenizer.missing_bytes(text)).iter().sum();
    Ok(Encoded { split, ids, missing_bytes, digest: blake3::hash(&text) })
}
