//! Rows of CSV and TSV (RFC 4180): cells between separators, in quotes where they hold separators, quotes or
//! ends of lines. The first row names the columns.
//!
//! A quote that is opened and never closed makes a cell of all the rest, so it ends the file as damage does;
//! a row is held in memory up to [`MAX_RECORD_BYTES`].

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead};

use csv_core::{ReadRecordResult as Parsed, ReaderBuilder};

use super::odd::odd;
use super::raw::{MAX_RECORD_BYTES, Payload};
use super::read::Cutter;
use super::reason::Reason;
use super::record::Record;

/// The most cells of a row.
const MAX_CELLS: usize = 1 << 16;
/// What separates cells, where the first row does not have what the name of the file promises.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// Cuts a stream into rows.
struct Rows<'a> {
    reader: &'a mut dyn BufRead,
    core: csv_core::Reader,
    /// The line that comes next, from 1.
    line: u64,
    /// The cells of the row at hand, one after the other, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
}

/// A row, or what there is in its place.
enum Next {
    /// It has so many cells and bytes.
    Row(usize, usize),
    TooLong(usize),
    OpenQuote(usize),
    End,
}

impl<'a> Rows<'a> {
    fn new(reader: &'a mut dyn BufRead, separator: u8, line: u64) -> io::Result<Rows<'a>> {
        let separator = separator_of(reader.fill_buf()?, separator);
        let core = ReaderBuilder::new().delimiter(separator).build();
        Ok(Rows { reader, core, line, text: vec![0; 4096], ends: vec![0; 64] })
    }

    /// The next row; `line` is the one after it then. Blank lines are passed over.
    fn next(&mut self) -> io::Result<(u64, Next)> {
        self.skip_blank()?;
        let (start, mut bytes, mut texts, mut cells, mut too_long) = (self.line, 0, 0, 0, false);
        if self.reader.fill_buf()?.is_empty() {
            return Ok((start, Next::End));
        }
        loop {
            let input = self.reader.fill_buf()?;
            let ended = input.is_empty();
            // The end of a line is the end of the last row too, but within quotes.
            let input = if ended { b"\n" } else { input };
            let (text, ends) = (&mut self.text[texts..], &mut self.ends[cells..]);
            let (result, used, written, done) = self.core.read_record(input, text, ends);
            if !ended {
                self.line += input[..used].iter().filter(|&&byte| byte == b'\n').count() as u64;
                self.reader.consume(used);
                bytes += used;
            }
            (texts, cells) = (texts + written, cells + done);
            match result {
                Parsed::InputEmpty if ended => return Ok((start, Next::OpenQuote(bytes))),
                Parsed::InputEmpty => {}
                Parsed::OutputFull if texts > MAX_RECORD_BYTES => (too_long, texts) = (true, 0),
                Parsed::OutputFull => self.text.resize(2 * self.text.len(), 0),
                Parsed::OutputEndsFull if cells >= MAX_CELLS => (too_long, cells) = (true, 0),
                Parsed::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                Parsed::Record if too_long || texts > MAX_RECORD_BYTES => {
                    return Ok((start, Next::TooLong(bytes)));
                }
                Parsed::Record => return Ok((start, Next::Row(cells, bytes))),
                Parsed::End => return Ok((start, Next::End)),
            }
        }
    }

    fn skip_blank(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let is_blank = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            let blank = buffer.iter().take_while(is_blank).count();
            self.line += buffer[..blank].iter().filter(|&&byte| byte == b'\n').count() as u64;
            let more = blank > 0 && blank == buffer.len();
            self.reader.consume(blank);
            if !more {
                return Ok(());
            }
        }
    }

    /// The cells of the row at hand.
    fn cells(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        (0..count).map(|i| &self.text[if i == 0 { 0 } else { self.ends[i - 1] }..self.ends[i]])
    }
}

