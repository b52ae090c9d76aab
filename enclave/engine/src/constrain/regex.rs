//! Regular expressions as grammars. The pattern comes from a request; `regex-syntax` parses it and bounds
//! its nesting, `weigh.rs` bounds what it costs to translate, and the parts of the grammar are counted
//! as they are made (`rules.rs`).

use regex_syntax::ast::parse::ParserBuilder;
use regex_syntax::hir::translate::Translator;
use regex_syntax::hir::{Class, Hir, HirKind, Look};
use regex_syntax::utf8::Utf8Sequences;

use crate::constrain::ConstraintError;
use crate::constrain::program::Expr;
use crate::constrain::rules::Rules;

/// How the text of a pattern is written.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Spelling {
    /// As it is.
    Plain,
    /// Inside a JSON string: quotes, backslashes and control characters are escaped.
    Json,
}

/// What became a rule already: it may be large, and is often repeated.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum Known {
    /// The characters of these ranges.
    Class(Spelling, Vec<(char, char)>),
    /// A JSON string of which this pattern matches a part.
    Part(String),
}

/// What the whole text may be.
pub(crate) fn whole(pattern: &str, rules: &mut Rules) -> Result<Expr, ConstraintError> {
    let (parts, ..) = unanchored(parse(pattern, rules)?);
    let parts = all(&parts, Spelling::Plain, rules)?;
    rules.seq(parts)
}

/// What a JSON string may hold of which `pattern` matches a part, as JSON Schema has it.
pub(crate) fn part(pattern: &str, rules: &mut Rules) -> Result<Expr, ConstraintError> {
    let known = Known::Part(pattern.to_owned());
    if let Some(rule) = rules.known.get(&known) {
        return rules.again(*rule);
    }
    let (inside, start, end) = unanchored(parse(pattern, rules)?);
    let around = |anchored: bool, rules: &mut Rules| {
        if anchored {
            return rules.fixed(Expr::Empty);
        }
        let character = rules.character()?;
        rules.repeat(character, 0, None)
    };
    let mut parts = vec![around(start, rules)?];
    parts.extend(all(&inside, Spelling::Json, rules)?);
    parts.push(around(end, rules)?);
    let parts = rules.seq(parts)?;
    let rule = rules.rule(parts)?;
    rules.known.insert(known, rule);
    rules.again(rule)
}

fn parse(pattern: &str, rules: &mut Rules) -> Result<Hir, ConstraintError> {
    rules.patterns.parse(pattern.len())?;
    let none = ConstraintError::Regex { what: "it is not one" };
    let mut parser = ParserBuilder::new().nest_limit(NEST_LIMIT).build();
    let ast = parser.parse(pattern).map_err(|_| none)?;
    rules.patterns.translate(&ast)?;
    Translator::new().translate(pattern, &ast).map_err(|_| none)
}

/// The parts without an anchor at their start and at their end, and whether they were there.
fn unanchored(hir: Hir) -> (Vec<Hir>, bool, bool) {
    let mut parts = if matches!(hir.kind(), HirKind::Concat(_)) {
        let HirKind::Concat(parts) = hir.into_kind() else { return (Vec::new(), false, false) };
        parts
    } else {
        vec![hir]
    };
    let is = |hir: Option<&Hir>, look| hir.is_some_and(|h| *h.kind() == HirKind::Look(look));
    let start = is(parts.first(), Look::Start);
    if start {
        parts.remove(0);
    }
    let end = is(parts.last(), Look::End);
    if end {
        parts.pop();
    }
    (parts, start, end)
}

fn convert(hir: &Hir, how: Spelling, rules: &mut Rules) -> Result<Expr, ConstraintError> {
    match hir.kind() {
        HirKind::Empty => rules.fixed(Expr::Empty),
        HirKind::Literal(literal) => {
            let text = core::str::from_utf8(&literal.0);
            let text = text.map_err(|_| ConstraintError::Regex { what: "it is not UTF-8" })?;
            match how {
                Spelling::Plain => rules.text(text.as_bytes()),
                Spelling::Json => {
                    let all = text.chars().map(|c| rules.fixed(escaped(c)));
                    let all = all.collect::<Result<_, _>>()?;
                    rules.seq(all)
                }
            }
        }
        HirKind::Class(Class::Unicode(class)) => {
            class_rule(class.iter().map(|r| (r.start(), r.end())).collect(), how, rules)
        }
        HirKind::Class(Class::Bytes(class)) => {
            let ranges = class.iter().map(|r| (char::from(r.start()), char::from(r.end())));
            class_rule(ranges.collect(), how, rules)
        }
        HirKind::Look(_) => {
            let what =
                "it has an anchor or a word boundary other than ^ at its start and $ at its end";
            Err(ConstraintError::Regex { what })
        }
        HirKind::Repetition(repeated) => {
            let part = convert(&repeated.sub, how, rules)?;
            rules.repeat(part, repeated.min, repeated.max)
        }
        HirKind::Capture(capture) => convert(&capture.sub, how, rules),
        HirKind::Concat(parts) => {
            let parts = all(parts, how, rules)?;
            rules.seq(parts)
        }
        HirKind::Alternation(parts) => {
            let parts = all(parts, how, rules)?;
            rules.any(parts)
        }
    }
}

fn all(parts: &[Hir], how: Spelling, rules: &mut Rules) -> Result<Vec<Expr>, ConstraintError> {
    parts.iter().map(|part| convert(part, how, rules)).collect()
}

/// A class as a rule of its own.
pub(crate) fn class_rule(
    ranges: Vec<(char, char)>,
    how: Spelling,
    rules: &mut Rules,
) -> Result<Expr, ConstraintError> {
    let known = Known::Class(how, ranges);
    if let Some(rule) = rules.known.get(&known) {
        return rules.again(*rule);
    }
    let Known::Class(how, ranges) = &known else { return Ok(Expr::Never) };
    let mut parts = Vec::new();
    for (start, end) in ranges {
        let mut plain = vec![(*start, *end)];
        if *how == Spelling::Json {
            for special in SPECIAL.iter().filter(|c| (start..=end).contains(c)) {
                parts.push(rules.fixed(escaped(*special))?);
            }
            plain = [('\u{20}', '!'), ('#', '['), (']', char::MAX)].to_vec();
            plain.iter_mut().for_each(|part| *part = (part.0.max(*start), part.1.min(*end)));
            plain.retain(|(start, end)| start <= end);
        }
        for (start, end) in plain {
            for bytes in Utf8Sequences::new(start, end) {
                rules.charge(bytes.as_slice().len().saturating_add(1))?;
                let bytes = bytes.as_slice().iter().map(|r| Expr::Byte(r.start, r.end));
                parts.push(Expr::Seq(bytes.collect()));
            }
        }
    }
    let class = rules.any(parts)?;
    let rule = rules.rule(class)?;
    rules.known.insert(known, rule);
    rules.again(rule)
}

/// A character as it stands inside a JSON string.
fn escaped(c: char) -> Expr {
    // Writing a character into a string cannot fail.
    let json = serde_json::to_string(&c).unwrap_or_default();
    let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"'));
    Expr::text(inner.unwrap_or_default())
}

/// Characters a JSON string has with a backslash only, but for control characters that no text needs.
const SPECIAL: [char; 5] = ['"', '\\', '\n', '\r', '\t'];
/// Deepest nesting of a pattern.
const NEST_LIMIT: u32 = 48;
