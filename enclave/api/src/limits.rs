//! Limits of a request. Each has a test one past it.

use chrysalis_wire::limits::MAX_SEALED_REQUEST_BYTES;
use chrysalis_wire::manifest::LimitsSection;

/// Limits a server chooses; the others below are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub request_bytes: usize,
    /// Most messages of a chat.
    pub messages: usize,
    /// Most completion tokens one request may ask for.
    pub completion_tokens: u32,
}

impl Limits {
    /// The limits of a measured manifest: client and worker refuse the same requests.
    #[must_use]
    pub fn from_manifest(limits: &LimitsSection) -> Self {
        Self {
            request_bytes: usize::try_from(limits.request_bytes).unwrap_or(usize::MAX),
            completion_tokens: limits.completion_tokens,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: MAX_SEALED_REQUEST_BYTES,
            messages: MAX_MESSAGES,
            completion_tokens: u32::MAX,
        }
    }
}

/// Most messages of a chat, unless [`Limits`] say otherwise; as many as the engine renders.
pub const MAX_MESSAGES: usize = 1024;
/// Most content parts of one message.
pub const MAX_CONTENT_PARTS: usize = 256;
/// Most stop strings.
pub const MAX_STOPS: usize = 4;
/// Longest stop string, in bytes.
pub const MAX_STOP_BYTES: usize = 64;
/// Longest model name, in bytes; the manifest allows as much.
pub const MAX_MODEL_BYTES: usize = 128;
/// Longest `user` value, in bytes, which is accepted and ignored; and of other short texts.
pub const MAX_USER_BYTES: usize = 256;
/// Shortest `prompt_cache_key`, in bytes: who can guess it learns what its owner asked before. That
/// many hexadecimal digits are 128 bits.
pub const MIN_CACHE_KEY_BYTES: usize = 32;
/// Longest `prompt_cache_key`, in bytes.
pub const MAX_CACHE_KEY_BYTES: usize = 256;
/// Most fields of any object.
pub const MAX_FIELDS: usize = 64;
/// Longest field name an error repeats.
pub const MAX_NAME_CHARS: usize = 64;
/// Highest temperature.
pub const MAX_TEMPERATURE: f64 = 2.0;
/// Highest `top_k`: more than any vocabulary.
pub const MAX_TOP_K: u32 = 1 << 24;
/// Largest penalty either way.
pub const MAX_PENALTY: f64 = 2.0;
/// Largest change of a logit either way.
pub const MAX_LOGIT_BIAS: f64 = 100.0;
/// Most changed logits; [`MAX_FIELDS`] of the object they are written as.
pub const MAX_LOGIT_BIASES: usize = MAX_FIELDS;
/// Most tools of a chat.
pub const MAX_TOOLS: usize = 64;
/// Largest description of a tool, in bytes; and longest id of a call.
pub const MAX_TOOL_TEXT_BYTES: usize = 64 * 1024;
/// Most calls of one message.
pub const MAX_TOOL_CALLS: usize = 64;
/// Largest JSON Schema, regular expression or grammar, in bytes.
pub const MAX_CONSTRAINT_BYTES: usize = 64 * 1024;
/// Most texts of `guided_choice`; each has at most [`MAX_USER_BYTES`].
pub const MAX_GUIDED_CHOICES: usize = 256;
/// Most answers to one request.
pub const MAX_CHOICES: u32 = 8;
/// Most alternatives a chat may ask for in the place of each token.
pub const MAX_TOP_LOGPROBS: u8 = 20;
/// Most alternatives a completion may ask for in the place of each token; OpenAI's limit.
pub const MAX_COMPLETION_LOGPROBS: u8 = 5;
/// `max_tokens` of a completion that does not say; OpenAI's default.
pub const DEFAULT_COMPLETION_TOKENS: u32 = 16;
/// Most texts of one request for embeddings; OpenAI's limit, and as many as the engine takes.
pub const MAX_EMBEDDING_INPUTS: usize = 2048;
/// Most tokens of a text that is given as ids: more than any model takes.
pub const MAX_EMBEDDING_TOKENS: usize = 8192;
/// Most numbers of a vector that a client reads: sixteen times those of the largest models in use.
pub const MAX_DIMENSIONS: usize = 1 << 16;
/// Largest answer a client reads, in bytes: a million tokens of text, escaped.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
