//! `/openapi.json`: the interface for programs, from the types that are read and written.

use axum::Json;
use serde_json::{Value, json};
use utoipa::{OpenApi, ToSchema};

use super::{chat, completions, distribution, embeddings, error, frames, models, params, score};

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

/// The body of what asks for a distribution.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(crate) struct DistributionBody {
    #[serde(flatten)]
    request: distribution::DistributionRequest,
    #[serde(flatten)]
    params: params::Params,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "mynah", description = "OpenAI's interface to the models of mynah"),
    paths(
        chat::chat,
        completions::completions,
        distribution::distribution,
        embeddings::embeddings,
        score::score,
        models::list,
        models::get,
        models::load,
        models::unload,
        crate::station::rate::me,
        crate::station::rate::next,
        crate::station::rate::previous,
        crate::station::rate::draft,
        crate::station::rate::submit,
        crate::station::own::report,
        crate::station::own::raters,
        crate::station::own::invite,
        crate::station::chat::status,
        crate::station::chat::rank,
        crate::station::chat::thumb,
        crate::runs::all,
        crate::runs::steps,
        crate::runs::ask,
        crate::runs::curves,
        crate::runs::alarm,
        crate::learn::routes::told,
        crate::learn::routes::begin,
        crate::learn::routes::stop,
        crate::learn::routes::resume,
        crate::learn::routes::doubted,
        crate::learn::routes::doubt,
        crate::http::routes::health,
        crate::http::routes::ready,
        crate::http::routes::metrics,
        crate::http::routes::stream,
        crate::http::routes::forget,
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
