//! Many callers of one engine at once: the tokens of all of them together against those of one, and how
//! long each of them waits.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use chrysalis_engine::{CandleEngine, Engine as _, EngineOptions, Event, Generation};
use chrysalis_tests::model;

use crate::engine;
use crate::report::{Better, Comparison};

/// Rates of 1 to 16 callers, then the waits of 1, 8 and 32.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Comparison>> {
    let gguf = std::fs::read(model().context("no model; run scripts/fetch-model")?)?;
    let most = WAITING.into_iter().chain(TOGETHER).max().unwrap_or(1);
    // One caller computes every token as many do.
    let options = EngineOptions { max_concurrent: most, drafts: false, ..EngineOptions::new(|| 0) };
    let engine = CandleEngine::load(&gguf, options)?;

    let mut rates = Comparison::new(
        format!("Callers: tokens of all together, answers of {ANSWER}"),
        "tokens/s",
        Better::More,
        TOGETHER.map(callers),
    )
    .note("greedy, short prompts, from the first request to the last token");
    for many in 1..TOGETHER.len() {
        rates = rates.ratio(many, 0);
    }
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
    for round in 0..=rounds {
        crate::progress(&format!("callers, round {round} of {rounds}"));
        let figures = TOGETHER.map(|count| rate(&engine, count));
        let waited = WAITING.map(|count| Waits::of(&engine, count));
        // The first one warms up.
        if round > 0 {
            rates.round(&figures.into_iter().collect::<Result<Vec<_>>>()?);
            let waited = waited.into_iter().collect::<Result<Vec<_>>>()?;
            for (n, wait) in waits.iter_mut().enumerate() {
                wait.round(&waited.iter().map(|w| w.figures()[n]).collect::<Vec<_>>());
            }
        }
    }
    Ok(std::iter::once(rates).chain(waits).collect())
}

fn callers(count: usize) -> String {
    if count == 1 { "1 caller".to_owned() } else { format!("{count} callers") }
}

fn ask(engine: &CandleEngine, caller: usize) -> Result<Generation> {
    let prompt = format!("On day {caller} of the voyage the captain wrote down");
    Ok(engine.generate(engine::request(&prompt, ANSWER))?)
}

/// Tokens a second of `count` callers together.
fn rate(engine: &CandleEngine, count: usize) -> Result<f64> {
    let started = Instant::now();
    let all = (0..count).map(|caller| ask(engine, caller)).collect::<Result<Vec<_>>>()?;
    let mut tokens = 0;
    for mut generation in all {
        tokens += read(&mut generation, || ())?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let asked = u32::try_from(count)?.saturating_mul(ANSWER);
    ensure!(tokens > asked / 2, "the model ended most of its turns early; use other prompts");
    Ok(f64::from(tokens) / seconds)
}

/// Reads an answer, telling of each piece of text; the tokens it took.
pub(crate) fn read(generation: &mut Generation, mut piece: impl FnMut()) -> Result<u32> {
    loop {
        match generation.events.blocking_recv().context("the engine is gone")? {
            Event::Delta(_) => piece(),
            Event::Finished { usage, .. } => return Ok(usage.completion),
            Event::Failed(error) => bail!(error),
        }
    }
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
            read(&mut ask(engine, caller)?, || {
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

const TOGETHER: [usize; 4] = [1, 4, 8, 16];
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
