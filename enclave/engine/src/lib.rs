//! The inference engine: text in, tokens out, behind one trait.
//!
//! It trusts the model file, whose bytes the caller has verified against the model root, to be the
//! file the operator pinned, but not to be well formed: every length, shape and template in it is
//! checked and refused with a typed error. It trusts nothing in a request. It never prints, logs or
//! reads the environment or a file, and the clock for deadlines only; an error never carries a byte of a prompt or of a
//! completion.
//!
//! Prompt text, token ids, probabilities and completions held by this crate are wiped when dropped.
//! So are activations and the key/value cache. What it cannot wipe: registers and what the compiler
//! puts on the stack, and the scratch strings of `minijinja` and `tokenizers`. They live in the memory
//! of the trust domain only, and are freed with the request.
//!
//! # Control tokens
//!
//! A control token (`<|im_end|>`) is produced by the chat template only. The same characters inside
//! the content of a message, or anywhere in a raw completion prompt, are tokenised as plain text.
//! `defuse.rs` says how, and what remains.
//!
//! Embedding models are another thing behind another type, [`Embedder`]: see `embed/mod.rs`.
//!
//! # Limits of this version
//!
//! Under the feature `cuda` one NVIDIA GPU may compute instead (`decoder/device/`, `scripts/gpu`).
//!
//! One CPU thread of scheduling over the threads of `kernels/pool.rs`. The families of `family/`, without
//! biases or rope scaling other than `linear` and `rope_freqs`, as a GGUF file or, but for mixtures, as a
//! checkpoint of safetensors; [`MAX_CONTEXT_TOKENS`] of context. Keys and values before a window are given
//! back only if every layer has one: those of Gemma 3 are kept.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
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

mod cache;
mod checkpoint;
mod constrain;
mod decoder;
mod defuse;
mod embed;
mod engine;
mod error;
mod experts;
mod family;
mod gguf;
mod kernels;
mod logprobs;
mod memory;
mod model;
#[cfg(any(test, feature = "testing"))]
mod probe;
mod request;
mod safetensors;
mod sampler;
mod schedule;
mod scheduler;
mod sequence;
mod stop;
mod telling;
mod template;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tokenizer;
mod tool_style;
mod utf8;
mod vocabulary;
mod weights;

pub use chrysalis_wordpiece::TextError;
pub use constrain::{Constraint, ConstraintError, MAX_CONSTRAINT_BYTES, MAX_PATTERN_BYTES};
pub use embed::{EmbedInput, EmbedOptions, Embedder, EmbedderInfo, Embedding, MAX_INPUTS, Vector};
pub use engine::{CandleEngine, EngineOptions, Held, Lost};
pub use error::{EngineError, ModelError, TemplateError};
pub use logprobs::{LEAST_LOGPROB, LoggedToken, TokenLogprob};
pub use model::MAX_CONTEXT_TOKENS;
pub use request::{
    ChatMessage, Control, Conversation, Delta, Event, FinishReason, GenerateRequest, Generation,
    Input, LogitBias, MAX_CHOICES, MAX_LOGIT_BIAS, MAX_LOGIT_BIASES, MAX_MESSAGES, MAX_PENALTY,
    MAX_PROMPT_BYTES, MAX_STOP_BYTES, MAX_STOPS, MAX_TEMPERATURE, MAX_TOP_LOGPROBS, Reasoning,
    Role, Sampling, Scheduling, TokenUsage, ToolCall,
};
pub use schedule::Tenant;
pub use scheduler::PREFILL_CHUNK_TOKENS;
pub use template::{MAX_RENDERED_BYTES, MAX_TEMPLATE_BYTES, TEMPLATE_FUEL};
pub use tool_style::ToolStyle;

/// A model ready to answer. Callers hold `Arc<dyn Engine>`; a batching or CUDA engine replaces
/// [`CandleEngine`] without changing them.
pub trait Engine: Send + Sync {
    /// What is loaded.
    fn info(&self) -> &ModelInfo;

    /// How the model is told about tools, and how it writes calls.
    fn tool_style(&self) -> ToolStyle {
        ToolStyle::Told
    }

    /// Checks, renders and tokenises `request`, and queues it. Returns at once with the number of
    /// prompt tokens and the stream of events; the work happens on the engine's own thread.
    ///
    /// Dropping the receiver stops the work within one step.
    ///
    /// # Errors
    /// Every refusal that can be known before the first token: see [`EngineError`]. Later failures
    /// arrive as [`Event::Failed`].
    fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError>;
}

/// What is loaded. Everything here comes from the verified model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// `general.name`, or empty.
    pub name: String,
    /// `general.architecture`.
    pub architecture: String,
    /// Type of most of the weights, as Candle names it: `Q4_1`, `Q8_0`, `Q4K`, ….
    pub quantisation: String,
    /// Most tokens of prompt and completion together.
    pub context_tokens: u32,
    /// Number of token ids.
    pub vocab: u32,
}
