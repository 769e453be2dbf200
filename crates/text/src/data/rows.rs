//! Rows of a file, JSON or a table, and what became of the others: every one is used, or counted under what
//! is wrong with it.
//!
//! What a row is, is the caller's: a function makes it of a JSON object, or a [`Fault`]. A file may hold
//! values that JSON has not, such as NaN: they do no harm in a column that the function does not look at.
//! Cells of CSV and TSV are texts; where the function finds the wrong type, those that spell lists, numbers
//! and the like are taken for what they spell, and empty ones for nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};

use super::cells::spelled;
use crate::corpus::{Example, FoundRow, Reason, Row, rows_of};
use crate::progress::{Progress, Stopped, Unit};

/// The share of lines that may be bad before a file is refused, unless somebody says otherwise.
pub const MAX_BAD: f64 = 0.01;
/// The kind of fault of a row without a field that it needs.
pub(super) const MISSING: &str = "missing field";
/// How many examples of a fault are kept.
const EXAMPLES: usize = 5;
/// Lines are parsed in batches of about this much text (4 MiB), on all threads.
const BATCH_BYTES: u64 = 4 << 20;
/// And of at most this many, since the smallest takes more memory than its text.
const BATCH_ROWS: usize = 1 << 16;

/// A JSON object: one line, or one row of a table.
pub type Record = Map<String, Value>;

/// Why a line is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What lines of this kind have in common.
    pub kind: String,
    /// What exactly is the matter.
    pub detail: String,
    /// What follows from it.
    pub severity: Severity,
}

/// What follows from a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The line is fine, but of no use.
    LeftOut,
    /// The line is bad; a small share of such lines is tolerated.
    Bad,
    /// The file is refused.
    Fatal,
}

impl Fault {
    /// A bad line.
    pub fn bad(kind: impl Into<String>, detail: impl Into<String>) -> Fault {
        Fault { kind: kind.into(), detail: detail.into(), severity: Severity::Bad }
    }

    /// A line of no use.
    pub fn left_out(kind: impl Into<String>, detail: impl Into<String>) -> Fault {
        Fault { severity: Severity::LeftOut, ..Fault::bad(kind, detail) }
    }

    /// A line for which the file is refused.
    pub fn fatal(kind: impl Into<String>, detail: impl Into<String>) -> Fault {
        Fault { severity: Severity::Fatal, ..Fault::bad(kind, detail) }
    }
}

impl From<(Reason, String)> for Fault {
    fn from((reason, detail): (Reason, String)) -> Fault {
        let severity = if reason.is_bad_record() { Severity::Bad } else { Severity::LeftOut };
        Fault { kind: reason.to_string(), detail, severity }
    }
}

/// All lines with one kind of fault.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Faults {
    /// How many.
    pub count: u64,
    /// What follows from it.
    pub severity: Severity,
    /// The first five.
    pub examples: Vec<Example>,
}

/// What became of the lines of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LineReport {
    /// The file, as its path was given.
    pub file: String,
    /// Its lines, but blank ones.
    pub lines: u64,
    /// How many are used.
    pub used: u64,
    /// The others, by what is the matter with them.
    pub faults: BTreeMap<String, Faults>,
}

impl LineReport {
    /// How many lines are bad.
    pub fn bad(&self) -> u64 {
        self.count(Severity::Bad)
    }

    /// How many lines are of no use, though nothing is wrong with them.
    pub fn left_out(&self) -> u64 {
        self.count(Severity::LeftOut)
    }

    fn count(&self, severity: Severity) -> u64 {
        self.faults.values().filter(|faults| faults.severity == severity).map(|faults| faults.count).sum()
    }

    fn add(&mut self, line: u64, fault: Fault) {
        let Fault { kind, detail, severity } = fault;
        let new = Faults { count: 0, severity, examples: Vec::new() };
        let faults = self.faults.entry(kind).or_insert(new);
        faults.count += 1;
        // What only all rows together show comes late, and may stand first.
        faults.examples.push(Example { file: self.file.clone(), line, detail });
        faults.examples.sort_by_key(|example| example.line);
        faults.examples.truncate(EXAMPLES);
    }
}

impl fmt::Display for LineReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LineReport { file, lines, used, faults } = self;
        write!(f, "{file}: {used} of {lines} lines are used")?;
        for (kind, Faults { count, severity, examples }) in faults {
            let what = if *severity == Severity::LeftOut { "left out" } else { "bad" };
            write!(f, "\n  {what}: {kind}, {count}")?;
            examples.iter().try_for_each(|example| write!(f, "\n    {example}"))?;
        }
        if faults.contains_key(MISSING) {
            write!(f, "\n  columns of other names are read with --fields FIELD=COLUMN")?;
        }
        Ok(())
    }
}

/// The rows of a file in its order, and what became of the other lines.
#[derive(Clone, Debug)]
pub struct Lines<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// The line of each.
    pub numbers: Vec<u64>,
    /// What became of all lines.
    pub report: LineReport,
}

impl<T> Lines<T> {
    /// Refuses a file of which too much is bad, or nothing can be used.
    fn check(&self, max_bad: f64) -> Result<()> {
        let Lines { rows, report, .. } = self;
        ensure!(
            report.bad() as f64 <= max_bad * report.lines as f64,
            "{} of {} lines are bad, of which at most {} % may be\n{report}",
            report.bad(),
            report.lines,
            max_bad * 100.0
        );
        ensure!(report.lines > 0, "{} is empty: it has no rows", report.file);
        ensure!(!rows.is_empty(), "there is nothing to use\n{report}");
        Ok(())
    }

