//! `chrysalis-bench`, run by `scripts/bench`: what Chrysalis costs on this machine, as ratios
//! between candidates that took turns within one run. It trusts nothing and decides nothing; speed
//! is never asserted by a test.

mod bare;
mod callers;
mod contest;
mod depth;
mod devices;
mod drafts;
mod engine;
mod handshake;
mod image;
mod large;
mod load;
mod machine;
mod memory;
mod plot;
mod quotes;
mod receipts;
mod report;
mod request;
mod seal;
mod start;
mod synthetic;
mod vault;
mod waits;

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use chrysalis_tests::World;
use clap::{Parser, Subcommand, ValueEnum};

use crate::machine::Machine;
use crate::report::Comparison;

/// Measures Chrysalis and prints ratios.
#[derive(Debug, Parser)]
struct Cli {
    /// How results are written; progress goes to standard error.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Also draws the ratios into this SVG file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Rounds of every comparison; quick ones run more.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Only this section; may be repeated.
    #[arg(long, value_enum, value_name = "SECTION")]
    only: Vec<Section>,
    /// Longest the contest with llama.cpp may take on one thread; its task is halved until it fits.
    #[arg(long, value_name = "SECONDS", default_value_t = 150)]
    contest_seconds: u32,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Our side of the contest with llama.cpp; speaks lines of JSON.
    #[command(name = "__engine", hide = true)]
    Engine {
        /// Threads to compute with.
        threads: NonZeroUsize,
        /// Most prompts at once.
        together: usize,
        /// The GGUF file.
        model: PathBuf,
    },
    /// One load of a bundle; says what it took as a line of JSON.
    #[command(name = "__load", hide = true)]
    Load {
        /// The bundle.
        bundle: PathBuf,
        /// Whether it is sealed.
        #[arg(action = clap::ArgAction::Set)]
        sealed: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs: one JSON object with a `schema`.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// The engine against llama.cpp.
    Engine,
    /// Models of a thousand million random weights against llama.cpp and the memory's speed.
    Large,
    /// Many callers of one engine against one, and against llama.cpp's batches; how long they wait.
    Callers,
    /// One caller behind long prompts against a short one and llama.cpp, for both types of the cache.
    Depth,
    /// An engine that guesses what comes next against one that does not.
    Drafts,
    /// Verifying and unsealing against a plain read and this CPU's rates.
    Vault,
    /// A bundle into an engine: its rate, and the memory of the process against the file.
    Load,
    /// Appraising a quote and a GPU against the signatures in their evidence.
    Evidence,
    /// Receipts and settlements against the signatures in them.
    Receipts,
    /// What the sealed path adds to a request.
    Request,
    /// Start to ready.
    Start,
    /// Measuring an image and verifying its release, against hashing the same bytes once.
    Image,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match &cli.command {
        Some(Command::Engine { threads, together, model }) => {
            return engine::serve(*threads, *together, model);
        }
        Some(Command::Load { bundle, sealed }) => return load::serve(bundle, *sealed),
        None => {}
    }
    let rounds = usize::try_from(cli.rounds)?;
    let wanted = |section| cli.only.is_empty() || cli.only.contains(&section);
    let mut comparisons = Vec::new();
    let mut machine = Machine::here();
    if wanted(Section::Engine) {
        comparisons.extend(engine::measure(rounds, cli.contest_seconds, &mut machine)?);
    }
    if wanted(Section::Large) {
        comparisons.extend(large::measure(rounds, &mut machine)?);
    }
    if wanted(Section::Callers) {
        comparisons.extend(callers::measure(rounds, &mut machine)?);
        comparisons.extend(waits::measure(rounds)?);
    }
    if wanted(Section::Depth) {
        comparisons.extend(depth::measure(rounds, &mut machine)?);
    }
    if wanted(Section::Drafts) {
        comparisons.extend(drafts::measure(rounds)?);
    }
    if wanted(Section::Vault) {
        comparisons.extend(vault::measure(rounds)?);
    }
    if wanted(Section::Load) {
        comparisons.extend(load::measure(rounds)?);
    }
    if wanted(Section::Evidence) {
        comparisons.push(quotes::measure(rounds)?);
        comparisons.push(devices::measure(rounds)?);
    }
    if wanted(Section::Receipts) {
        comparisons.extend(receipts::measure(rounds)?);
    }
    if wanted(Section::Request) {
        comparisons.extend(request::measure(rounds, world()?)?);
        comparisons.push(seal::measure(rounds)?);
    }
    if wanted(Section::Start) {
        comparisons.push(start::measure(rounds, world()?)?);
    }
    if wanted(Section::Image) {
        comparisons.push(image::measure(rounds)?);
    }
    if let Some(file) = &cli.svg {
        let picture = plot::svg(&comparisons, &machine.line());
        std::fs::write(file, picture).with_context(|| file.display().to_string())?;
    }
    print(cli.format, &machine, &comparisons)
}

fn print(format: Format, machine: &Machine, comparisons: &[Comparison]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => {
            let body = serde_json::json!({
                "schema": "chrysalis/bench/v1",
                "machine": machine,
                "comparisons": comparisons,
            });
            writeln!(out, "{}", serde_json::to_string_pretty(&body)?)?;
        }
        Format::Text => {
            writeln!(out, "{machine}")?;
            for comparison in comparisons {
                write!(out, "\n{comparison}")?;
            }
        }
    }
    Ok(())
}

/// Bundle, manifest and pins of the default model.
fn world() -> Result<&'static World> {
    World::get().context("the default model is not here; run scripts/fetch-model")
}

/// One line of progress.
fn progress(what: &str) {
    // Nobody reads it if standard error is gone.
    let _ = writeln!(std::io::stderr(), "bench: {what}");
}
