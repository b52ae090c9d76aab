//! The model: checks the verified file against what the decoder computes, and loads it.
//!
//! A tensor or a setting that a loader does not know (biases, rope scaling) and ignores gives fluent
//! but wrong text. So everything in the file must be something this module knows, with the shape the
//! metadata implies; the rest is refused by name.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;

use crate::ModelInfo;
use crate::decoder::{Decoder, ROPE_FREQS, Sizes};
use crate::error::ModelError;
use crate::gguf::Gguf;
use crate::kernels::Pool;
use crate::weights::Weights;

/// Weights, shared by every sequence.
pub(crate) struct Model {
    decoder: Arc<Decoder>,
    info: ModelInfo,
}

impl Model {
    /// Checks the model that `gguf` describes, gets its `weights` and makes it, to be computed by
    /// `pool`.
    pub(crate) fn load(
        gguf: &Gguf,
        pool: Pool,
        weights: impl FnOnce(&Pool) -> Result<Weights, ModelError>,
    ) -> Result<Self, ModelError> {
        let architecture = gguf.string("general.architecture")?.to_owned();
        if architecture != "llama" {
            let supported = SUPPORTED_ARCHITECTURES;
            return Err(ModelError::UnknownArchitecture { got: architecture, supported });
        }
        let shape = LlamaShape::read(gguf)?;
        shape.check_tensors(gguf)?;
        let info = ModelInfo {
            name: gguf.string_opt("general.name")?.unwrap_or_default().to_owned(),
            architecture,
            quantisation: quantisation(gguf),
            context_tokens: shape.context.min(MAX_CONTEXT_TOKENS),
            vocab: shape.vocab,
        };
        let weights = weights(&pool)?;
        let decoder = Decoder::load(gguf, &weights, shape.sizes(), pool)?;
        Ok(Self { decoder: Arc::new(decoder), info })
    }

    pub(crate) const fn info(&self) -> &ModelInfo {
        &self.info
    }

    pub(crate) const fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }
}

struct LlamaShape {
    blocks: u32,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    ffn: usize,
    context: u32,
    vocab: u32,
}

impl LlamaShape {
    fn read(gguf: &Gguf) -> Result<Self, ModelError> {
        let ranged = |key: &str, max: u32, expected: &'static str| {
            let got = gguf.u32(key)?;
            if got == 0 || got > max { Err(invalid(key, expected, got)) } else { Ok(got) }
        };
        let blocks = ranged("llama.block_count", MAX_BLOCKS, "from 1 to 1024")?;
        let hidden = ranged("llama.embedding_length", MAX_WIDTH, "from 1 to 1048576")?;
        let ffn = ranged("llama.feed_forward_length", MAX_WIDTH, "from 1 to 1048576")?;
        let heads = ranged("llama.attention.head_count", hidden, "from 1 to the embedding length")?;
        let kv_key = "llama.attention.head_count_kv";
        let kv_heads = ranged(kv_key, heads, "from 1 to head_count")?;
        let context = ranged("llama.context_length", u32::MAX, "positive")?;
        let head_dim = hidden.checked_div(heads).unwrap_or(0);
        if head_dim.checked_mul(heads) != Some(hidden) || head_dim.checked_rem(2) != Some(0) {
            let expected = "a divisor of the embedding length that leaves an even head size";
            return Err(invalid("llama.attention.head_count", expected, heads));
        }
        if heads.checked_rem(kv_heads) != Some(0) {
            return Err(invalid(kv_key, "a divisor of head_count", kv_heads));
        }
        let rope = gguf.u32("llama.rope.dimension_count")?;
        if rope != head_dim {
            return Err(invalid("llama.rope.dimension_count", "the head size", rope));
        }
        for key in ["llama.attention.key_length", "llama.attention.value_length"] {
            if let Some(got) = gguf.u32_opt(key)?.filter(|got| *got != head_dim) {
                return Err(invalid(key, "the head size", got));
            }
        }
        refuse_unimplemented(gguf)?;
        let vocab = embedding_rows(gguf)?;
        Ok(Self {
            blocks,
            hidden: hidden as usize,
            heads: heads as usize,
            kv_heads: kv_heads as usize,
            ffn: ffn as usize,
            context,
            vocab,
        })
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            layers: self.blocks as usize,
            hidden: self.hidden,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim(),
            ffn: self.ffn,
            vocab: self.vocab as usize,
        }
    }

    fn head_dim(&self) -> usize {
        self.hidden.checked_div(self.heads).unwrap_or(0)
    }

    /// Every tensor of the architecture is there with its shape, and no other.
    fn check_tensors(&self, gguf: &Gguf) -> Result<(), ModelError> {
        let mut expected = self.expected_tensors();
        for (name, info) in &gguf.content.tensor_infos {
            let Some(shape) = expected.remove(name) else {
                return Err(ModelError::UnsupportedFeature { feature: format!("tensor {name}") });
            };
            if shape != info.shape.dims() {
                let got = info.shape.dims().to_vec();
                return Err(ModelError::TensorShape { name: name.clone(), expected: shape, got });
            }
        }
        // Tied embeddings: the output matrix is the embedding.
        expected.remove("output.weight");
        expected.remove(ROPE_FREQS);
        // The smallest name, so that the same file always gives the same refusal.
        match expected.into_keys().min() {
            Some(name) => Err(ModelError::TensorMissing { name }),
            None => Ok(()),
        }
    }

    fn expected_tensors(&self) -> HashMap<String, Vec<usize>> {
        let head_dim = self.head_dim();
        let (hidden, ffn, vocab) = (self.hidden, self.ffn, self.vocab as usize);
        let kv = head_dim.saturating_mul(self.kv_heads);
        let mut out = HashMap::from([
            ("token_embd.weight".to_owned(), vec![vocab, hidden]),
            ("output_norm.weight".to_owned(), vec![hidden]),
            ("output.weight".to_owned(), vec![vocab, hidden]),
            (ROPE_FREQS.to_owned(), vec![head_dim / 2]),
        ]);
        for block in 0..self.blocks {
            for (name, shape) in [
                ("attn_norm", vec![hidden]),
                ("attn_q", vec![hidden, hidden]),
                ("attn_k", vec![kv, hidden]),
                ("attn_v", vec![kv, hidden]),
                ("attn_output", vec![hidden, hidden]),
                ("ffn_norm", vec![hidden]),
                ("ffn_gate", vec![ffn, hidden]),
                ("ffn_up", vec![ffn, hidden]),
                ("ffn_down", vec![hidden, ffn]),
            ] {
                out.insert(format!("blk.{block}.{name}.weight"), shape);
            }
        }
        out
    }
}

