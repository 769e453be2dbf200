//! `/v1/learn`: what is learned, begun, stopped and gone on with.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use utoipa::ToSchema;

use super::{By, Lesson, carry_on, doubts};
use crate::api::ApiError;
use crate::api::body::{JsonBody, fields};
use crate::api::models::Name;
use crate::app::App;
use crate::model::Kind;
use crate::runs::beside;

/// What is to be learned.
#[derive(Deserialize, ToSchema)]
struct Wanted {
    /// The model to begin from.
    model: String,
    /// How it learns once there is a reward model.
    by: By,
    /// Its optimizer steps; of PPO, iterations; as many as the recipe says where it is left out.
    steps: Option<u64>,
}

/// A generation.
#[derive(Deserialize, ToSchema)]
struct Named {
    name: String,
}

/// What becomes of a ranking that the reward model doubts.
#[derive(Deserialize, ToSchema)]
struct Doubted {
    /// Of the ranking.
    assignment: i64,
    /// Whether it is let stand; else its rater is asked again.
    kept: bool,
}

/// The rankings that a generation's reward model orders most surely the other way.
#[utoipa::path(get, path = "/v1/doubts/{model}", tag = "learning", params(("model" = String, Path, description = "What was learned")),
    responses((status = 200, description = "Twenty of them at most, those first that it believes least; null while it reads them")))]
pub(crate) async fn doubted(State(app): State<Arc<App>>, Name(name): Name) -> Result<Json<Value>, ApiError> {
    let learn = Arc::clone(app.learn()?);
    let known = app.station()?.run(|store, _| Ok(store.doubted()?)).await?;
    let told = beside(move || doubts::told(&learn.generation(&name)?, &known).map_err(ApiError::failed));
    Ok(Json(json!({ "doubts": told.await? })))
}

/// Asks again for a ranking that is doubted, or lets it stand.
#[utoipa::path(post, path = "/v1/doubts", tag = "learning", request_body = inline(Doubted),
    responses((status = 200, description = "It comes first on the page of whoever gave it; or it is kept"), (status = 404, description = "There is no such ranking")))]
pub(crate) async fn doubt(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let Doubted { assignment, kept } = fields(&body)?;
    app.learn()?;
    app.station()?.run(move |store, _| store.doubt(assignment, kept)).await?;
    Ok(Json(json!({ "kept": kept })))
}

/// What was learned and is being learned, and how much there is to learn from.
#[utoipa::path(get, path = "/v1/learn", tag = "learning", responses((status = 200, description = "Rankings, prompts, and generations with their stages"), (status = 404, description = "Nothing learns here")))]
pub(crate) async fn told(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let learn = Arc::clone(app.learn()?);
    let (rankings, prompts) = app.station()?.run(|store, _| Ok(store.counts()?)).await?;
    let runs = app.runs.clone();
    let generations = beside(move || {
        let name_of = |dir: &std::path::Path| runs.as_ref().and_then(|runs| runs.name_of(dir));
        Ok(learn.all().iter().map(|generation| learn.told(generation, name_of)).collect::<Vec<_>>())
    });
    Ok(Json(json!({ "rankings": rankings, "prompts": prompts, "generations": generations.await? })))
}

/// Learns from the rankings that there are: a reward model, and a model by it.
#[utoipa::path(post, path = "/v1/learn", tag = "learning", request_body = inline(Wanted),
    responses((status = 200, description = "The new model's name"), (status = 409, description = "Another one is being learned")))]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let Wanted { model, by, steps } = fields(&body)?;
    let learn = Arc::clone(app.learn()?);
    let parent = app.model(&model)?;
    if parent.kind != Kind::Writes {
        return Err(ApiError::param(
            "model",
            format!("{model:?} scores answers: choose one that writes them"),
        ));
    }
    if steps == Some(0) {
        return Err(ApiError::param("steps", "steps is a whole number from 1"));
    }
    let entries = app.entries();
    let source = entries.get(&model).map(|entry| entry.source.clone()).ok_or_else(|| app.no_model(&model))?;
    let lesson = app
        .station()?
        .run(|store, _| Ok(Lesson { rankings: store.numbered_rankings()?, prompts: store.prompts()? }));
    let lesson = lesson.await?;
    if lesson.rankings.is_empty() {
        return Err(ApiError::conflict("nothing was ranked yet: there is nothing to learn from"));
    }
    let planning = Arc::clone(&learn);
    let generation = beside(move || {
        // Before anything is written.
        drop(planning.place()?);
        let is_taken = |name: &str| entries.contains_key(name);
        planning.plan(&source, by, steps, &lesson, is_taken).map_err(ApiError::failed)
    });
    let generation = generation.await?;
    let name = generation.name.clone();
    learn.take(&generation, None)?;
    carry_on(&app, &learn, generation, None);
    Ok(Json(json!({ "name": name })))
}

/// Lets what is being learned save and stop.
#[utoipa::path(post, path = "/v1/learn/stop", tag = "learning",
    responses((status = 200, description = "It will"), (status = 409, description = "Nothing is being learned")))]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    JsonBody(_): JsonBody,
) -> Result<Json<Value>, ApiError> {
    app.learn()?.stop()?;
    Ok(Json(json!({ "stopping": true })))
}

/// Goes on where it was stopped or killed.
#[utoipa::path(post, path = "/v1/learn/resume", tag = "learning", request_body = inline(Named),
    responses((status = 200, description = "It does"), (status = 409, description = "It is done, or another one is being learned")))]
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let Named { name } = fields(&body)?;
    let learn = Arc::clone(app.learn()?);
    let (of, wanted) = (Arc::clone(&learn), name.clone());
    let mut generation = beside(move || of.generation(&wanted)).await?;
    if generation.next().is_none() {
        return Err(ApiError::conflict(format!("{name} has learned all that it was to learn")));
    }
    learn.take(&generation, None)?;
    generation.failed = None;
    carry_on(&app, &learn, generation, None);
    Ok(Json(json!({ "name": name })))
}
