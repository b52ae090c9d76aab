//! Answers in the shapes of `chat.completion`, `chat.completion.chunk` and `text_completion`.
//! What is written is a secret until it is sealed, and is built in a buffer that is wiped.

use chrysalis_wire::{RequestId, SecretBytes, UnixTime};
use serde::Serialize;

use crate::calls::Call;
use crate::encode::secret_json;
use crate::logprobs::{LoggedToken, LogprobsJson};
use crate::request::Endpoint;

/// Why an answer ended, the less complete the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended, or a stop string was met.
    Stop,
    /// The model ended, and called tools.
    ToolCalls,
    /// The token limit was reached.
    Length,
}

/// Tokens of one request; `prompt` includes `cached`, `completion` includes `reasoning`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TokenUsage {
    /// Prompt tokens.
    pub prompt: u32,
    /// Prompt tokens answered from a cache.
    pub cached: u32,
    /// Completion tokens.
    pub completion: u32,
    /// Completion tokens spent on reasoning.
    pub reasoning: u32,
}

/// A piece of an answer, or the whole of one.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its tokens, if log probabilities were asked for.
    pub tokens: Option<&'a [LoggedToken]>,
}

impl<'a> Piece<'a> {
    /// Text without log probabilities.
    #[must_use]
    pub const fn text(text: &'a str) -> Self {
        Self { text, tokens: None }
    }
}

/// One of the answers to a request.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// All of its text.
    pub piece: Piece<'a>,
    /// Its reasoning, in chats with a model that reasons.
    pub reasoning: Option<&'a str>,
    /// Calls of tools in it, in chats.
    pub calls: &'a [Call],
    /// Why it ended.
    pub reason: FinishReason,
}

/// Writes the answer to one request: either [`Responder::whole`], or for each choice
/// [`Responder::open`], [`Responder::delta`]s and [`Responder::finish`], and then [`Responder::usage`]. Each result is one JSON
/// object on one line.
#[derive(Clone, Debug)]
pub struct Responder {
    endpoint: Endpoint,
    request_id: RequestId,
    id: String,
    created: UnixTime,
    model: String,
    fingerprint: Option<String>,
    include_usage: bool,
}

impl Responder {
    /// A responder for chats and completions; [`crate::ResponsesWriter`] is that of responses. The answer's `id` holds `request_id`, so that it leads to the receipt.
    #[must_use]
    pub fn new(endpoint: Endpoint, request_id: RequestId, created: UnixTime, model: &str) -> Self {
        let prefix = match endpoint {
            Endpoint::Chat | Endpoint::Responses => "chatcmpl",
            Endpoint::Completions => "cmpl",
        };
        Self {
            endpoint,
            request_id,
            id: format!("{prefix}-{request_id}"),
            created,
            model: model.to_owned(),
            fingerprint: None,
            include_usage: false,
        }
    }

    /// Sets `system_fingerprint`.
    #[must_use]
    pub fn with_fingerprint(mut self, fingerprint: impl Into<String>) -> Self {
        self.fingerprint = Some(fingerprint.into());
        self
    }

    /// Whether the stream carries token counts: `usage` is then `null` in every chunk but the
    /// last.
    #[must_use]
    pub const fn with_usage(mut self, include_usage: bool) -> Self {
        self.include_usage = include_usage;
        self
    }

    /// The chunk that opens a choice of a chat; completions have none.
    #[must_use]
    pub fn open(&self, index: u32) -> Option<SecretBytes> {
        match self.endpoint {
            Endpoint::Completions => None,
            Endpoint::Chat | Endpoint::Responses => {
                let (role, content) = (Some(ASSISTANT), Some(""));
                let delta = Delta { role, content, ..Delta::default() };
                Some(self.chunk(index, ChoiceBody::Delta { delta }, None, None, None))
            }
        }
    }

    /// A piece of a choice. `obfuscation`, random bytes of random length from the caller, becomes a
    /// field of as many characters that hides the length of the text.
    #[must_use]
    pub fn delta(&self, index: u32, piece: Piece<'_>, obfuscation: Option<&[u8]>) -> SecretBytes {
        let text = piece.text;
        let body = match self.endpoint {
            Endpoint::Chat | Endpoint::Responses => {
                let delta = Delta { content: Some(text), ..Delta::default() };
                ChoiceBody::Delta { delta }
            }
            Endpoint::Completions => ChoiceBody::Text { text },
        };
        self.chunk(index, body, piece.tokens, None, obfuscation)
    }

    /// A piece of a choice's reasoning.
    #[must_use]
    pub fn reasoning(&self, index: u32, text: &str, obfuscation: Option<&[u8]>) -> SecretBytes {
        let delta = Delta { reasoning_content: Some(text), ..Delta::default() };
        self.chunk(index, ChoiceBody::Delta { delta }, None, None, obfuscation)
    }

    /// A call of a tool, the `nth` of its choice; `obfuscation` as in [`Responder::delta`].
    #[must_use]
    pub fn call(
        &self,
        index: u32,
        nth: u32,
        call: &Call,
        obfuscation: Option<&[u8]>,
    ) -> SecretBytes {
        let calls = [CallJson { index: Some(nth), ..self.call_json(index, nth, call) }];
        let delta = Delta { tool_calls: Some(&calls), ..Delta::default() };
        self.chunk(index, ChoiceBody::Delta { delta }, None, None, obfuscation)
    }

