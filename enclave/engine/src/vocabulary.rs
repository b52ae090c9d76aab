//! The tokenizer's files of a checkpoint, `tokenizer.json` and `tokenizer_config.json`, as the metadata
//! that a GGUF file has for them. What the tokenizer of this crate would do otherwise than the file says
//! is refused, with two exceptions that change no text: Qwen's files put text into composed form first
//! (NFC), here it is taken as it was written, as with a GGUF file of the same model; and a U+2581 that a
//! text itself brings stays one, where pieces stand for spaces with it.

use core::fmt;
use core::marker::PhantomData;
use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::error::ModelError;
use crate::gguf::{Array, Gguf, Texts};
use crate::template::{DEFAULT_TEMPLATE, TOOLS_TEMPLATE};
use crate::tokenizer::{
    END_IDS, END_TOKENS, LLAMA3_PATTERN, MERGED_PIECES, QWEN2_PATTERN, SPACE, TEKKEN_PATTERN,
    byte_of,
};

/// `tokenizer.json`.
#[derive(Deserialize)]
pub(crate) struct File {
    #[serde(default)]
    added_tokens: List<Added>,
    normalizer: Option<Box<RawValue>>,
    pre_tokenizer: Option<Box<RawValue>>,
    post_processor: Option<Box<RawValue>>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    /// Whether it is a control token.
    #[serde(default)]
    special: bool,
    /// Whether it is looked for in the text that was normalised.
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Entries,
    merges: List<Merge>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    dropout: Option<f32>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

/// Both ways in which merges are written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair([String; 2]),
}

/// A list, as far as it is kept: the rest is counted, to be refused.
struct List<T> {
    items: Vec<T>,
    count: u64,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { items: Vec::new(), count: 0 }
    }
}

impl<T> List<T> {
    fn push(&mut self, item: T) {
        self.count = self.count.saturating_add(1);
        if self.count <= MAX_ENTRIES {
            self.items.push(item);
        }
    }

    fn within(self, what: &'static str) -> Result<Vec<T>, ModelError> {
        let (limit, got) = (MAX_ENTRIES, self.count);
        if got > limit { Err(ModelError::Limit { what, limit, got }) } else { Ok(self.items) }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = List<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<T>, A::Error> {
                let mut list = List::default();
                while let Some(item) = seq.next_element()? {
                    list.push(item);
                }
                Ok(list)
            }
        }
        from.deserialize_seq(Items(PhantomData))
    }
}

/// The tokens of a vocabulary with their ids, in the order of the file, with duplicates.
struct Entries(List<(String, u32)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut list = List::default();
                while let Some(entry) = map.next_entry()? {
                    list.push(entry);
                }
                Ok(Entries(list))
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// `tokenizer_config.json`.
#[derive(Default, Deserialize)]
pub(crate) struct Settings {
    bos_token: Option<Special>,
    eos_token: Option<Special>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    chat_template: Option<Templates>,
}

impl Settings {
    /// Whether an added token is a control token, whatever its own entry says: the first or the last of a
    /// text, one that ends turns, or one in the brackets that markers of turns are written in. Published files
    /// call some of these text (`<|im_start|>` of fine-tunes, `<｜User｜>` of DeepSeek's), and then a message
    /// that spells one would say who speaks. Converters to GGUF go by the brackets as well.
    fn marks(&self, text: &str) -> bool {
        let within = |(open, close): &(&str, &str)| {
            text.strip_prefix(open).is_some_and(|rest| rest.ends_with(close))
        };
        let named = [&self.bos_token, &self.eos_token].into_iter().flatten();
        named.map(Special::text).any(|token| token == text)
            || END_TOKENS.contains(&text)
            || BRACKETS.iter().any(within)
    }
}

/// One chat template, or several by name, of which there is one for requests with tools.
#[derive(Deserialize)]
#[serde(untagged)]
enum Templates {
    One(String),
    Named(Vec<Named>),
}

#[derive(Deserialize)]
struct Named {
    name: String,
    template: String,
}

impl Templates {
    /// The one that `transformers` calls so: a single one is the default.
    fn named(&self, name: &str) -> Option<&str> {
        match self {
            Self::One(text) => (name == DEFAULT_TEMPLATE).then_some(text),
            Self::Named(all) => all.iter().find(|one| one.name == name).map(|one| &*one.template),
        }
    }
}

/// A token by its text, with or without settings of its own.
#[derive(Deserialize)]
#[serde(untagged)]
enum Special {
    Text(String),
    Token { content: String },
}

impl Special {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Token { content: text } => text,
        }
    }
}

