//! What happens to every request before its handler, and to every response after it.

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use serde_json::json;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use super::routes;
use crate::api::ApiError;
use crate::app::{App, Caller};
use crate::station::is_station;

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Whether the connection is one of the last, which are for `/health` alone.
    pub(crate) is_reserve: bool,
}

/// What pages of this server may do: nothing that comes from elsewhere, and no text becomes code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

/// Checks a request, and marks its response.
pub(crate) async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let received = Instant::now();
    let active = Active::new(Arc::clone(&app), received);
    let peer = request.extensions().get::<Peer>().copied();
    let id = request_id();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let mut allowed = None;
    let address = peer.map_or([0, 0, 0, 0].into(), |peer| peer.address.ip());
    let mut checked = check(&app, peer, &request, &mut allowed);
    if let (Ok(None), Some(station)) = (&checked, &app.station) {
        let headers = request.headers().clone();
        match station.admit(&app, address, &path, &headers).await {
            Ok(role) => drop(request.extensions_mut().insert(role)),
            Err(error) => checked = Err(error.into()),
        }
    }
    let mut response = match checked {
        Ok(owner) => {
            let owner = owner.unwrap_or_default();
            request.extensions_mut().insert(Caller { owner, id: id.clone(), received });
            next.run(request).await
        }
        Err(Refusal::Error(error)) => error.into_response(),
        Err(Refusal::Preflight) => preflight(),
    };
    mark(response.headers_mut(), &id, allowed.as_deref());
    if peer.is_some_and(|peer| peer.is_reserve) {
        // Whoever comes again comes to a connection of the others, once there is one.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status().as_u16();
    app.shared.metrics.responded(route.as_deref().unwrap_or("none"), status);
    (app.log)(
        json!({
            "request": id,
            "from": peer.map(|peer| peer.address.ip().to_string()),
            "method": method.as_str(),
            "path": path,
            "status": status,
            "ms": received.elapsed().as_millis() as u64,
        })
        .to_string(),
    );
    response.map(|body| Body::new(Counted { body, _active: active }))
}

/// Why a request does not come to its handler.
enum Refusal {
    Error(ApiError),
    /// A page of an origin that is allowed asks whether it is.
    Preflight,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        Refusal::Error(error)
    }
}

/// Whose request it is; none where the ranking station knows.
fn check(
    app: &App,
    peer: Option<Peer>,
    request: &Request,
    allowed: &mut Option<String>,
) -> Result<Option<u64>, Refusal> {
    let (method, headers, uri) = (request.method(), request.headers(), request.uri());
    let is_open = routes::is_open(uri.path());
    if peer.is_some_and(|peer| peer.is_reserve) && uri.path() != routes::HEALTH {
        return Err(ApiError::unavailable("too many connections are open", 1).into());
    }
    app.guard.check_host(uri, headers)?;
    // Anybody's page may show one of ours, as anybody may read it; what that one asks is of its own origin.
    if !(is_open && *method == Method::GET) {
        *allowed = app.guard.check_origin(method, headers)?;
    }
    if *method == Method::OPTIONS && allowed.is_some() {
        return Err(Refusal::Preflight);
    }
    if is_open {
        return Ok(Some(0));
    }
    if app.station.is_some() && is_station(uri.path()) {
        return Ok(None);
    }
    let address = peer.map_or([0, 0, 0, 0].into(), |peer| peer.address.ip());
    Ok(Some(app.guard.check_key(address, headers)?))
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn mark(headers: &mut HeaderMap, id: &str, allowed: Option<&str>) {
    const FIXED: [(HeaderName, &str); 5] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-request-id", id);
    }
    if let Some(origin) = allowed.and_then(|origin| HeaderValue::from_str(origin).ok()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    }
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}

/// A name that no other request has.
fn request_id() -> String {
    let random = getrandom::u64().unwrap_or_default();
    let low = getrandom::u64().unwrap_or_default();
    format!("{random:016x}{low:016x}")
}

/// A request whose answer is not whole.
struct Active {
    app: Arc<App>,
    received: Instant,
}

impl Active {
    fn new(app: Arc<App>, received: Instant) -> Active {
        app.active.fetch_add(1, Ordering::AcqRel);
        Active { app, received }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.app.active.fetch_sub(1, Ordering::AcqRel);
        self.app.shared.metrics.ended(self.received.elapsed());
    }
}

/// A body that counts as active until it is dropped.
struct Counted {
    body: Body,
    _active: Active,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
