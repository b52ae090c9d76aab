//! The byte-level BPE tokenizer described by the GGUF metadata. Text to encode is untrusted; tables are
//! checked when the model is loaded.
//!
//! The `tokenizers` crate cuts text into words; merging them is done here (`bpe.rs`). Splitting at control
//! tokens and decoding are done here too, because who may write a control token is a question of trust
//! (see `defuse.rs`).

use std::collections::{HashMap, HashSet};

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, SplitDelimiterBehavior,
};
use zeroize::Zeroizing;

use crate::bpe::Bpe;
use crate::defuse::{self, TokenTable};
use crate::error::{EngineError, ModelError};
use crate::gguf::Gguf;

/// Vocabulary, merges and token classes of one model.
pub(crate) struct Tokenizer {
    bpe: Bpe,
    splitter: PreTokenizerWrapper,
    pieces: Pieces,
    longest: usize,
    controls: TokenTable,
    defined: TokenTable,
    ends: HashSet<u32>,
    bos: Option<u32>,
    bos_text: String,
    eos_text: String,
}

/// What token ids are spelled with, in one piece of memory: a vocabulary has so many short texts that a
/// block of the heap for each would take more than all of their bytes.
#[derive(Default)]
struct Pieces {
    bytes: Vec<u8>,
    /// Where the spelling of each id ends, and whether it is the name of a control token, which has no
    /// text.
    ends: Vec<(usize, bool)>,
}

impl Pieces {
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
        let family = gguf.string("tokenizer.ggml.model")?;
        if family != "gpt2" {
            return Err(unsupported(family));
        }
        let pre = gguf.string("tokenizer.ggml.pre")?;
        let Some((splitter, defaults)) = splitter(pre)? else {
            return Err(unsupported(&format!("gpt2/{pre}")));
        };
        let tokens = gguf.strings("tokenizer.ggml.tokens")?;
        let types = gguf.u32s("tokenizer.ggml.token_type")?;
        if types.len() != tokens.len() || tokens.is_empty() {
            return Err(inconsistent("token_type does not have one entry per token"));
        }
        let merges = gguf.strings("tokenizer.ggml.merges")?;
        let bpe = Bpe::new(&tokens, merges, defaults.ignore_merges)?;

        let bytes_of = byte_alphabet();
        let mut pieces = Pieces::default();
        let (mut controls, mut defined) = (Vec::new(), Vec::new());
        for (id, (token, kind)) in (0u32..).zip(tokens.iter().zip(types)) {
            match kind {
                UNKNOWN | CONTROL => {
                    controls.push(((*token).to_owned(), id));
                    pieces.push(token.as_bytes(), true);
                }
                USER_DEFINED => {
                    defined.push(((*token).to_owned(), id));
                    pieces.push(token.as_bytes(), false);
                }
                _ => pieces.push(&decode_piece(token, &bytes_of), false),
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
        let known = |id: u32| usize::try_from(id).is_ok_and(|id| id < tokens.len());
        if !bos.into_iter().chain(ends.iter().copied()).all(known) {
            return Err(inconsistent("a special token id is outside the vocabulary"));
        }
        let add_bos = gguf.bool_opt("tokenizer.ggml.add_bos_token")?.unwrap_or(defaults.add_bos);
        Ok(Self {
            bpe,
            splitter,
            longest: tokens.iter().map(|t| t.len()).max().unwrap_or(0),
            bos_text: text_of(bos).to_owned(),
            eos_text: text_of(eos).to_owned(),
            pieces,
            controls: TokenTable::new(controls),
            defined: TokenTable::new(defined),
            ends,
            bos: bos.filter(|_| add_bos),
        })
    }

    /// Number of token ids.
    pub(crate) const fn len(&self) -> usize {
        self.pieces.ends.len()
    }

    /// A bound of the bytes of text one token covers: text of `n` bytes has at least `n / longest()`
    /// tokens. Byte-level spelling is never shorter than the bytes it spells.
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
        match self.pieces.get(id) {
            Some((bytes, false)) => bytes,
            _ => &[],
        }
    }

