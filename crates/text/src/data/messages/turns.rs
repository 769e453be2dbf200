//! Messages as files hold them: `role` and `content` as OpenAI writes them, `from` and `value` as ShareGPT
//! does, calls of tools and what they returned; and the order of roles.

use serde_json::{Map, Value, json};

use super::super::rows::Fault;
use super::{Message, Role};
use crate::tokenizer::chat::{arguments, order_results};

/// Who speaks, by every name that files have for it.
const NAMES: [(&str, Role); 18] = [
    ("system", Role::System),
    ("developer", Role::System),
    ("user", Role::User),
    ("human", Role::User),
    ("assistant", Role::Assistant),
    ("gpt", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("bot", Role::Assistant),
    ("model", Role::Assistant),
    ("function_call", Role::Assistant),
    ("tool_call", Role::Assistant),
    ("tool", Role::Tool),
    ("function", Role::Tool),
    ("observation", Role::Tool),
    ("tool_response", Role::Tool),
    ("tool_result", Role::Tool),
    ("function_response", Role::Tool),
    ("ipython", Role::Tool),
];

/// A list of messages; where `role` says whose it would be, also a text or a single message.
pub(super) fn turns(name: &str, value: Value, role: Option<Role>) -> Result<Vec<Message>, Fault> {
    match (value, role) {
        (Value::String(text), Some(role)) => Ok(vec![Message::new(role, text)]),
        (Value::Object(fields), Some(_)) => Ok(vec![message(name, fields)?]),
        (Value::Array(list), _) => {
            let one = |(number, value): (usize, Value)| match value {
                Value::Object(fields) => message(&format!("{name}[{number}]"), fields),
                _ => Err(wrong(format!("{name}[{number}] is not an object"))),
            };
            let mut messages = list.into_iter().enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
            order_results(&mut messages);
            Ok(messages)
        }
        (_, Some(_)) => Err(wrong(format!("{name} is neither a text nor an array of messages"))),
        (_, None) => Err(wrong(format!("{name} is not an array of messages"))),
    }
}

/// One message. What else it has beside role and content is kept for the template, but for nulls, with which
/// tables fill what a message does not have.
fn message(place: &str, mut fields: Map<String, Value>) -> Result<Message, Fault> {
    fields.retain(|_, value| !value.is_null());
    let (said_by, says) = if fields.contains_key("from") && !fields.contains_key("role") {
        ("from", "value")
    } else {
        ("role", "content")
    };
    let name = match fields.shift_remove(said_by) {
        Some(Value::String(name)) => name,
        _ => return Err(wrong(format!("{place}.{said_by} is not a string"))),
    };
    let known = NAMES.into_iter().find(|(known, _)| *known == name);
    let (_, role) =
        known.ok_or_else(|| Fault::bad("unknown role", format!("{place}.{said_by} is {name:.40}")))?;
    let said = fields.shift_remove(says);
    if let Some(call) = fields.shift_remove("function_call") {
        fields.insert("tool_calls".into(), json!([call]));
    }
    let content = match said {
        // A call that stands in place of a text.
        Some(Value::String(call)) if name == "function_call" || name == "tool_call" => {
            let calls: Value = serde_json::from_str(&call)
                .map_err(|error| wrong(format!("{place}.{says} is not a call in JSON: {error}")))?;
            fields.insert("tool_calls".into(), if calls.is_array() { calls } else { json!([calls]) });
            String::new()
        }
        Some(said) => text(&format!("{place}.{says}"), said)?,
        None if role == Role::Tool || fields.contains_key("tool_calls") => String::new(),
        None => return Err(wrong(format!("{place}.{says} is not there"))),
    };
    if let Some(calls) = fields.shift_remove("tool_calls") {
        let calls = tool_calls(place, calls)?;
        if !calls.is_empty() {
            if role != Role::Assistant {
                return Err(wrong(format!(
                    "{place}.tool_calls are {}'s: only the assistant calls",
                    role.name()
                )));
            }
            fields.insert("tool_calls".into(), calls.into());
        }
    }
    if let Some(weight) = fields.get("weight")
        && ![Some(0.0), Some(1.0)].contains(&weight.as_f64())
    {
        return Err(wrong(format!("{place}.weight is {weight:.40}: it is 0 or 1")));
    }
    Ok(Message { role, content, more: fields })
}

/// A text, or a list of parts that are texts, which become one.
fn text(place: &str, value: Value) -> Result<String, Fault> {
    let Value::Array(parts) = value else {
        return match value {
            Value::String(text) => Ok(text),
            _ => Err(wrong(format!("{place} is not a string"))),
        };
    };
    let part = |(number, part): (usize, &Value)| match (part.as_str(), part["text"].as_str()) {
        (Some(text), _) | (None, Some(text)) => Ok(text.to_owned()),
        _ => {
            let kind = part["type"].as_str().unwrap_or("something else");
            Err(Fault::left_out("content that is not text", format!("{place}[{number}] is {kind:.40}")))
        }
    };
    parts.iter().enumerate().map(part).collect()
}

/// The calls of tools, whose arguments become JSON where they are its text: templates write them as JSON. What is no
/// JSON object nobody could read as a call again, once a model has learned to write it.
fn tool_calls(place: &str, value: Value) -> Result<Vec<Value>, Fault> {
    let Value::Array(mut calls) = value else {
        return Err(wrong(format!("{place}.tool_calls is not an array")));
    };
    for (number, call) in calls.iter_mut().enumerate() {
        let function = match call.get("function") {
            Some(_) => &mut call["function"],
            None => &mut *call,
        };
        if function["name"].as_str().is_none_or(str::is_empty) {
            return Err(wrong(format!("{place}.tool_calls[{number}] names no function")));
        }
        // As Llama calls them.
        let fields = function.as_object_mut();
        if let Some(fields) = fields.filter(|fields| !fields.contains_key("arguments"))
            && let Some(parameters) = fields.shift_remove("parameters")
        {
            fields.insert("arguments".into(), parameters);
        }
        let given = arguments(&function["arguments"]);
        let detail = || format!("those of {place}.tool_calls[{number}]");
        function["arguments"] =
            given.ok_or_else(|| Fault::bad("arguments of a call that are no JSON object", detail()))?.into();
        if call.get("function").is_none() {
            *call = json!({ "type": "function", "function": call });
        }
    }
    Ok(calls)
}

/// The tools that a row describes, in `tools` or, as it was before, in `functions`: a list, also as JSON in a
/// text.
pub(super) fn tools_of(record: &mut Map<String, Value>) -> Result<Option<Value>, Fault> {
    let named = ["tools", "functions"].map(|name| (name, record.shift_remove(name)));
    let Some((name, value)) = named.into_iter().find_map(|(name, value)| Some((name, value?))) else {
        return Ok(None);
    };
    let value = match value {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::String(text) => serde_json::from_str(&text)
            .map_err(|error| wrong(format!("{name} is a text that is not JSON: {error}")))?,
        value => value,
    };
    let whole = |tool: Value| match tool.get("function") {
        None if tool["name"].is_string() => json!({ "type": "function", "function": tool }),
        _ => tool,
    };
    match value {
        Value::Null => Ok(None),
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(list) => {
            let list: Vec<Value> = list.into_iter().map(whole).collect();
            match list.iter().position(|tool| !tool["function"]["name"].is_string()) {
                Some(number) => Err(wrong(format!("{name}[{number}] names no function"))),
                None => Ok(Some(list.into())),
            }
        }
        _ => Err(wrong(format!("{name} is not a list of tools"))),
    }
}

/// A system message may come first; then user and assistant take turns, the user first, and tools answer the
/// assistant that called them. The last word is the assistant's, or of whom the assistant is to answer.
/// Nobody says nothing: only a system message, a tool, and who calls a tool may.
pub(super) fn check_order(messages: &[Message], answered: bool) -> Result<(), Fault> {
    let out_of_order = |detail: String| Err(Fault::bad("roles out of order", detail));
    let mut before: Option<&Message> = None;
    for (number, message) in (1..).zip(messages) {
        let follows = match (before.map(|before| before.role), message.role) {
            (None, role) => matches!(role, Role::System | Role::User),
            (Some(Role::System), role) => role == Role::User,
            (Some(Role::User), role) => role == Role::Assistant,
            (Some(Role::Assistant), Role::Tool) => before.is_some_and(Message::calls_tools),
            (Some(Role::Assistant), role) => role == Role::User,
            (Some(Role::Tool), role) => role != Role::System,
        };
        let role = message.role.name();
        if !follows {
            return out_of_order(match before {
                None => format!("the first message is {role}'s, not user's"),
                Some(Message { role: Role::Assistant, .. }) if message.role == Role::Tool => {
                    format!("message {number} is tool's, but the assistant before it calls none")
                }
                Some(before) => format!("message {number} is {role}'s, right after {}'s", before.role.name()),
            });
        }
        let may_be_empty = matches!(message.role, Role::System | Role::Tool) || message.calls_tools();
        if message.content.trim().is_empty() && !may_be_empty {
            return Err(Fault::bad("empty message", format!("message {number}, {role}'s")));
        }
        before = Some(message);
    }
    match before.map(|last| last.role) {
        None => Err(Fault::bad("no messages", "")),
        Some(Role::Assistant) if answered => Ok(()),
        Some(Role::User | Role::Tool) if !answered => Ok(()),
        Some(last) => {
            let wanted = if answered { "assistant" } else { "user" };
            out_of_order(format!("the last message is {}'s, not {wanted}'s", last.name()))
        }
    }
}

/// `\n\nHuman: …\n\nAssistant: …`, as HH-RLHF writes conversations (Bai et al. 2022), also without the white
/// space before the first.
pub(super) fn transcript(text: &str) -> Option<Vec<Message>> {
    const SPEAKERS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];
    let whole = format!("\n\n{}", text.trim_start());
    let mut rest = whole.as_str();
    let mut messages = Vec::new();
    while let Some((name, role)) = SPEAKERS.into_iter().find(|(name, _)| rest.starts_with(name)) {
        let said = &rest[name.len()..];
        let end = SPEAKERS.into_iter().filter_map(|(name, _)| said.find(name)).min().unwrap_or(said.len());
        messages.push(Message::new(role, said[..end].trim()));
        rest = &said[end..];
    }
    (!messages.is_empty()).then_some(messages)
}

fn wrong(detail: String) -> Fault {
    Fault::bad("wrong type", detail)
}
