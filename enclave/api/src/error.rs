//! Errors in OpenAI's shape: `{"error":{"message","type","param","code"}}`. Whoever builds one
//! keeps prompts and completions out of the message; nothing in this crate puts one there.

use serde::Serialize;
use thiserror::Error;

/// An error as the SDKs read it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{status} {code}: {message}")]
pub struct ApiError {
    status: u16,
    kind: ErrorKind,
    code: &'static str,
    param: Option<String>,
    message: String,
}

/// `error.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is at fault.
    #[serde(rename = "invalid_request_error")]
    InvalidRequest,
    /// Too many requests at once.
    #[serde(rename = "rate_limit_error")]
    RateLimit,
    /// The server is at fault.
    #[serde(rename = "server_error")]
    Server,
    /// The client refuses to go on: evidence, channel or receipt did not verify.
    #[serde(rename = "refused_error")]
    Refused,
}

impl ApiError {
    /// An error. `message` must not quote the request or the answer.
    #[must_use]
    pub fn new(
        status: u16,
        kind: ErrorKind,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { status, kind, code, param: None, message: message.into() }
    }

    /// The same error, about one field.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// 404: another model than the one served. The name asked for is not repeated.
    #[must_use]
    pub fn model_not_found(served: &str) -> Self {
        let message = format!("The model does not exist here. This server has '{served}'.");
        Self::new(404, ErrorKind::InvalidRequest, "model_not_found", message).with_param("model")
    }

    /// 400: the model is served, but not at this endpoint.
    #[must_use]
    pub fn wrong_endpoint(served: &str, endpoints: &[&str]) -> Self {
        let message =
            format!("This server's model, '{served}', is served at {}.", endpoints.join(", "));
        Self::new(400, ErrorKind::InvalidRequest, "unsupported_endpoint", message)
            .with_param("model")
    }

    /// 400: prompt and answer do not fit the context.
    #[must_use]
    pub fn context_length_exceeded(context_tokens: u32, prompt_tokens: u32) -> Self {
        let message = format!(
            "The prompt has {prompt_tokens} tokens; the model's context is {context_tokens} for \
             prompt and answer together. Shorten the prompt or lower max_tokens."
        );
        Self::new(400, ErrorKind::InvalidRequest, "context_length_exceeded", message)
            .with_param("messages")
    }

    /// 429: as many requests as the worker serves are in progress.
    #[must_use]
    pub fn overloaded() -> Self {
        let message = "All places are taken. Try again shortly.";
        Self::new(429, ErrorKind::RateLimit, "rate_limit_exceeded", message)
    }

    /// 504: the answer took longer than any may.
    #[must_use]
    pub fn out_of_time() -> Self {
        let message = "The answer took longer than any may. It is not complete.";
        Self::new(504, ErrorKind::Server, "timeout", message)
    }

    /// 503: not ready to serve.
    #[must_use]
    pub fn not_ready() -> Self {
        let message = "The server is still starting. Try again shortly.";
        Self::new(503, ErrorKind::Server, "not_ready", message)
    }

    /// 500: a fault here; nothing about it is told.
    #[must_use]
    pub fn internal() -> Self {
        let message = "The server failed on this request. The answer is not complete.";
        Self::new(500, ErrorKind::Server, "internal_error", message)
    }

    /// 404: no such path.
    #[must_use]
    pub fn route_not_found() -> Self {
        let message = "There is nothing at this path.";
        Self::new(404, ErrorKind::InvalidRequest, "not_found", message)
    }

    /// 405: the path exists, the method does not.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let message = "This path does not accept this method.";
        Self::new(405, ErrorKind::InvalidRequest, "method_not_allowed", message)
    }

    /// 502: the client refuses the worker, its evidence or its answer.
    #[must_use]
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(502, ErrorKind::Refused, code, message)
    }

    /// HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// `error.type`.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// `error.code`: stable.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// `error.param`: the field at fault.
    #[must_use]
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// `error.message`.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The response body, one line.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Body<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            message: &'a str,
            r#type: ErrorKind,
            param: Option<&'a str>,
            code: &'a str,
        }
        crate::encode::json(&Body {
            error: Inner {
                message: &self.message,
                r#type: self.kind,
                param: self.param(),
                code: self.code,
            },
        })
    }

    /// Payload of a sealed error frame ([`chrysalis_wire::inner`]).
    #[must_use]
    pub fn frame_payload(&self) -> Vec<u8> {
        chrysalis_wire::inner::encode_error(self.status, &self.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_shape_the_sdks_read() {
        let error =
            ApiError::new(400, ErrorKind::InvalidRequest, "unknown_parameter", "No \"x\"\n")
                .with_param("x");
        assert_eq!(
            String::from_utf8(error.to_json()).unwrap(),
            r#"{"error":{"message":"No \"x\"\n","type":"invalid_request_error","param":"x","code":"unknown_parameter"}}"#
        );
        let json = String::from_utf8(ApiError::internal().to_json()).unwrap();
        assert!(json.contains(r#""type":"server_error","param":null"#));
    }

    #[test]
    fn an_error_frame_is_status_and_json() {
        let error = ApiError::overloaded();
        let frame = error.frame_payload();
        let split = chrysalis_wire::inner::decode_error(&frame).unwrap();
        assert_eq!(split, (429, &error.to_json()[..]));
    }
}
