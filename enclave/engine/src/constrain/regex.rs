//! Regular expressions as grammars. The pattern comes from a request; `regex-syntax` parses it and bounds
//! its nesting, and its size is bounded where the grammar becomes a program.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look};
use regex_syntax::utf8::Utf8Sequences;

use crate::constrain::ConstraintError;
use crate::constrain::program::Expr;
use crate::constrain::value::character;

/// How the text of a pattern is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// As it is.
    Plain,
    /// Inside a JSON string: quotes, backslashes and control characters are escaped.
    Json,
}

/// What the whole text may be.
pub(crate) fn whole(pattern: &str, rules: &mut Vec<Expr>) -> Result<Expr, ConstraintError> {
    let (hir, ..) = unanchored(&parse(pattern)?);
    convert(&hir, Spelling::Plain, rules)
}

/// What a JSON string may hold of which `pattern` matches a part, as JSON Schema has it.
pub(crate) fn part(pattern: &str, rules: &mut Vec<Expr>) -> Result<Expr, ConstraintError> {
    let (hir, start, end) = unanchored(&parse(pattern)?);
    let around = |anchored: bool| {
        if anchored { Expr::Empty } else { Expr::Repeat(Box::new(character()), 0, None) }
    };
    let inside = convert(&hir, Spelling::Json, rules)?;
    Ok(Expr::Seq(vec![around(start), inside, around(end)]))
}

fn parse(pattern: &str) -> Result<Hir, ConstraintError> {
    let mut parser = ParserBuilder::new().nest_limit(NEST_LIMIT).build();
    parser.parse(pattern).map_err(|_| ConstraintError::Regex { what: "it is not one" })
}

/// Without an anchor at its start and at its end, and whether they were there.
fn unanchored(hir: &Hir) -> (Hir, bool, bool) {
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => core::slice::from_ref(hir),
    };
    let is = |hir: Option<&Hir>, look| hir.is_some_and(|h| *h.kind() == HirKind::Look(look));
    let start = is(parts.first(), Look::Start);
    let parts = if start { parts.get(1..).unwrap_or_default() } else { parts };
    let end = is(parts.last(), Look::End);
    let kept = parts.len().saturating_sub(usize::from(end));
    (Hir::concat(parts.iter().take(kept).cloned().collect()), start, end)
}

fn convert(hir: &Hir, how: Spelling, rules: &mut Vec<Expr>) -> Result<Expr, ConstraintError> {
    Ok(match hir.kind() {
        HirKind::Empty => Expr::Empty,
        HirKind::Literal(literal) => {
            let text = core::str::from_utf8(&literal.0);
            let text = text.map_err(|_| ConstraintError::Regex { what: "it is not UTF-8" })?;
            match how {
                Spelling::Plain => Expr::text(text),
                Spelling::Json => Expr::Seq(text.chars().map(escaped).collect()),
            }
        }
        HirKind::Class(Class::Unicode(class)) => class_rule(class, how, rules),
        HirKind::Class(Class::Bytes(bytes)) => {
            let ranges = bytes.iter().map(|r| (char::from(r.start()), char::from(r.end())));
            let ranges = ranges.map(|(a, b)| ClassUnicodeRange::new(a, b));
            class_rule(&ClassUnicode::new(ranges), how, rules)
        }
        HirKind::Look(_) => {
            let what =
                "it has an anchor or a word boundary other than ^ at its start and $ at its end";
            return Err(ConstraintError::Regex { what });
        }
        HirKind::Repetition(repeated) => {
            let part = convert(&repeated.sub, how, rules)?;
            Expr::Repeat(Box::new(part), repeated.min, repeated.max)
        }
        HirKind::Capture(capture) => convert(&capture.sub, how, rules)?,
        HirKind::Concat(parts) => Expr::Seq(all(parts, how, rules)?),
        HirKind::Alternation(parts) => Expr::Any(all(parts, how, rules)?),
    })
}

fn all(parts: &[Hir], how: Spelling, rules: &mut Vec<Expr>) -> Result<Vec<Expr>, ConstraintError> {
    parts.iter().map(|part| convert(part, how, rules)).collect()
}

/// A class as a rule of its own: it may be large, and is often repeated.
fn class_rule(class: &ClassUnicode, how: Spelling, rules: &mut Vec<Expr>) -> Expr {
    let mut parts = Vec::new();
    for range in class.iter() {
        let mut plain = vec![(range.start(), range.end())];
        if how == Spelling::Json {
            let is_in = |c: &char| (range.start()..=range.end()).contains(c);
            parts.extend(SPECIAL.iter().copied().filter(is_in).map(escaped));
            plain = [('\u{20}', '!'), ('#', '['), (']', char::MAX)].to_vec();
            plain.iter_mut().for_each(|part| {
                *part = (part.0.max(range.start()), part.1.min(range.end()));
            });
            plain.retain(|(start, end)| start <= end);
        }
        for (start, end) in plain {
            for bytes in Utf8Sequences::new(start, end) {
                let bytes = bytes.as_slice().iter().map(|r| Expr::Byte(r.start, r.end));
                parts.push(Expr::Seq(bytes.collect()));
            }
        }
    }
    rules.push(Expr::Any(parts));
    Expr::Rule(rules.len().saturating_sub(1))
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
