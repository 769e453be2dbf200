//! `tojson` as `transformers` has it: Python's `json.dumps`, whose options a template may give.

use super::args::{bind_both, wrong};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, State, Value};
use std::fmt::Write as _;

/// How JSON is written.
struct Style {
    ascii: bool,
    /// What a level is indented by.
    indent: Option<String>,
    between: String,
    after_key: String,
    sorted: bool,
}

/// The filter.
pub(super) fn to_json(
    state: &State,
    value: &Value,
    args: Rest<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let bound = bind_both(&["ensure_ascii", "indent", "separators", "sort_keys"], args.0, &named)?;
    let indent = match bound.given(1) {
        Some(text) if text.as_str().is_some() => Some(bound.text(1)?.to_owned()),
        _ => bound.integer(1)?.map(|n| " ".repeat(n.clamp(0, 64) as usize)),
    };
    let (between, after_key) = match bound.given(2) {
        Some(pair) => {
            let texts = pair.try_iter()?.checked().map(|text| Ok(text?.to_string()));
            let texts: Vec<String> = texts.collect::<Result<_, Error>>()?;
            let [between, after_key] =
                <[String; 2]>::try_from(texts).map_err(|_| wrong("separators are two"))?;
            (between, after_key)
        }
        None if indent.is_some() => (",".into(), ": ".into()),
        None => (", ".into(), ": ".into()),
    };
    let flag = |place| bound.flag(place).unwrap_or(false);
    let style = Style { ascii: flag(0), indent, between, after_key, sorted: flag(3) };
    let mut writer = Writer { state, style, out: String::new(), paid: 0 };
    writer.value(value, 0)?;
    writer.pay()?;
    Ok(writer.out)
}

/// JSON as it is written.
struct Writer<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    style: Style,
    out: String,
    /// Bytes of `out` that are paid for.
    paid: usize,
}

impl Writer<'_, '_, '_> {
    /// Pays for what was written since the last time; a byte costs more than of other texts.
    fn pay(&mut self) -> Result<(), Error> {
        let bytes = self.out.len() - self.paid;
        self.paid = self.out.len();
        self.state.consume_fuel(bytes as u64 / 4)
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.pay()?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&number(value)),
            ValueKind::String => text(value.as_str().unwrap_or_default(), self.style.ascii, &mut self.out),
            ValueKind::Seq => {
                let items: Vec<Value> = value.try_iter()?.checked().collect::<Result<_, _>>()?;
                self.block(('[', ']'), &items, depth, |writer, item| writer.value(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut items = Vec::new();
                for key in value.try_iter()?.checked() {
                    let key = key?;
                    items.push((key_text(&key)?, value.get_item(&key)?));
                }
                if self.style.sorted {
                    items.sort_by(|a, b| a.0.cmp(&b.0));
                }
                self.block(('{', '}'), &items, depth, |writer, (key, value)| {
                    text(key, writer.style.ascii, &mut writer.out);
                    writer.out.push_str(&writer.style.after_key);
                    writer.value(value, depth + 1)
                })?;
            }
            kind => return Err(wrong(format!("{kind} is nothing that JSON can say"))),
        }
        Ok(())
    }

    /// Brackets around items, each on a line of its own where lines are indented.
    fn block<T>(
        &mut self,
        (open, close): (char, char),
        items: &[T],
        depth: usize,
        mut write: impl FnMut(&mut Self, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.out.push_str(&self.style.between);
            }
            self.line(depth + 1);
            write(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }
}

fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None => Ok("null".into()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.into()),
        ValueKind::Number => Ok(number(key)),
        kind => Err(wrong(format!("{kind} cannot be a key of JSON"))),
    }
}

fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => float(number),
        _ => value.to_string(),
    }
}

/// `repr` of a float.
pub(super) fn float(number: f64) -> String {
    if !number.is_finite() {
        let sign = if number < 0.0 { "-" } else { "" };
        return if number.is_nan() { "NaN".into() } else { format!("{sign}Infinity") };
    }
    if number == 0.0 || (1e-4..1e16).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |exponent| ("-", exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

fn text(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            c if c < ' ' || ascii && !(' '..='~').contains(&c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
