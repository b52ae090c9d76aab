//! A generated embedding model of a few kilobytes, with the files that Sentence Transformers writes.

use std::io::Cursor;
use std::num::NonZeroUsize;

use chrysalis_wire::SecretBytes;
use serde_json::{Map, Value, json};

use crate::embed::{EmbedInput, EmbedOptions, Embedder};
use crate::error::EngineError;

/// Paths and bytes, in the order of their paths.
pub type Files = Vec<(String, Vec<u8>)>;

/// A BERT with random weights.
pub struct TinyBert {
    /// Numbers of a vector.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Most tokens of a text.
    pub text_tokens: usize,
    /// Where the weights come from.
    pub seed: u64,
}

impl Default for TinyBert {
    fn default() -> Self {
        Self { hidden: 32, layers: 2, text_tokens: 16, seed: 1 }
    }
}

/// Its vocabulary: control tokens, letters at the beginning of words and inside, some words.
const CONTROLS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const WORDS: [&str; 6] = ["the", "cat", "dog", "##s", "sat", "."];

impl TinyBert {
    /// The files.
    #[must_use]
    pub fn files(&self) -> Files {
        let text = |value: Value| value.to_string().into_bytes();
        let vocab = vocabulary();
        let config = json!({
            "architectures": ["BertModel"], "hidden_act": "gelu", "hidden_size": self.hidden,
            "intermediate_size": 2 * self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": 4, "layer_norm_eps": 1e-12,
            "max_position_embeddings": self.text_tokens + 8, "type_vocab_size": 2,
            "vocab_size": vocab.len(), "hidden_dropout_prob": 0.0, "initializer_range": 0.02,
            "pad_token_id": 0,
        });
        let pooling = json!({
            "word_embedding_dimension": self.hidden, "pooling_mode_mean_tokens": true,
            "pooling_mode_cls_token": false,
        });
        let modules = json!([
            { "idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer" },
            { "idx": 1, "name": "1", "path": "1_Pooling",
              "type": "sentence_transformers.models.Pooling" },
            { "idx": 2, "name": "2", "path": "2_Normalize",
              "type": "sentence_transformers.models.Normalize" },
        ]);
        let sentence = json!({ "max_seq_length": self.text_tokens, "do_lower_case": false });
        vec![
            ("1_Pooling/config.json".to_owned(), text(pooling)),
            ("config.json".to_owned(), text(config)),
            ("model.safetensors".to_owned(), self.weights(vocab.len())),
            ("modules.json".to_owned(), text(modules)),
            ("sentence_bert_config.json".to_owned(), text(sentence)),
            ("tokenizer.json".to_owned(), text(tokenizer(&vocab))),
        ]
    }

    fn weights(&self, vocabulary: usize) -> Vec<u8> {
        let (hidden, wide) = (self.hidden, 2 * self.hidden);
        let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
        let mut dense = |name: &str, rows: usize, columns: usize| {
            tensors.push((format!("{name}.weight"), vec![rows, columns]));
            tensors.push((format!("{name}.bias"), vec![rows]));
        };
        for n in 0..self.layers {
            for part in ["query", "key", "value"] {
                dense(&format!("encoder.layer.{n}.attention.self.{part}"), hidden, hidden);
            }
            dense(&format!("encoder.layer.{n}.attention.output.dense"), hidden, hidden);
            dense(&format!("encoder.layer.{n}.intermediate.dense"), wide, hidden);
            dense(&format!("encoder.layer.{n}.output.dense"), hidden, wide);
        }
        dense("pooler.dense", hidden, hidden);
        let norms = (0..self.layers).flat_map(|n| {
            ["attention.output", "output"].map(|part| format!("encoder.layer.{n}.{part}.LayerNorm"))
        });
        for name in norms.chain(["embeddings.LayerNorm".to_owned()]) {
            tensors.extend(["weight", "bias"].map(|part| (format!("{name}.{part}"), vec![hidden])));
        }
        let tables = [("word", vocabulary), ("position", self.text_tokens + 8), ("token_type", 2)];
        for (name, rows) in tables {
            tensors.push((format!("embeddings.{name}_embeddings.weight"), vec![rows, hidden]));
        }
        let (mut table, mut data) = (Map::new(), Vec::new());
        let positions: Vec<u8> = (0..8u64).flat_map(u64::to_le_bytes).collect();
        let entry = |dtype: &str, shape: &[usize], from: usize, to: usize| json!({ "dtype": dtype, "shape": shape, "data_offsets": [from, to] });
        table.insert("embeddings.position_ids".into(), entry("I64", &[1, 8], 0, positions.len()));
        data.extend(positions);
        let mut state = self.seed;
        for (name, shape) in tensors {
            let from = data.len();
            let scale = if name.contains("LayerNorm") { 0.2 } else { 0.4 };
            let middle = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
            for _ in 0..shape.iter().product() {
                // Knuth's MMIX constants.
                state = state.wrapping_mul(6_364_136_223_846_793_005);
                state = state.wrapping_add(1_442_695_040_888_963_407);
                #[allow(clippy::cast_precision_loss)]
                let unit = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
                data.extend((middle + scale * unit).to_le_bytes());
            }
            table.insert(name, entry("F32", &shape, from, data.len()));
        }
        let table = Value::Object(table).to_string().into_bytes();
        [&(table.len() as u64).to_le_bytes()[..], &table, &data].concat()
    }
}

fn vocabulary() -> Vec<String> {
    let letters = || ('a'..='z').map(|letter| letter.to_string());
    let words = CONTROLS.iter().chain(&WORDS).map(|word| (*word).to_owned());
    let inside = letters().filter(|letter| letter != "s").map(|letter| format!("##{letter}"));
    words.chain(letters()).chain(inside).collect()
}

fn tokenizer(vocab: &[String]) -> Value {
    let ids: Map<String, Value> =
        vocab.iter().enumerate().map(|(id, text)| (text.clone(), id.into())).collect();
    let added = |(id, content): (usize, &&str)| {
        json!({ "id": id, "content": content, "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false })
    };
    let added: Vec<Value> = CONTROLS.iter().enumerate().map(added).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                        "strip_accents": null, "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2] },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": ids },
    })
}

/// An embedder of `files`, which come in the order of their paths.
///
/// # Errors
/// As [`Embedder::open`].
pub fn embedder(files: &Files, options: EmbedOptions) -> Result<Embedder, EngineError> {
    let files = files.iter().map(|(path, bytes)| (path.as_str(), Cursor::new(bytes.as_slice())));
    Embedder::read(files, options)
}

/// Options that limit nothing, with `threads` threads.
#[must_use]
pub fn embed_options(threads: usize) -> EmbedOptions {
    EmbedOptions { max_requests: 64, request_tokens: 1 << 20, threads: NonZeroUsize::new(threads) }
}

/// The vectors of `texts`, in one request.
///
/// # Errors
/// As [`Embedder::embed`], and what comes in place of the vectors.
pub fn embed(embedder: &Embedder, texts: &[&str]) -> Result<Vec<Vec<f32>>, EngineError> {
    let text = |text: &&str| EmbedInput::Text(SecretBytes::new(text.as_bytes().to_vec()));
    let embedding = embedder.embed(texts.iter().map(text).collect())?;
    let vectors = embedding.vectors.blocking_recv().map_err(|_| EngineError::Stopped)??;
    Ok(vectors.iter().map(|vector| vector.expose().to_vec()).collect())
}
