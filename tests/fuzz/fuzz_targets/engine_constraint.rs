//! Constraints of requests: JSON Schemas, patterns, grammars and calls of tools become masks over a small
//! vocabulary. An answer that has begun can always end; what came out is what was asked for, as judged by
//! another reader of JSON, of patterns and of calls.
#![cfg_attr(feature = "libfuzzer", no_main)]

use std::sync::LazyLock;

use chrysalis_api::{CallFormat, CallParser, Said};
use chrysalis_engine::testing::{Answer, Way, Words};
use chrysalis_engine::{Constraint, ConstraintError, Reasoning, ToolStyle};
use chrysalis_fuzz::random::Draws;
use chrysalis_fuzz::{schema, variant};
use chrysalis_wire::SecretBytes;
use regex_automata::Anchored;
use regex_automata::meta::Regex;
use regex_syntax::hir::{Hir, Look};
use serde_json::Value;

chrysalis_fuzz::target!(seeds, one);

/// What an input asks for: a letter for the kind and a digit for its variant, then the text.
struct Asked<'a> {
    kind: u8,
    variant: usize,
    text: &'a [u8],
}

impl<'a> Asked<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let ([kind, variant], text) = data.split_first_chunk()?;
        Some(Self { kind: *kind, variant: usize::from(*variant), text })
    }

    fn style(&self) -> ToolStyle {
        STYLES[self.variant % STYLES.len()]
    }

    fn parallel(&self) -> bool {
        self.variant / STYLES.len() % 2 == 0
    }

    fn reasoning(&self) -> Reasoning {
        [Reasoning::None, Reasoning::Possible, Reasoning::Begun][self.variant / 10 % 3]
    }

    /// Names and schemas: one tool a line, a tab between them.
    fn tools(&self) -> Vec<(&'a [u8], &'a [u8])> {
        let split = |line: &'a [u8]| {
            let at = line.iter().position(|byte| *byte == b'\t').unwrap_or(line.len());
            (&line[..at], line.get(at + 1..).unwrap_or_default())
        };
        self.lines().map(split).collect()
    }

    fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        self.text.split(|byte| *byte == b'\n')
    }

    fn constraint(&self) -> Option<Constraint> {
        let secret = |text: &[u8]| SecretBytes::from(text.to_vec());
        let tools = || self.tools().into_iter().map(|(n, s)| (secret(n), secret(s))).collect();
        Some(match self.kind {
            b'j' => Constraint::JsonObject,
            b's' => Constraint::JsonSchema(secret(self.text)),
            b'r' => Constraint::Regex(secret(self.text)),
            b'g' => Constraint::Grammar(secret(self.text)),
            b'c' => Constraint::Choice(self.lines().map(secret).collect()),
            b't' => Constraint::ToolCall(self.style(), tools()),
            b'm' => {
                let (style, parallel) = (self.style(), self.parallel());
                Constraint::MayCall { style, tools: tools(), parallel }
            }
            _ => return None,
        })
    }
}

fn one(data: &[u8]) -> String {
    let Some(asked) = Asked::read(data) else { return "too short".to_owned() };
    let Some(constraint) = asked.constraint() else { return "no such kind".to_owned() };
    let kind = char::from(asked.kind);
    let begun = Answer::begin(&constraint, &WORDS, asked.reasoning());
    let answer = match begun {
        Ok(answer) => answer,
        // Every byte is a token: what cannot be spelled is what no answer could be.
        Err(error) => return format!("{kind} {}", refused(&error)),
    };
    let mut random = Draws::of(data);
    let (mut whole, mut ended) = (Vec::new(), "too complex");
    for _ in 0..ANSWERS {
        match walk(answer.clone(), &mut random) {
            Ok(text) => (whole, ended) = (text, "ended"),
            Err(ConstraintError::TooComplex) => continue,
            Err(error) => panic!("an answer that had begun: {error}"),
        }
        // The same bytes without a mask between them, which forgets states.
        let mut again = answer.clone();
        match again.advance(&whole) {
            Ok(()) => assert!(again.may_end(), "an answer that ended may not"),
            Err(error) => assert_eq!(error, ConstraintError::TooComplex),
        }
        check(&asked, &whole);
    }
    format!("{kind} {ended} after {}", whole.len().min(40) / 4)
}

/// An answer to its end: some steps among those that are allowed, then the shortest way.
fn walk(mut answer: Answer, random: &mut Draws) -> Result<Vec<u8>, ConstraintError> {
    let mut whole = Vec::new();
    for _ in 0..random.below(STEPS) {
        let allowed = answer.allowed()?;
        assert!(answer.keeps_little());
        assert_eq!(allowed.contains(&WORDS.end()), answer.may_end());
        assert!(!answer.must_end() || allowed == [WORDS.end()]);
        // A mask is what each token alone would say.
        let token = random.below(WORDS.end());
        assert_eq!(answer.takes(&WORDS.tokens()[token])?, allowed.contains(&token), "{token}");
        let next = *random.one(&allowed);
        if next == WORDS.end() {
            return Ok(whole);
        }
        let bytes = &WORDS.tokens()[next];
        answer.advance(bytes)?;
        whole.extend_from_slice(bytes);
    }
    match answer.way_out(MASKS) {
        Way::Ends(rest) => whole.extend(rest),
        Way::Nowhere => panic!("no way out behind {:?}", String::from_utf8_lossy(&whole)),
        Way::Unknown => return Err(ConstraintError::TooComplex),
    }
    Ok(whole)
}

