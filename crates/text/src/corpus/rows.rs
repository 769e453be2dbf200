//! One file of rows as it is, for readers that make something else than documents of them: JSON, CSV, TSV or
//! Parquet, by its content where that tells more than its name. Unpacking, cutting and the names of what can
//! be wrong are the corpus's.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value};

use super::form::{Form, Kind};
use super::input::Input;
use super::raw::Payload;
use super::read::{self};
use super::record::Wanted;
use super::{Example, Reason, json, odd};
use crate::progress::Progress;

/// A row as it was met, not parsed.
pub(crate) struct FoundRow {
    /// Where it begins, from 1: a line, or a row of Parquet.
    pub(crate) line: u64,
    /// Its number in the file, from 1, where others begin on the same line.
    pub(crate) number: Option<u64>,
    /// Its size.
    pub(crate) bytes: u64,
    payload: Payload,
}

/// A row.
pub(crate) struct Row {
    /// Its columns.
    pub(crate) record: Map<String, Value>,
    /// What of it is no value of JSON, with its place: `score is NaN`. A reader that needs such a value finds
    /// an object.
    pub(crate) odd: Vec<String>,
    /// Whether all its values are texts, whatever they mean: cells of CSV or TSV.
    pub(crate) is_cells: bool,
}

impl FoundRow {
    /// Whether there is nothing: a blank line, or a file without rows.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self.payload, Payload::Dropped(Reason::BlankLine | Reason::NoRecords, _))
    }

    /// Parses it, or tells why there is no row, and what exactly is wrong.
    pub(crate) fn parse(self) -> Result<Row, (Reason, String)> {
        let is_cells = matches!(self.payload, Payload::Cells(_));
        let (record, is_odd) = match self.payload {
            Payload::Json(json) => json::parse(&json)?,
            Payload::Record(record) | Payload::Cells(record) => (record, true),
            Payload::Dropped(reason, detail) => return Err((reason, detail)),
            Payload::Text(_) => unreachable!("the file is read as rows"),
        };
        let odd = if is_odd { odd::find(&record) } else { Vec::new() };
        Ok(Row { record, odd, is_cells })
    }
}

impl Row {
    /// A record with the nearest values of JSON in the place of odd ones.
    pub(crate) fn settled(record: Map<String, Value>) -> Map<String, Value> {
        odd::settled(record)
    }
}

/// Whether the file at `path` holds rows rather than a text.
pub fn holds_rows(path: &Path) -> bool {
    Form::of(path).is_ok_and(|form| form.kind.has_records())
}

/// Reads the rows of `path`, packed by gzip or zstd or not: JSON objects line by line or in one array, CSV,
/// TSV, Parquet. `emit` hears each, and ends the reading with `false`. The `progress` advances by bytes on
/// disk.
///
/// # Errors
/// The file cannot be read to its end; it holds no rows.
pub(crate) fn rows_of(
    path: &Path,
    progress: &dyn Progress,
    emit: &mut dyn FnMut(FoundRow) -> bool,
) -> Result<()> {
    let metadata = path.metadata();
    let metadata = metadata.with_context(|| format!("cannot read {}: check the path", path.display()))?;
    ensure!(
        !metadata.is_dir(),
        "{} is a directory, and one file of rows is wanted: JSON lines, CSV, TSV or Parquet",
        path.display()
    );
    ensure!(metadata.is_file(), "{} is not a file: give one file of rows", path.display());
    let no_rows = || {
        anyhow!(
            "{} is not a file of rows: these are JSON (lines or an array, whatever the name), .csv, .tsv and .parquet",
            path.display()
        )
    };
    let mut form = Form::of(path).map_err(|_| no_rows())?;
    if !form.kind.has_records() {
        // Its lines say what is wrong with them, if they are meant to be JSON.
        ensure!(metadata.len() == 0 || super::content::begins_like_json(path, form.packing), no_rows());
        form.kind = Kind::Lines;
    }
    let input = Input::new(path.to_owned(), path, metadata.len(), true, form);
    let (mut broken, mut number, mut last_line) = (None, 0, 0);
    read::read(&Arc::new(input), &Wanted::EVERYTHING, progress, &mut |raw| {
        if let Payload::Dropped(reason, detail) = &raw.payload
            && reason.ends_a_file()
        {
            broken = Some((raw.line, *reason, detail.clone()));
            return false;
        }
        number += 1;
        let shares_line = raw.line == last_line;
        last_line = raw.line;
        let number = shares_line.then_some(number);
        emit(FoundRow { line: raw.line, number, bytes: raw.bytes, payload: raw.payload })
    });
    match broken {
        None => Ok(()),
        Some((line, reason, detail)) => {
            let place = Example { file: path.display().to_string(), line, detail: String::new() };
            bail!("{place}: {reason}: {detail}")
        }
    }
}
