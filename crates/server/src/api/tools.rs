//! Tools that clients offer: who may be called, what was called, and calls in answers.

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use text::data::Prompter;
use text::tokenizer::Tokenizer;
use text::tokenizer::chat::{Message, Role, arguments};
use utoipa::ToSchema;

use super::chat::constrained;
use super::error::ApiError;
use crate::grammar::JsonConstraint;
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

/// The tools that a model is told of.
pub(crate) struct Offered {
    /// As templates take them.
    pub(crate) tools: Value,
    /// Those of which it has to call one: by their names, the schemas of their arguments.
    pub(crate) must_call: Option<Vec<(String, Value)>>,
}

/// What a client wants to be called.
enum Choice {
    /// What the model likes, if anything.
    Auto,
    Nothing,
    /// One of them.
    Any,
    /// This one.
    One(String),
}

impl Choice {
    fn of(choice: Option<&Value>) -> Result<Choice, ApiError> {
        Ok(match choice.unwrap_or(&Value::Null) {
            Value::Null => Choice::Auto,
            Value::String(choice) if choice == "auto" => Choice::Auto,
            Value::String(choice) if choice == "none" => Choice::Nothing,
            Value::String(choice) if choice == "required" => Choice::Any,
            of => match (of["type"].as_str(), of["function"]["name"].as_str()) {
                (Some("function"), Some(name)) => Choice::One(name.to_owned()),
                _ => {
                    let message = "tool_choice is one of auto, none, required and \
                                   {\"type\": \"function\", \"function\": {\"name\": …}}";
                    return Err(ApiError::param("tool_choice", message));
                }
            },
        })
    }
}

/// The tools that a model is told of; none where none are, or where it shall call none.
///
/// # Errors
/// They are no functions; none of them is the one that it shall call; its chat template has no place for them.
pub(crate) fn offered(
    model: &Model,
    tools: Option<&Value>,
    choice: Option<&Value>,
) -> Result<Option<Offered>, ApiError> {
    let choice = Choice::of(choice)?;
    if matches!(choice, Choice::Nothing) {
        return Ok(None);
    }
    let tools = tools.filter(|tools| tools.as_array().is_none_or(|list| !list.is_empty()));
    let Some(tools) = tools.filter(|tools| !tools.is_null()) else {
        return match choice {
            Choice::Auto | Choice::Nothing => Ok(None),
            _ => Err(ApiError::param("tool_choice", "tool_choice: there are no tools to call")),
        };
    };
    let list = tools.as_array().ok_or_else(|| ApiError::param("tools", "tools: not a list"))?;
    for (i, tool) in list.iter().enumerate() {
        let param = format!("tools[{i}]");
        if tool["type"].as_str().is_some_and(|kind| kind != "function") {
            let message = format!("{param}.type: {} is not supported: function", tool["type"]);
            return Err(ApiError::param("tools", message).code("unsupported_parameter"));
        }
        if tool["function"]["name"].as_str().is_none_or(str::is_empty) {
            return Err(ApiError::param("tools", format!("{param}.function.name: missing")));
        }
        if let Some(wrong) = wrong_parameters(&tool["function"]["parameters"]) {
            return Err(ApiError::param("tools", format!("{param}.function.parameters{wrong}")));
        }
    }
    let prompter = model.prompter.as_ref().map_err(ApiError::invalid)?;
    let checked = prompter.check_tools();
    checked.map_err(|error| {
        ApiError::param("tools", format!("tools: {error:#}")).code("unsupported_parameter")
    })?;
    let functions = list.iter().map(|tool| {
        let parameters = &tool["function"]["parameters"];
        let nothing = || json!({ "type": "object" });
        let schema = if parameters.is_null() { nothing() } else { parameters.clone() };
        (tool["function"]["name"].as_str().unwrap_or_default().to_owned(), schema)
    });
    let must_call = match choice {
        Choice::Auto | Choice::Nothing => None,
        Choice::Any => Some(functions.collect()),
        Choice::One(name) => {
            let one: Vec<_> = functions.filter(|(of, _)| *of == name).take(1).collect();
            if one.is_empty() {
                let message = format!("tool_choice: none of the tools is called {name:?}");
                return Err(ApiError::param("tool_choice", message));
            }
            Some(one)
        }
    };
    Ok(Some(Offered { tools: tools.clone(), must_call }))
}