fn refused(error: &ConstraintError) -> String {
    match error {
        ConstraintError::Malformed { what } | ConstraintError::Regex { what } => (*what).to_owned(),
        ConstraintError::Grammar { what, .. } => (*what).to_owned(),
        ConstraintError::Keyword { keyword } | ConstraintError::Combination { keyword } => {
            (*keyword).to_owned()
        }
        other => variant(other),
    }
}

/// Panics unless the whole answer is what was asked for.
fn check(asked: &Asked<'_>, whole: &[u8]) {
    let said = || String::from_utf8_lossy(whole).into_owned();
    match asked.kind {
        b'j' => assert!(read(whole).is_object(), "{}", said()),
        b's' => {
            let schema: Value = serde_json::from_slice(asked.text).expect("it was accepted");
            let instance = schema::is_instance(&schema, &schema, &read(whole));
            assert_ne!(instance, Some(false), "{} of {schema}", said());
        }
        b'r' => {
            let pattern = core::str::from_utf8(asked.text).expect("it was accepted");
            assert_ne!(matches(pattern, whole), Some(false), "{} of {pattern}", said());
        }
        b'c' => assert!(asked.lines().any(|line| line == whole), "{}", said()),
        b't' => check_calls(asked, &said(), false),
        b'm' if asked.reasoning() == Reasoning::None => check_calls(asked, &said(), true),
        _ => {}
    }
}

fn read(whole: &[u8]) -> Value {
    let value = serde_json::from_slice(whole);
    value.unwrap_or_else(|e| panic!("{}: {e}", String::from_utf8_lossy(whole)))
}

/// Whether a pattern matches the whole of a text, as the crate that looks for patterns has it.
fn matches(pattern: &str, whole: &[u8]) -> Option<bool> {
    let hir = regex_syntax::Parser::new().parse(pattern).ok()?;
    let hir = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
    let regex = Regex::builder().build_from_hir(&hir).ok()?;
    Some(regex.is_match(regex_automata::Input::new(whole).anchored(Anchored::Yes)))
}

/// The reader of calls finds what the grammar made: with `text` there may be none, and nothing that is left
/// looks like one; without, it is one call. Their arguments are instances of the tool's schema.
fn check_calls(asked: &Asked<'_>, whole: &str, text: bool) {
    let tools = asked.tools();
    let named = |name: &[u8]| (1..=64).contains(&name.len()) && name.iter().all(is_of_name);
    if !tools.iter().all(|(name, _)| named(name)) {
        return;
    }
    let names = tools.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
    let (format, tag) = match asked.style() {
        ToolStyle::Told | ToolStyle::Tagged => (CallFormat::Tagged, "<tool_call>"),
        ToolStyle::Bare => (CallFormat::Bare, "<|python_tag|>"),
        ToolStyle::List => (CallFormat::List, "[TOOL_CALLS]"),
        ToolStyle::Named => (CallFormat::Named, "[TOOL_CALLS]"),
    };
    let begun = !text && matches!(format, CallFormat::List | CallFormat::Named);
    let mut parser = CallParser::new(names.collect(), format, begun);
    let mut all = parser.push(whole);
    all.extend(parser.finish());
    let (mut calls, mut rest) = (0, String::new());
    for said in all {
        match said {
            Said::Text(text) => rest.push_str(text.expose()),
            Said::Call(call) => {
                calls += 1;
                // What stands on both sides of a call is no tag together.
                rest.extend(text.then_some('\0'));
                let arguments = read(call.arguments.expose().as_bytes());
                let fits = tools.iter().filter(|(name, _)| *name == call.name.as_bytes());
                let mut fits = fits.map(|(_, schema)| {
                    let schema = serde_json::from_slice(schema).expect("it was accepted");
                    schema::is_instance(&schema, &schema, &arguments) != Some(false)
                });
                assert!(fits.any(|fits| fits), "{whole}: arguments of {}", call.name);
            }
        }
    }
    if text {
        assert!(!rest.contains(tag), "{whole}: left as text: {rest}");
        assert!(asked.parallel() || calls <= 1, "{whole}: {calls} calls");
        assert!(calls > 0 || !whole.contains(tag), "{whole}: no call");
    } else {
        assert!(calls == 1 && rest.is_empty(), "{whole}: {calls} calls and {rest:?}");
    }
}

fn is_of_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

const STYLES: [ToolStyle; 5] =
    [ToolStyle::Told, ToolStyle::Tagged, ToolStyle::Bare, ToolStyle::List, ToolStyle::Named];

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    Words::new(&[
        "\": ",
        "\", \"",
        "{\"",
        "\"}",
        "}}",
        "[[",
        "]",
        ", ",
        "true",
        "null",
        "12",
        "e+",
        "\\u00",
        "ab",
        "abc",
        "ä",
        "日本",
        "name",
        "<tool_call>",
        "</tool_call>",
        "<|python_tag|>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "{\"name\": \"f",
        "</think>",
        "\n",
        "  ",
    ])
});

