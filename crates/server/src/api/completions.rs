//! `POST /v1/completions`.

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use lm::model::{Logprobs, Reading, Told};
use serde::Deserialize;
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
        prompts.iter().try_for_each(|prompt| model.must_know(param, prompt))?;
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
    refuse_unsupported(&body, &["tools", "tool_choice"])?;
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
    let echoed = if echo { &prompts[..] } else { &[] };
    let mut form = CompletionForm {
        logprobs: logprobs.is_some(),
        include_usage: generation.include_usage,
        echo: echoed.iter().map(|tokens| request.echo_of(&model, tokens)).collect(),
        states: (0..prompts.len() * generation.n).map(|_| Progress::default()).collect(),
    };
    let ask = Ask {
        prefix: "cmpl",
        param: "prompt",
        prompts,
        begun: Vec::new(),
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
    /// What was told of each choice.
    states: Vec<Progress>,
}

/// A prompt that is told again.
struct Echo {
    tokens: Vec<u32>,
    /// How many of them stand before its text.
    before: usize,
}

/// A choice on its way.
#[derive(Default)]
struct Progress {
    /// What the model said of its prompt.
    told: Vec<Logprobs>,
    offset: Offset,
    has_begun: bool,
}

impl CompletionForm {
    /// What is new of a choice: text with the tokens that made it, behind its prompt where that is echoed and
    /// was not told yet.
    fn news(
        &mut self,
        asked: &Asked,
        index: usize,
        text: String,
        tokens: &[Token],
        ending: Option<Ending>,
    ) -> CompletionChoice {
        let state = &mut self.states[index];
        let (mut whole, mut logprobs) = (String::new(), CompletionLogprobs::default());
        let begins = !std::mem::replace(&mut state.has_begun, true);
        if begins && let Some(echo) = self.echo.get(index / asked.n) {
            whole = echo.tell(asked, state, &mut logprobs);
        }
        for token in tokens {
            logprobs.push(&asked.model, &mut state.offset, token.id, token.logprobs.as_ref());
        }
        let is_told = self.logprobs && (begins || !tokens.is_empty());
        CompletionChoice {
            index,
            text: whole + &text,
            logprobs: is_told.then_some(logprobs),
            finish_reason: ending.map(finish_reason),
        }
    }

    fn whole(&mut self, asked: &Asked, index: usize, choice: Choice) -> CompletionChoice {
        choice.told.into_iter().for_each(|told| self.told(index, told));
        self.news(asked, index, choice.text, &choice.tokens, choice.ending)
    }

    fn chunk(&self, asked: &Asked, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> String {
        let usage = self.include_usage.then_some(usage);
        json(&Completion { head: asked.head("text_completion"), choices, usage })
    }
}

impl Echo {
    /// The text of the prompt, and what was said of its tokens: nothing of the first.
    fn tell(&self, asked: &Asked, state: &mut Progress, logprobs: &mut CompletionLogprobs) -> String {
        let Echo { tokens, before } = self;
        for (at, &id) in tokens.iter().enumerate() {
            let said = at.checked_sub(1).and_then(|at| state.told.get(at));
            let offset = if at < *before { &mut Offset::default() } else { &mut state.offset };
            logprobs.push(&asked.model, offset, id, said);
        }
        state.told = Vec::new();
        let bytes: Vec<u8> =
            tokens[*before..].iter().flat_map(|&id| asked.model.bytes(id).to_vec()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Form for CompletionForm {
    fn begin(&mut self, _: &Asked) -> Vec<String> {
        Vec::new()
    }

    fn piece(&mut self, asked: &Asked, index: usize, text: String, tokens: &[Token]) -> String {
        let news = self.news(asked, index, text, tokens, None);
        self.chunk(asked, vec![news], None)
    }

    fn end(&mut self, asked: &Asked, index: usize, ending: Ending) -> Vec<String> {
        // What has no text of its own still echoes its prompt.
        let news = self.news(asked, index, String::new(), &[], Some(ending));
        vec![self.chunk(asked, vec![news], None)]
    }

    fn usage(&mut self, asked: &Asked, usage: Usage) -> Option<String> {
        self.include_usage.then(|| self.chunk(asked, Vec::new(), Some(usage)))
    }

    fn told(&mut self, index: usize, told: Told) {
        if let Told::Logprobs(logprobs) = told {
            self.states[index].told.extend(logprobs);
        }
    }

    fn tells_tokens(&self) -> bool {
        self.logprobs
    }
}