    fn call_json<'a>(&self, index: u32, nth: u32, call: &'a Call) -> CallJson<'a> {
        let function = FunctionJson { name: &call.name, arguments: call.arguments.expose() };
        let id = format!("call-{}-{index}-{nth}", self.request_id);
        CallJson { index: None, id, r#type: "function", function }
    }

    /// The chunk that says why a choice ended.
    #[must_use]
    pub fn finish(&self, index: u32, reason: FinishReason) -> SecretBytes {
        let body = match self.endpoint {
            Endpoint::Chat | Endpoint::Responses => ChoiceBody::Delta { delta: Delta::default() },
            Endpoint::Completions => ChoiceBody::Text { text: "" },
        };
        self.chunk(index, body, None, Some(reason), None)
    }

    /// The chunk with token counts and no choice, if it was asked for.
    #[must_use]
    pub fn usage(&self, usage: &TokenUsage) -> Option<SecretBytes> {
        let envelope = || {
            secret_json(&Envelope {
                usage: Some(Some(UsageJson::from(usage))),
                ..self.envelope(self.chunk_object(), &[])
            })
        };
        self.include_usage.then(envelope)
    }

    /// Every choice at once, in their order.
    #[must_use]
    pub fn whole(&self, all: &[Whole<'_>], usage: &TokenUsage) -> SecretBytes {
        let object = match self.endpoint {
            Endpoint::Chat | Endpoint::Responses => "chat.completion",
            Endpoint::Completions => "text_completion",
        };
        let choices: Vec<Choice<'_>> =
            (0..).zip(all).map(|(index, whole)| self.choice(index, whole)).collect();
        secret_json(&Envelope {
            usage: Some(Some(UsageJson::from(usage))),
            ..self.envelope(object, &choices)
        })
    }

    fn choice<'a>(&self, index: u32, whole: &Whole<'a>) -> Choice<'a> {
        let Piece { text, tokens } = whole.piece;
        let body = match self.endpoint {
            Endpoint::Chat | Endpoint::Responses => {
                let call = |(nth, call)| self.call_json(index, nth, call);
                let tool_calls: Vec<_> = (0..).zip(whole.calls).map(call).collect();
                // A message that is calls alone has no content.
                let content = Some(text).filter(|_| tool_calls.is_empty() || !text.is_empty());
                let message = WholeMessage {
                    role: ASSISTANT,
                    content,
                    refusal: None,
                    reasoning_content: whole.reasoning,
                    tool_calls,
                };
                ChoiceBody::Message { message }
            }
            Endpoint::Completions => ChoiceBody::Text { text },
        };
        let logprobs = tokens.map(|tokens| LogprobsJson::new(self.endpoint, tokens));
        Choice { index, body, logprobs, finish_reason: Some(whole.reason) }
    }

    fn chunk(
        &self,
        index: u32,
        body: ChoiceBody<'_>,
        tokens: Option<&[LoggedToken]>,
        finish_reason: Option<FinishReason>,
        obfuscation: Option<&[u8]>,
    ) -> SecretBytes {
        let logprobs = tokens.map(|tokens| LogprobsJson::new(self.endpoint, tokens));
        let choices = [Choice { index, body, logprobs, finish_reason }];
        secret_json(&Envelope {
            usage: self.include_usage.then_some(None),
            obfuscation: obfuscation.map(obfuscation_text),
            ..self.envelope(self.chunk_object(), &choices)
        })
    }

    const fn chunk_object(&self) -> &'static str {
        match self.endpoint {
            Endpoint::Chat | Endpoint::Responses => "chat.completion.chunk",
            Endpoint::Completions => "text_completion",
        }
    }

    fn envelope<'a>(&'a self, object: &'static str, choices: &'a [Choice<'a>]) -> Envelope<'a> {
        Envelope {
            id: &self.id,
            object,
            created: self.created,
            model: &self.model,
            system_fingerprint: self.fingerprint.as_deref(),
            choices,
            usage: None,
            obfuscation: None,
        }
    }
}

/// One character for each byte, each of 64 equally likely.
fn obfuscation_text(random: &[u8]) -> String {
    let letter = |b: &u8| OBFUSCATION_ALPHABET.get(usize::from(b & 63)).copied().unwrap_or(b'-');
    random.iter().map(letter).map(char::from).collect()
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: &'a str,
    object: &'static str,
    created: UnixTime,
    model: &'a str,
    system_fingerprint: Option<&'a str>,
    choices: &'a [Choice<'a>],
    /// Absent, `null` or present: all three occur in streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    obfuscation: Option<String>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    #[serde(flatten)]
    body: ChoiceBody<'a>,
    logprobs: Option<LogprobsJson<'a>>,
    finish_reason: Option<FinishReason>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ChoiceBody<'a> {
    Message { message: WholeMessage<'a> },
    Delta { delta: Delta<'a> },
    Text { text: &'a str },
}

#[derive(Serialize)]
struct WholeMessage<'a> {
    role: &'static str,
    content: Option<&'a str>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallJson<'a>>,
}

#[derive(Serialize)]
struct CallJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u32>,
    id: String,
    r#type: &'static str,
    function: FunctionJson<'a>,
}

#[derive(Serialize)]
struct FunctionJson<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<&'a [CallJson<'a>]>,
}

#[derive(Serialize)]
struct UsageJson {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u32,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u32,
}

impl From<&TokenUsage> for UsageJson {
    fn from(usage: &TokenUsage) -> Self {
        Self {
            prompt_tokens: usage.prompt,
            completion_tokens: usage.completion,
            total_tokens: u64::from(usage.prompt).saturating_add(usage.completion.into()),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning },
        }
    }
}

const ASSISTANT: &str = "assistant";
const OBFUSCATION_ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
