//! The models of the recipes as model hubs publish them: `config.json`, shards of safetensors with their
//! index, and the tokenizer's files. Written from the GGUF file of the same recipe, under names that are
//! spelled out here once more and not taken from the reader's table.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

use candle_core::quantized::GgmlDType;
use serde_json::{Map, Value, json};

use super::{CHATML, Probe, Recipe};
use crate::checkpoint::Checkpoint;
use crate::engine::assemble;
use crate::error::EngineError;
use crate::gguf::Gguf;
use crate::kernels::Pool;

/// Files by path.
pub type Hub = BTreeMap<String, Vec<u8>>;

/// Loads the model of a checkpoint, as the engine does.
///
/// # Errors
/// As [`crate::CandleEngine::open`].
pub fn checkpoint(files: &Hub) -> Result<Probe, EngineError> {
    checkpoint_with(files, None)
}

/// As [`checkpoint`], computed by `threads`.
///
/// # Errors
/// As [`crate::CandleEngine::open`].
pub fn checkpoint_with(files: &Hub, threads: Option<NonZeroUsize>) -> Result<Probe, EngineError> {
    let pool = Pool::new(threads);
    let mut checkpoint = Checkpoint::default();
    for (path, bytes) in files {
        checkpoint.file(path, bytes.len() as u64, &mut &bytes[..], &pool)?;
    }
    let (gguf, weights) = checkpoint.finish()?;
    Ok(Probe::of(assemble(gguf, pool, |_, _| Ok(weights))?))
}