impl Cutter<'_, '_> {
    /// Reads a table to its end.
    pub(super) fn table(&mut self, reader: &mut dyn BufRead, separator: u8) -> io::Result<bool> {
        let mut rows = Rows::new(reader, separator, self.line)?;
        let mut header: Option<Vec<(String, bool)>> = None;
        let mut first = true;
        loop {
            let (line, next) = rows.next()?;
            self.line = line;
            let (payload, bytes) = match (next, &header) {
                (Next::End, _) => return Ok(true),
                (Next::OpenQuote(bytes), _) => {
                    let detail = format!("all the rest, {bytes} bytes, is in one cell");
                    let payload = Payload::Dropped(Reason::OpenQuote, detail);
                    return Ok(self.emit(line, payload, bytes));
                }
                (Next::TooLong(bytes), _) => {
                    let detail = format!("{bytes} bytes: is a quote missing?");
                    (Payload::Dropped(Reason::LongRecord, detail), bytes)
                }
                (Next::Row(cells, _), None) => {
                    let names = names(rows.cells(cells));
                    header = Some(self.wanted.of_columns(names));
                    continue;
                }
                (Next::Row(1, bytes), Some(names))
                    if names.len() > 1 && rows.cells(1).all(|cell| cell.trim_ascii().is_empty()) =>
                {
                    (Payload::Dropped(Reason::BlankLine, String::new()), bytes)
                }
                (Next::Row(cells, bytes), Some(names)) if cells != names.len() => {
                    let s = if cells == 1 { "" } else { "s" };
                    let detail = format!("{cells} cell{s}, the first row has {}", names.len());
                    (Payload::Dropped(Reason::RaggedRow, detail), bytes)
                }
                (Next::Row(cells, bytes), Some(names)) if is_header(rows.cells(cells), names) => {
                    (Payload::Dropped(Reason::RepeatedHeader, String::new()), bytes)
                }
                (Next::Row(cells, bytes), Some(names)) => {
                    let record: Record = names
                        .iter()
                        .zip(rows.cells(cells))
                        .filter(|((_, wanted), _)| *wanted)
                        .map(|((name, _), cell)| (name.clone(), value(cell)))
                        .collect();
                    if std::mem::take(&mut first)
                        && let Some(detail) = self.no_corpus(|| Ok(record.clone()))
                    {
                        return Ok(self.not_records(detail));
                    }
                    (Payload::Cells(record), bytes)
                }
            };
            if !self.emit(line, payload, bytes) {
                return Ok(false);
            }
        }
    }
}

/// The names of the columns. Where one is repeated, its further columns are `name.1`, `name.2`, as pandas
/// calls them.
fn names<'a>(cells: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut taken, mut times) = (HashSet::new(), HashMap::new());
    let unique = |cell: &[u8]| {
        let name = String::from_utf8_lossy(cell.trim_ascii()).into_owned();
        let times: &mut usize = times.entry(name.clone()).or_default();
        loop {
            let unique = if *times == 0 { name.clone() } else { format!("{name}.{times}") };
            *times += 1;
            if taken.insert(unique.clone()) {
                return unique;
            }
        }
    };
    cells.map(unique).collect()
}

/// Whether a row is the first one again, as in a file that was put together from several.
fn is_header<'a>(cells: impl Iterator<Item = &'a [u8]>, names: &[(String, bool)]) -> bool {
    let unmarked = |cell: &'a [u8]| cell.strip_prefix("\u{feff}".as_bytes()).unwrap_or(cell);
    cells.map(unmarked).map(<[u8]>::trim_ascii).eq(names.iter().map(|(name, _)| name.as_bytes()))
}

fn value(cell: &[u8]) -> serde_json::Value {
    match std::str::from_utf8(cell) {
        Ok(text) => text.into(),
        Err(e) => {
            let what = format!("holds bytes that are not UTF-8, first {:#04x}", cell[e.valid_up_to()]);
            odd(Reason::RecordNotUtf8, what, String::from_utf8_lossy(cell).into())
        }
    }
}

/// What separates the cells of the first row, where it does not have `promised`: Excel writes semicolons
/// where a comma is the decimal point.
fn separator_of(head: &[u8], promised: u8) -> u8 {
    let mut in_quotes = false;
    let mut counts = [0; 3];
    for &byte in head {
        match byte {
            b'"' => in_quotes = !in_quotes,
            b'\r' | b'\n' if !in_quotes => break,
            _ if in_quotes => {}
            _ => counts
                .iter_mut()
                .zip(SEPARATORS)
                .for_each(|(n, separator)| *n += u32::from(byte == separator)),
        }
    }
    let of =
        |separator: u8| SEPARATORS.iter().zip(counts).find(|(s, _)| **s == separator).map_or(0, |(_, n)| n);
    let other = SEPARATORS.into_iter().max_by_key(|&separator| of(separator)).filter(|&other| of(other) > 0);
    if of(promised) > 0 { promised } else { other.unwrap_or(promised) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_columns_have_one_name() {
        let names = |header: &str| names(header.split(',').map(str::as_bytes)).join(",");
        assert_eq!(names("a, b ,c"), "a,b,c");
        assert_eq!(names("a,a,a.1,a,,"), "a,a.1,a.1.1,a.2,,.1");
        assert_eq!(
            names(&",".repeat(MAX_CELLS)).len(),
            (1..=MAX_CELLS).map(|i| format!(",.{i}").len()).sum::<usize>()
        );
    }

    #[test]
    fn the_first_row_says_what_separates_cells() {
        for (head, promised, separator) in [
            ("a,b\n", b',', b','),
            ("a;b;c,d\n", b',', b','),
            ("a;b;c\n1,5;2;3\n", b',', b';'),
            ("\"a,b\";c\n", b',', b';'),
            ("a\tb\n", b',', b'\t'),
            ("a,b\n", b'\t', b','),
            ("text\n1,2\n", b',', b','),
            ("", b'\t', b'\t'),
        ] {
            assert_eq!(separator_of(head.as_bytes(), promised), separator, "{head:?}");
        }
    }
}
