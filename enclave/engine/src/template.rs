//! The model's own chat template, run in a sandbox. A template is a program from the model's author:
//! it gets the messages and nothing else, no clock, no file, no other template but the one for tools, and is
//! stopped after a fixed number of instructions and of output bytes.
//!
//! `strftime_now` is not defined. Templates that print the date fall back to the constant they carry
//! if they test for the function, and are refused if they do not: an answer must depend on the
//! request and the model only.
//!
//! Fuel counts instructions, not bytes, so a hostile template can still make intermediate strings
//! large (`minijinja` bounds a single repetition, not repeated doubling). The template is part of the
//! measured model; such a model harms its own operator's worker only.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use zeroize::Zeroizing;

use crate::error::TemplateError;
use crate::request::{ChatMessage, Conversation, Role};
use crate::telling::{Told, to_json};
use crate::tool_style::ToolStyle;

/// What a model's files have of chat templates.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) default: &'a str,
    /// For requests with tools, of models that have a template of its own for them (Hermes, Command R).
    pub(crate) tools: Option<&'a str>,
}

impl<'a> From<&'a str> for Sources<'a> {
    /// One for all requests.
    fn from(default: &'a str) -> Self {
        Self { default, tools: None }
    }
}

/// A compiled chat template.
pub(crate) struct ChatTemplate {
    env: Environment<'static>,
    bos: String,
    eos: String,
    style: ToolStyle,
    /// Whether requests with tools have a template of their own.
    separate: bool,
    /// Whether it can be told to leave reasoning out.
    switch: bool,
    reasons: bool,
}

impl ChatTemplate {
    /// Compiles `sources` and renders one trial conversation, so that a template that always loops or
    /// fails is refused when the model is loaded. One for tools that cannot be used is left out.
    pub(crate) fn compile(
        sources: Sources<'_>,
        bos: &str,
        eos: &str,
    ) -> Result<Self, TemplateError> {
        let default = Self::compile_one(sources.default.into(), bos, eos)?;
        let both = sources.tools.map(|_| Self::compile_one(sources, bos, eos));
        let useful = |both: &Self| both.style != ToolStyle::Told;
        Ok(both.and_then(Result::ok).filter(useful).unwrap_or(default))
    }

    fn compile_one(sources: Sources<'_>, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        let mut template = Self::compile_untried(sources, bos, eos)?;
        template.render(&[(Role::User, "Hello")])?;
        // Whether it tells tools is tried too: many templates name them only to say that there are none.
        let messages = vec![context! { role => "user", content => "Hello" }];
        let parameters = context! { type => "object", properties => context! {} };
        let function = context! { name => TRIAL, description => "Hello", parameters };
        let tools = Value::from(vec![context! { type => "function", function }]);
        let told = template.render_told(&Told { messages, tools, thinking: None });
        if told.is_ok_and(|told| told.contains(TRIAL)) {
            template.style = ToolStyle::of(sources.tools.unwrap_or(sources.default));
        }
        Ok(template)
    }

    fn compile_untried(sources: Sources<'_>, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        let mut env = Environment::new();
        // What `transformers` sets for chat templates.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|_| TemplateError::Syntax { line: 0 })?;
        env.set_syntax(syntax);
        env.set_fuel(Some(TEMPLATE_FUEL));
        env.set_recursion_limit(RECURSION_LIMIT);
        env.set_unknown_method_callback(unknown_method_callback);
        env.add_function("raise_exception", raise_exception);
        env.add_filter("tojson", to_json);
        let each = [(DEFAULT_TEMPLATE, Some(sources.default)), (TOOLS_TEMPLATE, sources.tools)];
        let each = each.map(|(name, source)| Some((name, source?)));
        let each = || each.iter().flatten();
        for (name, source) in each() {
            if source.len() > MAX_TEMPLATE_BYTES {
                return Err(TemplateError::TooLarge { got: source.len() });
            }
            env.add_template_owned(*name, without_marks(source))
                .map_err(|e| TemplateError::Syntax { line: e.line().unwrap_or(0) })?;
        }
        Ok(Self {
            env,
            bos: bos.to_owned(),
            eos: eos.to_owned(),
            style: ToolStyle::Told,
            separate: sources.tools.is_some(),
            switch: each().all(|(_, source)| source.contains(SWITCH)),
            reasons: each().any(|(_, source)| source.contains(THINK)),
        })
    }

    /// Whether answers may begin with reasoning.
    pub(crate) const fn reasons(&self) -> bool {
        self.reasons
    }

    /// How it tells tools.
    pub(crate) const fn style(&self) -> ToolStyle {
        self.style
    }

    /// Refuses what it would not tell.
    pub(crate) fn check(&self, conversation: &Conversation) -> Result<(), TemplateError> {
        if conversation.thinking.is_some() && !self.switch {
            return Err(TemplateError::NoThinkingSwitch);
        }
        let tools = |message: &ChatMessage| message.role == Role::Tool || !message.calls.is_empty();
        let calls = conversation.messages.iter().any(tools);
        let known = self.style != ToolStyle::Told;
        // Calls of a conversation that has no tools any more go through the default one.
        let told =
            if conversation.tools.is_empty() { !calls || known && !self.separate } else { known };
        if !told {
            return Err(TemplateError::NoTools);
        }
        Ok(())
    }

