//! `tokenizer.json`, as far as it decides which ids a text has. What it says about batches (padding,
//! cutting) and about the way back to text is left alone; everything else that this crate would do
//! otherwise is refused.

use std::collections::HashMap;

use serde::Deserialize;

use crate::Tokenizer;
use crate::error::FileError;
use crate::pieces::Pieces;
use crate::words::Rules;

/// The file.
#[derive(Deserialize)]
pub(crate) struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Normalizer,
    pre_tokenizer: PreTokenizer,
    post_processor: PostProcessor,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: Box<str>,
    special: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Normalizer {
    BertNormalizer {
        clean_text: bool,
        handle_chinese_chars: bool,
        /// As `lowercase` if it does not say.
        strip_accents: Option<bool>,
        lowercase: bool,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PreTokenizer {
    BertPreTokenizer,
    #[serde(other)]
    Other,
}

/// What stands around a text, in the two ways in which files say it.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum PostProcessor {
    TemplateProcessing {
        single: Vec<Part>,
    },
    BertProcessing {
        sep: (Box<str>, u32),
        cls: (Box<str>, u32),
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
enum Part {
    SpecialToken { id: Box<str>, type_id: u32 },
    Sequence { id: Box<str>, type_id: u32 },
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Model {
    WordPiece {
        unk_token: Box<str>,
        continuing_subword_prefix: Box<str>,
        max_input_chars_per_word: usize,
        vocab: HashMap<Box<str>, u32>,
    },
    #[serde(other)]
    Other,
}

impl File {
    pub(crate) fn read(json: &[u8]) -> Result<Self, FileError> {
        if json.len() > MAX_FILE_BYTES {
            return Err(FileError::TooLarge { got: json.len() });
        }
        serde_json::from_slice(json)
            .map_err(|e| FileError::Malformed { line: e.line(), column: e.column() })
    }

    pub(crate) fn tokenizer(self) -> Result<Tokenizer, FileError> {
        let unsupported = |what| FileError::Unsupported { what };
        let Model::WordPiece {
            unk_token,
            continuing_subword_prefix,
            max_input_chars_per_word,
            vocab,
        } = self.model
        else {
            return Err(unsupported("another model than WordPiece"));
        };
        let Normalizer::BertNormalizer {
            clean_text,
            handle_chinese_chars,
            strip_accents,
            lowercase,
        } = self.normalizer
        else {
            return Err(unsupported("another normalizer than BERT's"));
        };
        let PreTokenizer::BertPreTokenizer = self.pre_tokenizer else {
            return Err(unsupported("words cut otherwise than BERT's"));
        };
        if continuing_subword_prefix.is_empty() {
            return Err(unsupported("pieces without a prefix inside words"));
        }
        if !(1..=MAX_WORD_CHARS).contains(&max_input_chars_per_word) {
            return Err(FileError::WordChars { got: max_input_chars_per_word });
        }
        let pieces = Pieces::new(vocab, &continuing_subword_prefix)?;
        let known = |what, text: &str| pieces.id(text).ok_or(FileError::Token { what });
        let unknown = known("unknown", &unk_token)?;
        let mut controls = Vec::with_capacity(self.added_tokens.len());
        let mut texts = Vec::with_capacity(self.added_tokens.len().saturating_add(2));
        for Added { id, content, special } in self.added_tokens {
            if !special {
                return Err(unsupported("tokens that are looked for before words are cut"));
            }
            controls.push(same(known("added", &content)?, id, "added")?);
            texts.push(content);
        }
        let (before, behind) = match self.post_processor {
            PostProcessor::BertProcessing { cls, sep } => {
                let around = (
                    same(known("first", &cls.0)?, cls.1, "first")?,
                    same(known("last", &sep.0)?, sep.1, "last")?,
                );
                texts.extend([cls.0, sep.0]);
                around
            }
            PostProcessor::TemplateProcessing { single } => match single.as_slice() {
                [
                    Part::SpecialToken { id: cls, type_id: 0 },
                    Part::Sequence { id: text, type_id: 0 },
                    Part::SpecialToken { id: sep, type_id: 0 },
                ] if &**text == "A" => {
                    texts.extend([cls.clone(), sep.clone()]);
                    (known("first", cls)?, known("last", sep)?)
                }
                _ => return Err(unsupported("something else than one token before and behind")),
            },
            PostProcessor::Other => return Err(unsupported("another post-processor than BERT's")),
        };
        controls.extend([before, behind]);
        controls.sort_unstable();
        controls.dedup();
        // Texts have it: whoever cut one elsewhere may bring it back.
        controls.retain(|id| *id != unknown);
        let rules = Rules {
            clean_text,
            handle_chinese_chars,
            strip_accents: strip_accents.unwrap_or(lowercase),
            lowercase,
            word_chars: max_input_chars_per_word,
        };
        // Else a text could write them.
        if texts.iter().any(|text| *text != unk_token && rules.is_word(text)) {
            return Err(unsupported("a control token that a text could spell"));
        }
        Ok(Tokenizer { rules, pieces, before, behind, controls, unknown })
    }
}

/// The id of a token that the vocabulary has as `id`, and the file elsewhere as `stated`.
fn same(id: u32, stated: u32, what: &'static str) -> Result<u32, FileError> {
    if id == stated { Ok(id) } else { Err(FileError::Token { what }) }
}

/// Largest file: a vocabulary of 119 547 tokens, that of the models for a hundred languages, has 2 MB.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// Most tokens.
pub const MAX_VOCABULARY: u32 = 1 << 20;
/// Most characters of a word that is looked up; files say 100. It bounds the work for each.
pub const MAX_WORD_CHARS: usize = 256;
