//! Messages of a conversation, as clients write them.

use serde::Deserialize;
use serde_json::Value;
use text::tokenizer::chat::{Message, Role, order_results};
use utoipa::ToSchema;

use super::error::ApiError;
use super::tools::{called, check_order};
use crate::model::Model;

/// One message.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    role: String,
    /// What is said, or what a tool returned.
    content: Option<Content>,
    /// What the assistant called.
    #[schema(value_type = Option<Vec<Object>>)]
    tool_calls: Option<Value>,
    /// Which call a tool answers.
    tool_call_id: Option<String>,
    name: Option<String>,
}

/// A text, or parts of one.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text or a list of parts")]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct Part {
    /// `text`.
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

/// The messages as templates know them.
///
/// # Errors
/// A role that there is not; a part that is no text; no message at all.
pub(crate) fn messages(of: &[ChatMessage]) -> Result<Vec<Message>, ApiError> {
    if of.is_empty() {
        return Err(ApiError::param("messages", "messages: a conversation without a message"));
    }
    let mut messages =
        of.iter().enumerate().map(|(i, message)| message.read(i)).collect::<Result<Vec<_>, _>>()?;
    check_order(&messages)?;
    order_results(&mut messages);
    Ok(messages)
}

impl ChatMessage {
    fn read(&self, i: usize) -> Result<Message, ApiError> {
        let place = format!("messages[{i}]");
        let calls = self.tool_calls.as_ref().filter(|calls| !calls.is_null());
        let calls = calls.map_or_else(|| Ok(Vec::new()), |calls| called(&place, calls))?;
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            other => {
                let message = format!(
                    "messages[{i}].role: there is no role {other:?}: system, user, assistant or tool"
                );
                return Err(ApiError::param(&format!("messages[{i}].role"), message));
            }
        };
        let text = match &self.content {
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                let mut text = String::new();
                for (j, part) in parts.iter().enumerate() {
                    match (part.kind.as_str(), &part.text) {
                        ("text", Some(more)) => text.push_str(more),
                        (kind, _) => {
                            return Err(ApiError::unsupported(&format!(
                                "messages[{i}].content[{j}] ({kind})"
                            )));
                        }
                    }
                }
                text
            }
            None if role == Role::Assistant && !calls.is_empty() => String::new(),
            None => {
                let param = format!("messages[{i}].content");
                return Err(ApiError::param(&param, format!("{param}: missing")));
            }
        };
        let mut message = Message::new(role, text);
        if role == Role::Assistant && !calls.is_empty() {
            message.more.insert("tool_calls".into(), calls.into());
        }
        for (name, value) in [("tool_call_id", &self.tool_call_id), ("name", &self.name)] {
            if let Some(value) = value.as_ref().filter(|_| role == Role::Tool) {
                message.more.insert(name.into(), value.as_str().into());
            }
        }
        Ok(message)
    }
}

/// The tokens that ask for the next message, or to go on with the last one where that is the assistant's;
/// then those that were drawn of it already.
///
/// # Errors
/// The model has no chat template, or it refuses the conversation; a token is unknown, or ends an answer.
pub(crate) fn prompt(
    model: &Model,
    messages: &[Message],
    tools: Option<&Value>,
    drawn: &[u32],
) -> Result<Vec<u32>, ApiError> {
    let prompter = model.prompter.as_ref().map_err(ApiError::invalid)?;
    if !prompter.is_chat() {
        let name = &model.name;
        return Err(ApiError::param(
            "model",
            format!(
                "{name:?} has no chat template: it continues texts, at /v1/completions; `mynah sft` teaches it to answer"
            ),
        ));
    }
    let tokens = match messages {
        [.., last] if last.calls_tools() => {
            let message = "messages: the last one calls tools, and what they return is missing";
            return Err(ApiError::param("messages", message));
        }
        [before @ .., Message { role: Role::Assistant, content, .. }] => {
            prompter.prompt_to_continue(before, tools, content)
        }
        messages => prompter.prompt_with(messages, tools),
    };
    let tokens = tokens.map_err(|error| ApiError::param("messages", format!("messages: {error:#}")))?;
    model.must_know("continue_tokens", drawn)?;
    if let Some(id) = drawn.iter().find(|id| prompter.end_tokens().contains(id)) {
        let message = format!("continue_tokens: token {id} ends an answer: nothing follows it");
        return Err(ApiError::param("continue_tokens", message));
    }
    Ok([&tokens, drawn].concat())
}

impl Model {
    /// # Errors
    /// An id that was given as `param` is not in the vocabulary.
    pub(super) fn must_know(&self, param: &str, ids: &[u32]) -> Result<(), ApiError> {
        let Some(id) = ids.iter().find(|&&id| self.tokenizer.token_bytes(id).is_err()) else { return Ok(()) };
        let size = self.tokenizer.vocab_size();
        let message = format!("{param}: token id {id} is not in the vocabulary of {size}");
        Err(ApiError::param(param, message))
    }
}
