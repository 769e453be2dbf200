//! Calls of tools in what a model wrote, as its chat template writes them.

use super::{Message, Role};
use serde_json::{Map, Value, json};

/// What stands before and after a call, as Qwen2.5 and mynah's own template have it.
const TAGS: [&str; 2] = ["<tool_call>", "</tool_call>"];

/// How a template writes the assistant's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CallForm {
    /// Each as JSON between [`TAGS`], after the content.
    #[default]
    Tagged,
    /// One, as JSON in place of a content (Llama 3.1).
    Bare,
}

/// What stands around the name and the arguments of a call: `open {"name": …, KEY: …} close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallFrame {
    /// What begins a call: tokens of their own, or none.
    pub open: &'static [&'static str],
    /// The key of its arguments.
    pub arguments: &'static str,
    /// What ends it.
    pub close: &'static [&'static str],
}

impl CallForm {
    /// What a call looks like.
    pub(super) fn frame(self) -> CallFrame {
        match self {
            CallForm::Tagged => {
                CallFrame { open: &[TAGS[0], "\n"], arguments: "arguments", close: &["\n", TAGS[1]] }
            }
            CallForm::Bare => CallFrame { open: &[], arguments: "parameters", close: &[] },
        }
    }

    /// The form of what a template wrote of a call.
    pub(super) fn of(written: &str) -> CallForm {
        if written.contains(TAGS[0]) { CallForm::Tagged } else { CallForm::Bare }
    }

    /// What the assistant said by writing `text`: content, and the calls that are whole. Where one is malformed
    /// none is a call, and all of it is content.
    pub(super) fn read(self, text: &str) -> Message {
        let calls = match self {
            CallForm::Tagged => tagged(text),
            CallForm::Bare => call(text).map(|call| ("", vec![call])),
        };
        let Some((content, calls)) = calls.filter(|(_, calls)| !calls.is_empty()) else {
            return Message::new(Role::Assistant, text);
        };
        let mut message = Message::new(Role::Assistant, content.trim_end());
        message.more.insert("tool_calls".into(), calls.into());
        message
    }

    /// How much of an answer that goes on is content for certain: what comes before that which may be a call.
    pub(super) fn content_len(self, text: &str) -> usize {
        match self {
            CallForm::Tagged => {
                let tag = TAGS[0];
                let begun = |len: &usize| text.ends_with(&tag[..*len]);
                text.find(tag).unwrap_or_else(|| text.len() - (1..tag.len()).rev().find(begun).unwrap_or(0))
            }
            CallForm::Bare if text.trim_start().is_empty() || text.trim_start().starts_with('{') => 0,
            CallForm::Bare => text.len(),
        }
    }
}

/// The arguments of a call as templates write them: an object, of which files and clients have the text. None are an
/// empty one.
pub fn arguments(given: &Value) -> Option<Map<String, Value>> {
    match given {
        Value::Null => Some(Map::new()),
        Value::String(text) if text.trim().is_empty() => Some(Map::new()),
        Value::String(text) => serde_json::from_str(text).ok(),
        Value::Object(arguments) => Some(arguments.clone()),
        _ => None,
    }
}

/// Puts what tools returned into the order of the calls, where ids say of all which is which: most templates write no ids,
/// and a model takes the first result for the first call's.
pub fn order_results(messages: &mut [Message]) {
    let mut rest = messages;
    while let Some(at) = rest.iter().position(Message::calls_tools) {
        let (before, after) = rest.split_at_mut(at + 1);
        let ids: Vec<&Value> = before[at].call_ids().collect();
        let place = |result: &Message| {
            let id = result.more.get("tool_call_id").filter(|id| id.is_string())?;
            ids.iter().position(|of| *of == id)
        };
        let count = after.iter().take_while(|message| message.role == Role::Tool).count();
        if after[..count].iter().all(|result| place(result).is_some()) {
            after[..count].sort_by_key(place);
        }
        rest = after;
    }
}

/// The content before the first tag, and the calls.
fn tagged(text: &str) -> Option<(&str, Vec<Value>)> {
    let (content, mut rest) = text.split_once(TAGS[0])?;
    let mut calls = Vec::new();
    loop {
        let (inside, after) = rest.split_once(TAGS[1])?;
        calls.push(call(inside)?);
        match after.split_once(TAGS[0]) {
            Some((_, next)) => rest = next,
            None => return Some((content, calls)),
        }
    }
}

