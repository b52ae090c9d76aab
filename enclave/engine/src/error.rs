//! Every refusal of the engine. Messages name keys, tensors, limits and counts of the verified model
//! file or of the request's parameters; no variant can hold a byte of a prompt or of a completion.

use chrysalis_wordpiece::{FileError, TextError};
use thiserror::Error;

use crate::constrain::ConstraintError;
use crate::embed::MAX_INPUTS;
use crate::request::{
    MAX_LOGIT_BIAS, MAX_LOGIT_BIASES, MAX_MESSAGES, MAX_PENALTY, MAX_PROMPT_BYTES, MAX_STOP_BYTES,
    MAX_STOPS, MAX_TEMPERATURE, MAX_TOP_LOGPROBS,
};
use crate::template::{MAX_RENDERED_BYTES, MAX_TEMPLATE_BYTES, TEMPLATE_FUEL};

/// Why a model file was refused. The next step is always the same: pack a model this build runs.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ModelError {
    /// The file ends inside a field or a tensor.
    #[error("GGUF ends early: {what} needs {needed} bytes at offset {at}; fetch the file again")]
    Truncated {
        /// The field or tensor being read.
        what: String,
        /// Where it starts.
        at: u64,
        /// Bytes it needs.
        needed: u64,
    },
    /// Not a GGUF file.
    #[error("not a GGUF file: it starts with {got:02x?}, a GGUF file starts with \"GGUF\"")]
    NotGguf {
        /// First four bytes.
        got: [u8; 4],
    },
    /// A GGUF version this build does not read.
    #[error("GGUF version {got} is not supported; convert the model to version 2 or 3")]
    Version {
        /// Version found.
        got: u32,
    },
    /// A count or length over its limit.
    #[error("GGUF {what} is {got}, over the limit of {limit}; this file is not a model we run")]
    Limit {
        /// The count or length.
        what: &'static str,
        /// The named limit.
        limit: u64,
        /// Value found.
        got: u64,
    },
    /// A metadata key or tensor name occurs twice.
    #[error("GGUF names {name:?} twice; which one is meant cannot be known")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A field without a meaning: unknown value type, tensor type, invalid UTF-8, bad offset.
    #[error("GGUF {what} is malformed: {detail}")]
    Malformed {
        /// The field.
        what: String,
        /// What was found.
        detail: String,
    },
    /// A metadata key this engine needs is absent.
    #[error("GGUF metadata key {key} is missing; convert the model again with its tokenizer")]
    MetadataMissing {
        /// The key.
        key: String,
    },
    /// Keys and values in a way that only the processor keeps them.
    #[error("a GPU keeps keys and values in f16 only; leave kv_cache_type out of the manifest")]
    DeviceCache,
    /// A metadata value of the wrong type or out of range.
    #[error("GGUF metadata key {key} must be {expected}, got {got}")]
    MetadataInvalid {
        /// The key.
        key: String,
        /// What would be accepted.
        expected: &'static str,
        /// What was found.
        got: String,
    },
    /// An architecture this build does not run.
    #[error("model architecture {got:?} is not supported; this build runs: {supported}")]
    UnknownArchitecture {
        /// `general.architecture`.
        got: String,
        /// Architectures this build runs.
        supported: String,
    },
    /// The architecture is known, but the model uses a part of it that would be computed wrongly.
    #[error("the model uses {feature}, which this build does not compute; choose another model")]
    UnsupportedFeature {
        /// The metadata key or tensor name.
        feature: String,
    },
    /// A tensor the architecture needs is absent.
    #[error("tensor {name} is missing from the GGUF")]
    TensorMissing {
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than the metadata says.
    #[error("tensor {name} has shape {got:?}; the metadata says {expected:?}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Shape from the metadata.
        expected: Vec<usize>,
        /// Shape found.
        got: Vec<usize>,
    },
    /// A tokenizer family or pre-tokenizer this build does not know.
    #[error("tokenizer {got:?} is not supported; this build knows: {supported}")]
    TokenizerUnsupported {
        /// `tokenizer.ggml.model` or `tokenizer.ggml.pre`.
        got: String,
        /// What this build knows.
        supported: &'static str,
    },
    /// The tokenizer's tables contradict each other.
    #[error("the tokenizer in the GGUF is inconsistent: {what}")]
    TokenizerInvalid {
        /// What contradicts.
        what: &'static str,
    },
    /// The tokenizer's file of an embedding model was refused.
    #[error(transparent)]
    WordPiece(#[from] FileError),
    /// Candle refused the weights.
    #[error("the weights could not be loaded: {detail}")]
    Weights {
        /// Candle's reason. About the model file only.
        detail: String,
    },
    /// The file could not be read to its end: whoever gives its bytes has refused one, and knows why.
    #[error("the model file could not be read ({kind}); see why its bundle was refused")]
    Read {
        /// What the reader said.
        kind: std::io::ErrorKind,
    },
    /// A file that a checkpoint needs is not in the bundle.
    #[error("{name} is not in the bundle, and no GGUF file either; pack all files of the model")]
    FileMissing {
        /// Its path.
        name: String,
    },
    /// There is not enough memory for the weights.
    #[error("no memory for {bytes} bytes of weights; choose a larger machine or a smaller model")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: u64,
    },
    /// There is not enough memory for keys and values.
    #[error(
        "{available} bytes of memory are left beside the weights, too few for the keys and values of one \
         request ({needed}) and everything else; choose a larger machine, a smaller model or a shorter context"
    )]
    CacheMemory {
        /// Bytes available.
        available: u64,
        /// Bytes of keys and values of the longest request there may be.
        needed: u64,
    },
    /// The model does not get onto the GPU.
    #[error("{detail}; the model is not on the GPU")]
    Device {
        /// The stable code of the reason.
        code: &'static str,
        /// The reason.
        detail: String,
    },
    /// The engine thread could not be started.
    #[error("the engine thread could not be started; the system has no thread to give")]
    Thread,
}

