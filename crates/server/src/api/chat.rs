//! `POST /v1/chat/completions`.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use lm::model::{Reading, Told};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use text::tokenizer::chat::Message;
use utoipa::ToSchema;

use super::answer::{collect, finish_reason};
use super::body::{JsonBody, fields};
use super::error::ApiError;
use super::frames::{Answer, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, Delta, Head};
use super::logprobs::of_chat;
use super::messages::{ChatMessage, messages, prompt};
use super::params::{Params, refuse_unsupported};
use super::stream::{Form, respond};
use super::submit::{Ask, Asked, submit};
use super::tools::{Written, calls, offered};
use super::usage::Usage;
use crate::app::{App, Caller};
use crate::grammar::{Grammars, JsonConstraint};
use crate::model::{Kind, Model};
use crate::worker::{Ending, Token};

/// Likeliest tokens that are told of, at most.
const TOP_LOGPROBS: u64 = 20;

/// A conversation to go on with.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ChatRequest {
    /// The model's name.
    pub(crate) model: String,
    messages: Vec<ChatMessage>,
    /// Whether each token's log-probability is told.
    logprobs: Option<bool>,
    /// Those of how many of the likeliest tokens are told too, 0 to 20.
    top_logprobs: Option<u64>,
    /// Ids of tokens with which the answer has begun, such as those of another answer up to one of its tokens:
    /// log-probabilities tell them. Nothing is encoded anew; what is said of the answer begins after them.
    continue_tokens: Option<Vec<u32>>,
    /// Functions that the model may call.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<Value>,
    /// `auto`, `none`, `required`, or `{"type": "function", "function": {"name": …}}`.
    tool_choice: Option<Value>,
    /// Whether an answer may have several calls, as it may unless this says false.
    parallel_tool_calls: Option<bool>,
    response_format: Option<ResponseFormat>,
}

/// What the answer has to be.
#[derive(Deserialize, ToSchema)]
struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    kind: String,
    #[schema(value_type = Option<Object>)]
    json_schema: Option<Value>,
}

/// Answers a conversation.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "text",
    request_body = inline(super::openapi::ChatBody),
    responses(
        (status = 200, description = "The answer; with stream: true as server-sent events of ChatChunk", body = ChatCompletion),
        (status = "4XX", description = "What is wrong with the request", body = super::error::ErrorResponse),
    )
)]
pub(crate) async fn chat(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    refuse_unsupported(&body, &[])?;
    let request: ChatRequest = fields(&body)?;
    let params: Params = fields(&body)?;
    let model = app.model(&request.model)?;
    model.must_write()?;
    let generation = params.check(&model)?;
    if generation.max_tokens == Some(0) {
        return Err(ApiError::param("max_tokens", "max_tokens must be at least 1"));
    }
    let logprobs = request.logprobs()?;
    let messages = messages(&request.messages)?;
    let drawn = request.continue_tokens.as_deref().unwrap_or_default();
    let tools = offered(&model, request.tools.as_ref(), request.tool_choice.as_ref())?;
    let asking = prompt(&model, &messages, tools.as_ref().map(|offered| &offered.tools), drawn)?;
    let end_tokens = model.prompter.as_ref().map_err(ApiError::invalid)?.end_tokens().to_vec();
    let called = match &tools {
        Some(offered) => offered.constraint(&model).await?,
        None => None,
    };
    // A call has a form of its own.
    let constraint = match &request.response_format {
        Some(format) if called.is_none() => format.constraint(&model).await?,
        _ => called,
    };
    let ask = Ask {
        prefix: "chatcmpl",
        param: "messages",
        prompts: vec![asking],
        begun: drawn.iter().flat_map(|&id| model.bytes(id).to_vec()).collect(),
        generation: &generation,
        max_tokens: generation.max_tokens,
        end_tokens,
        logprobs,
        reading: Reading::Nothing,
        constraint,
    };
    let mut asked = submit(&app, &caller, &model, ask)?;
    let written = tools.map(|_| (0..asked.choices).map(|_| Written::default()).collect());
    let most_calls = if request.parallel_tool_calls == Some(false) { 1 } else { usize::MAX };
    let (tells, include_usage) = (logprobs.is_some(), generation.include_usage);
    let form = ChatForm { tells, include_usage, written, most_calls };
    if generation.stream {
        return respond(asked, form, generation.resumable);
    }
    let (choices, usage) = collect(&mut asked).await?;
    let choices = choices.into_iter().enumerate().map(|(index, choice)| {
        let finish_reason = choice.finish_reason();
        let logprobs = form.tells.then(|| of_chat(&model, &choice.tokens));
        let said = model.prompter.as_ref().ok().filter(|_| form.written.is_some() && finish_reason == "stop");
        let said = said.map(|prompter| prompter.said(&choice.text)).filter(Message::calls_tools);
        let tool_calls =
            said.as_ref().map(|message| calls(message, (&asked.id, index), most_calls)).unwrap_or_default();
        let finish_reason = if tool_calls.is_empty() { finish_reason } else { CALLED };
        let content = match said {
            Some(message) => Some(message.content).filter(|content| !content.is_empty()),
            None => Some(choice.text),
        };
        let message = Answer { role: "assistant", content, refusal: None, tool_calls };
        ChatChoice { index, message, logprobs, finish_reason }
    });
    let choices = choices.collect();
    Ok(axum::Json(ChatCompletion { head: asked.head("chat.completion"), choices, usage }).into_response())
}

