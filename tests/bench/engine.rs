//! The engine against llama.cpp: the same file, text, tokens and number of threads, in turn.

use std::io::BufRead as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use chrysalis_engine::{
    CandleEngine, Engine as _, EngineOptions, Event, GenerateRequest, Input, Sampling, Scheduling,
};
use chrysalis_tests::{model, root};

use crate::callers;
use crate::contest::{Contestant, Hello, Task, Timed, Work, say};
use crate::machine::Machine;
use crate::report::{Better, Comparison};

/// Prefill and decode rates, for each number of threads. The task is halved until its rounds on
/// one thread fit into `seconds`; the titles say what was done.
pub(crate) fn measure(
    rounds: usize,
    seconds: u32,
    machine: &mut Machine,
) -> Result<Vec<Comparison>> {
    let mut out = Vec::new();
    let mut size = None;
    let model = gguf()?;
    for threads in THREADS {
        let label = label(threads);
        crate::progress(&format!("engine against llama.cpp, {label}"));
        let mut contest = Contest::start(threads, 1, &model, machine)?;
        let warm = contest.round(&WARM_UP.task())?;
        let size = *size.get_or_insert_with(|| fitting(rounds, f64::from(seconds), &warm));
        let task = size.task();
        let results = (1..=rounds)
            .map(|round| {
                crate::progress(&format!("  round {round} of {rounds}"));
                contest.round(&task)
            })
            .collect::<Result<Vec<_>>>()?;
        out.extend(compare(&results, size, &label));
    }
    Ok(out)
}

/// As titles name a number of threads.
pub(crate) fn label(threads: u32) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}

/// Both rates of every round.
fn compare(rounds: &[[Timed; 2]], size: Size, label: &str) -> [Comparison; 2] {
    let comparison = |title: String, note: &str| {
        Comparison::new(title, "tokens/s", Better::More, ["chrysalis", "llama.cpp"])
            .ratio(0, 1)
            .note(note)
    };
    let tokens = rounds.first().map_or(0, |[ours, _]| ours.prompt_tokens);
    let title = format!("Engine: prefill of {tokens} tokens, {label}");
    let mut prefill = comparison(title, "from text to the first token");
    let title = format!("Engine: decode of {} tokens, {label}", size.decode);
    let mut decode = comparison(title, "greedy, after that prompt, one request at a time");
    for both in rounds {
        let rate = |tokens: u32, seconds: f64| f64::from(tokens) / seconds;
        prefill.round(&both.each_ref().map(|t| rate(t.prompt_tokens, t.prefill_seconds)));
        decode.round(&both.each_ref().map(|t| rate(size.decode, t.decode_seconds)));
    }
    [prefill, decode]
}

/// The two programs.
pub(crate) struct Contest {
    pub(crate) ours: Contestant,
    pub(crate) theirs: Contestant,
}

impl Contest {
    /// Starts both on the same file, for at most `together` prompts at once.
    pub(crate) fn start(
        threads: u32,
        together: usize,
        model: &Path,
        machine: &mut Machine,
    ) -> Result<Self> {
        let (ours, _) = Contestant::start(&mut our_engine(threads, together, model)?)?;
        Ok(Self { ours, theirs: llama(threads, together, model, machine)? })
    }

    /// Lets both do `task`, in turn. That the tokenizers agree id by id is a test of the engine
    /// (`greedy_parity`).
    pub(crate) fn round(&mut self, task: &Task) -> Result<[Timed; 2]> {
        let both = [self.ours.time(task)?, self.theirs.time(task)?];
        let [a, b] = both.each_ref().map(|t| t.prompt_tokens);
        ensure!(a == b, "the prompt has {a} tokens here and {b} in llama.cpp");
        Ok(both)
    }
}

/// How much work one task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Lines of the prompt, of 28 tokens each.
    pub(crate) lines: u32,
    /// Tokens after the first.
    pub(crate) decode: u32,
}

impl Size {
    pub(crate) fn task(self) -> Task {
        let line = |day: u32| {
            format!(
                "On day {day} of the voyage the captain wrote down the wind, the depth of the \
                 water and what the crew had seen.\n"
            )
        };
        let mut prompt: String = (1..=self.lines).map(line).collect();
        prompt.push_str("On the next day of the voyage the captain wrote");
        Task { prompt, decode: self.decode }
    }
}

