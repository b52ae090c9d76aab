//! Grammars in the notation of llama.cpp (GBNF), which is what users of vLLM write for `guided_grammar` too. The
//! text comes from a request and is not trusted: its size is bounded before, its nesting and the length of
//! chains of rules here, and all that is made of it is counted (`rules.rs`).
//!
//! ```text
//! root   ::= "yes" | number ("," number)* # a comment
//! number ::= [0-9]{1,4}
//! ```
//!
//! A grammar is rules `name ::= body`, in any order; the answer is `root`. Line breaks are white space. A body is
//! alternatives between `|`, each of parts side by side: texts in double quotes, classes `[a-z_]` and
//! `[^"\\]`, `.` for any character, names of rules, groups in parentheses. One of `*`, `+`, `?`, `{n}`,
//! `{n,}` and `{n,m}` may follow a part. Escapes are `\n`, `\r`, `\t`, `\\`, `\"`, `\[`, `\]`, `\-`, `\^`,
//! `\xHH`, `\uHHHH` and `\UHHHHHHHH`, one character each.
//!
//! Refused are a rule that begins with itself, as llama.cpp does (write `item ("," item)*` for a list), one that is
//! defined twice or not at all, a class without characters, and tokens by name or number (`<think>`).

use std::collections::HashMap;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use crate::constrain::ConstraintError;
use crate::constrain::program::Expr;
use crate::constrain::regex::{Spelling, class_rule};
use crate::constrain::rules::Rules;

/// What the whole text may be.
pub(crate) fn whole(text: &str, rules: &mut Rules) -> Result<Expr, ConstraintError> {
    let (names, definitions) = (HashMap::new(), Vec::new());
    let mut reader = Reader { text, rest: text, names, definitions, rules };
    reader.space();
    while !reader.rest.is_empty() {
        reader.rule()?;
    }
    let Some(root) = reader.names.get("root").map(|root| root.rule) else {
        return Err(reader.refused("it has no rule named root"));
    };
    if let Some(name) = reader.names.values().filter(|name| !name.defined).min_by_key(|n| n.at) {
        return Err(reader.refused_at(name.of, name.at, "a rule is used that is not defined"));
    }
    let mut beginnings = Beginnings { rules: &*reader.rules, seen: HashMap::new() };
    for (number, (rule, at)) in (1..).zip(&reader.definitions) {
        match beginnings.rule(*rule, 0) {
            Ok(_) => {}
            Err(Begins::WithItself) => {
                return Err(reader.refused_at(number, *at, "a rule begins with itself"));
            }
            Err(Begins::TooDeep) => return Err(ConstraintError::TooLarge),
        }
    }
    reader.rules.again(root)
}

/// Reads a grammar from its front.
struct Reader<'a, 'r> {
    text: &'a str,
    rest: &'a str,
    names: HashMap<&'a str, Name>,
    /// The rules that were defined, in order, and where.
    definitions: Vec<(usize, usize)>,
    rules: &'r mut Rules,
}

/// A rule that was named.
struct Name {
    rule: usize,
    defined: bool,
    /// Where it was named first, and in which definition.
    at: usize,
    of: usize,
}

