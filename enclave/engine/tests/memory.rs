//! The default model takes little more memory than its file, from the first byte that is read to the
//! last token of an answer; and a request that is refused takes little more than itself. A process of
//! its own, one test after the other: what is measured is the peak of the whole process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod real;

use std::fs::File;
use std::io::BufReader;

use std::sync::{Mutex, MutexGuard, PoisonError};

use chrysalis_engine::testing::{TinyModel, collect, text};
use chrysalis_engine::{
    CandleEngine, Constraint, ConstraintError, Engine, EngineError, EngineOptions, GenerateRequest,
    Sampling, Scheduling,
};

/// Peak of the process over the size of the file, in percent; before the model it is a few MiB.
const MOST: u64 = 120;
/// What refusing a constraint may take, in bytes. The largest that is accepted takes about as much.
const MOST_REFUSED: u64 = 32 << 20;

/// The process for one test alone.
fn alone() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number of `/proc/self/status`, in bytes.
fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    let kib = line.trim_start_matches(':').trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

/// From here on the peak is that of what follows (proc(5), `clear_refs`).
fn forget_the_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn request(constraint: Option<Constraint>) -> GenerateRequest {
    GenerateRequest {
        input: text("On that day the captain wrote down"),
        sampling: Sampling::greedy(),
        logit_bias: Vec::new(),
        stop: Vec::new(),
        max_tokens: 32,
        constraint,
        logprobs: None,
        choices: 1,
        scheduling: Scheduling::default(),
    }
}

/// A few kilobytes of a client ended a worker: classes of Unicode, types that are named often, and values
/// that stand twice in the schema around them each asked for gigabytes before anything was refused.
#[test]
fn refusing_a_constraint_takes_no_more_memory_than_the_largest_that_is_accepted() {
    let _alone = alone();
    let model = TinyModel::random(1).build();
    let engine = CandleEngine::load(&model, EngineOptions::new(|| 0)).unwrap();
    let schema = |schema: String| Constraint::JsonSchema(schema.into_bytes().into());
    let regex = |pattern: String| Constraint::Regex(pattern.into_bytes().into());
    let listed = |name: &str, times: usize| vec![format!("\"{name}\""); times].join(",");
    let nested = (0..30)
        .fold("true".to_owned(), |inside, _| format!(r#"{{"additionalProperties":{inside}}}"#));
    let strings = listed("string", 100);
    let (arrays, numbers) = (listed("array", 2000), listed("number", 5300));
    let constant = "x".repeat(50_000);
    let names: Vec<String> = (0..2000).map(|n| format!("\"{n}\"")).collect();
    let names = names.join(",");
    for (hostile, accepted) in [
        (regex(r"\w".repeat(32_768)), false),
        (regex(r"\w".repeat(512)), true),
        (regex(r"[^\w]\w\W\pL".repeat(100)), true),
        (regex(format!("(?i){}", r"[\D]".repeat(16_000))), false),
        (regex(format!("(?i){}", r"[\D]".repeat(1000))), false),
        (schema(format!(r#"{{"type":[{strings}],"pattern":"{}"}}"#, r"\\w".repeat(1000))), false),
        (schema(format!(r#"{{"type":[{arrays}],"items":{{"type":[{numbers}]}}}}"#)), false),
        (
            schema(format!(
                r#"{{"required":[{names}],"additionalProperties":{{"const":"{constant}"}}}}"#
            )),
            false,
        ),
        (schema(nested), true),
    ] {
        let before = status("VmRSS");
        forget_the_peak();
        let got = engine.generate(request(Some(hostile)));
        let taken = status("VmHWM").saturating_sub(before);
        println!("{} KiB: {:?}", taken >> 10, got.as_ref().map(|_| ()));
        match got {
            Ok(answer) => assert!(accepted && collect(answer).end.is_some()),
            Err(EngineError::Constraint(error)) => {
                let large = [ConstraintError::TooLarge, ConstraintError::Patterns];
                let twice = matches!(error, ConstraintError::Malformed { .. });
                assert!(!accepted && (large.contains(&error) || twice), "{error}");
            }
            Err(other) => panic!("{other}"),
        }
        assert!(taken <= MOST_REFUSED, "{} MiB", taken >> 20);
    }
}

#[test]
fn serving_takes_at_most_a_fifth_more_memory_than_the_file() {
    let _alone = alone();
    let Some(path) = real::path() else { return };
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let before = status("VmRSS");
    let mut source = BufReader::with_capacity(1 << 16, file);
    let engine = CandleEngine::read(&mut source, len, EngineOptions::new(|| 0)).unwrap();
    let loaded = status("VmHWM");
    let answer = collect(engine.generate(request(None)).unwrap());
    assert!(!answer.text().is_empty());
    let peak = status("VmHWM");
    let percent = |bytes: u64| bytes * 100 / len;
    println!(
        "file {len}: before {}%, loaded {}%, peak {}%, now {}%",
        percent(before),
        percent(loaded),
        percent(peak),
        percent(status("VmRSS"))
    );
    assert!(percent(peak) <= MOST, "{} MiB for a file of {} MiB", peak >> 20, len >> 20);
}