/// How text becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Words of bytes, cut as the name in GGUF files says.
    Words(&'static str),
    /// Pieces of characters, with U+2581 for a space; a space goes before the text if asked.
    Pieces { space_first: bool },
}

impl File {
    /// Adds what the file and the settings say, for a model whose embedding has `rows`. Added tokens behind
    /// them are left out: the files of Gemma 3 name one for its images, which only the models that see have
    /// a row for. Text that spells it is text. Turns end with `ends` too.
    ///
    /// # Errors
    /// [`ModelError::TokenizerUnsupported`], [`ModelError::TokenizerInvalid`], [`ModelError::Limit`].
    pub(crate) fn describe(
        self,
        settings: &Settings,
        template: Option<String>,
        rows: usize,
        ends: Vec<u32>,
        gguf: &mut Gguf,
    ) -> Result<(), ModelError> {
        let way = self.way()?;
        let adds_bos = self.adds_bos(settings)?;
        let mut added = self.added_tokens.within("added tokens")?;
        added.retain(|token| usize::try_from(token.id).is_ok_and(|id| id < rows));
        let vocab = self.model.vocab.0.within("vocabulary")?;
        let list = self.model.merges.within("merges")?;
        let most = added.len().saturating_add(vocab.len());
        let mut tokens: Vec<Option<(String, u32)>> = vec![None; most];
        let mut ids = HashMap::new();
        let added = added.into_iter().map(|token| -> Result<_, ModelError> {
            let control =
                token.special || ends.contains(&token.id) || settings.marks(&token.content);
            Ok((kind_of(&token, control, way)?, token.content, token.id))
        });
        let normal = vocab.into_iter().map(|(text, id)| {
            let byte = matches!(way, Way::Pieces { .. }) && byte_of(&text).is_some();
            Ok((if byte { BYTE } else { NORMAL }, text, id))
        });
        for token in added.chain(normal) {
            let (kind, text, id) = token?;
            let slot = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id));
            let slot = slot.ok_or(NO_TOKEN)?;
            match slot {
                // Added tokens are in the vocabulary too.
                Some((known, _)) if *known == text => continue,
                Some(_) => return Err(inconsistent("two tokens have the same id")),
                None => *slot = Some((text.clone(), kind)),
            }
            if ids.insert(text, id).is_some() {
                return Err(inconsistent("a token has two ids"));
            }
        }
        // Added tokens that are in the vocabulary too were counted twice.
        tokens.truncate(ids.len());
        let (mut texts, mut kinds) = (Texts::default(), Vec::new());
        for token in tokens {
            let (text, kind) = token.ok_or(NO_TOKEN)?;
            texts.push(&text);
            kinds.push(kind);
        }
        let mut merges = Texts::default();
        for merge in list {
            match merge {
                Merge::Text(text) => merges.push(&text),
                Merge::Pair(pair) if pair.iter().any(|part| part.contains(' ')) => {
                    return Err(inconsistent("a merge of a token with a space in it"));
                }
                Merge::Pair([a, b]) => merges.push(&format!("{a} {b}")),
            }
        }
        gguf.put_array("tokenizer.ggml.tokens", Array::Texts(texts));
        gguf.put_array("tokenizer.ggml.token_type", Array::Integers(kinds));
        gguf.put_array("tokenizer.ggml.merges", Array::Texts(merges));
        gguf.put_array(END_IDS, Array::Integers(ends));
        let mut put = |key: &str, value| {
            gguf.content.metadata.insert(format!("tokenizer.{key}"), value);
        };
        match way {
            Way::Words(pre) => {
                put("ggml.model", Value::String("gpt2".to_owned()));
                put("ggml.pre", Value::String(pre.to_owned()));
            }
            Way::Pieces { space_first } => {
                put("ggml.model", Value::String(MERGED_PIECES.to_owned()));
                put("ggml.add_space_prefix", Value::Bool(space_first));
            }
        }
        for (key, token) in [("bos", &settings.bos_token), ("eos", &settings.eos_token)] {
            let Some(token) = token else { continue };
            let id = ids.get(token.text()).ok_or(NO_TOKEN)?;
            put(&format!("ggml.{key}_token_id"), Value::U32(*id));
        }
        put("ggml.add_bos_token", Value::Bool(adds_bos));
        let named = |name| settings.chat_template.as_ref().and_then(|all| all.named(name));
        // A file of the template alone stands for all that are here.
        if let (None, Some(tools)) = (&template, named(TOOLS_TEMPLATE)) {
            put(&format!("chat_template.{TOOLS_TEMPLATE}"), Value::String(tools.to_owned()));
        }
        if let Some(template) = template.or_else(|| named(DEFAULT_TEMPLATE).map(str::to_owned)) {
            put("chat_template", Value::String(template));
        }
        Ok(())
    }

    /// How text becomes tokens, if it is a way that is known.
    fn way(&self) -> Result<Way, ModelError> {
        let model = &self.model;
        let kind = model.kind.as_deref().unwrap_or("BPE");
        let marks = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
        let unmarked = marks.into_iter().flatten().all(String::is_empty);
        let way = if kind != "BPE" || model.dropout.is_some() || !unmarked {
            None
        } else if model.byte_fallback {
            self.pieces()?
        } else {
            self.words()?
        };
        way.ok_or_else(|| ModelError::TokenizerUnsupported {
            got: format!("{kind} with these steps before it"),
            supported: "byte-level BPE cut as by GPT-2, SmolLM, Llama 3, Qwen 2 or Mistral NeMo; \
                        BPE with fallback to bytes as of Llama 2, Mistral 7B or Gemma",
        })
    }

    fn words(&self) -> Result<Option<Way>, ModelError> {
        let cuts = steps(self.pre_tokenizer.as_deref(), "pretokenizers")?;
        let normalised = steps(self.normalizer.as_deref(), "normalizers")?;
        let byte_level = |step: &Json, regex: bool| {
            // Absent means true.
            is(step, "ByteLevel")
                && step["add_prefix_space"] == false
                && (step["use_regex"] != false) == regex
        };
        let pattern = |step: &Json| {
            let isolated =
                is(step, "Split") && step["behavior"] == "Isolated" && step["invert"] == false;
            let regex = step.pointer("/pattern/Regex").and_then(Json::as_str);
            let known = PATTERNS.iter().find(|(known, _)| Some(*known) == regex);
            known.filter(|_| isolated).map(|(_, name)| *name)
        };
        let name = match cuts.as_slice() {
            [last] if byte_level(last, true) => Some("gpt-2"),
            [first, last]
                if is(first, "Digits")
                    && first["individual_digits"] == true
                    && byte_level(last, true) =>
            {
                Some("smollm")
            }
            [first, last] if byte_level(last, false) => pattern(first),
            _ => None,
        };
        // Whether a word that is a token is not merged goes with the pattern.
        let whole = matches!(name, Some("llama-bpe" | "tekken"));
        let composed = matches!(normalised.as_slice(), [step] if is(step, "NFC"));
        let plain = normalised.is_empty() || (composed && name == Some("qwen2"));
        Ok(name.filter(|_| plain && whole == self.model.ignore_merges).map(Way::Words))
    }

    fn pieces(&self) -> Result<Option<Way>, ModelError> {
        let marks = |step: &Json| {
            let replaced = step.pointer("/pattern/String").is_some_and(|space| space == " ");
            is(step, "Replace") && replaced && step["content"] == SPACE
        };
        let prepends = |step: &Json| is(step, "Prepend") && step["prepend"] == SPACE;
        // Spaces are gone by then, so this cuts nothing.
        let idle = |step: &Json| {
            is(step, "Split") && step.pointer("/pattern/String").is_some_and(|space| space == " ")
        };
        let cuts = steps(self.pre_tokenizer.as_deref(), "pretokenizers")?;
        let space_first = match steps(self.normalizer.as_deref(), "normalizers")?.as_slice() {
            [only] if marks(only) => Some(false),
            [first, second] if prepends(first) && marks(second) => Some(true),
            _ => None,
        };
        let whole = cuts.iter().all(idle) && !self.model.ignore_merges;
        Ok(space_first.filter(|_| whole).map(|space_first| Way::Pieces { space_first }))
    }

    /// Whether a text begins with the token for that: as the settings say, or else what stands around a
    /// text.
    fn adds_bos(&self, settings: &Settings) -> Result<bool, ModelError> {
        let unsupported = |got: &str| ModelError::TokenizerUnsupported {
            got: got.to_owned(),
            supported: "texts that begin with the token for it, or with none",
        };
        if settings.add_eos_token == Some(true) {
            return Err(unsupported("a token behind each text"));
        }
        let mut adds = false;
        for step in steps(self.post_processor.as_deref(), "processors")? {
            if is(&step, "ByteLevel") {
                continue;
            }
            let parts = step.get("single").and_then(Json::as_array);
            let parts = parts.filter(|_| is(&step, "TemplateProcessing"));
            let id =
                |part: &Json, of: &str| part.pointer(of).and_then(Json::as_str).map(str::to_owned);
            let text = |part: &Json| id(part, "/Sequence/id").as_deref() == Some("A");
            adds = match parts.map(Vec::as_slice) {
                Some([only]) if text(only) => adds,
                Some([first, last]) if text(last) => {
                    let bos = settings.bos_token.as_ref().map(Special::text);
                    if id(first, "/SpecialToken/id").as_deref() != bos || bos.is_none() {
                        return Err(unsupported("another token before each text"));
                    }
                    true
                }
                _ => return Err(unsupported("other tokens around each text")),
            };
        }
        let adds = settings.add_bos_token.unwrap_or(adds);
        if adds && settings.bos_token.is_none() {
            return Err(unsupported("a token before each text that the settings do not name"));
        }
        Ok(adds)
    }
}

