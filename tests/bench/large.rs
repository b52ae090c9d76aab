//! The engine against llama.cpp on models of the 1B class, and both against the speed of memory:
//! a step of decoding reads all weights once, so its rate times their size is bandwidth.

use anyhow::Result;

use crate::engine::{Contest, Size, label};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::report::{Better, Comparison};
use crate::synthetic::{self, LLAMA_1B, Synthetic, Weights};

/// Prefill, decode and share of the memory's speed, for each kind of weights and number of threads.
pub(crate) fn measure(rounds: usize, machine: &mut Machine) -> Result<Vec<Comparison>> {
    let folder = tempfile::tempdir()?;
    let memory = Memory::new()?;
    let mut out = Vec::new();
    for weights in [Weights::Q4K, Weights::Q8] {
        crate::progress(&format!("large: writing a model in {}", weights.name()));
        let model = synthetic::write(folder.path(), &LLAMA_1B, weights)?;
        for threads in [1, 2] {
            let what = format!("1B {}, {}", weights.name(), label(threads));
            crate::progress(&format!("large: {what}"));
            out.extend(contest(rounds, &what, threads, &model, &memory, machine)?);
        }
        std::fs::remove_file(&model.file)?;
    }
    Ok(out)
}

fn contest(
    rounds: usize,
    what: &str,
    threads: u32,
    model: &Synthetic,
    memory: &Memory,
    machine: &mut Machine,
) -> Result<[Comparison; 3]> {
    let mut contest = Contest::start(threads, 1, &model.file, machine)?;
    // So that both are warm; and how long the prompt is.
    let tokens = contest.round(&SIZE.task())?[0].prompt_tokens;
    let both = ["chrysalis", "llama.cpp"];
    let rates = |title: String| {
        Comparison::new(title, "tokens/s", Better::More, both)
            .ratio(0, 1)
            .note("random weights, from one file")
    };
    let mut prefill = rates(format!("Large: prefill of {tokens} tokens, {what}"));
    let mut decode = rates(format!("Large: decode of {} tokens, {what}", SIZE.decode));
    let read = [both[0], both[1], "plain read"];
    let mut share = Comparison::new(
        format!("Large: weights read while decoding, {what}"),
        "GB/s",
        Better::More,
        read,
    )
    .ratio(0, 2)
    .ratio(1, 2)
    .note(
        "rate of decoding times size of the weights, against the fastest way to read memory, in \
         pages as large, and do nothing else",
    );
    for round in 1..=rounds {
        crate::progress(&format!("  round {round} of {rounds}"));
        // Before and after, the faster: neighbours on this machine come and go.
        let before = memory.rate(usize::try_from(threads)?)?;
        let timed = contest.round(&SIZE.task())?;
        let limit = before.max(memory.rate(usize::try_from(threads)?)?);
        prefill.round(&timed.each_ref().map(|t| f64::from(t.prompt_tokens) / t.prefill_seconds));
        let [ours, theirs] = timed.each_ref().map(|t| f64::from(SIZE.decode) / t.decode_seconds);
        decode.round(&[ours, theirs]);
        let size = model.tensor_bytes as f64 / GIGA;
        share.round(&[ours * size, theirs * size, limit / GIGA]);
    }
    Ok([prefill, decode, share])
}

const SIZE: Size = Size { lines: 18, decode: 64 };
const GIGA: f64 = 1e9;
