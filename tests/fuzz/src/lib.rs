//! Runs a fuzz target without a fuzzer: seeds, mutations of them, a time limit. No coverage is
//! measured; an input whose outcome was not seen before joins the seeds, which is enough to get
//! past a magic, a version and the first checks behind them.
//!
//! `TARGET [SECONDS]` mutates; `TARGET FILE` repeats one input. Exit code 1: an input made the
//! target panic, took longer than [`SLOW`] or more memory than [`MEMORY`]; it is in the file that is named.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub mod corpus;
pub mod random;
pub mod ratls;
pub mod schema;
pub mod seal;
pub mod templates;

/// Declares a target: its seeds, and what it does with one input. The outcome is a short word; a
/// property that does not hold is a panic.
#[macro_export]
macro_rules! target {
    ($seeds:path, $one:path) => {
        #[cfg(feature = "libfuzzer")]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            $one(data);
        });

        #[cfg(not(feature = "libfuzzer"))]
        fn main() -> std::process::ExitCode {
            $crate::run(&$seeds(), $one)
        }
    };
}

/// Runs one target as a program.
pub fn run(seeds: &[Vec<u8>], one: fn(&[u8]) -> String) -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "10".to_owned());
    let Ok(seconds) = argument.parse() else {
        let input = std::fs::read(&argument).expect("a number of seconds or a file");
        println!("{}", one(&input));
        return ExitCode::SUCCESS;
    };
    let name = std::env::args().next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    let mut random = Random::new();
    let (mut corpus, mut outcomes) = (seeds.to_vec(), BTreeSet::new());
    let (start, mut inputs) = (Instant::now(), 0u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        // Every seed as it is first, then mutations.
        let next = usize::try_from(inputs).unwrap_or(usize::MAX);
        let input = seeds.get(next).cloned().unwrap_or_else(|| random.mutate(&corpus));
        let began = Instant::now();
        let Ok(outcome) = catch_unwind(|| one(&input)) else {
            return keep(name, "panics", &input);
        };
        if began.elapsed() > SLOW {
            return keep(name, "is slow", &input);
        }
        // Memory that was written to takes time, and asking takes more than most inputs do.
        if began.elapsed() > WORTH_ASKING && peak().is_some_and(|peak| peak > MEMORY) {
            return keep(name, "takes too much memory", &input);
        }
        if outcomes.insert(outcome) {
            corpus.push(input);
        }
        inputs += 1;
    }
    println!("{name}: {inputs} inputs, {} outcomes", outcomes.len());
    ExitCode::SUCCESS
}

/// The name of an enum's variant, for errors that have no code.
pub fn variant(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// The most memory that this process ever had, where the system says so.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn keep(name: &str, what: &str, input: &[u8]) -> ExitCode {
    let file = format!("{name}-{:.8}.bin", blake3::hash(input).to_hex());
    match std::fs::write(&file, input) {
        Ok(()) => println!("{name} {what} on the input in {file}"),
        Err(error) => println!("{name} {what}; {file} cannot be written: {error}"),
    }
    ExitCode::FAILURE
}

/// Xorshift: repeatable with `FUZZ_SEED`.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("FUZZ_SEED").ok().and_then(|s| s.parse().ok());
        let clock =
            || u64::from(Instant::now().elapsed().subsec_nanos()) ^ u64::from(std::process::id());
        let seed: u64 = given.unwrap_or_else(clock);
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut out = corpus.get(self.below(corpus.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(6) {
            self.step(&mut out, corpus);
        }
        out.truncate(MAX_INPUT);
        out
    }

    fn step(&mut self, out: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(out.len());
        let end = (at + 1 + self.below(16)).min(out.len());
        match self.below(9) {
            0 if !out.is_empty() => out[at] ^= 1 << self.below(8),
            1 if !out.is_empty() => out[at] = self.next() as u8,
            2 if !out.is_empty() => out[at..end].fill([0, 0xff, 0x7f, b'9', b'"'][self.below(5)]),
            3 if !out.is_empty() => drop(out.drain(at..end)),
            4 => out.truncate(at),
            5 => {
                let part = out[at..end].to_vec();
                drop(out.splice(at..at, part));
            }
            6 => out.insert(at, self.next() as u8),
            7 => {
                let bytes = (self.next() as u32 >> self.below(32)).to_be_bytes();
                for (to, from) in out[at..].iter_mut().zip(bytes) {
                    *to = from;
                }
            }
            _ => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len());
                out.truncate(at);
                out.extend_from_slice(&other[from..]);
            }
        }
    }
}

/// No input of these sizes may keep a parser busy this long, even on a loaded machine.
pub const SLOW: Duration = Duration::from_secs(5);

/// Nor may one take this much memory, with all that was kept before.
pub const MEMORY: u64 = 1 << 30;

const WORTH_ASKING: Duration = Duration::from_millis(2);
const MAX_INPUT: usize = 1 << 18;
