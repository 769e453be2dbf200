//! Bodies of requests: read within limits, checked, and told by field where they are wrong.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

use super::error::ApiError;
use crate::app::App;

/// Bytes of a body, at most.
pub(crate) const BYTES: usize = 2 << 20;
/// Bytes of a longer one that are heard before it is cut off.
const HEARD_BYTES: usize = 16 << 20;
/// How deep objects and arrays may lie in each other.
const DEPTH: usize = 64;

/// A JSON object.
pub(crate) struct JsonBody(pub(crate) Value);

impl FromRequest<Arc<App>> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<JsonBody, ApiError> {
        let is_json =
            request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value
                    .split(';')
                    .next()
                    .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
            });
        if !is_json {
            return Err(ApiError::media_type());
        }
        read(request.into_body(), app.limits.body).await.map(JsonBody)
    }
}

async fn read(body: Body, time: Duration) -> Result<Value, ApiError> {
    let bytes = tokio::time::timeout(time, bytes(body)).await.map_err(|_| ApiError::slow())??;
    if depth(&bytes) > DEPTH {
        return Err(ApiError::invalid(format!("the body is nested deeper than {DEPTH} levels")));
    }
    let value: Value = json(&bytes)?;
    if !value.is_object() {
        return Err(ApiError::invalid("the body is not a JSON object"));
    }
    Ok(value)
}

/// All bytes of a body. What is too long is heard to its end, within reason: a client that is cut off while it
/// writes never reads why.
async fn bytes(body: Body) -> Result<Vec<u8>, ApiError> {
    let (mut bytes, mut len, mut body) = (Vec::new(), 0, body.into_data_stream());
    while let Some(part) = body.next().await {
        let part = part.map_err(|_| ApiError::invalid("the body could not be read"))?;
        len += part.len();
        match len {
            ..=BYTES => bytes.extend_from_slice(&part),
            _ if len <= HEARD_BYTES => bytes = Vec::new(),
            _ => break,
        }
    }
    if len > BYTES { Err(ApiError::too_large(BYTES)) } else { Ok(bytes) }
}

/// What is written in JSON. NaN, which some programs write, is told of by the field that has it.
fn json(bytes: &[u8]) -> Result<Value, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let not_json = |error: serde_json::Error| format!("the body is not JSON: {error}");
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let error = ApiError::invalid(not_json(error.into_inner()));
        if path == "." { error } else { error.of(&path) }
    })?;
    reader.end().map_err(|error| ApiError::invalid(not_json(error)))?;
    Ok(value)
}

/// How deep brackets lie in each other, outside of strings.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The fields of a body that a type has.
///
/// # Errors
/// One is of another kind: the error names it.
pub(crate) fn fields<T: DeserializeOwned>(body: &Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(body).map_err(|error| {
        let (path, what) = (error.path().to_string(), plainly(&error.inner().to_string()));
        match path.as_str() {
            // A field that is missing has no path of its own.
            "." => ApiError::invalid(what),
            _ => ApiError::param(&path, format!("{path}: {what}")),
        }
    })
}

/// What a value should have been, in the words of JSON instead of those of our types.
fn plainly(message: &str) -> String {
    let message = message.replace("type: sequence", "type: list").replace("type: map", "type: object");
    let Some((found, expected)) = message.rsplit_once("expected ") else { return message };
    let expected = match expected {
        "u64" => "a whole number, 0 or more",
        "u32" => "a whole number from 0 to 4294967295",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ => return message,
    };
    format!("{found}expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_are_not_depth() {
        assert_eq!(depth(br#"{"a":[[1]],"b":"[[[[\"[[[["}"#), 3);
        assert_eq!(depth(b"]]]["), 1);
    }

    #[test]
    fn a_body_is_told_what_is_wrong_with_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(70), "]".repeat(70));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(BYTES));
        for (body, status, said) in [
            (deep, 400, "deeper"),
            (long, 413, "longer"),
            ("{\"a\":".to_owned(), 400, "not JSON"),
            ("[1]".to_owned(), 400, "not a JSON object"),
        ] {
            let error = runtime.block_on(read(Body::from(body), Duration::from_secs(5))).unwrap_err();
            assert_eq!(error.status(), status);
            assert!(error.body().message.contains(said), "{error:?}");
        }
    }
}
