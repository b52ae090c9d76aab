//! Constrained decoding: of each token only those are drawn with which the answer can still become what the
//! request asked for, so what comes out always parses unless it is cut.
//!
//! The constraint comes from a request and is not trusted. It becomes a grammar over bytes
//! (`program.rs`), which runs as a machine with states that are numbered as they are met (`machine.rs`);
//! one walk over the tree of all tokens (`vocabulary.rs`) gives those that are allowed. Size, nesting,
//! places of a state and the work for one token are bounded. It is our own and small because the crates
//! that do this are several times as large as this engine, quote the request in their errors, and
//! panic on some schemas, which ends a worker.

mod calling;
mod digits;
mod gbnf;
mod json;
mod machine;
mod program;
mod regex;
mod rules;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;
mod value;
mod vocabulary;
mod weigh;

use std::collections::HashMap;
use std::sync::Arc;

use chrysalis_wire::SecretBytes;
use serde_json::Value;
use thiserror::Error;

use self::calling::Calls;
use self::json::Schemas;
use self::machine::{MASK_WORK, Machine, StateId, TOKEN_WORK};
use self::program::Program;
use self::rules::Rules;
pub(crate) use self::vocabulary::{Mask, Vocabulary};
pub use self::weigh::MAX_PATTERN_BYTES;
use crate::request::Reasoning;
use crate::tool_style::ToolStyle;

/// What an answer has to be.
#[derive(Debug)]
pub enum Constraint {
    /// A JSON object.
    JsonObject,
    /// An instance of this JSON Schema, which is JSON text.
    JsonSchema(SecretBytes),
    /// Text that this regular expression matches as a whole.
    Regex(SecretBytes),
    /// One of these texts.
    Choice(Vec<SecretBytes>),
    /// Text that this grammar in llama.cpp's notation (GBNF) makes; which part of it, `gbnf.rs` says.
    Grammar(SecretBytes),
    /// A call of one of these tools, by name and JSON Schema of its arguments, as a model of the style
    /// writes it.
    ToolCall(ToolStyle, Vec<(SecretBytes, SecretBytes)>),
    /// Text, and calls of these tools as a model of the style writes them: nothing that begins as a call is
    /// anything else.
    MayCall {
        /// How calls are written.
        style: ToolStyle,
        /// Names, and JSON Schemas of the arguments.
        tools: Vec<(SecretBytes, SecretBytes)>,
        /// Whether there may be several calls.
        parallel: bool,
    },
}

/// What a constraint depends on beside itself: the model, and how the prompt ends.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Whether reasoning may come before text.
    pub(crate) reasoning: Reasoning,
    /// Control tokens that are text in this answer, and which.
    pub(crate) spelled: Vec<(u32, &'static str)>,
}

/// Why a constraint is refused. It quotes nothing of it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ConstraintError {
    /// More than [`MAX_CONSTRAINT_BYTES`].
    #[error("it is {got} bytes; at most {MAX_CONSTRAINT_BYTES} are accepted")]
    TooLong {
        /// Its size.
        got: usize,
    },
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The schema is not JSON.
    #[error("the schema is not JSON that nests less than 128 deep")]
    NotJson,
    /// The schema has a keyword that would not be kept.
    #[error("the schema uses a keyword that is not supported: {keyword}")]
    Keyword {
        /// The keyword.
        keyword: &'static str,
    },
    /// The schema combines keywords that are kept one by one only.
    #[error("the schema combines {keyword} with other keywords, which is not supported")]
    Combination {
        /// One of them.
        keyword: &'static str,
    },
    /// The schema is none.
    #[error("the schema is not valid: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// The regular expression is none, or has parts that are not supported.
    #[error("the regular expression is not supported: {what}")]
    Regex {
        /// What is wrong.
        what: &'static str,
    },
    /// The grammar is none, or has parts that are not supported.
    #[error("the grammar is not supported: {what} (rule {rule}, line {line}, column {column})")]
    Grammar {
        /// What is wrong.
        what: &'static str,
        /// In which definition, from 1; 0 before the first. Its name may be a secret.
        rule: usize,
        /// In which line, from 1.
        line: usize,
        /// At which character of it, from 1.
        column: usize,
    },
    /// Patterns of more than [`MAX_PATTERN_BYTES`] together.
    #[error("its patterns are too long; at most {MAX_PATTERN_BYTES} bytes together are accepted")]
    Patterns,
    /// No text is what it asks for.
    #[error("no answer could be what it asks for")]
    Unmeetable,
    /// Too many parts, or nested too deep.
    #[error("it has too many parts, or nests too deep; make it smaller")]
    TooLarge,
    /// Too much work for one token.
    #[error("it is too ambiguous: one token would take too long")]
    TooComplex,
}

/// A constraint on one answer, and how far the answer has come.
#[derive(Clone)]
pub(crate) struct Matcher {
    machine: Machine,
    state: StateId,
    vocabulary: Arc<Vocabulary>,
    /// Control tokens that count as text.
    spelled: Vec<(u32, &'static str)>,
    /// What was allowed at states met before.
    masks: HashMap<StateId, Arc<Mask>>,
    /// Before the first token: the work that is allowed until the next one.
    left: Option<usize>,
}

impl Matcher {
    /// A matcher before the first token.
    pub(crate) fn new(
        constraint: &Constraint,
        vocabulary: Arc<Vocabulary>,
        setting: Setting,
    ) -> Result<Self, ConstraintError> {
        let program = program(constraint, setting.reasoning)?;
        let (machine, state) = Machine::new(Arc::new(program))?;
        let (spelled, masks) = (setting.spelled, HashMap::new());
        let mut matcher = Self { machine, state, vocabulary, spelled, masks, left: None };
        // What takes too long, or cannot be spelled at all, is refused before anything is computed.
        let mask = matcher.allowed()?;
        // Each choice of a request has a copy of its own, which begins with little.
        matcher.forget();
        matcher.masks.insert(matcher.state, mask);
        // What is forgotten has to be computed again for the first token, whatever the mask took: for that
        // one token, in each choice.
        let left = matcher.machine.fill();
        // What the first mask took only its caller waited for; for the second everybody does.
        let taken = MASK_WORK.saturating_sub(left);
        matcher.left = Some(left.min(taken.saturating_add(LEAD_WORK)));
        // So far only who asks has waited.
        matcher.machine.take_burned();
        Ok(matcher)
    }

