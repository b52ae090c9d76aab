//! `POST /v1/chat/completions`. Input is attacker-controlled and secret.

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::error::ApiError;
use crate::json::{Fields, Object, Value};
use crate::limits::{Limits, MAX_CONTENT_PARTS, MAX_TOOL_TEXT_BYTES};
use crate::options::{Options, chat_logprobs};
use crate::refusal::RequestError;
use crate::request::{InferenceRequest, Input, Message, Role};
use crate::secret::Prompt;
use crate::tools::{self, Tools};

/// A chat completion request.
#[derive(Debug)]
pub struct ChatRequest {
    messages: Vec<Message>,
    logprobs: Option<u8>,
    tools: Option<Tools>,
    thinking: Option<bool>,
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
        let mut options = Options::read(&object, limits)?;
        let list = object.required("messages")?;
        let mut messages = Vec::new();
        let mut ids = HashMap::new();
        for value in list.elements(limits.messages)? {
            messages.push(message(&value, &mut ids)?);
        }
        if messages.is_empty() {
            return Err(RequestError::Empty { param: list.path() });
        }
        let logprobs = chat_logprobs(&object)?;
        let tools = Tools::read(&object)?;
        if let Some(tools) = &tools {
            let param = || object.field("tools");
            if options.constraint.is_some() {
                let rule = "together with a field that says what the answer has to be";
                return Err(RequestError::Conflict { param: param(), rule });
            }
            if logprobs.is_some() {
                let rule = "together with 'logprobs'";
                return Err(RequestError::Conflict { param: param(), rule });
            }
            options.constraint = tools.constraint().map(|constraint| (constraint, "tools"));
        }
        Ok(Self { messages, logprobs, tools, thinking: thinking(&object)?, options })
    }
}

impl From<ChatRequest> for InferenceRequest {
    fn from(request: ChatRequest) -> Self {
        let ChatRequest { messages, logprobs, tools, thinking, options } = request;
        Self {
            model: options.model,
            input: Input::Chat(messages),
            sampling: options.sampling,
            logit_bias: options.logit_bias,
            stop: options.stop,
            logprobs,
            tools,
            thinking,
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

/// What the chat template is told beside the conversation. The names are those of the templates: one
/// that nobody here knows could be a wish that is not kept.
fn thinking(object: &Object<'_>) -> Result<Option<bool>, RequestError> {
    const FIELDS: Fields = Fields { known: &["enable_thinking"], unsupported: &[] };
    let Some(told) = object.optional("chat_template_kwargs") else { return Ok(None) };
    let told = told.object(&FIELDS)?;
    told.optional("enable_thinking").map(|switch| switch.boolean()).transpose()
}

/// One message; `ids` has the numbers of the calls before.
fn message(value: &Value<'_>, ids: &mut HashMap<String, u32>) -> Result<Message, RequestError> {
    let object = value.object(&MESSAGE_FIELDS)?;
    let kind = object.required("role")?;
    let role = match kind.prompt()?.expose() {
        "system" => Some(Role::System),
        "developer" => Some(Role::Developer),
        "user" => Some(Role::User),
        "assistant" => Some(Role::Assistant),
        "tool" => None,
        _ => {
            let allowed = "\"system\", \"developer\", \"user\", \"assistant\" or \"tool\"";
            return Err(RequestError::UnsupportedValue { param: kind.path(), allowed });
        }
    };
    let (calls, id) = (object.optional("tool_calls"), object.optional("tool_call_id"));
    let only = |value: &Value<'_>, rule| RequestError::Conflict { param: value.path(), rule };
    if let Some(calls) = calls.as_ref().filter(|_| role != Some(Role::Assistant)) {
        return Err(only(calls, "unless the role is \"assistant\""));
    }
    if let Some(id) = id.as_ref().filter(|_| role.is_some()) {
        return Err(only(id, "unless the role is \"tool\""));
    }
    let Some(role) = role else {
        let id = object.required("tool_call_id")?.short_prompt(MAX_TOOL_TEXT_BYTES)?;
        let answers = ids.get(id.expose()).copied().unwrap_or_default();
        let content = content(&object.required("content")?)?;
        return Ok(Message { answers, ..Message::new(Role::Tool, content) });
    };
    // Models are not told what they thought before; their templates take it out too.
    object.optional("reasoning_content").map(|reasoning| reasoning.prompt()).transpose()?;
    let (content, calls) = match &calls {
        None => (content(&object.required("content")?)?, Vec::new()),
        Some(calls) => {
            let said = object.optional("content").map(|said| content(&said)).transpose()?;
            (said.unwrap_or_else(|| Prompt::new(String::new())), tools::calls(calls, ids)?)
        }
    };
    Ok(Message { calls, ..Message::new(role, content) })
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
        "priority",
        "logprobs",
        "top_logprobs",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "frequency_penalty",
        "presence_penalty",
        "min_p",
        "logit_bias",
        "guided_json",
        "guided_regex",
        "guided_choice",
        "guided_grammar",
        "chat_template_kwargs",
        "store",
    ],
    unsupported: &[
        "structured_outputs",
        "audio",
        "function_call",
        "functions",
        "metadata",
        "modalities",
        "prediction",
        "reasoning_effort",
        "repetition_penalty",
        "safety_identifier",
        "service_tier",
        "verbosity",
        "web_search_options",
    ],
};

/// An assistant message as SDKs hand it back has the unsupported ones as `null`, and in `parsed` what their
/// helpers read in the content.
const MESSAGE_FIELDS: Fields = Fields {
    known: &["role", "content", "tool_calls", "tool_call_id", "reasoning_content", "parsed"],
    unsupported: &["annotations", "audio", "function_call", "name", "refusal"],
};

const PART_FIELDS: Fields = Fields {
    known: &["type", "text"],
    unsupported: &["cache_control", "file", "image_url", "input_audio", "refusal"],
};
