//! The tokenizer described by the GGUF metadata: byte-level BPE, or SentencePiece pieces with scores.
//! Text to encode is untrusted; tables are checked when the model is loaded.
//!
//! The `tokenizers` crate cuts text into words, where there are words; merging is done here, without a
//! cache of what past prompts were made of. Splitting at control tokens and decoding are done here too,
//! because who may write a control token is a question of trust (see `defuse.rs`).

mod bpe;
mod spm;
mod words;

use std::collections::HashSet;

use zeroize::Zeroizing;

pub(crate) use spm::{SPACE, byte_of};
#[cfg(any(test, feature = "testing"))]
pub(crate) use words::byte_alphabet;
pub(crate) use words::{LLAMA3_PATTERN, QWEN2_PATTERN, TEKKEN_PATTERN};

use crate::defuse::{self, TokenTable};
use crate::error::{EngineError, ModelError};
use crate::gguf::Gguf;
use bpe::Bpe;
use spm::Pieces;
use words::{Alphabet, Words};

/// Vocabulary, merges and token classes of one model.
pub(crate) struct Tokenizer {
    merger: Merger,
    spellings: Spellings,
    longest: usize,
    controls: TokenTable,
    defined: TokenTable,
    ends: HashSet<u32>,
    bos: Option<u32>,
    bos_text: String,
    eos_text: String,
}

/// `tokenizer.ggml.model`.
enum Merger {
    /// `gpt2`: words are cut out first, then their bytes are joined by a list of merges.
    Words(Box<Words>),
    /// `llama`: characters are joined by the scores of pieces, or with [`MERGED_PIECES`] by a list.
    Pieces(Pieces),
}

/// What token ids are spelled with, in one piece of memory: a vocabulary has so many short texts that a
/// block of the heap for each would take more than all of their bytes.
#[derive(Default)]
struct Spellings {
    bytes: Vec<u8>,
    /// Where the spelling of each id ends, and whether it is the name of a control token, which has no
    /// text.
    ends: Vec<(usize, bool)>,
}

impl Spellings {
    fn push(&mut self, bytes: &[u8], control: bool) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push((self.bytes.len(), control));
    }

    fn get(&self, id: u32) -> Option<(&[u8], bool)> {
        let id = usize::try_from(id).ok()?;
        let before = id.checked_sub(1);
        let start = before.map_or(Some(0), |id| self.ends.get(id).map(|(end, _)| *end))?;
        let (end, control) = *self.ends.get(id)?;
        Some((self.bytes.get(start..end)?, control))
    }
}

impl Tokenizer {
    /// Reads the tokenizer of `gguf`.
    pub(crate) fn read(gguf: &Gguf) -> Result<Self, ModelError> {
        let tokens = gguf.strings("tokenizer.ggml.tokens")?;
        let types = gguf.u32s("tokenizer.ggml.token_type")?;
        if types.len() != tokens.len() || tokens.is_empty() {
            return Err(inconsistent("token_type does not have one entry per token"));
        }
        let (merger, adds_bos) = match gguf.string("tokenizer.ggml.model")? {
            "gpt2" => {
                let (words, adds_bos) = Words::read(gguf, &tokens, &types)?;
                (Merger::Words(Box::new(words)), adds_bos)
            }
            "llama" => (Merger::Pieces(pieces(gguf, &tokens, &types)?), true),
            MERGED_PIECES => (Merger::Pieces(merged_pieces(gguf, &tokens, &types)?), true),
            other => return Err(unsupported(other)),
        };
        let (alphabet, mut spelled) = (Alphabet::new(), Vec::new());
        let mut spellings = Spellings::default();
        let (mut controls, mut defined) = (Vec::new(), Vec::new());
        for (id, (token, kind)) in (0u32..).zip(tokens.iter().zip(types)) {
            match (kind, &merger) {
                (UNKNOWN | CONTROL, _) => {
                    controls.push(((*token).to_owned(), id));
                    spellings.push(token.as_bytes(), true);
                }
                (USER_DEFINED, _) => {
                    defined.push(((*token).to_owned(), id));
                    spellings.push(token.as_bytes(), false);
                }
                (_, Merger::Words(_)) => {
                    alphabet.decode(token, &mut spelled);
                    spellings.push(&spelled, false);
                }
                (BYTE, Merger::Pieces(_)) => {
                    let byte = byte_of(token);
                    let byte = byte.ok_or_else(|| inconsistent("a byte token names no byte"))?;
                    spellings.push(&[byte], false);
                }
                (_, Merger::Pieces(_)) => {
                    spellings.push(token.replace(SPACE, " ").as_bytes(), false);
                }
            }
        }
        let text_of = |id: Option<u32>| {
            id.and_then(|id| tokens.get(usize::try_from(id).ok()?)).copied().unwrap_or_default()
        };
        let bos = gguf.u32_opt("tokenizer.ggml.bos_token_id")?;
        let eos = gguf.u32_opt("tokenizer.ggml.eos_token_id")?;
        let mut ends: HashSet<u32> = controls
            .iter()
            .filter(|(text, _)| END_TOKENS.contains(&text.as_str()))
            .map(|(_, id)| *id)
            .collect();
        for key in ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            ends.extend(gguf.u32_opt(key)?);
        }
        ends.extend(eos);
        if gguf.has(END_IDS) {
            ends.extend(gguf.u32s(END_IDS)?);
        }
        // An answer would go on until its limit, and be paid for.
        if ends.is_empty() {
            return Err(inconsistent("no token ends a turn"));
        }
        let known = |id: u32| usize::try_from(id).is_ok_and(|id| id < tokens.len());
        if !bos.into_iter().chain(ends.iter().copied()).all(known) {
            return Err(inconsistent("a special token id is outside the vocabulary"));
        }
        let add_bos = gguf.bool_opt("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos);
        Ok(Self {
            merger,
            longest: tokens.iter().map(|t| t.len()).max().unwrap_or(0),
            bos_text: text_of(bos).to_owned(),
            eos_text: text_of(eos).to_owned(),
            spellings,
            controls: TokenTable::new(controls),
            defined: TokenTable::new(defined),
            ends,
            bos: bos.filter(|_| add_bos),
        })
    }

