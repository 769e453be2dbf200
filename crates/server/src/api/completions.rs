//! `POST /v1/completions`.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use lm::model::{Logprobs, Reading, Told};
use serde::Deserialize;
use std::collections::VecDeque;
use std::sync::Arc;
use utoipa::ToSchema;

use super::answer::{Choice, collect, finish_reason};
use super::body::{JsonBody, fields};
use super::chat::json;
use super::error::ApiError;
use super::frames::{Completion, CompletionChoice};
use super::logprobs::{CompletionLogprobs, Offset};
use super::params::{Params, refuse_unsupported};
use super::stream::{Form, respond};
use super::submit::{Ask, Asked, submit};
use super::usage::Usage;
use crate::app::{App, Caller};
use crate::model::Model;
use crate::worker::{Ending, Token};

/// Prompts of one request, at most.
const PROMPTS: usize = 64;
/// Likeliest tokens that are told of, at most.
const LOGPROBS: u64 = 20;

/// A text to go on with.
#[derive(Deserialize, ToSchema)]
pub(crate) struct CompletionRequest {
    /// The model's name.
    model: String,
    prompt: Option<Prompt>,
    /// What stands after the completion, for models that have learned fill-in-the-middle.
    suffix: Option<String>,
    /// Whether the prompt is part of the answer.
    echo: Option<bool>,
    /// Whether log-probabilities are told, and those of how many of the likeliest tokens, 0 to 20.
    logprobs: Option<u64>,
    /// As many as `n`.
    best_of: Option<u64>,
}

/// One prompt or several, as text or as tokens.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a text, a list of texts, a list of token ids, or a list of these")]
pub(crate) enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

impl Prompt {
    /// The tokens of each.
    ///
    /// # Errors
    /// An id is not in the vocabulary; there are too many prompts, or none.
    pub(super) fn tokens(&self, model: &Model, param: &str) -> Result<Vec<Vec<u32>>, ApiError> {
        let start = |text: &String| {
            let tokens = model.tokenizer.encode_from_start(text);
            let begin = model.tokenizer.end_of_text().filter(|_| tokens.is_empty());
            [tokens, begin.into_iter().collect()].concat()
        };
        let prompts = match self {
            Prompt::Text(text) => vec![start(text)],
            Prompt::Texts(texts) => texts.iter().map(start).collect(),
            Prompt::Tokens(tokens) => vec![tokens.clone()],
            Prompt::ManyTokens(prompts) => prompts.clone(),
        };
        if !(1..=PROMPTS).contains(&prompts.len()) {
            return Err(ApiError::param(param, format!("{param}: from 1 to {PROMPTS} of them")));
        }
        if let Some(id) = prompts.iter().flatten().find(|&&id| model.tokenizer.token_bytes(id).is_err()) {
            let message = format!(
                "{param}: token id {id} is not in the vocabulary of {}",
                model.tokenizer.vocab_size()
            );
            return Err(ApiError::param(param, message));
        }
        Ok(prompts)
    }
}

