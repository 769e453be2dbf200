//! `mynah corpus`: raw files in, clean documents out.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use gpt::corpus::{self, Filter, NEAR_THRESHOLDS, Options, Report};

use crate::options::amount;
use crate::session::{Ended, Session};
use crate::terminal::text::{bytes, count, plural, table};

const DETAILS: &str = "\
Decodes, drops what is binary, generated, minified or repeated, splits into training and validation documents, and
counts all that was dropped, by reason and with examples, in report.json. The same command again does nothing.

Examples:
  mynah corpus ~/src --out corpus --include '*.py'
  mynah corpus code.jsonl.gz --out corpus --keep-if-contains pandas,sklearn,matplotlib,seaborn
  mynah corpus stack/*.parquet --out corpus --text-field content --where license=mit,apache-2.0 --where lang=rust
  mynah corpus wiki.jsonl.zst --out corpus --text-field title,body
  mynah corpus reviews.csv --out corpus --text-field review --where stars=4,5
  mynah corpus crawl.parquet --out corpus --near-dedup=0.85
  mynah corpus books/ --out corpus --max-bytes 20M --seed 1
  mynah corpus hf:roneneldan/TinyStories --out corpus --include '*train*.parquet'

JSON lines are recognised by what a file holds, whatever it is called; the first row of a .csv or .tsv names its columns. Text may
be in UTF-8 or UTF-16.

hf:OWNER/NAME[@REVISION] is a data set of the Hugging Face hub; its .parquet, .jsonl, .json, .csv, .tsv and .txt files are
fetched, or those that --include names. HF_TOKEN, HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE are understood.";

/// Collect and clean raw text: directories, plain text, source code, JSON, CSV, TSV, Parquet; gzip and zstd
/// of these
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub(crate) struct CorpusArgs {
    /// Files and directories to read, or hf:OWNER/NAME; .gitignore files are respected
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Directory for the documents and report.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Keep exact duplicates
    #[arg(long)]
    no_dedup: bool,
    /// Also drop texts that resemble one that came before: their sets of five words in a row overlap by this
    /// share, 0.7 to 1, estimated by MinHash (a pair just at 0.8 is found in 95 of 100 cases) [default when
    /// it is not given: 0.8]
    #[arg(long, value_name = "SHARE", num_args = 0..=1, require_equals = true, default_missing_value = "0.8", value_parser = similarity)]
    near_dedup: Option<f64>,
    /// Keep a random sample of at most N bytes of text, such as 20M [default: everything]
    #[arg(long, value_name = "N", value_parser = amount)]
    max_bytes: Option<u64>,
    /// Share of records that may be bad (torn, without the text, in a damaged file) before it stops, from 0
    /// to 1
    #[arg(long, value_name = "F", default_value_t = Options::default().max_bad_fraction, value_parser = share)]
    max_bad_fraction: f64,
}

/// Which files and records are read, and which of their documents are held out.
#[derive(Debug, Args)]
pub(crate) struct ChoiceArgs {
    /// Read only files that match; may be repeated, as in .gitignore
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Do not read files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Column of JSON objects or of a table that holds the text; several, as in title,body, are joined by a
    /// blank line [default: text, else content]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    text_field: Vec<String>,
    /// Keep only records with one of these values in this column, as in license=mit,apache-2.0; may be
    /// repeated for other columns. Records without the column, and files that have no columns, are dropped
    #[arg(long = "where", value_name = "COLUMN=A,B", value_parser = filter)]
    filters: Vec<Filter>,
    /// Keep only documents that contain one of these words, separated by commas
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    keep_if_contains: Vec<String>,
    /// Share of documents held out for validation, from 0 to below 1
    #[arg(long, value_name = "F", default_value_t = Options::default().val_fraction, value_parser = fraction)]
    val_fraction: f64,
}

impl ChoiceArgs {
    /// The options of whoever reads `paths`.
    pub(crate) fn options(&self, paths: &[PathBuf], session: &Session) -> Options {
        Options {
            paths: paths.to_vec(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            text_fields: self.text_field.clone(),
            filters: merged(&self.filters),
            keep_if_contains: self.keep_if_contains.clone(),
            val_fraction: self.val_fraction,
            seed: session.seed(),
            threads: session.threads(),
            ..Options::default()
        }
    }

    /// Whether anything was asked for.
    pub(crate) fn is_given(&self) -> bool {
        let lists = [&self.include, &self.exclude, &self.text_field, &self.keep_if_contains];
        lists.iter().any(|list| !list.is_empty())
            || !self.filters.is_empty()
            || self.val_fraction != Options::default().val_fraction
    }
}

pub(crate) fn fraction(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|f| (0.0..1.0).contains(f));
    value.ok_or_else(|| "not a number from 0 to below 1".into())
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().ok().filter(|f| (0.0..=1.0).contains(f));
    value.ok_or_else(|| "not a number from 0 to 1".into())
}

fn similarity(text: &str) -> Result<f64, String> {
    let (least, most) = (NEAR_THRESHOLDS.start(), NEAR_THRESHOLDS.end());
    let value = text.parse::<f64>().ok().filter(|f| NEAR_THRESHOLDS.contains(f));
    value.ok_or_else(|| format!("not a number from {least} to {most}"))
}

fn filter(text: &str) -> Result<Filter, String> {
    match text.split_once('=') {
        Some((column, values)) if !column.is_empty() && !values.is_empty() => {
            Ok(Filter { column: column.into(), values: values.split(',').map(String::from).collect() })
        }
        _ => Err("not of the form COLUMN=VALUE or COLUMN=VALUE,VALUE".into()),
    }
}

/// One filter a column: values that were given in several places are alternatives all the same.
fn merged(filters: &[Filter]) -> Vec<Filter> {
    let mut merged: Vec<Filter> = Vec::new();
    for filter in filters {
        match merged.iter_mut().find(|f| f.column == filter.column) {
            Some(same) => same.values.extend(filter.values.iter().cloned()),
            None => merged.push(filter.clone()),
        }
    }
    merged
}

pub(crate) fn run(args: &CorpusArgs, session: &Session) -> Result<Ended> {
    let options = Options {
        out: args.out.clone(),
        dedup: !args.no_dedup,
        near_dedup: args.near_dedup,
        max_bytes: args.max_bytes,
        max_bad_fraction: args.max_bad_fraction,
        ..args.choice.options(&args.paths, session)
    };
    let report = corpus::build(&options, session.watcher())?;
    session.summary(&report, || format!("{}→ {}", describe(&report), args.out.display()))?;
    Ok(Ended::Done)
}

/// The report as a page of text.
pub(crate) fn describe(report: &Report) -> String {
    let total =
        |name: &str, total: &corpus::Total| [name.to_string(), count(total.documents), bytes(total.bytes)];
    let mut text = format!("{}, {} on disk\n", plural(report.files, "file"), bytes(report.file_bytes));
    text += &table(&[
        total("documents read", &report.read),
        total("kept", &report.kept),
        total("  to train on", &report.train),
        total("  to validate on", &report.val),
    ]);
    if report.crlf_normalised > 0 {
        text += &format!("{} had \\r\\n, now \\n\n", plural(report.crlf_normalised, "document"));
    }
    if !report.dropped.is_empty() {
        text += "dropped\n";
        let rows: Vec<[String; 3]> =
            report.dropped.iter().map(|(r, d)| [format!("  {r}"), count(d.count), bytes(d.bytes)]).collect();
        // The first example beside its row tells most; report.json has five of each.
        for (line, dropped) in table(&rows).lines().zip(report.dropped.values()) {
            let example = dropped.examples.first().map(|e| format!("   {e}")).unwrap_or_default();
            text += &format!("{line}{example}\n");
        }
    }
    text
}
