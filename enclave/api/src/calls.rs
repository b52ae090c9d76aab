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
    /// White space before the tag: nobody's text, unless what follows is text too.
    space: Zeroizing<String>,
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
        let (held, space) = (Zeroizing::default(), Zeroizing::default());
        Self { format, names, held, place, space, called: false }
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
                    let (text, space) = before.split_at(before.trim_end().len());
                    self.text(text, &mut said);
                    self.space = Zeroizing::new(space.to_owned());
                    (self.place, rest) = (Place::Inside { tag: true }, after);
                }
                Place::Inside { tag } => {
                    let Some(end) = self.format.end() else { break };
                    let Some((before, after)) = self.ended(rest, end) else { break };
                    self.inside(tag, before, end, &mut said);
                    (self.place, rest) = (Place::Outside, after);
                }
            }
        }
        // What is this long is no call; looking at it again with every piece would take too long.
        let endless = rest.len() > MAX_HELD_BYTES;
        if endless {
            if self.place == (Place::Inside { tag: true }) {
                let space = core::mem::take(&mut self.space);
                said.push(Said::Text(text_of(&[&space, self.format.begin()])));
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
        let mut said = Vec::new();
        loop {
            let held = core::mem::take(&mut self.held);
            let Place::Inside { tag } = core::mem::replace(&mut self.place, Place::Outside) else {
                self.text(&held, &mut said);
                return said;
            };
            // An end tag in a string that never ended was one after all, and calls may follow it.
            let end = self.format.end().filter(|_| self.calls(&held).is_none()).unwrap_or_default();
            let split = held.split_once(end).filter(|_| !end.is_empty());
            let (before, after) = split.unwrap_or((&held, ""));
            self.inside(tag, before, if split.is_some() { end } else { "" }, &mut said);
            said.extend(self.push(after));
        }
    }

    /// What stands before the tag that ends a call, and behind it. A tag in a string of the arguments is text
    /// of theirs; in what is no call there are no strings, and the first tag ends it.
    fn ended<'a>(&self, rest: &'a str, end: &str) -> Option<(&'a str, &'a str)> {
        let (mut inside, mut from) = (InString::default(), 0);
        for (at, _) in rest.match_indices(end) {
            rest.get(from..at)?.bytes().for_each(|byte| inside.take(byte));
            from = at;
            if !inside.string {
                let (whole, tail) = rest.split_at_checked(at)?;
                return match self.calls(whole) {
                    Some(_) => Some((whole, tail.strip_prefix(end)?)),
                    None => rest.split_once(end),
                };
            }
        }
        None
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
        let space = core::mem::take(&mut self.space);
        match calls {
            Some(calls) => said.extend(calls.into_iter().map(Said::Call)),
            None => {
                let begin = if tag { self.format.begin() } else { "" };
                let verbatim = text_of(&[&space, begin, inner, end]);
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
        // Names and their number are between the model and the application.
        arguments.is_object().then_some(())?;
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
    let mut inside = InString::default();
    for (at, byte) in text.bytes().enumerate() {
        if inside.string || (byte == b'"' && depth > 0) {
            inside.take(byte);
            continue;
        }
        match byte {
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

/// Whether a place in JSON is inside of a string. A line break ends one: JSON has none in strings, so what has
/// is none.
#[derive(Default)]
struct InString {
    string: bool,
    escaped: bool,
}

impl InString {
    fn take(&mut self, byte: u8) {
        let escapes = self.string && !self.escaped && byte == b'\\';
        match byte {
            b'\n' => self.string = false,
            b'"' if !self.escaped => self.string = !self.string,
            _ => {}
        }
        self.escaped = escapes;
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
            // White space before it belongs to the text, however much of it came before the tag.
            for before in ["", "Write:\n", " \n\n"] {
                let whole = format!("{before}<tool_call>{inner}</tool_call>");
                assert_eq!(parse_cut(CallFormat::Tagged, false, &whole), (whole, Vec::new()));
            }
        }
        let bare = "So:\n <|python_tag|>print(1)";
        assert_eq!(parse_cut(CallFormat::Bare, false, bare), (bare.to_owned(), Vec::new()));
        let list = "So:\n [TOOL_CALLS] none";
        assert_eq!(parse_cut(CallFormat::List, false, list), (list.to_owned(), Vec::new()));
        let after = format!("{ONE}\n<tool_call>x</tool_call>");
        let text = "\n<tool_call>x</tool_call>".to_owned();
        assert_eq!(parse_cut(CallFormat::Tagged, false, &after), (text, vec![f()]));
        let wide = format!("a{}<tool_call>x", " ".repeat(MAX_HELD_BYTES + 1));
        assert_eq!(parse(&[&wide[..MAX_HELD_BYTES], &wide[MAX_HELD_BYTES..]]).0, wide);
    }

    #[test]
    fn an_end_tag_in_a_string_of_the_arguments_ends_nothing() {
        let arguments = r#"{"html": "\"use </tool_call> to</tool_call>", "b": "\\"}"#;
        let call =
            format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}</tool_call>");
        let tagged = |whole: &str| parse_cut(CallFormat::Tagged, false, whole);
        let made = called(&["f"], arguments);
        assert_eq!(tagged(&call), (String::new(), made.clone()));
        assert_eq!(tagged(&format!("{call}{call}")).1.len(), 2);
        let unclosed = call.strip_suffix("</tool_call>").unwrap();
        assert_eq!(tagged(unclosed).1, made, "not closed, and complete");
        // A quotation mark that is not closed: no call, and those that follow are found.
        for broken in ["say \"hi", "{\"name\": \"f\", \"arguments\": {\"a\": \"b\"c\"}}"] {
            for between in ["", "\n"] {
                let broken = format!("<tool_call>{broken}{between}</tool_call>");
                assert_eq!(tagged(&format!("{broken}{ONE}")), (broken.clone(), vec![f()]));
                let late = format!("{broken} and \"then {ONE}");
                assert_eq!(tagged(&late), (format!("{broken} and \"then"), vec![f()]));
            }
        }
    }

    #[test]
    fn arguments_may_be_any_object_and_nothing_else() {
        let names: Vec<String> = (0..100).map(|n| format!("\"n{n}\": {n}")).collect();
        let many = format!("{{{}}}", names.join(", "));
        for arguments in
            [many.as_str(), "{}", r#"{"caf\u00e9": 1}"#, r#"{"a": 1, "a": {"": null}}"#]
        {
            for (format, name, [begin, end]) in [
                (CallFormat::Tagged, "arguments", ["<tool_call>", "</tool_call>"]),
                (CallFormat::Bare, "parameters", ["", ""]),
                (CallFormat::List, "arguments", ["[TOOL_CALLS][", "]"]),
            ] {
                let of = |arguments: &str| {
                    format!("{begin}{{\"name\": \"f\", \"{name}\": {arguments}}}{end}")
                };
                let read = |whole: &str| parse_as(format, false, &[whole]);
                assert_eq!(read(&of(arguments)), (String::new(), called(&["f"], arguments)));
                for none in ["null", "5", "[]", "\"{}\"", "{", "{]"] {
                    assert_eq!(read(&of(none)), (of(none), Vec::new()), "{none}");
                }
            }
        }
    }

    #[test]
    fn an_answer_with_one_call_too_many_is_text() {
        let calls =
            |count: usize, name: &str| vec![format!(r#"{{"name": "f", "{name}": {{}}}}"#); count];
        let bare =
            |count| parse_as(CallFormat::Bare, false, &[&calls(count, "parameters").join("; ")]);
        let list = |count| {
            let list = format!("[TOOL_CALLS][{}]", calls(count, "arguments").join(", "));
            parse_as(CallFormat::List, false, &[&list])
        };
        for read in [&bare as &dyn Fn(usize) -> _, &list] {
            let (text, calls): (String, Vec<_>) = read(MAX_TOOL_CALLS);
            assert_eq!((text.len(), calls.len()), (0, MAX_TOOL_CALLS));
            let (text, calls): (String, Vec<_>) = read(MAX_TOOL_CALLS + 1);
            assert_eq!((text.matches("name").count(), calls.len()), (MAX_TOOL_CALLS + 1, 0));
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