fn seeds() -> Vec<Vec<u8>> {
    let schemas = SCHEMAS.iter().map(|schema| ("s0", (*schema).to_owned()));
    let regexes = REGEXES.iter().map(|regex| ("r0", (*regex).to_owned()));
    let grammars = GRAMMARS.iter().map(|grammar| ("g0", (*grammar).to_owned()));
    let tools = format!("f\t{}\ng\t{{}}", SCHEMAS[0]);
    let others = [("j0", String::new()), ("c0", "yes\nyes, but\nno\n日本".to_owned())];
    let texts = schemas.chain(regexes).chain(grammars).chain(others);
    let mut seeds: Vec<Vec<u8>> =
        texts.map(|(head, text)| format!("{head}{text}").into()).collect();
    // Each style, alone and with others, and each kind of reasoning.
    for kind in ["t", "m"] {
        seeds.extend(
            (0..30u8).map(|variant| [kind.as_bytes(), &[variant], tools.as_bytes()].concat()),
        );
    }
    seeds
}

const SCHEMAS: [&str; 14] = [
    r#"{"type":"object","properties":{"name":{"type":"string","minLength":1,"maxLength":5},"age":{"type":"integer","minimum":-3,"maximum":150},"tags":{"type":"array","items":{"enum":["a","b\"",3]},"maxItems":2}},"required":["name","tags"],"additionalProperties":false}"#,
    r##"{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},"required":["next"]}}}"##,
    r#"{"type":"array","prefixItems":[{"type":"integer"},{"type":"boolean"}],"items":false}"#,
    r#"{"items":{"type":"null"},"minItems":1,"maxItems":3}"#,
    r#"{"type":"string","pattern":"^[A-Z]{2}-\\d{1,3}(x|yz)?$"}"#,
    r#"{"type":"string","pattern":"a\"."}"#,
    r#"{"type":["string","null"],"format":"date-time"}"#,
    r#"{"additionalProperties":{"type":"number"}}"#,
    r#"{"const":{"a":[1,-0.5,1e3,"\n"]}}"#,
    r#"{"exclusiveMinimum":9,"exclusiveMaximum":1000}"#,
    r#"{"allOf":[{"properties":{"a":true,"b":false},"required":["a","c"]}],"description":"d"}"#,
    r##"{"type":"array","items":{"$ref":"#"}}"##,
    r#"{"type":"object","properties":{"f":{"type":"string","format":"email"},"g":{"format":"ipv4"},"h":{"format":"uuid"},"i":{"format":"time"},"j":{"format":"date"}}}"#,
    r#"{"type":"object","properties":{"a":{},"b":{"maxLength":3},"c":{"type":"boolean"},"d":{"prefixItems":[{}],"minItems":2}}}"#,
];

const REGEXES: [&str; 14] = [
    r"^[A-Z]{2}-\d{1,3}(x|yz)?$",
    r"(?i)ä+|b",
    r"([a-z]?){20}[0-9]*",
    r"((a1?|b2?|c3?)?){30}",
    r"\p{Greek}+\s\w{2,4}",
    r"[^a-z&&[^aeiou]]{3}",
    r"(?s).*x.",
    r"(?x) a b # c",
    r"\x{10ffff}?[\u0000-\u007f]",
    r"a{0}|b{2,}|(?:)|$",
    r"(?-u)[a-z]+",
    r"[\d--5]+[[:alpha:]~~x]",
    r"(?P<y>\d{4})-(?<m>\d\d)",
    r"\(|\)|\[|\\|\t\n\r",
];

const GRAMMARS: [&str; 8] = [
    "root ::= \"yes\" | number (\",\" number)* # a comment\nnumber ::= [0-9]{1,4}",
    "root ::= item+\nitem ::= \"(\" root? \")\"",
    "root ::= [^\"\\\\\\n]* \"\\x41\\u00e4\\U0001F600\" .",
    "root ::= a b? c{2,3} | \"\"\na ::= [a-c-]\nb ::= \"b\" | c\nc ::= [\\]\\-^]",
    "root ::= \"{\" pair (\",\" pair)* \"}\"\npair ::= \"\\\"\" [a-z]+ \"\\\":\" value\nvalue ::= [0-9]+ | root",
    "root ::= (((\"a\" | \"b\")? \"c\"){0,3})\n\n",
    "root ::= x\nx ::= \"<\" x \">\" | \"end\"",
    "expr ::= term ([-+*/] term)*\nterm ::= [0-9]+ | \"(\" expr \")\"\nroot ::= expr \"=\" \"\\n\"?",
];

/// Answers of one input.
const ANSWERS: usize = 3;
/// Most tokens of one before it heads for its end.
const STEPS: usize = 48;
/// Work to look for an end, in masks that take much.
const MASKS: usize = 4;
