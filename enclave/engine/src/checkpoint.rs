//! A checkpoint as model hubs publish it: `config.json`, shards of safetensors and their index, and the
//! tokenizer's files. It becomes what a GGUF file of the same model says, under the same names, so that
//! there is one place that knows a family. The files are verified by who gives them and trusted to be
//! the operator's, not to be well formed.
//!
//! They come in order of path, each once: the shards are read before the index is known, and compared
//! with it at the end.

mod config;
mod keys;
mod names;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, Read as _};

use candle_core::Shape;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, VersionedMagic};
use serde::Deserialize;

use crate::error::ModelError;
use crate::family::ROPE_FREQS;
use crate::gguf::Gguf;
use crate::kernels::Pool;
use crate::safetensors::Header;
use crate::vocabulary;
use crate::weights::{Stored, Weights};
use config::Config;

/// What was read of a checkpoint.
#[derive(Default)]
pub(crate) struct Checkpoint {
    config: Option<Config>,
    /// Tokens that end a turn, of `generation_config.json`.
    ends: Vec<u32>,
    tokenizer: Option<vocabulary::File>,
    settings: vocabulary::Settings,
    template: Option<String>,
    index: Option<Index>,
    tensors: Tensors,
    weights: Weights,
}

/// For each tensor, by the name it has in GGUF files, its name here, its shard and its shape.
type Tensors = BTreeMap<String, (String, String, TensorInfo)>;

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
            "config.json" => self.config = Some(Config::read(len, source)?),
            config::GENERATION => self.ends = config::ends(len, source)?,
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
        let (family, header) = (config.family, Header::read(source, len)?);
        let mut stored = Vec::new();
        for tensor in header.tensors {
            let Some(name) = family.rename(&tensor.name) else {
                return Err(ModelError::UnsupportedFeature {
                    feature: format!("tensor {}", tensor.name),
                });
            };
            if let (EMBEDDING, Some(rows), Some(got)) =
                (name.as_str(), config.vocab, tensor.dims.first())
                && usize::try_from(rows) != Ok(*got)
            {
                let detail = format!("vocab_size {rows} for an embedding of {got} rows");
                return Err(malformed("config.json", &detail));
            }
            let shape = Shape::from(tensor.dims.as_slice());
            let info = TensorInfo { ggml_dtype: tensor.dtype, shape, offset: 0 };
            let known = (tensor.name.clone(), path.to_owned(), info);
            if self.tensors.insert(name.clone(), known).is_some() {
                return Err(ModelError::Duplicate { name: tensor.name });
            }
            // Some files bring the embedding a second time.
            if config.tied && name == OUTPUT {
                continue;
            }
            let turned = family.turns(&name).then_some(config.head_dim);
            stored.push(Stored { name, turned, ..tensor });
        }
        let norms: Vec<String> = stored
            .iter()
            .filter(|tensor| family.norms_above_one && tensor.dims.len() == 1)
            .map(|tensor| tensor.name.clone())
            .collect();
        let mut weights = Weights::read(source, header.len, stored, pool)?;
        norms.iter().for_each(|name| weights.add_one(name));
        self.weights.extend(weights);
        Ok(())
    }

    /// The model, once every file was taken: what a GGUF header would say of it, and its weights.
    ///
    /// # Errors
    /// [`ModelError`] for a file that is missing, an index that names other tensors, and what is not
    /// supported.
    pub(crate) fn finish(mut self) -> Result<(Gguf, Weights), ModelError> {
        let missing = |name: &str| ModelError::FileMissing { name: name.to_owned() };
        let config = self.config.ok_or_else(|| missing("config.json"))?;
        let tokenizer = self.tokenizer.ok_or_else(|| missing("tokenizer.json"))?;
        if let Some(index) = self.index {
            index.agrees(self.tensors.values().map(|(name, shard, _)| (name, shard)))?;
        }
        let (tied, mut weights) = (config.tied, self.weights);
        if let Some(experts) = config.experts {
            stack(experts, &mut self.tensors, &mut weights)?;
        }
        if !tied && !self.tensors.contains_key(OUTPUT) {
            return Err(ModelError::TensorMissing { name: "lm_head.weight".to_owned() });
        }
        // Without an embedding no model is made.
        let embedding =
            self.tensors.get(EMBEDDING).and_then(|(.., info)| info.shape.dims().first());
        let rows = embedding.copied().unwrap_or(usize::MAX);
        let computed = self.tensors.into_iter().filter(|(name, _)| !tied || name != OUTPUT);
        let mut tensor_infos: HashMap<String, TensorInfo> =
            computed.map(|(name, (.., info))| (name, info)).collect();
        if let Some(factors) = config.factors {
            let (ggml_dtype, shape) = (GgmlDType::F32, Shape::from(factors.len()));
            tensor_infos.insert(ROPE_FREQS.to_owned(), TensorInfo { ggml_dtype, shape, offset: 0 });
            weights.put_vector(ROPE_FREQS, factors);
        }
        let content = Content {
            magic: VersionedMagic::GgufV3,
            metadata: config.metadata,
            tensor_infos,
            tensor_data_offset: 0,
        };
        let mut gguf = Gguf::described(content);
        let ends = [config.ends, self.ends].concat();
        tokenizer.describe(&self.settings, self.template, rows, ends, &mut gguf)?;
        Ok((gguf, weights))
    }
}

/// Makes one tensor of the `experts` of each part of a layer, as GGUF files have them. Too many of them are
/// left over, and then refused as tensors that nobody knows.
fn stack(experts: u32, tensors: &mut Tensors, weights: &mut Weights) -> Result<(), ModelError> {
    let part = |name: &String| Some(format!("{}_exps", name.split_once("_exps.")?.0));
    let parts: BTreeSet<String> = tensors.keys().filter_map(part).collect();
    for part in parts {
        let mut names = Vec::new();
        let mut first = None::<(String, String, TensorInfo)>;
        // A model without experts is refused where its plan is made.
        for expert in 0..experts.max(1) {
            let name = format!("{part}.{expert}.weight");
            let Some(found) = tensors.remove(&name) else {
                return Err(ModelError::TensorMissing { name });
            };
            match &first {
                Some((.., info)) if info.shape != found.2.shape => {
                    let (expected, got) = (info.shape.dims().to_vec(), found.2.shape.into_dims());
                    return Err(ModelError::TensorShape { name, expected, got });
                }
                Some(_) => {}
                None => first = Some(found),
            }
            names.push(name);
        }
        let Some((name, shard, mut info)) = first else { continue };
        info.shape = Shape::from([&[names.len()][..], info.shape.dims()].concat());
        let whole = format!("{part}.weight");
        weights.stack(&whole, &names);
        tensors.insert(whole, (name, shard, info));
    }
    Ok(())
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

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";

/// Longest file of text. A tokenizer with a vocabulary of 262 144 has 33 MB.
const MAX_JSON_BYTES: u64 = 64 << 20;

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
