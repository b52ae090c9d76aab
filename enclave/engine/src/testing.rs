//! Tiny generated models and readers of streams, for tests. Not part of any binary: compiled for this
//! crate's own tests and under the feature `testing` only. Panics on misuse, as a test should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::arithmetic_side_effects, clippy::missing_panics_doc)]

mod bert;
mod hub;
mod talk;
mod zoo;

use std::collections::HashMap;
use std::io::Cursor;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

pub use crate::constrain::testing::{Answer, Way, Words};
use crate::error::EngineError;
pub use crate::kernels::testing::{FORMATS, Product, Sight};
use crate::logprobs::{LoggedToken, TokenLogprob};
pub use crate::probe::{Probe, ProbeBatch, ProbeSession};
use crate::request::{
    ChatMessage, Conversation, Event, FinishReason, Generation, Input, Role, TokenUsage,
};
use crate::tokenizer::byte_alphabet;
pub use bert::{Files, TinyBert, embed, embed_options, embedder};
pub use hub::{Hub, checkpoint, checkpoint_with};
#[cfg(test)]
pub(crate) use hub::{Published, shard};
pub use talk::Talk;
pub use zoo::{Ramp, Recipe};

/// A chat template in the form ChatML models ship.
pub const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\n' }}{% endif %}";

/// `<|im_end|>` of every [`TinyModel`]: ends a turn.
pub const IM_END: u32 = 2;
const CONTROLS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const USER_DEFINED: &str = "<think>";
/// Id of the token of byte 0.
const FIRST_BYTE: usize = 4;
const MERGES: [(&str, &str); 4] = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o")];

/// Builds a Llama GGUF of a few hundred kilobytes with a byte-level tokenizer.
///
/// ```
/// use chrysalis_engine::testing::TinyModel;
/// let gguf = TinyModel::scripted(&["Hello", " world"]).build();
/// ```
pub struct TinyModel {
    brain: Brain,
    context: u32,
    edits: Vec<(String, Option<Value>)>,
    poison: Option<u8>,
    dtype: GgmlDType,
    vectors: Vec<(String, Vec<f32>)>,
}

enum Brain {
    /// Random weights: fluent nonsense, with bytes that are no UTF-8.
    Random(u64),
    /// Says these pieces in order after any prompt, then ends its turn or begins again.
    Script { pieces: Vec<Vec<u8>>, endless: bool },
}

impl TinyModel {
    /// Random weights from `seed`.
    #[must_use]
    pub const fn random(seed: u64) -> Self {
        Self {
            brain: Brain::Random(seed),
            context: 512,
            edits: Vec::new(),
            poison: None,
            dtype: GgmlDType::F32,
            vectors: Vec::new(),
        }
    }

    /// Answers every prompt with `pieces`, one token each, then ends its turn. Pieces are distinct,
    /// and no byte of a prompt's end is one of them.
    #[must_use]
    pub fn scripted<P: AsRef<[u8]>>(pieces: &[P]) -> Self {
        let pieces = pieces.iter().map(|p| p.as_ref().to_vec()).collect();
        Self { brain: Brain::Script { pieces, endless: false }, ..Self::random(0) }
    }

    /// Answers every prompt with `pieces`, again and again.
    #[must_use]
    pub fn endless<P: AsRef<[u8]>>(pieces: &[P]) -> Self {
        let mut model = Self::scripted(pieces);
        if let Brain::Script { endless, .. } = &mut model.brain {
            *endless = true;
        }
        model
    }

    /// Sets `llama.context_length` (512 otherwise).
    #[must_use]
    pub const fn context(mut self, tokens: u32) -> Self {
        self.context = tokens;
        self
    }

    /// Sets the chat template ([`CHATML`] otherwise).
    #[must_use]
    pub fn template(self, source: &str) -> Self {
        self.with_text("tokenizer.chat_template", source)
    }

