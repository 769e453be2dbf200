//! Raw records: what is cut out of files, before anybody classifies it.

use std::sync::Arc;

use super::input::Input;
use super::reason::Reason;
use super::record::Record;

/// The longest JSON record (8 MiB): what is longer is counted and skipped.
pub const MAX_RECORD_BYTES: usize = 8 << 20;
/// Prose is cut at the last paragraph (else line, else character) within this many bytes (16 KiB), so that
/// one novel is many documents, some to learn from and some to validate on.
pub const PIECE_BYTES: usize = 16 << 10;

/// What a record holds.
#[derive(Debug)]
pub(super) enum Payload {
    /// One JSON value, not parsed.
    Json(Vec<u8>),
    /// A row of Parquet: the columns that are wanted.
    Record(Record),
    /// A row of CSV or TSV: the columns that are wanted, each a text.
    Cells(Record),
    /// Text, not decoded.
    Text(Vec<u8>),
    /// Nothing: why, and what exactly was wrong.
    Dropped(Reason, String),
}

/// One record of a file.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) input: Arc<Input>,
    /// Where it begins, from 1; 0 when it is the whole file.
    pub(super) line: u64,
    pub(super) payload: Payload,
    /// Its size in the (decompressed) file.
    pub(super) bytes: u64,
}

/// Receives records; `false` ends the reading.
pub(super) type Emit<'a> = dyn FnMut(Raw) -> bool + 'a;