/// A tensor: its name, type, shape and bytes.
pub(crate) type Published = (String, &'static str, Vec<usize>, Vec<u8>);

impl Recipe {
    /// The files of a checkpoint with exactly the weights and the tokenizer of [`Recipe::build`].
    #[must_use]
    pub fn checkpoint(&self) -> Hub {
        let file = self.build();
        let gguf = Gguf::read(&mut &file[..], file.len() as u64).unwrap();
        let mut tensors = self.published(&file, &gguf);
        tensors.sort();
        let (first, second) = tensors.split_at(tensors.len() / 2);
        let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let mut map = Map::new();
        for (tensors, name) in [first, second].into_iter().zip(names) {
            map.extend(tensors.iter().map(|(tensor, ..)| (tensor.clone(), json!(name))));
        }
        let tokens = gguf.strings("tokenizer.ggml.tokens").unwrap().len();
        let rows = self.vocab.unwrap_or(tokens);
        let text = |value: Value| serde_json::to_vec(&value).unwrap();
        Hub::from([
            ("config.json".to_owned(), text(self.config(rows))),
            (names[0].to_owned(), shard(first)),
            (names[1].to_owned(), shard(second)),
            ("model.safetensors.index.json".to_owned(), text(json!({"weight_map": map}))),
            ("tokenizer.json".to_owned(), text(tokenizer(&gguf))),
            (
                "tokenizer_config.json".to_owned(),
                text(json!({
                    "bos_token": "<|im_start|>",
                    "eos_token": {"content": "<|im_end|>"},
                    "add_bos_token": false,
                    "chat_template": CHATML,
                })),
            ),
        ])
    }

    /// Its tensors, for tests that change them.
    #[cfg(test)]
    pub(crate) fn tensors_of_checkpoint(&self) -> Vec<Published> {
        let file = self.build();
        self.published(&file, &Gguf::read(&mut &file[..], file.len() as u64).unwrap())
    }

    /// `config.json`.
    fn config(&self, rows: usize) -> Value {
        let mut config = json!({
            "architectures": [self.class()],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "head_dim": self.head_dim,
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.ffn,
            "max_position_embeddings": self.context,
            "model_type": self.architecture,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-5,
            "rope_scaling": null,
            "rope_theta": self.freq_base,
            "tie_word_embeddings": self.tied,
            "torch_dtype": "float16",
            "transformers_version": "4.51.0",
            "use_cache": true,
            "vocab_size": rows,
        });
        config["rope_scaling"] = self.rope_scaling();
        let own = match self.architecture {
            "gemma3" => json!({
                "attn_logit_softcapping": null,
                "final_logit_softcapping": null,
                "hidden_activation": "gelu_pytorch_tanh",
                "query_pre_attn_scalar": self.head_dim,
                "rope_local_base_freq": 10000.0,
                "sliding_window": self.window,
                "sliding_window_pattern": 6,
            }),
            "qwen3" | "qwen3moe" => json!({
                "hidden_act": "silu",
                "max_window_layers": self.layers,
                "sliding_window": null,
                "use_sliding_window": false,
            }),
            _ => json!({"hidden_act": "silu", "sliding_window": self.window}),
        };
        let mut more = own.as_object().unwrap().clone();
        if let Some((count, used)) = self.experts {
            let of_experts = json!({
                "decoder_sparse_step": 1,
                "mlp_only_layers": [],
                "model_type": "qwen3_moe",
                "moe_intermediate_size": self.ffn,
                "norm_topk_prob": true,
                "num_experts": count,
                "num_experts_per_tok": used,
                "output_router_logits": false,
                "router_aux_loss_coef": 0.001,
            });
            more.extend(of_experts.as_object().unwrap().clone());
        }
        config.as_object_mut().unwrap().extend(more);
        config
    }

    /// As `config.json` has it.
    pub(crate) fn rope_scaling(&self) -> Value {
        match (self.ramp, self.stretch) {
            (Some(ramp), _) => json!({
                "factor": ramp.factor,
                "high_freq_factor": ramp.high_freq_factor,
                "low_freq_factor": ramp.low_freq_factor,
                "original_max_position_embeddings": ramp.original_context as u32,
                "rope_type": "llama3",
            }),
            (None, Some(factor)) => json!({"factor": factor, "rope_type": "linear"}),
            (None, None) => Value::Null,
        }
    }

    fn class(&self) -> &'static str {
        match self.architecture {
            "gemma3" => "Gemma3ForCausalLM",
            "qwen3" => "Qwen3ForCausalLM",
            "qwen3moe" => "Qwen3MoeForCausalLM",
            _ if self.window.is_some() || self.heads * self.head_dim != self.hidden => {
                "MistralForCausalLM"
            }
            _ => "LlamaForCausalLM",
        }
    }

    /// The tensors, under the names and in the order of rows of a checkpoint.
    fn published(&self, file: &[u8], gguf: &Gguf) -> Vec<Published> {
        let mut out = Vec::new();
        for stored in gguf.tensors() {
            let from = usize::try_from(stored.at).unwrap();
            let mut bytes = file[from..][..usize::try_from(stored.bytes).unwrap()].to_vec();
            let short = stored.name.strip_suffix(".weight").unwrap();
            let (block, part) = match short.strip_prefix("blk.") {
                Some(rest) => rest.split_once('.').unwrap(),
                None => ("", short),
            };
            let heads = match part {
                "attn_q" => self.heads,
                "attn_k" => self.kv_heads,
                _ => 0,
            };
            if heads > 0 && self.architecture == "llama" {
                let row = bytes.len() / stored.dims[0];
                bytes = apart(&bytes, row, stored.dims[0] / heads);
            }
            let gemma = self.architecture == "gemma3";
            if gemma && stored.dims.len() == 1 {
                let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b) - 1.0);
                bytes = values.flat_map(f32::to_le_bytes).collect();
            }
            let dtype = match stored.dtype {
                GgmlDType::F32 => "F32",
                GgmlDType::F16 => "F16",
                GgmlDType::BF16 => "BF16",
                other => panic!("no checkpoint has {other:?}"),
            };
            if let Some(part) = part.strip_suffix("_exps") {
                let (count, dims) = (stored.dims[0], stored.dims[1..].to_vec());
                let part = format!("{}_proj", part.strip_prefix("ffn_").unwrap());
                for (expert, bytes) in bytes.chunks_exact(bytes.len() / count).enumerate() {
                    let name = format!("model.layers.{block}.mlp.experts.{expert}.{part}.weight");
                    out.push((name, dtype, dims.clone(), bytes.to_vec()));
                }
                continue;
            }
            let name = match part {
                "token_embd" => "model.embed_tokens",
                "output_norm" => "model.norm",
                "output" => "lm_head",
                // `config.json` has the numbers it comes from.
                "rope_freqs" => continue,
                "attn_norm" => "input_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "attn_q_norm" => "self_attn.q_norm",
                "attn_k_norm" => "self_attn.k_norm",
                "post_attention_norm" => "post_attention_layernorm",
                "ffn_norm" if gemma => "pre_feedforward_layernorm",
                "ffn_norm" => "post_attention_layernorm",
                "post_ffw_norm" => "post_feedforward_layernorm",
                "ffn_gate_inp" => "mlp.gate",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                other => panic!("{other}"),
            };
            let layer = if block.is_empty() { "" } else { &format!("model.layers.{block}.") };
            // Routers are in single precision in GGUF files, and as everything else here.
            let router = part == "ffn_gate_inp" && self.dtype == GgmlDType::BF16;
            let (dtype, bytes) = match router {
                true => ("BF16", bytes.chunks_exact(4).flat_map(|b| [b[2], b[3]]).collect()),
                false => (dtype, bytes),
            };
            out.push((format!("{layer}{name}.weight"), dtype, stored.dims, bytes));
        }
        out
    }
}

