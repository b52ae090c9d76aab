//! Reads a worker's answer, whole or one chunk of it, for clients that show the text or compare
//! token counts with the receipt. The worker is attested but its bytes are still bounded and
//! checked; fields we do not know are skipped.

use thiserror::Error;

use crate::json::{Object, Value};
use crate::limits::{MAX_ANSWER_BYTES, MAX_CHOICES};
use crate::refusal::RequestError;
use crate::response::{FinishReason, TokenUsage};
use crate::secret::Completion;

/// Why an answer cannot be read. It quotes nothing of the answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the answer does not have the API's shape: {0}")]
pub struct AnswerError(#[from] RequestError);

impl AnswerError {
    /// Stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "E-ANSWER-SHAPE"
    }
}

/// What an answer, or one chunk of it, says.
#[derive(Debug, Default)]
pub struct Answer {
    /// Text of the first choice.
    pub text: Option<Completion>,
    /// Why it ended, of several choices the least complete; `None` in chunks before the end, and for
    /// reasons we do not know.
    pub finish: Option<FinishReason>,
    /// Token counts.
    pub usage: Option<TokenUsage>,
}

impl Answer {
    /// Reads a chat completion, a text completion, a response, embeddings, or a chunk or event of one of them.
    ///
    /// # Errors
    /// [`AnswerError`] for JSON of another shape, or over [`MAX_ANSWER_BYTES`].
    pub fn parse(json: &[u8]) -> Result<Self, AnswerError> {
        let object = Object::parse_lenient(json, MAX_ANSWER_BYTES)?;
        if object.optional("type").is_some() || object.optional("output").is_some() {
            return Ok(Self::response(&object)?);
        }
        if object.optional("data").is_some() {
            // Vectors come whole or not at all.
            let usage = object.optional("usage").map(|v| embeddings_usage(&v)).transpose()?;
            return Ok(Self { text: None, finish: Some(FinishReason::Stop), usage });
        }
        let choices = object.required("choices")?.elements(MAX_CHOICES as usize)?;
        let mut answer = Self::default();
        for (n, choice) in choices.iter().enumerate() {
            let Self { text, finish, .. } = Self::choice(choice)?;
            if n == 0 {
                answer.text = text;
            }
            answer.finish = answer.finish.max(finish);
        }
        answer.usage = object.optional("usage").map(|v| usage(&v)).transpose()?;
        Ok(answer)
    }

    /// A response, or an event of one.
    fn response(object: &Object<'_>) -> Result<Self, RequestError> {
        let Some(kind) = object.optional("type") else { return Self::response_object(object) };
        if let Some(response) = object.optional("response") {
            let answer = Self::response_object(&response.object_lenient()?)?;
            // Its text came piece by piece.
            return Ok(Self { text: None, ..answer });
        }
        let delta = object.optional("delta").filter(|_| kind.word() == Some(TEXT_DELTA));
        let text = delta.map(|delta| delta.prompt()).transpose()?.map(Completion::from);
        Ok(Self { text, ..Self::default() })
    }

    fn response_object(object: &Object<'_>) -> Result<Self, RequestError> {
        let mut answer = Self::default();
        if let Some(item) = object.required("output")?.elements(1)?.first() {
            let content = item.object_lenient()?.required("content")?;
            if let Some(part) = content.elements(1)?.first() {
                let text = part.object_lenient()?.required("text")?.prompt()?;
                answer.text = Some(Completion::from(text));
            }
        }
        answer.finish = match object.required("status")?.word() {
            Some("completed") => Some(FinishReason::Stop),
            Some("incomplete") => Some(FinishReason::Length),
            _ => None,
        };
        answer.usage = object.optional("usage").map(|v| response_usage(&v)).transpose()?;
        Ok(answer)
    }

    fn choice(value: &Value<'_>) -> Result<Self, RequestError> {
        let choice = value.object_lenient()?;
        let text = match choice.optional("message").or_else(|| choice.optional("delta")) {
            Some(message) => message.object_lenient()?.optional("content"),
            None => choice.optional("text"),
        };
        let text = text.map(|v| v.prompt()).transpose()?;
        let finish = choice.optional("finish_reason").map(|v| v.prompt()).transpose()?;
        Ok(Self {
            text: text.map(Completion::from),
            finish: finish.and_then(|reason| match reason.expose() {
                "stop" => Some(FinishReason::Stop),
                "length" => Some(FinishReason::Length),
                "tool_calls" => Some(FinishReason::ToolCalls),
                _ => None,
            }),
            usage: None,
        })
    }
}

fn response_usage(value: &Value<'_>) -> Result<TokenUsage, RequestError> {
    let usage = value.object_lenient()?;
    Ok(TokenUsage {
        prompt: tokens(&usage.required("input_tokens")?)?,
        cached: detail(&usage, "input_tokens_details", "cached_tokens")?,
        completion: tokens(&usage.required("output_tokens")?)?,
        reasoning: detail(&usage, "output_tokens_details", "reasoning_tokens")?,
    })
}

fn detail(usage: &Object<'_>, group: &str, name: &str) -> Result<u32, RequestError> {
    match usage.optional(group) {
        None => Ok(0),
        Some(details) => details.object_lenient()?.optional(name).map_or(Ok(0), |v| tokens(&v)),
    }
}

fn usage(value: &Value<'_>) -> Result<TokenUsage, RequestError> {
    let usage = value.object_lenient()?;
    Ok(TokenUsage {
        prompt: tokens(&usage.required("prompt_tokens")?)?,
        cached: detail(&usage, "prompt_tokens_details", "cached_tokens")?,
        completion: tokens(&usage.required("completion_tokens")?)?,
        reasoning: detail(&usage, "completion_tokens_details", "reasoning_tokens")?,
    })
}

fn embeddings_usage(value: &Value<'_>) -> Result<TokenUsage, RequestError> {
    let prompt = tokens(&value.object_lenient()?.required("prompt_tokens")?)?;
    Ok(TokenUsage { prompt, ..TokenUsage::default() })
}

fn tokens(value: &Value<'_>) -> Result<u32, RequestError> {
    let tokens = value.integer(0, u32::MAX.into())?;
    Ok(u32::try_from(tokens).unwrap_or(u32::MAX))
}

/// The event that carries a piece of text.
const TEXT_DELTA: &str = "response.output_text.delta";
