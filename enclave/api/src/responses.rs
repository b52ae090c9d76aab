//! `POST /v1/responses`: text in, text out. Input is attacker-controlled and secret.
//!
//! Nothing is stored here, so what refers to something stored is refused by name, and so is
//! `store: true`. OpenAI stores a response that does not say; this server never does, and says so in each
//! answer. Tools, log probabilities and reasoning are had through chat completions.

use crate::constraint;
use crate::error::ApiError;
use crate::json::{Fields, Object, Value};
use crate::limits::{Limits, MAX_CONTENT_PARTS};
use crate::options::Options;
use crate::refusal::RequestError;
use crate::request::{InferenceRequest, Input, Message, Role};
use crate::secret::Prompt;
use crate::tools::concat;

/// A request for a response.
#[derive(Debug)]
pub struct ResponsesRequest {
    messages: Vec<Message>,
    options: Options,
}

impl ResponsesRequest {
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
        for (name, allowed) in [("truncation", "\"disabled\""), ("tool_choice", "\"auto\"")] {
            let only = allowed.trim_matches('"');
            if let Some(value) = object.optional(name).filter(|value| value.word() != Some(only)) {
                return Err(RequestError::UnsupportedValue { param: value.path(), allowed });
            }
        }
        if let Some(parallel) = object.optional("parallel_tool_calls") {
            parallel.boolean()?;
        }
        if let Some(text) = object.optional("text") {
            const TEXT: Fields = Fields { known: &["format"], unsupported: &["verbosity"] };
            let format = text.object(&TEXT)?.optional("format");
            let asked = format.as_ref().map(constraint::text_format).transpose()?.flatten();
            if let (Some(format), Some(asked)) = (format, asked) {
                if options.constraint.is_some() {
                    let rule = "together with another field that says what the answer has to be";
                    return Err(RequestError::Conflict { param: format.path(), rule });
                }
                options.constraint = Some((asked, "text.format"));
            }
        }
        let mut messages = Vec::new();
        if let Some(instructions) = object.optional("instructions") {
            messages.push(Message::new(Role::System, instructions.prompt()?));
        }
        let input = object.required("input")?;
        if input.is_string() {
            messages.push(Message::new(Role::User, input.prompt()?));
        } else {
            for item in input.elements(limits.messages)? {
                messages.push(message(&item)?);
            }
        }
        if messages.is_empty() {
            return Err(RequestError::Empty { param: input.path() });
        }
        Ok(Self { messages, options })
    }
}

impl From<ResponsesRequest> for InferenceRequest {
    fn from(request: ResponsesRequest) -> Self {
        let ResponsesRequest { messages, options } = request;
        Self {
            model: options.model,
            input: Input::Chat(messages),
            sampling: options.sampling,
            logit_bias: options.logit_bias,
            stop: options.stop,
            logprobs: None,
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

/// A message as it is written, or as an answer has it.
fn message(value: &Value<'_>) -> Result<Message, RequestError> {
    const ITEM: Fields =
        Fields { known: &["type", "role", "content", "id", "status"], unsupported: &["phase"] };
    let object = value.object(&ITEM)?;
    if let Some(kind) = object.optional("type").filter(|kind| kind.word() != Some("message")) {
        return Err(RequestError::UnsupportedValue { param: kind.path(), allowed: "\"message\"" });
    }
    let role = object.required("role")?;
    let role = match role.word() {
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => {
            let allowed = "\"system\", \"developer\", \"user\" or \"assistant\"";
            return Err(RequestError::UnsupportedValue { param: role.path(), allowed });
        }
    };
    let content = object.required("content")?;
    if content.is_string() {
        return Ok(Message::new(role, content.prompt()?));
    }
    let parts = content.elements(MAX_CONTENT_PARTS)?;
    if parts.is_empty() {
        return Err(RequestError::Empty { param: content.path() });
    }
    let texts: Vec<Prompt> = parts.iter().map(part).collect::<Result<_, _>>()?;
    let mut lines: Vec<&str> = Vec::with_capacity(texts.len().saturating_mul(2));
    for text in &texts {
        if !lines.is_empty() {
            lines.push("\n");
        }
        lines.push(text.expose());
    }
    Ok(Message::new(role, concat(&lines)))
}

fn part(value: &Value<'_>) -> Result<Prompt, RequestError> {
    const PART: Fields = Fields {
        known: &["type", "text", "annotations", "logprobs"],
        unsupported: &["file_id", "image_url", "detail", "refusal"],
    };
    let object = value.object(&PART)?;
    let kind = object.required("type")?;
    if !matches!(kind.word(), Some("input_text" | "output_text")) {
        let allowed = "\"input_text\" or \"output_text\"";
        return Err(RequestError::UnsupportedValue { param: kind.path(), allowed });
    }
    object.required("text")?.prompt()
}

const FIELDS: Fields = Fields {
    known: &[
        "model",
        "input",
        "instructions",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "max_output_tokens",
        "stream",
        "store",
        "text",
        "truncation",
        "tool_choice",
        "parallel_tool_calls",
        "user",
        "prompt_cache_key",
        "priority",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
    ],
    unsupported: &[
        "background",
        "context_management",
        "conversation",
        "include",
        "max_tool_calls",
        "metadata",
        "previous_response_id",
        "prompt",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "stream_options",
        "tools",
        "top_logprobs",
    ],
};
