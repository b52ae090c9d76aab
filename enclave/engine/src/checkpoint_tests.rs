//! A checkpoint written from a GGUF file of 16-bit weights is the same model, bit for bit; what is
//! missing, said twice or not computed is refused.

use std::collections::BTreeMap;

use candle_core::quantized::GgmlDType;
use serde_json::json;

use super::*;
use crate::EngineError;
use crate::engine::{assemble, load};
use crate::error::TemplateError;
use crate::probe::Probe;
use crate::request::Role;
use crate::testing::{CHATML, TinyModel, chat};

/// The files of a checkpoint, by path.
type Files = BTreeMap<String, Vec<u8>>;

const HEADS: [(&str, usize); 2] = [("q_proj", 4), ("k_proj", 2)];

fn model() -> TinyModel {
    TinyModel::random(5).quantised(GgmlDType::F16)
}

/// The name in a checkpoint.
fn hub_name(gguf: &str) -> String {
    let name = gguf.strip_suffix(".weight").unwrap();
    if let Some((from, _)) = OUTSIDE.iter().find(|(_, to)| *to == name) {
        return format!("{from}.weight");
    }
    let (block, part) = name.strip_prefix("blk.").unwrap().split_once('.').unwrap();
    let (from, ..) = BLOCK.iter().find(|(_, to, _)| *to == part).unwrap();
    format!("model.layers.{block}.{from}.weight")
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
fn shard(tensors: &[(String, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let (mut table, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        table.insert(name.clone(), entry);
        data.extend_from_slice(bytes);
    }
    let table = serde_json::to_vec(&table).unwrap();
    [&(table.len() as u64).to_le_bytes()[..], &table, &data].concat()
}

/// The checkpoint of a GGUF file: two shards and an index.
fn checkpoint(file: &[u8]) -> Files {
    let gguf = Gguf::parse(file).unwrap();
    let mut tensors = Vec::new();
    for stored in gguf.tensors() {
        let from = usize::try_from(stored.at).unwrap();
        let mut bytes = file[from..][..usize::try_from(stored.bytes).unwrap()].to_vec();
        let name = hub_name(&stored.name);
        if let Some((_, heads)) = HEADS.iter().find(|(part, _)| name.contains(part)) {
            bytes = apart(&bytes, 2 * stored.dims[1], stored.dims[0] / heads);
        }
        let dtype = if stored.dims.len() == 1 { "F32" } else { "F16" };
        tensors.push((name, dtype, stored.dims, bytes));
    }
    tensors.sort();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let mut map = serde_json::Map::new();
    for (tensors, name) in [first, second].into_iter().zip(names) {
        map.extend(tensors.iter().map(|(tensor, ..)| (tensor.clone(), json!(name))));
    }
    let tokens = gguf.strings("tokenizer.ggml.tokens").unwrap();
    let kinds = gguf.u32s("tokenizer.ggml.token_type").unwrap();
    let vocab: serde_json::Map<_, _> =
        tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), json!(id))).collect();
    let added: Vec<_> = kinds
        .iter()
        .enumerate()
        .filter(|(_, kind)| **kind != 1)
        .map(|(id, kind)| json!({"id": id, "content": tokens[id], "special": *kind == 3}))
        .collect();
    let json = |value: serde_json::Value| serde_json::to_vec(&value).unwrap();
    Files::from([
        ("config.json".to_owned(), json(config(tokens.len()))),
        (names[0].to_owned(), shard(first)),
        (names[1].to_owned(), shard(second)),
        ("model.safetensors.index.json".to_owned(), json(json!({"weight_map": map}))),
        (
            "tokenizer.json".to_owned(),
            json(json!({
                "added_tokens": added,
                "normalizer": null,
                "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                    {"type": "Digits", "individual_digits": true},
                    {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
                ]},
                "model": {
                    "type": "BPE",
                    "vocab": vocab,
                    "merges": gguf.strings("tokenizer.ggml.merges").unwrap(),
                },
            })),
        ),
        (
            "tokenizer_config.json".to_owned(),
            json(json!({
                "bos_token": "<|im_start|>",
                "eos_token": {"content": "<|im_end|>"},
                "add_bos_token": false,
                "chat_template": CHATML,
            })),
        ),
    ])
}

fn config(vocab: usize) -> serde_json::Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 2,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "rope_scaling": null,
        "vocab_size": vocab,
    })
}

fn read(files: &Files) -> Result<Probe, EngineError> {
    let pool = Pool::new(None);
    let mut checkpoint = Checkpoint::default();
    for (path, bytes) in files {
        checkpoint.file(path, bytes.len() as u64, &mut &bytes[..], &pool)?;
    }
    let (gguf, weights) = checkpoint.finish()?;
    Ok(Probe::of(assemble(gguf, pool, |_, _| Ok(weights))?))
}