    /// Leaves a metadata key out.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.edits.push((key.to_owned(), None));
        self
    }

    /// Sets a metadata key to a string.
    #[must_use]
    pub fn with_text(mut self, key: &str, value: &str) -> Self {
        self.edits.push((key.to_owned(), Some(Value::String(value.to_owned()))));
        self
    }

    /// Sets a metadata key to a number.
    #[must_use]
    pub fn with_number(mut self, key: &str, value: u32) -> Self {
        self.edits.push((key.to_owned(), Some(Value::U32(value))));
        self
    }

    /// Sets a metadata key to an array of strings.
    #[must_use]
    pub fn with_texts(mut self, key: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|v| Value::String((*v).to_owned())).collect();
        self.edits.push((key.to_owned(), Some(Value::Array(values))));
        self
    }

    /// Sets a metadata key to a 32-bit float.
    #[must_use]
    pub fn with_float(mut self, key: &str, value: f32) -> Self {
        self.edits.push((key.to_owned(), Some(Value::F32(value))));
        self
    }

    /// Adds a tensor of one dimension.
    #[must_use]
    pub fn with_vector(mut self, name: &str, values: &[f32]) -> Self {
        self.vectors.push((name.to_owned(), values.to_vec()));
        self
    }

    /// Stores the matrices of a random model as `dtype`, and makes it wide enough for every format.
    #[must_use]
    pub const fn quantised(mut self, dtype: GgmlDType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Makes every prompt with `byte` in it fail: its embedding is infinite.
    #[must_use]
    pub const fn poisoned(mut self, byte: u8) -> Self {
        self.poison = Some(byte);
        self
    }

    /// The GGUF file.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        self.build_with(&[])
    }

    /// The GGUF file with some tensors replaced, added, or (empty shape) left out.
    #[must_use]
    pub fn build_with(&self, tensors: &[(&str, &[usize])]) -> Vec<u8> {
        let vocab = Vocabulary::new(&self.brain);
        let (shape, mut weights) = match &self.brain {
            Brain::Random(seed) => random_weights(*seed, vocab.tokens.len(), self.dtype),
            Brain::Script { pieces, endless } => vocab.script_weights(pieces, *endless),
        };
        for (name, dims) in tensors {
            weights.retain(|(n, _, _)| n != name);
            if !dims.is_empty() {
                weights.push(((*name).to_owned(), dims.to_vec(), vec![0.0; dims.iter().product()]));
            }
        }
        for (name, values) in &self.vectors {
            weights.push((name.clone(), vec![values.len()], values.clone()));
        }
        if let Some(byte) = self.poison {
            let (_, dims, data) = weights.iter_mut().find(|w| w.0 == "token_embd.weight").unwrap();
            let row = FIRST_BYTE + usize::from(byte);
            data[row * dims[1]..(row + 1) * dims[1]].fill(f32::INFINITY);
        }
        let mut metadata = vocab.metadata();
        metadata.extend(shape.metadata(self.context));
        for (key, value) in &self.edits {
            metadata.retain(|(k, _)| k != key);
            metadata.extend(value.clone().map(|v| (key.clone(), v)));
        }
        write(&metadata, weights, self.dtype)
    }
}

type Weights = Vec<(String, Vec<usize>, Vec<f32>)>;

fn write(metadata: &[(String, Value)], weights: Weights, dtype: GgmlDType) -> Vec<u8> {
    let tensors: Vec<(String, QTensor)> = weights
        .into_iter()
        .map(|(name, dims, mut data)| {
            // Published files keep routers exact too: as exact as they were before they were converted.
            let router = name.ends_with("ffn_gate_inp.weight");
            if router && dtype == GgmlDType::BF16 {
                data.iter_mut().for_each(|value| *value = half(*value));
            }
            let exact = dims.len() == 1 || router;
            let dtype = if exact { GgmlDType::F32 } else { dtype };
            let tensor = Tensor::from_vec(data, dims, &Device::Cpu).unwrap();
            (name, QTensor::quantize(&tensor, dtype).unwrap())
        })
        .collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let mut out = Cursor::new(Vec::new());
    gguf_file::write(&mut out, &metadata, &tensors).unwrap();
    out.into_inner()
}

/// What of a number has a place in `bf16`.
fn half(value: f32) -> f32 {
    f32::from_bits(value.to_bits() & 0xffff_0000)
}

struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<i32>,
}

impl Vocabulary {
    fn new(brain: &Brain) -> Self {
        let mut tokens: Vec<String> = CONTROLS.iter().map(|t| (*t).to_owned()).collect();
        tokens.push(USER_DEFINED.to_owned());
        tokens.extend((0..=u8::MAX).map(|b| spell(&[b])));
        tokens.extend(MERGES.iter().map(|(a, b)| format!("{a}{b}")));
        if let Brain::Script { pieces, .. } = brain {
            for piece in pieces.iter().map(|p| spell(p)) {
                if !tokens.contains(&piece) {
                    tokens.push(piece);
                }
            }
        }
        let mut types = vec![1; tokens.len()];
        types[..4].copy_from_slice(&[3, 3, 3, 4]);
        Self { tokens, types }
    }