impl ChatRequest {
    fn logprobs(&self) -> Result<Option<usize>, ApiError> {
        let asked = self.logprobs.unwrap_or(false);
        match self.top_logprobs {
            Some(n) if n > TOP_LOGPROBS => {
                Err(ApiError::param("top_logprobs", format!("top_logprobs must be from 0 to {TOP_LOGPROBS}")))
            }
            Some(n) if n > 0 && !asked => {
                Err(ApiError::param("top_logprobs", "top_logprobs needs logprobs: true"))
            }
            n => Ok(asked.then_some(n.unwrap_or(0) as usize)),
        }
    }
}

impl ResponseFormat {
    /// What the answer has to follow.
    async fn constraint(&self, model: &Arc<Model>) -> Result<Option<JsonConstraint>, ApiError> {
        const PARAM: &str = "response_format";
        let schema = match (self.kind.as_str(), &self.json_schema) {
            ("text", _) => return Ok(None),
            ("json_object", _) => None,
            ("json_schema", Some(Value::Object(of))) if of.get("schema").is_some_and(Value::is_object) => {
                of.get("schema").cloned()
            }
            ("json_schema", _) => {
                return Err(ApiError::param(PARAM, "response_format.json_schema.schema: missing"));
            }
            (other, _) => {
                let message =
                    format!("response_format.type: {other:?} is none of text, json_object, json_schema");
                return Err(ApiError::param(PARAM, message));
            }
        };
        let made = constrained(model, PARAM, move |_, grammars| match &schema {
            Some(schema) => grammars.of_schema(schema),
            None => grammars.of_object(),
        });
        made.await.map(Some)
    }
}

/// What an answer has to follow. Compiled on a thread of its own: a large schema takes its time.
///
/// # Errors
/// `param` cannot be followed, as `make` says.
pub(super) async fn constrained(
    model: &Arc<Model>,
    param: &'static str,
    make: impl FnOnce(&Model, &Grammars) -> anyhow::Result<JsonConstraint> + Send + 'static,
) -> Result<JsonConstraint, ApiError> {
    let model = Arc::clone(model);
    let compiled = tokio::task::spawn_blocking(move || {
        let grammars = model.grammars().map_err(ApiError::invalid)?;
        make(&model, grammars).map_err(|error| ApiError::param(param, format!("{param}: {error:#}")))
    });
    compiled.await.map_err(|_| ApiError::param(param, format!("{param}: the schema cannot be followed")))?
}

