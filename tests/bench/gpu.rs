//! One GPU: a prompt, one caller, many callers and one behind a long prompt, against the processor of the same
//! machine, and the weights that a caller's tokens read against the fastest this GPU reads. `scripts/gpu` builds
//! and runs it; it is not one of the sections that run unasked.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use chrysalis_cuda::{Choose, Device, LIBRARY, Memory, Rows, Table, embedded};
use chrysalis_engine::{CandleEngine, EngineOptions};

use crate::callers::{callers, prompt, together};
use crate::contest::Together;
use crate::depth::{self, behind};
use crate::engine::{self, Size, time};
use crate::machine::Machine;
use crate::report::{Better, Comparison};
use crate::synthetic::{self, LLAMA_1B, LLAMA_8B, Shape, Weights};

/// Rates of the default model and of two of the 1B class.
pub(crate) fn measure(rounds: usize, machine: &mut Machine) -> Result<Vec<Comparison>> {
    let device = open(machine)?;
    let file = engine::gguf()?;
    let bytes = std::fs::metadata(&file)?.len();
    let small = Model { what: "SmolLM2", file: &file, bytes, processor: true };
    let mut out = small.measure(rounds, &device)?;
    for weights in [Weights::Q8, Weights::Q4K] {
        out.extend(random_weights(rounds, &device, ("1B", &LLAMA_1B, true), weights)?);
    }
    Ok(out)
}

/// Of one of the 8B class, without the processor.
pub(crate) fn measure_large(rounds: usize, machine: &mut Machine) -> Result<Vec<Comparison>> {
    random_weights(rounds, &open(machine)?, ("8B", &LLAMA_8B, false), Weights::Q4K)
}

/// Its GPU belongs to the machine.
fn open(machine: &mut Machine) -> Result<Device> {
    let device = Device::open(Path::new(LIBRARY), embedded())?;
    let info = device.info();
    let (gigabytes, driver) = (info.memory_bytes / 1_000_000_000, info.driver);
    let driver = format!("{}.{}", driver / 1000, driver % 1000 / 10);
    machine.gpu = Some(format!("{}, {gigabytes} GB, driver for CUDA {driver}", info.name));
    Ok(device)
}

/// Rates of a model of random weights, with the processor or without.
fn random_weights(
    rounds: usize,
    device: &Device,
    (class, shape, processor): (&str, &Shape, bool),
    weights: Weights,
) -> Result<Vec<Comparison>> {
    let what = format!("{class} {}", weights.name());
    crate::progress(&format!("GPU: writing a model, {what}"));
    let folder = tempfile::tempdir()?;
    let model = synthetic::write(folder.path(), shape, weights)?;
    let (file, bytes) = (&*model.file, model.tensor_bytes);
    Model { what: &what, file, bytes, processor }.measure(rounds, device)
}

/// What is measured.
struct Model<'a> {
    what: &'a str,
    file: &'a Path,
    /// Of the weights that a token reads.
    bytes: u64,
    /// Whether the processor takes part.
    processor: bool,
}

