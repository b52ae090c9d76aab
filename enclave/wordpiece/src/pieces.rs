//! The vocabulary: what words begin with and what they go on with.

use std::collections::HashMap;

use crate::error::FileError;
use crate::file::MAX_VOCABULARY;

/// Tokens by their text.
pub(crate) struct Pieces {
    /// Those a word may begin with.
    first: HashMap<Box<str>, u32>,
    /// Those a word may go on with, without the prefix that says so.
    later: HashMap<Box<str>, u32>,
    /// Bytes of the longest.
    longest: usize,
    len: u32,
}

impl Pieces {
    /// Tokens with their ids; those that begin with `prefix` go on with a word.
    pub(crate) fn new(vocab: HashMap<Box<str>, u32>, prefix: &str) -> Result<Self, FileError> {
        let len = u32::try_from(vocab.len()).ok().filter(|len| *len <= MAX_VOCABULARY);
        let len = len.ok_or(FileError::Vocabulary { got: vocab.len() })?;
        let mut seen = vec![false; vocab.len()];
        let (mut first, mut later, mut longest) = (HashMap::new(), HashMap::new(), 0);
        for (text, id) in vocab {
            let slot = usize::try_from(id).ok().and_then(|id| seen.get_mut(id));
            // As many ids as places, and no place twice: each is taken once.
            match slot {
                Some(slot) if !*slot => *slot = true,
                _ => return Err(FileError::Ids),
            }
            longest = longest.max(text.len());
            match text.strip_prefix(prefix) {
                Some(rest) => later.insert(rest.into(), id),
                None => first.insert(text, id),
            };
        }
        Ok(Self { first, later, longest, len })
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// The id of a token that a word may begin with.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.first.get(text).copied()
    }

    /// The longest token that `rest` begins with, and what is behind it.
    pub(crate) fn longest<'a>(&self, rest: &'a str, first: bool) -> Option<(u32, &'a str)> {
        let tokens = if first { &self.first } else { &self.later };
        let mut end = rest.floor_char_boundary(self.longest);
        while end > 0 {
            let (piece, behind) = rest.split_at_checked(end)?;
            if let Some(id) = tokens.get(piece) {
                return Some((*id, behind));
            }
            end = rest.floor_char_boundary(end.saturating_sub(1));
        }
        None
    }
}