/// A call of JSON: a name, and arguments, which some call parameters.
fn call(text: &str) -> Option<Value> {
    let mut call: Map<String, Value> = serde_json::from_str(text.trim()).ok()?;
    let arguments = ["arguments", "parameters"].into_iter().find_map(|name| call.remove(name))?;
    let name = call.remove("name").filter(Value::is_string)?;
    arguments
        .is_object()
        .then(|| json!({ "type": "function", "function": { "name": name, "arguments": arguments } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADD: &str = r#"{"name": "add", "arguments": {"a": 1}}"#;

    fn calls(form: CallForm, text: &str) -> (String, Vec<(String, Value)>) {
        let message = form.read(text);
        let calls = message.more.get("tool_calls").and_then(Value::as_array).cloned().unwrap_or_default();
        let of = |call: &Value| {
            (call["function"]["name"].as_str().unwrap().to_owned(), call["function"]["arguments"].clone())
        };
        (message.content, calls.iter().map(of).collect())
    }

    #[test]
    fn calls_are_read_as_templates_write_them() {
        let add = || ("add".to_owned(), json!({ "a": 1 }));
        let tagged = |text: &str| calls(CallForm::Tagged, text);
        assert_eq!(tagged(&format!("<tool_call>\n{ADD}\n</tool_call>")), (String::new(), vec![add()]));
        let two = format!("I look.\n<tool_call>{ADD}</tool_call>\n<tool_call>\n{ADD}\n</tool_call>\n");
        assert_eq!(tagged(&two), ("I look.".into(), vec![add(), add()]));
        let bare = |text: &str| calls(CallForm::Bare, text);
        assert_eq!(bare(&ADD.replace("arguments", "parameters")), (String::new(), vec![add()]));
        assert_eq!(bare(&format!("So: {ADD}")), (format!("So: {ADD}"), vec![]));
    }

    #[test]
    fn what_is_malformed_is_text() {
        for text in [
            "2 + 3 = 5",
            "<tool_call>",
            "<tool_call>{\"name\": \"add\"}</tool_call>",
            "<tool_call>{\"name\": 3, \"arguments\": {}}</tool_call>",
            "<tool_call>{\"name\": \"add\", \"arguments\": \"a\"}</tool_call>",
            &format!("<tool_call>{ADD}</tool_call><tool_call>{{</tool_call>"),
            &format!("<tool_call>{ADD}"),
        ] {
            assert_eq!(calls(CallForm::Tagged, text), (text.to_owned(), vec![]));
        }
    }

    #[test]
    fn results_are_in_the_order_of_their_calls() {
        let calling = |ids: &[&str]| {
            let mut message = Message::new(Role::Assistant, "");
            message.more.insert("tool_calls".into(), ids.iter().map(|id| json!({ "id": id })).collect());
            message
        };
        let result = |id: &str| {
            let mut message = Message::new(Role::Tool, id);
            message.more.insert("tool_call_id".into(), id.into());
            message
        };
        let unnamed = || Message::new(Role::Tool, "?");
        for (results, ordered) in [
            (vec![result("c"), result("a"), result("b")], "abc"),
            (vec![result("b"), unnamed(), result("a")], "b?a"),
            (vec![result("b"), result("x"), result("a")], "bxa"),
            (vec![], ""),
        ] {
            let mut messages =
                vec![Message::new(Role::User, "q"), calling(&["z", "y"]), result("y"), result("z")];
            messages.push(calling(&["a", "b", "c"]));
            messages.extend(results);
            messages.push(Message::new(Role::Assistant, "!"));
            order_results(&mut messages);
            let said: String = messages.iter().map(|message| message.content.as_str()).collect();
            assert_eq!(said, format!("qzy{ordered}!"));
        }
    }

    #[test]
    fn what_may_be_a_call_is_held_back() {
        for (text, shown) in
            [("abc", 3), ("abc<", 3), ("a<tool", 1), ("a<tox", 5), ("a<tool_call>{", 1), ("<<", 1)]
        {
            assert_eq!(CallForm::Tagged.content_len(text), shown, "{text}");
        }
        assert_eq!([" ", "{\"a", "So"].map(|text| CallForm::Bare.content_len(text)), [0, 0, 2]);
    }
}
