//! `POST /v1/embeddings`: what is asked and the answer. Input is attacker-controlled and secret; so are
//! vectors, from which a text can be guessed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrysalis_wire::SecretBytes;
use serde::Serialize;
use serde::ser::SerializeSeq as _;
use zeroize::Zeroizing;

use crate::encode::secret_json;
use crate::error::ApiError;
use crate::json::{Fields, Object, Value};
use crate::limits::{
    Limits, MAX_EMBEDDING_INPUTS, MAX_EMBEDDING_TOKENS, MAX_MODEL_BYTES, MAX_USER_BYTES,
};
use crate::options::model;
use crate::refusal::RequestError;
use crate::secret::Prompt;

/// A request for the vectors of texts.
#[derive(Debug)]
pub struct EmbeddingRequest {
    /// The model asked for.
    pub model: String,
    /// From one to [`MAX_EMBEDDING_INPUTS`].
    pub inputs: Vec<EmbeddingInput>,
    /// How the numbers are told.
    pub encoding: EncodingFormat,
}

/// A text; never empty.
pub enum EmbeddingInput {
    /// As text.
    Text(Prompt),
    /// As ids of its tokens; at most [`MAX_EMBEDDING_TOKENS`].
    Tokens(Zeroizing<Vec<u32>>),
}

impl core::fmt::Debug for EmbeddingInput {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Tokens(ids) => write!(f, "<redacted {} tokens>", ids.len()),
        }
    }
}

/// How the numbers of a vector are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodingFormat {
    /// As JSON numbers that read back as the same `f32`.
    Float,
    /// As base64 of little-endian `f32`s: what the official SDKs ask for by themselves.
    Base64,
}

impl EmbeddingRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// As [`crate::ChatRequest::parse`].
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Self, ApiError> {
        Ok(Self::read(body, limits)?)
    }

    fn read(body: &[u8], limits: &Limits) -> Result<Self, RequestError> {
        let object = Object::parse(body, limits.request_bytes, &FIELDS)?;
        if let Some(user) = object.optional("user") {
            user.short_prompt(MAX_USER_BYTES)?;
        }
        let encoding = match object.optional("encoding_format") {
            None => EncodingFormat::Float,
            Some(value) => match value.word() {
                Some("float") => EncodingFormat::Float,
                Some("base64") => EncodingFormat::Base64,
                _ => {
                    let (param, allowed) = (value.path(), "'float' or 'base64'");
                    return Err(RequestError::UnsupportedValue { param, allowed });
                }
            },
        };
        let inputs = inputs(&object.required("input")?)?;
        Ok(Self { model: model(&object)?, inputs, encoding })
    }

    /// Refuses more texts than an answer of `limit` bytes has room for, if the vector of each has
    /// `dimensions` numbers: it would be computed and paid for, and nobody could read it.
    ///
    /// # Errors
    /// 400 about `input`, with the most texts there is room for.
    pub fn fit(&self, dimensions: usize, limit: usize) -> Result<(), ApiError> {
        let each = self.encoding.vector_bytes(dimensions).saturating_add(ITEM_BYTES);
        let most = limit.saturating_sub(AROUND_BYTES).checked_div(each).unwrap_or_default();
        if self.inputs.len() > most {
            return Err(RequestError::TooMany { param: "input".to_owned(), limit: most }.into());
        }
        Ok(())
    }

    /// What changes the answer, beside the texts, in its one encoding; a receipt's `sampling_hash` is its
    /// SHA-256: `"chrysalis/embeddings/v1"`, and a byte that is 0 for numbers and 1 for base64.
    #[must_use]
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let encoding = match self.encoding {
            EncodingFormat::Float => 0,
            EncodingFormat::Base64 => 1,
        };
        [DOMAIN, &[encoding]].concat()
    }
}

impl EncodingFormat {
    /// Most bytes of a vector of so many numbers, as it is told.
    fn vector_bytes(self, dimensions: usize) -> usize {
        match self {
            Self::Float => dimensions.saturating_mul(NUMBER_BYTES),
            Self::Base64 => {
                let bytes = dimensions.saturating_mul(size_of::<f32>());
                base64::encoded_len(bytes, true).unwrap_or(usize::MAX)
            }
        }
    }
}

