//! What clients send and hear: OpenAI's interface, and a little more.

mod answer;
pub(crate) mod body;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod distribution;
pub(crate) mod embeddings;
pub(crate) mod error;
mod frames;
mod logprobs;
mod messages;
pub(crate) mod models;
pub(crate) mod openapi;
mod params;
pub(crate) mod score;
mod stream;
mod submit;
mod tools;
mod usage;

pub(crate) use error::ApiError;
pub(crate) use stream::Kept;
pub(crate) use usage::Usage;
