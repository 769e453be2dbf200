//! What a chat template writes of tools: their descriptions, the calls of the assistant, what they returned.

use super::render::Renderer;
use super::{Message, Role};
use serde_json::{Value, json};

/// Which of it a template writes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ToolUse {
    pub(super) descriptions: bool,
    calls: bool,
    results: bool,
}

impl ToolUse {
    /// Found out by a conversation that has all of it; with it, whether the content of a call is null.
    pub(super) fn of(renderer: &mut Renderer) -> ToolUse {
        let call = json!([{ "id": "call00001", "type": "function", "function": { "name": "probecall", "arguments": {} } }]);
        let mut calls = Message::new(Role::Assistant, "");
        calls.more.insert("tool_calls".into(), call);
        let mut result = Message::new(Role::Tool, "proberesult");
        result.more.insert("tool_call_id".into(), "call00001".into());
        result.more.insert("name".into(), "probecall".into());
        let probe = [Message::new(Role::User, "a"), calls, result, Message::new(Role::Assistant, "b")];
        let about = json!({ "type": "object", "properties": {}, "required": [] });
        let tools = json!([{
            "type": "function",
            "function": { "name": "probetool", "description": "c", "parameters": about },
        }]);
        let write = |renderer: &Renderer, messages: &[Message], tools: Option<&Value>| {
            renderer.render(messages, tools, false).unwrap_or_default()
        };
        let descriptions = write(renderer, &probe[..1], Some(&tools)).contains("probetool");
        for null_calls in [true, false] {
            renderer.null_calls = null_calls;
            let text = write(renderer, &probe, None);
            let [calls, results] = ["probecall", "proberesult"].map(|what| text.contains(what));
            if calls {
                return ToolUse { descriptions, calls, results };
            }
        }
        // A role like any other, as far as it is concerned.
        let plain = [probe[0].clone(), probe[3].clone(), probe[2].clone()];
        ToolUse { descriptions, calls: false, results: write(renderer, &plain, None).contains("proberesult") }
    }

    /// What of these messages is not written.
    pub(super) fn lacks(self, messages: &[Message]) -> Option<&'static str> {
        let has = |is: &dyn Fn(&Message) -> bool| messages.iter().any(is);
        match self {
            ToolUse { calls: false, .. } if has(&Message::calls_tools) => Some("calls of tools"),
            ToolUse { results: false, .. } if has(&|message| message.role == Role::Tool) => Some("what tools return"),
            _ => None,
        }
    }
}
