//! `POST /v1/embeddings`: a text as one vector.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lm::model::{Reading, Told};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

use super::answer::{Choice, collect};
use super::body::{JsonBody, fields};
use super::completions::Prompt;
use super::error::ApiError;
use super::params::Params;
use super::submit::{Ask, submit};
use crate::app::{App, Caller};

/// Texts to be embedded.
#[derive(Deserialize, ToSchema)]
pub(crate) struct EmbeddingRequest {
    /// The model's name.
    model: String,
    input: Prompt,
    /// `float`, or `base64` of little-endian `f32`.
    encoding_format: Option<String>,
    /// The model's own width.
    dimensions: Option<u64>,
}

/// Vectors.
#[derive(Serialize, ToSchema)]
pub(crate) struct Embeddings {
    object: &'static str,
    data: Vec<Embedding>,
    model: String,
    usage: EmbeddingUsage,
}

/// The mean of a text's hidden states after the last norm, of length 1.
#[derive(Serialize, ToSchema)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

/// Numbers, or base64 of them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

/// What was read.
#[derive(Serialize, ToSchema)]
struct EmbeddingUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// Embeds texts.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "text",
    request_body = EmbeddingRequest,
    responses(
        (status = 200, description = "The mean of each text's hidden states after the last norm, of length 1", body = Embeddings),
        (status = "4XX", description = "What is wrong with the request", body = super::error::ErrorResponse),
    )
)]
pub(crate) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let request: EmbeddingRequest = fields(&body)?;
    let model = app.model(&request.model)?;
    let width = model.config.d_model;
    if request.dimensions.is_some_and(|n| n != width as u64) {
        return Err(ApiError::param("dimensions", format!("dimensions: the model has {width}")));
    }
    let is_base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(ApiError::param("encoding_format", "encoding_format must be float or base64")),
    };
    let prompts = request.input.tokens(&model, "input")?;
    let generation = fields::<Params>(&serde_json::json!({}))?.check(&model)?;
    let ask = Ask {
        prefix: "embd",
        param: "input",
        prompts,
        begun: Vec::new(),
        generation: &generation,
        max_tokens: Some(0),
        end_tokens: Vec::new(),
        logprobs: None,
        reading: Reading::Hidden,
        constraint: None,
    };
    let mut asked = submit(&app, &caller, &model, ask)?;
    let (choices, usage) = collect(&mut asked).await?;
    let data = choices.into_iter().enumerate().map(|(index, choice)| {
        let vector = unit_mean(&rows(choice), width);
        let embedding = if is_base64 { Vector::Base64(base64(&vector)) } else { Vector::Float(vector) };
        Embedding { object: "embedding", index, embedding }
    });
    let usage = EmbeddingUsage { prompt_tokens: usage.prompt_tokens, total_tokens: usage.total_tokens };
    let (data, model) = (data.collect(), model.name.clone());
    Ok(Json(Embeddings { object: "list", data, model, usage }).into_response())
}

/// What was told of a choice's rows.
pub(super) fn rows(choice: Choice) -> Vec<f32> {
    let rows = |told| if let Told::Rows(rows) = told { rows } else { Vec::new() };
    choice.told.into_iter().flat_map(rows).collect()
}

/// The mean of rows, made as long as 1.
fn unit_mean(rows: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0f64; width];
    for row in rows.chunks_exact(width) {
        sum.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    sum.iter().map(|value| if length > 0.0 { (value / length) as f32 } else { 0.0 }).collect()
}

/// Base64 of `f32`, little-endian.
fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_means_of_length_one() {
        assert_eq!(unit_mean(&[1.0, 2.0, 5.0, 6.0], 2), [0.6, 0.8]);
        assert_eq!(unit_mean(&[0.0, 0.0], 2), [0.0, 0.0]);
    }

    #[test]
    fn numbers_are_little_endian_in_base64() {
        // 1.0 is 00 00 80 3f, and 2.0 is 00 00 00 40.
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, 2.0]), "AACAPwAAAEA=");
        assert_eq!(base64(&[1.0, 2.0, 1.0]), "AACAPwAAAEAAAIA/");
    }
}
