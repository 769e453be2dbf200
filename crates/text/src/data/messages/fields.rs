//! What a row says, field by field: what was asked in every form, answers, ranks.

use serde_json::Value;

use super::super::rows::{Fault, MISSING, Record};
use super::turns::{transcript, turns};
use super::{Message, Role};

/// A field that is there; null is not.
pub(super) fn take(record: &mut Record, name: &str) -> Option<Value> {
    record.shift_remove(name).filter(|value| !value.is_null())
}

/// The messages of a row without an answer that stands beside them: `messages`, `conversations` as ShareGPT
/// has them, `prompt`, a text or a list of messages, or `instruction` and `input` as Alpaca has them; each
/// with the message of a `system` column.
pub(super) fn said(record: &mut Record) -> Result<Vec<Message>, Fault> {
    let lists = ["messages", "conversations"].map(|name| (name, take(record, name)));
    if let Some((name, list)) = lists.into_iter().find_map(|(name, list)| Some((name, list?))) {
        return Ok(with_system(turns(name, list, None)?, record));
    }
    if let Some(prompt) = take(record, "prompt") {
        return Ok(with_system(prompt_of(prompt)?, record));
    }
    if let Some(instruction) = take(record, "instruction") {
        let mut messages = history(record)?;
        messages.push(alpaca(instruction, take(record, "input"))?);
        return Ok(with_system(messages, record));
    }
    Err(missing("messages, prompt, conversations or instruction", record))
}

/// `prompt`: a text, HH-RLHF's transcript up to the answer, or messages.
fn prompt_of(prompt: Value) -> Result<Vec<Message>, Fault> {
    if let Value::String(text) = &prompt
        && let Some(mut messages) = transcript(text)
        && messages.pop_if(|last| last.role == Role::Assistant && last.content.is_empty()).is_some()
    {
        return Ok(messages);
    }
    turns("prompt", prompt, Some(Role::User))
}

/// The messages with that of a `system` column before them, if it says something and none of them is one.
pub(super) fn with_system(mut messages: Vec<Message>, record: &mut Record) -> Vec<Message> {
    if let Some(Value::String(system)) = record.get("system").cloned()
        && messages.first().is_some_and(|first| first.role != Role::System)
    {
        record.shift_remove("system");
        if !system.trim().is_empty() {
            messages.insert(0, Message::new(Role::System, system));
        }
    }
    messages
}

/// Alpaca's instruction and what it is about (Taori et al. 2023), a line each.
fn alpaca(instruction: Value, input: Option<Value>) -> Result<Message, Fault> {
    let text = |name: &str, value: Option<Value>| match value {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Fault::bad("wrong type", format!("{name} is not a string"))),
    };
    let parts = [text("instruction", Some(instruction))?, text("input", input)?];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.trim().is_empty()).collect();
    Ok(Message::new(Role::User, parts.join("\n")))
}

/// Alpaca's `history`: pairs of a question and its answer.
fn history(record: &mut Record) -> Result<Vec<Message>, Fault> {
    let wrong = || Fault::bad("wrong type", "history is not a list of pairs of texts");
    let pairs: Vec<[String; 2]> = match take(record, "history") {
        None => Vec::new(),
        Some(pairs) => serde_json::from_value(pairs).map_err(|_| wrong())?,
    };
    let turn = |[asked, answer]: [String; 2]| {
        [Message::new(Role::User, asked), Message::new(Role::Assistant, answer)]
    };
    Ok(pairs.into_iter().flat_map(turn).collect())
}

/// A whole conversation in `chosen` or `rejected`: messages of which the first asks, or HH-RLHF's transcript.
/// None where the value is an answer alone.
pub(super) fn whole(name: &str, value: &Value) -> Result<Option<Vec<Message>>, Fault> {
    let messages = match value {
        Value::String(text) => transcript(text),
        Value::Array(_) => Some(turns(name, value.clone(), None)?),
        _ => None,
    };
    Ok(messages.filter(|messages| messages.first().is_none_or(|first| first.role != Role::Assistant)))
}

/// `completions`: texts.
pub(super) fn completions_of(record: &mut Record) -> Result<Vec<String>, Fault> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        _ => Err(Fault::bad("wrong type", "completions has something else than strings")),
    };
    match take(record, "completions") {
        Some(Value::Array(list)) => list.into_iter().map(text).collect(),
        Some(_) => Err(Fault::bad("wrong type", "completions is not an array")),
        None => Err(missing("completions", record)),
    }
}

/// `ranks`: a whole number from 1 for each of so many answers.
pub(super) fn ranks_of(record: &mut Record, answers: usize) -> Result<Vec<u32>, Fault> {
    let list = match take(record, "ranks") {
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Fault::bad("wrong type", "ranks is not an array")),
        None => return Err(missing("ranks", record)),
    };
    if list.len() != answers {
        let detail = format!("{} ranks for {answers} answers", list.len());
        return Err(Fault::bad("ranks do not fit the answers", detail));
    }
    let rank = |value: &Value| {
        let rank = value.as_u64().and_then(|rank| u32::try_from(rank).ok()).filter(|&rank| rank > 0);
        rank.ok_or_else(|| {
            Fault::bad("wrong type", format!("a rank is {value}: they are whole numbers from 1"))
        })
    };
    list.iter().map(rank).collect()
}

/// The fault of a line without a field that it needs.
pub(in crate::data) fn missing(wanted: &str, record: &Record) -> Fault {
    let names: Vec<&str> = record.keys().map(String::as_str).take(8).collect();
    let there = if names.is_empty() { "nothing else".into() } else { names.join(", ") };
    Fault::bad(MISSING, format!("no {wanted}; there is {there:.120}"))
}
