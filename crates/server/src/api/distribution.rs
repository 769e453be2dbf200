//! `POST /v1/distribution`: which tokens may come next, how likely the model finds them, and with which
//! probabilities they would be drawn.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use lm::model::{Reading, Sampling};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

use super::answer::collect;
use super::body::{JsonBody, fields};
use super::completions::Prompt;
use super::error::ApiError;
use super::logprobs::Named;
use super::messages::{ChatMessage, messages, prompt};
use super::params::{Generation, Params};
use super::submit::{Ask, submit};
use super::usage::Usage;
use crate::app::{App, Caller};
use crate::model::Model;

/// Tokens that are told by name unless more or fewer are asked for.
const TOP: u64 = 20;

/// A conversation or a text, before the token that is asked about.
#[derive(Deserialize, ToSchema)]
pub(crate) struct DistributionRequest {
    /// The model's name.
    model: String,
    messages: Option<Vec<ChatMessage>>,
    /// Ids of the tokens with which the answer to the messages has begun.
    continue_tokens: Option<Vec<u32>>,
    /// In place of messages: one text, or its token ids.
    prompt: Option<Prompt>,
    /// Of how many of the likeliest tokens everything is told, 20 unless it is given.
    top: Option<u64>,
    /// Whether the log-probabilities of all others are told, too.
    rest: Option<bool>,
}

/// The tokens that may come next.
#[derive(Serialize, ToSchema)]
pub(crate) struct Distribution {
    object: &'static str,
    model: String,
    system_fingerprint: String,
    /// How the next token would be drawn: as it was asked, else as it is by default.
    temperature: f32,
    top_k: usize,
    top_p: f32,
    /// The likeliest tokens, ties by the lower id.
    tokens: Vec<Likely>,
    /// How many others there are.
    others: usize,
    /// The probability with which one of them would be drawn.
    others_probability: f64,
    /// Their log-probabilities in the same order. Temperature, `top_k` and `top_p` keep that order, so that all
    /// probabilities of a draw can be computed from them.
    #[serde(skip_serializing_if = "Option::is_none")]
    rest: Option<Vec<f64>>,
    usage: Usage,
}

/// A token that may come next.
#[derive(Serialize, ToSchema)]
struct Likely {
    /// With the log-probability of the distribution as it is, before temperature and all else.
    #[serde(flatten)]
    token: Named,
    /// With which it would be drawn.
    probability: f64,
    /// Whether it would end the answer.
    ends: bool,
}

/// Tells which tokens may come next.
#[utoipa::path(
    post, path = "/v1/distribution", tag = "text",
    request_body = inline(super::openapi::DistributionBody),
    responses(
        (status = 200, description = "The tokens and their probabilities", body = Distribution),
        (status = "4XX", description = "What is wrong with the request", body = super::error::ErrorResponse),
    )
)]
pub(crate) async fn distribution(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    refuse_unanswered(&body)?;
    let request: DistributionRequest = fields(&body)?;
    let params: Params = fields(&body)?;
    let model = app.model(&request.model)?;
    model.must_write()?;
    let generation = Generation { n: 1, ..params.check(&model)? };
    let n_tokens = model.tokenizer.vocab_size();
    let top = request.top.unwrap_or(TOP.min(n_tokens as u64));
    if !(1..=n_tokens as u64).contains(&top) {
        return Err(ApiError::param("top", format!("top must be from 1 to the vocabulary's {n_tokens}")));
    }
    let (asking, end_tokens) = request.before(&model)?;
    let ask = Ask {
        prefix: "dist",
        param: if request.messages.is_some() { "messages" } else { "prompt" },
        prompts: vec![asking],
        begun: Vec::new(),
        generation: &generation,
        max_tokens: Some(1),
        // What would end the answer is told like any other token.
        end_tokens: Vec::new(),
        logprobs: Some(model.config.vocab_size),
        reading: Reading::Nothing,
        constraint: None,
    };
    let mut asked = submit(&app, &caller, &model, ask)?;
    let (choices, usage) = collect(&mut asked).await?;
    let told = choices.into_iter().next().and_then(|choice| choice.tokens.into_iter().next()?.logprobs);
    let mut all = told.ok_or_else(|| ApiError::failed("nothing was told of the next token"))?.top;
    // An embedding may be padded beyond the vocabulary; such ids are never drawn.
    all.retain(|&(id, _)| (id as usize) < n_tokens);
    let sampling = generation.sampling;
    let mut drawn = probabilities(&all, &sampling);
    let others_probability = drawn.split_off(top as usize).into_iter().sum();
    let others = all.split_off(top as usize);
    let likely = |(&(id, logprob), probability)| Likely {
        token: Named::new(&model, id, logprob),
        probability,
        ends: end_tokens.contains(&id),
    };
    let Sampling { temperature, top_k, top_p, .. } = sampling;
    let distribution = Distribution {
        object: "distribution",
        model: model.name.clone(),
        system_fingerprint: app.fingerprint(&model),
        temperature,
        top_k,
        top_p,
        tokens: all.iter().zip(drawn).map(likely).collect(),
        others: others.len(),
        others_probability,
        rest: request.rest.unwrap_or(false).then(|| others.into_iter().map(|(_, logprob)| logprob).collect()),
        usage,
    };
    Ok(Json(distribution).into_response())
}

/// Refuses what would change the order of tokens, and streams.
fn refuse_unanswered(body: &Value) -> Result<(), ApiError> {
    for field in ["logit_bias", "presence_penalty", "frequency_penalty", "response_format", "stream"] {
        if !body[field].is_null() && body[field] != false {
            let message = format!("{field} is not supported here: one distribution is told, the model's own");
            return Err(ApiError::param(field, message).code("unsupported_parameter"));
        }
    }
    Ok(())
}

/// With which probabilities tokens are drawn whose log-probabilities are these, the likeliest first: by the
/// weights of the draw itself, since what it looks at are differences of logits.
fn probabilities(all: &[(u32, f64)], sampling: &Sampling) -> Vec<f64> {
    let best = all.first().map_or(0.0, |first| first.1);
    let logits: Vec<f32> = all.iter().map(|(_, logprob)| (logprob - best) as f32).collect();
    let weights = sampling.draw(0, 0, logits.len()).weights(&logits);
    let total: u64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight as f64 / total as f64).collect()
}

impl DistributionRequest {
    /// The tokens before the one that is asked about, and those that would end the text.
    fn before(&self, model: &Model) -> Result<(Vec<u32>, Vec<u32>), ApiError> {
        let drawn = self.continue_tokens.as_deref().unwrap_or_default();
        match (&self.messages, &self.prompt) {
            (Some(of), None) => {
                let tokens = prompt(model, &messages(of)?, None, drawn)?;
                let prompter = model.prompter.as_ref().map_err(ApiError::invalid)?;
                Ok((tokens, prompter.end_tokens().to_vec()))
            }
            (None, Some(_)) if !drawn.is_empty() => {
                let message = "continue_tokens is for messages: a prompt can be tokens itself";
                Err(ApiError::param("continue_tokens", message))
            }
            (None, Some(prompt)) => match &mut prompt.tokens(model, "prompt")?[..] {
                [tokens] => Ok((std::mem::take(tokens), model.end_tokens())),
                _ => Err(ApiError::param("prompt", "prompt: one of them")),
            },
            _ => Err(ApiError::param("messages", "either messages or a prompt")),
        }
    }
}
