//! Rows of a Parquet file: of each row the columns that are asked for, one row after the other.
//!
//! The one idea: a file is not believed. The `parquet` crate decodes it, but only after its footer
//! (`footer`), its pages' sizes (`pages`, `codec`) and its packed lengths (`delta`) were found to be what the
//! bytes there can hold; what it panics at all the same is an error. Rows are decoded one at a time, so that
//! a page or two of each column are the memory that it takes.

mod codec;
mod column;
mod delta;
mod footer;
mod nested;
mod pages;
mod thrift;

use std::fs::File;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use serde_json::Value;

use self::column::Column;
use self::nested::{Node, tree};
use super::input::Input;
use super::raw::{Emit, MAX_RECORD_BYTES, Payload, Raw};
use super::reason::Reason;
use super::reason::Verdict;
use super::record::Wanted;
use crate::progress::Progress;

/// Why a file ends before its rows do.
enum Stop {
    /// `emit` wanted no more.
    TokenLogprob,
    /// Something about the file.
    Because(Verdict),
}

impl From<ParquetError> for Stop {
    fn from(error: ParquetError) -> Stop {
        Stop::Because(match error {
            ParquetError::NYI(what) => (Reason::UnsupportedKind, format!("Parquet: {what}")),
            ParquetError::General(what) => (Reason::DamagedParquet, what),
            other => (Reason::DamagedParquet, other.to_string()),
        })
    }
}

fn damaged(what: String) -> Stop {
    Stop::Because((Reason::DamagedParquet, what))
}

/// Reads one file to its end. Returns `false` when `emit` did.
pub(super) fn read(input: &Arc<Input>, wanted: &Wanted, progress: &dyn Progress, emit: &mut Emit) -> bool {
    let mut rows = Rows { input, row: 1, told: 0, progress, emit };
    let result = rows.read(wanted);
    progress.advance(input.size - rows.told);
    match result {
        Ok(()) => true,
        Err(Stop::TokenLogprob) => false,
        Err(Stop::Because((reason, detail))) => {
            let payload = Payload::Dropped(reason, detail);
            (rows.emit)(Raw { input: input.clone(), line: rows.row - 1, payload, bytes: 0 })
        }
    }
}

struct Rows<'a, 'b> {
    input: &'a Arc<Input>,
    /// The row that comes next, from 1.
    row: u64,
    /// Bytes of the file that the progress knows to be done.
    told: u64,
    progress: &'a dyn Progress,
    emit: &'a mut Emit<'b>,
}

