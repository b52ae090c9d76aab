//! Every refusal of the tokenizer. None quotes a text; those of the file name what they are about, but
//! hold nothing of it except words of its format: it may be part of a sealed model.

use thiserror::Error;

use crate::file::{MAX_FILE_BYTES, MAX_VOCABULARY, MAX_WORD_CHARS};

/// Why a tokenizer's file was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FileError {
    /// Larger than [`MAX_FILE_BYTES`].
    #[error("tokenizer.json is {got} bytes; the limit is {MAX_FILE_BYTES}")]
    TooLarge {
        /// Bytes found.
        got: usize,
    },
    /// Not JSON, or not the JSON of a WordPiece tokenizer.
    #[error("tokenizer.json is not that of a WordPiece tokenizer, at line {line}, column {column}")]
    Malformed {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault.
        column: usize,
    },
    /// It asks for something this crate does not do.
    #[error("tokenizer.json needs {what}, which this build does not do; choose another model")]
    Unsupported {
        /// What it asks for.
        what: &'static str,
    },
    /// More tokens than [`MAX_VOCABULARY`].
    #[error("the vocabulary has {got} tokens; the limit is {MAX_VOCABULARY}")]
    Vocabulary {
        /// Tokens found.
        got: usize,
    },
    /// Longer words than [`MAX_WORD_CHARS`] are to be looked up, or none.
    #[error("words of up to {got} characters are looked up; from 1 to {MAX_WORD_CHARS} can be")]
    WordChars {
        /// Characters asked for.
        got: usize,
    },
    /// Ids that are not 0, 1, 2 and so on, each of one token.
    #[error("the ids of the vocabulary are not 0, 1, 2 and so on, each of one token")]
    Ids,
    /// A token that is named elsewhere in the file is not in its vocabulary, or has another id there.
    #[error("the {what} token is not in the vocabulary under its id")]
    Token {
        /// Which one.
        what: &'static str,
    },
}

/// Why a text was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TextError {
    /// More tokens than there may be.
    #[error("more than {limit} tokens, those around the text included; shorten it")]
    TooLong {
        /// Most tokens.
        limit: usize,
    },
    /// A token id that the vocabulary does not have.
    #[error("token {at} is not in the vocabulary, whose ids are below {vocabulary}")]
    UnknownId {
        /// Its place among the tokens given.
        at: usize,
        /// Number of ids.
        vocabulary: u32,
    },
    /// The id of a control token, which no text has.
    #[error("token {at} is a control token; those around a text are added to it")]
    ControlId {
        /// Its place among the tokens given.
        at: usize,
    },
}
