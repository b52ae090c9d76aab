//! Tools of a chat: what a request says about them, and how a conversation with them is told to a model
//! whose chat template knows none.
//!
//! Such a model is told in the format that Qwen and SmolLM2 learned: descriptions in the system message
//! between `<tools>` tags, a call as JSON between `<tool_call>` tags, a result between `<tool_response>` tags
//! in a message of the user. Other templates get tools, calls and results themselves. Either way it is text in
//! the end: content can contain tags, and a tool's result can pretend to be anything. What was called
//! is therefore never more than a wish, for the application to check.

use std::collections::HashMap;

use zeroize::Zeroizing;

use crate::constraint::Constraint;
use crate::json::{Fields, Object, Value};
use crate::limits::{
    MAX_CONSTRAINT_BYTES, MAX_NAME_CHARS, MAX_TOOL_CALLS, MAX_TOOL_TEXT_BYTES, MAX_TOOLS,
};
use crate::refusal::RequestError;
use crate::request::{Message, PastCall, Role};
use crate::secret::Prompt;

/// The tools a model may call.
#[derive(Debug)]
pub struct Tools {
    list: Vec<Tool>,
    /// The one that has to be called; any of them if there is no name.
    required: Option<Option<String>>,
    /// `parallel_tool_calls`: whether an answer may have several calls.
    parallel: bool,
}

#[derive(Debug)]
struct Tool {
    name: String,
    /// `function` of the tool, as it stands in the request.
    json: Prompt,
    /// What its arguments have to be.
    parameters: Prompt,
    /// Whether they have to be that where the model calls it unasked.
    strict: bool,
}

impl Tools {
    /// The tools of a request; `None` if it has none, or wants none called.
    pub(crate) fn read(object: &Object<'_>) -> Result<Option<Self>, RequestError> {
        let parallel = object.optional("parallel_tool_calls").map_or(Ok(true), |v| v.boolean())?;
        let choice = object.optional("tool_choice");
        let Some(list) = object.optional("tools") else {
            let none = |choice: &Value<'_>| matches!(choice.word(), Some("none" | "auto"));
            return match choice.filter(|choice| !none(choice)) {
                None => Ok(None),
                Some(choice) => {
                    let rule = "without 'tools'";
                    Err(RequestError::Conflict { param: choice.path(), rule })
                }
            };
        };
        let elements = list.elements(MAX_TOOLS)?;
        if elements.is_empty() {
            return Err(RequestError::Empty { param: list.path() });
        }
        let mut tools = Self { list: Vec::new(), required: None, parallel };
        for element in &elements {
            let tool = tool(element)?;
            if tools.list.iter().any(|other| other.name == tool.name) {
                return Err(RequestError::Duplicate { param: element.path() });
            }
            tools.list.push(tool);
        }
        let Some(choice) = choice else { return Ok(Some(tools)) };
        match choice.word() {
            Some("none") => return Ok(None),
            Some("auto") => {}
            Some("required") => tools.required = Some(None),
            _ => tools.required = Some(Some(tools.named(&choice)?)),
        }
        Ok(Some(tools))
    }

    /// The name in a `tool_choice` that is an object.
    fn named(&self, choice: &Value<'_>) -> Result<String, RequestError> {
        const FIELDS: Fields = Fields { known: &["type", "function"], unsupported: &[] };
        const FUNCTION: Fields = Fields { known: &["name"], unsupported: &[] };
        if choice.is_string() {
            let allowed = "\"none\", \"auto\", \"required\" or a function";
            return Err(RequestError::UnsupportedValue { param: choice.path(), allowed });
        }
        let object = choice.object(&FIELDS)?;
        is_function(&object)?;
        let name = object.required("function")?.object(&FUNCTION)?.required("name")?;
        let wanted = name.short_prompt(MAX_NAME_CHARS)?;
        let known = self.list.iter().find(|tool| tool.name == wanted.expose());
        let allowed = "the name of a tool in 'tools'";
        let unknown = || RequestError::UnsupportedValue { param: name.path(), allowed };
        Ok(known.ok_or_else(unknown)?.name.clone())
    }

