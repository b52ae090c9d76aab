//! What a caller asks and what it gets back. Requests are untrusted: [`GenerateRequest::check`] is
//! called before anything else reads one. Text lives in [`SecretBytes`], which do not print.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use chrysalis_wire::SecretBytes;
use tokio::sync::mpsc;

use crate::constrain::Constraint;
use crate::error::EngineError;
use crate::logprobs::LoggedToken;
use crate::schedule::Tenant;

/// One request.
#[derive(Debug)]
pub struct GenerateRequest {
    /// The prompt.
    pub input: Input,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Added to the logits of single tokens before anything else; at most [`MAX_LOGIT_BIASES`].
    pub logit_bias: Vec<LogitBias>,
    /// Strings that end the answer; they are not part of it. UTF-8.
    pub stop: Vec<SecretBytes>,
    /// What the answers have to be. An answer that is cut, by `max_tokens` or a stop string, is the
    /// beginning of one.
    pub constraint: Option<Constraint>,
    /// Whether log probabilities of the tokens come with the text, and of how many others in the place
    /// of each; at most [`MAX_TOP_LOGPROBS`].
    pub logprobs: Option<u8>,
    /// How many answers to give, from 1 to [`MAX_CHOICES`]. They differ in their seeds alone: the first is
    /// the answer to the same request for one. The prompt is computed once.
    pub choices: u32,
    /// Most tokens to generate for each answer. Cut to what the context leaves.
    pub max_tokens: u32,
    /// Whose turn it is when.
    pub scheduling: Scheduling,
}

/// What a request is beside others. It changes when an answer comes, never the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Who asks. Requests of one tenant share what they are served, and what was computed of equal
    /// prefixes of their prompts. Without one a request shares neither with anybody.
    pub tenant: Option<Tenant>,
    /// Higher ones overtake others of the same tenant; they take nothing from anybody else.
    pub priority: u8,
    /// When it has to have begun, by [`crate::EngineOptions::clock`]: one that still waits for its first turn
    /// then ends with [`EngineError::Expired`]. One that began goes on, also where it has to wait midway.
    pub begin_by: Option<Instant>,
    /// When the answer is no longer wanted: then the request ends with [`EngineError::Expired`], waiting
    /// or not.
    pub deadline: Option<Instant>,
}

/// The prompt.
#[derive(Debug)]
pub enum Input {
    /// A conversation, rendered by the model's chat template.
    Chat(Conversation),
    /// Plain text to continue. Control tokens in it are plain text.
    Text(SecretBytes),
}

/// A conversation, and what a model is told beside it.
#[derive(Debug, Default)]
pub struct Conversation {
    /// What was said, at least one message.
    pub messages: Vec<ChatMessage>,
    /// Descriptions of the tools that may be called: JSON objects with a name, for a template that tells
    /// them ([`crate::Engine::tool_style`]).
    pub tools: Vec<SecretBytes>,
    /// Whether the answer has to be a call: then [`GenerateRequest::constraint`] says which.
    pub must_call: bool,
    /// Whether to reason before the answer, for a template that knows `enable_thinking`.
    pub thinking: Option<bool>,
}

/// One message of a conversation.
#[derive(Debug)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said. UTF-8.
    pub content: SecretBytes,
    /// The tools an assistant called.
    pub calls: Vec<ToolCall>,
    /// Of a tool's message the number of the call it answers.
    pub answers: u32,
}

impl ChatMessage {
    /// A message without calls.
    #[must_use]
    pub const fn new(role: Role, content: SecretBytes) -> Self {
        Self { role, content, calls: Vec::new(), answers: 0 }
    }
}

/// A call of a tool in a conversation.
#[derive(Debug)]
pub struct ToolCall {
    /// Which one of the conversation, from 1.
    pub number: u32,
    /// Name of the tool. UTF-8.
    pub name: SecretBytes,
    /// Its arguments. UTF-8, and JSON if a model wrote it.
    pub arguments: SecretBytes,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The application. OpenAI's `developer` is this role.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool that was called, with what it returned.
    Tool,
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 is greedy: always the most likely token.
    pub temperature: f32,
    /// Nucleus: the most likely tokens that together reach this probability.
    pub top_p: f32,
    /// Only this many of the most likely tokens.
    pub top_k: Option<u32>,
    /// Only tokens at least this fraction as likely as the most likely one; 0 is off.
    pub min_p: f32,
    /// Taken off a token's logit for every time it was generated already; 0 is off.
    pub frequency_penalty: f32,
    /// Taken off a token's logit once if it was generated already; 0 is off.
    pub presence_penalty: f32,
    /// The same seed, model and request give the same answer. `None` draws one from
    /// [`crate::EngineOptions::entropy`].
    pub seed: Option<u64>,
}

