//! The methods of Python's strings, lists and dictionaries that a template may call.
//!
//! What may grow beyond its input is paid for before it is made.

use super::args::{Bound, bind, wrong};
use super::characters::{
    is_decimal, is_digit, is_letter, is_printable, is_space, line_end, title, title_char,
};
use super::printf;
use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

/// Pays for `bytes` that are about to be made.
pub(super) fn pay(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel((bytes / 64) as u64)
}

/// Calls a method that the value itself does not have.
pub(super) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return on_text(state, text, method, args);
    }
    match (value.kind(), method) {
        (ValueKind::Seq, "index") => {
            let bound = bind(&["value"], args)?;
            let wanted = bound.given(0).cloned().unwrap_or_default();
            for (place, item) in (0u64..).zip(value.try_iter()?.checked()) {
                if item? == wanted {
                    return Ok(place.into());
                }
            }
            Err(wrong(format!("{wanted} is not in the list")))
        }
        (ValueKind::Seq | ValueKind::Map, "copy") => {
            bind(&[], args)?;
            Ok(value.clone())
        }
        // A list's other methods change it, which no chat template may.
        _ => unknown_method_callback(state, value, method, args),
    }
}

fn on_text(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let none = || bind(&[], args).map(|_| ());
    let all = |is: &dyn Fn(char) -> bool| -> Result<Value, Error> {
        none()?;
        Ok((!text.is_empty() && text.chars().all(is)).into())
    };
    Ok(match method {
        "capitalize" => {
            none()?;
            let mut chars = text.chars();
            let first = chars.next().map(title_char).unwrap_or_default();
            (first + &chars.as_str().to_lowercase()).into()
        }
        "casefold" => {
            none()?;
            text.to_lowercase().replace('ß', "ss").replace('ς', "σ").into()
        }
        "lower" => {
            none()?;
            text.to_lowercase().into()
        }
        "upper" => {
            none()?;
            text.to_uppercase().into()
        }
        "swapcase" => {
            none()?;
            let swapped = |c: char| match c.is_uppercase() {
                true => c.to_lowercase().collect::<String>(),
                false => c.to_uppercase().collect(),
            };
            text.chars().map(swapped).collect::<String>().into()
        }
        "title" => {
            none()?;
            title(text).into()
        }
        "center" | "ljust" | "rjust" => padded(state, text, method, &bind(&["width", "fillchar"], args)?)?,
        "zfill" => {
            let width = bind(&["width"], args)?.integer(0)?.unwrap_or(0).max(0) as usize;
            let missing = width.saturating_sub(text.chars().count());
            pay(state, missing)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", "0".repeat(missing)).into()
        }
        "expandtabs" => {
            let size = bind(&["tabsize"], args)?.integer(0)?.unwrap_or(8).max(0) as usize;
            expanded(state, text, size)?.into()
        }
        "count" | "find" | "index" | "rfind" | "rindex" => found(text, method, args)?,
        "startswith" | "endswith" => {
            let bound = bind(&["affix", "start", "end"], args)?;
            affixed(text, method == "startswith", &bound)?.into()
        }
        "removeprefix" => {
            let bound = bind(&["prefix"], args)?;
            text.strip_prefix(bound.text(0)?).unwrap_or(text).into()
        }
        "removesuffix" => {
            let bound = bind(&["suffix"], args)?;
            text.strip_suffix(bound.text(0)?).unwrap_or(text).into()
        }
        "partition" | "rpartition" => {
            let bound = bind(&["sep"], args)?;
            let separator = separator(bound.text(0)?)?;
            let place = if method == "partition" { text.find(separator) } else { text.rfind(separator) };
            let parts = match place {
                Some(at) => [&text[..at], separator, &text[at + separator.len()..]],
                None if method == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "split" | "rsplit" => {
            let bound = bind(&["sep", "maxsplit"], args)?;
            let most = bound.integer(1)?.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
            split(text, bound.optional_text(0)?, most, method == "rsplit")?
        }
        "splitlines" => {
            let keeps = bind(&["keepends"], args)?.flag(0).unwrap_or(false);
            lines(text, keeps).into_iter().map(Value::from).collect()
        }
        "strip" | "lstrip" | "rstrip" => {
            let bound = bind(&["chars"], args)?;
            let set = bound.optional_text(0)?;
            let is_out = |c: char| set.map_or_else(|| is_space(c), |set| set.contains(c));
            let text = if method == "rstrip" { text } else { text.trim_start_matches(is_out) };
            if method == "lstrip" { text } else { text.trim_end_matches(is_out) }.into()
        }
        "replace" => {
            let bound = bind(&["old", "new", "count"], args)?;
            let (old, new) = (bound.text(0)?, bound.text(1)?);
            let most = bound.integer(2)?.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
            let places = (text.len() / old.len().max(1) + 1).min(most);
            pay(state, places.saturating_mul(new.len()))?;
            text.replacen(old, new, most).into()
        }
        "join" => joined(state, text, &bind(&["iterable"], args)?)?,
        "format" => {
            printf::pay_for_widths(state, text, args)?;
            format(FormatStyle::StrFormat, text, args)?.into()
        }
        "isalnum" => all(&|c| is_letter(c) || c.is_numeric())?,
        "isalpha" => all(&is_letter)?,
        "isdecimal" => all(&is_decimal)?,
        "isdigit" => all(&is_digit)?,
        "isnumeric" => all(&char::is_numeric)?,
        "isspace" => all(&is_space)?,
        "isascii" => {
            none()?;
            text.is_ascii().into()
        }
        "isprintable" => {
            none()?;
            text.chars().all(is_printable).into()
        }
        "isidentifier" => {
            none()?;
            let begins = text.chars().next().is_some_and(|c| is_letter(c) || c == '_');
            (begins && text.chars().all(|c| is_letter(c) || is_decimal(c) || c == '_')).into()
        }
        "islower" => {
            none()?;
            (text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)).into()
        }
        "isupper" => {
            none()?;
            (text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)).into()
        }
        "istitle" => {
            none()?;
            let cased = text.chars().any(|c| c.is_lowercase() || c.is_uppercase());
            (cased && title(text) == text).into()
        }
        _ => return Err(Error::new(ErrorKind::UnknownMethod, format!("a string has no method {method}"))),
    })
}

