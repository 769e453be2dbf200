//! `/v1/models`: what is served, loaded and let go.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

use super::error::ApiError;
use crate::app::App;
use crate::model::{Kind, Source};
use crate::worker::{Entry, State as ModelState};

/// The models.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    object: &'static str,
    data: Vec<ModelCard>,
    offers: Offers,
}

/// What the server has besides models.
#[derive(Serialize, ToSchema)]
pub(crate) struct Offers {
    /// Whether it keeps what people think of answers.
    feedback: bool,
    /// Whether it shows runs.
    runs: bool,
    /// Whether its models learn from what is kept.
    learning: bool,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelCard {
    /// Its name.
    id: String,
    object: &'static str,
    /// Seconds since 1970 when it was loaded; 0 where it is not.
    created: u64,
    owned_by: &'static str,
    /// `loaded`, `unloaded` or `failed`.
    state: &'static str,
    /// Why it could not be loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Tokens of its context.
    #[serde(skip_serializing_if = "Option::is_none")]
    context_length: Option<usize>,
    /// `chat`, `text` or `score`.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// BLAKE3 of its weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    /// The same without an adapter that stands beside them; models of equal ones have them in memory once.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_digest: Option<String>,
    /// That of its answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<String>,
    /// What computes them: instruction set, precision, version. With the weights it is in the fingerprint.
    arithmetic: String,
}

impl ModelCard {
    fn of(app: &App, name: &str, entry: &Entry) -> ModelCard {
        let mut card = ModelCard {
            id: name.to_owned(),
            object: "model",
            created: 0,
            owned_by: "mynah",
            state: "unloaded",
            error: None,
            context_length: None,
            kind: None,
            digest: None,
            base_digest: None,
            system_fingerprint: None,
            arithmetic: app.arithmetic.clone(),
        };
        match &entry.state {
            ModelState::Unloaded => {}
            ModelState::Failed(why) => (card.state, card.error) = ("failed", Some(why.clone())),
            ModelState::Loaded(model) => {
                let is_chat = model.prompter.as_ref().is_ok_and(|prompter| prompter.is_chat());
                let kind = match model.kind {
                    Kind::Scores(_) => "score",
                    Kind::Writes if is_chat => "chat",
                    Kind::Writes => "text",
                };
                card.state = "loaded";
                card.created = model.created;
                (card.context_length, card.kind) = (Some(model.context()), Some(kind));
                card.digest = Some(model.digest.clone());
                card.base_digest = Some(model.base_digest.clone());
                card.system_fingerprint = Some(app.fingerprint(model));
            }
        }
        card
    }
}

/// The part of an address that is a name.
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name, ApiError> {
        let name = Path::from_request_parts(parts, state).await;
        name.map(|Path(name)| Name(name))
            .map_err(|_| ApiError::not_found("the name in the address is no text"))
    }
}

/// Lists the models.
#[utoipa::path(get, path = "/v1/models", tag = "models",
    responses((status = 200, description = "All of them, loaded or not", body = ModelList)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<ModelList> {
    let data = app.entries().iter().map(|(name, entry)| ModelCard::of(&app, name, entry)).collect();
    let offers =
        Offers { feedback: app.station.is_some(), runs: app.runs.is_some(), learning: app.learn.is_some() };
    Json(ModelList { object: "list", data, offers })
}

/// Tells of a model.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "models",
    params(("model" = String, Path, description = "Its name")),
    responses((status = 200, description = "The model", body = ModelCard), (status = 404, description = "There is none")))]
pub(crate) async fn get(State(app): State<Arc<App>>, Name(name): Name) -> Result<Json<ModelCard>, ApiError> {
    card(&app, &name)
}

fn card(app: &App, name: &str) -> Result<Json<ModelCard>, ApiError> {
    let entries = app.entries();
    let entry = entries.get(name).ok_or_else(|| app.no_model(name))?;
    Ok(Json(ModelCard::of(app, name, entry)))
}

/// Loads a model that was named when the server started.
#[utoipa::path(post, path = "/v1/load/{model}", tag = "models",
    params(("model" = String, Path, description = "Its name")),
    responses((status = 200, description = "It is loaded", body = ModelCard)))]
pub(crate) async fn load(State(app): State<Arc<App>>, Name(name): Name) -> Result<Json<ModelCard>, ApiError> {
    let source = source(&app, &name)?;
    // To its end, whether or not somebody still waits for it.
    let loading = tokio::spawn({
        let app = Arc::clone(&app);
        async move { app.load(source).await }
    });
    let loaded = loading.await.unwrap_or_else(|_| Err("it was not read to its end".to_owned()));
    loaded.map_err(ApiError::out_of_order)?;
    card(&app, &name)
}

/// Lets a model go; who waits for its answer hears that it is gone.
#[utoipa::path(post, path = "/v1/unload/{model}", tag = "models",
    params(("model" = String, Path, description = "Its name")),
    responses((status = 200, description = "It is let go", body = ModelCard)))]
pub(crate) async fn unload(
    State(app): State<Arc<App>>,
    Name(name): Name,
) -> Result<Json<ModelCard>, ApiError> {
    app.door.let_go(source(&app, &name)?).await.map_err(ApiError::out_of_order)?;
    card(&app, &name)
}

/// Where a model comes from.
fn source(app: &App, name: &str) -> Result<Source, ApiError> {
    app.entries().remove(name).map(|entry| entry.source).ok_or_else(|| app.no_model(name))
}