    /// Bytes of `id`, or the name of a control token, and whether it is one.
    pub(crate) fn spelling(&self, id: u32) -> (&[u8], bool) {
        self.pieces.get(id).unwrap_or((&[], true))
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

    /// A token has at least one byte, so this never grows and leaves no copy behind.
    fn ids_for(&self, text: &str) -> Zeroizing<Vec<u32>> {
        Zeroizing::new(Vec::with_capacity(text.len().saturating_add(1)))
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
        let mut split = PreTokenizedString::from(text);
        self.splitter.pre_tokenize(&mut split).map_err(|_| EngineError::Unencodable)?;
        let before = ids.len();
        for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            self.bpe.encode(word, ids);
        }
        let new = ids.get(before..).unwrap_or_default();
        let spelled: usize = new.iter().map(|id| self.bytes(*id).len()).sum();
        // The merger drops characters the vocabulary does not have. Ids that do not spell the whole
        // text would answer another prompt than the user's.
        if spelled == text.len() { Ok(()) } else { Err(EngineError::Unencodable) }
    }
}

struct Defaults {
    add_bos: bool,
    ignore_merges: bool,
}

/// How text is cut into words before merging, by `tokenizer.ggml.pre`.
///
/// The patterns take steps in proportion to one run of white space, and the regex engine gives up after
/// a million, which `tokenizers` hides: the rest becomes one word. A prompt of
/// [`crate::MAX_PROMPT_BYTES`] stays far below (one of 2^20 spaces does not).
fn splitter(pre: &str) -> Result<Option<(PreTokenizerWrapper, Defaults)>, ModelError> {
    let byte_level = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, false, use_regex));
    let sequence =
        |parts: Vec<PreTokenizerWrapper>| PreTokenizerWrapper::from(Sequence::new(parts));
    let plain = Defaults { add_bos: false, ignore_merges: false };
    Ok(Some(match pre {
        "gpt-2" => (byte_level(true), plain),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
            (sequence(vec![Digits::new(true).into(), byte_level(true)]), plain)
        }
        "llama-bpe" | "llama3" | "llama-v3" => {
            let pattern = SplitPattern::Regex(LLAMA3_PATTERN.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map_err(|_| inconsistent("the word pattern does not compile"))?;
            let defaults = Defaults { add_bos: true, ignore_merges: true };
            (sequence(vec![split.into(), byte_level(false)]), defaults)
        }
        _ => return Ok(None),
    }))
}

/// Bytes of a byte-level token; a token written with other characters is its own text.
fn decode_piece(token: &str, alphabet: &HashMap<char, u8>) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(|c| alphabet.get(&c).copied()).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The printable stand-ins of GPT-2's byte-level alphabet: printable Latin-1 stands for itself, the
/// other bytes in order for the characters from U+0100.
pub(crate) fn byte_alphabet() -> HashMap<char, u8> {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let own = (0..=u8::MAX).filter(printable).map(|b| (char::from(b), b));
    let shifted = ('\u{100}'..).zip((0..=u8::MAX).filter(|b| !printable(b)));
    own.chain(shifted).collect()
}

fn unsupported(got: &str) -> ModelError {
    ModelError::TokenizerUnsupported { got: got.to_owned(), supported: SUPPORTED }
}

const fn inconsistent(what: &'static str) -> ModelError {
    ModelError::TokenizerInvalid { what }
}

// `enum llama_token_type`.
const UNKNOWN: u32 = 2;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;

/// Control tokens that end a turn even where the metadata names only one of them.
const END_TOKENS: [&str; 6] =
    ["<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "</s>"];

const SUPPORTED: &str = "gpt2 with pre-tokenizer smollm, starcoder, refact, command-r, codeshell, \
                         gpt-2, llama-bpe";

/// Word pattern of Llama 3, from its published tokenizer.
pub(crate) const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

#[cfg(test)]
#[path = "tokenizer_tests.rs"]
mod tests;