/// Python refuses to search for nothing.
fn separator(text: &str) -> Result<&str, Error> {
    if text.is_empty() { Err(wrong("an empty separator")) } else { Ok(text) }
}

fn padded(state: &State, text: &str, method: &str, bound: &Bound) -> Result<Value, Error> {
    let width = bound.integer(0)?.ok_or_else(|| wrong("a width is missing"))?.max(0) as usize;
    let fill = bound.optional_text(1)?.unwrap_or(" ");
    let missing = width.saturating_sub(text.chars().count());
    pay(state, missing.saturating_mul(fill.len()))?;
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        // As CPython shares an odd number.
        _ => missing / 2 + (missing & width & 1),
    };
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)).into())
}

fn expanded(state: &State, text: &str, size: usize) -> Result<String, Error> {
    let tabs = text.bytes().filter(|&byte| byte == b'\t').count();
    pay(state, tabs.saturating_mul(size))?;
    let (mut out, mut column) = (String::with_capacity(text.len()), 0);
    for c in text.chars() {
        match c {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            _ => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(out)
}

/// The characters `start .. end` of a text as Python counts them, and how many stand before; none where it
/// begins beyond the end.
fn section(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(usize, &str)> {
    let length = text.chars().count() as i64;
    let place = |at: i64| if at < 0 { (at + length).max(0) } else { at };
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)).min(length));
    if start > end {
        return None;
    }
    let byte = |at: i64| text.char_indices().nth(at as usize).map_or(text.len(), |(byte, _)| byte);
    Some((start as usize, &text[byte(start)..byte(end)]))
}

