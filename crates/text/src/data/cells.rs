//! What cells of CSV and TSV spell: JSON, or lists and dictionaries as Python and NumPy print them, which is
//! how pandas and `datasets` write them there.

use serde_json::Value;

use super::rows::Record;

/// Cells as what they spell: lists, objects, numbers and truth values, and nothing where they are empty.
pub(super) fn spelled(cells: Record) -> Record {
    let value = |cell: Value| match cell.as_str().map(str::trim) {
        Some("") => Value::Null,
        Some(text) => value_of(text).unwrap_or(cell),
        None => cell,
    };
    cells.into_iter().map(|(name, cell)| (name, value(cell))).collect()
}

fn value_of(text: &str) -> Option<Value> {
    let json = |text: &str| serde_json::from_str(text).ok();
    json(text).or_else(|| json(&json_of(text)?)).filter(|value: &Value| !value.is_string())
}

/// A Python literal as JSON. NumPy leaves out the commas between the elements of an array.
fn json_of(literal: &str) -> Option<String> {
    let (mut json, mut rest, mut after_value) = (String::new(), literal, false);
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => 1 + string_length(&rest[1..], first)?,
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        let begins = matches!(first, '\'' | '"' | '[' | '{' | '(') || is_word(first);
        if begins && after_value {
            json.push(',');
        }
        match token {
            "(" => json.push('['),
            ")" => json.push(']'),
            "True" => json.push_str("true"),
            "False" => json.push_str("false"),
            "None" | "nan" => json.push_str("null"),
            _ if matches!(first, '\'' | '"') => {
                json += &Value::from(unescaped(&token[1..length - 1])?).to_string();
            }
            _ => json.push_str(token),
        }
        after_value = match first {
            _ if first.is_whitespace() => after_value,
            ']' | '}' | ')' | '\'' | '"' => true,
            _ => is_word(first),
        };
    }
    Some(json)
}

fn is_word(char: char) -> bool {
    char.is_alphanumeric() || matches!(char, '-' | '+' | '.' | '_')
}

/// Up to the quote that ends a string, with it.
fn string_length(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    let ends = |(_, char): &(usize, char)| {
        let ends = *char == quote && !escaped;
        escaped = *char == '\\' && !escaped;
        ends
    };
    text.char_indices().find(ends).map(|(at, _)| at + 1)
}

/// The text of a string between its quotes.
fn unescaped(mut text: &str) -> Option<String> {
    let mut out = String::new();
    while let Some((before, after)) = text.split_once('\\') {
        out += before;
        let escape = after.chars().next()?;
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        text = &after[escape.len_utf8()..];
        match escape {
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            '\\' | '\'' | '"' => out.push(escape),
            _ if digits > 0 => {
                out.push(char::from_u32(u32::from_str_radix(text.get(..digits)?, 16).ok()?)?);
                text = &text[digits..];
            }
            _ => out.extend(['\\', escape]),
        }
    }
    Some(out + text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_spell_json_and_python() {
        for (cell, value) in [
            ("[1, \"a\"]", json!([1, "a"])),
            ("3.8", json!(3.8)),
            ("true", json!(true)),
            ("True", json!(true)),
            ("None", json!(null)),
            ("['a', \"it's\", 'say \"x\"']", json!(["a", "it's", "say \"x\""])),
            (
                r"[{'role': 'user', 'content': 'It\'s\n\x41\u6f22'}]",
                json!([{"role": "user", "content": "It's\nA漢"}]),
            ),
            ("[{'role': 'user'}\n {'role': 'assistant'}]", json!([{"role": "user"}, {"role": "assistant"}])),
            ("['a' 'b'\n 'c']", json!(["a", "b", "c"])),
            ("[1 -2 3.5]", json!([1, -2, 3.5])),
            ("(1, None, [nan])", json!([1, null, [null]])),
            ("{'a': {'b': False}}", json!({"a": {"b": false}})),
            ("[]", json!([])),
        ] {
            assert_eq!(value_of(cell), Some(value), "{cell}");
        }
        for text in [
            "a text",
            "'quoted'",
            "\"quoted\"",
            "[torn",
            "['torn",
            "[a, b]",
            "array([1], dtype=object)",
            "[1, ..., 2]",
            "007",
        ] {
            assert_eq!(value_of(text), None, "{text}");
        }
        let cells = json!({"a": "", "b": " ", "c": "x"}).as_object().unwrap().clone();
        assert_eq!(Value::Object(spelled(cells)), json!({"a": null, "b": null, "c": "x"}));
    }
}
