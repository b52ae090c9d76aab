//! A checkpoint as model hubs publish it: `config.json`, shards of safetensors and their index, and the
//! tokenizer's files. It becomes what a GGUF file of the same model says, under the same names, so that
//! there is one place that knows a family. The files are verified by who gives them and trusted to be
//! the operator's, not to be well formed.
//!
//! They come in order of path, each once: the shards are read before the index is known, and compared
//! with it at the end.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, Read as _};

use candle_core::Shape;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value, VersionedMagic};
use serde::Deserialize;

use crate::error::ModelError;
use crate::gguf::Gguf;
use crate::kernels::Pool;
use crate::safetensors::Header;
use crate::vocabulary;
use crate::weights::{Stored, Weights};

/// What was read of a checkpoint.
#[derive(Default)]
pub(crate) struct Checkpoint {
    config: Option<Config>,
    tokenizer: Option<vocabulary::File>,
    settings: vocabulary::Settings,
    template: Option<String>,
    index: Option<Index>,
    /// For each tensor, by the name it has in GGUF files, its name here, its shard and its shape.
    tensors: BTreeMap<String, (String, String, TensorInfo)>,
    weights: Weights,
}

impl Checkpoint {
    /// Takes one file of `len` bytes. A file that says nothing about the model is left alone.
    ///
    /// # Errors
    /// [`ModelError`] for one that makes no sense or is over its limit.
    pub(crate) fn file(
        &mut self,
        path: &str,
        len: u64,
        source: &mut impl BufRead,
        pool: &Pool,
    ) -> Result<(), ModelError> {
        match path {
            "config.json" => self.config = Some(json(path, len, source)?),
            "tokenizer.json" => self.tokenizer = Some(json(path, len, source)?),
            "tokenizer_config.json" => self.settings = json(path, len, source)?,
            "model.safetensors.index.json" => self.index = Some(json(path, len, source)?),
            "chat_template.jinja" => {
                let text = String::from_utf8(bytes(len, source)?);
                self.template = Some(text.map_err(|_| malformed(path, "not UTF-8"))?);
            }
            _ if path.ends_with(".safetensors") => self.shard(path, len, source, pool)?,
            _ => {}
        }
        Ok(())
    }

    fn shard(
        &mut self,
        path: &str,
        len: u64,
        source: &mut impl BufRead,
        pool: &Pool,
    ) -> Result<(), ModelError> {
        let config =
            self.config.as_ref().ok_or_else(|| malformed(path, "no config.json before"))?;
        let (family, header) = (config.family()?, Header::read(source, len)?);
        let mut stored = Vec::new();
        for tensor in header.tensors {
            let Some((name, turned)) = family.rename(&tensor.name) else {
                return Err(ModelError::UnsupportedFeature {
                    feature: format!("tensor {}", tensor.name),
                });
            };
            let shape = Shape::from(tensor.dims.as_slice());
            let info = TensorInfo { ggml_dtype: tensor.dtype, shape, offset: 0 };
            let known = (tensor.name.clone(), path.to_owned(), info);
            if self.tensors.insert(name.clone(), known).is_some() {
                return Err(ModelError::Duplicate { name: tensor.name });
            }
            let turned = if turned { Some(config.head_dim()?) } else { None };
            stored.push(Stored { name, turned, ..tensor });
        }
        self.weights.extend(Weights::read(source, header.len, stored, pool)?);
        Ok(())
    }

    /// The model, once every file was taken: what a GGUF header would say of it, and its weights.
    ///
    /// # Errors
    /// [`ModelError`] for a file that is missing, an index that names other tensors, and what is not
    /// supported.
    pub(crate) fn finish(self) -> Result<(Gguf, Weights), ModelError> {
        let missing = |name: &str| ModelError::FileMissing { name: name.to_owned() };
        let config = self.config.ok_or_else(|| missing("config.json"))?;
        let tokenizer = self.tokenizer.ok_or_else(|| missing("tokenizer.json"))?;
        if let Some(index) = self.index {
            index.agrees(self.tensors.values().map(|(name, shard, _)| (name, shard)))?;
        }
        let tensor_infos = self.tensors.into_iter().map(|(name, (_, _, info))| (name, info));
        let content = Content {
            magic: VersionedMagic::GgufV3,
            metadata: config.metadata()?,
            tensor_infos: tensor_infos.collect(),
            tensor_data_offset: 0,
        };
        let mut gguf = Gguf::described(content);
        tokenizer.describe(&self.settings, self.template, &mut gguf)?;
        Ok((gguf, self.weights))
    }
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    /// The shard of each tensor.
    weight_map: BTreeMap<String, String>,
}

impl Index {
    fn agrees<'a>(
        mut self,
        found: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> Result<(), ModelError> {
        for (name, shard) in found {
            if self.weight_map.remove(name).as_ref() != Some(shard) {
                let detail = format!("{name} is in {shard}");
                return Err(malformed("model.safetensors.index.json", &detail));
            }
        }
        match self.weight_map.into_keys().next() {
            Some(name) => Err(ModelError::TensorMissing { name }),
            None => Ok(()),
        }
    }
}

/// The settings that decide what is computed.
#[derive(Deserialize)]
struct Config {
    architectures: Vec<String>,
    num_hidden_layers: u32,
    hidden_size: u32,
    intermediate_size: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    max_position_embeddings: u32,
    rms_norm_eps: f32,
    rope_theta: Option<f32>,
    hidden_act: Option<String>,
    rope_scaling: Option<serde_json::Value>,
    sliding_window: Option<serde_json::Value>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

impl Config {
    fn family(&self) -> Result<&'static Family, ModelError> {
        let got = self.architectures.first().map_or("", String::as_str);
        let known = FAMILIES.iter().find(|family| family.class == got);
        let (got, supported) = (got.to_owned(), "LlamaForCausalLM, MistralForCausalLM");
        known.ok_or(ModelError::UnknownArchitecture { got, supported })
    }

