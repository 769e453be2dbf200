//! What a chat template writes of tools: their descriptions, the calls of the assistant, what they returned.

use super::calls::CallForm;
use super::jinja::Renderer;
use super::{Message, Role};
use anyhow::Result;
use serde_json::{Value, json};

/// Which of it a template writes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToolUse {
    pub(super) descriptions: bool,
    calls: bool,
    results: bool,
    /// How the assistant's calls are written.
    pub(super) form: CallForm,
    /// Whether the content of a message that does nothing but call tools is null, as OpenAI writes it; else
    /// it is empty.
    null_calls: bool,
}

impl ToolUse {
    /// Found out by a conversation that has all of it.
    pub(super) fn of(renderer: &Renderer) -> Result<ToolUse> {
        let call = json!([{ "id": "call00001", "type": "function", "function": { "name": "probecall", "arguments": {} } }]);
        let mut calls = Message::new(Role::Assistant, "");
        calls.more.insert("tool_calls".into(), call);
        let mut result = Message::new(Role::Tool, "proberesult");
        result.more.insert("tool_call_id".into(), "call00001".into());
        result.more.insert("name".into(), "probecall".into());
        let probe = [Message::new(Role::User, "a"), calls, result, Message::new(Role::Assistant, "b")];
        let about = json!({ "type": "object", "properties": {}, "required": [] });
        let function = json!({ "name": "probetool", "description": "c", "parameters": about });
        let tools = json!([{ "type": "function", "function": function }]);
        // What a template refuses, it does not write.
        let write = |way: ToolUse, messages: &[&Message], tools: Option<&Value>| -> Result<String> {
            let messages: Vec<Value> =
                messages.iter().map(|message| way.fields(message)).collect::<Result<_>>()?;
            Ok(renderer.render(&messages, tools, false).unwrap_or_default())
        };
        let [asks, calls, result, says] = &probe;
        let mut way = ToolUse::default();
        way.descriptions = write(way, &[asks], Some(&tools))?.contains("probetool");
        for null_calls in [true, false] {
            way.null_calls = null_calls;
            let text = write(way, &[asks, calls, result, says], None)?;
            if text.contains("probecall") {
                let (results, form) = (text.contains("proberesult"), CallForm::of(&text));
                return Ok(ToolUse { calls: true, results, form, ..way });
            }
        }
        // Of no concern to the template, but it may write the role as it writes others.
        way.results = write(way, &[asks, says, result], None)?.contains("proberesult");
        Ok(way)
    }

    /// A message as the template sees it: all its fields, but those that are null and its weight; what a
    /// model thought under each of the names in use.
    pub(super) fn fields(self, message: &Message) -> Result<Value> {
        const THOUGHTS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
        let mut value = serde_json::to_value(message)?;
        if let Value::Object(fields) = &mut value {
            fields.retain(|name, value| name != "weight" && !value.is_null());
            if let Some(thought) = THOUGHTS.iter().find_map(|name| fields.get(*name).cloned()) {
                fields.entry("thinking").or_insert_with(|| thought.clone());
                fields.insert("reasoning_content".to_owned(), thought);
            }
        }
        if self.null_calls && message.content.is_empty() && message.calls_tools() {
            value["content"] = Value::Null;
        }
        Ok(value)
    }

    /// Whether a model can be told of tools, call them, and be told what they return.
    pub(super) fn is_whole(self) -> bool {
        self.descriptions && self.calls && self.results
    }

    /// What of these messages is not written.
    pub(super) fn lacks(self, messages: &[Message]) -> Option<&'static str> {
        if !self.calls && messages.iter().any(Message::calls_tools) {
            return Some("calls of tools");
        }
        let results = messages.iter().any(|message| message.role == Role::Tool);
        (results && !self.results).then_some("what tools return")
    }
}
