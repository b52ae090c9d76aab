//! The default model takes little more memory than its file, from the first byte that is read to the
//! last token of an answer. A process of its own: what is measured is the peak of the whole process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod process;
mod real;

use std::fs::File;
use std::io::BufReader;

use chrysalis_engine::testing::{collect, text};
use chrysalis_engine::{
    CandleEngine, Engine, EngineOptions, GenerateRequest, Sampling, Scheduling,
};
use process::status;

/// Peak of the process over the size of the file, in percent; before the model it is a few MiB.
const MOST: u64 = 120;

fn request() -> GenerateRequest {
    GenerateRequest {
        input: text("On that day the captain wrote down"),
        sampling: Sampling::greedy(),
        logit_bias: Vec::new(),
        stop: Vec::new(),
        max_tokens: 32,
        constraint: None,
        logprobs: None,
        choices: 1,
        scheduling: Scheduling::default(),
    }
}

#[test]
fn serving_takes_at_most_a_fifth_more_memory_than_the_file() {
    let Some(path) = real::path() else { return };
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let before = status("VmRSS");
    let mut source = BufReader::with_capacity(1 << 16, file);
    let engine = CandleEngine::read(&mut source, len, EngineOptions::new(|| 0)).unwrap();
    let loaded = status("VmHWM");
    let answer = collect(engine.generate(request()).unwrap());
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
