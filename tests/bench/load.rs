//! Loading a bundle into an engine: how fast, against copying bytes, and how much memory the process has at
//! its peak, against the file. Each load is a process of its own, because a peak is. The default model is so
//! small that its tokenizer counts; those of the 1B class show the rate of weights.

use std::fs::File;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use chrysalis_engine::{CandleEngine, Engine as _, EngineOptions, Event};
use chrysalis_vault::{Bundle, ModelKey, PackInput, SealWith, pack_file};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::engine;
use crate::report::{Better, Comparison};
use crate::synthetic::{self, LLAMA_1B, Weights};

/// What one process found.
#[derive(Debug, Serialize, Deserialize)]
struct Loaded {
    /// From a closed bundle to an engine that takes requests.
    seconds: f64,
    /// Most memory the process had, after an answer, in bytes.
    peak: u64,
}

/// Rates and peaks of the default model and of two of the 1B class, not sealed and sealed.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Comparison>> {
    let mut out = Vec::from(load(rounds, "SmolLM2", &engine::gguf()?)?);
    for weights in [Weights::Q4K, Weights::Q8] {
        let folder = TempDir::new()?;
        let what = format!("1B {}", weights.name());
        crate::progress(&format!("load: writing a model, {what}"));
        let model = synthetic::write(folder.path(), &LLAMA_1B, weights)?;
        out.extend(load(rounds, &what, &model.file)?);
    }
    Ok(out)
}

fn load(rounds: usize, what: &str, gguf: &Path) -> Result<[Comparison; 2]> {
    crate::progress(&format!("{what}: loading into an engine, and the memory that takes"));
    let bytes = std::fs::metadata(gguf)?.len();
    let folder = TempDir::new()?;
    let (plain, sealed) = (folder.path().join("plain"), folder.path().join("sealed"));
    let key = ModelKey::from_bytes(&KEY)?;
    let pack = |to: &Path, seal: Option<&SealWith<'_>>| -> Result<()> {
        let input = PackInput::from_gguf("model.gguf", "bench", File::open(gguf)?)?;
        pack_file(input, to, seal, &|_, _| ())?;
        Ok(())
    };
    pack(&plain, None)?;
    pack(&sealed, Some(&SealWith { key: &key, salt: [9; 32] }))?;

    let size = format!("{what}, {:.0} MB, {THREADS} threads", bytes as f64 / 1e6);
    let mut rates = Comparison::new(
        format!("Load: {size}, page cache warm"),
        "GB/s",
        Better::More,
        ["verified, into the engine", "unsealed, into the engine", "copy, one thread"],
    )
    .ratio(0, 2)
    .ratio(1, 2)
    .ratio(1, 0)
    .note("from a closed file to an engine that takes requests, tokenizer included");
    let mut peaks = Comparison::new(
        format!("Load: most memory of the process, {size}"),
        "MB",
        Better::Less,
        ["verified and served", "unsealed and served", "the model file"],
    )
    .ratio(0, 2)
    .ratio(1, 2)
    .note("VmHWM after an answer of 64 tokens");
    // No longer than a quarter of a GB: it stays beside the process that loads.
    let from = vec![1u8; usize::try_from(bytes)?.min(COPIED)];
    let mut to = vec![0u8; from.len()];
    for round in 0..=rounds {
        let (verified, unsealed) = (child(&plain, false)?, child(&sealed, true)?);
        let started = Instant::now();
        to.copy_from_slice(black_box(&from));
        black_box(&to);
        let copied: Duration = started.elapsed();
        if round > 0 {
            let rate = |bytes: f64, seconds: f64| bytes / seconds / 1e9;
            let loaded = [verified.seconds, unsealed.seconds].map(|s| rate(bytes as f64, s));
            let copied = rate(from.len() as f64, copied.as_secs_f64());
            rates.round(&[loaded[0], loaded[1], copied]);
            let peak = [verified.peak, unsealed.peak, bytes];
            peaks.round(&peak.map(|bytes| bytes as f64 / 1e6));
        }
    }
    Ok([rates, peaks])
}

/// This program again.
fn child(bundle: &Path, sealed: bool) -> Result<Loaded> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("__load").arg(bundle).arg(sealed.to_string());
    let ran = command.output()?;
    ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Ok(serde_json::from_slice(&ran.stdout)?)
}

/// The process that loads, as a worker does.
pub(crate) fn serve(path: &Path, sealed: bool) -> Result<()> {
    let key = if sealed { Some(ModelKey::from_bytes(&KEY)?) } else { None };
    let started = Instant::now();
    let bundle = Bundle::open(File::open(path)?)?;
    let root = bundle.root();
    let engine = into_engine(bundle, &root, key.as_ref(), NonZeroUsize::new(THREADS))?;
    let seconds = started.elapsed().as_secs_f64();
    let mut answer = engine.generate(engine::request("On that day the captain wrote", 64))?;
    loop {
        match answer.events.blocking_recv().context("the engine is gone")? {
            Event::Delta(_) => {}
            Event::Finished { .. } => break,
            Event::Failed(error) => bail!(error),
        }
    }
    let loaded = Loaded { seconds, peak: peak()? };
    crate::contest::say(&mut std::io::stdout().lock(), &loaded)
}

/// The only file of a bundle, into an engine, and the rest of the bundle verified.
pub(crate) fn into_engine(
    bundle: Bundle<File>,
    root: &chrysalis_wire::Digest,
    key: Option<&ModelKey>,
    threads: Option<NonZeroUsize>,
) -> Result<CandleEngine> {
    let mut files = bundle.files(root, key, &|_, _| ())?;
    let mut file = files.next_file().context("the bundle holds no file")?;
    let options = EngineOptions { threads, ..EngineOptions::new(|| 0) };
    let size = file.size();
    let engine = CandleEngine::read(&mut file, size, options);
    files.finish()?;
    Ok(engine?)
}

/// `VmHWM` of this process, in bytes.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmHWM")?;
    Ok(kib.trim().parse::<u64>()?.saturating_mul(1024))
}

const KEY: [u8; 32] = [7; 32];
/// Bytes of the copy at most.
const COPIED: usize = 256 << 20;
const THREADS: usize = 2;
