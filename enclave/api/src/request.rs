//! The neutral request every endpoint becomes. Its texts are secrets; the rest is numbers within
//! their ranges.

use chrysalis_wire::SecretBytes;

use crate::chat::ChatRequest;
use crate::completions::CompletionRequest;
use crate::constraint::Constraint;
use crate::error::ApiError;
use crate::limits::Limits;
use crate::responses::ResponsesRequest;
use crate::secret::Prompt;
use crate::tools::{self, Tools};

/// Which API a request is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/responses`.
    Responses,
}

/// One inference request, whatever endpoint it came from.
#[derive(Debug)]
pub struct InferenceRequest {
    /// The model asked for.
    pub model: String,
    /// What the model is to answer or continue.
    pub input: Input,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Changes of single logits by token id, ascending; at most [`crate::limits::MAX_LOGIT_BIASES`].
    pub logit_bias: Vec<LogitBias>,
    /// Strings that end the answer; at most [`crate::limits::MAX_STOPS`].
    pub stop: Vec<Prompt>,
    /// Whether log probabilities of the tokens are answered, and of how many others in the place of
    /// each; at most [`crate::limits::MAX_TOP_LOGPROBS`]. It changes no token.
    pub logprobs: Option<u8>,
    /// What the answers have to be, and the field that says so.
    pub constraint: Option<(Constraint, &'static str)>,
    /// The tools the model may call; none in completions.
    pub tools: Option<Tools>,
    /// `chat_template_kwargs.enable_thinking`: whether a model that can be told to reasons before it answers.
    pub thinking: Option<bool>,
    /// How many answers to give, from 1 to [`crate::limits::MAX_CHOICES`].
    pub choices: u32,
    /// Most tokens to generate for each answer; `None` leaves it to the worker.
    pub max_tokens: Option<u32>,
    /// Whether to answer in pieces.
    pub stream: bool,
    /// Whether a stream ends with token counts.
    pub include_usage: bool,
    /// Whether pieces of a stream carry a field of random length.
    pub include_obfuscation: bool,
    /// `prompt_cache_key`: requests with the same secret share what was computed of equal beginnings
    /// of their prompts, and nobody else does. It changes no answer.
    pub cache_key: Option<Prompt>,
    /// Whose turn is first among the requests of one `cache_key`: the lower one's, as vLLM has it. It changes no
    /// answer, and nothing for anybody else.
    pub priority: i8,
}

/// What the model is to answer or continue.
#[derive(Debug)]
pub enum Input {
    /// A conversation; never empty.
    Chat(Vec<Message>),
    /// Text to continue.
    Text(Prompt),
}

/// One message of a conversation.
#[derive(Debug)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: Prompt,
    /// What an assistant called.
    pub calls: Vec<PastCall>,
    /// Number of the call that a tool answers, 0 if it is none of the conversation.
    pub answers: u32,
}

impl Message {
    /// A message without calls.
    #[must_use]
    pub const fn new(role: Role, content: Prompt) -> Self {
        Self { role, content, calls: Vec::new(), answers: 0 }
    }
}

/// A call of a tool that was made before.
#[derive(Debug)]
pub struct PastCall {
    /// Which one of the conversation, from 1.
    pub number: u32,
    /// Name of the tool.
    pub name: Prompt,
    /// Its arguments: JSON, if the model wrote it.
    pub arguments: Prompt,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The application.
    System,
    /// The application, in the word newer SDKs use for it.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool, with what it returned.
    Tool,
}

impl Role {
    /// The role's name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// How tokens are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// From 0, which is greedy, to [`crate::limits::MAX_TEMPERATURE`].
    pub temperature: f32,
    /// Above 0, up to 1.
    pub top_p: f32,
    /// At least 1.
    pub top_k: Option<u32>,
    /// From 0, which is off, to 1.
    pub min_p: f32,
    /// Within [`crate::limits::MAX_PENALTY`] either way; 0 is off.
    pub frequency_penalty: f32,
    /// Within [`crate::limits::MAX_PENALTY`] either way; 0 is off.
    pub presence_penalty: f32,
    /// The API's signed seed, as its two's complement.
    pub seed: Option<u64>,
}

