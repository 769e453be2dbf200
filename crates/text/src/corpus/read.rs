//! Cuts files into raw records: lines, JSON values, rows, whole source files, pieces of prose. Nothing here
//! looks at content; a file of any size streams through a few megabytes.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use super::form::{Kind, Packing};
use super::input::Input;
use super::json;
use super::json_values::JsonValues;
use super::parquet;
use super::raw::{Emit, MAX_RECORD_BYTES, PIECE_BYTES, Payload, Raw};
use super::reason::Reason;
use super::reason::Verdict;
use super::record::{Record, Wanted};
use super::unpack;
use crate::progress::Progress;

/// A source file is read up to here (8 MiB); judging drops it long before.
const MAX_CODE_BYTES: u64 = 8 << 20;
/// A NUL in this many first bytes makes a file binary.
const SNIFF_BYTES: usize = 8 << 10;

/// Reads one file to its end. Returns `false` when `emit` did.
///
/// A JSON file that was met in a directory and whose first value is no record is a configuration or
/// somebody's log, not a corpus with bad records.
pub(super) fn read(input: &Arc<Input>, wanted: &Wanted, progress: &dyn Progress, emit: &mut Emit) -> bool {
    if input.form.kind == Kind::Parquet {
        return parquet::read(input, wanted, progress, emit);
    }
    let mut cutter = Cutter { input, wanted, line: 1, emitted: false, emit };
    let result = unpack::open(&input.path, input.form.packing, progress);
    match result.and_then(|mut reader| cutter.cut(&mut *reader)) {
        Ok(go_on) => go_on,
        Err(error) => cutter.broken(&error),
    }
}

pub(super) struct Cutter<'a, 'b> {
    input: &'a Arc<Input>,
    pub(super) wanted: &'a Wanted<'a>,
    /// The line that comes next, from 1.
    pub(super) line: u64,
    /// Whether anything came out of the file.
    emitted: bool,
    emit: &'a mut Emit<'b>,
}

impl Cutter<'_, '_> {
    fn cut(&mut self, reader: &mut dyn BufRead) -> io::Result<bool> {
        let go_on = match self.input.form.kind {
            Kind::Lines => self.lines(reader),
            Kind::Json => self.json(reader),
            Kind::Table(separator) => self.table(reader, separator),
            Kind::Code => self.code(reader),
            Kind::Prose | Kind::Parquet => self.prose(reader),
        }?;
        if go_on && !self.emitted {
            self.line = 0;
            return Ok(self.dropped(Reason::NoRecords, String::new(), self.input.size as usize));
        }
        Ok(go_on)
    }

    /// Says why a file cannot be read on.
    fn broken(&mut self, error: &io::Error) -> bool {
        let reason = match self.input.form.packing {
            _ if error.kind() == io::ErrorKind::Unsupported => Reason::UnsupportedKind,
            _ if error.raw_os_error().is_some() => Reason::Unreadable,
            Packing::None => Reason::Unreadable,
            Packing::Gzip => Reason::DamagedGzip,
            Packing::Zstd => Reason::DamagedZstd,
        };
        self.line = if self.emitted { self.line } else { 0 };
        self.dropped(reason, error.to_string(), 0)
    }

    pub(super) fn emit(&mut self, line: u64, payload: Payload, bytes: usize) -> bool {
        self.emitted = true;
        (self.emit)(Raw { input: self.input.clone(), line, payload, bytes: bytes as u64 })
    }

    fn dropped(&mut self, reason: Reason, detail: String, bytes: usize) -> bool {
        self.emit(self.line, Payload::Dropped(reason, detail), bytes)
    }

    /// Why there are no records in a file that nobody named, if its first value says so.
    pub(super) fn no_corpus(&self, first: impl FnOnce() -> Result<Record, Verdict>) -> Option<String> {
        if self.input.named {
            return None;
        }
        let (reason, detail) = first().and_then(|record| self.wanted.text_of(record)).err()?;
        (self.input.form.kind == Kind::Json || reason == Reason::MissingColumn).then_some(detail)
    }

    pub(super) fn not_records(&mut self, detail: String) -> bool {
        self.line = 0;
        self.dropped(Reason::NotRecords, detail, self.input.size as usize)
    }

