//! The rules of a grammar while it is made. A request says how many parts it has, and a few bytes of it can ask
//! for millions; so every part is counted when it is made, and what would take more than
//! [`MAX_PARTS`] is refused before the memory is taken.

use std::collections::{HashMap, HashSet};

use crate::constrain::ConstraintError;
use crate::constrain::program::{Expr, MAX_OPS, Program};
use crate::constrain::regex::Known;
use crate::constrain::value::{boolean, character, colon, number, separator};
use crate::constrain::weigh::Translation;

/// Rules, and what may still be made of them.
pub(crate) struct Rules {
    rules: Vec<Expr>,
    left: usize,
    /// What patterns may still cost to read.
    pub(crate) patterns: Translation,
    /// Classes and patterns that are rules already.
    pub(crate) known: HashMap<Known, usize>,
    character: Option<usize>,
    any_value: Option<usize>,
}

impl Rules {
    /// No rules but the first, which is the whole.
    pub(crate) fn new() -> Self {
        Self {
            rules: vec![Expr::Never],
            left: MAX_PARTS,
            patterns: Translation::default(),
            known: HashMap::new(),
            character: None,
            any_value: None,
        }
    }

    /// The program of these rules with `whole` as the first.
    ///
    /// # Errors
    /// As [`Program::new`].
    pub(crate) fn program(mut self, whole: Expr) -> Result<Program, ConstraintError> {
        self.set(0, whole);
        Program::new(self.rules)
    }

    /// Counts `parts` that are about to be made.
    ///
    /// # Errors
    /// [`ConstraintError::TooLarge`] if there would be more than [`MAX_PARTS`].
    pub(crate) fn charge(&mut self, parts: usize) -> Result<(), ConstraintError> {
        self.left = self.left.checked_sub(parts).ok_or(ConstraintError::TooLarge)?;
        Ok(())
    }

    /// How many parts were counted.
    #[cfg(test)]
    pub(crate) const fn counted(&self) -> usize {
        MAX_PARTS - self.left
    }

