//! An answer under a constraint, over a small vocabulary and without a model, for tests and fuzz targets. Not
//! part of any binary: compiled for this crate's own tests and under the feature `testing` only.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use super::machine::StateId;
use super::{Constraint, ConstraintError, Matcher, Setting, Vocabulary};
use crate::request::Reasoning;

/// A vocabulary: every byte is a token, some words are, and the last one ends an answer.
#[derive(Debug)]
pub struct Words {
    tokens: Vec<Vec<u8>>,
    tree: Arc<Vocabulary>,
}

impl Words {
    /// With these `words`.
    #[must_use]
    pub fn new(words: &[&str]) -> Self {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let words = words.iter().map(|word| word.as_bytes().to_vec());
        let tokens: Vec<Vec<u8>> = bytes.chain(words).chain([b"<end>".to_vec()]).collect();
        let of = |id: u32| usize::try_from(id).ok().and_then(|id| tokens.get(id));
        let text_of = |id: u32| of(id).map_or(&[][..], Vec::as_slice);
        let end = u32::try_from(tokens.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let tree = Arc::new(Vocabulary::new(tokens.len(), text_of, vec![end]));
        Self { tokens, tree }
    }

    /// The bytes of each token.
    #[must_use]
    pub fn tokens(&self) -> &[Vec<u8>] {
        &self.tokens
    }

    /// The number of the token that ends an answer.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.tokens.len().saturating_sub(1)
    }
}

/// An answer as far as it has come.
#[derive(Clone)]
pub struct Answer {
    matcher: Matcher,
    tokens: usize,
}

/// How an answer can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// With these bytes more.
    Ends(Vec<u8>),
    /// With none: there is no way out.
    Nowhere,
    /// It takes more work to say than is looked for.
    Unknown,
}

impl Answer {
    /// An answer before its first token.
    ///
    /// # Errors
    /// As a request with this constraint is refused.
    pub fn begin(
        constraint: &Constraint,
        words: &Words,
        reasoning: Reasoning,
    ) -> Result<Self, ConstraintError> {
        let setting = Setting { reasoning, spelled: Vec::new() };
        let matcher = Matcher::new(constraint, Arc::clone(&words.tree), setting)?;
        Ok(Self { matcher, tokens: words.tokens.len() })
    }

    /// The numbers of the tokens with which it may go on.
    ///
    /// # Errors
    /// As an answer of the engine fails.
    pub fn allowed(&mut self) -> Result<Vec<usize>, ConstraintError> {
        let mask = self.matcher.allowed()?;
        let mut logits = vec![0.0; self.tokens];
        mask.apply(&mut logits);
        let allowed = logits.iter().enumerate().filter(|(_, logit)| logit.is_finite());
        Ok(allowed.map(|(id, _)| id).collect())
    }

    /// Goes on with the bytes of a token.
    ///
    /// # Errors
    /// As an answer of the engine fails.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<(), ConstraintError> {
        self.matcher.advance(bytes)
    }

    /// Whether it may go on with `bytes`, found without a mask.
    ///
    /// # Errors
    /// [`ConstraintError::TooComplex`].
    pub fn takes(&mut self, bytes: &[u8]) -> Result<bool, ConstraintError> {
        let machine = &mut self.matcher.machine;
        let step = |state, byte: &u8| machine.step(state, *byte);
        let end = bytes.iter().try_fold(self.matcher.state, step)?;
        Ok(end != StateId::DEAD)
    }

    /// Whether it may end here.
    #[must_use]
    pub fn may_end(&self) -> bool {
        self.matcher.accepts()
    }

    /// Whether it must end here.
    #[must_use]
    pub fn must_end(&self) -> bool {
        self.matcher.is_over()
    }

    /// Whether what is kept until the next token is within its limits, or nothing but where the answer is,
    /// which may be as many places at once as there may be of one state.
    #[must_use]
    pub fn keeps_little(&self) -> bool {
        !self.matcher.machine.is_large() || self.matcher.machine.is_forgetful()
    }

    /// A way to end from here, looked for with the work of `masks` masks: first the states that are inside of
    /// the fewest rules.
    #[must_use]
    pub fn way_out(&self, masks: usize) -> Way {
        let mut machine = self.matcher.machine.clone();
        let here = self.matcher.state;
        // The state before each that was met, and the byte between them.
        let mut before: HashMap<StateId, Option<(StateId, u8)>> = HashMap::from([(here, None)]);
        let mut open = BinaryHeap::from([Reverse((machine.depth(here), 0usize, 0usize))]);
        let mut met = vec![here];
        let mut left = masks;
        machine.fill();
        while let Some(Reverse((_, steps, at))) = open.pop() {
            let Some(state) = met.get(at).copied() else { continue };
            if machine.accepts(state) {
                return Way::Ends(path(&before, state));
            }
            let mut byte = 0;
            loop {
                let Ok(next) = machine.step(state, byte) else {
                    if left == 0 {
                        return Way::Unknown;
                    }
                    left = left.saturating_sub(1);
                    machine.fill();
                    continue;
                };
                if next != StateId::DEAD && !before.contains_key(&next) {
                    before.insert(next, Some((state, byte)));
                    let steps = steps.saturating_add(1);
                    open.push(Reverse((machine.depth(next), steps, met.len())));
                    met.push(next);
                }
                let Some(following) = byte.checked_add(1) else { break };
                byte = following;
            }
        }
        Way::Nowhere
    }
}

fn path(before: &HashMap<StateId, Option<(StateId, u8)>>, end: StateId) -> Vec<u8> {
    let (mut bytes, mut at) = (Vec::new(), end);
    while let Some(Some((state, byte))) = before.get(&at) {
        bytes.push(*byte);
        at = *state;
    }
    bytes.reverse();
    bytes
}
