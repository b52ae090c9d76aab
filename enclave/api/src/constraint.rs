//! What an answer has to be: `response_format` of chats, and the fields vLLM has for it,
//! `guided_json`, `guided_regex`, `guided_choice` and `guided_grammar`. Sizes are checked here; whether a schema,
//! a pattern or a grammar can be kept is the engine's to say.

use crate::json::{Fields, Object, Value};
use crate::limits::{MAX_CONSTRAINT_BYTES, MAX_GUIDED_CHOICES, MAX_NAME_CHARS, MAX_USER_BYTES};
use crate::refusal::RequestError;
use crate::secret::Prompt;

/// What an answer has to be.
#[derive(Debug)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// An instance of this JSON Schema, as it stands in the request.
    JsonSchema(Prompt),
    /// Text that this regular expression matches as a whole.
    Regex(Prompt),
    /// One of these texts.
    Choice(Vec<Prompt>),
    /// Text that this grammar makes, in the notation of llama.cpp (GBNF).
    Grammar(Prompt),
    /// A call of one of these tools, each a name and the JSON Schema of its arguments, one after the other.
    ToolCall(Vec<Prompt>),
    /// Text, and calls of these tools, written in the same way, whose arguments are what their schemas say.
    MayCall {
        /// Names and schemas in turn.
        pairs: Vec<Prompt>,
        /// Whether there may be several calls.
        parallel: bool,
    },
}

impl Constraint {
    /// Which it is, and its texts, for the encoding of a request.
    pub(crate) fn parts(&self) -> (u8, &[Prompt]) {
        match self {
            Self::JsonObject => (1, &[]),
            Self::JsonSchema(schema) => (2, core::slice::from_ref(schema)),
            Self::Regex(pattern) => (3, core::slice::from_ref(pattern)),
            Self::Choice(texts) => (4, texts),
            Self::ToolCall(pairs) => (5, pairs),
            Self::Grammar(grammar) => (6, core::slice::from_ref(grammar)),
            Self::MayCall { pairs, parallel: false } => (7, pairs),
            Self::MayCall { pairs, parallel: true } => (8, pairs),
        }
    }

    /// Whether it says what all of the answer is: then no reasoning comes before it.
    #[must_use]
    pub const fn is_of_all(&self) -> bool {
        !matches!(self, Self::MayCall { .. })
    }
}

/// The constraint of a request, and the field that asks for it. There is one at most.
pub(crate) fn read(
    object: &Object<'_>,
) -> Result<Option<(Constraint, &'static str)>, RequestError> {
    let mut found = None;
    for (field, read) in FIELDS {
        let Some(value) = object.optional(field) else { continue };
        let Some(constraint) = read(&value)? else { continue };
        if found.is_some() {
            let rule = "together with another field that says what the answer has to be";
            return Err(RequestError::Conflict { param: value.path(), rule });
        }
        found = Some((constraint, field));
    }
    Ok(found)
}

type Read = fn(&Value<'_>) -> Result<Option<Constraint>, RequestError>;

const FIELDS: [(&str, Read); 5] = [
    ("response_format", response_format),
    ("guided_json", |value| schema(value).map(Some)),
    ("guided_regex", |value| {
        value.short_prompt(MAX_CONSTRAINT_BYTES).map(Constraint::Regex).map(Some)
    }),
    ("guided_choice", |value| choice(value).map(Some)),
    ("guided_grammar", |value| {
        value.short_prompt(MAX_CONSTRAINT_BYTES).map(Constraint::Grammar).map(Some)
    }),
];

fn response_format(value: &Value<'_>) -> Result<Option<Constraint>, RequestError> {
    const FIELDS: Fields = Fields { known: &["type", "json_schema"], unsupported: &[] };
    let format = value.object(&FIELDS)?;
    let kind = format.required("type")?;
    let named = format.optional("json_schema");
    match kind.prompt()?.expose() {
        "text" | "json_object" if named.is_some() => {
            let rule = "unless 'response_format.type' is \"json_schema\"";
            Err(RequestError::Conflict { param: format.field("json_schema"), rule })
        }
        "text" => Ok(None),
        "json_object" => Ok(Some(Constraint::JsonObject)),
        "json_schema" => named_schema(&format.required("json_schema")?).map(Some),
        _ => {
            let allowed = "\"text\", \"json_object\" or \"json_schema\"";
            Err(RequestError::UnsupportedValue { param: kind.path(), allowed })
        }
    }
}

/// `text.format` of a response: what `response_format` is, with the fields of its schema beside the type.
pub(crate) fn text_format(value: &Value<'_>) -> Result<Option<Constraint>, RequestError> {
    let kind = value.object_lenient()?.required("type")?;
    if kind.word() == Some("json_schema") {
        return named_schema(value).map(Some);
    }
    response_format(value)
}

/// A schema with a name. Whether it is to be kept strictly makes no difference: it always is.
fn named_schema(value: &Value<'_>) -> Result<Constraint, RequestError> {
    const FIELDS: Fields =
        Fields { known: &["type", "name", "description", "schema", "strict"], unsupported: &[] };
    let object = value.object(&FIELDS)?;
    object.required("name")?.short_prompt(MAX_NAME_CHARS)?;
    if let Some(description) = object.optional("description") {
        description.short_prompt(MAX_USER_BYTES)?;
    }
    object.optional("strict").map_or(Ok(true), |strict| strict.boolean())?;
    schema(&object.required("schema")?)
}

fn schema(value: &Value<'_>) -> Result<Constraint, RequestError> {
    value.json(MAX_CONSTRAINT_BYTES).map(Constraint::JsonSchema)
}

fn choice(value: &Value<'_>) -> Result<Constraint, RequestError> {
    let texts = value.elements(MAX_GUIDED_CHOICES)?;
    if texts.is_empty() {
        return Err(RequestError::Empty { param: value.path() });
    }
    let text = |value: &Value<'_>| value.short_prompt(MAX_USER_BYTES);
    Ok(Constraint::Choice(texts.iter().map(text).collect::<Result<_, _>>()?))
}