    /// How many there are, the first rule, which was there from the start, aside.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> usize {
        self.rules.iter().skip(1).map(|rule| rule.parts() + 1).sum()
    }

    /// An expression that is the same for every request, counted afterwards: it is small.
    pub(crate) fn fixed(&mut self, expr: Expr) -> Result<Expr, ConstraintError> {
        self.charge(expr.parts())?;
        Ok(expr)
    }

    pub(crate) fn text(&mut self, text: &[u8]) -> Result<Expr, ConstraintError> {
        self.charge(text.len().saturating_add(1))?;
        Ok(Expr::Text(text.to_vec()))
    }

    /// One after the other, each of them counted already.
    pub(crate) fn seq(&mut self, parts: Vec<Expr>) -> Result<Expr, ConstraintError> {
        self.charge(1)?;
        Ok(Expr::Seq(parts))
    }

    /// One of them, each of them counted already.
    pub(crate) fn any(&mut self, parts: Vec<Expr>) -> Result<Expr, ConstraintError> {
        self.charge(1)?;
        Ok(Expr::Any(parts))
    }

    pub(crate) fn repeat(
        &mut self,
        part: Expr,
        min: u32,
        max: Option<u32>,
    ) -> Result<Expr, ConstraintError> {
        self.charge(1)?;
        Ok(Expr::Repeat(Box::new(part), min, max))
    }

    /// A rule for `expr`, which is counted already; its number.
    pub(crate) fn rule(&mut self, expr: Expr) -> Result<usize, ConstraintError> {
        self.charge(1)?;
        self.rules.push(expr);
        Ok(self.rules.len().saturating_sub(1))
    }

    /// One more place where a rule stands.
    pub(crate) fn again(&mut self, rule: usize) -> Result<Expr, ConstraintError> {
        self.charge(1)?;
        Ok(Expr::Rule(rule))
    }

    /// Says what a rule is whose number had to be known before.
    pub(crate) fn set(&mut self, rule: usize, expr: Expr) {
        if let Some(place) = self.rules.get_mut(rule) {
            *place = expr;
        }
    }

    /// What a rule is.
    pub(crate) fn body(&self, rule: usize) -> Option<&Expr> {
        self.rules.get(rule)
    }

    /// Whether every text of `expr` begins with `byte`. What can be told only by what may be left out counts
    /// as something else.
    pub(crate) fn begins(&self, expr: &Expr, byte: u8) -> bool {
        let (mut seen, mut left) = (HashSet::new(), vec![expr]);
        while let Some(expr) = left.pop() {
            match expr {
                Expr::Never => {}
                Expr::Byte(from, to) if (*from, *to) == (byte, byte) => {}
                Expr::Text(text) if text.first() == Some(&byte) => {}
                Expr::Any(parts) => left.extend(parts),
                Expr::Rule(rule) if !seen.insert(*rule) => {}
                Expr::Seq(parts) if !parts.is_empty() => left.extend(parts.first()),
                Expr::Rule(rule) => left.extend(self.rules.get(*rule)),
                _ => return false,
            }
        }
        true
    }

    pub(crate) fn separator(&mut self) -> Result<Expr, ConstraintError> {
        self.fixed(separator())
    }

    pub(crate) fn colon(&mut self) -> Result<Expr, ConstraintError> {
        self.fixed(colon())
    }

    /// One character inside a JSON string.
    pub(crate) fn character(&mut self) -> Result<Expr, ConstraintError> {
        let rule = match self.character {
            Some(rule) => rule,
            None => {
                let expr = self.fixed(character())?;
                self.rule(expr)?
            }
        };
        self.character = Some(rule);
        self.again(rule)
    }

    /// A JSON string around `inside`.
    pub(crate) fn string(&mut self, inside: Expr) -> Result<Expr, ConstraintError> {
        let parts = vec![self.text(b"\"")?, inside, self.text(b"\"")?];
        self.seq(parts)
    }

    pub(crate) fn any_string(&mut self) -> Result<Expr, ConstraintError> {
        let character = self.character()?;
        let inside = self.repeat(character, 0, None)?;
        self.string(inside)
    }

    /// An object of any properties with this value. The value stands twice, so it is made a rule:
    /// schemas nest, and each level would double what is in it.
    pub(crate) fn object_of(&mut self, value: Expr) -> Result<Expr, ConstraintError> {
        let property = vec![self.any_string()?, self.colon()?, value];
        let property = self.seq(property)?;
        let property = self.rule(property)?;
        let more = vec![self.separator()?, self.again(property)?];
        let more = self.seq(more)?;
        let all = vec![self.again(property)?, self.repeat(more, 0, None)?];
        let all = self.seq(all)?;
        let object = vec![self.text(b"{")?, self.repeat(all, 0, Some(1))?, self.text(b"}")?];
        self.seq(object)
    }

    /// Any value, as one rule.
    pub(crate) fn any_value(&mut self) -> Result<Expr, ConstraintError> {
        if let Some(rule) = self.any_value {
            return self.again(rule);
        }
        // Its place is taken first: what is in it refers to it.
        let rule = self.rule(Expr::Never)?;
        self.any_value = Some(rule);
        let more = vec![self.separator()?, self.again(rule)?];
        let more = self.seq(more)?;
        let items = vec![self.again(rule)?, self.repeat(more, 0, None)?];
        let items = self.seq(items)?;
        let list = vec![self.text(b"[")?, self.repeat(items, 0, Some(1))?, self.text(b"]")?];
        let list = self.seq(list)?;
        let value = self.again(rule)?;
        let all = vec![
            self.text(b"null")?,
            self.fixed(boolean())?,
            self.fixed(number())?,
            self.any_string()?,
            list,
            self.object_of(value)?,
        ];
        let all = self.any(all)?;
        self.set(rule, all);
        self.again(rule)
    }
}

/// Most parts of a grammar, counting each byte of a text. A part is at most a few dozen bytes and one or two
/// steps of the program, of which there are [`MAX_OPS`].
pub(crate) const MAX_PARTS: usize = 2 * MAX_OPS;
