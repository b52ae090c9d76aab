//! Tests of the API as its users meet it: bodies in, shapes out, through the public API only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod accepting;
mod answering;
mod embeddings;
mod refusing;
mod responses;

use chrysalis_api::{ApiError, Endpoint, InferenceRequest, Limits};

pub const LIMITS: Limits = Limits { request_bytes: 1 << 20, messages: 8, completion_tokens: 512 };

pub fn parse(endpoint: Endpoint, body: &str) -> Result<InferenceRequest, ApiError> {
    InferenceRequest::parse(endpoint, body.as_bytes(), &LIMITS)
}

pub fn chat(body: &str) -> Result<InferenceRequest, ApiError> {
    parse(Endpoint::Chat, body)
}

pub fn completion(body: &str) -> Result<InferenceRequest, ApiError> {
    parse(Endpoint::Completions, body)
}

/// A chat with one message and `extra` fields, each with its leading comma.
pub fn chat_with(extra: &str) -> Result<InferenceRequest, ApiError> {
    chat(&format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#))
}

/// A chat with these messages.
pub fn chat_of(messages: &str) -> Result<InferenceRequest, ApiError> {
    chat(&format!(r#"{{"model":"m","messages":{messages}}}"#))
}

/// A completion with `extra` fields.
pub fn completion_with(extra: &str) -> Result<InferenceRequest, ApiError> {
    completion(&format!(r#"{{"model":"m","prompt":"p"{extra}}}"#))
}
