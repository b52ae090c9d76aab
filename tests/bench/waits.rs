//! How long callers of one engine wait: each for its first token, and from one piece of text to the next.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use chrysalis_engine::{CandleEngine, Engine as _, EngineOptions};

use crate::callers::{callers, prompt, read};
use crate::engine;
use crate::report::{Better, Comparison};

/// Waits of 1, 8 and 32 callers of the default model.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Comparison>> {
    let gguf = std::fs::read(engine::gguf()?)?;
    let most = WAITING.into_iter().max().unwrap_or(1);
    // One caller computes every token as many do.
    let options = EngineOptions { max_concurrent: most, drafts: false, ..EngineOptions::new(|| 0) };
    let engine = CandleEngine::load(&gguf, options)?;
    let wait = |what: &str| {
        Comparison::new(format!("Callers: {what}"), "ms", Better::Less, WAITING.map(callers))
            .ratio(1, 0)
            .ratio(2, 0)
            .note("all ask at the same moment; a wait is from one piece of text to the next")
    };
    let mut waits = [
        wait("time to the first token, median"),
        wait("time to the first token, p99"),
        wait("time between tokens, median"),
        wait("time between tokens, p99"),
    ];
    // The first one warms up.
    for round in 0..=rounds {
        crate::progress(&format!("waits of callers, round {round} of {rounds}"));
        let waited = WAITING.map(|count| Waits::of(&engine, count));
        let waited = waited.into_iter().collect::<Result<Vec<_>>>()?;
        if round > 0 {
            for (n, wait) in waits.iter_mut().enumerate() {
                wait.round(&waited.iter().map(|w| w.figures()[n]).collect::<Vec<_>>());
            }
        }
    }
    Ok(waits.into())
}

/// How long some callers waited, sorted.
struct Waits {
    first: Vec<Duration>,
    between: Vec<Duration>,
}

impl Waits {
    fn of(engine: &CandleEngine, count: usize) -> Result<Self> {
        let one = |caller: usize| -> Result<Vec<Duration>> {
            let mut last = Instant::now();
            let mut waits = Vec::new();
            let asked = engine::request(&prompt(caller), ANSWER);
            read(&mut engine.generate(asked)?, || {
                let now = Instant::now();
                waits.push(now - last);
                last = now;
            })?;
            Ok(waits)
        };
        let all = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..count).map(|caller| scope.spawn(move || one(caller))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().ok().context("a caller panicked")?)
                .collect::<Result<Vec<_>>>()
        })?;
        let mut waits = Self { first: Vec::new(), between: Vec::new() };
        for one in all {
            let (first, between) = one.split_first().context("an answer without text")?;
            waits.first.push(*first);
            waits.between.extend(between);
        }
        waits.first.sort_unstable();
        waits.between.sort_unstable();
        Ok(waits)
    }

    /// Median and p99 of both, in milliseconds.
    fn figures(&self) -> [f64; 4] {
        let at = |sorted: &[Duration], percent: usize| {
            let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(index).map_or(f64::NAN, |wait| wait.as_secs_f64() * 1000.0)
        };
        [at(&self.first, 50), at(&self.first, 99), at(&self.between, 50), at(&self.between, 99)]
    }
}

const WAITING: [usize; 3] = [1, 8, 32];
/// Tokens of an answer.
const ANSWER: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_waits() {
        let millis = |n: &[u64]| n.iter().map(|n| Duration::from_millis(*n)).collect();
        let all: Vec<u64> = (1..=200).collect();
        let waits = Waits { first: millis(&[7]), between: millis(&all) };
        assert_eq!(waits.figures(), [7.0, 7.0, 100.0, 198.0]);
    }
}
