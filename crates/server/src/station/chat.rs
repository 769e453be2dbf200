//! What is said in the chat page.

use axum::Json;
use axum::extract::State;
use feedback::{ChatRanking, Thumb};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::api::ApiError;
use crate::api::body::{JsonBody, fields};
use crate::app::App;

/// Whether feedback is kept, and how much there is.
#[utoipa::path(get, path = "/v1/feedback", tag = "ranking", responses((status = 200, description = "Ratings"), (status = 404, description = "None is kept")))]
pub(crate) async fn status(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let ratings = app.station()?.run(|store, _| Ok(store.ratings()?)).await?;
    Ok(Json(json!({ "ratings": ratings })))
}

/// Keeps a ranking of answers: of several to one question, of two models' to a vote, of one and how it should have been.
#[utoipa::path(post, path = "/v1/feedback/rankings", tag = "ranking",
    request_body(content = Object, description = "key, messages, completions: [[text, model]], ranks (null where all are bad)"),
    responses((status = 200, description = "Its number")))]
pub(crate) async fn rank(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let said: ChatRanking = fields(&body)?;
    let rating = app.station()?.run(move |store, now| store.rank_chat(&said, now)).await?;
    Ok(Json(json!({ "rating": rating })))
}

/// Keeps a thumb on an answer.
#[utoipa::path(post, path = "/v1/feedback/thumbs", tag = "ranking",
    request_body(content = Object, description = "key, subject, messages, completion, label (null takes it back)"),
    responses((status = 200, description = "It is kept")))]
pub(crate) async fn thumb(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let said: Thumb = fields(&body)?;
    app.station()?.run(move |store, now| store.thumb(&said, now)).await?;
    Ok(Json(json!({ "kept": true })))
}