/// A string, its tokens, or a list of either.
fn inputs(value: &Value<'_>) -> Result<Vec<EmbeddingInput>, RequestError> {
    if value.is_string() {
        return Ok(vec![text(value)?]);
    }
    let is_token = |first: u8| first == b'-' || first.is_ascii_digit();
    if value.first_element().is_some_and(is_token) {
        return Ok(vec![tokens(value)?]);
    }
    let elements = value.elements(MAX_EMBEDDING_INPUTS)?;
    if elements.is_empty() {
        return Err(RequestError::Empty { param: value.path() });
    }
    let one = |value: &Value<'_>| {
        if value.first_element().is_some() { tokens(value) } else { text(value) }
    };
    elements.iter().map(one).collect()
}

fn text(value: &Value<'_>) -> Result<EmbeddingInput, RequestError> {
    let text = value.prompt()?;
    if text.is_empty() {
        return Err(RequestError::Empty { param: value.path() });
    }
    Ok(EmbeddingInput::Text(text))
}

fn tokens(value: &Value<'_>) -> Result<EmbeddingInput, RequestError> {
    let elements = value.elements(MAX_EMBEDDING_TOKENS)?;
    if elements.is_empty() {
        return Err(RequestError::Empty { param: value.path() });
    }
    let mut ids = Zeroizing::new(Vec::with_capacity(elements.len()));
    for element in &elements {
        let id = element.integer(0, u32::MAX.into())?;
        ids.push(u32::try_from(id).unwrap_or(u32::MAX));
    }
    Ok(EmbeddingInput::Tokens(ids))
}

/// The answer: the vector of each text, in their order.
#[must_use]
pub fn embeddings_json(
    model: &str,
    vectors: &[&[f32]],
    encoding: EncodingFormat,
    prompt_tokens: u32,
) -> SecretBytes {
    let data = (0..).zip(vectors).map(|(index, vector)| {
        let embedding = match encoding {
            EncodingFormat::Float => Numbers::Float(vector),
            EncodingFormat::Base64 => Numbers::Base64(base64(vector)),
        };
        Item { object: "embedding", index, embedding }
    });
    secret_json(&Body {
        object: "list",
        data: data.collect(),
        model,
        usage: Usage { prompt_tokens, total_tokens: prompt_tokens },
    })
}

/// In one buffer of its final size, as everything that is wiped.
fn base64(vector: &[f32]) -> Zeroizing<String> {
    let bytes: Zeroizing<Vec<u8>> =
        Zeroizing::new(vector.iter().flat_map(|x| x.to_le_bytes()).collect());
    let size = base64::encoded_len(bytes.len(), true).unwrap_or(0);
    let mut text = Zeroizing::new(String::with_capacity(size));
    STANDARD.encode_string(&*bytes, &mut text);
    text
}

#[derive(Serialize)]
struct Body<'a> {
    object: &'static str,
    data: Vec<Item<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Item<'a> {
    object: &'static str,
    index: u32,
    embedding: Numbers<'a>,
}

enum Numbers<'a> {
    Float(&'a [f32]),
    Base64(Zeroizing<String>),
}

impl Serialize for Numbers<'_> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Float(values) => {
                let mut list = to.serialize_seq(Some(values.len()))?;
                values.iter().try_for_each(|value| list.serialize_element(value))?;
                list.end()
            }
            Self::Base64(text) => to.serialize_str(text),
        }
    }
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: u32,
    total_tokens: u32,
}

const DOMAIN: &[u8] = b"chrysalis/embeddings/v1";
/// Most bytes of an `f32` in the fewest digits that read back, with a comma: `-0.0000123456789,`.
const NUMBER_BYTES: usize = 18;
/// Most bytes of an item of the answer beside its vector.
const ITEM_BYTES: usize = 64;
/// Most bytes of the answer beside its items, whatever is escaped in the model's name.
const AROUND_BYTES: usize = 256 + 6 * MAX_MODEL_BYTES;

/// `dimensions` is for models that were trained for shorter vectors; none that is served here was.
const FIELDS: Fields =
    Fields { known: &["model", "input", "encoding_format", "user"], unsupported: &["dimensions"] };
