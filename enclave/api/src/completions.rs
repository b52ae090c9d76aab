//! `POST /v1/completions`. Input is attacker-controlled and secret.

use crate::error::ApiError;
use crate::json::{Fields, Object};
use crate::limits::{DEFAULT_COMPLETION_TOKENS, Limits};
use crate::options::{Options, completion_logprobs};
use crate::refusal::RequestError;
use crate::request::{InferenceRequest, Input};
use crate::secret::Prompt;

/// A completion request.
#[derive(Debug)]
pub struct CompletionRequest {
    prompt: Prompt,
    logprobs: Option<u8>,
    options: Options,
}

impl CompletionRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// As [`crate::ChatRequest::parse`].
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Self, ApiError> {
        Ok(Self::read(body, limits)?)
    }

    fn read(body: &[u8], limits: &Limits) -> Result<Self, RequestError> {
        let object = Object::parse(body, limits.request_bytes, &FIELDS)?;
        let mut options = Options::read(&object, limits)?;
        let most = limits.completion_tokens.checked_div(options.choices).unwrap_or_default();
        let default = DEFAULT_COMPLETION_TOKENS.min(most);
        options.max_tokens = options.max_tokens.or(Some(default));
        let prompt = object.required("prompt")?;
        if !prompt.is_string() {
            let (param, expected) = (prompt.path(), "one string; lists are not supported yet");
            return Err(RequestError::WrongType { param, expected });
        }
        let prompt = prompt.prompt()?;
        Ok(Self { prompt, logprobs: completion_logprobs(&object)?, options })
    }
}

impl From<CompletionRequest> for InferenceRequest {
    fn from(request: CompletionRequest) -> Self {
        let CompletionRequest { prompt, logprobs, options } = request;
        Self {
            model: options.model,
            input: Input::Text(prompt),
            sampling: options.sampling,
            logit_bias: options.logit_bias,
            stop: options.stop,
            logprobs,
            tools: None,
            thinking: None,
            choices: options.choices,
            constraint: options.constraint,
            max_tokens: options.max_tokens,
            stream: options.stream,
            include_usage: options.include_usage,
            include_obfuscation: options.include_obfuscation,
            cache_key: options.cache_key,
            priority: options.priority,
        }
    }
}

const FIELDS: Fields = Fields {
    known: &[
        "model",
        "prompt",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "max_tokens",
        "stop",
        "stream",
        "stream_options",
        "n",
        "best_of",
        "echo",
        "user",
        "prompt_cache_key",
        "priority",
        "logprobs",
        "frequency_penalty",
        "presence_penalty",
        "min_p",
        "logit_bias",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
    ],
    unsupported: &["structured_outputs", "repetition_penalty", "suffix"],
};