impl Sampling {
    /// Always the most likely token.
    #[must_use]
    pub const fn greedy() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: None,
        }
    }
}

/// A change to one token's logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitBias {
    /// Id of the token in the model's vocabulary.
    pub token: u32,
    /// Added to its logit, from -[`MAX_LOGIT_BIAS`] to [`MAX_LOGIT_BIAS`].
    pub bias: f32,
}

/// A request in progress.
#[derive(Debug)]
pub struct Generation {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Whether the answer may begin with reasoning.
    pub reasoning: Reasoning,
    /// Text as it comes, then one [`Event::Finished`] for each choice, or [`Event::Failed`] for all of
    /// them. Closing without means the engine is gone: the answer is not complete. The channel has room for every
    /// event of the request, so a slow reader never stops the others.
    pub events: mpsc::Receiver<Event>,
    /// Cancels, and counts tokens even after the receiver is gone.
    pub control: Control,
}

/// Whether an answer may begin with reasoning between `<think>` tags, as the model's chat template shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reasoning {
    /// The model does not reason, or was not asked in its template.
    None,
    /// The answer may begin with the first tag.
    Possible,
    /// The prompt ends with the first tag: the answer begins inside.
    Begun,
}

/// A handle to a request in progress.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    prompt: u32,
    cached: AtomicU32,
    computed: AtomicU32,
    completion: AtomicU32,
    cancelled: AtomicBool,
}

impl Control {
    pub(crate) fn new(prompt: u32) -> Self {
        let (cached, computed, completion, cancelled) = Default::default();
        Self { shared: Arc::new(Shared { prompt, cached, computed, completion, cancelled }) }
    }

    /// Stops the request within one step. Unlike dropping the receiver, the
    /// stream still ends with [`Event::Finished`] and [`FinishReason::Cancelled`].
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
    }

    /// Tokens so far, of the prompt those that were computed or there by now: none until its turn has come.
    #[must_use]
    pub fn usage(&self) -> TokenUsage {
        // In the reverse order of what the engine notes: what is seen comes with all that it follows from.
        let completion = self.shared.completion.load(Ordering::Acquire);
        let prompt = self.shared.computed.load(Ordering::Acquire);
        let cached = self.shared.cached.load(Ordering::Relaxed).min(prompt);
        TokenUsage { prompt, cached, completion }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Relaxed)
    }

    /// Notes that its turn has come, with `cached` tokens of its prompt there already.
    pub(crate) fn begin(&self, cached: u32) {
        self.shared.cached.store(cached, Ordering::Relaxed);
    }

    /// Notes that its first `tokens` are computed. One that lost its pages begins anew, and no token counts twice.
    pub(crate) fn compute(&self, tokens: u32) {
        self.shared.computed.fetch_max(tokens.min(self.shared.prompt), Ordering::Release);
    }

    /// Counts one token.
    pub(crate) fn count_token(&self) {
        self.shared.completion.fetch_add(1, Ordering::Release);
    }
}

/// One event of a stream.
#[derive(Debug)]
pub enum Event {
    /// More of the answer.
    Delta(Delta),
    /// One choice is complete.
    Finished {
        /// Which, from 0.
        choice: u32,
        /// Why it ended.
        reason: FinishReason,
        /// Tokens spent so far, for all choices.
        usage: TokenUsage,
    },
    /// The answer is not complete and never will be. Nothing follows.
    Failed(EngineError),
}

/// A piece of an answer.
#[derive(Debug)]
pub struct Delta {
    /// Which choice it continues, from 0.
    pub choice: u32,
    /// Whole characters, valid UTF-8: all that one step said. Empty only if tokens without text end an
    /// answer.
    pub text: SecretBytes,
    /// The tokens that begin in this text, or behind it where an answer ends, if the request asked for them.
    pub tokens: Vec<LoggedToken>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its turn, or a stop string was reached.
    Stop,
    /// `max_tokens` or the end of the context was reached.
    Length,
    /// [`Control::cancel`] was called.
    Cancelled,
}

/// Tokens of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUsage {
    /// Tokens of the prompt, template included; while it is computed, those that are.
    pub prompt: u32,
    /// Tokens of the prompt that an earlier request of the same tenant had computed.
    pub cached: u32,
    /// Tokens drawn for all choices, those that ended turns included.
    pub completion: u32,
}

