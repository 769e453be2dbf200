//! Records: what a JSON object or a row of a table says, and what of it is wanted.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::reason::Reason;
use super::reason::Verdict;
use super::{Options, odd};

/// Columns by name.
pub(super) type Record = Map<String, Value>;

/// Keeps records whose column has one of some values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The column; `a.b` is the column `b` inside of the column `a`, unless there is one of that whole name.
    pub column: String,
    /// What it may hold: a text, a number or a truth value as it is written, or a list with one of these in
    /// it. The case of ASCII letters does not matter.
    pub values: Vec<String>,
}

/// The columns that are asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    text: &'a [String],
    filters: &'a [Filter],
    /// Whether all others are asked for too.
    pub(super) all: bool,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(options: &'a Options) -> Wanted<'a> {
        Wanted { text: &options.text_fields, filters: &options.filters, all: false }
    }

    /// Of readers that make something else than documents.
    pub(super) const EVERYTHING: Wanted<'static> = Wanted { text: &[], filters: &[], all: true };

    /// Which of these columns to read. Where there is no text, all of them, so that a message can name what
    /// there is.
    pub(super) fn of_columns(&self, names: Vec<String>) -> Vec<(String, bool)> {
        let text = self.text(|name| names.iter().any(|there| there == name));
        let all = self.all || !text.iter().all(|name| names.iter().any(|there| there == name));
        let is_wanted = |name: &str| all || text.contains(&name) || self.others().any(|o| o == name);
        names.into_iter().map(|name| (is_wanted(&name), name)).map(|(wanted, name)| (name, wanted)).collect()
    }

    /// The columns that make the text; unless they were named: `text` if it is there, else `content`.
    pub(super) fn text(&self, is_there: impl Fn(&str) -> bool) -> Vec<&'a str> {
        match self.text {
            [] if !is_there("text") && is_there("content") => vec!["content"],
            [] => vec!["text"],
            named => named.iter().map(String::as_str).collect(),
        }
    }

    /// The columns that decide about the text, without being part of it. CodeParrot's `path` tells its
    /// language.
    pub(super) fn others(&self) -> impl Iterator<Item = &'a str> {
        std::iter::once("path").chain(self.filters.iter().map(|f| f.column.as_str()))
    }

    /// The text of a record, and its `path` if it has one, or why there is none. Several columns are joined
    /// by blank lines; among several, one may be null.
    pub(super) fn document(&self, record: Record) -> Result<(String, Option<String>), Verdict> {
        self.filters.iter().try_for_each(|filter| filter.check(Some(&record)))?;
        self.text_of(record)
    }

    /// The same, whatever the filters say.
    pub(super) fn text_of(&self, mut record: Record) -> Result<(String, Option<String>), Verdict> {
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
                Some(other) => {
                    let reason = odd::why(&other).map_or(Reason::WrongType, |(reason, _)| reason);
                    return Err((reason, format!("{name} {}", describe(&other))));
                }
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
        self.filters.iter().try_for_each(|filter| filter.check(None))
    }
}

impl Filter {
    fn check(&self, record: Option<&Record>) -> Result<(), Verdict> {
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
            return without(format!("{} {}", self.column, describe(value)));
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

/// What a value is, as in “is a number”.
pub(super) fn describe(value: &Value) -> &str {
    match value {
        Value::Null => "is null",
        Value::Bool(_) => "is a truth value",
        Value::Number(_) => "is a number",
        Value::String(_) => "is a string",
        Value::Array(values) if values.is_empty() => "is an empty array",
        Value::Array(_) => "is an array",
        Value::Object(_) => odd::why(value).map_or("is an object", |(_, what)| what),
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
        let wanted = Wanted { text: &text, filters: &filters, all: false };
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