    /// Names of the tools.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.list.iter().map(|tool| tool.name.clone()).collect()
    }

    /// Descriptions of the tools: the objects `function` as they stand in the request.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|tool| tool.json.expose())
    }

    /// Whether one of them has to be called.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        self.required.is_some()
    }

    /// What the answer has to be: a call if one is required; and where the model is free to call, what it calls
    /// is kept to one call, and to the schemas that are to be kept strictly.
    pub(crate) fn constraint(&self) -> Option<Constraint> {
        let pair = |tool: &Tool, schema: &str| {
            [Prompt::new(tool.name.clone()), Prompt::new(schema.to_owned())]
        };
        if let Some(required) = &self.required {
            let wanted = |tool: &&Tool| required.as_ref().is_none_or(|name| *name == tool.name);
            let pairs = self.list.iter().filter(wanted);
            let pairs = pairs.flat_map(|tool| pair(tool, tool.parameters.expose())).collect();
            return Some(Constraint::ToolCall(pairs));
        }
        if self.parallel && self.list.iter().all(|tool| !tool.strict) {
            return None;
        }
        let schema = |tool: &Tool| {
            let schema = if tool.strict { tool.parameters.expose() } else { ANY_ARGUMENTS };
            pair(tool, schema)
        };
        let pairs = self.list.iter().flat_map(schema).collect();
        Some(Constraint::MayCall { pairs, parallel: self.parallel })
    }

    /// Tells a model about the tools, in the system message.
    fn introduce(&self, messages: &mut Vec<Message>) {
        let jsons = self.list.iter().flat_map(|tool| [tool.json.expose(), "\n"]);
        let parts: Vec<&str> = [BEFORE].into_iter().chain(jsons).chain([AFTER]).collect();
        let first =
            messages.first_mut().filter(|m| matches!(m.role, Role::System | Role::Developer));
        match first {
            Some(system) => {
                let with: Vec<&str> =
                    [system.content.expose(), "\n\n"].into_iter().chain(parts).collect();
                system.content = concat(&with);
            }
            None => messages.insert(0, Message::new(Role::System, concat(&parts))),
        }
    }
}

fn is_function(object: &Object<'_>) -> Result<(), RequestError> {
    let kind = object.required("type")?;
    if kind.word() == Some("function") {
        return Ok(());
    }
    Err(RequestError::UnsupportedValue { param: kind.path(), allowed: "\"function\"" })
}

fn tool(value: &Value<'_>) -> Result<Tool, RequestError> {
    const FIELDS: Fields = Fields { known: &["type", "function"], unsupported: &[] };
    const FUNCTION: Fields =
        Fields { known: &["name", "description", "parameters", "strict"], unsupported: &[] };
    let object = value.object(&FIELDS)?;
    is_function(&object)?;
    let value = object.required("function")?;
    let function = value.object(&FUNCTION)?;
    let name = function.required("name")?;
    let text = name.short_prompt(MAX_NAME_CHARS)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if text.is_empty() || !text.expose().bytes().all(plain) {
        let allowed = "letters, digits, underscores and hyphens".to_owned();
        return Err(RequestError::OutOfRange { param: name.path(), allowed });
    }
    if let Some(description) = function.optional("description") {
        description.short_prompt(MAX_TOOL_TEXT_BYTES)?;
    }
    let strict = function.optional("strict").map_or(Ok(false), |strict| strict.boolean())?;
    let parameters = match function.optional("parameters") {
        None => Prompt::new(ANY_ARGUMENTS.to_owned()),
        Some(parameters) => {
            parameters.object_lenient()?;
            parameters.json(MAX_CONSTRAINT_BYTES)?
        }
    };
    let json = value.json(MAX_TOOL_TEXT_BYTES)?;
    Ok(Tool { name: text.expose().to_owned(), json, parameters, strict })
}

