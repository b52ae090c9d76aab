//! What the files of an embedding model say about it: `config.json`, and those that Sentence
//! Transformers adds. The operator's files, not trusted to be well formed; what would be computed
//! otherwise than they say is refused by name.

use serde::Deserialize;

use crate::error::ModelError;

/// `config.json` of a BERT.
#[derive(Deserialize)]
pub(super) struct Config {
    architectures: Vec<String>,
    pub(super) hidden_size: usize,
    pub(super) intermediate_size: usize,
    pub(super) num_hidden_layers: usize,
    pub(super) num_attention_heads: usize,
    pub(super) max_position_embeddings: usize,
    pub(super) type_vocab_size: usize,
    pub(super) vocab_size: u32,
    pub(super) layer_norm_eps: f32,
    hidden_act: String,
    position_embedding_type: Option<String>,
    #[serde(default)]
    is_decoder: bool,
}

impl Config {
    /// The settings, if they are those of a model that is computed here.
    ///
    /// # Errors
    /// [`ModelError::UnknownArchitecture`], [`ModelError::UnsupportedFeature`],
    /// [`ModelError::Malformed`].
    pub(super) fn checked(self) -> Result<Self, ModelError> {
        let got = self.architectures.first().map_or("", String::as_str);
        if got != ARCHITECTURE {
            let (got, supported) = (got.to_owned(), ARCHITECTURE.to_owned());
            return Err(ModelError::UnknownArchitecture { got, supported });
        }
        let positions = self.position_embedding_type.as_deref().unwrap_or(ABSOLUTE);
        let unsupported = if self.hidden_act != "gelu" {
            Some(format!("the activation {}", self.hidden_act))
        } else if positions != ABSOLUTE {
            Some(format!("positions of type {positions}"))
        } else if self.is_decoder {
            Some("is_decoder".to_owned())
        } else {
            None
        };
        if let Some(feature) = unsupported {
            return Err(ModelError::UnsupportedFeature { feature: feature + " (config.json)" });
        }
        let whole = |n: usize| n > 0 && n.checked_rem(LANES) == Some(0);
        let heads = self.hidden_size.checked_rem(self.num_attention_heads) == Some(0);
        let sizes = whole(self.hidden_size) && whole(self.intermediate_size) && heads;
        let counts = self.num_hidden_layers > 0 && self.max_position_embeddings > 0;
        if !sizes || !counts || self.layer_norm_eps.is_nan() || self.layer_norm_eps < 0.0 {
            let detail = format!("sizes of nothing, or not multiples of {LANES} and of the heads");
            return Err(ModelError::Malformed { what: "config.json".to_owned(), detail });
        }
        Ok(self)
    }
}

/// `sentence_bert_config.json`.
#[derive(Deserialize)]
pub(super) struct Sentence {
    /// Most tokens of a text, those around it included.
    pub(super) max_seq_length: Option<usize>,
    /// Whether texts are lowered before the tokenizer sees them.
    #[serde(default)]
    do_lower_case: bool,
}

impl Sentence {
    pub(super) fn checked(self) -> Result<Self, ModelError> {
        if self.do_lower_case {
            let feature = "do_lower_case (sentence_bert_config.json)".to_owned();
            return Err(ModelError::UnsupportedFeature { feature });
        }
        Ok(self)
    }
}

/// One entry of `modules.json`: what a text goes through.
#[derive(Deserialize)]
pub(super) struct Module {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

/// # Errors
/// [`ModelError::UnsupportedFeature`] for anything but the encoder, its pooling, and a normalisation.
/// Without the last one vectors are normalised all the same: the API promises it, and angles between
/// them stay what they are.
pub(super) fn check_modules(modules: &[Module]) -> Result<(), ModelError> {
    let mut expected = [("Transformer", ""), ("Pooling", POOLING_FOLDER)].into_iter();
    for Module { kind, path } in modules {
        let kind = kind.rsplit('.').next().unwrap_or_default();
        match expected.next() {
            Some((name, at)) if name == kind && at == path => {}
            None if kind == "Normalize" => {}
            _ => {
                let feature = format!("{kind} in {path:?} (modules.json)");
                return Err(ModelError::UnsupportedFeature { feature });
            }
        }
    }
    match expected.next() {
        None => Ok(()),
        Some((name, _)) => {
            let detail = format!("no {name}");
            Err(ModelError::Malformed { what: "modules.json".to_owned(), detail })
        }
    }
}

/// `1_Pooling/config.json`.
#[derive(Deserialize)]
pub(super) struct PoolingFile {
    word_embedding_dimension: usize,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
    #[serde(default)]
    pooling_mode_weightedmean_tokens: bool,
    #[serde(default)]
    pooling_mode_lasttoken: bool,
}

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// That of the token before the text.
    First,
}

impl PoolingFile {
    pub(super) fn checked(&self, hidden: usize) -> Result<Pooling, ModelError> {
        let others = self.pooling_mode_max_tokens
            || self.pooling_mode_mean_sqrt_len_tokens
            || self.pooling_mode_weightedmean_tokens
            || self.pooling_mode_lasttoken;
        if self.word_embedding_dimension != hidden {
            let (what, dimension) = (POOLING.to_owned(), self.word_embedding_dimension);
            let detail = format!("vectors of {dimension} where the model's have {hidden}");
            return Err(ModelError::Malformed { what, detail });
        }
        match (self.pooling_mode_mean_tokens, self.pooling_mode_cls_token) {
            (true, false) if !others => Ok(Pooling::Mean),
            (false, true) if !others => Ok(Pooling::First),
            _ => {
                let feature =
                    format!("another pooling than one of mean or first token ({POOLING})");
                Err(ModelError::UnsupportedFeature { feature })
            }
        }
    }
}

/// `architectures` in `config.json`.
const ARCHITECTURE: &str = "BertModel";
const ABSOLUTE: &str = "absolute";
const POOLING_FOLDER: &str = "1_Pooling";
/// Where the pooling is set.
pub(super) const POOLING: &str = "1_Pooling/config.json";
/// Sizes are whole numbers of what the kernels compute at once.
const LANES: usize = 16;
