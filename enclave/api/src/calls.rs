//! Finds calls of tools in what a model says, while it says it. The text is the model's and can be anything: a
//! call is a JSON object with the name of a tool of the request and an object of arguments; whatever
//! else stands between the tags is text.

use zeroize::Zeroizing;

use crate::json::Object;
use crate::limits::MAX_ANSWER_BYTES;
use crate::secret::Completion;
use crate::tools::{CALL_BEGIN, CALL_END};

/// A call of a tool.
#[derive(Debug)]
pub struct Call {
    /// Its name: one of the request's.
    pub name: String,
    /// Its arguments, a JSON object.
    pub arguments: Completion,
}

/// A part of what a model says.
#[derive(Debug)]
pub enum Said {
    /// Text for the requester; never empty.
    Text(Completion),
    /// A call.
    Call(Call),
}

/// Reads what a model says.
#[derive(Debug)]
pub struct CallParser {
    names: Vec<String>,
    /// Text that may be part of a tag, or is inside of one.
    held: Zeroizing<String>,
    inside: bool,
    /// Whether a call came: white space around calls is nobody's text.
    called: bool,
}

impl CallParser {
    /// A parser for calls of these tools.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self { names, held: Zeroizing::default(), inside: false, called: false }
    }

    /// Adds text; what is certain now.
    #[must_use]
    pub fn push(&mut self, text: &str) -> Vec<Said> {
        let mut all =
            Zeroizing::new(String::with_capacity(self.held.len().saturating_add(text.len())));
        all.push_str(&self.held);
        all.push_str(text);
        let (mut rest, mut said) = (all.as_str(), Vec::new());
        loop {
            let tag = if self.inside { CALL_END } else { CALL_BEGIN };
            let Some((before, after)) = rest.split_once(tag) else { break };
            if self.inside {
                let call = self.call(before);
                self.called |= call.is_some();
                let verbatim = || Said::Text(text_of(&[CALL_BEGIN, before, CALL_END]));
                said.push(call.map_or_else(verbatim, Said::Call));
            } else {
                self.text(before.trim_end(), &mut said);
            }
            self.inside = !self.inside;
            rest = after;
        }
        let keep = if self.inside { rest.len() } else { overlap(rest, CALL_BEGIN) };
        let (certain, held) =
            rest.split_at_checked(rest.len().saturating_sub(keep)).unwrap_or((rest, ""));
        self.text(certain, &mut said);
        self.held = Zeroizing::new(held.to_owned());
        said
    }

    /// The end: a call that was not closed is one if it is complete.
    #[must_use]
    pub fn finish(&mut self) -> Vec<Said> {
        let (held, mut said) = (core::mem::take(&mut self.held), Vec::new());
        if core::mem::take(&mut self.inside) {
            let verbatim = || Said::Text(text_of(&[CALL_BEGIN, &held]));
            said.push(self.call(&held).map_or_else(verbatim, Said::Call));
        } else {
            self.text(&held, &mut said);
        }
        said
    }

    fn text(&self, text: &str, said: &mut Vec<Said>) {
        let nothing = if self.called { text.trim().is_empty() } else { text.is_empty() };
        if !nothing {
            said.push(Said::Text(text_of(&[text])));
        }
    }

    fn call(&self, json: &str) -> Option<Call> {
        let object = Object::parse_lenient(json.trim().as_bytes(), MAX_ANSWER_BYTES).ok()?;
        let name = object.optional("name")?.prompt().ok()?;
        let name = self.names.iter().find(|known| known.as_str() == name.expose())?.clone();
        let arguments = object.optional("arguments")?;
        arguments.object_lenient().ok()?;
        Some(Call { name, arguments: arguments.json(MAX_ANSWER_BYTES).ok()?.into() })
    }
}

pub(crate) fn text_of(parts: &[&str]) -> Completion {
    let size = parts.iter().map(|part| part.len()).fold(0, usize::saturating_add);
    let mut text = Zeroizing::new(String::with_capacity(size));
    parts.iter().for_each(|part| text.push_str(part));
    Completion::from(text)
}

/// Longest end of `text` that is a proper beginning of `tag`, which is ASCII.
pub(crate) fn overlap(text: &str, tag: &str) -> usize {
    (1..tag.len())
        .rev()
        .find(|len| tag.get(..*len).is_some_and(|head| text.ends_with(head)))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parts: &[&str]) -> (String, Vec<(String, String)>) {
        let mut parser = CallParser::new(vec!["f".into(), "g".into()]);
        let (mut text, mut calls) = (String::new(), Vec::new());
        let mut take = |said: Vec<Said>| {
            for said in said {
                match said {
                    Said::Text(part) => text.push_str(part.expose()),
                    Said::Call(call) => calls.push((call.name, call.arguments.expose().to_owned())),
                }
            }
        };
        parts.iter().for_each(|part| take(parser.push(part)));
        take(parser.finish());
        (text, calls)
    }

    const ONE: &str = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"ä\"}}\n</tool_call>";

    fn f() -> (String, String) {
        ("f".into(), r#"{"a": "ä"}"#.into())
    }

    #[test]
    fn finds_calls_however_the_text_is_cut() {
        let whole = format!("Let me see. {ONE}\n{ONE}");
        let expected = ("Let me see.".to_owned(), vec![f(), f()]);
        for (cut, _) in whole.char_indices() {
            let (a, b) = whole.split_at(cut);
            let (text, calls) = parse(&[a, b]);
            assert_eq!(
                (text.trim_end(), &calls),
                (expected.0.as_str(), &expected.1),
                "cut at {cut}"
            );
        }
        let single: Vec<String> = whole.chars().map(String::from).collect();
        let (text, calls) = parse(&single.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!((text.trim_end(), calls), (expected.0.as_str(), expected.1));
    }

    #[test]
    fn text_without_calls_is_unchanged() {
        for text in ["", " a <tool", "<tool_calls>", "x < y\n", "</tool_call>"] {
            assert_eq!(parse(&[text]), (text.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn what_is_no_call_of_a_tool_is_text() {
        for inner in [
            "",
            "{",
            "[]",
            r#"{"name":"h","arguments":{}}"#,
            r#"{"name":"f"}"#,
            r#"{"name":"f","arguments":"{}"}"#,
            r#"{"name":"f","arguments":{}} more"#,
        ] {
            let whole = format!("<tool_call>{inner}</tool_call>");
            assert_eq!(parse(&[&whole]), (whole.clone(), Vec::new()));
        }
    }

    #[test]
    fn a_call_that_was_not_closed_counts_if_it_is_complete() {
        let open = ONE.strip_suffix("\n</tool_call>").unwrap();
        assert_eq!(parse(&[open]), (String::new(), vec![f()]));
        let cut = &open[..open.len() - 2];
        assert_eq!(parse(&[cut]), (cut.to_owned(), Vec::new()));
    }
}
