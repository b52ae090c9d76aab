//! The first oracle: `reference.py`, which reads the GGUF itself.
//!
//! Runs `$CHRYSALIS_PARITY_PYTHON`, a Python with the packages of `tests/parity/requirements.txt`.
//! Without it the tests are skipped, unless `CI` or `CHRYSALIS_REQUIRE_PYTHON` is set.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

/// The Python, or `None` after saying why the test is skipped.
pub(crate) fn python() -> Option<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let python = env("CHRYSALIS_PARITY_PYTHON").map(PathBuf::from);
    if python.is_none() {
        let required = env("CI").is_some() || env("CHRYSALIS_REQUIRE_PYTHON").is_some();
        assert!(!required, "CHRYSALIS_PARITY_PYTHON is not set, and is required here");
        println!("SKIPPED: CHRYSALIS_PARITY_PYTHON is not set; see tests/parity/requirements.txt");
    }
    python
}

/// A file of this directory.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/parity").join(name)
}

/// The Python that has llama.cpp, which takes long to compile: `scripts/parity` names it.
pub(crate) fn llama_python() -> Option<PathBuf> {
    let python = std::env::var_os("CHRYSALIS_LLAMA_PYTHON").filter(|value| !value.is_empty());
    if python.is_none() {
        println!("SKIPPED: CHRYSALIS_LLAMA_PYTHON is not set; scripts/parity sets it");
    }
    python.map(PathBuf::from)
}

/// A Python with torch and transformers, on a machine with a GPU.
pub(crate) fn torch_python() -> Option<PathBuf> {
    let python = std::env::var_os("CHRYSALIS_TORCH_PYTHON").filter(|value| !value.is_empty());
    if python.is_none() {
        println!("SKIPPED: CHRYSALIS_TORCH_PYTHON is not set; see tests/parity/halves.py");
    }
    python.map(PathBuf::from)
}

/// For each model and its tokens, the logits after each of them, by numpy.
pub(crate) fn logits(python: &Path, jobs: &[(&[u8], &[u32])]) -> Vec<Vec<Vec<f32>>> {
    logits_by("reference.py", python, jobs)
}

/// The same, by llama.cpp.
pub(crate) fn llama_logits(python: &Path, jobs: &[(&[u8], &[u32])]) -> Vec<Vec<Vec<f32>>> {
    logits_by("llama.py", python, jobs)
}

/// The same, by transformers on a GPU.
pub(crate) fn transformers_logits(python: &Path, jobs: &[(&[u8], &[u32])]) -> Vec<Vec<Vec<f32>>> {
    logits_by("halves.py", python, jobs)
}

/// One process for all, because starting it takes longer than a small model.
fn logits_by(program: &str, python: &Path, jobs: &[(&[u8], &[u32])]) -> Vec<Vec<Vec<f32>>> {
    let dir = tempfile::tempdir().unwrap();
    let path = |number: usize, end: &str| dir.path().join(format!("{number}.{end}"));
    let mut list = Vec::new();
    for (number, (file, ids)) in jobs.iter().enumerate() {
        let (model, out) = (path(number, "gguf"), path(number, "f32"));
        std::fs::write(&model, file).unwrap();
        list.push(json!({ "model": model, "ids": ids, "out": out }));
    }
    let file = dir.path().join("jobs.json");
    std::fs::write(&file, serde_json::to_vec(&list).unwrap()).unwrap();
    let status = Command::new(python).arg(script(program)).arg(&file).status().unwrap();
    assert!(status.success(), "{program} failed");
    let rows = |(number, (_, ids)): (usize, &(&[u8], &[u32]))| {
        let bytes = std::fs::read(path(number, "f32")).unwrap();
        let values = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let values: Vec<f32> = values.collect();
        let vocab = values.len() / ids.len();
        assert_eq!(vocab * ids.len() * 4, bytes.len());
        values.chunks_exact(vocab).map(<[f32]>::to_vec).collect()
    };
    jobs.iter().enumerate().map(rows).collect()
}