impl Model<'_> {
    fn measure(&self, rounds: usize, device: &Device) -> Result<Vec<Comparison>> {
        let what = self.what;
        crate::progress(&format!("GPU: loading {what}"));
        let gguf = std::fs::read(self.file)?;
        let started = Instant::now();
        let gpu = self.engine(&gguf, Some(device))?;
        let load = gguf.len() as f64 / started.elapsed().as_secs_f64() / GIGA;
        let cpu = self.processor.then(|| self.engine(&gguf, None)).transpose()?;
        drop(gguf);
        let yardstick = Yardstick::new(device)?;
        let tokens = time(&gpu, &PROMPT.task())?.prompt_tokens;
        let (mut rates, mut read) = (self.rates(tokens), self.read());
        let mut loaded = Comparison::new(
            format!("GPU: loading {what}"),
            "GB/s",
            Better::More,
            ["from memory into the GPU"],
        )
        .note("read, laid out anew and copied through pinned memory; once");
        loaded.round(&[load]);
        let mut crossings = Comparison::new(
            format!("GPU: copies between host and device, {what}"),
            "for each token",
            Better::Less,
            ["1 caller"],
        )
        .note("steps of one token, and those of a short prompt");
        for _ in 0..WARM_UPS {
            together(&gpu, &ask(MANY))?;
        }
        for round in 1..=rounds {
            crate::progress(&format!("GPU: {what}, round {round} of {rounds}"));
            let mut figures = self.round(&gpu, &COUNTS)?;
            figures.push(behind(&gpu, &depth::prompt(DEEP))?);
            if let Some(cpu) = &cpu {
                figures.extend(self.round(cpu, &COUNTS_OF_PROCESSOR)?);
            }
            let before = device.crossings();
            let answered = together(&gpu, &ask(1))?;
            let copies = device.crossings().saturating_sub(before);
            crossings.round(&[copies as f64 / f64::from(answered.tokens)]);
            let alone = f64::from(answered.tokens) / answered.seconds;
            read.round(&[alone * self.bytes as f64 / GIGA, yardstick.rate(device)? / GIGA]);
            rates.round(&figures);
        }
        Ok(vec![rates, read, crossings, loaded])
    }

    fn engine(&self, gguf: &[u8], device: Option<&Device>) -> Result<CandleEngine> {
        let most = if device.is_some() { &COUNTS[..] } else { &COUNTS_OF_PROCESSOR[..] };
        let options = EngineOptions {
            max_concurrent: most.iter().copied().max().unwrap_or(1),
            context_tokens: CONTEXT,
            device: device.cloned(),
            // Every token is computed.
            drafts: false,
            ..EngineOptions::new(|| 0)
        };
        Ok(CandleEngine::load(gguf, options)?)
    }

    /// A prompt, then so many callers at a time.
    fn round(&self, engine: &CandleEngine, counts: &[usize]) -> Result<Vec<f64>> {
        let prefill = time(engine, &PROMPT.task())?;
        let mut figures = vec![f64::from(prefill.prompt_tokens) / prefill.prefill_seconds];
        for count in counts {
            let answered = together(engine, &ask(*count))?;
            let asked = u32::try_from(*count)? * ANSWER;
            ensure!(answered.tokens > asked / 2, "answers ended early; use other prompts");
            figures.push(f64::from(answered.tokens) / answered.seconds);
        }
        Ok(figures)
    }

    fn rates(&self, tokens: u32) -> Comparison {
        let of = |who: &str, counts: &[usize]| {
            let prefill = format!("{who}, prefill of {tokens} tokens");
            let many = counts.iter().map(|count| format!("{who}, {}", callers(*count)));
            std::iter::once(prefill).chain(many).collect::<Vec<_>>()
        };
        let mut names = of("GPU", &COUNTS);
        names.push("GPU, 1 caller behind 3000 tokens".to_owned());
        let processor = names.len();
        if self.processor {
            names.extend(of("processor", &COUNTS_OF_PROCESSOR));
        }
        let title = format!("GPU: {}", self.what);
        let note = format!(
            "greedy, short prompts, answers of {ANSWER} tokens, from the first request to the last token; \
             the processor with all its threads"
        );
        let mut rates = Comparison::new(title, "tokens/s", Better::More, names).note(note);
        // Many against one, one behind a long prompt against itself.
        for many in 2..processor {
            rates = rates.ratio(many, 1);
        }
        if self.processor {
            // The prompt, one caller, and as many as both have.
            for (gpu, own) in [(0, 0), (1, 1), (3, 2)] {
                rates = rates.ratio(gpu, processor + own);
            }
        }
        rates
    }

    fn read(&self) -> Comparison {
        let title = format!("GPU: weights read while decoding, {}", self.what);
        Comparison::new(title, "GB/s", Better::More, ["1 caller", "plain read"]).ratio(0, 1).note(
            "rate of decoding times size of the weights, against a kernel that only looks for the largest of \
             many numbers",
        )
    }
}

fn ask(count: usize) -> Together {
    Together { prompts: (0..count).map(prompt).collect(), answer: ANSWER }
}

/// How fast this GPU reads: rows of logits of which the largest is looked for.
struct Yardstick {
    logits: Memory,
    chosen: Memory,
}

impl Yardstick {
    fn new(device: &Device) -> Result<Self> {
        let logits = device.alloc(ROWS * COLUMNS * 4)?;
        Ok(Self { logits, chosen: device.alloc(ROWS * 4)? })
    }

    /// Bytes a second, of the fastest of several passes.
    fn rate(&self, device: &Device) -> Result<f64> {
        let mut best = 0.0f64;
        for _ in 0..PASSES {
            device.wait()?;
            let started = Instant::now();
            device.choose(&Choose {
                logits: Rows { part: self.logits.all(), stride: COLUMNS },
                to: Table(self.chosen.all()),
                count: ROWS,
                known: COLUMNS,
            })?;
            device.wait()?;
            best = best.max((ROWS * COLUMNS * 4) as f64 / started.elapsed().as_secs_f64());
        }
        Ok(best)
    }
}

/// Callers of the GPU at a time; the first is one.
const COUNTS: [usize; 4] = [1, 4, 16, MANY];
const MANY: usize = 64;
/// And of the processor.
const COUNTS_OF_PROCESSOR: [usize; 2] = [1, 16];
/// Tokens of an answer.
const ANSWER: u32 = 64;
/// Tokens of a context: room for the long prompt, and for as many callers.
const CONTEXT: u32 = 4096;
/// Of a prompt that is about 3000 tokens long.
const DEEP: usize = 103;
/// A prompt of 504 tokens, and enough of an answer that some of it is text.
const PROMPT: Size = Size { lines: 18, decode: 4 };
const WARM_UPS: usize = 2;
/// Of the yardstick: 4 GiB, more than any cache.
const ROWS: usize = 1 << 14;
const COLUMNS: usize = 1 << 16;
const PASSES: usize = 5;
const GIGA: f64 = 1e9;
