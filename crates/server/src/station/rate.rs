//! What raters ask and say. Nothing that they hear names a model, a file or a reward.

use axum::Json;
use axum::extract::State;
use feedback::{Role, Submission, Verdict};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

use crate::api::ApiError;
use crate::api::body::{JsonBody, fields};
use crate::app::App;
use crate::station::Admitted;

/// Which item.
#[derive(Deserialize, ToSchema)]
struct Before {
    /// The assignment before which the last one is wanted; of all, where it is left out.
    before: Option<i64>,
}

/// What a page has on an item so far.
#[derive(Deserialize, ToSchema)]
struct Draft {
    assignment: i64,
    /// Whatever the page wants back.
    #[schema(value_type = Object)]
    draft: Value,
}

/// What is said of an item: `ranks`, `all_bad` or `skipped`.
#[derive(Deserialize, ToSchema)]
struct Said {
    assignment: i64,
    /// The page's: the same one twice is one rating, and with other words it is refused.
    key: String,
    /// The rank of each answer by its id; 1 is best, equal ranks are ties.
    ranks: Option<BTreeMap<String, u32>>,
    /// None of the answers is any good.
    #[serde(default)]
    all_bad: bool,
    /// Why it cannot be judged.
    skipped: Option<String>,
    #[serde(default)]
    comment: String,
    /// Seconds spent on it.
    #[serde(default)]
    seconds: f64,
    /// The digest of the guidelines that stood beside it.
    #[serde(default)]
    guidelines: String,
}

/// Who ranks here, by which guidelines, and how far they are.
#[utoipa::path(get, path = "/v1/rank/me", tag = "ranking", responses((status = 200, description = "Name, role, guidelines, progress")))]
pub(crate) async fn me(
    State(app): State<Arc<App>>,
    Admitted(role): Admitted,
) -> Result<Json<Value>, ApiError> {
    let learns = app.learn.is_some();
    let told = app.station()?.run(move |store, now| {
        let rater = role.rater();
        Ok(json!({
            "name": store.name(rater)?,
            "role": if matches!(role, Role::Owner(_)) { "owner" } else { "rater" },
            "guidelines": store.guidelines()?,
            "progress": store.progress(rater, now)?,
            "learning": learns && matches!(role, Role::Owner(_)),
        }))
    });
    Ok(Json(told.await?))
}

/// The item in hand, or another one; null when nothing is left.
#[utoipa::path(post, path = "/v1/rank/next", tag = "ranking", responses((status = 200, description = "Its conversation and its answers in the order of the page")))]
pub(crate) async fn next(
    State(app): State<Arc<App>>,
    Admitted(role): Admitted,
) -> Result<Json<Value>, ApiError> {
    let item = app.station()?.run(move |store, now| store.next(role.rater(), now)).await?;
    Ok(Json(json!({ "item": item })))
}

/// An item that was ranked before, to correct it; null when there is none.
#[utoipa::path(post, path = "/v1/rank/previous", tag = "ranking", request_body = inline(Before),
    responses((status = 200, description = "It, with what was said of it")))]
pub(crate) async fn previous(
    State(app): State<Arc<App>>,
    Admitted(role): Admitted,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let Before { before } = fields(&body)?;
    let item = app.station()?.run(move |store, now| store.previous(role.rater(), before, now)).await?;
    Ok(Json(json!({ "item": item })))
}

/// Keeps a draft, and the item in hand.
#[utoipa::path(post, path = "/v1/rank/draft", tag = "ranking", request_body = inline(Draft),
    responses((status = 200, description = "It is kept"), (status = 409, description = "The item was in hand for too long")))]
pub(crate) async fn draft(
    State(app): State<Arc<App>>,
    Admitted(role): Admitted,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let Draft { assignment, draft } = fields(&body)?;
    app.station()?.run(move |store, now| store.draft(role.rater(), assignment, &draft, now)).await?;
    Ok(Json(json!({ "kept": true })))
}

/// Keeps what is said of an item. The answer comes when it is on the disk.
#[utoipa::path(post, path = "/v1/rank/submit", tag = "ranking", request_body = inline(Said),
    responses((status = 200, description = "Its number"), (status = 409, description = "The item was in hand for too long")))]
pub(crate) async fn submit(
    State(app): State<Arc<App>>,
    Admitted(role): Admitted,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let Said { assignment, key, ranks, all_bad, skipped, comment, seconds, guidelines } = fields(&body)?;
    let verdict = match (ranks, all_bad, skipped) {
        (Some(ranks), false, None) => Verdict::Ranked(ranks),
        (None, true, None) => Verdict::AllBad,
        (None, false, Some(why)) => Verdict::Skipped(why),
        _ => return Err(ApiError::invalid("say one of ranks, all_bad and skipped")),
    };
    let said = Submission { assignment, key, verdict, comment, seconds, guidelines };
    let rating = app.station()?.run(move |store, now| store.submit(role.rater(), &said, now)).await?;
    Ok(Json(json!({ "rating": rating })))
}