/// Continues texts.
#[utoipa::path(
    post, path = "/v1/completions", tag = "text",
    request_body = inline(super::openapi::CompletionBody),
    responses(
        (status = 200, description = "The completions; with stream: true as server-sent events of the same", body = Completion),
        (status = "4XX", description = "What is wrong with the request", body = super::error::ErrorResponse),
    )
)]
pub(crate) async fn completions(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    refuse_unsupported(&body)?;
    let format = &body["response_format"];
    if !format.is_null() && format["type"] != "text" {
        let error = ApiError::param("response_format", "response_format is for /v1/chat/completions");
        return Err(error.code("unsupported_parameter"));
    }
    let request: CompletionRequest = fields(&body)?;
    let params: Params = fields(&body)?;
    let model = app.model(&request.model)?;
    model.must_write()?;
    let generation = params.check(&model)?;
    request.check(generation.max_tokens, generation.n)?;
    let mut end_tokens = model.end_tokens();
    let prompts = match &request.suffix {
        Some(suffix) if !suffix.is_empty() => vec![request.gap(&model, suffix, &mut end_tokens)?],
        _ => request.prompt().tokens(&model, "prompt")?,
    };
    let echo = request.echo.unwrap_or(false);
    let logprobs = request.logprobs.map(|n| n as usize);
    let form = CompletionForm {
        logprobs: logprobs.is_some(),
        include_usage: generation.include_usage,
        echo: if echo {
            prompts.iter().map(|tokens| request.echo_of(&model, tokens)).collect()
        } else {
            Vec::new()
        },
        states: Vec::new(),
    };
    let ask = Ask {
        prefix: "cmpl",
        param: "prompt",
        prompts,
        generation: &generation,
        max_tokens: generation.max_tokens,
        end_tokens,
        logprobs,
        reading: logprobs.filter(|_| echo).map_or(Reading::Nothing, Reading::Logprobs),
        constraint: None,
    };
    let mut asked = submit(&app, &caller, &model, ask)?;
    if generation.stream {
        return respond(asked, form, generation.resumable);
    }
    let (choices, usage) = collect(&mut asked).await?;
    let choices =
        choices.into_iter().enumerate().map(|(index, choice)| form.whole(&asked, index, choice)).collect();
    let head = asked.head("text_completion");
    Ok(axum::Json(Completion { head, choices, usage: Some(Some(usage)) }).into_response())
}

impl CompletionRequest {
    fn check(&self, max_tokens: Option<usize>, n: usize) -> Result<(), ApiError> {
        if self.logprobs.is_some_and(|n| n > LOGPROBS) {
            return Err(ApiError::param("logprobs", format!("logprobs must be from 0 to {LOGPROBS}")));
        }
        if max_tokens == Some(0) && !self.echo.unwrap_or(false) {
            return Err(ApiError::param("max_tokens", "max_tokens must be at least 1, or 0 with echo"));
        }
        if self.best_of.is_some_and(|best| best != n as u64) {
            return Err(ApiError::param(
                "best_of",
                "best_of must be n: every completion that is drawn is given",
            ));
        }
        if self.suffix.as_ref().is_some_and(|suffix| !suffix.is_empty()) && self.echo.unwrap_or(false) {
            return Err(ApiError::param("echo", "echo cannot be told with a suffix"));
        }
        Ok(())
    }

    /// A prompt as it is told again. No text has special tokens: the one before it is not the client's.
    fn echo_of(&self, model: &Model, tokens: &[u32]) -> Echo {
        let is_text = matches!(self.prompt(), Prompt::Text(_) | Prompt::Texts(_));
        let specials = [model.tokenizer.start(), model.tokenizer.end_of_text()];
        let is_before = is_text && specials.contains(&tokens.first().copied());
        Echo { tokens: tokens.to_vec(), before: usize::from(is_before) }
    }

    fn prompt(&self) -> Prompt {
        self.prompt.clone().unwrap_or(Prompt::Text(String::new()))
    }

    /// The prompt of a gap, and what else ends a completion in it.
    fn gap(&self, model: &Model, suffix: &str, end_tokens: &mut Vec<u32>) -> Result<Vec<u32>, ApiError> {
        let Prompt::Text(prefix) = self.prompt() else {
            return Err(ApiError::param("suffix", "with a suffix there is one prompt, as text"));
        };
        let fim =
            model.tokenizer.fim().map_err(|error| ApiError::param("suffix", format!("suffix: {error:#}")))?;
        // A model that goes on after the middle begins another document.
        end_tokens.extend([fim.prefix, fim.middle, fim.suffix]);
        let gap = fim.psm(&model.tokenizer.encode(&prefix), &model.tokenizer.encode(suffix));
        Ok(model.tokenizer.start().into_iter().chain(gap).collect())
    }
}

/// Completions and their chunks.
struct CompletionForm {
    logprobs: bool,
    include_usage: bool,
    /// The prompts where they are echoed.
    echo: Vec<Echo>,
    /// What was told of each choice of a stream.
    states: Vec<Progress>,
}

/// A prompt that is told again.
struct Echo {
    tokens: Vec<u32>,
    /// How many of them stand before its text.
    before: usize,
}

