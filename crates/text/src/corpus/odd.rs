//! Odd values: what stands in a column of a file but is no value of JSON, such as NaN, or bytes that are no
//! text.
//!
//! The one idea: such a value is kept as an object that no reader of a text, a number or a list takes for
//! one. A record is read although it has one, and whoever needs that very column meets it, and can say what
//! it is.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::reason::Reason;

/// The only key of such an object. The word joiner before it keeps people's own keys apart.
const KEY: &str = "\u{2060}no value of JSON";

/// An odd value: why a record that needs it is none, what it is, as in “holds \ud800”, and the nearest value
/// of JSON.
pub(super) fn odd(reason: Reason, what: impl Into<String>, nearest: Value) -> Value {
    Value::Object(Map::from_iter([(KEY.to_string(), json!([reason, what.into(), nearest]))]))
}

/// The same as a piece of JSON.
pub(super) fn odd_json(reason: Reason, what: &str, nearest: &[u8]) -> Vec<u8> {
    let mut text = odd(reason, what, Value::Null).to_string().into_bytes();
    text.truncate(text.len() - "null]}".len());
    [&text[..], nearest, b"]}"].concat()
}

/// Why a record that needs this value is none, and what the value is, if it is an odd one.
pub(super) fn why(value: &Value) -> Option<(Reason, &str)> {
    value.as_object().and_then(why_record)
}

/// The same of what looks like a record.
pub(super) fn why_record(record: &Map<String, Value>) -> Option<(Reason, &str)> {
    parts(record).map(|(reason, what, _)| (reason, what))
}

fn parts(object: &Map<String, Value>) -> Option<(Reason, &str, &Value)> {
    match object.get(KEY)?.as_array()?.as_slice() {
        [reason, Value::String(what), nearest] => Some((Reason::deserialize(reason).ok()?, what, nearest)),
        _ => None,
    }
}

/// The odd values of a record, with their places: `messages[1].content holds \ud800`.
pub(super) fn find(record: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    record.iter().for_each(|(name, value)| collect(name, value, &mut found));
    found
}

fn collect(place: &str, value: &Value, found: &mut Vec<String>) {
    if let Some((_, what)) = why(value) {
        return found.push(format!("{place} {what}"));
    }
    match value {
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| collect(&format!("{place}[{i}]"), value, found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| collect(&format!("{place}.{name}"), value, found));
        }
        _ => {}
    }
}

/// The record with the nearest values of JSON in the place of odd ones.
pub(super) fn settled(record: Map<String, Value>) -> Map<String, Value> {
    record.into_iter().map(|(name, value)| (name, settle(value))).collect()
}

fn settle(value: Value) -> Value {
    if let Some((_, _, nearest)) = value.as_object().and_then(parts) {
        return nearest.clone();
    }
    match value {
        Value::Array(values) => values.into_iter().map(settle).collect(),
        Value::Object(fields) => Value::Object(settled(fields)),
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_values_are_found_and_settled_wherever_they_stand() {
        let nan = odd(Reason::MalformedJson, "is NaN", Value::Null);
        let text = odd_json(Reason::MalformedJson, "holds \\ud800", b"\"a\\ufffd\"");
        let text: Value = serde_json::from_slice(&text).unwrap();
        let record = json!({"score": nan, "turns": [{"content": text, "n": 1}], "text": "x"});
        let record = record.as_object().unwrap().clone();
        assert_eq!(find(&record), ["score is NaN", "turns[0].content holds \\ud800"]);
        assert_eq!(why(&record["score"]), Some((Reason::MalformedJson, "is NaN")));
        assert_eq!(why(&json!({"no value of JSON": ["is mine", 1]})), None);
        let settled = Value::Object(settled(record));
        assert_eq!(settled, json!({"score": null, "turns": [{"content": "a\u{fffd}", "n": 1}], "text": "x"}));
    }
}