/// A change of one token's logit, and never 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogitBias {
    /// Id of the token in the model's vocabulary.
    pub token: u32,
    /// Within [`crate::limits::MAX_LOGIT_BIAS`] either way.
    pub bias: f32,
}

impl InferenceRequest {
    /// Reads the request of an endpoint.
    ///
    /// # Errors
    /// As [`ChatRequest::parse`], [`CompletionRequest::parse`] and [`ResponsesRequest::parse`].
    pub fn parse(endpoint: Endpoint, body: &[u8], limits: &Limits) -> Result<Self, ApiError> {
        match endpoint {
            Endpoint::Chat => ChatRequest::parse(body, limits).map(Self::from),
            Endpoint::Completions => CompletionRequest::parse(body, limits).map(Self::from),
            Endpoint::Responses => ResponsesRequest::parse(body, limits).map(Self::from),
        }
    }

    /// Tells tools, calls and results in the texts of messages, for a model whose chat template knows
    /// none of them.
    pub fn tell_tools(&mut self) {
        let Input::Chat(messages) = &mut self.input else { return };
        tools::tell(messages, self.tools.as_ref());
    }

    /// Most tokens the request may take for all its answers, where one may take `limit`.
    #[must_use]
    pub fn most_tokens(&self, limit: u32) -> u32 {
        self.max_tokens.map_or(limit, |each| each.saturating_mul(self.choices)).min(limit)
    }