/// Why a chat template was refused, at load or for one conversation.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TemplateError {
    /// The conversation has tools, and the template does not tell of them.
    #[error(
        "the model's chat template does not tell of tools or calls here; tell them in the messages"
    )]
    NoTools,
    /// The request switches reasoning, and the template does not know how.
    #[error("the model cannot be told whether to think; leave enable_thinking out")]
    NoThinkingSwitch,
    /// The model has no chat template.
    #[error("the model has no chat template; send a plain completion, or pack a chat model")]
    Missing,
    /// Larger than [`MAX_TEMPLATE_BYTES`].
    #[error("the chat template is {got} bytes; the limit is {MAX_TEMPLATE_BYTES}")]
    TooLarge {
        /// Size found.
        got: usize,
    },
    /// It does not compile.
    #[error("the chat template does not compile (line {line}); pack a model with a valid one")]
    Syntax {
        /// Line, 0 if unknown.
        line: usize,
    },
    /// It ran longer than [`TEMPLATE_FUEL`] instructions, or nested too deep: a loop.
    #[error("the chat template did not end within {TEMPLATE_FUEL} instructions; it loops")]
    OutOfFuel,
    /// It wrote more than [`MAX_RENDERED_BYTES`].
    #[error("the chat template wrote more than {MAX_RENDERED_BYTES} bytes; shorten the messages")]
    OutputTooLarge,
    /// It called `raise_exception`.
    #[error(
        "the chat template refuses this conversation (line {line}); usual reasons: roles that do \
         not alternate, or a system message the model does not know"
    )]
    Raised {
        /// Line, 0 if unknown.
        line: usize,
    },
    /// It used an undefined function, filter or method, or an impossible operation.
    #[error("the chat template failed at line {line}: {kind}")]
    Failed {
        /// Kind of failure, a constant word: never text of the conversation.
        kind: &'static str,
        /// Line, 0 if unknown.
        line: usize,
    },
}

