//! The default model, for tests that need real weights: read from `CHRYSALIS_MODEL_GGUF` or the cache.
//! Without it they are skipped, unless `CI` or `CHRYSALIS_REQUIRE_MODEL` is set.

use std::path::PathBuf;

/// The model, or `None` after printing why the test is skipped.
#[allow(dead_code)] // one of the two in each test binary
pub(crate) fn model() -> Option<Vec<u8>> {
    Some(std::fs::read(path()?).unwrap())
}

/// Where the model is, or `None` after printing why the test is skipped.
pub(crate) fn path() -> Option<PathBuf> {
    let env = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
    let cache = || {
        let cache = env("CHRYSALIS_CACHE").map(PathBuf::from).or_else(|| {
            env("HOME").map(|home| PathBuf::from(home).join(".cache").join("chrysalis"))
        })?;
        Some(cache.join("models").join("smollm2-135m-instruct-q4_1.gguf"))
    };
    let path = env("CHRYSALIS_MODEL_GGUF").map(PathBuf::from).or_else(cache);
    let found = path.clone().filter(|path| path.is_file());
    if found.is_none() {
        let required = env("CI").is_some() || env("CHRYSALIS_REQUIRE_MODEL").is_some();
        assert!(!required, "the model is required here and is not at {path:?}");
        println!("SKIPPED: no model at {path:?}; set CHRYSALIS_MODEL_GGUF");
    }
    found
}

/// The most likely token; of equals the first.
#[allow(dead_code)] // as above
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let best = (0u32..).zip(logits).max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.unwrap().0
}
