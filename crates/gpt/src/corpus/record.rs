//! Records: what a JSON object or a row of a table says, and what of it is wanted.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Options;
use super::clean::Verdict;
use super::reason::Reason;

/// Columns by name.
pub(super) type Record = Map<String, Value>;

/// Keeps records whose column has one of some values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The column; `a.b` is the column `b` inside of the column `a`, unless there is one of that whole name.
    pub column: String,
    /// What it may hold: a text, a number or a truth value as it is written, or a list with one of these in it. The
    /// case of ASCII letters does not matter.
    pub values: Vec<String>,
}

/// The columns that are asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    text: &'a [String],
    filters: &'a [Filter],
}

impl<'a> Wanted<'a> {
    pub(super) fn new(options: &'a Options) -> Wanted<'a> {
        Wanted { text: &options.text_fields, filters: &options.filters }
    }

    /// The columns that make the text; unless they were named: `text` if it is there, else `content`.
    pub(super) fn text(&self, is_there: impl Fn(&str) -> bool) -> Vec<&'a str> {
        match self.text {
            [] if !is_there("text") && is_there("content") => vec!["content"],
            [] => vec!["text"],
            named => named.iter().map(String::as_str).collect(),
        }
    }

    /// The columns that decide about the text, without being part of it. CodeParrot's `path` tells its language.
    pub(super) fn others(&self) -> impl Iterator<Item = &'a str> {
        std::iter::once("path").chain(self.filters.iter().map(|f| f.column.as_str()))
    }

    /// The text of a record, and its `path` if it has one, or why there is none. Several columns are joined by blank
    /// lines; among several, one may be null.
    pub(super) fn document(&self, mut record: Record) -> Result<(String, Option<String>), Verdict> {
        self.filters.iter().try_for_each(|filter| filter.judge(Some(&record)))?;
        let names = self.text(|name| record.contains_key(name));
        let mut text = String::new();
        for name in &names {
            match take(&mut record, name) {
                Some(Value::String(part)) if names.len() == 1 => text = part,
                Some(Value::String(part)) if part.trim().is_empty() => {}
                Some(Value::String(part)) => {
                    text += if text.is_empty() { "" } else { "\n\n" };
                    text += &part;
                }
                Some(Value::Null) if names.len() > 1 => {}
                Some(other) => return Err((Reason::WrongType, format!("{name} is {}", kind(&other)))),
                None => return Err((Reason::MissingColumn, columns(record.keys().cloned()))),
            }
        }
        let path = match record.remove("path") {
            Some(Value::String(path)) if !path.is_empty() => Some(path),
            _ => None,
        };
        Ok((text, path))
    }

    /// Whether a document without columns, as a file of plain text is one, may pass.
    pub(super) fn admit_without_columns(&self) -> Result<(), Verdict> {
        self.filters.iter().try_for_each(|filter| filter.judge(None))
    }

    /// Why a JSON value is no record with a text, if it is none. Filters do not matter here.
    pub(super) fn no_record(&self, json: &[u8]) -> Option<Verdict> {
        let unfiltered = Wanted { filters: &[], ..*self };
        parse(json).and_then(|record| unfiltered.document(record)).err()
    }
}

impl Filter {
    fn judge(&self, record: Option<&Record>) -> Result<(), Verdict> {
        let has = |value: &str| self.values.iter().any(|wanted| wanted.eq_ignore_ascii_case(value));
        let without = |what: String| Err((Reason::NoFilterColumn, what));
        let Some(record) = record else { return without("a plain file has no columns".into()) };
        let Some(value) = get(record, &self.column) else {
            return without(format!("{}: {}", self.column, columns(record.keys().cloned())));
        };
        let words: Vec<String> = match value {
            Value::Array(values) => values.iter().filter_map(word).collect(),
            value => word(value).into_iter().collect(),
        };
        if words.is_empty() {
            return without(format!("{} is {}", self.column, kind(value)));
        }
        if words.iter().any(|word| has(word)) {
            return Ok(());
        }
        let shown: String = words.join(", ").chars().take(60).collect();
        Err((Reason::Filtered, format!("{} is {shown}", self.column)))
    }
}

/// A value as it is written, if it is a single one.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn get<'a>(record: &'a Record, name: &str) -> Option<&'a Value> {
    record.get(name).or_else(|| {
        let (outer, inner) = name.split_once('.')?;
        get(record.get(outer)?.as_object()?, inner)
    })
}

