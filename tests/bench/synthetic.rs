//! Models for speed alone: the shapes of published ones with random weights, so that nothing is tuned to
//! the one small model whose real weights are at hand. Tokenizer and template are the default model's.
//!
//! A GGUF file is a header, key-value pairs, tensor descriptions and tensors (the `gguf.md` of ggml).

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use chrysalis_tests::model;

/// How most weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weights {
    Q4K,
    Q8,
}

impl Weights {
    /// As titles name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Q4K => "Q4_K",
            Self::Q8 => "Q8_0",
        }
    }

    /// `ggml_type`, weights in a block, and the bytes a block begins with: scales that keep weights
    /// near 0.02. The rest of a block is random.
    const fn block(self) -> (u32, u64, &'static [u8], usize) {
        match self {
            // Scale 1e-4 and minimum 7.4e-4 as f16; then 12 bytes of scales and 128 of codes.
            Self::Q4K => (12, 256, &[0x80, 0x06, 0x14, 0x12], 140),
            // Scale 2.4e-4 as f16; then 32 codes.
            Self::Q8 => (8, 32, &[0x00, 0x0C], 32),
        }
    }
}

/// How large a model is. Heads have 64 columns in the smaller, 128 in the larger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// As file names have it.
    name: &'static str,
    layers: u64,
    width: u64,
    hidden: u64,
    heads: u64,
    kv_heads: u64,
}

/// Llama 3.2 1B, with the default model's vocabulary: 1.07 thousand million weights.
pub(crate) const LLAMA_1B: Shape =
    Shape { name: "1b", layers: 16, width: 2048, hidden: 8192, heads: 32, kv_heads: 8 };
/// Llama 3.1 8B in the same way, with one matrix for both ends: 7.2 thousand million weights.
#[cfg(feature = "cuda")]
pub(crate) const LLAMA_8B: Shape =
    Shape { name: "8b", layers: 32, width: 4096, hidden: 14_336, heads: 32, kv_heads: 8 };

/// A written model.
pub(crate) struct Synthetic {
    pub(crate) file: PathBuf,
    /// Of all tensors: what a step of decoding reads.
    pub(crate) tensor_bytes: u64,
}

/// Writes such a model into `folder`; the same weights each time.
pub(crate) fn write(folder: &Path, shape: &Shape, weights: Weights) -> Result<Synthetic> {
    let file = folder.join(format!("llama-{}-random-{}.gguf", shape.name, weights.name()));
    let source = std::fs::read(model().context("no model; run scripts/fetch-model")?)?;
    let tensors = tensors(shape);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&file)?);
    let mut head = pairs(&source, shape, tensors.len())?;
    let mut offset = 0;
    for tensor in &tensors {
        tensor.describe(&mut head, weights, offset)?;
        offset += tensor.bytes(weights).next_multiple_of(ALIGNMENT);
    }
    let padding = u64::try_from(head.len())?.next_multiple_of(ALIGNMENT);
    head.resize(usize::try_from(padding)?, 0);
    out.write_all(&head)?;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for tensor in &tensors {
        tensor.write(&mut out, weights, &mut random)?;
    }
    out.flush()?;
    Ok(Synthetic { file, tensor_bytes: offset })
}

/// The default model's header and pairs, with another shape.
fn pairs(source: &[u8], shape: &Shape, tensors: usize) -> Result<Vec<u8>> {
    let first = text("token_embd.weight")?;
    let end = position(source, &first).context("the default model has no token_embd.weight")?;
    let mut head = source[..end].to_vec();
    head[8..16].copy_from_slice(&u64::try_from(tensors)?.to_le_bytes());
    for (key, value) in [
        ("llama.block_count", shape.layers),
        ("llama.embedding_length", shape.width),
        ("llama.feed_forward_length", shape.hidden),
        ("llama.attention.head_count", shape.heads),
        ("llama.attention.head_count_kv", shape.kv_heads),
        ("llama.rope.dimension_count", shape.width / shape.heads),
    ] {
        let mut pair = text(key)?;
        pair.extend(UINT32.to_le_bytes());
        let at = position(&head, &pair).with_context(|| format!("{key} is missing"))? + pair.len();
        head[at..at + 4].copy_from_slice(&u32::try_from(value)?.to_le_bytes());
    }
    Ok(head)
}

/// One tensor: rows of `columns` weights; a single row is a norm, of ones in f32.
struct Tensor {
    name: String,
    columns: u64,
    rows: u64,
}

fn tensors(shape: &Shape) -> Vec<Tensor> {
    let Shape { layers, width, hidden, heads, kv_heads, .. } = *shape;
    let tensor =
        |name: &str, columns, rows| Tensor { name: format!("{name}.weight"), columns, rows };
    let mut all = vec![tensor("token_embd", width, VOCABULARY), tensor("output_norm", width, 1)];
    let kv = width / heads * kv_heads;
    for layer in 0..layers {
        for (name, columns, rows) in [
            ("attn_norm", width, 1),
            ("attn_q", width, width),
            ("attn_k", width, kv),
            ("attn_v", width, kv),
            ("attn_output", width, width),
            ("ffn_norm", width, 1),
            ("ffn_gate", width, hidden),
            ("ffn_up", width, hidden),
            ("ffn_down", hidden, width),
        ] {
            all.push(tensor(&format!("blk.{layer}.{name}"), columns, rows));
        }
    }
    all
}

impl Tensor {
    fn bytes(&self, weights: Weights) -> u64 {
        let (_, block, scales, codes) = weights.block();
        if self.rows == 1 {
            self.columns * 4
        } else {
            self.blocks(block) * (scales.len() + codes) as u64
        }
    }

    const fn blocks(&self, block: u64) -> u64 {
        self.columns * self.rows / block
    }

    fn describe(&self, head: &mut Vec<u8>, weights: Weights, offset: u64) -> Result<()> {
        head.extend(text(&self.name)?);
        let (kind, shape) = if self.rows == 1 {
            (F32, vec![self.columns])
        } else {
            (weights.block().0, vec![self.columns, self.rows])
        };
        head.extend(u32::try_from(shape.len())?.to_le_bytes());
        shape.iter().for_each(|length| head.extend(length.to_le_bytes()));
        head.extend(kind.to_le_bytes());
        head.extend(offset.to_le_bytes());
        Ok(())
    }

    /// Every tensor here fills whole alignments.
    fn write(
        &self,
        out: &mut impl std::io::Write,
        weights: Weights,
        random: &mut Random,
    ) -> Result<()> {
        if self.rows == 1 {
            for _ in 0..self.columns {
                out.write_all(&1f32.to_le_bytes())?;
            }
            return Ok(());
        }
        let (_, block, scales, codes) = weights.block();
        let mut bytes = vec![0; codes.next_multiple_of(8)];
        for _ in 0..self.blocks(block) {
            out.write_all(scales)?;
            for chunk in bytes.chunks_exact_mut(8) {
                chunk.copy_from_slice(&random.next().to_le_bytes());
            }
            out.write_all(&bytes[..codes])?;
        }
        Ok(())
    }
}

/// Xorshift by Marsaglia; the weights need no better.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A string as the format writes it.
fn text(text: &str) -> Result<Vec<u8>> {
    Ok([&u64::try_from(text.len())?.to_le_bytes()[..], text.as_bytes()].concat())
}

fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Tokens of the default model.
const VOCABULARY: u64 = 49_152;
/// `GGUF_METADATA_VALUE_TYPE_UINT32`.
const UINT32: u32 = 4;
/// `GGML_TYPE_F32`.
const F32: u32 = 0;
const ALIGNMENT: u64 = 32;
