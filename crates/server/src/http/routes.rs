//! What is where.

use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::layer::around;
use super::pages;
use crate::api::models::Name;
use crate::api::{ApiError, chat, completions, distribution, embeddings, models, openapi, score};
use crate::app::{App, Caller};
use crate::learn::routes as learn;
use crate::runs;
use crate::station::{chat as chat_feedback, own, rate};
use crate::worker::State as ModelState;

/// A place that is served.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(super) handler: MethodRouter<Arc<App>>,
}

/// The place that answers while there is room for nothing else.
pub(super) const HEALTH: &str = "/health";

/// Whether a path needs no key: everything else does, whatever else there is.
pub(super) fn is_open(path: &str) -> bool {
    path == HEALTH || pages::is_page(path)
}

/// All places.
pub(crate) fn routes() -> Vec<Route> {
    let at = |path, handler| Route { path, handler };
    let mut routes = vec![
        at("/v1/chat/completions", post(chat::chat)),
        at("/v1/completions", post(completions::completions)),
        at("/v1/distribution", post(distribution::distribution)),
        at("/v1/embeddings", post(embeddings::embeddings)),
        at("/v1/score", post(score::score)),
        at("/v1/streams/{id}", get(stream).delete(forget)),
        at("/v1/models", get(models::list)),
        at("/v1/models/{*model}", get(models::get)),
        at("/v1/load/{*model}", post(models::load)),
        at("/v1/unload/{*model}", post(models::unload)),
        at("/v1/rank/me", get(rate::me)),
        at("/v1/rank/next", post(rate::next)),
        at("/v1/rank/previous", post(rate::previous)),
        at("/v1/rank/draft", post(rate::draft)),
        at("/v1/rank/submit", post(rate::submit)),
        at("/v1/rank/report", get(own::report)),
        at("/v1/rank/raters", get(own::raters).post(own::invite)),
        at("/v1/runs", get(runs::all).post(runs::ask)),
        at("/v1/runs/{*run}", get(runs::steps)),
        at("/v1/curves/{*run}", get(runs::curves)),
        at("/v1/alarm/{*run}", get(runs::alarm)),
        at("/v1/learn", get(learn::told).post(learn::begin)),
        at("/v1/learn/stop", post(learn::stop)),
        at("/v1/learn/resume", post(learn::resume)),
        at("/v1/doubts", post(learn::doubt)),
        at("/v1/doubts/{*model}", get(learn::doubted)),
        at("/v1/feedback", get(chat_feedback::status)),
        at("/v1/feedback/rankings", post(chat_feedback::rank)),
        at("/v1/feedback/thumbs", post(chat_feedback::thumb)),
        at(HEALTH, get(health)),
        at("/ready", get(ready)),
        at("/metrics", get(metrics)),
        at("/openapi.json", get(openapi::openapi)),
    ];
    routes.extend(pages::routes());
    routes
}

/// The places behind what is checked of every request.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let add = |router: Router<Arc<App>>, route: Route| router.route(route.path, route.handler);
    routes()
        .into_iter()
        .fold(Router::new(), add)
        .fallback(async || {
            ApiError::not_found("there is nothing at this address: /openapi.json lists what there is")
        })
        .method_not_allowed_fallback(async || ApiError::method())
        .layer(from_fn_with_state(Arc::clone(app), around))
        .with_state(Arc::clone(app))
}

/// Whether the server lives.
#[utoipa::path(get, path = "/health", tag = "server", responses((status = 200, description = "It does")))]
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// Whether the server can answer: its engines are whole, its models loaded, and it is not stopping.
#[utoipa::path(get, path = "/ready", tag = "server",
    responses((status = 200, description = "It can"), (status = 503, description = "Not now")))]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let is_loaded = app.entries().values().all(|entry| matches!(entry.state, ModelState::Loaded(_)));
    let why = match () {
        _ if app.is_draining.load(Ordering::Acquire) => "the server is stopping",
        _ if !app.shared.ready.load(Ordering::Acquire) => "the engine is being made anew",
        _ if !is_loaded => "a model is not loaded: /v1/models says which",
        _ => return "ready\n".into_response(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

/// Counters for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "server", responses((status = 200, description = "OpenMetrics text")))]
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let shared = &app.shared;
    let counts = [&app.connections, &shared.running, &shared.waiting].map(|it| it.load(Ordering::Relaxed));
    let [connections, running, waiting] = counts;
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], shared.metrics.text(connections, running, waiting)).into_response()
}

/// Where to go on with a stream.
#[derive(Deserialize)]
pub(crate) struct From {
    /// The number of the first event that is wanted.
    #[serde(default)]
    from: usize,
}

/// Goes on with a stream whose request said `resumable`.
#[utoipa::path(get, path = "/v1/streams/{id}", tag = "text",
    params(("id" = String, Path, description = "The answer's id"), ("from" = Option<usize>, Query, description = "The first event wanted")),
    responses((status = 200, description = "Its events, which have numbers"), (status = 404, description = "There is none any more")))]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
    query: Result<Query<From>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(From { from }) = query.map_err(|_| ApiError::param("from", "from must be a whole number"))?;
    app.kept.response(&id, caller.owner, from)
}

/// Ends a stream whose request said `resumable`, and the answer with it.
#[utoipa::path(delete, path = "/v1/streams/{id}", tag = "text",
    params(("id" = String, Path, description = "The answer's id")),
    responses((status = 204, description = "It is over"), (status = 404, description = "There is none any more")))]
pub(crate) async fn forget(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Name(id): Name,
) -> Result<StatusCode, ApiError> {
    app.kept.forget(&id, caller.owner)?;
    Ok(StatusCode::NO_CONTENT)
}