    fn lines(&mut self, reader: &mut dyn BufRead) -> io::Result<bool> {
        let mut first = true;
        loop {
            let mut line = Vec::new();
            let n = (&mut *reader).take(MAX_RECORD_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
            if n == 0 {
                return Ok(true);
            }
            let complete = line.last() == Some(&b'\n');
            let go_on = if !complete && n > MAX_RECORD_BYTES {
                let rest = reader.skip_until(b'\n')?;
                self.dropped(Reason::LongRecord, format!("{} bytes", n + rest), n + rest)
            } else if line.iter().all(u8::is_ascii_whitespace) {
                self.dropped(Reason::BlankLine, String::new(), n)
            } else {
                if std::mem::take(&mut first)
                    && let Some(detail) = self.no_corpus(|| json::parse(&line).map(|(record, _)| record))
                {
                    return Ok(self.not_records(detail));
                }
                self.emit(self.line, Payload::Json(line), n)
            };
            self.line += 1;
            if !go_on {
                return Ok(false);
            }
        }
    }

    fn json(&mut self, reader: &mut dyn BufRead) -> io::Result<bool> {
        let mut values = JsonValues::new();
        let mut first = true;
        loop {
            let mut value = Vec::new();
            let Some(start) = values.next(reader, &mut value, &mut self.line)? else { break };
            if std::mem::take(&mut first)
                && let Some(detail) = self.no_corpus(|| json::parse(&value).map(|(record, _)| record))
            {
                return Ok(self.not_records(detail));
            }
            let n = values.value_bytes;
            let payload = if n > MAX_RECORD_BYTES {
                Payload::Dropped(Reason::LongRecord, format!("{n} bytes"))
            } else {
                Payload::Json(value)
            };
            if !self.emit(start, payload, n) {
                return Ok(false);
            }
        }
        if values.lacks_end() {
            return Ok(self.dropped(Reason::TornJson, "the array does not end".into(), 0));
        }
        Ok(true)
    }

    fn code(&mut self, reader: &mut dyn BufRead) -> io::Result<bool> {
        let mut text = Vec::new();
        self.line = 0;
        if is_binary(reader)? {
            return Ok(self.dropped(Reason::Binary, String::new(), self.input.size as usize));
        }
        let n = (&mut *reader).take(MAX_CODE_BYTES).read_to_end(&mut text)?;
        if !reader.fill_buf()?.is_empty() {
            return Ok(self.dropped(Reason::TooLong, format!("more than {MAX_CODE_BYTES} bytes"), n));
        }
        Ok(self.emit(0, Payload::Text(text), n))
    }

    fn prose(&mut self, reader: &mut dyn BufRead) -> io::Result<bool> {
        if is_binary(reader)? {
            self.line = 0;
            return Ok(self.dropped(Reason::Binary, String::new(), self.input.size as usize));
        }
        let (mut piece, mut first) = (Vec::new(), true);
        loop {
            let room = (PIECE_BYTES + 1).saturating_sub(piece.len()) as u64;
            (&mut *reader).take(room).read_to_end(&mut piece)?;
            let last = piece.len() <= PIECE_BYTES;
            let end = if last { piece.len() } else { piece_end(&piece[..PIECE_BYTES]) };
            let rest = piece.split_off(end);
            let newlines = piece.iter().filter(|&&b| b == b'\n').count() as u64;
            let whole_file = last && first;
            first = false;
            let line = if whole_file { 0 } else { self.line };
            // Between pieces and after the last one there may be nothing but blank lines: no document was
            // there.
            let worth = whole_file || !piece.iter().all(u8::is_ascii_whitespace);
            if worth && !self.emit(line, Payload::Text(piece), end) {
                return Ok(false);
            }
            self.line += newlines;
            piece = rest;
            if last {
                return Ok(true);
            }
        }
    }
}

fn is_binary(reader: &mut dyn BufRead) -> io::Result<bool> {
    let head = reader.fill_buf()?;
    Ok(head[..head.len().min(SNIFF_BYTES)].contains(&0))
}

/// Where to cut a full piece: after the last blank line, else after the last line, else between two
/// characters.
fn piece_end(piece: &[u8]) -> usize {
    let ends_paragraph =
        |i: usize| piece[i] == b'\n' && (piece[..i].ends_with(b"\n") || piece[..i].ends_with(b"\n\r"));
    // A paragraph that ends in the first half would leave crumbs.
    let half = piece.len() / 2;
    if let Some(i) = (half..piece.len()).rev().find(|&i| ends_paragraph(i)) {
        return i + 1;
    }
    if let Some(i) = piece.iter().rposition(|&b| b == b'\n') {
        return i + 1;
    }
    let is_continuation = |i: &usize| piece[*i] & 0xc0 == 0x80;
    let last_start = (0..piece.len()).rev().find(|i| !is_continuation(i)).unwrap_or(0);
    if last_start > 0 { last_start } else { piece.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_cut_between_paragraphs_lines_or_characters() {
        assert_eq!(piece_end(b"aaaa\n\nbb\n\ncc\ndd"), 10);
        assert_eq!(piece_end(b"a\n\nbbbbbbbb\r\n\r\nccc"), 15);
        assert_eq!(piece_end(b"a\n\nbbbbbbbbbbb\nccc"), 15, "an early paragraph gives way to a late line");
        assert_eq!(piece_end("aé漢".as_bytes()), 3);
        assert_eq!(piece_end(&[0x80; 4]), 4, "never stands still");
    }
}
