//! Embeddings against numpy (`embedding.py`) and Candle's BERT, with a generated model and with the real
//! one, `all-MiniLM-L6-v2`; its tokens against the library whose files it has; and what a user of
//! vectors would notice.

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use chrysalis_engine::testing::{Files, TinyBert, embed, embed_options, embedder};
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::reference::{python, script};

/// Single precision here and there, in another order.
const LARGEST: f32 = 2e-6;

/// In several scripts, with accents, marks, ideographs, control characters and the names of tokens.
const TEXTS: [&str; 12] = [
    "A man is eating food.",
    "Someone eats a meal.",
    "The stock market fell sharply today.",
    "Shares dropped on the exchange.",
    "How do I reset my password?",
    "\u{dc}ber den W\u{e4}ldern na\u{ef}ve caf\u{e9}s, na\u{308}ch Z\u{fc}rich!",
    "\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}, \u{43c}\u{438}\u{440}!",
    "\u{4eca}\u{5929}\u{5929}\u{6c14}\u{5f88}\u{597d} \u{d55c}\u{ad6d}\u{c5b4} \u{3053}\u{3093}",
    "tab\there, a zero\u{0}, a bom\u{feff}, a joiner\u{200d}!",
    "unaffable antidisestablishmentarianism 3.14159 $^~",
    "a[CLS]b [ MASK ] e=mc\u{b2} \u{1f600}",
    "x",
];

/// The folder of the real model, or `None` after saying why the test is skipped.
fn real() -> Option<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = || env("CHRYSALIS_CACHE").or_else(|| Some(env("HOME")?.join(".cache/chrysalis")));
    let path =
        env("CHRYSALIS_EMBEDDING_MODEL").or_else(|| Some(cache()?.join("models/all-minilm-l6-v2")));
    let found = path.clone().filter(|path| path.join("model.safetensors").is_file());
    if found.is_none() {
        let required =
            ["CI", "CHRYSALIS_REQUIRE_MODEL"].into_iter().any(|name| env(name).is_some());
        assert!(!required, "the embedding model is required here and is not at {path:?}");
        println!(
            "SKIPPED: no embedding model at {path:?}; run scripts/fetch-model all-minilm-l6-v2"
        );
    }
    found
}

const PATHS: [&str; 6] = [
    "1_Pooling/config.json",
    "config.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
];

fn read(folder: &Path) -> Files {
    let file = |path: &str| (path.to_owned(), std::fs::read(folder.join(path)).unwrap());
    PATHS.into_iter().map(file).collect()
}

fn write(files: &Files, folder: &Path) {
    std::fs::create_dir_all(folder.join("1_Pooling")).unwrap();
    for (path, bytes) in files {
        std::fs::write(folder.join(path), bytes).unwrap();
    }
}

