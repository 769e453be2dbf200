//! The ranking station: what people think of answers. Its store is SQLite's, whose calls wait for the disk: they run beside the
//! threads that serve.

pub(crate) mod chat;
pub(crate) mod own;
pub(crate) mod rate;

use anyhow::Result;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use feedback::{Refused, Role, Store};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::api::ApiError;
use crate::app::App;

/// The store of a server that has one.
#[derive(Clone)]
pub(crate) struct Station(Arc<Mutex<Store>>);

/// Addresses that raters may ask.
const RATERS: [&str; 5] =
    ["/v1/rank/me", "/v1/rank/next", "/v1/rank/previous", "/v1/rank/draft", "/v1/rank/submit"];
/// Addresses of the station that are the owner's.
const OWNERS: [&str; 5] =
    ["/v1/rank/report", "/v1/rank/raters", "/v1/feedback", "/v1/feedback/rankings", "/v1/feedback/thumbs"];

/// Whether an address is the station's.
pub(crate) fn is_station(path: &str) -> bool {
    RATERS.contains(&path) || OWNERS.contains(&path)
}

impl Station {
    pub(crate) fn new(store: Store) -> Station {
        Station(Arc::new(Mutex::new(store)))
    }

    /// Asks the store; `ask` is told the time.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Store, i64) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = Arc::clone(&self.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
        let asked = tokio::task::spawn_blocking(move || {
            ask(&mut store.lock().unwrap_or_else(PoisonError::into_inner), now)
        });
        let answer = asked.await.map_err(|_| ApiError::failed("the store's call failed"))?;
        answer.map_err(|refused| match refused {
            Refused::Unknown => ApiError::not_found(refused),
            Refused::Expired => ApiError::conflict(refused),
            Refused::Wrong(_) => ApiError::invalid(refused),
            Refused::Failed(_) => ApiError::failed(refused),
        })
    }

    /// What who asks for `path` may do. A token of the store tells; without one it is the owner who has a key of the server, or
    /// anybody on this machine where none is needed.
    ///
    /// # Errors
    /// The token or the key is missing or wrong; the path is the owner's and a rater asks.
    pub(crate) async fn admit(
        &self,
        app: &App,
        address: IpAddr,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Role, ApiError> {
        let given = app.guard.bearer(address, headers)?;
        let is_given = given.is_some();
        let role = match given {
            Some(token) => self.run(move |store, _| Ok(store.role(&token)?)).await?,
            None => None,
        };
        let role = match role {
            Some(role) => role,
            // A token that is damaged opens nothing, where no key would.
            None if is_given && !app.guard.has_keys() => return Err(app.guard.wrong_key(address)),
            None => {
                app.guard.check_key(address, headers)?;
                self.run(|store, _| Ok(Role::Owner(store.owner()))).await?
            }
        };
        match role {
            Role::Rater(_) if !RATERS.contains(&path) => {
                Err(ApiError::forbidden("this link is for ranking alone"))
            }
            role => Ok(role),
        }
    }
}

/// What who asks may do at the station.
pub(crate) struct Admitted(pub(crate) Role);

impl FromRequestParts<Arc<App>> for Admitted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Admitted, ApiError> {
        app.station()?;
        let role = parts.extensions.get::<Role>().copied();
        role.map(Admitted).ok_or_else(ApiError::unauthorized)
    }
}

impl App {
    /// The store.
    ///
    /// # Errors
    /// The server has none.
    pub(crate) fn station(&self) -> Result<&Station, ApiError> {
        let none = || ApiError::not_found("this server keeps no feedback: start it with --store FILE");
        self.station.as_ref().ok_or_else(none)
    }
}
