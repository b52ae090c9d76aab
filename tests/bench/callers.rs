//! Many callers of one engine at once: the tokens of all of them together against those of one, and
//! against llama.cpp with as many sequences in a batch. On a tiny model and on two of the 1B class.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use chrysalis_engine::{CandleEngine, Engine as _, Event, Generation};

use crate::contest::{Answered, Together};
use crate::engine::{self, Contest, Size, label};
use crate::machine::Machine;
use crate::report::{Better, Comparison};
use crate::synthetic::{self, LLAMA_1B, Weights};

/// Rates of 1 to 16 callers of each model.
pub(crate) fn measure(rounds: usize, machine: &mut Machine) -> Result<Vec<Comparison>> {
    let mut out = Vec::new();
    let small = Crowd { what: "SmolLM2", counts: &[1, 2, 4, 8, 16], answer: 64 };
    out.extend(small.measure(rounds, &engine::gguf()?, machine)?);
    for weights in [Weights::Q8, Weights::Q4K] {
        let folder = tempfile::tempdir()?;
        let what = format!("1B {}", weights.name());
        crate::progress(&format!("callers: writing a model, {what}"));
        let model = synthetic::write(folder.path(), &LLAMA_1B, weights)?;
        let large = Crowd { what: &what, counts: &[1, 4, 16], answer: 32 };
        out.extend(large.measure(rounds, &model.file, machine)?);
    }
    Ok(out)
}

/// How many ask at once, and for what.
struct Crowd<'a> {
    what: &'a str,
    /// The first is one caller.
    counts: &'a [usize],
    /// Tokens of an answer.
    answer: u32,
}

impl Crowd<'_> {
    fn measure(
        &self,
        rounds: usize,
        model: &Path,
        machine: &mut Machine,
    ) -> Result<[Comparison; 2]> {
        let threads = u32::try_from(std::thread::available_parallelism()?.get())?;
        let most = self.counts.iter().copied().max().unwrap_or(1);
        let mut contest = Contest::start(threads, most, model, machine)?;
        // So that both are warm.
        contest.ours.together(&self.task(most))?;
        contest.theirs.together(&self.task(most))?;
        let tokens = contest.ours.time(&CEILING.task())?.prompt_tokens;
        let (mut ours, mut theirs) = self.comparisons(&label(threads), tokens);
        for round in 1..=rounds {
            crate::progress(&format!("callers, {}, round {round} of {rounds}", self.what));
            let (mut rates, mut pairs) = (Vec::new(), Vec::new());
            for count in self.counts {
                let task = self.task(*count);
                let rate = contest.ours.together(&task)?;
                rates.push(rate);
                pairs.extend([rate, contest.theirs.together(&task)?]);
            }
            let prefill = contest.ours.time(&CEILING.task())?;
            rates.push(f64::from(prefill.prompt_tokens) / prefill.prefill_seconds);
            ours.round(&rates);
            theirs.round(&pairs);
        }
        Ok([ours, theirs])
    }

    fn task(&self, count: usize) -> Together {
        Together { prompts: (0..count).map(prompt).collect(), answer: self.answer }
    }

    /// Against one of our own callers, and against llama.cpp's.
    fn comparisons(&self, threads: &str, ceiling: u32) -> (Comparison, Comparison) {
        let (what, answer) = (self.what, self.answer);
        let note = format!(
            "greedy, short prompts, answers of {answer} tokens, from the first request to the last token"
        );
        let prefill = format!("prefill of {ceiling} tokens, the ceiling");
        let names = self.counts.iter().map(|count| callers(*count)).chain([prefill]);
        let title = format!("Callers: all their tokens, {what}, {threads}");
        let mut ours = Comparison::new(title, "tokens/s", Better::More, names)
            .note(format!("{note}; rows of many callers cost what rows of a prompt cost, or more"));
        for many in 1..=self.counts.len() {
            ours = ours.ratio(many, 0);
        }
        let both = |count: &usize| [callers(*count), format!("llama.cpp, {}", callers(*count))];
        let title = format!("Callers: against llama.cpp, {what}, {threads}");
        let names = self.counts.iter().flat_map(both);
        let mut theirs = Comparison::new(title, "tokens/s", Better::More, names)
            .note(format!("{note}; there one batch of as many sequences"));
        for at in 0..self.counts.len() {
            theirs = theirs.ratio(2 * at, 2 * at + 1);
        }
        // What a batch gains there.
        (ours, theirs.ratio(2 * self.counts.len() - 1, 1))
    }
}

/// As titles name a number of callers.
pub(crate) fn callers(count: usize) -> String {
    if count == 1 { "1 caller".to_owned() } else { format!("{count} callers") }
}

/// Of the caller of this number.
pub(crate) fn prompt(caller: usize) -> String {
    format!("On day {caller} of the voyage the captain wrote down")
}

/// Our side of a task: every prompt is a request of its own.
pub(crate) fn together(engine: &CandleEngine, task: &Together) -> Result<Answered> {
    let started = Instant::now();
    let ask = |prompt: &String| Ok(engine.generate(engine::request(prompt, task.answer))?);
    let all = task.prompts.iter().map(ask).collect::<Result<Vec<_>>>()?;
    let mut tokens = 0;
    for mut generation in all {
        tokens += read(&mut generation, || ())?;
    }
    Ok(Answered { tokens, seconds: started.elapsed().as_secs_f64() })
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

/// A long prompt, and enough of an answer that some of it is text: that ends the prefill.
const CEILING: Size = Size { lines: 18, decode: 4 };
