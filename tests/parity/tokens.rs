//! Token ids against independent implementations: byte-level merges as tiktoken does them, and
//! SentencePiece (`vocabularies.py`).
//!
//! Small vocabularies are trained on the spot. With `$CHRYSALIS_VOCABULARIES`, a directory that
//! `scripts/parity` fills, those of Mistral 7B, Mistral NeMo and Qwen are compared too.

use std::path::Path;
use std::process::Command;

use chrysalis_engine::testing::{Probe, Recipe, text};
use serde::Deserialize;

use crate::reference::{python, script};

#[derive(Deserialize)]
struct Vocabulary {
    model: String,
    pre: Option<String>,
    add_bos: bool,
    space_first: Option<bool>,
    tokens: Vec<String>,
    types: Vec<u32>,
    scores: Option<Vec<f32>>,
    merges: Option<Vec<String>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

impl Vocabulary {
    /// A model of it, as small as a model can be.
    fn recipe(&self) -> Recipe {
        let small = Recipe {
            hidden: 8,
            heads: 1,
            kv_heads: 1,
            head_dim: 8,
            ffn: 8,
            layers: 1,
            ..Recipe::smollm2()
        };
        let mut recipe = Recipe { vocab: Some(self.tokens.len()), ..small }
            .with_text("tokenizer.ggml.model", &self.model)
            .with_texts("tokenizer.ggml.tokens", &self.tokens)
            .with_numbers("tokenizer.ggml.token_type", &self.types)
            .with_truth("tokenizer.ggml.add_bos_token", self.add_bos)
            .without("tokenizer.ggml.pre")
            .without("tokenizer.ggml.merges");
        if let Some(pre) = &self.pre {
            recipe = recipe.with_text("tokenizer.ggml.pre", pre);
        }
        if let Some(merges) = &self.merges {
            recipe = recipe.with_texts("tokenizer.ggml.merges", merges);
        }
        if let Some(scores) = &self.scores {
            recipe = recipe.with_floats("tokenizer.ggml.scores", scores);
        }
        if let Some(space) = self.space_first {
            recipe = recipe.with_truth("tokenizer.ggml.add_space_prefix", space);
        }
        recipe
    }
}

/// Compares every vocabulary of `dir`; how many there were.
fn compare(dir: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let vocabulary: Vocabulary =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let probe = Probe::load(&vocabulary.recipe().build()).unwrap();
        for Case { text: prompt, ids } in &vocabulary.cases {
            if prompt.is_empty() {
                continue;
            }
            let got = probe.ids(&text(prompt)).unwrap();
            assert_eq!(&got, ids, "{} in {}", prompt.escape_debug(), path.display());
            let added = usize::from(vocabulary.space_first == Some(true));
            assert_eq!(&probe.decode(&got)[added..], prompt.as_bytes(), "{}", path.display());
        }
        println!("{}: {} texts", path.display(), vocabulary.cases.len());
        count += 1;
    }
    count
}

#[test]
fn token_ids_equal_independent_implementations_over_trained_vocabularies() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(python).arg(script("vocabularies.py")).arg(dir.path()).status();
    assert!(status.unwrap().success(), "vocabularies.py failed");
    assert_eq!(compare(dir.path()), 7);
}

#[test]
fn token_ids_equal_independent_implementations_over_published_vocabularies() {
    let Some(dir) = std::env::var_os("CHRYSALIS_VOCABULARIES") else {
        println!("SKIPPED: CHRYSALIS_VOCABULARIES is not set; scripts/parity sets it");
        return;
    };
    assert_eq!(compare(Path::new(&dir)), 4);
}
