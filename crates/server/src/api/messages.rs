//! Messages of a conversation, as clients write them.

use serde::Deserialize;
use serde_json::Value;
use text::tokenizer::chat::{Message, Role};
use utoipa::ToSchema;

use super::error::ApiError;
use crate::model::Model;

/// One message.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub(crate) struct ChatMessage {
    /// `system`, `developer`, `user` or `assistant`.
    role: String,
    /// What is said.
    content: Option<Content>,
    #[schema(value_type = Option<Object>)]
    tool_calls: Option<Value>,
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
    of.iter().enumerate().map(|(i, message)| message.read(i)).collect()
}

impl ChatMessage {
    fn read(&self, i: usize) -> Result<Message, ApiError> {
        let calls = self.tool_calls.as_ref().filter(|calls| !calls.is_null());
        if calls.is_some_and(|calls| calls.as_array().is_none_or(|calls| !calls.is_empty())) {
            return Err(ApiError::unsupported(&format!("messages[{i}].tool_calls")));
        }
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let message =
                    format!("messages[{i}].role: there is no role {other:?}: system, user or assistant");
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
            None => {
                let param = format!("messages[{i}].content");
                return Err(ApiError::param(&param, format!("{param}: missing")));
            }
        };
        Ok(Message::new(role, text))
    }
}

/// The tokens that ask for the next message, or to go on with the last one where that is the assistant's.
///
/// # Errors
/// The model has no chat template, or it refuses the conversation.
pub(crate) fn prompt(model: &Model, messages: &[Message]) -> Result<Vec<u32>, ApiError> {
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
        [before @ .., Message { role: Role::Assistant, content, .. }] => {
            prompter.prompt_to_continue(before, content)
        }
        messages => prompter.prompt(messages),
    };
    tokens.map_err(|error| ApiError::param("messages", format!("messages: {error:#}")))
}