/// What is wrong with the schema of a function's arguments, which are an object; or it has none.
fn wrong_parameters(parameters: &Value) -> Option<String> {
    let fields = match parameters {
        Value::Null => return None,
        Value::Object(fields) => fields,
        _ => return Some(": not a JSON schema, which is an object".into()),
    };
    match (fields.get("type"), fields.get("properties")) {
        (Some(kind), _) if kind != "object" => {
            Some(format!(".type: {kind}, and arguments are an \"object\""))
        }
        (_, Some(of)) if !of.is_object() => Some(".properties: not an object".into()),
        _ => None,
    }
}

impl Offered {
    /// What the answer has to follow where a tool must be called.
    ///
    /// # Errors
    /// A schema cannot be followed.
    pub(crate) async fn constraint(&self, model: &Arc<Model>) -> Result<Option<JsonConstraint>, ApiError> {
        let Some(functions) = self.must_call.clone() else { return Ok(None) };
        let made = constrained(model, "tools", move |model, grammars| {
            let frame = model.prompter.as_ref().ok().and_then(Prompter::call_frame);
            grammars.of_call(frame.context("the model has no chat template")?, &functions)
        });
        made.await.map(Some)
    }
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
        let arguments = arguments(&function["arguments"]);
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
/// A tool's message follows no calls, or names another than those.
pub(super) fn check_order(messages: &[Message]) -> Result<(), ApiError> {
    let mut ids: Vec<&Value> = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        if message.calls_tools() {
            ids = message.call_ids().collect();
        }
        let id = message.more.get("tool_call_id").filter(|_| message.role == Role::Tool);
        if let Some(id) = id.filter(|id| ids.iter().all(|of| of.is_string()) && !ids.contains(id)) {
            let param = format!("messages[{i}].tool_call_id");
            let message = format!("{param}: none of the tool_calls before it has the id {id}");
            return Err(ApiError::param(&param, message));
        }
    }
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

    /// The content that was not told, and the first calls, at `most` so many: none of an answer that is not whole.
    pub(super) fn end(
        self,
        prompter: &Prompter<Arc<Tokenizer>>,
        (id, choice): (&str, usize),
        most: usize,
    ) -> (String, Vec<ToolCall>) {
        let calls = if most > 0 { calls(&prompter.said(&self.text), (id, choice), most) } else { Vec::new() };
        let rest = if calls.is_empty() { self.text[self.told..].to_owned() } else { String::new() };
        (rest, calls)
    }
}

/// The first calls of a message, at `most` so many, with ids that occur once.
pub(super) fn calls(message: &Message, (id, choice): (&str, usize), most: usize) -> Vec<ToolCall> {
    let call = |(n, (name, arguments)): (usize, (&str, &Value))| {
        let digest = blake3::hash(format!("{id} {choice} {n}").as_bytes()).to_hex();
        let function = FunctionCall { name: name.to_owned(), arguments: arguments.to_string() };
        ToolCall { index: None, id: format!("call_{}", &digest[..24]), kind: "function", function }
    };
    message.calls().take(most).enumerate().map(call).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_ids_of_their_own_and_are_as_many_as_may_be() {
        let mut message = Message::new(Role::Assistant, "");
        let call = json!({ "function": { "name": "f", "arguments": { "a": 1 } } });
        message.more.insert("tool_calls".into(), json!([call, call]));
        let of = |choice, most| calls(&message, ("chatcmpl-1", choice), most);
        let [first, second] = <[ToolCall; 2]>::try_from(of(0, usize::MAX)).unwrap();
        assert_eq!(first.function.arguments, r#"{"a":1}"#);
        assert!(first.id != second.id && of(1, 1)[0].id != first.id);
        assert_eq!((of(0, 1).len(), of(0, 0).len()), (1, 0));
    }
}
