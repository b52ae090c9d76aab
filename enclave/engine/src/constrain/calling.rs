//! Calls of tools as grammars: one that has to be, or those that may stand behind text. Names and schemas
//! come from a request; how a call is written comes from the model's family (`tool_style.rs`).
//!
//! Where calls may be but need not, the answer is text up to the tag before calls, which only a call can
//! follow. So what the model calls is a tool of the request, its arguments are what the tool's schema says,
//! and with one call at most the answer ends behind it. Text that only looks like a tag does not begin a
//! call. A model that reasons does so first, and what it thinks aloud about calls is none.

use serde_json::Value;

use crate::constrain::ConstraintError;
use crate::constrain::json::Schemas;
use crate::constrain::program::Expr;
use crate::constrain::rules::Rules;
use crate::request::Reasoning;
use crate::tool_style::ToolStyle;

/// Tools, each a name and the JSON Schema of its arguments, and how a model calls them.
pub(crate) struct Calls<'a> {
    pub(crate) style: ToolStyle,
    pub(crate) tools: Vec<(&'a str, &'a str)>,
}

impl Calls<'_> {
    /// One call and nothing else. Where the tag before it is no text, the prompt ends with it.
    pub(crate) fn required(&self, rules: &mut Rules) -> Result<Expr, ConstraintError> {
        let tag = if self.style.writes_tag() { self.style.tag() } else { "" };
        let parts = vec![rules.text(tag.as_bytes())?, self.row(false, rules)?];
        rules.seq(parts)
    }

    /// Text, and calls where the model makes them: as many as it wants if `parallel`, else one at most.
    pub(crate) fn possible(
        &self,
        parallel: bool,
        reasoning: Reasoning,
        rules: &mut Rules,
    ) -> Result<Expr, ConstraintError> {
        let row = self.row(parallel, rules)?;
        let row = rules.rule(row)?;
        let text = Until::new(self.style.tag(), rules)?;
        let space = space(rules)?;
        let mut behind = vec![rules.repeat(space, 0, Some(MAX_SPACES))?, rules.again(row)?];
        if parallel && self.style.row().is_none() {
            behind.push(text.start(rules)?);
        }
        let behind = rules.seq(behind)?;
        text.then(behind, rules)?;
        let whole = match self.style {
            ToolStyle::Bare => bare(&text, row, rules)?,
            _ => text.start(rules)?,
        };
        if reasoning == Reasoning::None {
            return Ok(whole);
        }
        let whole = rules.rule(whole)?;
        let thought = Until::new(THINK_END, rules)?;
        let after = rules.again(whole)?;
        thought.then(after, rules)?;
        let inside = thought.start(rules)?;
        if reasoning == Reasoning::Begun {
            return Ok(inside);
        }
        let space = self::space(rules)?;
        let before = rules.repeat(space, 0, None)?;
        let begun = vec![before, rules.text(THINK_BEGIN.as_bytes())?, inside];
        let all = vec![rules.seq(begun)?, rules.again(whole)?];
        rules.any(all)
    }

    /// A call, or if there may be `several`, calls as the family writes them in a row.
    fn row(&self, several: bool, rules: &mut Rules) -> Result<Expr, ConstraintError> {
        let mut calls = Vec::with_capacity(self.tools.len());
        for (name, schema) in &self.tools {
            let [begin, between, end] = self.style.around();
            let quoted = serde_json::to_string(name).map_err(|_| ConstraintError::NotJson)?;
            let name = if self.style.quotes_names() { quoted.as_str() } else { name };
            let schema: Value =
                serde_json::from_str(schema).map_err(|_| ConstraintError::NotJson)?;
            let begin = rules.text(format!("{begin}{name}{between}").as_bytes())?;
            let arguments = Schemas::new(&schema, rules).arguments()?;
            let end = rules.text(end.as_bytes())?;
            calls.push(rules.seq(vec![begin, arguments, end])?);
        }
        let call = rules.any(calls)?;
        let Some([open, between, close]) = self.style.row() else { return Ok(call) };
        let call = rules.rule(call)?;
        let mut parts = vec![rules.text(open.as_bytes())?, rules.again(call)?];
        if several {
            let more = vec![rules.text(between.as_bytes())?, rules.again(call)?];
            let more = rules.seq(more)?;
            parts.push(rules.repeat(more, 0, None)?);
        }
        parts.push(rules.text(close.as_bytes())?);
        rules.seq(parts)
    }
}

