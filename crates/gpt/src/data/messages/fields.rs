//! The fields of conversations in files, and the order of roles.

use serde_json::Value;

use super::super::rows::{Fault, Record};
use super::{Message, Role};

/// The messages of a prompt: `messages`, or `prompt`, a text or a list of messages.
pub(super) fn prompt_of(record: &mut Record) -> Result<Vec<Message>, Fault> {
    if let Some(messages) = record.shift_remove("messages") {
        return turns("messages", messages, None);
    }
    match record.shift_remove("prompt") {
        Some(prompt) => turns("prompt", prompt, Some(Role::User)),
        None => Err(missing("messages or prompt", record)),
    }
}

/// A list of messages; where `role` says whose it would be, also a text, which is one message.
pub(super) fn turns(name: &str, value: Value, role: Option<Role>) -> Result<Vec<Message>, Fault> {
    let wrong = |what: String| Fault::bad("wrong type", what);
    match (value, role) {
        (Value::String(text), Some(role)) => Ok(vec![Message::new(role, text)]),
        (Value::Array(list), _) => {
            let message = |(number, value): (usize, Value)| {
                let place = format!("{name}[{number}]");
                let Value::Object(mut fields) = value else {
                    return Err(wrong(format!("{place} is not an object")));
                };
                let role = match fields.get("role") {
                    Some(Value::String(role)) => role_of(role)
                        .ok_or_else(|| Fault::bad("unknown role", format!("{place}.role is {role:.40}")))?,
                    _ => return Err(wrong(format!("{place}.role is not a string"))),
                };
                match fields.remove("content") {
                    Some(Value::String(content)) => Ok(Message { role, content }),
                    _ => Err(wrong(format!("{place}.content is not a string"))),
                }
            };
            list.into_iter().enumerate().map(message).collect()
        }
        (_, Some(_)) => Err(wrong(format!("{name} is neither a string nor an array of messages"))),
        (_, None) => Err(wrong(format!("{name} is not an array of messages"))),
    }
}

fn role_of(name: &str) -> Option<Role> {
    [Role::System, Role::User, Role::Assistant].into_iter().find(|role| role.name() == name)
}

/// A system message may come first; then user and assistant take turns, the user first; `last` has the last word, and
/// nobody says nothing.
pub(super) fn check_order(messages: &[Message], last: Role) -> Result<(), Fault> {
    let Some(end) = messages.last() else { return Err(Fault::bad("no messages", "")) };
    let has_system = messages[0].role == Role::System;
    for (number, message) in messages.iter().enumerate() {
        let expected = match number.checked_sub(usize::from(has_system)) {
            None => Role::System,
            Some(turn) if turn % 2 == 0 => Role::User,
            Some(_) => Role::Assistant,
        };
        if message.role != expected {
            let (found, expected) = (message.role.name(), expected.name());
            let detail = format!("message {} is {found}'s, not {expected}'s", number + 1);
            return Err(Fault::bad("roles out of order", detail));
        }
        if message.content.trim().is_empty() {
            return Err(Fault::bad(
                "empty message",
                format!("message {}, {}'s", number + 1, message.role.name()),
            ));
        }
    }
    if end.role != last {
        let detail = format!("the last message is {}'s, not {}'s", end.role.name(), last.name());
        return Err(Fault::bad("roles out of order", detail));
    }
    Ok(())
}

/// `completions`: texts.
pub(super) fn completions_of(record: &mut Record) -> Result<Vec<String>, Fault> {
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        _ => Err(Fault::bad("wrong type", "completions has something else than strings")),
    };
    match record.shift_remove("completions") {
        Some(Value::Array(list)) => list.into_iter().map(text).collect(),
        Some(_) => Err(Fault::bad("wrong type", "completions is not an array")),
        None => Err(missing("completions", record)),
    }
}

/// `ranks`: a whole number from 1 for each of so many answers.
pub(super) fn ranks_of(record: &mut Record, answers: usize) -> Result<Vec<u32>, Fault> {
    let list = match record.shift_remove("ranks") {
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
    Fault::bad("missing field", format!("no {wanted}; there is {there:.120}"))
}

/// `\n\nHuman: …\n\nAssistant: …`, as HH-RLHF writes conversations (Bai et al. 2022).
pub(super) fn transcript(text: &str) -> Option<Vec<Message>> {
    const SPEAKERS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];
    let speaker = |text: &str| SPEAKERS.into_iter().find(|(name, _)| text.starts_with(name));
    let mut rest = text;
    let mut messages = Vec::new();
    while let Some((name, role)) = speaker(rest) {
        let said = &rest[name.len()..];
        let next = said.match_indices("\n\n").map(|(at, _)| at).find(|&at| speaker(&said[at..]).is_some());
        let (said, after) = said.split_at(next.unwrap_or(said.len()));
        messages.push(Message::new(role, said.trim()));
        rest = after;
    }
    (!messages.is_empty()).then_some(messages)
}