impl Model {
    /// # Errors
    /// It is a model that scores.
    pub(super) fn must_write(&self) -> Result<(), ApiError> {
        match self.kind {
            Kind::Writes => Ok(()),
            Kind::Scores(_) => {
                let message =
                    format!("{:?} scores texts instead of writing them: ask it at /v1/score", self.name);
                Err(ApiError::param("model", message))
            }
        }
    }
}

impl Asked {
    /// What the answer begins with.
    pub(super) fn head(&self, object: &'static str) -> Head {
        Head {
            id: self.id.clone(),
            object,
            created: self.created,
            model: self.model.name.clone(),
            system_fingerprint: self.app.fingerprint(&self.model),
            seed: self.seed.clone(),
        }
    }
}

/// Why an answer ended that calls tools.
const CALLED: &str = "tool_calls";

/// Chunks of a chat.
struct ChatForm {
    /// Whether log-probabilities are told.
    tells: bool,
    include_usage: bool,
    /// Each choice so far, where tools may be called.
    written: Option<Vec<Written>>,
    /// Calls of an answer.
    most_calls: usize,
}

impl ChatForm {
    fn chunk(&self, asked: &Asked, choices: Vec<ChatChunkChoice>, usage: Option<Usage>) -> String {
        let usage = self.include_usage.then_some(usage);
        json(&ChatChunk { head: asked.head("chat.completion.chunk"), choices, usage })
    }
}

/// What is serialised here cannot fail: no maps with other keys than texts, no numbers that JSON lacks.
pub(super) fn json(chunk: &impl serde::Serialize) -> String {
    serde_json::to_string(chunk).unwrap_or_default()
}

impl Form for ChatForm {
    fn begin(&mut self, asked: &Asked) -> Vec<String> {
        let introduce = |index| {
            let delta =
                Delta { role: Some("assistant"), content: Some(String::new()), tool_calls: Vec::new() };
            let choice = ChatChunkChoice { index, delta, logprobs: None, finish_reason: None };
            self.chunk(asked, vec![choice], None)
        };
        (0..asked.choices).map(introduce).collect()
    }

    fn piece(&mut self, asked: &Asked, index: usize, text: String, tokens: &[Token]) -> String {
        let logprobs = self.tells.then(|| of_chat(&asked.model, tokens));
        let text = match (&mut self.written, &asked.model.prompter) {
            (Some(written), Ok(prompter)) => written[index].push(prompter, &text),
            _ => text,
        };
        let delta = Delta { content: Some(text), ..Delta::default() };
        self.chunk(asked, vec![ChatChunkChoice { index, delta, logprobs, finish_reason: None }], None)
    }

    fn end(&mut self, asked: &Asked, index: usize, ending: Ending) -> Vec<String> {
        let mut finish_reason = finish_reason(ending);
        let mut deltas = Vec::new();
        if let (Some(written), Ok(prompter)) = (&mut self.written, &asked.model.prompter) {
            let written = std::mem::take(&mut written[index]);
            // An answer that is cut calls nothing.
            let most = if finish_reason == "stop" { self.most_calls } else { 0 };
            let (rest, tool_calls) = written.end(prompter, (&asked.id, index), most);
            if !rest.is_empty() {
                deltas.push(Delta { content: Some(rest), ..Delta::default() });
            }
            if !tool_calls.is_empty() {
                finish_reason = CALLED;
            }
            for (number, mut call) in tool_calls.into_iter().enumerate() {
                call.index = Some(number);
                deltas.push(Delta { tool_calls: vec![call], ..Delta::default() });
            }
        }
        let last = deltas.len();
        deltas.push(Delta::default());
        let chunk = |(number, delta)| {
            let finish_reason = (number == last).then_some(finish_reason);
            self.chunk(asked, vec![ChatChunkChoice { index, delta, logprobs: None, finish_reason }], None)
        };
        deltas.into_iter().enumerate().map(chunk).collect()
    }

    fn usage(&mut self, asked: &Asked, usage: Usage) -> Option<String> {
        self.include_usage.then(|| self.chunk(asked, Vec::new(), Some(usage)))
    }

    fn told(&mut self, _: usize, _: Told) {}

    fn tells_tokens(&self) -> bool {
        self.tells
    }
}