/// The largest task that fits, by what the warm-up took on one thread.
fn fitting(rounds: usize, seconds: f64, warm: &[Timed; 2]) -> Size {
    let expected = |size: Size| -> f64 {
        let grown = |now: u32, then: u32| f64::from(now) / f64::from(then);
        let once = warm.iter().map(|t| {
            t.prefill_seconds * grown(size.lines, WARM_UP.lines)
                + t.decode_seconds * grown(size.decode, WARM_UP.decode)
        });
        once.sum::<f64>() * rounds as f64
    };
    let mut size = FULL;
    while expected(size) > seconds && size.lines > WARM_UP.lines {
        size = Size { lines: size.lines / 2, decode: size.decode / 2 };
    }
    size
}

/// This program again.
fn our_engine(threads: u32, together: usize, model: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["__engine", &threads.to_string(), &together.to_string()]).arg(model);
    Ok(command)
}

/// llama.cpp alone, for at most `together` prompts at once.
pub(crate) fn llama(
    threads: u32,
    together: usize,
    model: &Path,
    machine: &mut Machine,
) -> Result<Contestant> {
    let python = std::env::var_os("CHRYSALIS_LLAMA_PYTHON").context(
        "CHRYSALIS_LLAMA_PYTHON names no Python with llama-cpp-python; run scripts/bench",
    )?;
    let mut command = Command::new(python);
    command.arg(root().join("scripts/bench-llama.py")).arg(model);
    command.args([threads.to_string(), together.to_string()]);
    let (contestant, hello) = Contestant::start(&mut command)?;
    machine.reference = Some(hello.about);
    Ok(contestant)
}

pub(crate) fn gguf() -> Result<PathBuf> {
    model().context("the default model is not here; run scripts/fetch-model")
}

/// Our side: loads the model, then does tasks until standard input ends.
pub(crate) fn serve(threads: NonZeroUsize, together: usize, model: &Path) -> Result<()> {
    // Both compute every token: what drafts save is measured on its own.
    let default = EngineOptions::new(|| 0);
    let max_concurrent = together.max(default.max_concurrent);
    let options =
        EngineOptions { threads: Some(threads), max_concurrent, drafts: false, ..default };
    let engine = CandleEngine::load(&std::fs::read(model)?, options)?;
    let mut out = std::io::stdout().lock();
    say(&mut out, &Hello { about: "chrysalis".to_owned() })?;
    for line in std::io::stdin().lock().lines() {
        match serde_json::from_str(&line?)? {
            Work::Alone(task) => say(&mut out, &time(&engine, &task)?)?,
            Work::Together(task) => say(&mut out, &callers::together(&engine, &task)?)?,
        }
    }
    Ok(())
}

/// The engine as the worker loads it.
pub(crate) fn load(gguf: &[u8]) -> Result<CandleEngine> {
    Ok(CandleEngine::load(gguf, EngineOptions::new(|| 0))?)
}

/// A greedy continuation of plain text by at most `max_tokens`.
pub(crate) fn request(prompt: &str, max_tokens: u32) -> GenerateRequest {
    let input = Input::Text(prompt.as_bytes().to_vec().into());
    GenerateRequest {
        input,
        sampling: Sampling::greedy(),
        logit_bias: Vec::new(),
        stop: Vec::new(),
        constraint: None,
        logprobs: None,
        choices: 1,
        max_tokens,
        scheduling: Scheduling::default(),
    }
}

/// One request, alone.
pub(crate) fn time(engine: &CandleEngine, task: &Task) -> Result<Timed> {
    let asked = task.decode.saturating_add(1);
    let request = request(&task.prompt, asked);
    let started = Instant::now();
    let mut generation = engine.generate(request)?;
    let mut first = None;
    let usage = loop {
        match generation.events.blocking_recv().context("the engine is gone")? {
            Event::Delta(_) => {
                first.get_or_insert_with(Instant::now);
            }
            Event::Finished { usage, .. } => break usage,
            Event::Failed(error) => bail!(error),
        }
    };
    let ended = Instant::now();
    let got = usage.completion;
    ensure!(got == asked, "the model ended its turn after {got} tokens; use another prompt");
    let first = first.context("the answer has no text")?;
    Ok(Timed {
        prompt_tokens: usage.prompt,
        prefill_seconds: (first - started).as_secs_f64(),
        decode_seconds: (ended - first).as_secs_f64(),
    })
}

const THREADS: [u32; 2] = [1, 2];
/// 504 tokens of the default model: just under the 512 that llama.cpp computes at a time.
const FULL: Size = Size { lines: 18, decode: 128 };
const WARM_UP: Size = Size { lines: 2, decode: 8 };