    /// Number of token ids.
    pub(crate) const fn len(&self) -> usize {
        self.spellings.ends.len()
    }

    /// A bound of the bytes of text one token covers: text of `n` bytes has at least `n / longest()`
    /// tokens. The spelling of a token is never shorter than the bytes it spells.
    pub(crate) const fn longest(&self) -> usize {
        self.longest
    }

    /// Text of the token that begins a text, for the chat template.
    pub(crate) fn bos_text(&self) -> &str {
        &self.bos_text
    }

    /// Text of the token that ends a text, for the chat template.
    pub(crate) fn eos_text(&self) -> &str {
        &self.eos_text
    }

    /// Whether the model ends its turn with `id`.
    pub(crate) fn ends_turn(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The tokens with which the model ends its turn, in order.
    pub(crate) fn ends(&self) -> Vec<u32> {
        let mut ends: Vec<u32> = self.ends.iter().copied().collect();
        ends.sort_unstable();
        ends
    }

    /// Bytes of `id`; none for a control token.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        match self.spellings.get(id) {
            Some((bytes, false)) => bytes,
            _ => &[],
        }
    }

    /// Bytes of `id`, or the name of a control token, and whether it is one.
    pub(crate) fn spelling(&self, id: u32) -> (&[u8], bool) {
        self.spellings.get(id).unwrap_or((&[], true))
    }

    /// The control token that `text` spells.
    pub(crate) fn control(&self, text: &str) -> Option<u32> {
        let (found, id) = self.controls.find(text, 0)?;
        (found.len() == text.len()).then_some(id)
    }

    /// Content of a message, made safe to put into the chat template.
    pub(crate) fn defuse(&self, content: &str) -> Zeroizing<String> {
        defuse::defuse(content, &self.controls)
    }

    /// Ids of plain text: control tokens in it are text.
    pub(crate) fn encode_text(&self, text: &str) -> Result<Zeroizing<Vec<u32>>, EngineError> {
        let mut ids = self.ids_for(text);
        ids.extend(self.bos);
        self.encode_plain(text, &mut ids)?;
        Ok(ids)
    }

    /// Ids of a rendered chat template: the control tokens it spells are control tokens, and
    /// defused content is restored.
    pub(crate) fn encode_rendered(&self, text: &str) -> Result<Zeroizing<Vec<u32>>, EngineError> {
        let mut ids = self.ids_for(text);
        let mut at = 0;
        if self.bos.is_some() && !text.starts_with(&self.bos_text) {
            ids.extend(self.bos);
        }
        while let Some((found, id)) = self.controls.find(text, at) {
            let before = defuse::restore(text.get(at..found.start).unwrap_or_default());
            self.encode_plain(&before, &mut ids)?;
            ids.push(id);
            at = found.end;
        }
        self.encode_plain(&defuse::restore(text.get(at..).unwrap_or_default()), &mut ids)?;
        Ok(ids)
    }

    /// Never grows, so that it leaves no copy behind: a token has at least one byte, the first may be
    /// the model's own, and a space may be added to the text before, and after each token of two bytes
    /// or more that stands in it.
    fn ids_for(&self, text: &str) -> Zeroizing<Vec<u32>> {
        Zeroizing::new(Vec::with_capacity(text.len().saturating_add(2)))
    }

    fn encode_plain(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EngineError> {
        let mut at = 0;
        while let Some((found, id)) = self.defined.find(text, at) {
            self.encode_words(text.get(at..found.start).unwrap_or_default(), ids)?;
            ids.push(id);
            at = found.end;
        }
        self.encode_words(text.get(at..).unwrap_or_default(), ids)
    }

    fn encode_words(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EngineError> {
        if text.is_empty() {
            return Ok(());
        }
        let first = ids.len();
        let added = match &self.merger {
            Merger::Words(words) => words.encode(text, ids).map(|()| 0)?,
            Merger::Pieces(pieces) => pieces.encode(text, ids).map(|()| pieces.added())?,
        };
        let new = ids.get(first..).unwrap_or_default();
        let spelled = new.iter().fold(0, |n: usize, id| n.saturating_add(self.bytes(*id).len()));
        // The merger drops characters the vocabulary does not have. Ids that do not spell the whole
        // text would answer another prompt than the user's.
        if spelled == text.len().saturating_add(added) {
            Ok(())
        } else {
            Err(EngineError::Unencodable)
        }
    }
}

/// The pieces text may become: ordinary and user-defined ones, never a control token.
fn pieces(gguf: &Gguf, tokens: &[&str], types: &[u32]) -> Result<Pieces, ModelError> {
    let scores = gguf.f32s("tokenizer.ggml.scores")?;
    if scores.len() != tokens.len() {
        return Err(inconsistent("scores does not have one entry per token"));
    }
    // Rewriting text would give ids that spell another prompt than the user's.
    for key in ["tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.precompiled_charsmap"] {
        if gguf.has(key) && !matches!(gguf.bool_opt(key), Ok(Some(false))) {
            return Err(ModelError::UnsupportedFeature { feature: format!("metadata {key}") });
        }
    }
    let all = (0u32..).zip(tokens).zip(types).zip(scores);
    let ordinary = all.filter_map(|(((id, token), kind), score)| {
        matches!(*kind, NORMAL | USER_DEFINED).then_some((*token, id, score))
    });
    Pieces::scored(ordinary, bytes_of(tokens, types), space_first(gguf)?)
}

/// As [`pieces`], joined by a list of merges.
fn merged_pieces(gguf: &Gguf, tokens: &[&str], types: &[u32]) -> Result<Pieces, ModelError> {
    let ordinary = (0u32..).zip(tokens).zip(types).filter_map(|((id, token), kind)| {
        matches!(*kind, NORMAL | USER_DEFINED).then_some((*token, id))
    });
    let bpe = Bpe::new(ordinary, gguf.strings("tokenizer.ggml.merges")?, false)?;
    Ok(Pieces::merged(bpe, bytes_of(tokens, types), space_first(gguf)?))
}

fn space_first(gguf: &Gguf) -> Result<bool, ModelError> {
    Ok(gguf.bool_opt("tokenizer.ggml.add_space_prefix")?.unwrap_or(true))
}

/// The tokens that stand for a byte.
fn bytes_of(tokens: &[&str], types: &[u32]) -> impl Iterator<Item = (u8, u32)> {
    let bytes = (0u32..).zip(tokens).zip(types).filter(|(_, kind)| **kind == BYTE);
    bytes.filter_map(|((id, token), _)| Some((byte_of(token)?, id)))
}

fn unsupported(got: &str) -> ModelError {
    ModelError::TokenizerUnsupported { got: got.to_owned(), supported: SUPPORTED }
}

const fn inconsistent(what: &'static str) -> ModelError {
    ModelError::TokenizerInvalid { what }
}

/// `tokenizer.ggml.model` of pieces that are joined by a list of merges, as `tokenizer.json` has them. A
/// name of our own: GGUF files have scores instead.
pub(crate) const MERGED_PIECES: &str = "spm-merges";

/// The ids of further tokens that end a turn. A name of our own: GGUF files have one each of a few kinds.
pub(crate) const END_IDS: &str = "tokenizer.ggml.end_token_ids";

// `enum llama_token_type`.
const NORMAL: u32 = 1;
const UNKNOWN: u32 = 2;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;
const BYTE: u32 = 6;

/// Control tokens that end a turn even where the metadata names only one of them.
pub(crate) const END_TOKENS: [&str; 7] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "</s>",
    "<end_of_turn>",
];

const SUPPORTED: &str = "llama; gpt2 with pre-tokenizer gpt-2, smollm, starcoder, refact, command-r, \
                         codeshell, llama-bpe, qwen2, tekken";

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