    /// Before it is copied for `choices` answers, which draw in the same steps: what is left of its work is
    /// theirs together.
    pub(crate) fn divide(&mut self, choices: u32) {
        let choices = usize::try_from(choices).unwrap_or(usize::MAX);
        self.left = self.left.map(|left| left.checked_div(choices).unwrap_or(left));
    }

    /// The tokens with which the answer may go on, or end.
    ///
    /// # Errors
    /// [`ConstraintError::TooComplex`] if the answer took more work than its tokens allow, and
    /// [`ConstraintError::Unmeetable`] if the vocabulary cannot spell what comes next.
    pub(crate) fn allowed(&mut self) -> Result<Arc<Mask>, ConstraintError> {
        self.machine.refuel();
        if let Some(mask) = self.masks.get(&self.state) {
            return Ok(Arc::clone(mask));
        }
        let mut mask = self.vocabulary.allowed(&mut self.machine, self.state)?;
        for (token, text) in &self.spelled {
            let mut after = self.state;
            for byte in text.bytes() {
                after = self.machine.step(after, byte)?;
            }
            if after != StateId::DEAD {
                mask.insert(*token);
            }
        }
        let mask = Arc::new(mask);
        if mask.is_empty() {
            return Err(ConstraintError::Unmeetable);
        }
        if self.machine.is_large() {
            self.forget();
        }
        if self.masks.len() >= MAX_MASKS {
            self.masks.clear();
        }
        self.masks.insert(self.state, Arc::clone(&mask));
        Ok(mask)
    }

    /// Forgets all but where the answer is.
    fn forget(&mut self) {
        if let Some(state) = self.machine.forget(self.state) {
            self.state = state;
            self.masks.clear();
        }
    }

    /// Whether the answer may end here.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn accepts(&self) -> bool {
        self.machine.accepts(self.state)
    }

    /// Whether the answer must end here.
    pub(crate) fn is_over(&self) -> bool {
        self.machine.is_over(self.state)
    }

    /// Goes on with the bytes of a token.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<(), ConstraintError> {
        for byte in bytes {
            self.state = self.machine.step(self.state, *byte)?;
        }
        if let Some(left) = self.left.take() {
            self.machine.limit(left);
        }
        Ok(())
    }

    /// The work that was done since the last call, in tokens: others have waited for it.
    pub(crate) const fn take_work(&mut self) -> usize {
        self.machine.take_burned()
    }
}

fn program(constraint: &Constraint, reasoning: Reasoning) -> Result<Program, ConstraintError> {
    let mut rules = Rules::new();
    let whole = match constraint {
        Constraint::JsonObject => {
            let value = rules.any_value()?;
            rules.object_of(value)?
        }
        Constraint::JsonSchema(schema) => {
            let text = text(schema, schema.len())?;
            let schema: Value = serde_json::from_str(text).map_err(|_| ConstraintError::NotJson)?;
            Schemas::new(&schema, &mut rules).instance()?
        }
        Constraint::Regex(pattern) => regex::whole(text(pattern, pattern.len())?, &mut rules)?,
        Constraint::Grammar(grammar) => gbnf::whole(text(grammar, grammar.len())?, &mut rules)?,
        Constraint::Choice(texts) => {
            let size = texts.iter().map(SecretBytes::len).fold(0, usize::saturating_add);
            let mut all = Vec::with_capacity(texts.len());
            for one in texts {
                all.push(rules.text(text(one, size)?.as_bytes())?);
            }
            rules.any(all)?
        }
        Constraint::ToolCall(style, tools) => calls(*style, tools)?.required(&mut rules)?,
        Constraint::MayCall { style, tools, parallel } => {
            calls(*style, tools)?.possible(*parallel, reasoning, &mut rules)?
        }
    };
    rules.program(whole)
}

/// The tools of a call, within the limit.
fn calls(
    style: ToolStyle,
    tools: &[(SecretBytes, SecretBytes)],
) -> Result<Calls<'_>, ConstraintError> {
    let sizes = tools.iter().map(|(name, schema)| name.len().saturating_add(schema.len()));
    let size = sizes.fold(0, usize::saturating_add);
    let mut named = Vec::with_capacity(tools.len());
    for (name, schema) in tools {
        named.push((text(name, size)?, text(schema, size)?));
    }
    Ok(Calls { style, tools: named })
}

fn text(bytes: &SecretBytes, size: usize) -> Result<&str, ConstraintError> {
    if size > MAX_CONSTRAINT_BYTES {
        return Err(ConstraintError::TooLong { got: size });
    }
    core::str::from_utf8(bytes.expose()).map_err(|_| ConstraintError::NotUtf8)
}

/// Largest schema, pattern, grammar, or list of texts, in bytes.
pub const MAX_CONSTRAINT_BYTES: usize = 64 * 1024;
/// Work that the second mask may take beyond what the first did: all that runs beside it waits.
const LEAD_WORK: usize = 4 * TOKEN_WORK;
/// Masks that are kept: one for each place of an answer that comes again.
const MAX_MASKS: usize = 64;

#[cfg(test)]
mod tests;
