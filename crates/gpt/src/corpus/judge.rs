//! From a raw record to a document or a reason: what the workers do.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Options;
use super::clean::{self, Verdict, is_code, source_extension};
use super::dedup::{Key, key};
use super::documents::to_line;
use super::files::{Input, Kind};
use super::read::{Payload, Raw};
use super::report::Reason;

/// A judged record.
pub(super) struct Judged {
    pub(super) input: Arc<Input>,
    pub(super) line: u64,
    /// Its size before decoding.
    pub(super) bytes: u64,
    pub(super) source: String,
    /// Whether `\r\n` became `\n`.
    pub(super) crlf: bool,
    pub(super) verdict: Result<Clean, Verdict>,
}

/// A document that may be kept.
pub(super) struct Clean {
    pub(super) key: Key,
    /// Bytes of its text.
    pub(super) bytes: u64,
    /// Its line in a shard.
    pub(super) line: Vec<u8>,
}

impl Judged {
    /// Whether it is (or should have been) a JSON record.
    pub(super) fn is_record(&self) -> bool {
        let blank = matches!(self.verdict, Err((Reason::BlankLine | Reason::NotRecords, _)));
        matches!(self.input.kind(), Kind::Lines | Kind::Json) && !blank
    }
}

/// Decodes, cleans and judges.
pub(super) fn judge(raw: Raw, options: &Options) -> Judged {
    let Raw { input, line, payload, bytes } = raw;
    let mut judged = Judged {
        source: source(&input, line),
        input,
        line,
        bytes,
        crlf: false,
        verdict: Err((Reason::Empty, String::new())),
    };
    judged.verdict = match payload {
        Payload::Dropped(reason, detail) => Err((reason, detail)),
        Payload::Text(text) => clean::decode(&text).and_then(|text| judged.document(text, options)),
        Payload::Json(json) => parse(&json, options.text_field.as_deref()).and_then(|(text, path)| {
            if let Some(path) = path {
                judged.source += ":";
                judged.source += &path;
            }
            judged.document(&text, options)
        }),
    };
    judged
}

impl Judged {
    fn document(&mut self, text: &str, options: &Options) -> Result<Clean, Verdict> {
        let normal = clean::normalise(text);
        self.crlf = normal.is_some();
        let text = normal.as_deref().unwrap_or(text);
        clean::judge(text, is_code(&source_extension(&self.source)), &options.keep_if_contains)?;
        if options.max_bytes.is_some_and(|max| text.len() as u64 > max) {
            return Err((Reason::TooLong, format!("{} bytes, more than the whole sample", text.len())));
        }
        Ok(Clean { key: key(text), bytes: text.len() as u64, line: to_line(text, &self.source) })
    }
}

/// `FILE` or `FILE:LINE`.
fn source(input: &Input, line: u64) -> String {
    match line {
        0 => input.name(),
        _ => format!("{}:{line}", input.name()),
    }
}

/// Why a JSON value is no record with a text column, if it is none.
pub(super) fn no_record(json: &[u8], field: Option<&str>) -> Option<Verdict> {
    parse(json, field).err()
}

/// The text of a record, and its `path` if it has one (CodeParrot's column).
fn parse(json: &[u8], field: Option<&str>) -> Result<(String, Option<String>), Verdict> {
    let json = std::str::from_utf8(json)
        .map_err(|e| (Reason::RecordNotUtf8, format!("byte {} of the record", e.valid_up_to())))?
        .trim_end();
    let mut record = match serde_json::from_str(json) {
        Ok(Value::Object(record)) => record,
        Ok(other) => return Err((Reason::NotAnObject, format!("it is {}", kind(&other)))),
        Err(e) if e.is_eof() => {
            return Err((Reason::TornJson, format!("ends at byte {}", json.len())));
        }
        Err(e) if e.to_string().starts_with("recursion limit") => {
            return Err((Reason::DeepJson, String::new()));
        }
        Err(e) => return Err((Reason::MalformedJson, e.to_string())),
    };
    let text = match field {
        Some(field) => record.remove(field),
        None => record.remove("text").or_else(|| record.remove("content")),
    };
    let text = match text {
        Some(Value::String(text)) => text,
        Some(other) => return Err((Reason::WrongType, format!("it is {}", kind(&other)))),
        None => return Err((Reason::MissingColumn, columns(&record))),
    };
    let path = match record.remove("path") {
        Some(Value::String(path)) if !path.is_empty() => Some(path),
        _ => None,
    };
    Ok((text, path))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn columns(record: &Map<String, Value>) -> String {
    if record.is_empty() {
        return "it has no columns".into();
    }
    let names: Vec<String> = record.keys().take(8).map(|k| k.chars().take(40).collect()).collect();
    format!("it has {}", names.join(", "))
}