/// A choice of a stream.
#[derive(Default)]
struct Progress {
    /// What was told of its prompt and not yet sent.
    told: VecDeque<Logprobs>,
    offset: Offset,
    has_begun: bool,
}

impl CompletionForm {
    /// The echo of a choice: its prompt's text, and what was told of it.
    fn echo(
        &self,
        asked: &Asked,
        index: usize,
        told: impl IntoIterator<Item = Logprobs>,
        offset: &mut Offset,
    ) -> (String, CompletionLogprobs) {
        let mut logprobs = CompletionLogprobs::default();
        let Some(Echo { tokens, before }) = self.echo.get(index / asked.n) else {
            return (String::new(), logprobs);
        };
        let bytes: Vec<u8> =
            tokens[*before..].iter().flat_map(|&id| asked.model.bytes(id).to_vec()).collect();
        let mut told = told.into_iter();
        for (at, &id) in tokens.iter().enumerate() {
            let said = if at > 0 { told.next() } else { None };
            let offset = if at < *before { &mut Offset::default() } else { &mut *offset };
            logprobs.push(&asked.model, offset, id, said.as_ref());
        }
        (String::from_utf8_lossy(&bytes).into_owned(), logprobs)
    }

    fn whole(&self, asked: &Asked, index: usize, choice: Choice) -> CompletionChoice {
        let finish_reason = Some(choice.finish_reason());
        let mut offset = Offset::default();
        let (echo, mut logprobs) =
            self.echo(asked, index, choice.told.into_iter().flat_map(logprobs_of), &mut offset);
        for token in &choice.tokens {
            logprobs.push(&asked.model, &mut offset, token.id, token.logprobs.as_ref());
        }
        let logprobs = self.logprobs.then_some(logprobs);
        CompletionChoice { index, text: echo + &choice.text, logprobs, finish_reason }
    }

    fn chunk(&self, asked: &Asked, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> String {
        let usage = self.include_usage.then_some(usage);
        json(&Completion { head: asked.head("text_completion"), choices, usage })
    }
}

fn logprobs_of(told: Told) -> Vec<Logprobs> {
    if let Told::Logprobs(logprobs) = told { logprobs } else { Vec::new() }
}

impl Form for CompletionForm {
    fn begin(&mut self, asked: &Asked) -> Vec<String> {
        self.states = (0..asked.choices).map(|_| Progress::default()).collect();
        Vec::new()
    }

    fn piece(&mut self, asked: &Asked, index: usize, text: String, tokens: &[Token]) -> String {
        let mut state = std::mem::take(&mut self.states[index]);
        let (echo, mut logprobs) = match std::mem::replace(&mut state.has_begun, true) {
            true => (String::new(), CompletionLogprobs::default()),
            false => self.echo(asked, index, std::mem::take(&mut state.told), &mut state.offset),
        };
        for token in tokens {
            logprobs.push(&asked.model, &mut state.offset, token.id, token.logprobs.as_ref());
        }
        self.states[index] = state;
        let logprobs = self.logprobs.then_some(logprobs);
        let choice = CompletionChoice { index, text: echo + &text, logprobs, finish_reason: None };
        self.chunk(asked, vec![choice], None)
    }

    fn end(&mut self, asked: &Asked, index: usize, ending: Ending) -> String {
        // What has no text of its own still echoes its prompt.
        let mut state = std::mem::take(&mut self.states[index]);
        let (text, logprobs) = match state.has_begun {
            true => (String::new(), None),
            false => {
                let (text, logprobs) = self.echo(asked, index, state.told, &mut state.offset);
                (text, self.logprobs.then_some(logprobs))
            }
        };
        let finish_reason = Some(finish_reason(ending));
        self.chunk(asked, vec![CompletionChoice { index, text, logprobs, finish_reason }], None)
    }

    fn usage(&mut self, asked: &Asked, usage: Usage) -> Option<String> {
        self.include_usage.then(|| self.chunk(asked, Vec::new(), Some(usage)))
    }

    fn told(&mut self, index: usize, told: Told) {
        self.states[index].told.extend(logprobs_of(told));
    }

    fn tells_tokens(&self) -> bool {
        self.logprobs
    }
}