impl<'a> Reader<'a, '_> {
    fn rule(&mut self) -> Result<(), ConstraintError> {
        let before = self.rest;
        let at = self.at();
        let Some(name) = self.name() else { return Err(self.refused("a rule has no name")) };
        if !self.take("::=") {
            return Err(self.refused("the name of a rule is not followed by ::="));
        }
        let rule = self.named(name, at)?;
        self.definitions.push((rule, at));
        let known =
            self.names.get_mut(name).map(|name| core::mem::replace(&mut name.defined, true));
        if known == Some(true) {
            self.rest = before;
            return Err(self.refused("a rule is defined twice"));
        }
        let body = self.alternatives(0)?;
        self.rules.set(rule, body);
        match self.rest.chars().next() {
            Some(')') => Err(self.refused("a group is closed that was not opened")),
            _ => Ok(()),
        }
    }

    fn alternatives(&mut self, depth: usize) -> Result<Expr, ConstraintError> {
        if depth > MAX_GROUPS {
            return Err(ConstraintError::TooLarge);
        }
        let mut all = vec![self.sequence(depth)?];
        while self.take("|") {
            all.push(self.sequence(depth)?);
        }
        self.rules.any(all)
    }

    fn sequence(&mut self, depth: usize) -> Result<Expr, ConstraintError> {
        let mut parts = Vec::new();
        while let Some(part) = self.part(depth)? {
            parts.push(self.repeated(part)?);
        }
        self.rules.seq(parts)
    }

    /// One part; `None` where the alternative ends.
    fn part(&mut self, depth: usize) -> Result<Option<Expr>, ConstraintError> {
        let before = self.rest;
        let part = match self.rest.chars().next() {
            Some('"') => self.quoted()?,
            Some('[') => self.class()?,
            Some('.') => {
                self.take(".");
                class_rule(vec![('\0', char::MAX)], Spelling::Plain, self.rules)?
            }
            Some('(') => {
                self.take("(");
                let inside = self.alternatives(depth.saturating_add(1))?;
                if !self.take(")") {
                    return Err(self.refused("a group is not closed"));
                }
                inside
            }
            Some(first) if is_name(first) => {
                let at = self.at();
                let Some(name) = self.name() else { return Ok(None) };
                if self.rest.starts_with("::=") {
                    // The next rule begins here.
                    self.rest = before;
                    return Ok(None);
                }
                let rule = self.named(name, at)?;
                self.rules.again(rule)?
            }
            Some('|' | ')') | None => return Ok(None),
            Some(_) => return Err(self.refused("a character has no meaning where it stands")),
        };
        Ok(Some(part))
    }

    fn repeated(&mut self, part: Expr) -> Result<Expr, ConstraintError> {
        for (mark, least, most) in [("*", 0, None), ("+", 1, None), ("?", 0, Some(1))] {
            if self.take(mark) {
                return self.rules.repeat(part, least, most);
            }
        }
        let Some(inside) = self.rest.strip_prefix('{') else { return Ok(part) };
        let bounds = inside.split_once('}').and_then(|(inside, rest)| {
            let (least, most) = match inside.split_once(',') {
                None => (number(inside)?, Some(number(inside)?)),
                Some((least, most)) if most.trim().is_empty() => (number(least)?, None),
                Some((least, most)) => (number(least)?, Some(number(most)?)),
            };
            most.is_none_or(|most| least <= most).then_some((least, most, rest))
        });
        let Some((least, most, rest)) = bounds else {
            return Err(self.refused("a repetition is not {n}, {n,} or {n,m}"));
        };
        self.rest = rest;
        self.space();
        self.rules.repeat(part, least, most)
    }

    fn quoted(&mut self) -> Result<Expr, ConstraintError> {
        let mut text = String::new();
        self.skip(1);
        loop {
            match self.character()? {
                ('"', false) => break,
                (c, _) => text.push(c),
            }
        }
        self.space();
        self.rules.text(text.as_bytes())
    }

    fn class(&mut self) -> Result<Expr, ConstraintError> {
        let mut ranges = Vec::new();
        self.skip(1);
        let negated = self.rest.starts_with('^');
        self.skip(usize::from(negated));
        loop {
            let (start, escaped) = self.character()?;
            if (start, escaped) == (']', false) {
                break;
            }
            let mut end = start;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.skip(1);
                end = self.character()?.0;
            }
            if end < start {
                return Err(self.refused("a range ends before it begins"));
            }
            ranges.push(ClassUnicodeRange::new(start, end));
        }
        let mut class = ClassUnicode::new(ranges);
        if class.ranges().is_empty() {
            return Err(self.refused("a class has no characters"));
        }
        if negated {
            class.negate();
        }
        self.space();
        let ranges = class.iter().map(|range| (range.start(), range.end())).collect();
        class_rule(ranges, Spelling::Plain, self.rules)
    }

    /// One character of a text or a class, and whether it was escaped.
    fn character(&mut self) -> Result<(char, bool), ConstraintError> {
        let mut chars = self.rest.chars();
        let Some(first) = chars.next() else {
            return Err(self.refused("a text or a class is not closed"));
        };
        if first != '\\' {
            self.rest = chars.as_str();
            return Ok((first, false));
        }
        let second = chars.next();
        let digits = match second {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => {
                let escaped = second.and_then(|name| ESCAPES.iter().find(|known| known.0 == name));
                let Some((_, escaped)) = escaped else {
                    return Err(self.refused("an escape is none"));
                };
                self.rest = chars.as_str();
                return Ok((*escaped, true));
            }
        };
        let number = chars.as_str().split_at_checked(digits).and_then(|(number, rest)| {
            let hex = number.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u32::from_str_radix(number, 16).ok().filter(|_| hex)?;
            Some((char::from_u32(number)?, rest))
        });
        let Some((escaped, rest)) = number else {
            return Err(self.refused("the number of a character is none"));
        };
        self.rest = rest;
        Ok((escaped, true))
    }

    fn name(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        self.space();
        (!name.is_empty()).then_some(name)
    }

    /// The rule of a name, which stands at `at`. Its place is taken when it is named first.
    fn named(&mut self, name: &'a str, at: usize) -> Result<usize, ConstraintError> {
        if let Some(name) = self.names.get(name) {
            return Ok(name.rule);
        }
        let rule = self.rules.rule(Expr::Never)?;
        let of = self.definitions.len();
        self.names.insert(name, Name { rule, defined: false, at, of });
        Ok(rule)
    }

    fn take(&mut self, mark: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(mark) else { return false };
        self.rest = rest;
        self.space();
        true
    }

    /// Skips bytes that are there.
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// Skips white space and comments.
    fn space(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    /// Bytes before what is read next.
    fn at(&self) -> usize {
        self.text.len().saturating_sub(self.rest.len())
    }

    fn refused(&self, what: &'static str) -> ConstraintError {
        self.refused_at(self.definitions.len(), self.at(), what)
    }

    fn refused_at(&self, rule: usize, at: usize, what: &'static str) -> ConstraintError {
        let before = self.text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        let begun = before.rsplit('\n').next().unwrap_or_default();
        let column = begun.chars().count().saturating_add(1);
        ConstraintError::Grammar { what, rule, line, column }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Looks for rules that begin with themselves. Each rule is looked at once.
struct Beginnings<'a> {
    rules: &'a Rules,
    /// Rules that were looked at, and whether they can be nothing; `None` as long as that is open.
    seen: HashMap<usize, Option<bool>>,
}

enum Begins {
    WithItself,
    TooDeep,
}

impl Beginnings<'_> {
    /// Whether a rule can be nothing.
    fn rule(&mut self, rule: usize, depth: usize) -> Result<bool, Begins> {
        match self.seen.insert(rule, None) {
            Some(None) => return Err(Begins::WithItself),
            Some(Some(empty)) => {
                self.seen.insert(rule, Some(empty));
                return Ok(empty);
            }
            None => {}
        }
        let body = self.rules.body(rule).unwrap_or(&Expr::Never);
        let empty = self.part(body, depth)?;
        self.seen.insert(rule, Some(empty));
        Ok(empty)
    }

    /// Whether a part can be nothing: then what follows may begin the rule too.
    fn part(&mut self, part: &Expr, depth: usize) -> Result<bool, Begins> {
        if depth > MAX_BEGINNINGS {
            return Err(Begins::TooDeep);
        }
        let depth = depth.saturating_add(1);
        match part {
            Expr::Empty => Ok(true),
            Expr::Never | Expr::Byte(..) => Ok(false),
            Expr::Text(text) => Ok(text.is_empty()),
            Expr::Seq(parts) => {
                for part in parts {
                    if !self.part(part, depth)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Expr::Any(parts) => {
                let mut empty = false;
                for part in parts {
                    empty |= self.part(part, depth)?;
                }
                Ok(empty)
            }
            Expr::Repeat(part, least, most) => {
                Ok(self.part(part, depth)? || *least == 0 || *most == Some(0))
            }
            Expr::Rule(rule) => self.rule(*rule, depth),
        }
    }
}

const ESCAPES: [(char, char); 9] = [
    ('n', '\n'),
    ('r', '\r'),
    ('t', '\t'),
    ('\\', '\\'),
    ('"', '"'),
    ('[', '['),
    (']', ']'),
    ('-', '-'),
    ('^', '^'),
];
/// Deepest nesting of groups.
pub(crate) const MAX_GROUPS: usize = 48;
/// Longest chain of parts and rules that begin with one another: each is a call of [`Beginnings`].
pub(crate) const MAX_BEGINNINGS: usize = 512;
