//! Finds calls of tools in what a model says, while it says it. The text is the model's and can be anything: a
//! call is a JSON object with the name of a tool of the request and an object of arguments, written as the
//! model's family does ([`CallFormat`]); whatever else stands in its place is text.

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::json::{Object, Value};
use crate::limits::{MAX_ANSWER_BYTES, MAX_TOOL_CALLS};
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

/// How a model writes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFormat {
    /// A JSON object with `name` and `arguments` between `<tool_call>` tags: Qwen, Hermes, SmolLM2.
    Tagged,
    /// JSON objects with `name` and `parameters`, with `;` between them: the whole answer, or what follows
    /// `<|python_tag|>`. Llama 3.1 and later.
    Bare,
    /// A JSON list of objects with `name` and `arguments`: what follows `[TOOL_CALLS]`. Mistral.
    List,
    /// A name, `[ARGS]` and a JSON object behind each `[TOOL_CALLS]`. Newer models of Mistral.
    Named,
}

/// Reads what a model says.
#[derive(Debug)]
pub struct CallParser {
    format: CallFormat,
    names: Vec<String>,
    /// Text that may be part of a tag, or is inside of one.
    held: Zeroizing<String>,
    place: Place,
    /// Whether a call came: white space around calls is nobody's text.
    called: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing was said yet: in a bare format the next character decides.
    Before,
    Outside,
    /// Behind the tag; or, without one, in an answer that looks like a bare call.
    Inside {
        tag: bool,
    },
}

impl CallParser {
    /// A parser for calls of these tools; `begun` if the prompt ends with the tag before calls.
    #[must_use]
    pub fn new(names: Vec<String>, format: CallFormat, begun: bool) -> Self {
        let place = match (begun, format) {
            (true, _) => Place::Inside { tag: false },
            (false, CallFormat::Bare) => Place::Before,
            (false, _) => Place::Outside,
        };
        Self { format, names, held: Zeroizing::default(), place, called: false }
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
            match self.place {
                Place::Before => match rest.trim_start_matches(SPACES).chars().next() {
                    None => break,
                    Some('{') => self.place = Place::Inside { tag: false },
                    Some(_) => self.place = Place::Outside,
                },
                Place::Outside => {
                    let Some((before, after)) = rest.split_once(self.format.begin()) else { break };
                    self.text(before.trim_end(), &mut said);
                    (self.place, rest) = (Place::Inside { tag: true }, after);
                }
                Place::Inside { tag } => {
                    let Some(end) = self.format.end() else { break };
                    let Some((before, after)) = rest.split_once(end) else { break };
                    self.inside(tag, before, end, &mut said);
                    (self.place, rest) = (Place::Outside, after);
                }
            }
        }
        // What is this long is no call; looking at it again with every piece would take too long.
        let endless = rest.len() > MAX_HELD_BYTES;
        if endless {
            if self.place == (Place::Inside { tag: true }) {
                said.push(Said::Text(text_of(&[self.format.begin()])));
            }
            self.place = Place::Outside;
        }
        let keep = match self.place {
            Place::Outside if endless => overlap(rest, self.format.begin()),
            Place::Outside => {
                // White space before a tag is nobody's text.
                let cut = rest.len().saturating_sub(overlap(rest, self.format.begin()));
                rest.len().saturating_sub(rest.get(..cut).unwrap_or_default().trim_end().len())
            }
            Place::Before | Place::Inside { .. } => rest.len(),
        };
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
        match core::mem::replace(&mut self.place, Place::Outside) {
            Place::Inside { tag } => self.inside(tag, &held, "", &mut said),
            Place::Before | Place::Outside => self.text(&held, &mut said),
        }
        said
    }

    fn text(&self, text: &str, said: &mut Vec<Said>) {
        let nothing = if self.called { text.trim().is_empty() } else { text.is_empty() };
        if !nothing {
            said.push(Said::Text(text_of(&[text])));
        }
    }

    /// What stands behind a tag and before `end`: calls, or all of it is text.
    fn inside(&mut self, tag: bool, inner: &str, end: &str, said: &mut Vec<Said>) {
        let calls = self.calls(inner).filter(|calls| !calls.is_empty());
        self.called |= calls.is_some();
        match calls {
            Some(calls) => said.extend(calls.into_iter().map(Said::Call)),
            None => {
                let begin = if tag { self.format.begin() } else { "" };
                let verbatim = text_of(&[begin, inner, end]);
                if !verbatim.is_empty() {
                    said.push(Said::Text(verbatim));
                }
            }
        }
    }

    fn calls(&self, inner: &str) -> Option<Vec<Call>> {
        match self.format {
            CallFormat::Tagged => Some(vec![self.call(inner.trim().as_bytes())?]),
            CallFormat::Bare => {
                let objects = objects(inner)?;
                objects.into_iter().map(|object| self.call(object.as_bytes())).collect()
            }
            CallFormat::List => {
                // The reader of JSON reads objects.
                let whole = text_of(&["{\"calls\":", inner.trim(), "}"]);
                let object = Object::parse_lenient(whole.expose().as_bytes(), LIST_BYTES).ok()?;
                let calls = object.required("calls").ok()?.elements(MAX_TOOL_CALLS).ok()?;
                let one = |call: &Value<'_>| self.called(&call.object_lenient().ok()?);
                calls.iter().map(one).collect()
            }
            CallFormat::Named => self.named(inner),
        }
    }

    /// Calls by name, each but the first behind a tag of its own. Arguments may spell tags.
    fn named(&self, inner: &str) -> Option<Vec<Call>> {
        let (mut calls, mut rest) = (Vec::new(), inner);
        loop {
            let (name, behind) = rest.split_once(ARGUMENTS)?;
            let name = self.names.iter().find(|known| known.as_str() == name.trim())?.clone();
            let mut values = serde_json::Deserializer::from_str(behind).into_iter::<&RawValue>();
            let arguments = values.next()?.ok()?.get();
            rest = behind.get(values.byte_offset()..)?.trim();
            if !arguments.starts_with('{') || calls.len() >= MAX_TOOL_CALLS {
                return None;
            }
            calls.push(Call { name, arguments: text_of(&[arguments]) });
            if rest.is_empty() {
                return Some(calls);
            }
            rest = rest.strip_prefix(self.format.begin())?;
        }
    }

    fn call(&self, json: &[u8]) -> Option<Call> {
        self.called(&Object::parse_lenient(json, MAX_ANSWER_BYTES).ok()?)
    }

    fn called(&self, object: &Object<'_>) -> Option<Call> {
        let name = object.optional("name")?.prompt().ok()?;
        let name = self.names.iter().find(|known| known.as_str() == name.expose())?.clone();
        let arguments = object.optional(match self.format {
            CallFormat::Bare => "parameters",
            CallFormat::Tagged | CallFormat::List | CallFormat::Named => "arguments",
        })?;
        arguments.object_lenient().ok()?;
        Some(Call { name, arguments: arguments.json(MAX_ANSWER_BYTES).ok()?.into() })
    }
}

