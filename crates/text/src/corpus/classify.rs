//! From a raw record to a document or a reason: what the workers do.

use std::sync::Arc;

use super::Options;
use super::clean::{self};
use super::dedup::{Key, key};
use super::input::Input;
use super::json;
use super::minhash::{Signature, signature};
use super::name::{is_code, source_extension};
use super::raw::{Payload, Raw};
use super::reason::Reason;
use super::reason::Verdict;
use super::record::{Record, Wanted};

/// A classified record.
pub(super) struct Classified<T> {
    pub(super) input: Arc<Input>,
    pub(super) line: u64,
    /// Its size before decoding.
    pub(super) bytes: u64,
    pub(super) source: String,
    /// Whether `\r\n` became `\n`.
    pub(super) crlf: bool,
    pub(super) verdict: Result<Clean<T>, Verdict>,
}

/// A document that may be kept.
pub(super) struct Clean<T> {
    pub(super) key: Key,
    /// When near duplicates are looked for, and there are words.
    pub(super) signature: Option<Signature>,
    /// Bytes of its text.
    pub(super) bytes: u64,
    /// What was made of it.
    pub(super) content: T,
}

impl<T> Classified<T> {
    /// Whether it is a record that is bad.
    pub(super) fn is_bad(&self) -> bool {
        self.is_record() && matches!(&self.verdict, Err((reason, _)) if reason.is_bad_record())
    }

    /// Whether it is (or should have been) a record: JSON, or a row of a table.
    pub(super) fn is_record(&self) -> bool {
        let none = matches!(self.verdict, Err((reason, _)) if reason.is_no_record());
        self.input.form.kind.has_records() && !none
    }
}

/// Decodes, cleans and classifies a record; `make` makes of a document's text and source what is wanted of
/// it.
pub(super) fn classify_record<T>(
    raw: Raw,
    options: &Options,
    make: &impl Fn(&str, &str) -> T,
) -> Classified<T> {
    let Raw { input, line, payload, bytes } = raw;
    let mut classified = Classified {
        source: source(&input, line),
        input,
        line,
        bytes,
        crlf: false,
        verdict: Err((Reason::Empty, String::new())),
    };
    classified.verdict = match payload {
        Payload::Dropped(reason, detail) => Err((reason, detail)),
        Payload::Text(text) => Wanted::new(options)
            .admit_without_columns()
            .and_then(|()| clean::decode(&text))
            .and_then(|text| {
                classified.document(text, is_code(&source_extension(&classified.source)), options, make)
            }),
        Payload::Json(json) => {
            json::parse(&json).and_then(|(record, _)| classified.record(record, options, make))
        }
        Payload::Record(record) | Payload::Cells(record) => classified.record(record, options, make),
    };
    classified
}

impl<T> Classified<T> {
    fn record(
        &mut self,
        record: Record,
        options: &Options,
        make: &impl Fn(&str, &str) -> T,
    ) -> Result<Clean<T>, Verdict> {
        let (text, path) = Wanted::new(options).document(record)?;
        let mut code = false;
        if let Some(path) = path {
            code = is_code(&source_extension(&path));
            self.source += ":";
            self.source += &path;
        }
        self.document(&text, code, options, make)
    }

    fn document(
        &mut self,
        text: &str,
        code: bool,
        options: &Options,
        make: &impl Fn(&str, &str) -> T,
    ) -> Result<Clean<T>, Verdict> {
        let normal = clean::normalise(text);
        self.crlf = normal.is_some();
        let text = normal.as_deref().unwrap_or(text);
        clean::check_quality(text, code, &options.keep_if_contains)?;
        if options.max_bytes.is_some_and(|max| text.len() as u64 > max) {
            return Err((Reason::TooLong, format!("{} bytes, more than the whole sample", text.len())));
        }
        Ok(Clean {
            key: key(text),
            signature: options.near_dedup.and_then(|_| signature(text)),
            bytes: text.len() as u64,
            content: make(text, &self.source),
        })
    }
}

/// `FILE` or `FILE:LINE`.
fn source(input: &Input, line: u64) -> String {
    match line {
        0 => input.name(),
        _ => format!("{}:{line}", input.name()),
    }
}