/// Why the engine refused or failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EngineError {
    /// The model file was refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The chat template was refused.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// What the answer is to be was refused.
    #[error("the form asked for is refused: {0}")]
    Constraint(#[from] ConstraintError),
    /// A chat without messages.
    #[error("messages is empty; send at least one")]
    MessagesEmpty,
    /// More messages than [`MAX_MESSAGES`].
    #[error("{got} messages; the limit is {MAX_MESSAGES}")]
    TooManyMessages {
        /// Number of messages.
        got: usize,
    },
    /// A prompt of no tokens.
    #[error("the prompt is empty; send at least one character")]
    PromptEmpty,
    /// More prompt bytes than [`MAX_PROMPT_BYTES`].
    #[error("the prompt is {got} bytes; the limit is {MAX_PROMPT_BYTES}")]
    PromptTooLarge {
        /// Bytes over all messages.
        got: usize,
    },
    /// The prompt leaves no room for one completion token.
    #[error("the prompt has at least {got} tokens; the context holds {limit} with the completion")]
    PromptTooLong {
        /// Tokens of the prompt, or a lower bound of them.
        got: u32,
        /// Tokens of the context.
        limit: u32,
    },
    /// Prompt bytes are not UTF-8.
    #[error("message {index} is not UTF-8")]
    NotUtf8 {
        /// Index of the message; 0 for a plain prompt.
        index: usize,
    },
    /// The vocabulary cannot spell the prompt.
    #[error("the model's vocabulary cannot spell this prompt; remove unusual control characters")]
    Unencodable,
    /// No text to embed.
    #[error("there is no input; send at least one")]
    InputsEmpty,
    /// More texts than [`MAX_INPUTS`].
    #[error("{got} inputs; the limit is {MAX_INPUTS}")]
    TooManyInputs {
        /// Number of texts.
        got: usize,
    },
    /// A text of nothing.
    #[error("input {index} is empty; leave it out")]
    InputEmpty {
        /// Index of the text.
        index: usize,
    },
    /// A text the model cannot take.
    #[error("input {index}: {error}")]
    Input {
        /// Index of the text.
        index: usize,
        /// What is wrong with it.
        error: TextError,
    },
    /// All texts together have more tokens than a request may have.
    #[error("the inputs have at least {got} tokens together; a request may have {limit}")]
    InputsTooLong {
        /// Tokens so far.
        got: u32,
        /// Most tokens of a request.
        limit: u32,
    },
    /// `max_tokens` is zero.
    #[error("max_tokens is 0; ask for at least one")]
    MaxTokensZero,
    /// `temperature` is not a number of its range.
    #[error("temperature is {got}; it must be between 0 and {MAX_TEMPERATURE}")]
    Temperature {
        /// Value found, printed.
        got: String,
    },
    /// `top_p` is not a number of its range.
    #[error("top_p is {got}; it must be above 0 and at most 1")]
    TopP {
        /// Value found, printed.
        got: String,
    },
    /// `top_k` is zero.
    #[error("top_k is 0; leave it out to consider every token")]
    TopKZero,
    /// `min_p` outside 0 to 1.
    #[error("min_p {got} is out of range; it must be at least 0 and at most 1")]
    MinP {
        /// Value found, printed.
        got: String,
    },
    /// A penalty outside its range.
    #[error("penalty {got} is out of range; it must be from -{MAX_PENALTY} to {MAX_PENALTY}")]
    Penalty {
        /// Value found, printed.
        got: String,
    },
    /// More changed logits than [`MAX_LOGIT_BIASES`].
    #[error("{got} logit biases; at most {MAX_LOGIT_BIASES} are accepted")]
    TooManyBiases {
        /// Number found.
        got: usize,
    },
    /// A logit bias for a token the model does not have.
    #[error("logit bias for token {got}; this model's tokens are 0 to {}", vocabulary.saturating_sub(1))]
    BiasToken {
        /// Token found.
        got: u32,
        /// Number of tokens of the model.
        vocabulary: u32,
    },
    /// A logit bias outside its range.
    #[error(
        "logit bias {got} is out of range; it must be from -{MAX_LOGIT_BIAS} to {MAX_LOGIT_BIAS}"
    )]
    Bias {
        /// Value found, printed.
        got: String,
    },
    /// No answer, or more than there can be.
    #[error("{got} choices; from 1 to {limit} are given")]
    Choices {
        /// Number found.
        got: u32,
        /// [`crate::MAX_CHOICES`], or the places of the engine if they are fewer.
        limit: u32,
    },
    /// More alternatives than [`MAX_TOP_LOGPROBS`].
    #[error("{got} alternatives for each token; at most {MAX_TOP_LOGPROBS} are told")]
    TopLogprobs {
        /// Number found.
        got: u8,
    },
    /// More stop strings than [`MAX_STOPS`].
    #[error("{got} stop strings; the limit is {MAX_STOPS}")]
    TooManyStops {
        /// Number of stop strings.
        got: usize,
    },
    /// An empty stop string.
    #[error("stop string {index} is empty; it would stop before the first character")]
    StopEmpty {
        /// Index of the stop string.
        index: usize,
    },
    /// A stop string longer than [`MAX_STOP_BYTES`].
    #[error("stop string {index} is {got} bytes; the limit is {MAX_STOP_BYTES}")]
    StopTooLong {
        /// Index of the stop string.
        index: usize,
        /// Bytes found.
        got: usize,
    },
    /// The description of a tool is not JSON.
    #[error("the description of tool {index} is not JSON")]
    ToolNotJson {
        /// Index of the tool.
        index: usize,
    },
    /// A stop string is not UTF-8.
    #[error("stop string {index} is not UTF-8")]
    StopNotUtf8 {
        /// Index of the stop string.
        index: usize,
    },
    /// Every slot is taken.
    #[error("{limit} requests are in progress; try again shortly")]
    Busy {
        /// Most requests in progress and waiting.
        limit: usize,
    },
    /// The deadline of the request has passed.
    #[error(
        "the deadline of the request has passed; try again when fewer requests are in progress"
    )]
    Expired,
    /// The engine was stopped.
    #[error("the engine was stopped; send the request to another worker")]
    Stopped,
    /// What computes is gone, and the engine has stopped.
    #[error("what computes answers no more ({call}: {code}); send the request to another worker")]
    Lost {
        /// What it was asked for.
        call: &'static str,
        /// The code it answered with.
        code: i32,
    },
    /// The computation of this request failed. Other requests go on.
    #[error("computing {stage} failed; try again, and report it if it happens twice")]
    Compute {
        /// What was being computed.
        stage: &'static str,
    },
}