impl Rows<'_, '_> {
    fn read(&mut self, wanted: &Wanted) -> Result<(), Stop> {
        let unreadable = |e: std::io::Error| Stop::Because((Reason::Unreadable, e.to_string()));
        let mut file = File::open(&self.input.path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let metadata = footer::read(&mut file, size)?;
        if metadata.file_metadata().num_rows() == 0 && metadata.row_groups().iter().all(is_empty) {
            return Err(Stop::Because((Reason::NoRecords, String::new())));
        }
        let chosen = columns(&metadata, wanted).map_err(|(reason, detail)| match reason {
            // As of JSON that was met in a directory: it is no corpus.
            Reason::MissingColumn if !self.input.named => Stop::Because((Reason::NotRecords, detail)),
            _ => Stop::Because((reason, detail)),
        })?;
        let schema = metadata.file_metadata().schema_descr().root_schema();
        let (root, read) = tree(schema, |column| wanted.all || chosen.contains(&column));
        for (index, group) in metadata.row_groups().iter().enumerate() {
            self.group(group, size, &root, &read).map_err(|stop| match stop {
                Stop::Because((reason, detail)) => {
                    Stop::Because((reason, format!("row group {}: {detail}", index + 1)))
                }
                told => told,
            })?;
        }
        match metadata.file_metadata().num_rows() {
            rows if rows == self.row as i64 - 1 => Ok(()),
            rows => Err(damaged(format!("it says that it has {rows} rows, but there are {}", self.row - 1))),
        }
    }

    fn group(
        &mut self,
        group: &RowGroupMetaData,
        size: u64,
        root: &Node,
        read: &[usize],
    ) -> Result<(), Stop> {
        let count = group.num_rows().max(0) as u64;
        if is_empty(group) {
            // Nor are there pages: what the columns say of their places means nothing.
            return Ok(());
        }
        if read.is_empty() {
            return Err(damaged(format!("it has {count} rows, but no columns")));
        }
        let mut columns = Vec::new();
        for &index in read {
            columns.push(Column::open(&self.input.path, size, group.column(index))?);
        }
        let (before, share) = (self.told, group.compressed_size().max(0) as f64 / count.max(1) as f64);
        for row in 0..count {
            let payload = record(root, &mut columns)?;
            let Some((payload, bytes)) = payload else {
                return Err(damaged(format!("it ends after {row} of {count} rows")));
            };
            if !(self.emit)(Raw { input: self.input.clone(), line: self.row, payload, bytes }) {
                return Err(Stop::TokenLogprob);
            }
            self.row += 1;
            if row % 256 == 0 || row + 1 == count {
                self.report_progress(before + (share * (row + 1) as f64) as u64);
            }
        }
        match columns.iter_mut().try_fold(false, |more, column| Ok::<_, Stop>(more | column.next_row()?))? {
            true => Err(damaged(format!("it goes on after its {count} rows"))),
            false => Ok(()),
        }
    }

    fn report_progress(&mut self, done: u64) {
        let done = done.clamp(self.told, self.input.size);
        self.progress.advance(done - self.told);
        self.told = done;
    }
}

/// Whether a group has neither rows nor values.
fn is_empty(group: &RowGroupMetaData) -> bool {
    group.num_rows() == 0 && group.columns().iter().all(|column| column.num_values() == 0)
}

/// The next row, with its size; `None` after the last one.
fn record(root: &Node, columns: &mut [Column]) -> Result<Option<(Payload, u64)>, ParquetError> {
    let mut bytes = 0;
    for column in columns.iter_mut() {
        if !column.next_row()? {
            return Ok(None);
        }
        bytes += column.text_bytes;
    }
    let Value::Object(record) = root.value(columns)? else { unreachable!("a schema is a group") };
    if columns.iter().any(|column| column.peek().is_some()) {
        return Err(ParquetError::General("a row has more values than its groups".into()));
    }
    let payload = match bytes > MAX_RECORD_BYTES {
        true => Payload::Dropped(Reason::LongRecord, format!("{bytes} bytes")),
        false => Payload::Record(record),
    };
    Ok(Some((payload, bytes as u64)))
}

/// The places of the columns to read, by the names that were asked for.
fn columns(metadata: &ParquetMetaData, wanted: &Wanted) -> Result<Vec<usize>, Verdict> {
    let schema = metadata.file_metadata().schema_descr();
    // A leaf's own path, or the column that it is the only leaf of, as of a list of strings.
    let find = |name: &str| {
        let exact = schema.columns().iter().position(|c| c.path().string() == name);
        exact.or_else(|| {
            let mut under = (0..schema.num_columns()).filter(|&i| schema.get_column_root(i).name() == name);
            under.next().filter(|_| under.next().is_none())
        })
    };
    let fields = schema.root_schema().get_fields();
    let is_there = |name: &str| fields.iter().any(|f| f.name() == name);
    let mut chosen = Vec::new();
    if wanted.all {
        return Ok(chosen);
    }
    for name in wanted.text(is_there) {
        match find(name) {
            Some(index) if column::is_text(&schema.column(index)) => chosen.push(index),
            Some(_) => return Err((Reason::WrongType, format!("{name} is no column of strings, one a row"))),
            None if is_there(name) => {
                return Err((
                    Reason::WrongType,
                    format!("{name} is a column of lists or groups, not of strings"),
                ));
            }
            None => {
                let names = fields.iter().map(|f| f.name().to_string());
                return Err((Reason::MissingColumn, super::record::columns(names)));
            }
        }
    }
    chosen.extend(wanted.others().filter_map(find));
    Ok(chosen)
}