impl GenerateRequest {
    /// Refuses every parameter out of range for a model with this many tokens. NaN is out of every
    /// range.
    pub(crate) fn check(&self, vocabulary: u32) -> Result<(), EngineError> {
        let Sampling { temperature, top_p, top_k, min_p, .. } = self.sampling;
        if !(0.0..=MAX_TEMPERATURE).contains(&temperature) {
            return Err(EngineError::Temperature { got: temperature.to_string() });
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(EngineError::TopP { got: top_p.to_string() });
        }
        if top_k == Some(0) {
            return Err(EngineError::TopKZero);
        }
        if !(0.0..=1.0).contains(&min_p) {
            return Err(EngineError::MinP { got: min_p.to_string() });
        }
        for penalty in [self.sampling.frequency_penalty, self.sampling.presence_penalty] {
            if !(-MAX_PENALTY..=MAX_PENALTY).contains(&penalty) {
                return Err(EngineError::Penalty { got: penalty.to_string() });
            }
        }
        if self.logit_bias.len() > MAX_LOGIT_BIASES {
            return Err(EngineError::TooManyBiases { got: self.logit_bias.len() });
        }
        for LogitBias { token, bias } in &self.logit_bias {
            if *token >= vocabulary {
                return Err(EngineError::BiasToken { got: *token, vocabulary });
            }
            if !(-MAX_LOGIT_BIAS..=MAX_LOGIT_BIAS).contains(bias) {
                return Err(EngineError::Bias { got: bias.to_string() });
            }
        }
        if let Some(got) = self.logprobs.filter(|n| *n > MAX_TOP_LOGPROBS) {
            return Err(EngineError::TopLogprobs { got });
        }
        if !(1..=MAX_CHOICES).contains(&self.choices) {
            return Err(EngineError::Choices { got: self.choices, limit: MAX_CHOICES });
        }
        if self.max_tokens == 0 {
            return Err(EngineError::MaxTokensZero);
        }
        if self.stop.len() > MAX_STOPS {
            return Err(EngineError::TooManyStops { got: self.stop.len() });
        }
        for (index, stop) in self.stop.iter().enumerate() {
            if stop.is_empty() {
                return Err(EngineError::StopEmpty { index });
            }
            if core::str::from_utf8(stop.expose()).is_err() {
                return Err(EngineError::StopNotUtf8 { index });
            }
            if stop.len() > MAX_STOP_BYTES {
                return Err(EngineError::StopTooLong { index, got: stop.len() });
            }
        }
        let bytes = match &self.input {
            Input::Text(text) => text.len(),
            Input::Chat(chat) if chat.messages.is_empty() => {
                return Err(EngineError::MessagesEmpty);
            }
            Input::Chat(chat) if chat.messages.len() > MAX_MESSAGES => {
                return Err(EngineError::TooManyMessages { got: chat.messages.len() });
            }
            Input::Chat(chat) => chat.bytes(),
        };
        if bytes > MAX_PROMPT_BYTES {
            return Err(EngineError::PromptTooLarge { got: bytes });
        }
        Ok(())
    }
}

impl Conversation {
    /// Bytes of all its texts.
    fn bytes(&self) -> usize {
        let calls = self.messages.iter().flat_map(|message| &message.calls);
        let calls = calls.flat_map(|call| [call.name.len(), call.arguments.len()]);
        let texts = self.messages.iter().map(|message| message.content.len());
        let tools = self.tools.iter().map(SecretBytes::len);
        texts.chain(calls).chain(tools).fold(0, usize::saturating_add)
    }
}

/// Highest temperature, as in the OpenAI API.
pub const MAX_TEMPERATURE: f32 = 2.0;
/// Largest penalty either way, as in the OpenAI API.
pub const MAX_PENALTY: f32 = 2.0;
/// Most changed logits of one request.
pub const MAX_LOGIT_BIASES: usize = 64;
/// Largest change of a logit either way, as in the OpenAI API: enough to ban or to force a token.
pub const MAX_LOGIT_BIAS: f32 = 100.0;
/// Most answers to one request: each takes a place among the requests in progress.
pub const MAX_CHOICES: u32 = 8;
/// Most alternatives told for each token, as in the OpenAI API.
pub const MAX_TOP_LOGPROBS: u8 = 20;
/// Most stop strings, as in the OpenAI API.
pub const MAX_STOPS: usize = 4;
/// Longest stop string, in bytes. Text of this length is held back while it may still match.
pub const MAX_STOP_BYTES: usize = 1024;
/// Most messages of one conversation; bounds the work of a chat template.
pub const MAX_MESSAGES: usize = 1024;
/// Most bytes of prompt text, over all messages: sixteen times what fills the context in English.
/// Also keeps the pre-tokenizer's regex engine below the million steps after which it silently stops
/// cutting words; see `tokenizer.rs`.
pub const MAX_PROMPT_BYTES: usize = 1 << 18;
