//! The OpenAI-compatible API: requests are parsed into types that cannot be wrong, answers and
//! errors are written in the shapes the official SDKs read.
//!
//! The input is attacker-controlled, and it is also a secret: prompts live in wiped buffers that
//! do not print ([`Prompt`], [`Completion`]), and no error quotes a value. The crate has no I/O, no
//! clock and no randomness, and runs on both sides: in the worker, and in the client's gateway,
//! which refuses a request before anything is sealed.
//!
//! # What is accepted
//!
//! Every object is checked against a list: a field that is not on it is refused by name, and so
//! is one that OpenAI defines and this server does not support, unless it is `null`. A repeated
//! field is refused. Sizes and counts are bounded by the constants of [`limits`]. Nesting is bounded
//! by the shape: nothing deeper than `messages[..].content[..].text` is ever looked into; a JSON Schema is
//! handed on as it stands, and everything else is skipped without recursion, so `serde_json`'s own recursion limit of 128 is
//! never what stops an input.
//!
//! Many text parts of one message are joined with a line break. `max_tokens` of a completion
//! defaults to 16, as OpenAI's does; that of a chat to what the worker allows.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod answer;
mod calls;
mod chat;
mod completions;
mod constraint;
mod embeddings;
mod encode;
mod error;
mod json;
pub mod limits;
mod logprobs;
mod models;
mod options;
mod refusal;
mod request;
mod responder;
mod response;
mod responses;
mod secret;
pub mod sse;
mod thoughts;
mod tools;
mod vectors;

pub use answer::{Answer, AnswerError};
pub use calls::{Call, CallFormat, CallParser, Said};
pub use chat::ChatRequest;
pub use completions::CompletionRequest;
pub use constraint::Constraint;
pub use embeddings::{EmbeddingInput, EmbeddingRequest, EncodingFormat, embeddings_json};
pub use error::{ApiError, ErrorKind};
pub use limits::Limits;
pub use logprobs::{LoggedToken, TokenLogprob};
pub use models::{ModelCard, models_json, served_at};
pub use refusal::RequestError;
pub use request::{
    Endpoint, InferenceRequest, Input, LogitBias, Message, PastCall, Role, Sampling,
};
pub use responder::ResponsesWriter;
pub use response::{FinishReason, Piece, Responder, TokenUsage, Whole};
pub use responses::ResponsesRequest;
pub use secret::{Completion, Prompt};
pub use thoughts::{Thought, ThoughtParser};
pub use tools::Tools;
pub use vectors::Vectors;