impl ModelError {
    /// Stable code for scripts and support.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Truncated { .. } => "E-MODEL-TRUNCATED",
            Self::NotGguf { .. } => "E-MODEL-NOT-GGUF",
            Self::Version { .. } => "E-MODEL-VERSION",
            Self::Limit { .. } => "E-MODEL-LIMIT",
            Self::Duplicate { .. } => "E-MODEL-DUPLICATE",
            Self::Malformed { .. } => "E-MODEL-MALFORMED",
            Self::MetadataMissing { .. } => "E-MODEL-METADATA-MISSING",
            Self::MetadataInvalid { .. } => "E-MODEL-METADATA-INVALID",
            Self::UnknownArchitecture { .. } => "E-MODEL-ARCHITECTURE",
            Self::UnsupportedFeature { .. } => "E-MODEL-FEATURE",
            Self::TensorMissing { .. } => "E-MODEL-TENSOR-MISSING",
            Self::TensorShape { .. } => "E-MODEL-TENSOR-SHAPE",
            Self::TokenizerUnsupported { .. } => "E-MODEL-TOKENIZER",
            Self::TokenizerInvalid { .. } => "E-MODEL-TOKENIZER-INVALID",
            Self::WordPiece(_) => "E-MODEL-TOKENIZER",
            Self::Weights { .. } => "E-MODEL-WEIGHTS",
            Self::Read { .. } => "E-MODEL-READ",
            Self::FileMissing { .. } => "E-MODEL-FILE",
            Self::OutOfMemory { .. } => "E-MODEL-MEMORY",
            Self::CacheMemory { .. } => "E-MODEL-CACHE-MEMORY",
            Self::Device { code, .. } => code,
            Self::DeviceCache => "E-ENGINE-DEVICE-CACHE",
            Self::Thread => "E-ENGINE-THREAD",
        }
    }
}

