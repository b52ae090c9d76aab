//! A conversation as values of a chat template. Everything in it is the requester's: texts are defused
//! before a template sees them (`defuse.rs`), names and descriptions of tools as much as messages.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Kwargs, Object, ValueKind};
use minijinja::{Error, ErrorKind, Value, context};

use crate::error::EngineError;
use crate::request::{ChatMessage, Conversation, Role, ToolCall};
use crate::template::role_name;
use crate::tool_style::ToolStyle;

/// Messages and tools as templates of `transformers` get them.
pub(crate) struct Told {
    pub(crate) messages: Vec<Value>,
    /// None if there are no tools.
    pub(crate) tools: Value,
    /// Not there if the request does not say.
    pub(crate) thinking: Option<bool>,
}

impl Told {
    /// The values of `conversation` for a template of this `style`; `defuse` makes a text safe.
    ///
    /// # Errors
    /// [`EngineError::NotUtf8`] with the index of the message, [`EngineError::ToolNotJson`] with that of the
    /// tool.
    pub(crate) fn new(
        conversation: &Conversation,
        style: ToolStyle,
        defuse: &dyn Fn(&str) -> Value,
    ) -> Result<Self, EngineError> {
        let parts = match style {
            ToolStyle::Bare => one_call_each(&conversation.messages),
            _ => conversation.messages.iter().enumerate().map(Part::whole).collect(),
        };
        let messages = parts.iter().map(|part| part.tell(defuse)).collect::<Result<_, _>>()?;
        let mut tools = Vec::with_capacity(conversation.tools.len());
        for (index, tool) in conversation.tools.iter().enumerate() {
            let function: serde_json::Value = serde_json::from_slice(tool.expose())
                .map_err(|_| EngineError::ToolNotJson { index })?;
            tools.push(context! { type => "function", function => json(&function, defuse) });
        }
        let tools = if tools.is_empty() { Value::from(()) } else { Value::from(tools) };
        Ok(Self { messages, tools, thinking: conversation.thinking })
    }
}

/// What one message of a template is told: a message of the conversation, or one of its calls.
struct Part<'a> {
    /// Which message it is of.
    index: usize,
    message: &'a ChatMessage,
    /// What was said is told once, with the first of the calls.
    content: &'a [u8],
    calls: &'a [ToolCall],
}

impl<'a> Part<'a> {
    fn whole((index, message): (usize, &'a ChatMessage)) -> Self {
        Self { index, message, content: message.content.expose(), calls: &message.calls }
    }

    fn tell(&self, defuse: &dyn Fn(&str) -> Value) -> Result<Value, EngineError> {
        let Self { index, message, content, calls } = *self;
        let utf8 = |bytes| core::str::from_utf8(bytes).map_err(|_| EngineError::NotUtf8 { index });
        let (role, content) = (role_name(message.role), defuse(utf8(content)?));
        if message.role == Role::Tool {
            return Ok(context! { role, content, tool_call_id => id(message.answers) });
        }
        if calls.is_empty() {
            return Ok(context! { role, content });
        }
        let mut told = Vec::with_capacity(calls.len());
        for call in calls {
            let text = utf8(call.arguments.expose())?;
            // What is no JSON the model did not write; templates take texts too.
            let arguments = serde_json::from_str(text).map(|value| json(&value, defuse));
            let arguments = arguments.unwrap_or_else(|_| defuse(text));
            let function = context! { name => defuse(utf8(call.name.expose())?), arguments };
            told.push(context! { id => id(call.number), type => "function", function });
        }
        Ok(context! { role, content, tool_calls => told })
    }
}

/// The same messages with one call each, the results of each behind it: Llama's templates raise an exception
/// at a message of several, although its models make them.
fn one_call_each(messages: &[ChatMessage]) -> Vec<Part<'_>> {
    let mut parts = Vec::with_capacity(messages.len());
    let mut all = messages.iter().enumerate().peekable();
    while let Some((index, message)) = all.next() {
        if message.calls.len() < 2 {
            parts.push(Part::whole((index, message)));
            continue;
        }
        let mut results = Vec::new();
        while let Some(result) = all.next_if(|(_, next)| next.role == Role::Tool) {
            results.push(result);
        }
        let mut content = message.content.expose();
        for call in &message.calls {
            let calls = core::slice::from_ref(call);
            parts.push(Part { index, message, content: core::mem::take(&mut content), calls });
            let (its, others): (Vec<_>, Vec<_>) =
                results.into_iter().partition(|(_, result)| result.answers == call.number);
            parts.extend(its.into_iter().map(Part::whole));
            results = others;
        }
        parts.extend(results.into_iter().map(Part::whole));
    }
    parts
}