fn refuse_unimplemented(gguf: &Gguf) -> Result<(), ModelError> {
    let refuse = |feature: String| Err(ModelError::UnsupportedFeature { feature });
    if gguf.u32_opt("llama.expert_count")?.is_some_and(|n| n > 1) {
        return refuse("a mixture of experts (llama.expert_count)".to_owned());
    }
    if let Some(kind) = gguf.string_opt("llama.rope.scaling.type")?.filter(|k| *k != "none") {
        return refuse(format!("rope scaling {kind:?} (llama.rope.scaling.type)"));
    }
    for key in ["llama.rope.scale_linear", "llama.attention.sliding_window"] {
        if gguf.has(key) {
            return refuse(format!("metadata {key}"));
        }
    }
    Ok(())
}

fn embedding_rows(gguf: &Gguf) -> Result<u32, ModelError> {
    const NAME: &str = "token_embd.weight";
    let info = gguf
        .content
        .tensor_infos
        .get(NAME)
        .ok_or_else(|| ModelError::TensorMissing { name: NAME.to_owned() })?;
    let rows = info.shape.dims().first().copied().unwrap_or(0);
    u32::try_from(rows).map_err(|_| ModelError::Limit {
        what: "vocabulary",
        limit: u64::from(u32::MAX),
        got: rows as u64,
    })
}

/// The type of most weights of the blocks.
fn quantisation(gguf: &Gguf) -> String {
    let mut sizes: HashMap<GgmlDType, usize> = HashMap::new();
    for (name, info) in &gguf.content.tensor_infos {
        if name.starts_with("blk.") {
            let size = sizes.entry(info.ggml_dtype).or_default();
            *size = size.saturating_add(info.shape.elem_count());
        }
    }
    let most = sizes.into_iter().max_by_key(|(dtype, size)| (*size, dtype.block_size()));
    most.map_or_else(String::new, |(dtype, _)| format!("{dtype:?}"))
}

fn invalid(key: &str, expected: &'static str, got: u32) -> ModelError {
    ModelError::MetadataInvalid { key: key.to_owned(), expected, got: got.to_string() }
}

/// Longest context of this build, prompt and completion together. Of a model of eight thousand million
/// weights, keys and values of one such sequence take 1 GiB.
pub const MAX_CONTEXT_TOKENS: u32 = 8192;

const SUPPORTED_ARCHITECTURES: &str = "llama";
/// More than any published model.
const MAX_BLOCKS: u32 = 1024;
/// Widest layer: eight times the widest published model.
const MAX_WIDTH: u32 = 1 << 20;

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