fn found(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let bound = bind(&["sub", "start", "end"], args)?;
    let wanted = bound.text(0)?;
    let section = section(text, bound.integer(1)?, bound.integer(2)?);
    if method == "count" {
        return Ok(section.map_or(0, |(_, part)| part.matches(wanted).count()).into());
    }
    let place = section.and_then(|(before, part)| {
        let at = if method.starts_with('r') { part.rfind(wanted) } else { part.find(wanted) }?;
        Some(before + part[..at].chars().count())
    });
    match place {
        Some(place) => Ok(place.into()),
        None if method.ends_with("find") => Ok((-1).into()),
        None => Err(wrong(format!("{wanted:?} is not in the string"))),
    }
}

fn affixed(text: &str, at_start: bool, bound: &Bound) -> Result<bool, Error> {
    let Some((_, part)) = section(text, bound.integer(1)?, bound.integer(2)?) else { return Ok(false) };
    let is_there = |affix: &Value| match affix.as_str() {
        Some(affix) => Ok(if at_start { part.starts_with(affix) } else { part.ends_with(affix) }),
        None => Err(wrong(format!("it must be a string or a tuple of them, not {}", affix.kind()))),
    };
    let affix = bound.given(0).ok_or_else(|| wrong("an argument is missing"))?;
    if !affix.is_tuple() {
        return is_there(affix);
    }
    for affix in affix.try_iter()?.checked() {
        if is_there(&affix?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn split(text: &str, at: Option<&str>, most: usize, from_end: bool) -> Result<Value, Error> {
    let parts = |most: usize| most.saturating_add(1);
    let mut pieces: Vec<&str> = match (at.map(separator).transpose()?, from_end) {
        (Some(separator), false) => text.splitn(parts(most), separator).collect(),
        (Some(separator), true) => text.rsplitn(parts(most), separator).collect(),
        (None, false) => {
            let (mut pieces, mut rest) = (Vec::new(), text.trim_start_matches(is_space));
            while !rest.is_empty() {
                let end = rest.find(is_space).filter(|_| pieces.len() < most).unwrap_or(rest.len());
                pieces.push(&rest[..end]);
                rest = rest[end..].trim_start_matches(is_space);
            }
            pieces
        }
        (None, true) => {
            let (mut pieces, mut rest) = (Vec::new(), text.trim_end_matches(is_space));
            while !rest.is_empty() {
                let space = rest.char_indices().rfind(|&(_, c)| is_space(c)).filter(|_| pieces.len() < most);
                let begin = space.map_or(0, |(at, c)| at + c.len_utf8());
                pieces.push(&rest[begin..]);
                rest = rest[..begin].trim_end_matches(is_space);
            }
            pieces
        }
    };
    if from_end {
        pieces.reverse();
    }
    Ok(pieces.into_iter().map(Value::from).collect())
}

fn lines(text: &str, keeps: bool) -> Vec<&str> {
    let (mut lines, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = rest.char_indices().find_map(|(at, _)| line_end(&rest[at..]).map(|len| (at, len)));
        let (at, len) = end.unwrap_or((rest.len(), 0));
        lines.push(&rest[..at + if keeps { len } else { 0 }]);
        rest = &rest[at + len..];
    }
    lines
}

fn joined(state: &State, between: &str, bound: &Bound) -> Result<Value, Error> {
    let values = bound.given(0).ok_or_else(|| wrong("an argument is missing"))?;
    let mut joined = String::new();
    for (number, value) in values.try_iter()?.checked().enumerate() {
        let value = value?;
        let text = value
            .as_str()
            .ok_or_else(|| wrong(format!("item {number} is {}, not a string", value.kind())))?;
        pay(state, between.len() + text.len())?;
        if number > 0 {
            joined.push_str(between);
        }
        joined.push_str(text);
    }
    Ok(joined.into())
}
