//! Filters, tests and functions that the engine lacks, or has otherwise than Jinja2.

use super::args::{bind_both, wrong};
use super::{json, methods, printf, source};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, State, Value};
use minijinja_contrib::{filters as more, globals};

/// Adds them.
pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter("tojson", json::to_json);
    environment.add_filter(source::MODULO, printf::modulo);
    environment.add_filter("wordcount", more::wordcount);
    environment.add_filter("striptags", more::striptags);
    environment.add_filter("filesizeformat", more::filesizeformat);
    environment.add_filter("attr", attribute);
    environment.add_filter("center", center);
    environment.add_filter("truncate", truncate);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", integer);
    environment.add_filter("float", float);
    for name in ["e", "escape", "forceescape"] {
        environment.add_filter(name, escape);
    }
    environment.add_function("cycler", |items: Rest<Value>| globals::cycler(items.0));
    environment.add_function("joiner", globals::joiner);
    environment.add_function("dict", dict);
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Map | ValueKind::Seq | ValueKind::Undefined)
    });
    environment.add_test("iterable", |value: &Value| {
        use ValueKind::{Iterable, Map, Seq, String, Undefined};
        matches!(value.kind(), String | Map | Seq | Iterable | Undefined)
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    environment.set_formatter(|out, state, value| match f64::try_from(value.clone()) {
        Ok(number) if value.is_number() && !value.is_integer() => Ok(out.write_str(&json::float(number))?),
        _ => minijinja::escape_formatter(out, state, value),
    });
}

/// An attribute of Python's, of which a dictionary has none.
fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    if value.kind() == ValueKind::Map { Ok(Value::UNDEFINED) } else { value.get_attr(name) }
}

fn center(state: &mut State, value: &Value, width: Option<u32>) -> Result<Value, Error> {
    methods::call(state, &value.to_string().into(), "center", &[width.unwrap_or(80).into()])
}

/// Cuts a text that is more than `leeway` too long, at a space unless words may be cut.
fn truncate(value: &Value, args: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let bound = bind_both(&["length", "killwords", "end", "leeway"], args.0, &named)?;
    let size = |place, usual| Ok::<_, Error>(bound.integer(place)?.map_or(usual, |n| n.max(0) as usize));
    let (length, leeway) = (size(0, 255)?, size(3, 5)?);
    let (text, end) = (value.to_string(), bound.optional_text(2)?.unwrap_or("..."));
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept = length
        .checked_sub(end.chars().count())
        .ok_or_else(|| wrong("the length is below that of the end"))?;
    let cut: String = text.chars().take(kept).collect();
    let words = if bound.flag(1) == Some(true) { None } else { cut.rsplit_once(' ').map(|(words, _)| words) };
    Ok(words.unwrap_or(&cut).to_owned() + end)
}

fn default(value: Value, args: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let other = match args.first() {
        Some(other) => Some(other.clone()),
        None => named.get::<Option<Value>>("default_value")?,
    };
    let boolean = match args.get(1) {
        Some(boolean) => boolean.is_true(),
        None => named.get::<Option<Value>>("boolean")?.is_some_and(|boolean| boolean.is_true()),
    };
    named.assert_all_used()?;
    let is_missing = value.is_undefined() || boolean && !value.is_true();
    Ok(if is_missing { other.unwrap_or_else(|| "".into()) } else { value })
}

/// A whole number, or `default` where the value is none.
fn integer(value: &Value, args: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let bound = bind_both(&["default", "base"], args.0, &named)?;
    let other = bound.given(0).cloned().unwrap_or_else(|| 0.into());
    let base =
        bound.integer(1)?.and_then(|base| u32::try_from(base).ok()).filter(|base| (2..=36).contains(base));
    let of_text = |text: &str| {
        let digits = text.trim().replace('_', "");
        let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)];
        let prefix =
            prefixed.iter().find(|(prefix, radix)| base == Some(*radix) && digits.starts_with(prefix));
        let digits = prefix.map_or(digits.as_str(), |(prefix, _)| &digits[prefix.len()..]);
        let whole = i64::from_str_radix(digits, base.unwrap_or(10)).ok();
        whole.or_else(|| digits.parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n.trunc() as i64))
    };
    Ok(match (value.as_str(), value.kind()) {
        (Some(text), _) => of_text(text).map_or(other, Value::from),
        (_, ValueKind::Bool) => i64::from(value.is_true()).into(),
        (_, ValueKind::Number) if value.is_integer() => value.clone(),
        (_, ValueKind::Number) => (f64::try_from(value.clone())?.trunc() as i64).into(),
        _ => other,
    })
}

fn float(value: &Value, args: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let bound = bind_both(&["default"], args.0, &named)?;
    let number = match value.as_str() {
        Some(text) => text.trim().parse::<f64>().ok(),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(number.map_or_else(|| bound.given(0).cloned().unwrap_or_else(|| 0.0.into()), Value::from))
}

/// Markup as text. Nothing is escaped unless it is asked for.
fn escape(value: &Value) -> String {
    let mut escaped = String::new();
    for c in value.to_string().chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A dictionary of another, or of pairs, and of names.
fn dict(from: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let mut pairs = Vec::new();
    if let Some(from) = from {
        for item in from.try_iter()?.checked() {
            let item = item?;
            pairs.push(match from.kind() {
                ValueKind::Map => (item.clone(), from.get_item(&item)?),
                _ => (item.get_item_by_index(0)?, item.get_item_by_index(1)?),
            });
        }
    }
    for name in named.args() {
        pairs.push((name.into(), named.get(name)?));
    }
    Ok(Value::from_pairs(pairs))
}
