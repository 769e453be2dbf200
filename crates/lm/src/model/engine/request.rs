//! What an engine is asked, and what it answers.

use super::Sampling;

/// One sequence to continue.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The tokens so far; at least one, at most as many as a slot holds.
    pub prompt: Vec<u32>,
    /// How many tokens to add at most.
    pub max_tokens: usize,
    /// How they are drawn.
    pub sampling: Sampling,
    /// The number that tells this request's draws from those of others.
    pub number: u64,
    /// Tokens that end the sequence; they are not part of it.
    pub stop_tokens: Vec<u32>,
    /// What is added to the logits of some tokens; no id twice.
    pub logit_bias: Vec<(u32, f32)>,
    /// Taken from the logit of every token that was generated before.
    pub presence_penalty: f32,
    /// Taken from it once for each time.
    pub frequency_penalty: f32,
    /// Whether each token's log-probability is told, and those of how many of the likeliest tokens.
    pub logprobs: Option<usize>,
    /// What is told of the prompt's own tokens.
    pub reading: Reading,
    /// Keys and values of a prompt are used again among requests of one owner only: how soon a first token
    /// comes tells what was asked before.
    pub owner: u64,
}

/// What is told of the tokens of a prompt while they are read. What is told is computed: nothing of such a
/// prompt is taken from what others left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Nothing.
    #[default]
    Nothing,
    /// Of every token but the first its log-probability after those before it, and those of so many of the
    /// likeliest tokens there.
    Logprobs(usize),
    /// The hidden state of every token, after the last norm: `d_model` values.
    Hidden,
    /// What the head that scores makes of it: `n_label` values a token.
    Scores,
}

/// What was told of some tokens of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Of each token.
    Logprobs(Vec<Logprobs>),
    /// `d_model` or `n_label` values of each token, one after another.
    Rows(Vec<f32>),
}

/// What may be drawn next, such as what a grammar allows.
pub trait Constraint: Send {
    /// The tokens that may follow those `generated` so far: bit `id % 32` of word `id / 32`, a bit for every
    /// token that can be drawn. Asked before each draw.
    fn allowed(&mut self, generated: &[u32]) -> &[u32];
}

/// The name of a request that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop token, or the watcher said so.
    Stop,
    /// `max_tokens` were drawn, or the context is full.
    Length,
    /// It was [cancelled](super::Engine::cancel).
    Cancelled,
    /// A token was to be drawn from logits that are not finite; what was to be told of a prompt is not finite.
    Failed,
    /// No token was allowed to be drawn.
    Forbidden,
}

/// Tokens of a request, as the engine has counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Those of the prompt.
    pub prompt_tokens: usize,
    /// Those of the prompt whose keys and values were there already.
    pub cached_tokens: usize,
    /// Those drawn, a stop token included.
    pub drawn_tokens: usize,
}

/// A continuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The tokens after the prompt.
    pub tokens: Vec<u32>,
    /// Why there are no more.
    pub finish: Finish,
    /// The stop token that was drawn, where one was.
    pub end: Option<u32>,
    /// What was read and drawn.
    pub usage: Usage,
}

/// What happened in a [step](super::Engine::step).
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A request got a token.
    Token {
        /// Which.
        id: RequestId,
        /// The token.
        token: u32,
        /// What the model said of it, where that was asked.
        logprobs: Option<Logprobs>,
    },
    /// Some of a prompt was read, from where the last such event ended.
    Read {
        /// Whose.
        id: RequestId,
        /// What is told of it.
        told: Told,
    },
    /// A request is over. Its slot is free.
    Done {
        /// Which.
        id: RequestId,
        /// All that came of it.
        generated: Generated,
    },
}

/// What the model said of a token that was drawn: of the distribution as it is, before temperature, penalties
/// and all else, hence what [`score_continuations`](super::Engine::score_continuations) says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Logprobs {
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// The likeliest tokens and theirs, the likeliest first.
    pub top: Vec<(u32, f64)>,
}