/// The id of a call: nine letters and digits, which is what the templates of Mistral insist on.
fn id(number: u32) -> String {
    format!("call{:05}", number % 100_000)
}

/// A JSON value. Objects keep their order, as they do in Python.
fn json(value: &serde_json::Value, defuse: &dyn Fn(&str) -> Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(truth) => Value::from(*truth),
        serde_json::Value::Number(number) => {
            let whole = number.as_i64().map(Value::from);
            let whole = whole.or_else(|| number.as_u64().map(Value::from));
            whole.or_else(|| number.as_f64().map(Value::from)).unwrap_or_default()
        }
        serde_json::Value::String(text) => defuse(text),
        serde_json::Value::Array(all) => {
            Value::from(all.iter().map(|one| json(one, defuse)).collect::<Vec<_>>())
        }
        serde_json::Value::Object(all) => {
            let pairs = all.iter().map(|(key, value)| (defuse(key), json(value, defuse)));
            Value::from_object(Pairs::new(pairs.collect()))
        }
    }
}

/// An object in the order in which it was written.
struct Pairs {
    all: Vec<(Value, Value)>,
    /// Where each name stands: who tells an object asks for every one of them.
    places: HashMap<Value, usize>,
}

impl Pairs {
    fn new(all: Vec<(Value, Value)>) -> Self {
        let places = all.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
        Self { all, places }
    }
}

/// It may be a secret.
impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<redacted {} pairs>", self.all.len())
    }
}

impl Object for Pairs {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.all.get(*self.places.get(key)?).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.all.iter().map(|(key, _)| key.clone()).collect())
    }
}

/// `tojson` as `transformers` defines it for chat templates: Python's `json.dumps` with its separators, text as
/// it is and not escaped for HTML, which is what the filter of `minijinja` does.
pub(crate) fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    // Some templates ask for what they get anyway. The other is not written, and refused as unknown.
    if !options.peek::<bool>("ensure_ascii").unwrap_or(true) {
        options.get::<bool>("ensure_ascii")?;
    }
    options.assert_all_used()?;
    let mut out = String::new();
    write_json(value, indent.map(|width| width.min(MAX_INDENT)), 0, &mut out)?;
    Ok(out)
}

fn write_json(
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    if depth > MAX_JSON_DEPTH || out.len() > crate::MAX_RENDERED_BYTES {
        return Err(Error::new(ErrorKind::InvalidOperation, "JSON that is too large"));
    }
    let inside = depth.saturating_add(1);
    let line = |depth: usize, out: &mut String| {
        if let Some(width) = indent {
            out.push('\n');
            out.extend(core::iter::repeat_n(' ', width.saturating_mul(depth)));
        }
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::Seq | ValueKind::Iterable => {
            let mut empty = true;
            out.push('[');
            for one in value.try_iter()? {
                out.push_str(if core::mem::take(&mut empty) { "" } else { comma });
                line(inside, out);
                write_json(&one, indent, inside, out)?;
            }
            if !empty {
                line(depth, out);
            }
            out.push(']');
        }
        ValueKind::Map => {
            let mut empty = true;
            out.push('{');
            for key in value.try_iter()? {
                out.push_str(if core::mem::take(&mut empty) { "" } else { comma });
                line(inside, out);
                write_text(&key.to_string(), out)?;
                out.push_str(": ");
                write_json(&value.get_item(&key)?, indent, inside, out)?;
            }
            if !empty {
                line(depth, out);
            }
            out.push('}');
        }
        _ => write_text(&value.to_string(), out)?,
    }
    Ok(())
}

/// A number as Python writes it: with the fewest digits, and an exponent of a sign and two digits at least.
fn number(value: &Value) -> String {
    let Some(float) = f64::try_from(value.clone()).ok().filter(|_| !value.is_integer()) else {
        return value.to_string();
    };
    let text = format!("{float:?}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
    format!("{digits}e{sign}{size:0>2}")
}

fn write_text(text: &str, out: &mut String) -> Result<(), Error> {
    let quoted = serde_json::to_string(text)
        .map_err(|_| Error::new(ErrorKind::InvalidOperation, "text that is no JSON"))?;
    out.push_str(&quoted);
    Ok(())
}

#[cfg(test)]
#[path = "telling_tests.rs"]
mod tests;

/// Deepest nesting of what a template writes as JSON: what a request can nest, and a message around it.
const MAX_JSON_DEPTH: usize = 140;
/// Widest indentation of a level.
const MAX_INDENT: usize = 8;
