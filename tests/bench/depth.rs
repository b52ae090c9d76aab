//! One caller behind a long prompt against itself behind a short one, with keys and values in sixteen
//! bits and in eight. What a token reads behind 3000 others is as much as the weights of a tiny model, and
//! a few hundredths of a larger one's, so there are both.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use chrysalis_engine::{CandleEngine, Engine as _, EngineOptions};
use chrysalis_tests::model;
use chrysalis_wire::manifest::KvCacheType;

use crate::report::{Better, Comparison};
use crate::synthetic::{self, Weights};
use crate::{callers, engine};

/// Rates of the default model, then of one of the 1B class.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Comparison>> {
    let tiny = std::fs::read(model().context("no model; run scripts/fetch-model")?)?;
    let mut out = vec![compare(rounds, "SmolLM2", &tiny)?];
    drop(tiny);
    let folder = tempfile::tempdir()?;
    crate::progress("depth: writing a model in Q4_K");
    let large = std::fs::read(synthetic::write(folder.path(), Weights::Q4K)?.file)?;
    out.push(compare(rounds, "1B Q4_K, random weights", &large)?);
    Ok(out)
}

fn compare(rounds: usize, what: &str, gguf: &[u8]) -> Result<Comparison> {
    // Every token is computed: what drafts save is measured on its own.
    let load = |kv_cache_type| {
        let options = EngineOptions { kv_cache_type, drafts: false, ..EngineOptions::new(|| 0) };
        CandleEngine::load(gguf, options)
    };
    let engines = [load(KvCacheType::F16)?, load(KvCacheType::Q8_0)?];
    let names = ["f16, a line", "f16, 3000 tokens", "q8_0, a line", "q8_0, 3000 tokens"];
    let title = format!("Depth: {ANSWER} tokens behind a prompt, {what}");
    let mut rates = Comparison::new(title, "tokens/s", Better::More, names)
        .ratio(1, 0)
        .ratio(3, 2)
        .ratio(3, 0)
        .note("one caller, greedy, after the first token");
    // The first round warms up.
    for round in 0..=rounds {
        crate::progress(&format!("depth, {what}, round {round} of {rounds}"));
        let mut figures = Vec::new();
        for engine in &engines {
            for lines in LINES {
                figures.push(behind(engine, lines)?);
            }
        }
        if round > 0 {
            rates.round(&figures);
        }
    }
    Ok(rates)
}

/// Tokens a second of one caller behind a prompt of so many lines of 28 tokens.
fn behind(engine: &CandleEngine, lines: usize) -> Result<f64> {
    let line = "On that day the captain wrote down the wind, the depth of the water, the names of \
                the sick and what the crew had seen.\n";
    let mut generation = engine.generate(engine::request(&line.repeat(lines), ANSWER))?;
    let mut first = None;
    let tokens = callers::read(&mut generation, || {
        first.get_or_insert_with(Instant::now);
    })?;
    ensure!(tokens > ANSWER / 2, "the model ended its turn early; use another prompt");
    let first = first.context("the answer has no text")?;
    Ok(f64::from(tokens.saturating_sub(1)) / first.elapsed().as_secs_f64())
}

const ANSWER: u32 = 64;
/// A short prompt, and one of 3000 tokens.
const LINES: [usize; 2] = [1, 107];