fn refusal(files: &Files) -> ModelError {
    match read(files) {
        Err(EngineError::Model(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the checkpoint was accepted"),
    }
}

/// The checkpoint with a value of a file of JSON replaced.
fn with(file: &str, pointer: &str, value: serde_json::Value) -> Files {
    let mut files = checkpoint(&model().build());
    let mut json: serde_json::Value = serde_json::from_slice(&files[file]).unwrap();
    match json.pointer_mut(pointer) {
        Some(place) => *place = value,
        None => drop(json.as_object_mut().unwrap().insert(pointer[1..].to_owned(), value)),
    }
    files.insert(file.to_owned(), serde_json::to_vec(&json).unwrap());
    files
}

#[test]
fn a_checkpoint_computes_what_the_gguf_file_of_its_weights_does() {
    let file = model().build();
    let ours = read(&checkpoint(&file)).unwrap();
    let len = file.len() as u64;
    let theirs = Probe::of(load(&mut &file[..], len, None).unwrap());
    let input = chat(&[(Role::User, "hello 12 <|im_end|> <think> é")]);
    let ids = theirs.ids(&input).unwrap();
    assert_eq!(ours.ids(&input).unwrap(), ids);
    let logits = |probe: &Probe| probe.session().feed_each(&ids).unwrap();
    assert_eq!(logits(&ours), logits(&theirs));
}

#[test]
fn merges_may_be_pairs_and_the_template_a_file() {
    let mut files = with("tokenizer.json", "/model/merges", json!([["h", "e"], ["l", "l"]]));
    assert!(read(&files).is_ok());
    let without = with("tokenizer_config.json", "/chat_template", json!(null));
    let input = chat(&[(Role::User, "a")]);
    let missing = read(&without).unwrap().ids(&input);
    assert_eq!(missing, Err(EngineError::Template(TemplateError::Missing)));
    files.insert("chat_template.jinja".to_owned(), b"{{ messages[0].content }}".to_vec());
    assert_eq!(read(&files).unwrap().ids(&input).unwrap().len(), 1);
}

#[test]
fn refuses_what_is_missing_by_name() {
    for name in ["config.json", "tokenizer.json"] {
        let mut files = checkpoint(&model().build());
        files.remove(name);
        let refused = refusal(&files);
        let named = match &refused {
            ModelError::FileMissing { name } => name.clone(),
            // The shards cannot be read without it.
            ModelError::Malformed { detail, .. } => detail.clone(),
            other => panic!("{other:?}"),
        };
        assert!(named.contains(name), "{refused:?}");
    }
    let mut files = checkpoint(&model().build());
    files.remove("model-00002-of-00002.safetensors");
    assert!(matches!(refusal(&files), ModelError::TensorMissing { .. }));
    files.remove("model.safetensors.index.json");
    assert!(matches!(refusal(&files), ModelError::TensorMissing { .. }));
}

#[test]
fn refuses_an_index_that_names_another_shard_and_a_tensor_of_two_shards() {
    let mut files = checkpoint(&model().build());
    let index = files["model.safetensors.index.json"].clone();
    let other = String::from_utf8(index).unwrap().replace("00001", "00003");
    files.insert("model.safetensors.index.json".to_owned(), other.into_bytes());
    assert!(
        matches!(refusal(&files), ModelError::Malformed { what, .. } if what.ends_with("index.json"))
    );
    let again = files["model-00001-of-00002.safetensors"].clone();
    files.insert("model-00003-of-00002.safetensors".to_owned(), again);
    assert!(matches!(refusal(&files), ModelError::Duplicate { .. }));
}

#[test]
fn refuses_settings_and_tensors_that_would_be_computed_wrongly() {
    for (key, value) in [
        ("rope_scaling", json!({"rope_type": "yarn"})),
        ("sliding_window", json!(4096)),
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
        ("hidden_act", json!("gelu")),
    ] {
        let refused = refusal(&with("config.json", &format!("/{key}"), value));
        assert!(matches!(refused, ModelError::UnsupportedFeature { .. }), "{key}: {refused:?}");
    }
    let refused = refusal(&with("config.json", "/architectures", json!(["MambaForCausalLM"])));
    assert!(matches!(refused, ModelError::UnknownArchitecture { .. }));
    for name in ["model.layers.0.self_attn.q_proj.bias", "model.layers.00.mlp.up_proj.weight"] {
        let mut files = checkpoint(&model().build());
        let more = shard(&[(name.to_owned(), "F16", vec![4], vec![0; 8])]);
        files.insert("model-extra.safetensors".to_owned(), more);
        let feature = format!("tensor {name}");
        assert_eq!(refusal(&files), ModelError::UnsupportedFeature { feature });
    }
}

#[test]
fn refuses_a_tokenizer_that_we_would_apply_otherwise() {
    for (pointer, value) in [
        ("/normalizer", json!({"type": "NFC"})),
        ("/pre_tokenizer", json!(null)),
        ("/pre_tokenizer/pretokenizers/0/individual_digits", json!(false)),
        ("/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true)),
        ("/model/type", json!("Unigram")),
    ] {
        let refused = refusal(&with("tokenizer.json", pointer, value));
        assert!(matches!(refused, ModelError::TokenizerUnsupported { .. }), "{pointer}");
    }
    let twice = json!([{"id": 0, "content": "another", "special": true}]);
    for (pointer, value) in [("/added_tokens", twice), ("/model/merges", json!(["q"]))] {
        let refused = refusal(&with("tokenizer.json", pointer, value));
        assert!(matches!(refused, ModelError::TokenizerInvalid { .. }), "{pointer}");
    }
}

#[test]
fn refuses_a_file_of_text_one_byte_over_the_limit_before_reading_it() {
    let mut checkpoint = Checkpoint::default();
    let pool = Pool::new(None);
    let mut take = |len| checkpoint.file("config.json", len, &mut &b"{"[..], &pool);
    assert!(matches!(take(MAX_JSON_BYTES), Err(ModelError::Malformed { .. })));
    assert!(matches!(take(MAX_JSON_BYTES + 1), Err(ModelError::Limit { .. })));
}
