//! Log probabilities in the two shapes of the API: a list of objects in chats, four lists side by side
//! in completions. They tell as much as the text, and are wiped like it.

use chrysalis_wire::SecretBytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::request::Endpoint;

/// One token of an answer, and what else the model might have said.
#[derive(Debug)]
pub struct LoggedToken {
    /// The token of the answer.
    pub drawn: TokenLogprob,
    /// Characters of the answer before it.
    pub offset: u32,
    /// The likeliest tokens in its place, the likeliest first.
    pub top: Vec<TokenLogprob>,
}

/// One token and its log probability.
#[derive(Debug)]
pub struct TokenLogprob {
    /// Its bytes, which may end inside a character; the name of a control token.
    pub bytes: SecretBytes,
    /// Whether it is a control token, which is no text and has no `bytes` in the API.
    pub control: bool,
    /// Natural logarithm of its probability; finite.
    pub logprob: f32,
}

impl TokenLogprob {
    /// The token as the API writes it: its text, or `bytes:` and an escape for each byte of a token
    /// that is no text by itself, as OpenAI does.
    fn text(&self) -> Zeroizing<String> {
        let bytes = self.bytes.expose();
        let escaped = bytes.len().saturating_mul(4).saturating_add(ESCAPED.len());
        let mut out = Zeroizing::new(String::with_capacity(escaped));
        match core::str::from_utf8(bytes) {
            Ok(text) => out.push_str(text),
            Err(_) => {
                out.push_str(ESCAPED);
                for byte in bytes {
                    out.push_str("\\x");
                    for nibble in [byte >> 4, byte & 15] {
                        out.push(char::from_digit(nibble.into(), 16).unwrap_or_default());
                    }
                }
            }
        }
        out
    }
}

/// `logprobs` of a choice, in the shape of its endpoint.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum LogprobsJson<'a> {
    /// One object for each token.
    Chat { content: Vec<ChatToken<'a>>, refusal: Option<()> },
    /// Four lists side by side.
    Completion {
        tokens: Vec<Text<'a>>,
        token_logprobs: Vec<f32>,
        top_logprobs: Vec<Alternatives<'a>>,
        text_offset: Vec<u32>,
    },
}

impl<'a> LogprobsJson<'a> {
    pub(crate) fn new(endpoint: Endpoint, tokens: &'a [LoggedToken]) -> Self {
        match endpoint {
            Endpoint::Chat | Endpoint::Responses => {
                Self::Chat { content: tokens.iter().map(ChatToken).collect(), refusal: None }
            }
            Endpoint::Completions => Self::Completion {
                tokens: tokens.iter().map(|t| Text(&t.drawn)).collect(),
                token_logprobs: tokens.iter().map(|t| t.drawn.logprob).collect(),
                top_logprobs: tokens.iter().map(Alternatives).collect(),
                text_offset: tokens.iter().map(|t| t.offset).collect(),
            },
        }
    }
}

pub(crate) struct ChatToken<'a>(&'a LoggedToken);

impl Serialize for ChatToken<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let LoggedToken { drawn, top, .. } = self.0;
        let top: Vec<TokenJson<'_>> = top.iter().map(TokenJson).collect();
        let mut map = s.serialize_map(Some(4))?;
        TokenJson(drawn).entries(&mut map)?;
        map.serialize_entry("top_logprobs", &top)?;
        map.end()
    }
}

struct TokenJson<'a>(&'a TokenLogprob);

impl TokenJson<'_> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let Self(token) = self;
        map.serialize_entry("token", &Text(token))?;
        map.serialize_entry("logprob", &token.logprob)?;
        map.serialize_entry("bytes", &(!token.control).then(|| token.bytes.expose()))
    }
}

impl Serialize for TokenJson<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(3))?;
        self.entries(&mut map)?;
        map.end()
    }
}

pub(crate) struct Text<'a>(&'a TokenLogprob);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0.text())
    }
}

/// An object from tokens to log probabilities: the likeliest, and the one that was drawn if it is
/// not among them.
pub(crate) struct Alternatives<'a>(&'a LoggedToken);

impl Serialize for Alternatives<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let LoggedToken { drawn, top, .. } = self.0;
        let same = |other: &TokenLogprob| other.bytes.expose() == drawn.bytes.expose();
        let rest = (!top.iter().any(same)).then_some(drawn);
        s.collect_map(top.iter().chain(rest).map(|token| (Text(token), token.logprob)))
    }
}

/// Begins the name of a token that is no text.
const ESCAPED: &str = "bytes:";
