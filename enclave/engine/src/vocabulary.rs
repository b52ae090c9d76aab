//! The tokenizer's files of a checkpoint, `tokenizer.json` and `tokenizer_config.json`, as the metadata
//! that a GGUF file has for them. What the tokenizer of this crate would do otherwise than the file says
//! is refused.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::error::ModelError;
use crate::gguf::{Array, Gguf, Texts};
use crate::tokenizer::LLAMA3_PATTERN;

/// `tokenizer.json`.
#[derive(Deserialize)]
pub(crate) struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Json>,
    pre_tokenizer: Option<Json>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    /// Whether it is a control token.
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(default)]
    byte_fallback: bool,
}

/// Both ways in which merges are written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair([String; 2]),
}

/// `tokenizer_config.json`.
#[derive(Default, Deserialize)]
pub(crate) struct Settings {
    bos_token: Option<Special>,
    eos_token: Option<Special>,
    add_bos_token: Option<bool>,
    chat_template: Option<String>,
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

impl File {
    /// Adds what the file and the settings say.
    ///
    /// # Errors
    /// [`ModelError::TokenizerUnsupported`], [`ModelError::TokenizerInvalid`].
    pub(crate) fn describe(
        self,
        settings: &Settings,
        template: Option<String>,
        gguf: &mut Gguf,
    ) -> Result<(), ModelError> {
        let pre = self.splitter()?;
        let most = self.added_tokens.len().saturating_add(self.model.vocab.len());
        let mut tokens: Vec<Option<(String, u32)>> = vec![None; most];
        let mut ids = HashMap::new();
        let added = self.added_tokens.into_iter().map(|token| {
            let kind = if token.special { CONTROL } else { USER_DEFINED };
            (token.content, token.id, kind)
        });
        let normal = self.model.vocab.into_iter().map(|(text, id)| (text, id, NORMAL));
        for (text, id, kind) in added.chain(normal) {
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
        for merge in self.model.merges {
            match merge {
                Merge::Text(text) => merges.push(&text),
                Merge::Pair([a, b]) => merges.push(&format!("{a} {b}")),
            }
        }
        gguf.put_array("tokenizer.ggml.tokens", Array::Texts(texts));
        gguf.put_array("tokenizer.ggml.token_type", Array::Integers(kinds));
        gguf.put_array("tokenizer.ggml.merges", Array::Texts(merges));
        let mut put = |key: &str, value| {
            gguf.content.metadata.insert(format!("tokenizer.{key}"), value);
        };
        put("ggml.model", Value::String("gpt2".to_owned()));
        put("ggml.pre", Value::String(pre.to_owned()));
        for (key, token) in [("bos", &settings.bos_token), ("eos", &settings.eos_token)] {
            let Some(token) = token else { continue };
            let id = ids.get(token.text()).ok_or(NO_TOKEN)?;
            put(&format!("ggml.{key}_token_id"), Value::U32(*id));
        }
        if let Some(add) = settings.add_bos_token {
            put("ggml.add_bos_token", Value::Bool(add));
        }
        if let Some(template) = template.or_else(|| settings.chat_template.clone()) {
            put("chat_template", Value::String(template));
        }
        Ok(())
    }

    /// The name in GGUF files of the way text is cut into words.
    fn splitter(&self) -> Result<&'static str, ModelError> {
        let kind = self.model.kind.as_deref().unwrap_or("BPE");
        let steps = match &self.pre_tokenizer {
            Some(step) if step["type"] == "Sequence" => step["pretokenizers"].as_array().cloned(),
            Some(step) => Some(vec![step.clone()]),
            None => None,
        };
        let steps = steps.unwrap_or_default();
        let byte_level = |step: &Json, regex: bool| {
            // Absent means true.
            step["type"] == "ByteLevel"
                && step["add_prefix_space"] == false
                && (step["use_regex"] != false) == regex
        };
        let plain = kind == "BPE" && !self.model.byte_fallback && self.normalizer.is_none();
        match steps.as_slice() {
            [last] if plain && byte_level(last, true) => Ok("gpt-2"),
            [first, last]
                if plain
                    && first["type"] == "Digits"
                    && first["individual_digits"] == true
                    && byte_level(last, true) =>
            {
                Ok("smollm")
            }
            [first, last]
                if plain
                    && first["type"] == "Split"
                    && first
                        .pointer("/pattern/Regex")
                        .is_some_and(|regex| regex == LLAMA3_PATTERN)
                    && first["behavior"] == "Isolated"
                    && first["invert"] == false
                    && byte_level(last, false) =>
            {
                Ok("llama-bpe")
            }
            _ => Err(ModelError::TokenizerUnsupported {
                got: format!("{kind} with these steps before it"),
                supported: "byte-level BPE cut as by GPT-2, SmolLM or Llama 3",
            }),
        }
    }
}

const fn inconsistent(what: &'static str) -> ModelError {
    ModelError::TokenizerInvalid { what }
}

// `enum llama_token_type`.
const NORMAL: u32 = 1;
const CONTROL: u32 = 3;
const USER_DEFINED: u32 = 4;

const NO_TOKEN: ModelError = inconsistent("an id has no token, or a special token has no id");
