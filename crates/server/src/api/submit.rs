//! From checked requests to jobs of the worker.

use lm::model::{Reading, Request};
use serde_json::Number;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::{Receiver, channel};

use super::error::ApiError;
use super::params::Generation;
use crate::app::{App, Caller};
use crate::grammar::JsonConstraint;
use crate::model::Model;
use crate::worker::{Job, Update};

/// Updates that wait for a client before its request is paused.
const UNREAD: usize = 64;

/// A request whose choices are on their way.
pub(crate) struct Asked {
    pub(crate) app: Arc<App>,
    pub(crate) model: Arc<Model>,
    pub(crate) updates: Receiver<Update>,
    /// Its name, such as `chatcmpl-…`.
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) seed: Number,
    /// Choices of a prompt.
    pub(crate) n: usize,
    /// All choices.
    pub(crate) choices: usize,
    pub(crate) received: Instant,
    /// Who asks.
    pub(crate) owner: u64,
}

/// What is asked of a model.
pub(crate) struct Ask<'a> {
    pub(crate) prefix: &'static str,
    /// The field that has the prompts.
    pub(crate) param: &'static str,
    pub(crate) prompts: Vec<Vec<u32>>,
    /// The bytes of an answer's tokens that are part of its prompt: told already.
    pub(crate) begun: Vec<u8>,
    pub(crate) generation: &'a Generation,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) end_tokens: Vec<u32>,
    pub(crate) logprobs: Option<usize>,
    pub(crate) reading: Reading,
    pub(crate) constraint: Option<JsonConstraint>,
}

/// A room for the answer to a prompt that was given as `param`.
///
/// # Errors
/// The prompt does not fit the context.
fn room(model: &Model, param: &str, prompt: usize, max_tokens: Option<usize>) -> Result<usize, ApiError> {
    let context = model.context();
    if prompt > context {
        let message = format!("the prompt has {prompt} tokens, and the model's context {context}");
        return Err(ApiError::param(param, message).code("context_length_exceeded"));
    }
    // The last token drawn needs no position.
    Ok(max_tokens.unwrap_or(usize::MAX).min(context + 1 - prompt))
}

/// Hands every choice to the worker.
///
/// # Errors
/// A prompt is empty or does not fit the context; too many requests wait.
pub(crate) fn submit(
    app: &Arc<App>,
    caller: &Caller,
    model: &Arc<Model>,
    ask: Ask<'_>,
) -> Result<Asked, ApiError> {
    let Ask { prefix, param, prompts, begun, generation, max_tokens, end_tokens, .. } = ask;
    let Ask { logprobs, reading, constraint, .. } = ask;
    let choices = prompts.len() * generation.n;
    let mut requests = Vec::with_capacity(choices);
    for prompt in prompts {
        if prompt.is_empty() {
            return Err(ApiError::param(param, "an empty prompt, and no token to begin with"));
        }
        let request = Request {
            max_tokens: room(model, param, prompt.len(), max_tokens)?,
            prompt,
            sampling: generation.sampling,
            number: 0,
            stop_tokens: end_tokens.clone(),
            logit_bias: generation.logit_bias.clone(),
            presence_penalty: generation.presence_penalty,
            frequency_penalty: generation.frequency_penalty,
            logprobs,
            reading,
            owner: caller.owner,
        };
        requests.extend((0..generation.n as u64).map(|number| Request { number, ..request.clone() }));
    }
    let mut permits = app.admit(choices)?;
    let (to, updates) = channel(UNREAD * choices);
    for (index, request) in requests.into_iter().enumerate() {
        let Some(permit) = permits.split(1) else { break };
        let constraint = constraint.as_ref().map(|constraint| Box::new(constraint.another()) as _);
        let (model, stop, to) = (model.name.clone(), generation.stop.clone(), to.clone());
        let begun = begun.clone();
        app.door.run(Job { model, request, constraint, begun, stop, index, to, permit });
    }
    Ok(Asked {
        app: Arc::clone(app),
        model: Arc::clone(model),
        updates,
        id: format!("{prefix}-{}", caller.id),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
        seed: generation.seed.clone(),
        n: generation.n,
        choices,
        received: caller.received,
        owner: caller.owner,
    })
}
