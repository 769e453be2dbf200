//! What is the owner's: what ratings say, and who ranks.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::ToSchema;

use crate::api::ApiError;
use crate::api::body::{JsonBody, fields};
use crate::app::App;

/// Somebody who is to rank.
#[derive(Deserialize, ToSchema)]
struct NewRater {
    name: String,
}

/// How far raters agree, which model is better, and how sure that is.
#[utoipa::path(get, path = "/v1/rank/report", tag = "ranking", responses((status = 200, description = "All of it")))]
pub(crate) async fn report(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let report = app.station()?.run(|store, _| Ok(serde_json::to_value(store.report()?)?));
    Ok(Json(report.await?))
}

/// Who ranks, with the tokens of their links.
#[utoipa::path(get, path = "/v1/rank/raters", tag = "ranking", responses((status = 200, description = "Names and tokens")))]
pub(crate) async fn raters(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let raters = app.station()?.run(|store, _| Ok(store.raters()?)).await?;
    let line = |(name, token)| json!({ "name": name, "token": token });
    Ok(Json(json!({ "raters": raters.into_iter().map(line).collect::<Vec<_>>() })))
}

/// Lets somebody rank.
#[utoipa::path(post, path = "/v1/rank/raters", tag = "ranking", request_body = inline(NewRater),
    responses((status = 200, description = "The name, and the token of the link")))]
pub(crate) async fn invite(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let NewRater { name } = fields(&body)?;
    let link = app.station()?.run(move |store, _| {
        let rater = store.rater(&name)?;
        Ok(json!({ "name": store.name(rater)?, "token": store.token(rater) }))
    });
    Ok(Json(link.await?))
}
