//! Python's `%` on texts, and on numbers.

use super::args::wrong;
use super::methods::pay;
use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, State, Value};

/// `left % right`.
pub(super) fn modulo(state: &mut State, left: &Value, right: &Value) -> Result<Value, Error> {
    if let Some(text) = left.as_str() {
        let args: Vec<Value> = match right.kind() {
            _ if right.is_tuple() => right.try_iter()?.checked().collect::<Result<_, _>>()?,
            ValueKind::Map if text.contains("%(") => {
                let keys = right.try_iter()?.checked();
                let pairs = keys.map(|key| {
                    let key = key?;
                    Ok((key.to_string(), right.get_item(&key)?))
                });
                vec![pairs.collect::<Result<Kwargs, Error>>()?.into()]
            }
            _ => vec![right.clone()],
        };
        return printed(state, text, args).map(Value::from);
    }
    // The engine's own operator, on numbers.
    let remainder = state.env().compile_expression("left % right")?;
    remainder.eval(minijinja::context! { left, right })
}

/// Fills `text` with `args`. The engine prints each; Python's further conversions become those that it has.
fn printed(state: &State, text: &str, args: Vec<Value>) -> Result<String, Error> {
    pay_for_widths(state, text, &args)?;
    if text.contains("%(") {
        return format(FormatStyle::Printf, text, &args);
    }
    let (mut out, mut rest, mut args) = (String::new(), text, args.into_iter());
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let options = rest[at + 1..].trim_start_matches(|c: char| "#0- +.123456789".contains(c));
        let kind = options.chars().next().ok_or_else(|| wrong("the format ends within a field"))?;
        let field = &rest[at..rest.len() - options.len()];
        rest = &options[kind.len_utf8()..];
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = args.next().ok_or_else(|| wrong("not enough arguments for the format"))?;
        let (kind, value) = match kind {
            'r' | 'a' => ('s', Value::from(representation(&value))),
            'd' | 'i' | 'u' => ('d', whole(&value)?),
            _ => (kind, value),
        };
        out.push_str(&format(FormatStyle::Printf, &format!("{field}{kind}"), &[value])?);
    }
    out.push_str(rest);
    // A dictionary may be given without need.
    match args.next() {
        Some(value) if value.kind() != ValueKind::Map => Err(wrong("not all arguments are in the format")),
        _ => Ok(out),
    }
}

/// What Python's `repr` says: as a list shows its item.
pub(super) fn representation(value: &Value) -> String {
    let list = Value::from(vec![value.clone()]).to_string();
    list[1..list.len() - 1].to_owned()
}

fn whole(value: &Value) -> Result<Value, Error> {
    match (value.kind(), value.is_integer()) {
        (ValueKind::Number, false) => Ok((f64::try_from(value.clone())?.trunc() as i64).into()),
        (ValueKind::Number | ValueKind::Bool, _) => Ok(value.clone()),
        (kind, _) => Err(wrong(format!("%d format: a number is required, not {kind}"))),
    }
}

/// Widths and precisions are numbers in the format or among the values; as many bytes may be made.
pub(super) fn pay_for_widths(state: &State, text: &str, args: &[Value]) -> Result<(), Error> {
    let written = text.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let mut bytes = 0usize;
    for digits in written {
        bytes = bytes.saturating_add(digits.parse().map_err(|_| wrong("a width beyond any text"))?);
    }
    if text.contains('*') || text.contains(":{") {
        let given = args.iter().filter_map(Value::as_i64).map(|n| n.unsigned_abs() as usize);
        bytes = given.fold(bytes, usize::saturating_add);
    }
    pay(state, bytes)
}