    /// A conversation without tools.
    pub(crate) fn render(
        &self,
        messages: &[(Role, &str)],
    ) -> Result<Zeroizing<String>, TemplateError> {
        let message = |(role, content): &(Role, &str)| context! { role => role_name(*role), content => *content };
        let messages = messages.iter().map(message).collect();
        self.render_told(&Told { messages, tools: Value::from(()), thinking: None })
    }

    /// The conversation as the model was trained to read it, ready for the assistant's answer.
    pub(crate) fn render_told(&self, told: &Told) -> Result<Zeroizing<String>, TemplateError> {
        let mut context = context! {
            messages => told.messages.as_slice(),
            tools => &told.tools,
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        if let Some(thinking) = told.thinking {
            context = context! { enable_thinking => thinking, ..context };
        }
        let tools = self.separate && told.tools.is_true();
        let name = if tools { TOOLS_TEMPLATE } else { DEFAULT_TEMPLATE };
        let mut out = Bounded { bytes: Zeroizing::new(Vec::new()), full: false };
        let rendered = self
            .env
            .get_template(name)
            .and_then(|template| template.render_captured_to(context, &mut out).map(drop));
        if out.full {
            return Err(TemplateError::OutputTooLarge);
        }
        rendered.map_err(|e| refusal(&e))?;
        // The template engine writes `str`s only.
        String::from_utf8(core::mem::take(&mut *out.bytes))
            .map(Zeroizing::new)
            .map_err(|_| TemplateError::Failed { kind: "output is not UTF-8", line: 0 })
    }
}

/// Without the marks `generation` and `endgeneration`, between which `transformers` finds what the model
/// said when it is trained; they print nothing. In their place stands a condition that holds, so that white
/// space beside them goes where it went.
fn without_marks(source: &str) -> String {
    let (mut out, mut rest) = (String::new(), source);
    while let Some((before, tag)) = rest.split_once("{%") {
        let Some((inside, after)) = tag.split_once("%}") else { break };
        let word = inside.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        let instead = match word.trim() {
            "generation" => inside.replace("generation", "if true"),
            "endgeneration" => inside.replace("endgeneration", "endif"),
            _ => {
                // What follows may open a tag inside of this one, which is text then.
                let (this, next) = rest.split_at(before.len().saturating_add(2));
                out.push_str(this);
                rest = next;
                continue;
            }
        };
        out.extend([before, "{%", &instead, "%}"]);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Maps the error without its message: that may quote the conversation.
fn refusal(error: &Error) -> TemplateError {
    let line = error.line().unwrap_or(0);
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<Error>() {
            if e.kind() == ErrorKind::OutOfFuel || e.detail() == Some(RECURSION_DETAIL) {
                return TemplateError::OutOfFuel;
            }
            if e.detail() == Some(RAISED) {
                return TemplateError::Raised { line };
            }
        }
        cause = e.source();
    }
    let kind = match error.kind() {
        ErrorKind::UndefinedError => "an undefined value is used",
        ErrorKind::UnknownFilter => "a filter does not exist",
        ErrorKind::UnknownFunction => "a function does not exist",
        ErrorKind::UnknownMethod => "a method does not exist",
        ErrorKind::UnknownTest => "a test does not exist",
        ErrorKind::InvalidOperation => "an operation is not possible",
        _ => "it cannot be run",
    };
    TemplateError::Failed { kind, line }
}

/// The message of the template is dropped: templates may put content into it.
fn raise_exception(_message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, RAISED))
}

pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

struct Bounded {
    bytes: Zeroizing<Vec<u8>>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let needed = self.bytes.len().saturating_add(data.len());
        if needed > MAX_RENDERED_BYTES {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if needed > self.bytes.capacity() {
            // Grow by hand: `Vec` would free the old buffer without wiping it.
            let mut grown = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
            grown.extend_from_slice(&self.bytes);
            self.bytes = grown;
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `transformers` calls the template of requests without tools, and the one of requests with them.
pub(crate) const DEFAULT_TEMPLATE: &str = "default";
pub(crate) const TOOLS_TEMPLATE: &str = "tool_use";
/// What templates of models that reason begin their answers with, or look for in them.
pub(crate) const THINK: &str = "<think>";
/// Name of a tool that templates are tried with.
const TRIAL: &str = "a_tool_to_try_with";
/// What templates of models that may leave their reasoning out name the wish.
const SWITCH: &str = "enable_thinking";
const RAISED: &str = "raise_exception";
/// What `minijinja` 3 says when the recursion limit is reached.
const RECURSION_DETAIL: &str = "recursion limit exceeded";

/// Instructions one rendering may run: ten times what a conversation of [`crate::MAX_MESSAGES`]
/// needs in an ordinary template.
pub const TEMPLATE_FUEL: u64 = 250_000;
/// Deepest nesting of macros and recursive loops (a macro call counts ten).
const RECURSION_LIMIT: usize = 200;
/// Largest template source; the longest published ones have about 20 000 bytes.
pub const MAX_TEMPLATE_BYTES: usize = 64 * 1024;
/// Most bytes one rendering may write: twice the largest prompt.
pub const MAX_RENDERED_BYTES: usize = 2 * crate::request::MAX_PROMPT_BYTES;

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "template_family_tests.rs"]
mod family_tests;
