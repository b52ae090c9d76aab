//! A request that is refused takes little more memory than itself. A process of its own: what is
//! measured is the peak of the whole process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod process;

use chrysalis_engine::testing::{TinyModel, collect, text};
use chrysalis_engine::{
    CandleEngine, Constraint, ConstraintError, Engine, EngineError, EngineOptions, GenerateRequest,
    Sampling, Scheduling,
};
use process::status;

/// What refusing a constraint may take, in bytes. The largest that is accepted takes about as much.
const MOST_REFUSED: u64 = 32 << 20;

/// From here on the peak is that of what follows (proc(5), `clear_refs`).
fn forget_the_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

fn request(constraint: Constraint) -> GenerateRequest {
    GenerateRequest {
        input: text("On that day the captain wrote down"),
        sampling: Sampling::greedy(),
        logit_bias: Vec::new(),
        stop: Vec::new(),
        max_tokens: 32,
        constraint: Some(constraint),
        logprobs: None,
        choices: 1,
        scheduling: Scheduling::default(),
    }
}

/// A few kilobytes of a client ended a worker: classes of Unicode, types that are named often, and values
/// that stand twice in the schema around them each asked for gigabytes before anything was refused.
#[test]
fn refusing_a_constraint_takes_no_more_memory_than_the_largest_that_is_accepted() {
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
        let got = engine.generate(request(hostile));
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
