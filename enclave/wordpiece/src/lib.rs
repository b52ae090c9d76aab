//! WordPiece, the tokenizer of BERT models: `tokenizer.json` in, token ids of texts out. It trusts the
//! file to be the operator's, not to be well formed, and no text at all: a text is attacker-controlled
//! and a secret. No I/O, clock or randomness.
//!
//! A text is cleaned (control characters go, white space becomes a space), ideographs are set apart,
//! accents are taken off and letters lowered as the file says; what lies between spaces and punctuation
//! is a word. A word becomes the longest token that begins it, then the longest that goes on, and so on
//! (Devlin et al., BERT, 2018; the files' own terms are those of the `tokenizers` library). The tests
//! hold every step against that library.
//!
//! Two things differ from it, on purpose. The names of control tokens inside a text are plain text:
//! only this crate writes control tokens. And nothing is cut to fit: a text of too many tokens is
//! refused, as soon as there is one too many.
//!
//! Words and ids are in memory that is wiped and does not grow.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod error;
mod file;
mod pieces;
#[cfg(test)]
mod tests;
mod words;

pub use error::{FileError, TextError};
pub use file::{MAX_FILE_BYTES, MAX_VOCABULARY, MAX_WORD_CHARS};

use zeroize::Zeroizing;

use crate::file::File;
use crate::pieces::Pieces;
use crate::words::{Rules, Word};

/// Turns texts into token ids.
pub struct Tokenizer {
    rules: Rules,
    pieces: Pieces,
    /// What stands before every text, and behind it.
    before: u32,
    behind: u32,
    /// Ids that no text has, ascending.
    controls: Vec<u32>,
    /// What a word becomes that the vocabulary cannot spell.
    unknown: u32,
}

impl Tokenizer {
    /// Reads `tokenizer.json`.
    ///
    /// # Errors
    /// [`FileError`] for a file over [`MAX_FILE_BYTES`], one that is not of this form, and one that asks
    /// for what this crate does not do.
    pub fn parse(json: &[u8]) -> Result<Self, FileError> {
        File::read(json)?.tokenizer()
    }

    /// Number of token ids.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        self.pieces.len()
    }

    /// The ids of `text`, with those that the model expects around it; at most `limit`.
    ///
    /// # Errors
    /// [`TextError::TooLong`].
    pub fn encode(&self, text: &str, limit: usize) -> Result<Zeroizing<Vec<u32>>, TextError> {
        // No text has more tokens than bytes.
        let mut ids = self.begin(text.len(), limit)?;
        self.rules.words(text, &mut |word| match word {
            Word::Long => push(&mut ids, self.unknown, limit),
            Word::Short(word) => self.word(word, &mut ids, limit),
        })?;
        self.end(ids, limit)
    }

    /// `tokens`, which somebody else found in a text, with those that the model expects around it; at
    /// most `limit`.
    ///
    /// # Errors
    /// [`TextError`]: also for an id that is not in the vocabulary or no text has.
    pub fn surround(&self, tokens: &[u32], limit: usize) -> Result<Zeroizing<Vec<u32>>, TextError> {
        let mut ids = self.begin(tokens.len(), limit)?;
        for (at, id) in tokens.iter().enumerate() {
            if *id >= self.vocabulary() {
                return Err(TextError::UnknownId { at, vocabulary: self.vocabulary() });
            }
            if self.controls.binary_search(id).is_ok() {
                return Err(TextError::ControlId { at });
            }
            push(&mut ids, *id, limit)?;
        }
        self.end(ids, limit)
    }

    fn begin(&self, most: usize, limit: usize) -> Result<Zeroizing<Vec<u32>>, TextError> {
        let room = most.saturating_add(AROUND).min(limit);
        let mut ids = Zeroizing::new(Vec::with_capacity(room));
        push(&mut ids, self.before, limit)?;
        Ok(ids)
    }

    fn end(
        &self,
        mut ids: Zeroizing<Vec<u32>>,
        limit: usize,
    ) -> Result<Zeroizing<Vec<u32>>, TextError> {
        push(&mut ids, self.behind, limit)?;
        Ok(ids)
    }

    /// The pieces of a word, or the unknown token in the place of all of them.
    fn word(&self, word: &str, ids: &mut Vec<u32>, limit: usize) -> Result<(), TextError> {
        // Known at the end of the word only, and pieces that will not count are not to meet the limit.
        if !self.spelling(word).all(|id| id.is_some()) {
            return push(ids, self.unknown, limit);
        }
        self.spelling(word).flatten().try_for_each(|id| push(ids, id, limit))
    }

    /// The pieces of a word one by one; the last is `None` if there is none for what is left.
    fn spelling<'a>(&'a self, word: &'a str) -> impl Iterator<Item = Option<u32>> + 'a {
        let mut rest = word;
        core::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let found = self.pieces.longest(rest, rest.len() == word.len());
            rest = found.map_or("", |(_, behind)| behind);
            Some(found.map(|(id, _)| id))
        })
    }
}

fn push(ids: &mut Vec<u32>, id: u32, limit: usize) -> Result<(), TextError> {
    if ids.len() >= limit {
        return Err(TextError::TooLong { limit });
    }
    ids.push(id);
    Ok(())
}

/// Tokens around every text.
const AROUND: usize = 2;