    fn metadata(&self) -> Vec<(String, Value)> {
        let text = |s: &str| Value::String(s.to_owned());
        let merges = MERGES.iter().map(|(a, b)| text(&format!("{a} {b}"))).collect();
        [
            ("general.architecture", text("llama")),
            ("general.name", text("tiny test model")),
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("smollm")),
            ("tokenizer.ggml.tokens", Value::Array(self.tokens.iter().map(|t| text(t)).collect())),
            (
                "tokenizer.ggml.token_type",
                Value::Array(self.types.iter().map(|t| Value::I32(*t)).collect()),
            ),
            ("tokenizer.ggml.merges", Value::Array(merges)),
            ("tokenizer.ggml.bos_token_id", Value::U32(1)),
            ("tokenizer.ggml.eos_token_id", Value::U32(IM_END)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
            ("tokenizer.chat_template", text(CHATML)),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into()
    }

    /// One-hot embeddings through an idle block: the output matrix is a table of successors.
    fn script_weights(&self, pieces: &[Vec<u8>], endless: bool) -> (Shape, Weights) {
        let id = |piece: &Vec<u8>| self.tokens.iter().position(|t| *t == spell(piece)).unwrap();
        let script: Vec<usize> = pieces.iter().map(id).collect();
        let distinct: std::collections::HashSet<_> = script.iter().collect();
        assert_eq!(distinct.len(), script.len(), "pieces of a script are distinct");
        let last = if endless { script[0] } else { IM_END as usize };
        let next: HashMap<usize, usize> =
            script.iter().copied().zip(script.iter().skip(1).copied().chain([last])).collect();
        let vocab = self.tokens.len();
        let hidden = vocab.next_multiple_of(4);
        let shape = Shape { hidden, heads: 2, kv_heads: 1, ffn: 4, blocks: 1, vocab };
        let mut weights = shape.weights(|_, _| 0.0);
        for (name, _, data) in &mut weights {
            for token in 0..vocab {
                match name.as_str() {
                    "token_embd.weight" => data[token * hidden + token] = 1.0,
                    "output.weight" => {
                        let successor = next.get(&token).copied().unwrap_or(script[0]);
                        data[successor * hidden + token] = 1.0;
                    }
                    _ => {}
                }
            }
        }
        (shape, weights)
    }
}

/// Byte-level spelling of `bytes`.
fn spell(bytes: &[u8]) -> String {
    let chars: HashMap<u8, char> = byte_alphabet().map(|(c, b)| (b, c)).collect();
    bytes.iter().map(|b| chars[b]).collect()
}

struct Shape {
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    ffn: usize,
    blocks: usize,
    vocab: usize,
}

impl Shape {
    #[allow(clippy::cast_possible_truncation)]
    fn metadata(&self, context: u32) -> Vec<(String, Value)> {
        let mut out: Vec<(String, Value)> = [
            ("block_count", self.blocks),
            ("embedding_length", self.hidden),
            ("feed_forward_length", self.ffn),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("rope.dimension_count", self.hidden / self.heads),
        ]
        .map(|(k, v)| (format!("llama.{k}"), Value::U32(v as u32)))
        .into();
        out.push(("llama.context_length".to_owned(), Value::U32(context)));
        let eps = "llama.attention.layer_norm_rms_epsilon".to_owned();
        out.push((eps, Value::F32(1e-5)));
        out
    }