impl TemplateError {
    /// Stable code for scripts and support.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "E-TEMPLATE-MISSING",
            Self::TooLarge { .. } => "E-TEMPLATE-TOO-LARGE",
            Self::Syntax { .. } => "E-TEMPLATE-SYNTAX",
            Self::OutOfFuel => "E-TEMPLATE-LOOP",
            Self::OutputTooLarge => "E-TEMPLATE-OUTPUT",
            Self::Raised { .. } => "E-TEMPLATE-RAISED",
            Self::NoTools => "E-TEMPLATE-TOOLS",
            Self::NoThinkingSwitch => "E-TEMPLATE-THINKING",
            Self::Failed { .. } => "E-TEMPLATE-FAILED",
        }
    }
}

impl EngineError {
    /// Stable code for scripts and support.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Model(e) => e.code(),
            Self::Template(e) => e.code(),
            Self::Constraint(_) => "E-CONSTRAINT",
            Self::MessagesEmpty => "E-MESSAGES-EMPTY",
            Self::TooManyMessages { .. } => "E-MESSAGES-COUNT",
            Self::PromptEmpty => "E-PROMPT-EMPTY",
            Self::PromptTooLarge { .. } => "E-PROMPT-BYTES",
            Self::PromptTooLong { .. } => "E-PROMPT-TOKENS",
            Self::NotUtf8 { .. } => "E-PROMPT-UTF8",
            Self::ToolNotJson { .. } => "E-TOOL-JSON",
            Self::Unencodable => "E-PROMPT-UNENCODABLE",
            Self::InputsEmpty | Self::TooManyInputs { .. } => "E-INPUTS",
            Self::InputEmpty { .. } => "E-INPUT-EMPTY",
            Self::Input { .. } | Self::InputsTooLong { .. } => "E-INPUT-TOKENS",
            Self::MaxTokensZero => "E-MAX-TOKENS",
            Self::Temperature { .. } => "E-TEMPERATURE",
            Self::TopP { .. } => "E-TOP-P",
            Self::TopKZero => "E-TOP-K",
            Self::MinP { .. } => "E-MIN-P",
            Self::Penalty { .. } => "E-PENALTY",
            Self::TooManyBiases { .. } | Self::BiasToken { .. } | Self::Bias { .. } => {
                "E-LOGIT-BIAS"
            }
            Self::Choices { .. } => "E-CHOICES",
            Self::TopLogprobs { .. } => "E-TOP-LOGPROBS",
            Self::TooManyStops { .. } => "E-STOP-COUNT",
            Self::StopEmpty { .. } => "E-STOP-EMPTY",
            Self::StopTooLong { .. } => "E-STOP-BYTES",
            Self::StopNotUtf8 { .. } => "E-STOP-UTF8",
            Self::Busy { .. } => "E-ENGINE-BUSY",
            Self::Expired => "E-ENGINE-DEADLINE",
            Self::Stopped => "E-ENGINE-STOPPED",
            Self::Lost { .. } => "E-ENGINE-LOST",
            Self::Compute { .. } => "E-ENGINE-COMPUTE",
        }
    }
}