/// The type of an added token, which may be a control token.
fn kind_of(token: &Added, control: bool, way: Way) -> Result<u32, ModelError> {
    let (pieces, marked) = (matches!(way, Way::Pieces { .. }), token.content.contains(SPACE));
    let spaced = token.normalized && (marked || token.content.contains(' '));
    if token.single_word || token.lstrip || token.rstrip || (spaced && pieces) {
        let got = format!("an added token (id {}) that takes more than its own text", token.id);
        let supported = "added tokens that are found as they are written";
        return Err(ModelError::TokenizerUnsupported { got, supported });
    }
    Ok(if control {
        CONTROL
    } else if marked && pieces {
        // A piece like others: it is found in text that brings the mark, which here is no space.
        NORMAL
    } else {
        USER_DEFINED
    })
}

/// The steps of a sequence under `name`, or the only one.
fn steps(step: Option<&RawValue>, name: &str) -> Result<Vec<Json>, ModelError> {
    let Some(step) = step else { return Ok(Vec::new()) };
    let (limit, got) = (MAX_STEP_BYTES, step.get().len() as u64);
    if got > limit {
        return Err(ModelError::Limit { what: "a step of the tokenizer", limit, got });
    }
    let invalid = |_| inconsistent("a step of the tokenizer is no JSON");
    let mut step: Json = serde_json::from_str(step.get()).map_err(invalid)?;
    if !is(&step, "Sequence") {
        return Ok(vec![step]);
    }
    Ok(match step.get_mut(name).map(Json::take) {
        Some(Json::Array(steps)) => steps,
        _ => Vec::new(),
    })
}