/// The library's ids. It would match the names of control tokens in a text, which is why the texts have
/// none of them where the two are compared.
fn ids(folder: &Path, texts: &[String]) -> Vec<Vec<u32>> {
    let mut file: Value =
        serde_json::from_slice(&std::fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    (file["truncation"], file["padding"]) = (Value::Null, Value::Null);
    file["added_tokens"] = serde_json::json!([]);
    let tokenizer = Tokenizer::from_bytes(file.to_string()).unwrap();
    let encode = |text: &String| tokenizer.encode(text.as_str(), true).unwrap().get_ids().to_vec();
    texts.iter().map(encode).collect()
}

/// The vectors by Candle, one text at a time.
fn candle(folder: &Path, ids: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let config: Config =
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap();
    let model = BertModel::load(weights, &config).unwrap();
    let vector = |ids: &Vec<u32>| {
        let ids = Tensor::new(ids.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let x = model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
        let mean = x.squeeze(0).unwrap().mean(0).unwrap().to_vec1::<f32>().unwrap();
        let length = mean.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        mean.iter().map(|x| (f64::from(*x) / length) as f32).collect()
    };
    ids.iter().map(vector).collect()
}

/// The vectors by numpy.
fn numpy(python: &Path, folder: &Path, ids: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let dir = tempfile::tempdir().unwrap();
    let (job, out) = (dir.path().join("job.json"), dir.path().join("out.f32"));
    std::fs::write(&job, serde_json::to_vec(ids).unwrap()).unwrap();
    let script = script("embedding.py");
    let mut command = Command::new(python);
    let status = command.arg(script).arg(folder).arg(&job).arg(&out).status().unwrap();
    assert!(status.success(), "embedding.py failed");
    let bytes = std::fs::read(out).unwrap();
    let values: Vec<f32> = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    values.chunks_exact(values.len() / ids.len()).map(<[f32]>::to_vec).collect()
}

fn largest(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let pairs = ours.iter().flatten().zip(theirs.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Compares the model in `folder` with both.
fn compare(name: &str, folder: &Path, texts: &[String]) {
    let embedder = embedder(&read(folder), embed_options(2)).unwrap();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let ours = embed(&embedder, &texts).unwrap();
    let owned: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    let ids = ids(folder, &owned);
    let distance = largest(&ours, &candle(folder, &ids));
    println!("{name}: largest difference to candle {distance:.1e}");
    assert!(distance < LARGEST, "{name}: {distance} from candle");
    let Some(python) = python() else { return };
    let distance = largest(&ours, &numpy(&python, folder, &ids));
    println!("{name}: largest difference to numpy {distance:.1e}");
    assert!(distance < LARGEST, "{name}: {distance} from numpy");
}

#[test]
fn vectors_of_a_generated_model_equal_numpys_and_candles() {
    let dir = tempfile::tempdir().unwrap();
    write(&TinyBert { hidden: 48, layers: 3, text_tokens: 64, seed: 5 }.files(), dir.path());
    let texts = ["the cat sat.", "dogs", "a b c d e f g h i j k l m n o p q r s t u v w x y z"];
    compare("generated", dir.path(), &texts.map(str::to_owned));
}

#[test]
fn vectors_of_the_real_model_equal_numpys_and_candles() {
    let Some(folder) = real() else { return };
    let mut texts: Vec<String> = TEXTS.map(str::to_owned).into();
    // As long as a text may be: 256 tokens, two of them around it.
    texts.push("word ".repeat(254));
    compare("all-MiniLM-L6-v2", &folder, &texts);
}

#[test]
fn tokens_of_the_real_model_are_those_of_its_library() {
    let Some(folder) = real() else { return };
    let file = std::fs::read(folder.join("tokenizer.json")).unwrap();
    let ours = chrysalis_wordpiece::Tokenizer::parse(&file).unwrap();
    let texts = TEXTS.map(str::to_owned);
    for (text, expected) in texts.iter().zip(ids(&folder, &texts)) {
        assert_eq!(*ours.encode(text, 256).unwrap(), expected, "{text:?}");
    }
    let words = ours.encode("unaffable", 9).unwrap();
    // un ##aff ##able
    assert_eq!(*words, [101, 14477, 20961, 3468, 102]);
}

#[test]
fn sentences_that_mean_the_same_are_closer_than_others() {
    let Some(folder) = real() else { return };
    let embedder = embedder(&read(&folder), embed_options(2)).unwrap();
    let vectors = embed(&embedder, &TEXTS[..5]).unwrap();
    let cosine = |a: usize, b: usize| -> f32 {
        vectors[a].iter().zip(&vectors[b]).map(|(a, b)| a * b).sum()
    };
    assert!((cosine(0, 0) - 1.0).abs() < 1e-5);
    for (same, others) in [((0, 1), [(0, 2), (0, 3), (0, 4)]), ((2, 3), [(2, 0), (2, 1), (2, 4)])] {
        let close = cosine(same.0, same.1);
        for other in others {
            let far = cosine(other.0, other.1);
            assert!(close > 0.5 && far < 0.3, "{same:?} {close}, {other:?} {far}");
        }
    }
}