    /// The sampling parameters in their one encoding; a receipt's `sampling_hash` is its SHA-256.
    /// It depends on the request alone, so that its sender computes the same:
    ///
    /// ```text
    /// "chrysalis/sampling/v1" | temperature f32 | top_p f32 | top_k opt u32 | seed opt u64
    /// | max_tokens opt u32 | stops u8 | stops x (len u32 | bytes)
    /// ```
    ///
    /// A request that changes logits, by `min_p`, a penalty or a bias, has `v2` in place of `v1` and
    /// goes on with
    ///
    /// ```text
    /// min_p f32 | frequency_penalty f32 | presence_penalty f32 | biases u8 | biases x (token u32 | bias f32)
    /// ```
    ///
    /// One for more than one answer, or for an answer that has to be something, has `v3`, and behind all of that
    ///
    /// ```text
    /// choices u8 | constraint u8 | texts u32 | texts x (len u32 | bytes)
    /// ```
    ///
    /// where `constraint` is 0 for none, 1 for a JSON object, 2 for a schema, 3 for a regular expression, 4
    /// for one of several texts, 5 for a call of a tool, whose texts are names and schemas in turn, 6 for a
    /// grammar, 7 for text with one such call at most, 8 for text with such calls; a schema is the bytes that
    /// stand in the request.
    ///
    /// Big endian, floats by their IEEE 754 bits; `opt` is `00`, or `01` and the value. The stop
    /// strings in it may be secrets.
    #[must_use]
    pub fn canonical_sampling_bytes(&self) -> SecretBytes {
        let size = |stop: &Prompt| stop.len().saturating_add(4);
        let stops = self.stop.iter().map(size).fold(0, usize::saturating_add);
        let biases = self.logit_bias.len().saturating_mul(8);
        let texts =
            self.constraint.as_ref().map_or(&[][..], |(constraint, _)| constraint.parts().1);
        let texts = texts.iter().map(size).fold(0, usize::saturating_add);
        let size = SAMPLING_FIXED_BYTES.saturating_add(stops).saturating_add(biases);
        let size = size.saturating_add(texts);
        let mut out = Vec::with_capacity(size);
        let Sampling { min_p, frequency_penalty, presence_penalty, .. } = self.sampling;
        let changes = [min_p, frequency_penalty, presence_penalty];
        let third = self.choices != 1 || self.constraint.is_some();
        let second = third || changes != [0.0; 3] || !self.logit_bias.is_empty();
        out.extend_from_slice(match (second, third) {
            (_, true) => SAMPLING_DOMAIN_V3,
            (true, false) => SAMPLING_DOMAIN_V2,
            (false, false) => SAMPLING_DOMAIN,
        });
        out.extend_from_slice(&self.sampling.temperature.to_bits().to_be_bytes());
        out.extend_from_slice(&self.sampling.top_p.to_bits().to_be_bytes());
        optional(&mut out, self.sampling.top_k.map(u32::to_be_bytes));
        optional(&mut out, self.sampling.seed.map(u64::to_be_bytes));
        optional(&mut out, self.max_tokens.map(u32::to_be_bytes));
        out.push(u8::try_from(self.stop.len()).unwrap_or(u8::MAX));
        for stop in &self.stop {
            out.extend_from_slice(&u32::try_from(stop.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(stop.expose().as_bytes());
        }
        if second {
            out.extend(changes.iter().flat_map(|value| value.to_bits().to_be_bytes()));
            out.push(u8::try_from(self.logit_bias.len()).unwrap_or(u8::MAX));
            for LogitBias { token, bias } in &self.logit_bias {
                out.extend_from_slice(&token.to_be_bytes());
                out.extend_from_slice(&bias.to_bits().to_be_bytes());
            }
        }
        if third {
            out.push(u8::try_from(self.choices).unwrap_or(u8::MAX));
            let (kind, texts) = self.constraint.as_ref().map_or((0, &[][..]), |(c, _)| c.parts());
            out.push(kind);
            out.extend_from_slice(&u32::try_from(texts.len()).unwrap_or(u32::MAX).to_be_bytes());
            for text in texts {
                out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(text.expose().as_bytes());
            }
        }
        SecretBytes::new(out)
    }
}

fn optional<const N: usize>(out: &mut Vec<u8>, value: Option<[u8; N]>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        out.extend_from_slice(&value);
    }
}

const SAMPLING_DOMAIN: &[u8] = b"chrysalis/sampling/v1";
const SAMPLING_DOMAIN_V2: &[u8] = b"chrysalis/sampling/v2";
const SAMPLING_DOMAIN_V3: &[u8] = b"chrysalis/sampling/v3";
/// Domain 21, two floats, three optional numbers, a count; three floats and a count more in v2;
/// two counts and a kind in v3.
const SAMPLING_FIXED_BYTES: usize = 21 + 8 + 5 + 9 + 5 + 1 + 12 + 1 + 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str) -> InferenceRequest {
        InferenceRequest::parse(Endpoint::Completions, body.as_bytes(), &Limits::default()).unwrap()
    }

    #[test]
    fn sampling_has_one_documented_encoding() {
        let r = request(
            r#"{"model":"m","prompt":"p","temperature":0.5,"top_k":7,"seed":-1,"max_tokens":9,"stop":["a","bc"]}"#,
        );
        let mut expected = b"chrysalis/sampling/v1".to_vec();
        expected.extend_from_slice(&[0x3f, 0, 0, 0, 0x3f, 0x80, 0, 0]);
        expected.extend_from_slice(&[1, 0, 0, 0, 7]);
        expected.extend_from_slice(&[1, 255, 255, 255, 255, 255, 255, 255, 255]);
        expected.extend_from_slice(&[1, 0, 0, 0, 9]);
        expected.extend_from_slice(b"\x02\0\0\0\x01a\0\0\0\x02bc");
        assert_eq!(r.canonical_sampling_bytes().expose(), expected);
    }

    #[test]
    fn every_sampling_parameter_changes_the_encoding() {
        let all = [
            "",
            r#","temperature":0"#,
            r#","top_p":0.5"#,
            r#","top_k":1"#,
            r#","seed":1"#,
            r#","max_tokens":1"#,
            r#","stop":"a""#,
            r#","stop":["a","b"]"#,
            r#","stop":"ab""#,
            r#","min_p":0.1"#,
            r#","frequency_penalty":0.1"#,
            r#","presence_penalty":0.1"#,
            r#","logit_bias":{"1":1}"#,
            r#","logit_bias":{"2":1}"#,
            r#","logit_bias":{"1":2}"#,
            r#","logit_bias":{"1":1,"2":1}"#,
            r#","n":2"#,
            r#","n":3"#,
            r#","guided_json":{}"#,
            r#","guided_json":{ }"#,
            r#","guided_regex":"a""#,
            r#","guided_choice":["a"]"#,
            r#","guided_choice":["a","b"]"#,
            r#","guided_choice":["ab"]"#,
            r#","guided_grammar":"a""#,
        ];
        let bytes = all.map(|s| {
            request(&format!(r#"{{"model":"m","prompt":"p"{s}}}"#))
                .canonical_sampling_bytes()
                .expose()
                .to_vec()
        });
        assert!((0..all.len()).all(|i| (0..i).all(|j| bytes[i] != bytes[j])));
    }

    #[test]
    fn changed_logits_have_a_second_documented_encoding() {
        let r = request(
            r#"{"model":"m","prompt":"p","max_tokens":9,"min_p":0.5,"presence_penalty":-1,
                "logit_bias":{"258":-2,"7":1}}"#,
        );
        let mut expected = b"chrysalis/sampling/v2".to_vec();
        expected.extend_from_slice(&[0x3f, 0x80, 0, 0, 0x3f, 0x80, 0, 0, 0, 0]);
        expected.extend_from_slice(&[1, 0, 0, 0, 9, 0]);
        expected.extend_from_slice(&[0x3f, 0, 0, 0, 0, 0, 0, 0, 0xbf, 0x80, 0, 0]);
        expected.extend_from_slice(&[2, 0, 0, 0, 7, 0x3f, 0x80, 0, 0, 0, 0, 1, 2, 0xc0, 0, 0, 0]);
        assert_eq!(r.canonical_sampling_bytes().expose(), expected);
    }

    #[test]
    fn more_than_one_answer_has_a_third_documented_encoding() {
        let r = request(r#"{"model":"m","prompt":"p","max_tokens":9,"n":3}"#);
        let mut expected = b"chrysalis/sampling/v3".to_vec();
        expected.extend_from_slice(&[0x3f, 0x80, 0, 0, 0x3f, 0x80, 0, 0, 0, 0]);
        expected.extend_from_slice(&[1, 0, 0, 0, 9, 0]);
        expected.extend_from_slice(&[0; 13]);
        expected.extend_from_slice(&[3, 0, 0, 0, 0, 0]);
        assert_eq!(r.canonical_sampling_bytes().expose(), expected);
    }

    #[test]
    fn what_an_answer_has_to_be_is_part_of_the_third_encoding() {
        let r = request(r#"{"model":"m","prompt":"p","max_tokens":9,"guided_choice":["a","bc"]}"#);
        let bytes = r.canonical_sampling_bytes();
        assert!(bytes.expose().starts_with(b"chrysalis/sampling/v3"));
        assert!(bytes.expose().ends_with(b"\x01\x04\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc"));
    }

    #[test]
    fn answers_share_what_one_request_may_take() {
        let of = |more: &str| request(&format!(r#"{{"model":"m","prompt":"p"{more}}}"#));
        assert_eq!(of(r#","max_tokens":9,"n":3"#).most_tokens(100), 27);
        assert_eq!(of(r#","max_tokens":9,"n":3"#).most_tokens(20), 20);
        assert_eq!(of(r#","max_tokens":9"#).most_tokens(100), 9);
    }

    #[test]
    fn a_change_of_nothing_is_the_first_encoding() {
        let bytes = |more: &str| {
            request(&format!(r#"{{"model":"m","prompt":"p"{more}}}"#)).canonical_sampling_bytes()
        };
        let nothing = r#","min_p":0,"presence_penalty":-0.0,"frequency_penalty":0,"logit_bias":{"5":0},"n":1"#;
        assert_eq!(bytes(nothing).expose(), bytes("").expose());
    }

    #[test]
    fn the_encoding_does_not_depend_on_how_a_number_was_written() {
        let bytes = |t: &str| {
            request(&format!(r#"{{"model":"m","prompt":"p","temperature":{t}}}"#))
                .canonical_sampling_bytes()
                .expose()
                .to_vec()
        };
        assert_eq!(bytes("1"), bytes("1.0"));
        assert_eq!(bytes("0"), bytes("-0.0"));
        assert_eq!(bytes("1e0"), bytes("1"));
    }

    #[test]
    fn debug_of_a_request_shows_no_text() {
        let r = request(r#"{"model":"m","prompt":"canary","stop":"canary"}"#);
        assert!(!format!("{r:?}").contains("canary"));
    }
}
