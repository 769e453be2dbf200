//! Tools that clients offer: who may be called, what was called, and calls in answers.

use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use text::data::Prompter;
use text::tokenizer::Tokenizer;
use text::tokenizer::chat::{Message, Role};
use utoipa::ToSchema;

use super::error::ApiError;
use crate::model::Model;

/// A call of a tool, as clients read it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ToolCall {
    /// In a stream, which call of the answer this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<usize>,
    pub(crate) id: String,
    /// `function`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) function: FunctionCall,
}

/// What is called.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FunctionCall {
    pub(crate) name: String,
    /// JSON, as a text.
    pub(crate) arguments: String,
}

/// The tools that a model is told of; none where none are, or where it shall call none.
///
/// # Errors
/// They are no functions; it shall call one of them whatever it thinks; its chat template has no place for them.
pub(crate) fn offered(
    model: &Model,
    tools: Option<&Value>,
    choice: Option<&Value>,
) -> Result<Option<Value>, ApiError> {
    match choice {
        None | Some(Value::Null) => {}
        Some(Value::String(choice)) if choice == "auto" => {}
        Some(Value::String(choice)) if choice == "none" => return Ok(None),
        Some(_) => {
            let message = "tool_choice: the model decides whether it calls a tool: give auto or none";
            return Err(ApiError::param("tool_choice", message).code("unsupported_parameter"));
        }
    }
    let Some(tools) = tools.filter(|tools| !tools.is_null()) else { return Ok(None) };
    let list = tools.as_array().ok_or_else(|| ApiError::param("tools", "tools: not a list"))?;
    for (i, tool) in list.iter().enumerate() {
        let param = format!("tools[{i}]");
        if tool["type"].as_str().is_some_and(|kind| kind != "function") {
            let message = format!("{param}.type: {} is not supported: function", tool["type"]);
            return Err(ApiError::param("tools", message).code("unsupported_parameter"));
        }
        if !tool["function"]["name"].is_string() {
            return Err(ApiError::param("tools", format!("{param}.function.name: missing")));
        }
    }
    if list.is_empty() {
        return Ok(None);
    }
    let prompter = model.prompter.as_ref().map_err(ApiError::invalid)?;
    let checked = prompter.check_tools();
    checked.map_err(|error| {
        ApiError::param("tools", format!("tools: {error:#}")).code("unsupported_parameter")
    })?;
    Ok(Some(tools.clone()))
}

/// Calls in a message of a client's, their arguments as templates write them.
///
/// # Errors
/// A call names no function; its arguments are no JSON object.
pub(super) fn called(place: &str, calls: &Value) -> Result<Vec<Value>, ApiError> {
    let param = format!("{place}.tool_calls");
    let wrong = |what: String| ApiError::param(&param, format!("{param}{what}"));
    let list = calls.as_array().ok_or_else(|| wrong(": not a list".into()))?;
    let call = |(i, call): (usize, &Value)| {
        let function = &call["function"];
        let name = function["name"].as_str();
        let name = name.ok_or_else(|| wrong(format!("[{i}].function.name: missing")))?;
        let arguments: Option<Map<String, Value>> = match &function["arguments"] {
            Value::String(text) if text.trim().is_empty() => Some(Map::new()),
            Value::String(text) => serde_json::from_str(text).ok(),
            Value::Object(arguments) => Some(arguments.clone()),
            _ => None,
        };
        let arguments = arguments
            .ok_or_else(|| wrong(format!("[{i}].function.arguments: not the text of a JSON object")))?;
        Ok(
            json!({ "id": call["id"], "type": "function", "function": { "name": name, "arguments": arguments } }),
        )
    };
    list.iter().enumerate().map(call).collect()
}

/// Refuses results that nobody asked for.
///
/// # Errors
/// A tool's message follows no calls.
pub(super) fn check_order(messages: &[Message]) -> Result<(), ApiError> {
    for (i, pair) in messages.windows(2).enumerate() {
        let [before, message] = pair else { continue };
        let may = before.role == Role::Tool || before.calls_tools();
        if message.role == Role::Tool && !may {
            return Err(unasked(i + 1));
        }
    }
    match messages.first() {
        Some(first) if first.role == Role::Tool => Err(unasked(0)),
        _ => Ok(()),
    }
}

fn unasked(i: usize) -> ApiError {
    let param = format!("messages[{i}].role");
    let message = format!("{param}: what a tool returns follows the assistant's tool_calls");
    ApiError::param(&param, message)
}

/// An answer that is being written, where tools may be called in it.
#[derive(Default)]
pub(super) struct Written {
    text: String,
    told: usize,
}

impl Written {
    /// What of it became content for certain with `text`.
    pub(super) fn push(&mut self, prompter: &Prompter<Arc<Tokenizer>>, text: &str) -> String {
        self.text.push_str(text);
        let until = prompter.content_len(&self.text).max(self.told);
        let new = self.text[self.told..until].to_owned();
        self.told = until;
        new
    }

    /// The content that was not told, and the calls of an answer that is whole.
    pub(super) fn end(
        self,
        prompter: &Prompter<Arc<Tokenizer>>,
        id: &str,
        choice: usize,
        is_whole: bool,
    ) -> (String, Vec<ToolCall>) {
        let calls = if is_whole { calls(&prompter.said(&self.text), id, choice) } else { Vec::new() };
        let rest = if calls.is_empty() { self.text[self.told..].to_owned() } else { String::new() };
        (rest, calls)
    }
}

/// The calls of a message, with ids that occur once.
pub(super) fn calls(message: &Message, id: &str, choice: usize) -> Vec<ToolCall> {
    let call = |(n, (name, arguments)): (usize, (&str, &Value))| {
        let digest = blake3::hash(format!("{id} {choice} {n}").as_bytes()).to_hex();
        let function = FunctionCall { name: name.to_owned(), arguments: arguments.to_string() };
        ToolCall { index: None, id: format!("call_{}", &digest[..24]), kind: "function", function }
    };
    message.calls().enumerate().map(call).collect()
}
