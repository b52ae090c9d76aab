//! `POST /v1/chat/completions`. Input is attacker-controlled and secret.

use zeroize::Zeroizing;

use crate::error::ApiError;
use crate::json::{Fields, Object, Value};
use crate::limits::{Limits, MAX_CONTENT_PARTS};
use crate::options::{Options, chat_logprobs};
use crate::refusal::RequestError;
use crate::request::{InferenceRequest, Input, Message, Role};
use crate::secret::Prompt;

/// A chat completion request.
#[derive(Debug)]
pub struct ChatRequest {
    messages: Vec<Message>,
    logprobs: Option<u8>,
    options: Options,
}

impl ChatRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// The [`crate::RequestError`] as an [`ApiError`]: 413 for a body over its limit, else 400 with
    /// the field at fault.
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Self, ApiError> {
        Ok(Self::read(body, limits)?)
    }

    fn read(body: &[u8], limits: &Limits) -> Result<Self, RequestError> {
        let object = Object::parse(body, limits.request_bytes, &FIELDS)?;
        let options = Options::read(&object, limits)?;
        let list = object.required("messages")?;
        let messages: Vec<_> =
            list.elements(limits.messages)?.iter().map(message).collect::<Result<_, _>>()?;
        if messages.is_empty() {
            return Err(RequestError::Empty { param: list.path() });
        }
        Ok(Self { messages, logprobs: chat_logprobs(&object)?, options })
    }
}

impl From<ChatRequest> for InferenceRequest {
    fn from(request: ChatRequest) -> Self {
        let ChatRequest { messages, logprobs, options } = request;
        Self {
            model: options.model,
            input: Input::Chat(messages),
            sampling: options.sampling,
            logit_bias: options.logit_bias,
            stop: options.stop,
            logprobs,
            choices: options.choices,
            constraint: options.constraint,
            max_tokens: options.max_tokens,
            stream: options.stream,
            include_usage: options.include_usage,
            include_obfuscation: options.include_obfuscation,
            cache_key: options.cache_key,
        }
    }
}

fn message(value: &Value<'_>) -> Result<Message, RequestError> {
    let object = value.object(&MESSAGE_FIELDS)?;
    let role = object.required("role")?;
    let role = match role.prompt()?.expose() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => {
            let allowed = "\"system\", \"developer\", \"user\" or \"assistant\"";
            return Err(RequestError::UnsupportedValue { param: role.path(), allowed });
        }
    };
    Ok(Message { role, content: content(&object.required("content")?)? })
}

/// A string, or text parts that are joined with a line break.
fn content(value: &Value<'_>) -> Result<Prompt, RequestError> {
    if value.is_string() {
        return value.prompt();
    }
    let parts: Vec<_> =
        value.elements(MAX_CONTENT_PARTS)?.iter().map(part).collect::<Result<_, _>>()?;
    if parts.is_empty() {
        return Err(RequestError::Empty { param: value.path() });
    }
    let size = |part: &Prompt| part.len().saturating_add(1);
    let capacity = parts.iter().map(size).fold(0, usize::saturating_add);
    let mut joined = Zeroizing::new(String::with_capacity(capacity));
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            joined.push('\n');
        }
        joined.push_str(part.expose());
    }
    Ok(Prompt::from(joined))
}

fn part(value: &Value<'_>) -> Result<Prompt, RequestError> {
    let object = value.object(&PART_FIELDS)?;
    let kind = object.required("type")?;
    if kind.prompt()?.expose() != "text" {
        return Err(RequestError::UnsupportedValue { param: kind.path(), allowed: "\"text\"" });
    }
    object.required("text")?.prompt()
}

const FIELDS: Fields = Fields {
    known: &[
        "model",
        "messages",
        "temperature",
        "top_p",
        "top_k",
        "seed",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "stream",
        "stream_options",
        "n",
        "user",
        "prompt_cache_key",
        "logprobs",
        "top_logprobs",
        "response_format",
        "frequency_penalty",
        "presence_penalty",
        "min_p",
        "logit_bias",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "store",
    ],
    unsupported: &[
        "guided_grammar",
        "structured_outputs",
        "audio",
        "function_call",
        "functions",
        "metadata",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "reasoning_effort",
        "repetition_penalty",
        "safety_identifier",
        "service_tier",
        "tool_choice",
        "tools",
        "verbosity",
        "web_search_options",
    ],
};

/// An assistant message as SDKs hand it back has the unsupported ones as `null`.
const MESSAGE_FIELDS: Fields = Fields {
    known: &["role", "content"],
    unsupported: &[
        "annotations",
        "audio",
        "function_call",
        "name",
        "reasoning_content",
        "refusal",
        "tool_call_id",
        "tool_calls",
    ],
};

const PART_FIELDS: Fields = Fields {
    known: &["type", "text"],
    unsupported: &["cache_control", "file", "image_url", "input_audio", "refusal"],
};
