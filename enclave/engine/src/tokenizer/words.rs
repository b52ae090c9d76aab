//! Byte-level BPE (`gpt2`): text is cut into words by the pattern its vocabulary was trained with, and
//! the bytes of each word are joined by a list of merges. Another pattern gives other tokens and worse
//! answers, so an unknown one is refused by name.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, SplitDelimiterBehavior,
};

use super::bpe::Bpe;
use super::{CONTROL, UNKNOWN, inconsistent, unsupported};
use crate::error::{EngineError, ModelError};
use crate::gguf::Gguf;

/// Cuts words and merges their bytes.
pub(crate) struct Words {
    pub(super) bpe: Bpe,
    pub(super) splitter: PreTokenizerWrapper,
}

impl Words {
    /// Reads the pattern's name and the merges; whether a text begins with BOS by default.
    pub(super) fn read(
        gguf: &Gguf,
        tokens: &[&str],
        types: &[u32],
    ) -> Result<(Self, bool), ModelError> {
        let pre = gguf.string("tokenizer.ggml.pre")?;
        let Some((splitter, defaults)) = splitter(pre)? else {
            return Err(unsupported(&format!("gpt2/{pre}")));
        };
        // Without control tokens: a word that looks like one is text.
        let ordinary = (0u32..).zip(tokens).zip(types).filter_map(|((id, token), kind)| {
            (![UNKNOWN, CONTROL].contains(kind)).then_some((*token, id))
        });
        let merges = gguf.strings("tokenizer.ggml.merges")?;
        let bpe = Bpe::new(ordinary, merges, defaults.ignore_merges)?;
        Ok((Self { bpe, splitter }, defaults.add_bos))
    }

    /// Appends the ids of `text`. What the vocabulary does not have is left out.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EngineError> {
        let mut split = PreTokenizedString::from(text);
        self.splitter.pre_tokenize(&mut split).map_err(|_| EngineError::Unencodable)?;
        for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            self.bpe.encode(word, ids);
        }
        Ok(())
    }
}

/// What a pattern's name says beside the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Defaults {
    /// Whether a text begins with BOS if the file does not say.
    pub(super) add_bos: bool,
    /// Whether a word that is a token is that token, whatever the merges say.
    pub(super) ignore_merges: bool,
}

/// How text is cut into words before merging, by `tokenizer.ggml.pre`.
///
/// The patterns take steps in proportion to one run of white space, and the regex engine gives up after
/// a million, which `tokenizers` hides: the rest becomes one word. A prompt of
/// [`crate::MAX_PROMPT_BYTES`] stays far below (one of 2^20 spaces does not).
pub(super) fn splitter(pre: &str) -> Result<Option<(PreTokenizerWrapper, Defaults)>, ModelError> {
    let byte_level = |use_regex| PreTokenizerWrapper::from(ByteLevel::new(false, false, use_regex));
    let sequence =
        |parts: Vec<PreTokenizerWrapper>| PreTokenizerWrapper::from(Sequence::new(parts));
    let pattern = |regex: &str| {
        let regex = SplitPattern::Regex(regex.to_owned());
        Split::new(regex, SplitDelimiterBehavior::Isolated, false)
            .map(|split| sequence(vec![split.into(), byte_level(false)]))
            .map_err(|_| inconsistent("the word pattern does not compile"))
    };
    let plain = Defaults { add_bos: false, ignore_merges: false };
    Ok(Some(match pre {
        "gpt-2" => (byte_level(true), plain),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
            (sequence(vec![Digits::new(true).into(), byte_level(true)]), plain)
        }
        "llama-bpe" | "llama3" | "llama-v3" => {
            (pattern(LLAMA3_PATTERN)?, Defaults { add_bos: true, ignore_merges: true })
        }
        "qwen2" | "deepseek-r1-qwen" => (pattern(QWEN2_PATTERN)?, plain),
        "tekken" => (pattern(TEKKEN_PATTERN)?, Defaults { add_bos: true, ignore_merges: true }),
        _ => return Ok(None),
    }))
}

/// The bytes that the characters of GPT-2's byte-level alphabet stand for.
pub(super) struct Alphabet {
    /// By code point.
    bytes: Vec<Option<u8>>,
}

impl Alphabet {
    pub(super) fn new() -> Self {
        let mut bytes = Vec::new();
        for (character, byte) in byte_alphabet() {
            let at = place(character);
            bytes.resize(bytes.len().max(at.saturating_add(1)), None);
            if let Some(place) = bytes.get_mut(at) {
                *place = Some(byte);
            }
        }
        Self { bytes }
    }

    /// Puts the bytes of a byte-level token into `out`; a token written with other characters is its own
    /// text.
    pub(super) fn decode(&self, token: &str, out: &mut Vec<u8>) {
        let byte = |character| self.bytes.get(place(character)).copied().flatten();
        out.clear();
        for character in token.chars() {
            let Some(byte) = byte(character) else {
                out.clear();
                return out.extend_from_slice(token.as_bytes());
            };
            out.push(byte);
        }
    }
}

fn place(character: char) -> usize {
    usize::try_from(u32::from(character)).unwrap_or(usize::MAX)
}

/// The alphabet: printable Latin-1 stands for itself, the other bytes in order for the characters from
/// U+0100.
pub(crate) fn byte_alphabet() -> impl Iterator<Item = (char, u8)> {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let own = (0..=u8::MAX).filter(printable).map(|b| (char::from(b), b));
    let shifted = ('\u{100}'..).zip((0..=u8::MAX).filter(move |b| !printable(b)));
    own.chain(shifted)
}

/// Word pattern of Llama 3, from its published tokenizer.
pub(crate) const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Of Qwen 2 and 3: digits stand alone.
pub(crate) const QWEN2_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Of Mistral NeMo: a capital begins a word, and digits stand alone.
pub(crate) const TEKKEN_PATTERN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
