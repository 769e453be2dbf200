//! Errors as OpenAI's clients read them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use std::fmt::Display;
use utoipa::ToSchema;

use crate::worker::Fault;

/// What went wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// What, where and what to do.
    pub(crate) message: String,
    /// Its kind, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The field at fault.
    pub(crate) param: Option<String>,
    /// A name for programs.
    pub(crate) code: Option<&'static str>,
}

/// The body of a response that failed.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)]
pub(crate) struct ErrorResponse {
    /// What went wrong.
    pub(crate) error: ErrorBody,
}

/// A request that failed, before its answer began.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: Box<ErrorBody>,
    /// Seconds after which it may pass.
    retry_after: Option<u32>,
    /// Whether clients had better not try it again, though its status suggests it.
    is_final: bool,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Display) -> ApiError {
        let body = ErrorBody { message: message.to_string(), kind, param: None, code: None };
        ApiError { status, body: Box::new(body), retry_after: None, is_final: false }
    }

    /// The request is at fault.
    pub(crate) fn invalid(message: impl Display) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A field is at fault.
    pub(crate) fn param(param: &str, message: impl Display) -> ApiError {
        ApiError::invalid(message).of(param)
    }

    /// A field asks for what no model here can do.
    pub(crate) fn unsupported(param: &str) -> ApiError {
        let message = format!("{param} is not supported: the models here read and write text");
        ApiError::param(param, message).code("unsupported_parameter")
    }

    pub(crate) fn of(mut self, param: &str) -> ApiError {
        self.body.param = Some(param.to_owned());
        self
    }

    pub(crate) fn code(mut self, code: &'static str) -> ApiError {
        self.body.code = Some(code);
        self
    }

    /// There is no such model.
    pub(crate) fn no_model(name: &str, known: &[String]) -> ApiError {
        let message = format!("there is no model {name:?} here; there are: {}", known.join(", "));
        let error = ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message);
        error.of("model").code("model_not_found")
    }

    /// Somebody else was first.
    pub(crate) fn conflict(message: impl Display) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, "invalid_request_error", message).code("conflict")
    }

    /// There is no such address.
    pub(crate) fn not_found(message: impl Display) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", message).code("not_found")
    }

    /// The address does not know the method.
    pub(crate) fn method() -> ApiError {
        let message = "this address has no such method";
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
    }

    /// No key, or a wrong one.
    pub(crate) fn unauthorized() -> ApiError {
        let message = "a valid API key is needed, as Authorization: Bearer KEY";
        ApiError::new(StatusCode::UNAUTHORIZED, "authentication_error", message).code("invalid_api_key")
    }

    /// A page of somewhere else asks.
    pub(crate) fn forbidden(message: impl Display) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// Asked under a name that is not this server's.
    pub(crate) fn misdirected(message: impl Display) -> ApiError {
        ApiError::new(StatusCode::MISDIRECTED_REQUEST, "invalid_request_error", message)
    }

    /// The body is in another format.
    pub(crate) fn media_type() -> ApiError {
        let message = "the body must be application/json";
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message)
    }

    /// The body is too large.
    pub(crate) fn too_large(most: usize) -> ApiError {
        let message = format!("the body is longer than {most} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
    }

    /// The body came too slowly.
    pub(crate) fn slow() -> ApiError {
        let message = "the body did not come in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message)
    }

    /// More is asked than can be taken in.
    pub(crate) fn busy(message: impl Display, seconds: u32) -> ApiError {
        let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        error.retry_after = Some(seconds);
        error
    }

    /// Not now.
    pub(crate) fn unavailable(message: impl Display, seconds: u32) -> ApiError {
        let mut error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        error.retry_after = Some(seconds);
        error
    }

    /// Not with this model, which will not change by itself.
    pub(crate) fn out_of_order(message: impl Display) -> ApiError {
        let mut error = ApiError::unavailable(message, 60);
        error.is_final = true;
        error
    }

    /// The engine failed, and may not the next time.
    pub(crate) fn failed(message: impl Display) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// Whether what was asked is at fault.
    pub(crate) fn is_askers(&self) -> bool {
        self.status == StatusCode::BAD_REQUEST
    }

    /// Whether there is no room now.
    pub(crate) fn is_busy(&self) -> bool {
        self.status == StatusCode::TOO_MANY_REQUESTS
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    #[cfg(test)]
    pub(crate) fn body(&self) -> &ErrorBody {
        &self.body
    }
}

/// The event of a stream that failed after it had begun.
pub(crate) fn error_event(error: &ApiError) -> String {
    format!("data: {}\n\n", json!({ "error": error.body }))
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> ApiError {
        match fault {
            Fault::Unloaded => ApiError::out_of_order("the model was unloaded"),
            Fault::Panicked => ApiError::failed("the engine failed at this request's pass"),
            Fault::NotFinite => {
                let error = ApiError::failed("the model's numbers are not finite: its weights are damaged");
                ApiError { is_final: true, ..error }
            }
            Fault::Forbidden => {
                let message = "response_format: nothing can follow that the schema allows";
                ApiError::param("response_format", message)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(json!({ "error": self.body }))).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.is_final {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