    /// Every tensor; norms are ones, the rest is `fill(tensor, index)`.
    fn weights(&self, mut fill: impl FnMut(usize, usize) -> f32) -> Weights {
        let (h, kv) = (self.hidden, self.hidden / self.heads * self.kv_heads);
        let mut shapes = vec![
            ("token_embd".to_owned(), vec![self.vocab, h]),
            ("output".to_owned(), vec![self.vocab, h]),
            ("output_norm".to_owned(), vec![h]),
        ];
        for block in 0..self.blocks {
            for (name, dims) in [
                ("attn_norm", vec![h]),
                ("attn_q", vec![h, h]),
                ("attn_k", vec![kv, h]),
                ("attn_v", vec![kv, h]),
                ("attn_output", vec![h, h]),
                ("ffn_norm", vec![h]),
                ("ffn_gate", vec![self.ffn, h]),
                ("ffn_up", vec![self.ffn, h]),
                ("ffn_down", vec![h, self.ffn]),
            ] {
                shapes.push((format!("blk.{block}.{name}"), dims));
            }
        }
        let tensor = |(n, (name, dims)): (usize, (String, Vec<usize>))| {
            let len = dims.iter().product();
            let data = match dims.len() {
                1 => vec![1.0; len],
                _ => (0..len).map(|i| fill(n, i)).collect(),
            };
            (format!("{name}.weight"), dims, data)
        };
        shapes.into_iter().enumerate().map(tensor).collect()
    }
}

fn random_weights(seed: u64, vocab: usize, dtype: GgmlDType) -> (Shape, Weights) {
    // Rows of a whole number of blocks, of the largest format 256 values.
    let (hidden, ffn, range) =
        if dtype == GgmlDType::F32 { (32, 48, 0.8) } else { (256, 512, 0.3) };
    let shape = Shape { hidden, heads: 4, kv_heads: 2, ffn, blocks: 2, vocab };
    let mut random = Random::new(seed);
    let weights = shape.weights(|_, _| (random.unit() - 0.5) * range);
    (shape, weights)
}

/// 64-bit LCG (Knuth, MMIX); the high bits are good enough for weights.
struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// From 0 to 1.
    #[allow(clippy::cast_precision_loss)]
    fn unit(&mut self) -> f32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }
}

/// A chat of `messages`.
#[must_use]
pub fn chat(messages: &[(Role, &str)]) -> Input {
    let message = |(role, content): &(Role, &str)| {
        ChatMessage::new(*role, content.as_bytes().to_vec().into())
    };
    let messages = messages.iter().map(message).collect();
    Input::Chat(Conversation { messages, ..Conversation::default() })
}

/// A plain prompt.
#[must_use]
pub fn text(prompt: &str) -> Input {
    Input::Text(prompt.as_bytes().to_vec().into())
}

/// A whole stream.
#[derive(Debug, PartialEq)]
pub struct Collected {
    /// The pieces of text as they came.
    pub deltas: Vec<String>,
    /// The tokens with log probabilities, if they were asked for.
    pub tokens: Vec<Logged>,
    /// How it ended; `None` if the engine went away.
    pub end: Option<Result<(FinishReason, TokenUsage), EngineError>>,
}

impl Collected {
    /// The whole text.
    #[must_use]
    pub fn text(&self) -> String {
        self.deltas.concat()
    }
}

/// One token of an answer with its log probabilities.
#[derive(Debug, PartialEq)]
pub struct Logged {
    /// Its bytes, or its name.
    pub token: Vec<u8>,
    /// Its log probability.
    pub logprob: f32,
    /// Characters before it.
    pub offset: u32,
    /// The likeliest tokens in its place.
    pub top: Vec<(Vec<u8>, f32)>,
}

impl From<LoggedToken> for Logged {
    fn from(logged: LoggedToken) -> Self {
        let plain = |t: &TokenLogprob| (t.bytes.expose().to_vec(), t.logprob);
        let (token, logprob) = plain(&logged.drawn);
        let top = logged.top.iter().map(plain).collect();
        Self { token, logprob, offset: logged.offset, top }
    }
}

/// Reads a stream to its end, blocking this thread.
#[must_use]
pub fn collect(mut generation: Generation) -> Collected {
    let (mut deltas, mut tokens) = (Vec::new(), Vec::new());
    while let Some(event) = generation.events.blocking_recv() {
        let end = match event {
            Event::Delta(delta) => {
                deltas.push(String::from_utf8(delta.text.expose().to_vec()).unwrap());
                tokens.extend(delta.tokens.into_iter().map(Logged::from));
                continue;
            }
            Event::Finished { reason, usage, .. } => Ok((reason, usage)),
            Event::Failed(error) => Err(error),
        };
        assert!(generation.events.blocking_recv().is_none(), "an event after the last one");
        return Collected { deltas, tokens, end: Some(end) };
    }
    Collected { deltas, tokens, end: None }
}
