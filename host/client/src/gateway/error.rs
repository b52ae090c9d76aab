//! Errors as OpenAI's SDKs expect them: `{"error":{"message","type","param","code"}}` and a
//! status. There is no 401: any API key is accepted. Messages are ours or sanitised; the JSON of
//! a sealed error is passed to the requester it is for and to nobody else.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use chrysalis_api::{ApiError, ErrorKind};

use crate::error::{ClientError, ErrorClass, KEY_FULL};

/// Why the gateway does not answer.
#[derive(Debug)]
pub(super) struct GatewayError {
    error: ApiError,
    retry_after: Option<u32>,
    may_retry: bool,
}

impl GatewayError {
    /// The error as OpenAI reports it.
    pub(super) const fn api(&self) -> &ApiError {
        &self.error
    }
}

/// The request is at fault: repeating it changes nothing.
impl From<ApiError> for GatewayError {
    fn from(error: ApiError) -> Self {
        Self { error, retry_after: None, may_retry: false }
    }
}

/// The worker, the path to it, or its receipt is at fault.
impl From<ClientError> for GatewayError {
    fn from(error: ClientError) -> Self {
        let (retry_after, may_retry) = (error.retry_after(), may_retry(&error));
        Self { error: to_api(error), retry_after, may_retry }
    }
}

impl IntoResponse for GatewayError {
    fn into_response(self) -> Response {
        let mut response = json(status(self.error.status()), self.error.to_json());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // SDKs repeat every 5xx by default; a worker that was refused stays refused.
        if !self.may_retry {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }
}

/// Whether the same request may succeed if it is repeated.
fn may_retry(error: &ClientError) -> bool {
    let died = matches!(error, ClientError::Truncated { .. });
    died || error.class() == ErrorClass::Unavailable
}

fn to_api(error: ClientError) -> ApiError {
    let message = format!("{error}. Next: {}", error.next_step());
    let code = error.code();
    let server = |status| ApiError::new(status, ErrorKind::Server, code, message.as_str());
    match error {
        ClientError::Api(error) => error,
        ClientError::WorkerRefused { status: 429, .. } => ApiError::overloaded(),
        ClientError::WorkerRefused { status: 503, code, .. } if code == KEY_FULL => {
            ApiError::overloaded()
        }
        ClientError::WorkerRefused { status: 503, .. } => ApiError::not_ready(),
        ClientError::RequestTooLarge { .. } | ClientError::WorkerRefused { status: 413, .. } => {
            ApiError::new(413, ErrorKind::InvalidRequest, code, message)
        }
        ClientError::NoSuchReceipt(_) => {
            ApiError::new(404, ErrorKind::InvalidRequest, code, message)
        }
        ClientError::PaymentRequired { .. } | ClientError::Budget { .. } => {
            ApiError::new(402, ErrorKind::InvalidRequest, code, message)
        }
        ClientError::Ledger(_) => server(500),
        ClientError::Store { .. } | ClientError::StoredMalformed(_) | ClientError::Randomness => {
            server(500)
        }
        ClientError::Unreachable { .. }
        | ClientError::NoSuchHost { .. }
        | ClientError::ClosedDuringHandshake(_) => server(503),
        ClientError::TimedOut { .. } => server(504),
        ClientError::Disconnected | ClientError::Truncated { .. } => server(502),
        _ => ApiError::refused(code, message),
    }
}

/// The requests of web pages.
pub(super) fn browser() -> GatewayError {
    let message = "Web pages may not use this gateway. Call it from a program.";
    ApiError::new(403, ErrorKind::InvalidRequest, "E-BROWSER", message).into()
}

/// Requests for another host.
pub(super) fn other_host() -> GatewayError {
    let message = "This gateway answers only to localhost. Use 127.0.0.1 in the base URL.";
    ApiError::new(421, ErrorKind::InvalidRequest, "E-HOST", message).into()
}

/// A body over its limit.
pub(super) fn too_large(limit: usize) -> GatewayError {
    let message = format!("The request is over the limit of {limit} bytes. Shorten it.");
    ApiError::new(413, ErrorKind::InvalidRequest, "request_too_large", message).into()
}

/// A body that ended early or did not arrive in time.
pub(super) fn broken() -> GatewayError {
    let message = "The request did not arrive whole. Send it again.";
    ApiError::new(400, ErrorKind::InvalidRequest, "E-REQUEST-BROKEN", message).into()
}

/// A JSON response.
pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A status from a number another side chose.
pub(super) fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_GATEWAY)
}

/// What OpenAI's SDKs obey before their own rule, which is to repeat after 408, 409, 429 and every 5xx.
pub(super) const SHOULD_RETRY: &str = "x-should-retry";