    fn head_dim(&self) -> Result<usize, ModelError> {
        let dim = self.head_dim.or_else(|| self.hidden_size.checked_div(self.num_attention_heads));
        dim.and_then(|dim| usize::try_from(dim).ok())
            .filter(|dim| *dim > 0 && dim.checked_rem(2) == Some(0))
            .ok_or_else(|| malformed("config.json", "heads of no or of odd size"))
    }

    fn metadata(&self) -> Result<HashMap<String, Value>, ModelError> {
        let family = self.family()?;
        self.refuse_unimplemented()?;
        let head_dim = self.head_dim()?;
        let head_dim = u32::try_from(head_dim).unwrap_or(u32::MAX);
        let mut out = HashMap::from([(
            "general.architecture".to_owned(),
            Value::String(family.architecture.to_owned()),
        )]);
        let mut put = |key: &str, value: Value| {
            out.insert(format!("{}.{key}", family.architecture), value);
        };
        put("block_count", Value::U32(self.num_hidden_layers));
        put("embedding_length", Value::U32(self.hidden_size));
        put("feed_forward_length", Value::U32(self.intermediate_size));
        put("attention.head_count", Value::U32(self.num_attention_heads));
        let kv = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        put("attention.head_count_kv", Value::U32(kv));
        put("attention.key_length", Value::U32(head_dim));
        put("attention.value_length", Value::U32(head_dim));
        put("attention.layer_norm_rms_epsilon", Value::F32(self.rms_norm_eps));
        put("rope.dimension_count", Value::U32(head_dim));
        put("rope.freq_base", Value::F32(self.rope_theta.unwrap_or(10_000.0)));
        put("context_length", Value::U32(self.max_position_embeddings));
        Ok(out)
    }

    /// Settings that would be computed wrongly.
    fn refuse_unimplemented(&self) -> Result<(), ModelError> {
        let activation = self.hidden_act.as_deref().unwrap_or("silu");
        let feature = if self.rope_scaling.is_some() {
            "rope_scaling"
        } else if self.sliding_window.is_some() {
            "sliding_window"
        } else if self.attention_bias {
            "attention_bias"
        } else if self.mlp_bias {
            "mlp_bias"
        } else if activation != "silu" {
            activation
        } else {
            return Ok(());
        };
        Err(ModelError::UnsupportedFeature { feature: format!("{feature} (config.json)") })
    }
}

/// How the checkpoints of a family are named.
struct Family {
    /// `architectures` in `config.json`.
    class: &'static str,
    /// `general.architecture` of GGUF files.
    architecture: &'static str,
}

impl Family {
    /// The name in GGUF files of a tensor, and whether its rows are those of heads whose dimensions
    /// turn with those half a head away: there they turn with their neighbours.
    #[allow(clippy::unused_self)] // the families of the table have the same names so far
    fn rename(&self, name: &str) -> Option<(String, bool)> {
        let name = name.strip_suffix(".weight")?;
        if let Some((_, to)) = OUTSIDE.iter().find(|(from, _)| *from == name) {
            return Some((format!("{to}.weight"), false));
        }
        let (block, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
        // A number as we would write it: one tensor has one name.
        let number = block.parse::<u32>().ok().filter(|n| n.to_string() == block)?;
        let (_, to, turned) = BLOCK.iter().find(|(from, ..)| *from == part)?;
        Some((format!("blk.{number}.{to}.weight"), *turned))
    }
}

const FAMILIES: [Family; 2] = [
    Family { class: "LlamaForCausalLM", architecture: "llama" },
    Family { class: "MistralForCausalLM", architecture: "llama" },
];

const OUTSIDE: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

const BLOCK: [(&str, &str, bool); 9] = [
    ("input_layernorm", "attn_norm", false),
    ("self_attn.q_proj", "attn_q", true),
    ("self_attn.k_proj", "attn_k", true),
    ("self_attn.v_proj", "attn_v", false),
    ("self_attn.o_proj", "attn_output", false),
    ("post_attention_layernorm", "ffn_norm", false),
    ("mlp.gate_proj", "ffn_gate", false),
    ("mlp.up_proj", "ffn_up", false),
    ("mlp.down_proj", "ffn_down", false),
];

pub(crate) fn bytes(len: u64, source: &mut impl BufRead) -> Result<Vec<u8>, ModelError> {
    if len > MAX_JSON_BYTES {
        let limit = MAX_JSON_BYTES;
        return Err(ModelError::Limit { what: "file of text", limit, got: len });
    }
    let mut out = Vec::new();
    let read = source.take(len).read_to_end(&mut out);
    read.map_err(|e| ModelError::Read { kind: e.kind() })?;
    Ok(out)
}

pub(crate) fn json<T: for<'de> Deserialize<'de>>(
    path: &str,
    len: u64,
    source: &mut impl BufRead,
) -> Result<T, ModelError> {
    serde_json::from_slice(&bytes(len, source)?).map_err(|e| {
        // The place, never the text: it may be of a sealed model.
        let (line, column) = (e.line(), e.column());
        malformed(path, &format!("not what is expected at line {line}, column {column}"))
    })
}

fn malformed(what: &str, detail: &str) -> ModelError {
    ModelError::Malformed { what: what.to_owned(), detail: detail.to_owned() }
}

/// Longest file of text. A tokenizer with a vocabulary of 262 144 has 33 MB.
const MAX_JSON_BYTES: u64 = 64 << 20;

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