    /// Takes out the rows that have a fault, which only all of them together show.
    ///
    /// # Errors
    /// No row is left: the message is the report.
    pub fn leave_out(&mut self, fault: impl Fn(&T) -> Option<Fault>) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        for (row, number) in rows.into_iter().zip(std::mem::take(&mut self.numbers)) {
            match fault(&row) {
                Some(fault) => self.report.add(number, fault),
                None => {
                    self.rows.push(row);
                    self.numbers.push(number);
                }
            }
        }
        self.report.used = self.rows.len() as u64;
        ensure!(!self.rows.is_empty(), "there is nothing to use\n{}", self.report);
        Ok(())
    }
}

/// Reads the file `path` into rows, which `row` makes of objects: JSON lines or one JSON array under any
/// name, `.csv`, `.tsv`, `.parquet`; all but the last also packed, as `.gz` or `.zst`.
///
/// # Errors
/// The file cannot be read to its end; more than the share `max_bad` of its lines is bad, or no line can be
/// used: then the message is the report; a line has a fatal fault.
pub fn read_rows<T: Send>(
    path: &Path,
    max_bad: f64,
    progress: &dyn Progress,
    row: impl Fn(Record) -> Result<T, Fault> + Sync,
) -> Result<Lines<T>> {
    assert!((0.0..=1.0).contains(&max_bad), "{max_bad} is not a share");
    let name = path.display().to_string();
    let report = LineReport { file: name, ..LineReport::default() };
    let mut reader = Reader {
        row,
        batch: Vec::new(),
        bytes: 0,
        lines: Lines { rows: Vec::new(), numbers: Vec::new(), report },
    };
    let mut failure = Ok(());
    progress.begin(
        &format!("reading {}", path.display()),
        path.metadata().map_or(0, |m| m.len()),
        Unit::Bytes,
    );
    let read = rows_of(path, progress, &mut |found| {
        failure = reader.push(found, progress);
        failure.is_ok()
    });
    progress.end();
    failure.and(read)?;
    reader.parse()?;

    reader.lines.check(max_bad)?;
    Ok(reader.lines)
}

/// Records that are no lines of a file, such as those of a database, as if they were the lines of `path`.
///
/// # Errors
/// As [`read_rows`], but for reading.
pub fn records_of<T: Send>(
    path: &Path,
    records: Vec<Record>,
    max_bad: f64,
    row: impl Fn(Record) -> Result<T, Fault>,
) -> Result<Lines<T>> {
    let report = LineReport { file: path.display().to_string(), ..LineReport::default() };
    let mut lines = Lines { rows: Vec::new(), numbers: Vec::new(), report };
    for (number, record) in (1..).zip(records) {
        lines.report.lines += 1;
        match row(record) {
            Ok(row) => {
                lines.rows.push(row);
                lines.numbers.push(number);
            }
            Err(fault) => lines.report.add(number, fault),
        }
    }
    lines.report.used = lines.rows.len() as u64;
    lines.check(max_bad)?;
    Ok(lines)
}

/// Lines on their way to rows.
struct Reader<T, F> {
    row: F,
    batch: Vec<FoundRow>,
    bytes: u64,
    lines: Lines<T>,
}

impl<T: Send, F: Fn(Record) -> Result<T, Fault> + Sync> Reader<T, F> {
    fn push(&mut self, found: FoundRow, progress: &dyn Progress) -> Result<()> {
        if found.is_blank() {
            return Ok(());
        }
        self.lines.report.lines += 1;
        self.bytes += found.bytes;
        self.batch.push(found);
        if self.bytes < BATCH_BYTES && self.batch.len() < BATCH_ROWS {
            return Ok(());
        }
        if progress.should_stop() {
            bail!(Stopped("nothing was read to its end"));
        }
        self.parse()
    }

    fn parse(&mut self) -> Result<()> {
        self.bytes = 0;
        let parse = |found: FoundRow| {
            let (line, number) = (found.line, found.number);
            let made = found.parse().map_err(Fault::from).and_then(|row| make(row, &self.row));
            let numbered = |fault: Fault| match number {
                Some(number) => Fault { detail: format!("record {number}: {}", fault.detail), ..fault },
                None => fault,
            };
            (line, made.map_err(numbered))
        };
        let rows: Vec<_> = std::mem::take(&mut self.batch).into_par_iter().map(parse).collect();
        let Lines { rows: good, numbers, report } = &mut self.lines;
        for (line, row) in rows {
            match row {
                Ok(row) => {
                    good.push(row);
                    numbers.push(line);
                }
                Err(Fault { kind, detail, severity: Severity::Fatal }) => {
                    bail!("{}:{line}: {kind}: {detail}", report.file)
                }
                Err(fault) => report.add(line, fault),
            }
        }
        report.used = good.len() as u64;
        Ok(())
    }
}

/// Makes a row of what was read. What stands in the place of a value that JSON has not is no text, number or
/// list to anybody who needs it; where nobody did, the nearest value takes its place.
fn make<T>(row: Row, of: &impl Fn(Record) -> Result<T, Fault>) -> Result<T, Fault> {
    let Row { record, odd, is_cells } = row;
    let once = |record: Record| {
        if odd.is_empty() {
            return of(record);
        }
        of(record.clone())
            .map_err(|fault| Fault { detail: format!("{}; {}", fault.detail, odd.join(", ")), ..fault })?;
        of(Row::settled(record))
    };
    if !is_cells {
        return once(record);
    }
    match once(record.clone()) {
        Err(fault) if fault.severity == Severity::Bad => {
            let is_wrong = fault.kind.starts_with("wrong");
            once(spelled(record)).map_err(|later| if is_wrong { later } else { fault })
        }
        made => made,
    }
}
