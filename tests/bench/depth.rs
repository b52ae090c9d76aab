//! One caller behind long prompts against itself behind a short one, with keys and values in sixteen
//! bits and in eight, and against llama.cpp behind the same prompts. What a token reads behind 3000 others is as much as the weights of a tiny model, and
//! a few hundredths of a larger one's, so there are both.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use chrysalis_engine::{CandleEngine, Engine as _, EngineOptions};
use chrysalis_wire::manifest::KvCacheType;

use crate::contest::Task;
use crate::machine::Machine;
use crate::report::{Better, Comparison};
use crate::synthetic::{self, LLAMA_1B, Weights};
use crate::{callers, engine};

/// Rates of the default model, then of one of the 1B class.
pub(crate) fn measure(rounds: usize, machine: &mut Machine) -> Result<Vec<Comparison>> {
    let mut out = vec![compare(rounds, "SmolLM2", &engine::gguf()?, machine)?];
    let folder = tempfile::tempdir()?;
    crate::progress("depth: writing a model in Q4_K");
    let large = synthetic::write(folder.path(), &LLAMA_1B, Weights::Q4K)?.file;
    out.push(compare(rounds, "1B Q4_K, random weights", &large, machine)?);
    Ok(out)
}

fn compare(rounds: usize, what: &str, model: &Path, machine: &mut Machine) -> Result<Comparison> {
    let threads = std::thread::available_parallelism()?;
    let mut llama = engine::llama(u32::try_from(threads.get())?, 1, model, machine)?;
    let gguf = std::fs::read(model)?;
    // Every token is computed: what drafts save is measured on its own.
    let load = |kv_cache_type| {
        let options = EngineOptions {
            kv_cache_type,
            threads: Some(threads),
            drafts: false,
            ..EngineOptions::new(|| 0)
        };
        CandleEngine::load(&gguf, options)
    };
    let engines = [load(KvCacheType::F16)?, load(KvCacheType::Q8_0)?];
    drop(gguf);
    let candidates = ["f16", "q8_0", "llama.cpp"];
    let names =
        candidates.iter().flat_map(|who| DEPTHS.map(|(depth, _)| format!("{who}, {depth}")));
    let title = format!("Depth: {ANSWER} tokens behind a prompt, {what}");
    let mut rates = Comparison::new(title, "tokens/s", Better::More, names)
        .note("one caller, greedy, after the first token; llama.cpp keeps f16");
    let per = DEPTHS.len();
    // Each against itself behind a line, then both of ours against llama.cpp at every depth.
    for (who, deep) in (0..candidates.len()).flat_map(|who| (1..per).map(move |deep| (who, deep))) {
        rates = rates.ratio(who * per + deep, who * per);
    }
    for (who, depth) in (0..engines.len()).flat_map(|who| (0..per).map(move |depth| (who, depth))) {
        rates = rates.ratio(who * per + depth, engines.len() * per + depth);
    }
    for engine in &engines {
        behind(engine, &prompt(1))?;
    }
    llama.time(&Task { prompt: prompt(1), decode: ANSWER })?;
    for round in 1..=rounds {
        crate::progress(&format!("depth, {what}, round {round} of {rounds}"));
        let mut figures = Vec::new();
        for engine in &engines {
            for (_, lines) in DEPTHS {
                figures.push(behind(engine, &prompt(lines))?);
            }
        }
        for (_, lines) in DEPTHS {
            let task = Task { prompt: prompt(lines), decode: ANSWER - 1 };
            figures.push(f64::from(task.decode) / llama.time(&task)?.decode_seconds);
        }
        rates.round(&figures);
    }
    Ok(rates)
}

/// So many lines of 29 tokens.
pub(crate) fn prompt(lines: usize) -> String {
    let line = "On that day the captain wrote down the wind, the depth of the water, the names of \
                the sick and what the crew had seen.\n";
    line.repeat(lines)
}

/// Tokens a second of one caller behind a prompt.
pub(crate) fn behind(engine: &CandleEngine, prompt: &str) -> Result<f64> {
    let mut generation = engine.generate(engine::request(prompt, ANSWER))?;
    let mut first = None;
    let tokens = callers::read(&mut generation, || {
        first.get_or_insert_with(Instant::now);
    })?;
    ensure!(tokens > ANSWER / 2, "the model ended its turn early; use another prompt");
    let first = first.context("the answer has no text")?;
    Ok(f64::from(tokens.saturating_sub(1)) / first.elapsed().as_secs_f64())
}

const ANSWER: u32 = 64;
/// A line, and about as many tokens as the names say.
const DEPTHS: [(&str, usize); 3] = [("a line", 1), ("1024 tokens", 35), ("3000 tokens", 103)];
