//! `/openapi.json`: the interface for programs, from the types that are read and written.

use axum::Json;
use serde_json::{Value, json};
use utoipa::{OpenApi, ToSchema};

use super::{chat, completions, embeddings, error, frames, models, params, score};

/// The body of a chat.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(crate) struct ChatBody {
    #[schema(inline)]
    #[serde(flatten)]
    request: chat::ChatRequest,
    #[serde(flatten)]
    params: params::Params,
}

/// The body of a completion.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(crate) struct CompletionBody {
    #[serde(flatten)]
    request: completions::CompletionRequest,
    #[serde(flatten)]
    params: params::Params,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "mynah", description = "OpenAI's interface to the models of mynah"),
    paths(
        chat::chat,
        completions::completions,
        embeddings::embeddings,
        score::score,
        models::list,
        models::get,
        models::load,
        models::unload,
        crate::http::routes::health,
        crate::http::routes::ready,
        crate::http::routes::metrics,
        crate::http::routes::stream,
        openapi
    ),
    components(schemas(frames::ChatChunk, error::ErrorResponse))
)]
struct Api;

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "server", responses((status = 200, description = "This document")))]
pub(crate) async fn openapi() -> Json<Value> {
    Json(serde_json::to_value(Api::openapi()).unwrap_or(json!({})))
}
