//! Drafts against none: the same engine, the same tokens, a text that repeats itself and one that does not.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use chrysalis_engine::{
    CandleEngine, Engine as _, EngineOptions, Event, GenerateRequest, Sampling,
};
use chrysalis_tests::model;

use crate::engine;
use crate::report::{Better, Comparison};

/// Rates of one caller for both texts, with and without.
pub(crate) fn measure(rounds: usize) -> Result<Vec<Comparison>> {
    let gguf = std::fs::read(model().context("no model; run scripts/fetch-model")?)?;
    let load = |drafts| {
        let options = EngineOptions { drafts, ..EngineOptions::new(|| 0) };
        CandleEngine::load(&gguf, options)
    };
    let engines = [load(true)?, load(false)?];
    let mut out = Vec::new();
    for (name, request) in [("that repeats itself", repeating()), ("that does not", fresh())] {
        let title = format!("Drafts: {ANSWER} tokens of a text {name}");
        let mut rates =
            Comparison::new(title, "tokens/s", Better::More, ["with drafts", "without"])
                .ratio(0, 1)
                .note("one caller, after the first token; the answers are compared");
        // The first one warms up.
        for round in 0..=rounds {
            crate::progress(&format!("drafts, a text {name}, round {round} of {rounds}"));
            let [with, without] = engines.each_ref().map(|engine| answer(engine, &request));
            let (with, without) = (with?, without?);
            ensure!(with.0 == without.0, "drafts changed the answer");
            if round > 0 {
                rates.round(&[with.1, without.1]);
            }
        }
        out.push(rates);
    }
    Ok(out)
}

/// What is asked, and how it is drawn.
type Asked = (String, Sampling);

/// A list that goes on as it began.
fn repeating() -> Asked {
    let line =
        |day: u32| format!("Day {day}: wind from the west, nine knots, all well on board.\n");
    ((1..=12).map(line).collect(), Sampling::greedy())
}

/// A story, drawn at a temperature at which the model does not fall into a loop.
fn fresh() -> Asked {
    let prompt = "The old lighthouse had stood empty for thirty years when the letter came. ";
    let sampling = Sampling { temperature: 1.0, seed: Some(7), ..Sampling::greedy() };
    (prompt.to_owned(), sampling)
}

/// The answer and its tokens a second.
fn answer(engine: &CandleEngine, (prompt, sampling): &Asked) -> Result<(Vec<u8>, f64)> {
    let request = GenerateRequest { sampling: *sampling, ..engine::request(prompt, ANSWER) };
    let mut generation = engine.generate(request)?;
    let (mut text, mut first) = (Vec::new(), None);
    loop {
        match generation.events.blocking_recv().context("the engine is gone")? {
            Event::Delta(delta) => {
                first.get_or_insert_with(Instant::now);
                text.extend_from_slice(delta.text.expose());
            }
            Event::Finished { usage, .. } => {
                let tokens = usage.completion;
                ensure!(tokens > ANSWER / 2, "the model ended its turn early; use another prompt");
                let first = first.context("the answer has no text")?;
                return Ok((text, f64::from(tokens - 1) / first.elapsed().as_secs_f64()));
            }
            Event::Failed(error) => bail!(error),
        }
    }
}

const ANSWER: u32 = 128;
