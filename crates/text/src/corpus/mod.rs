//! Raw files in, clean documents out: what a model will read, chosen, decoded, cleaned, deduplicated and
//! split.
//!
//! The road of a file: `files` finds it, `kind` tells what it is, `unpack` and `read` (or `parquet`) cut it
//! into raw records, workers decode and classify each record (`record`, `classify`, `clean`), and one
//! sequencer (`build`) receives the verdicts **in the order of the input**, whatever the number of threads,
//! drops duplicates, draws the sample, splits, writes and counts. Nothing is skipped in silence: all that
//! does not become a document is counted under a [`Reason`] with its first five examples by file and line (or
//! row).
//!
//! What comes out: `train-00000.jsonl …`, `val-00000.jsonl …` (one `{"text","source"}` a line) and
//! `report.json`, which is written last: a directory without it is not a corpus. [`Documents`] reads it back.
//!
//! Memory stays below 1 GB for any input. Batches in flight are bounded in number and size, a record may be
//! at most [`MAX_RECORD_BYTES`] long and a page of Parquet 128 MiB, the set of seen contents holds
//! [`MAX_SEEN`] (14.7 million) 16-byte keys (0.45 GB while it grows), the index of near duplicates
//! [`MAX_NEAR`] (1.6 million) signatures (0.35 GB); beyond them keys and signatures go to files and are
//! compared part by part at the end. The list of files costs about 150 bytes a file.

mod build;
mod catch;
mod classify;
mod clean;
mod content;
mod dedup;
mod documents;
mod files;
mod finish;
mod form;
mod globs;
mod gzip;
mod input;
mod json;
mod json_values;
mod kind;
mod minhash;
mod name;
mod near;
mod odd;
mod parquet;
mod pipeline;
mod raw;
mod read;
mod reason;
mod record;
mod remote;
mod report;
mod rows;
mod sample;
pub mod sources;
mod split;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod unpack;
mod utf16;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use build::build;
pub use dedup::MAX_SEEN;
pub(crate) use documents::RECORD;
pub use documents::{Document, Documents};
pub use minhash::{gram, words};
pub use near::{MAX_NEAR, NEAR_THRESHOLDS};
pub use raw::{MAX_RECORD_BYTES, PIECE_BYTES};
pub use reason::Reason;
pub use record::Filter;
pub use report::{Dropped, Example, Extension, Named, Report, Shard, Total};
pub use rows::holds_rows;
pub(crate) use rows::{FoundRow, Row, rows_of};
pub use split::Split;
pub use stream::StreamPosition;
pub(crate) use stream::{Reading, Sources, Streamed};
pub use unpack::text_of;

/// What to read and what to keep of it. All but `out` and `threads` decide what comes out and are kept in the
/// report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// Files, directories, and data sets of the hub (`hf:OWNER/NAME[@REVISION]`). Directories are walked in
    /// sorted order; `.gitignore` files in them are respected, hidden files and symbolic links are not
    /// followed.
    pub paths: Vec<PathBuf>,
    /// Where the corpus goes.
    #[serde(skip)]
    pub out: PathBuf,
    /// Globs in `.gitignore`'s syntax; when there are any, only matching files are read.
    pub include: Vec<String>,
    /// Globs in `.gitignore`'s syntax of what is not read.
    pub exclude: Vec<String>,
    /// The columns of records that hold the text, joined by blank lines; when there are none, `text` is
    /// tried, then `content`.
    pub text_fields: Vec<String>,
    /// What records must say in other columns to be kept; all of these must hold.
    pub filters: Vec<Filter>,
    /// When there are any, only documents that contain one of these substrings are kept.
    pub keep_if_contains: Vec<String>,
    /// Whether exact duplicates are dropped.
    pub dedup: bool,
    /// The Jaccard similarity, in [`NEAR_THRESHOLDS`], from which on a document is dropped as a near
    /// duplicate of one that was kept; `None`: they are kept.
    pub near_dedup: Option<f64>,
    /// The share of documents that is held out, `0 ≤ f < 1`; above 0 at least one document is.
    pub val_fraction: f64,
    /// Keep a random sample of at most this many bytes of text.
    pub max_bytes: Option<u64>,
    /// The share of records that may be bad before the build stops, of those in files that were named. In
    /// folders bad ones are left out and counted.
    pub max_bad_fraction: f64,
    /// Decides the split and the sample.
    pub seed: u64,
    /// Threads that decode and clean (1 to 16 are used); the output does not depend on it.
    #[serde(skip)]
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            paths: Vec::new(),
            out: PathBuf::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            text_fields: Vec::new(),
            filters: Vec::new(),
            keep_if_contains: Vec::new(),
            dedup: true,
            near_dedup: None,
            val_fraction: 0.01,
            max_bytes: None,
            max_bad_fraction: 0.01,
            seed: 0,
            threads: 2,
        }
    }
}
