//! `POST /v1/score`: what a reward model thinks of answers.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use lm::model::Reading;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use text::tokenizer::chat::{Message, Role};
use utoipa::ToSchema;

use super::answer::collect;
use super::body::{JsonBody, fields};
use super::embeddings::rows;
use super::error::ApiError;
use super::messages::{ChatMessage, messages};
use super::params::{OneOrMany, Params};
use super::submit::{Ask, submit};
use super::usage::Usage;
use crate::app::{App, Caller};
use crate::model::{Kind, Model};

/// Answers to be scored: the completions of a prompt or a conversation, or the last message of one.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ScoreRequest {
    /// The model's name.
    model: String,
    messages: Option<Vec<ChatMessage>>,
    /// In place of messages: what the user says.
    prompt: Option<String>,
    completions: Option<OneOrMany>,
    /// Whether the score after every token of an answer is told.
    per_token: Option<bool>,
}

/// Scores in the order of the answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Scores {
    object: &'static str,
    model: String,
    data: Vec<Score>,
    usage: Usage,
}

/// What the model thinks of an answer.
#[derive(Serialize, ToSchema)]
struct Score {
    index: usize,
    score: f32,
    /// What it would say if the answer were over after each of its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Vec<TokenScore>>,
}

#[derive(Serialize, ToSchema)]
struct TokenScore {
    /// Its text; U+FFFD for what is no whole character.
    token: String,
    bytes: Vec<u8>,
    score: f32,
}

/// Scores answers.
#[utoipa::path(
    post, path = "/v1/score", tag = "text",
    request_body = ScoreRequest,
    responses(
        (status = 200, description = "The rewards", body = Scores),
        (status = "4XX", description = "What is wrong with the request", body = super::error::ErrorResponse),
    )
)]
pub(crate) async fn score(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request: ScoreRequest = fields(&body)?;
    let model = app.model(&request.model)?;
    if model.kind != Kind::Scores(1) {
        let message = format!("{:?} is no reward model: `mynah reward` trains one", model.name);
        return Err(ApiError::param("model", message));
    }
    let (conversation, answers) = request.items()?;
    let param = if request.completions.is_some() { "completions" } else { "messages" };
    let Read { answers, usage } = read(&app, &caller, &model, param, &conversation, &answers).await?;
    let per_token = request.per_token.unwrap_or(false);
    let data = answers.into_iter().enumerate().map(|(index, scores)| {
        let tokens = scores.iter().map(|&(id, score)| {
            let bytes = model.bytes(id).to_vec();
            TokenScore { token: String::from_utf8_lossy(&bytes).into_owned(), bytes, score }
        });
        let tokens = per_token.then(|| tokens.collect());
        Score { index, score: last(&scores), tokens }
    });
    let (data, model) = (data.collect(), model.name.clone());
    Ok(Json(Scores { object: "list", model, data, usage }).into_response())
}

/// The rewards of answers to a conversation.
///
/// # Errors
/// They cannot be read; the server has no room for them now.
pub(crate) async fn rewards(
    app: &Arc<App>,
    caller: &Caller,
    model: &Arc<Model>,
    conversation: &[Message],
    answers: &[String],
) -> Result<Vec<f64>, ApiError> {
    let read = read(app, caller, model, "completions", conversation, answers).await?;
    Ok(read.answers.iter().map(|scores| f64::from(last(scores))).collect())
}

/// What a model said of answers.
struct Read {
    /// Each token of each answer, with the score after it.
    answers: Vec<Vec<(u32, f32)>>,
    usage: Usage,
}

fn last(scores: &[(u32, f32)]) -> f32 {
    scores.last().map_or(0.0, |(_, score)| *score)
}

async fn read(
    app: &Arc<App>,
    caller: &Caller,
    model: &Arc<Model>,
    param: &'static str,
    conversation: &[Message],
    answers: &[String],
) -> Result<Read, ApiError> {
    let prompter = model.prompter.as_ref().map_err(ApiError::invalid)?;
    let asking = prompter.prompt(conversation);
    let asking = asking.map_err(|error| ApiError::param("messages", format!("messages: {error:#}")))?;
    let answers: Vec<Vec<u32>> = answers.iter().map(|answer| prompter.answer(answer)).collect();
    let generation = fields::<Params>(&serde_json::json!({}))?.check(model)?;
    let ask = Ask {
        prefix: "score",
        param,
        prompts: answers.iter().map(|answer| [&asking[..], answer].concat()).collect(),
        begun: Vec::new(),
        generation: &generation,
        max_tokens: Some(0),
        end_tokens: Vec::new(),
        logprobs: None,
        reading: Reading::Scores,
        constraint: None,
    };
    let mut asked = submit(app, caller, model, ask)?;
    let (choices, usage) = collect(&mut asked).await?;
    let scores = choices.into_iter().zip(answers).map(|(choice, answer)| {
        let rows = rows(choice);
        let of_answer = &rows[rows.len().saturating_sub(answer.len())..];
        answer.into_iter().zip(of_answer.iter().copied()).collect()
    });
    Ok(Read { answers: scores.collect(), usage })
}

impl ScoreRequest {
    /// The conversation and the answers to it.
    fn items(&self) -> Result<(Vec<Message>, Vec<String>), ApiError> {
        let mut conversation = match (&self.messages, &self.prompt) {
            (Some(of), None) => messages(of)?,
            (None, Some(text)) => vec![Message::new(Role::User, text.as_str())],
            _ => return Err(ApiError::param("messages", "either messages or a prompt")),
        };
        let answers = match &self.completions {
            Some(OneOrMany::One(text)) => vec![text.clone()],
            Some(OneOrMany::Many(texts)) => texts.clone(),
            None => match conversation.pop() {
                Some(Message { role: Role::Assistant, content, .. }) => vec![content],
                _ => return Err(ApiError::param("messages", "the last message must be the assistant's")),
            },
        };
        if answers.is_empty() || answers.len() > 64 {
            return Err(ApiError::param("completions", "completions: from 1 to 64 of them"));
        }
        Ok((conversation, answers))
    }
}