fn take(record: &mut Record, name: &str) -> Option<Value> {
    if record.contains_key(name) {
        return record.remove(name);
    }
    let (outer, inner) = name.split_once('.')?;
    take(record.get_mut(outer)?.as_object_mut()?, inner)
}

/// Parses a JSON object.
pub(super) fn parse(json: &[u8]) -> Result<Record, Verdict> {
    let json = std::str::from_utf8(json)
        .map_err(|e| (Reason::RecordNotUtf8, format!("byte {} of the record", e.valid_up_to())))?
        .trim_end();
    match serde_json::from_str(json) {
        Ok(Value::Object(record)) => Ok(record),
        Ok(other) => Err((Reason::NotAnObject, format!("it is {}", kind(&other)))),
        Err(e) if e.is_eof() => Err((Reason::TornJson, format!("ends at byte {}", json.len()))),
        Err(e) if e.to_string().starts_with("recursion limit") => Err((Reason::DeepJson, String::new())),
        Err(e) => Err((Reason::MalformedJson, e.to_string())),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(values) if values.is_empty() => "an empty array",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Names what columns there are.
pub(super) fn columns(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.take(8).map(|name| name.chars().take(40).collect()).collect();
    if names.is_empty() { "it has no columns".into() } else { format!("it has {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(text: &[&str], filters: &[(&str, &str)], record: Value) -> Result<String, Verdict> {
        let filters: Vec<Filter> = filters
            .iter()
            .map(|(column, values)| Filter {
                column: column.to_string(),
                values: values.split(',').map(String::from).collect(),
            })
            .collect();
        let text: Vec<String> = text.iter().map(ToString::to_string).collect();
        let wanted = Wanted { text: &text, filters: &filters };
        wanted.document(record.as_object().unwrap().clone()).map(|(text, _)| text)
    }

    #[test]
    fn columns_are_joined_by_blank_lines() {
        let record =
            json!({"title": "A", "body": "b\n", "none": null, "blank": " \n", "n": 3, "in": {"x": "deep"}});
        let text = |names: &[&str]| document(names, &[], record.clone());
        assert_eq!(text(&["title", "body"]).unwrap(), "A\n\nb\n");
        assert_eq!(text(&["body", "none", "blank", "title"]).unwrap(), "b\n\n\nA");
        assert_eq!(text(&["blank"]).unwrap(), " \n", "a single column is taken as it is");
        assert_eq!(text(&["none", "blank"]).unwrap(), "");
        assert_eq!(text(&["in.x", "title"]).unwrap(), "deep\n\nA");
        assert_eq!(text(&["none"]).unwrap_err(), (Reason::WrongType, "none is null".into()));
        assert_eq!(text(&["title", "n"]).unwrap_err(), (Reason::WrongType, "n is a number".into()));
        let missing = text(&["title", "boddy"]).unwrap_err();
        assert_eq!(missing.0, Reason::MissingColumn);
        assert_eq!(document(&[], &[], json!({"content": "c", "text": "t"})).unwrap(), "t");
        assert_eq!(document(&[], &[], json!({"content": "c"})).unwrap(), "c");
    }

    #[test]
    fn filters_compare_what_is_written() {
        let record = json!({
            "text": "t", "license": "MIT", "stars": 12, "fork": false, "meta": {"set": "books"}, "a.b": "flat",
            "licenses": ["gpl-3.0", "Apache-2.0"], "none": null, "list": []
        });
        let filter = |column: &str, values: &str| document(&[], &[(column, values)], record.clone()).err();
        for (column, values) in [
            ("license", "apache-2.0,mit"),
            ("stars", "11,12"),
            ("fork", "false"),
            ("meta.set", "Books"),
            ("a.b", "flat"),
            ("licenses", "mit,apache-2.0"),
        ] {
            assert_eq!(filter(column, values), None, "{column}");
        }
        assert_eq!(filter("license", "mi,mit2").unwrap(), (Reason::Filtered, "license is MIT".into()));
        assert_eq!(filter("licenses", "mit").unwrap().1, "licenses is gpl-3.0, Apache-2.0");
        assert_eq!(filter("none", "null").unwrap(), (Reason::NoFilterColumn, "none is null".into()));
        assert_eq!(filter("list", "mit").unwrap(), (Reason::NoFilterColumn, "list is an empty array".into()));
        assert_eq!(filter("language", "en").unwrap().0, Reason::NoFilterColumn);
        let both = document(&[], &[("license", "mit"), ("stars", "13")], record);
        assert_eq!(both.unwrap_err(), (Reason::Filtered, "stars is 12".into()), "every filter must hold");
    }
}
