//! Answers in the shapes of `chat.completion`, `chat.completion.chunk` and `text_completion`.
//! What is written is a secret until it is sealed, and is built in a buffer that is wiped.

use chrysalis_wire::{RequestId, SecretBytes, UnixTime};
use serde::Serialize;

use crate::encode::secret_json;
use crate::request::Endpoint;

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended, or a stop string was met.
    Stop,
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

/// Writes the answer to one request: either [`Responder::whole`], or [`Responder::open`],
/// [`Responder::delta`]s, [`Responder::finish`] and [`Responder::usage`]. Each result is one JSON
/// object on one line.
#[derive(Clone, Debug)]
pub struct Responder {
    endpoint: Endpoint,
    id: String,
    created: UnixTime,
    model: String,
    fingerprint: Option<String>,
    include_usage: bool,
}

impl Responder {
    /// A responder. The answer's `id` holds `request_id`, so that it leads to the receipt.
    #[must_use]
    pub fn new(endpoint: Endpoint, request_id: RequestId, created: UnixTime, model: &str) -> Self {
        let prefix = match endpoint {
            Endpoint::Chat => "chatcmpl",
            Endpoint::Completions => "cmpl",
        };
        Self {
            endpoint,
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

    /// The chunk that opens a chat; completions have none.
    #[must_use]
    pub fn open(&self) -> Option<SecretBytes> {
        match self.endpoint {
            Endpoint::Completions => None,
            Endpoint::Chat => {
                let delta = Delta { role: Some(ASSISTANT), content: Some("") };
                Some(self.chunk(ChoiceBody::Delta { delta }, None, None))
            }
        }
    }

    /// A piece of text. `obfuscation`, random bytes of random length from the caller, becomes a
    /// field of as many characters that hides the length of the text.
    #[must_use]
    pub fn delta(&self, text: &str, obfuscation: Option<&[u8]>) -> SecretBytes {
        let body = match self.endpoint {
            Endpoint::Chat => {
                ChoiceBody::Delta { delta: Delta { role: None, content: Some(text) } }
            }
            Endpoint::Completions => ChoiceBody::Text { text },
        };
        self.chunk(body, None, obfuscation)
    }

    /// The chunk that says why the answer ended.
    #[must_use]
    pub fn finish(&self, reason: FinishReason) -> SecretBytes {
        let body = match self.endpoint {
            Endpoint::Chat => ChoiceBody::Delta { delta: Delta { role: None, content: None } },
            Endpoint::Completions => ChoiceBody::Text { text: "" },
        };
        self.chunk(body, Some(reason), None)
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

    /// The whole answer at once.
    #[must_use]
    pub fn whole(&self, text: &str, reason: FinishReason, usage: &TokenUsage) -> SecretBytes {
        let (object, body) = match self.endpoint {
            Endpoint::Chat => {
                let message = WholeMessage { role: ASSISTANT, content: text, refusal: None };
                ("chat.completion", ChoiceBody::Message { message })
            }
            Endpoint::Completions => ("text_completion", ChoiceBody::Text { text }),
        };
        let choices = [Choice { index: 0, body, logprobs: None, finish_reason: Some(reason) }];
        secret_json(&Envelope {
            usage: Some(Some(UsageJson::from(usage))),
            ..self.envelope(object, &choices)
        })
    }

    fn chunk(
        &self,
        body: ChoiceBody<'_>,
        finish_reason: Option<FinishReason>,
        obfuscation: Option<&[u8]>,
    ) -> SecretBytes {
        let choices = [Choice { index: 0, body, logprobs: None, finish_reason }];
        secret_json(&Envelope {
            usage: self.include_usage.then_some(None),
            obfuscation: obfuscation.map(obfuscation_text),
            ..self.envelope(self.chunk_object(), &choices)
        })
    }

    const fn chunk_object(&self) -> &'static str {
        match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
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
    logprobs: Option<()>,
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
    content: &'a str,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
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