/// Rows of pairs, put into halves of heads of `dim` rows.
fn apart(bytes: &[u8], row: usize, dim: usize) -> Vec<u8> {
    let rows: Vec<&[u8]> = bytes.chunks_exact(row).collect();
    let mut out = Vec::new();
    for head in rows.chunks_exact(dim) {
        for half in 0..2 {
            head.iter().skip(half).step_by(2).for_each(|row| out.extend_from_slice(row));
        }
    }
    out
}

/// A file of safetensors.
pub(crate) fn shard(tensors: &[Published]) -> Vec<u8> {
    let (mut table, mut data) = (Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        table.insert(name.clone(), entry);
        data.extend_from_slice(bytes);
    }
    let table = serde_json::to_vec(&table).unwrap();
    [&(table.len() as u64).to_le_bytes()[..], &table, &data].concat()
}

/// `tokenizer.json`.
fn tokenizer(gguf: &Gguf) -> Value {
    let tokens = gguf.strings("tokenizer.ggml.tokens").unwrap();
    let kinds = gguf.u32s("tokenizer.ggml.token_type").unwrap();
    let vocab: Map<_, _> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let added: Vec<_> = kinds
        .iter()
        .enumerate()
        .filter(|(_, kind)| [3, 4].contains(*kind))
        .map(|(id, kind)| {
            json!({
                "id": id, "content": tokens[id], "special": *kind == 3, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            })
        })
        .collect();
    if gguf.string("tokenizer.ggml.model").unwrap() == "llama" {
        return pieces(gguf, &tokens, &vocab, &added);
    }
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": "<|endoftext|>",
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": gguf.strings("tokenizer.ggml.merges").unwrap(),
        },
    })
}

/// As of Gemma: scores become merges in the way of the published converter. Of each piece all pairs of
/// pieces that it can be joined from, and those of a higher score first.
fn pieces(gguf: &Gguf, tokens: &[&str], vocab: &Map<String, Value>, added: &[Value]) -> Value {
    let scores = gguf.f32s("tokenizer.ggml.scores").unwrap();
    let kinds = gguf.u32s("tokenizer.ggml.token_type").unwrap();
    let ordinary = (0..tokens.len()).filter(|id| kinds[*id] == 1);
    let ids: HashMap<&str, usize> = ordinary.map(|id| (tokens[id], id)).collect();
    let mut merges = Vec::new();
    for (piece, id) in &ids {
        for (at, _) in piece.char_indices().skip(1) {
            let (a, b) = piece.split_at(at);
            if let (Some(left), Some(right)) = (ids.get(a), ids.get(b)) {
                merges.push((scores[*id], *left, *right, [a, b]));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let merges: Vec<_> = merges.into_iter().map(|(.., pair)| pair).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        "pre_tokenizer": {
            "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
            "invert": false,
        },
        "post_processor": null,
        "decoder": null,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

impl Recipe {
    /// A tokenizer of pieces with scores, as Gemma has: letters, words, runs of spaces and all bytes.
    #[must_use]
    pub fn with_pieces(self) -> Self {
        let mut tokens: Vec<String> =
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"].map(str::to_owned).into();
        let mut kinds = vec![3, 3, 3, 4];
        tokens.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
        kinds.resize(tokens.len(), 6);
        let letters = "\u{2581}abcdehlortw.\n";
        tokens.extend(letters.chars().map(|c| c.to_string()));
        let words = [
            "he",
            "ll",
            "lo",
            "\u{2581}w",
            "or",
            "\u{2581}wor",
            "ld",
            "hell",
            "hello",
            "\u{2581}the",
            "th",
            "\u{2581}t",
            "\u{2581}\u{2581}",
            "\u{2581}\u{2581}\u{2581}",
            "\u{2581}world",
            "the",
            "at",
            "\u{2581}a",
            "et",
            "\n\n",
            "el",
            "ol",
        ];
        tokens.extend(words.map(str::to_owned));
        kinds.resize(tokens.len(), 1);
        // No two pieces that are joined have the same score, as in published vocabularies.
        let mut scores = vec![0.0; tokens.len()];
        for (rank, score) in scores.iter_mut().skip(260 + letters.chars().count()).enumerate() {
            *score = -1.0 - rank as f32;
        }
        self.with_text("tokenizer.ggml.model", "llama")
            .without("tokenizer.ggml.pre")
            .without("tokenizer.ggml.merges")
            .with_texts("tokenizer.ggml.tokens", &tokens)
            .with_numbers("tokenizer.ggml.token_type", &kinds)
            .with_floats("tokenizer.ggml.scores", &scores)
            .with_truth("tokenizer.ggml.add_space_prefix", false)
            .rows(tokens.len())
    }

    fn rows(self, rows: usize) -> Self {
        Self { vocab: Some(rows), ..self }
    }
}