impl CallFormat {
    const fn begin(self) -> &'static str {
        match self {
            Self::Tagged => CALL_BEGIN,
            Self::Bare => "<|python_tag|>",
            Self::List | Self::Named => "[TOOL_CALLS]",
        }
    }

    const fn end(self) -> Option<&'static str> {
        match self {
            Self::Tagged => Some(CALL_END),
            Self::Bare | Self::List | Self::Named => None,
        }
    }
}

/// The JSON objects of a text that is nothing else but semicolons and white space between them.
fn objects(text: &str) -> Option<Vec<&str>> {
    let (mut found, mut start, mut depth) = (Vec::new(), 0usize, 0usize);
    let (mut string, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        if string {
            (string, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            continue;
        }
        match byte {
            b'"' if depth > 0 => string = true,
            b'{' => {
                if depth == 0 {
                    start = at;
                }
                depth = depth.saturating_add(1);
            }
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    found.push(text.get(start..=at)?);
                }
            }
            b';' | b' ' | b'\n' | b'\r' | b'\t' => {}
            _ if depth > 0 => {}
            _ => return None,
        }
    }
    (depth == 0 && found.len() <= MAX_TOOL_CALLS).then_some(found)
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

/// White space that may come before a bare call.
const SPACES: [char; 4] = [' ', '\n', '\r', '\t'];
/// What stands between a name and its arguments.
const ARGUMENTS: &str = "[ARGS]";
/// Most text that is held back while it may be a call.
pub(crate) const MAX_HELD_BYTES: usize = 64 * 1024;
/// A list and the name it is read by.
const LIST_BYTES: usize = MAX_ANSWER_BYTES + 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parts: &[&str]) -> (String, Vec<(String, String)>) {
        parse_as(CallFormat::Tagged, false, parts)
    }

    fn parse_as(
        format: CallFormat,
        begun: bool,
        parts: &[&str],
    ) -> (String, Vec<(String, String)>) {
        let mut parser = CallParser::new(vec!["f".into(), "g".into()], format, begun);
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

    /// What comes of `whole`, however it is cut in two and when it comes by characters.
    fn parse_cut(format: CallFormat, begun: bool, whole: &str) -> (String, Vec<(String, String)>) {
        let single: Vec<String> = whole.chars().map(String::from).collect();
        let single: Vec<&str> = single.iter().map(String::as_str).collect();
        let got = parse_as(format, begun, &single);
        for (cut, _) in whole.char_indices() {
            let (a, b) = whole.split_at(cut);
            assert_eq!(parse_as(format, begun, &[a, b]), got, "{whole:?} cut at {cut}");
        }
        got
    }

    fn called(names: &[&str], arguments: &str) -> Vec<(String, String)> {
        names.iter().map(|name| ((*name).to_owned(), arguments.to_owned())).collect()
    }

    #[test]
    fn a_bare_call_is_the_whole_answer_or_follows_its_tag() {
        let call =
            |name: &str| format!(r#"{{"name": "{name}", "parameters": {{"a": "}};\"{{"}}}}"#);
        let (f, g) = (call("f"), call("g"));
        let arguments = r#"{"a": "};\"{"}"#;
        let bare = |whole: &str| parse_cut(CallFormat::Bare, false, whole);
        assert_eq!(bare(&f), (String::new(), called(&["f"], arguments)));
        assert_eq!(bare(&format!("\n{f}; {g}\n")), (String::new(), called(&["f", "g"], arguments)));
        let tagged = format!("Let me see.<|python_tag|>{g}");
        assert_eq!(bare(&tagged), ("Let me see.".to_owned(), called(&["g"], arguments)));
        assert_eq!(bare(&format!("<|python_tag|>{f}")), (String::new(), called(&["f"], arguments)));
        for text in [
            "Hello {",
            "{",
            "{}",
            r#"{"name": "f", "arguments": {}}"#,
            r#"{"name": "h", "parameters": {}}"#,
            r#"{"name": "f", "parameters": {}} and more"#,
            r#"{"name": "f", "parameters": {}}}"#,
            "<|python_tag|>print(1)",
        ] {
            assert_eq!(bare(text), (text.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn what_is_held_back_is_bounded_and_one_byte_more_is_text() {
        let arguments = |len: usize| format!("{{\"a\": \"{}\"}}", "x".repeat(len - 9));
        let held = |len: usize| {
            let frame = "{\"name\": \"f\", \"parameters\": }".len();
            let call = format!("{{\"name\": \"f\", \"parameters\": {}}}", arguments(len - frame));
            assert_eq!(call.len(), len);
            parse_as(CallFormat::Bare, false, &[&call])
        };
        assert_eq!(held(MAX_HELD_BYTES).1.len(), 1);
        let (text, calls) = held(MAX_HELD_BYTES + 1);
        assert_eq!((text.len(), calls.len()), (MAX_HELD_BYTES + 1, 0));
        let open = format!("<tool_call>{}", " ".repeat(MAX_HELD_BYTES + 1));
        assert_eq!(parse(&[&open, &open]).0, format!("{open}{open}"));
    }

    #[test]
    fn a_list_of_calls_follows_its_tag_or_the_prompt() {
        let list = r#"[{"name": "f", "arguments": {"n": 1}}, {"arguments": {"n": 1}, "name": "g", "id": "x"}]"#;
        let both = called(&["f", "g"], r#"{"n": 1}"#);
        let whole = format!("So: [TOOL_CALLS] {list}");
        assert_eq!(parse_cut(CallFormat::List, false, &whole), ("So:".to_owned(), both.clone()));
        assert_eq!(parse_cut(CallFormat::List, true, list), (String::new(), both));
        for text in ["[TOOL_CALLS]", "[TOOL_CALLS][]", "[TOOL_CALLS]{}", "[TOOL_CALLS][{}]", "[1]"]
        {
            assert_eq!(parse_cut(CallFormat::List, false, text), (text.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn calls_by_name_stand_behind_a_tag_each_or_the_prompt() {
        let arguments = r#"{"a": "[TOOL_CALLS]g[ARGS]{}", "b": "\\\""}"#;
        let one = |name: &str| format!("[TOOL_CALLS]{name}[ARGS]{arguments}");
        let named = |begun: bool, whole: &str| parse_cut(CallFormat::Named, begun, whole);
        let (f, g) = (one("f"), one(" g "));
        assert_eq!(
            named(false, &format!("So: {f}")),
            ("So:".to_owned(), called(&["f"], arguments))
        );
        let both = called(&["f", "g"], arguments);
        assert_eq!(named(false, &format!("{f}{g}\n")), (String::new(), both.clone()));
        let begun = format!("{f} {g}");
        let begun = begun.strip_prefix("[TOOL_CALLS]").unwrap();
        assert_eq!(named(true, begun), (String::new(), both));
        for text in [
            "[TOOL_CALLS]",
            "[TOOL_CALLS]f",
            "[TOOL_CALLS]f{}",
            "[TOOL_CALLS]h[ARGS]{}",
            "[TOOL_CALLS]f[ARGS]",
            "[TOOL_CALLS]f[ARGS][]",
            "[TOOL_CALLS]f[ARGS]{\"a\":}",
            "[TOOL_CALLS]f[ARGS]{} more",
            "[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]",
            "f[ARGS]{}",
        ] {
            assert_eq!(named(false, text), (text.to_owned(), Vec::new()));
        }
        let many = |count: usize| {
            parse_as(CallFormat::Named, false, &[&"[TOOL_CALLS]f[ARGS]{}".repeat(count)])
        };
        assert_eq!(many(MAX_TOOL_CALLS).1.len(), MAX_TOOL_CALLS);
        assert_eq!(many(MAX_TOOL_CALLS + 1).1.len(), 0);
    }
}