/// An answer of a family whose calls need no tag: one that begins with a brace is calls, and nothing else.
fn bare(text: &Until, group: usize, rules: &mut Rules) -> Result<Expr, ConstraintError> {
    let start = rules.rule(Expr::Never)?;
    let [a, b, c, d] = SPACES;
    let mut all = vec![rules.again(group)?];
    all.extend(text.steps(0, &[a, b, c, d, b'{'], rules)?);
    let space = vec![space(rules)?, rules.again(start)?];
    all.push(rules.seq(space)?);
    let all = rules.any(all)?;
    rules.set(start, all);
    rules.again(start)
}

fn space(rules: &mut Rules) -> Result<Expr, ConstraintError> {
    rules.fixed(Expr::Any(SPACES.map(|byte| Expr::Byte(byte, byte)).to_vec()))
}

/// Text that ends anywhere, or goes on behind the first place where it spells a tag. There is a rule for each
/// beginning of the tag that the text may just have spelled, which is the automaton of Knuth, Morris
/// and Pratt; so none of them goes deeper than the others.
struct Until {
    tag: &'static [u8],
    /// A rule for each number of bytes of the tag, and for what follows all of them.
    rules: Vec<usize>,
}

impl Until {
    fn new(tag: &'static str, rules: &mut Rules) -> Result<Self, ConstraintError> {
        let tag = tag.as_bytes();
        let made = (0..=tag.len()).map(|_| rules.rule(Expr::Never)).collect::<Result<_, _>>()?;
        Ok(Self { tag, rules: made })
    }

    /// The text.
    fn start(&self, rules: &mut Rules) -> Result<Expr, ConstraintError> {
        self.rules.first().map_or(Ok(Expr::Never), |rule| rules.again(*rule))
    }

    /// Says what follows the tag.
    fn then(&self, behind: Expr, rules: &mut Rules) -> Result<(), ConstraintError> {
        for (spelled, rule) in self.rules.iter().enumerate().take(self.tag.len()) {
            let steps = self.steps(spelled, &[], rules)?;
            let steps = rules.any(steps)?;
            rules.set(*rule, steps);
        }
        if let Some(rule) = self.rules.last() {
            rules.set(*rule, behind);
        }
        Ok(())
    }

    /// How the text goes on, or ends, behind the first `spelled` bytes of the tag; none of `without` is next.
    fn steps(
        &self,
        spelled: usize,
        without: &[u8],
        rules: &mut Rules,
    ) -> Result<Vec<Expr>, ConstraintError> {
        let mut steps = vec![rules.fixed(Expr::Empty)?];
        let mut open: Option<(u8, u8, usize)> = None;
        for byte in 0..=u8::MAX {
            let next = (!without.contains(&byte)).then(|| self.after(spelled, byte)).flatten();
            match (&mut open, next) {
                (Some((_, high, rule)), Some(next)) if *rule == next => *high = byte,
                (_, next) => {
                    let step = next.map(|rule| (byte, byte, rule));
                    let done = core::mem::replace(&mut open, step);
                    steps.extend(done.map(|step| Self::step(step, rules)).transpose()?);
                }
            }
        }
        steps.extend(open.map(|step| Self::step(step, rules)).transpose()?);
        Ok(steps)
    }

    fn step(
        (low, high, rule): (u8, u8, usize),
        rules: &mut Rules,
    ) -> Result<Expr, ConstraintError> {
        let parts = vec![rules.fixed(Expr::Byte(low, high))?, rules.again(rule)?];
        rules.seq(parts)
    }

    /// The rule of the longest beginning of the tag that ends what was spelled of it and `byte`.
    fn after(&self, spelled: usize, byte: u8) -> Option<usize> {
        let before = self.tag.get(..spelled)?;
        let ends = |len: &usize| match self.tag.get(..*len).and_then(<[u8]>::split_last) {
            Some((last, head)) => *last == byte && before.ends_with(head),
            None => true,
        };
        let longest = (0..=spelled.saturating_add(1)).rev().find(ends)?;
        self.rules.get(longest).copied()
    }
}

const THINK_BEGIN: &str = "<think>";
const THINK_END: &str = "</think>";
/// What the reader of calls passes over.
const SPACES: [u8; 4] = *b" \n\r\t";
/// Most of it between a tag and a call.
const MAX_SPACES: u32 = 2;