/// Calls in a message of an assistant; `ids` has the numbers of those before.
pub(crate) fn calls(
    calls: &Value<'_>,
    ids: &mut HashMap<String, u32>,
) -> Result<Vec<PastCall>, RequestError> {
    // Helpers of the SDKs leave the place of a call in its stream, and what they read in the arguments.
    const FIELDS: Fields = Fields { known: &["id", "type", "function", "index"], unsupported: &[] };
    const FUNCTION: Fields =
        Fields { known: &["name", "arguments", "parsed_arguments"], unsupported: &[] };
    let mut all = Vec::new();
    for call in calls.elements(MAX_TOOL_CALLS)? {
        let object = call.object(&FIELDS)?;
        let id = object.required("id")?.short_prompt(MAX_TOOL_TEXT_BYTES)?;
        is_function(&object)?;
        let function = object.required("function")?.object(&FUNCTION)?;
        let name = function.required("name")?.short_prompt(MAX_NAME_CHARS)?;
        let arguments = function.required("arguments")?.prompt()?;
        let number = u32::try_from(ids.len()).unwrap_or(u32::MAX).saturating_add(1);
        let number = *ids.entry(id.expose().to_owned()).or_insert(number);
        all.push(PastCall { number, name, arguments });
    }
    Ok(all)
}

/// Tells tools, calls and results in the texts of messages: all results in a row in one message of the
/// user.
pub(crate) fn tell(messages: &mut Vec<Message>, tools: Option<&Tools>) {
    let mut results = Vec::new();
    for mut message in core::mem::take(messages) {
        if message.role == Role::Tool {
            results.push(message.content);
            continue;
        }
        messages.extend(returned(&core::mem::take(&mut results)));
        if !message.calls.is_empty() {
            message.content = called(&message.content, &message.calls);
            message.calls.clear();
        }
        messages.push(message);
    }
    messages.extend(returned(&results));
    if let Some(tools) = tools {
        tools.introduce(messages);
    }
}

/// What an assistant said and called, as the model would have written it.
fn called(content: &Prompt, calls: &[PastCall]) -> Prompt {
    let mut parts: Vec<&str> = Vec::new();
    if !content.is_empty() {
        parts.push(content.expose());
    }
    for PastCall { name, arguments, .. } in calls {
        if !parts.is_empty() {
            parts.push("\n");
        }
        parts.extend([
            CALL_BEGIN,
            "\n{\"name\": \"",
            name.expose(),
            "\", \"arguments\": ",
            arguments.expose(),
            "}\n",
            CALL_END,
        ]);
    }
    concat(&parts)
}

/// What tools returned, if it is anything.
fn returned(results: &[Prompt]) -> Option<Message> {
    let mut parts = Vec::new();
    for result in results {
        if !parts.is_empty() {
            parts.push("\n");
        }
        parts.extend([RESULT_BEGIN, "\n", result.expose(), "\n", RESULT_END]);
    }
    (!parts.is_empty()).then(|| Message::new(Role::User, concat(&parts)))
}

/// One buffer of the final size, so that none that grew is left behind.
pub(crate) fn concat(parts: &[&str]) -> Prompt {
    let size = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
    let mut text = Zeroizing::new(String::with_capacity(size));
    parts.iter().for_each(|part| text.push_str(part));
    Prompt::from(text)
}

/// The schema of arguments of which nothing is known.
const ANY_ARGUMENTS: &str = r#"{"type":"object"}"#;
pub(crate) const CALL_BEGIN: &str = "<tool_call>";
pub(crate) const CALL_END: &str = "</tool_call>";
const RESULT_BEGIN: &str = "<tool_response>";
const RESULT_END: &str = "</tool_response>";
const BEFORE: &str =
    "# Tools\n\nThere are functions you can call. Each line is the description of one:\n<tools>\n";
const AFTER: &str = "</tools>\n\nTo call a function, write its name and its arguments as JSON, like this:\n<tool_call>\n{\"name\": \"NAME\", \"arguments\": {}}\n</tool_call>\nWhat it returns follows between <tool_response> tags.";