/// Whether a step is of this type.
fn is(step: &Json, kind: &str) -> bool {
    step.get("type").and_then(Json::as_str) == Some(kind)
}

const fn inconsistent(what: &'static str) -> ModelError {
    ModelError::TokenizerInvalid { what }
}

/// Patterns of words and their names in GGUF files.
const PATTERNS: [(&str, &str); 3] =
    [(LLAMA3_PATTERN, "llama-bpe"), (QWEN2_PATTERN, "qwen2"), (TEKKEN_PATTERN, "tekken")];

/// What markers of turns begin and end with.
const BRACKETS: [(&str, &str); 2] = [("<|", "|>"), ("<\u{ff5c}", "\u{ff5c}>")];

// `enum llama_token_type`.
const NORMAL: u32 = 1;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;
const BYTE: u32 = 6;

const NO_TOKEN: ModelError = inconsistent("an id has no token, or a special token has no id");

/// Most tokens, merges or added tokens. Gemma 3 has 262 144 tokens and 514 906 merges.
const MAX_ENTRIES: u64 = 1 << 20;
/// Longest description of what is done before or after. Published ones have two kilobytes.
const MAX_STEP_BYTES: u64 = 1 << 16;

#[cfg(test)]
#[path = "vocabulary_tests.rs"]
mod tests;
