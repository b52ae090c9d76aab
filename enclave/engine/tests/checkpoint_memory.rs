//! A sealed checkpoint in shards is verified, opened and put in its place as it is read: that takes little
//! more memory than its weights. A process of its own: what is measured is the peak of the whole process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod process;

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use chrysalis_engine::testing::{Recipe, collect, text};
use chrysalis_engine::{
    CandleEngine, Engine as _, EngineOptions, GenerateRequest, Sampling, Scheduling,
};
use chrysalis_vault::{AssetSource, Bundle, ModelKey, PackFile, PackInput, SealWith, pack_file};
use process::status;
use serde_json::{Map, json};

/// Peak of the process over the size of the shards, in percent; before the model it is a few MiB.
const MOST: u64 = 120;
const HIDDEN: usize = 512;
const FFN: usize = 2048;
const LAYERS: usize = 16;
const VOCAB: usize = 264;

/// Those of a Qwen3 with tied embeddings.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut out = vec![
        ("model.embed_tokens".to_owned(), vec![VOCAB, HIDDEN]),
        ("model.norm".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let parts = [
            ("input_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![HIDDEN / 2, HIDDEN]),
            ("self_attn.v_proj", vec![HIDDEN / 2, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.q_norm", vec![64]),
            ("self_attn.k_norm", vec![64]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("mlp.gate_proj", vec![FFN, HIDDEN]),
            ("mlp.up_proj", vec![FFN, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, FFN]),
        ];
        out.extend(parts.map(|(part, dims)| (format!("model.layers.{layer}.{part}"), dims)));
    }
    out.into_iter().map(|(name, dims)| (format!("{name}.weight"), dims)).collect()
}

/// Writes a shard, tensor by tensor: the process that measures never holds it. Its bytes.
fn write(path: &Path, tensors: &[(String, Vec<usize>)]) -> u64 {
    let (mut table, mut end) = (Map::new(), 0);
    for (name, dims) in tensors {
        let start = end;
        end += 2 * dims.iter().product::<usize>();
        let entry = json!({"dtype": "BF16", "shape": dims, "data_offsets": [start, end]});
        table.insert(name.clone(), entry);
    }
    let table = serde_json::to_vec(&table).unwrap();
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&(table.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&table).unwrap();
    let mut state = 1u32;
    for _ in 0..end / 2 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Of both signs, and from 0.008 to 0.03.
        let value = ((state >> 16) & 0x8000) as u16 | (0x3c00 + ((state >> 9) & 0xff) as u16);
        file.write_all(&value.to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
    fs::metadata(path).unwrap().len()
}

#[test]
fn serving_a_sealed_checkpoint_takes_at_most_a_fifth_more_memory_than_its_weights() {
    let dir = tempfile::tempdir().unwrap();
    let small = Recipe { layers: LAYERS, ..Recipe::qwen3() }.checkpoint();
    let mut config: serde_json::Value = serde_json::from_slice(&small["config.json"]).unwrap();
    for (key, value) in [
        ("hidden_size", HIDDEN),
        ("intermediate_size", FFN),
        ("num_attention_heads", HIDDEN / 64),
        ("num_key_value_heads", HIDDEN / 128),
        ("head_dim", 64),
        ("vocab_size", VOCAB),
    ] {
        config[key] = json!(value);
    }
    let path = |name: &str| dir.path().join(name);
    fs::write(path("config.json"), config.to_string()).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::write(path(name), &small[name]).unwrap();
    }
    drop(small);
    let all = tensors();
    let (first, second) = all.split_at(all.len() / 2);
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    let len: u64 = [first, second].iter().zip(shards).map(|(t, name)| write(&path(name), t)).sum();

    let names = ["config.json", shards[0], shards[1], "tokenizer.json", "tokenizer_config.json"];
    let open = |name: &&str| PackFile::open(*name, &path(name)).unwrap();
    let input = PackInput {
        name: "large".to_owned(),
        architecture: "qwen3".to_owned(),
        quantisation: None,
        tokenizer: AssetSource::File("tokenizer.json".to_owned()),
        chat_template: AssetSource::None,
        licence: None,
        files: names.iter().map(open).collect(),
    };
    let key = ModelKey::generate(|bytes| bytes.fill(7)).unwrap();
    let seal = SealWith { key: &key, salt: [3; 32] };
    let bundle = path("large.chrysalis");
    let report = pack_file(input, &bundle, Some(&seal), &|_, _| {}).unwrap();
    shards.iter().for_each(|name| fs::remove_file(path(name)).unwrap());

    let before = status("VmHWM");
    let opened = Bundle::open(File::open(&bundle).unwrap()).unwrap();
    let mut files = opened.files(&report.model_root, Some(&key), &|_, _| {}).unwrap();
    let engine = CandleEngine::open(&mut files, EngineOptions::new(|| 0)).unwrap();
    files.finish().unwrap();
    let loaded = status("VmHWM");
    let request = GenerateRequest {
        input: text("hello, wide world"),
        sampling: Sampling::greedy(),
        logit_bias: Vec::new(),
        stop: Vec::new(),
        max_tokens: 8,
        constraint: None,
        logprobs: None,
        choices: 1,
        scheduling: Scheduling::default(),
    };
    assert!(matches!(collect(engine.generate(request).unwrap()).end, Some(Ok(_))));
    let peak = status("VmHWM");
    let percent = |bytes: u64| bytes * 100 / len;
    println!(
        "shards {len}: before {}%, loaded {}%, peak {}%, now {}%",
        percent(before),
        percent(loaded),
        percent(peak),
        percent(status("VmRSS"))
    );
    assert!(percent(peak) <= MOST, "{} MiB for shards of {} MiB", peak >> 20, len >> 20);
}
