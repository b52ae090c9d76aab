//! `chrysalis-bench`, run by `scripts/bench`: what Chrysalis costs on this machine, as ratios
//! between candidates that took turns within one run. It trusts nothing and decides nothing; speed
//! is never asserted by a test. Results are printed, and kept as JSON and as a picture.

mod bare;
mod callers;
mod contest;
mod depth;
mod devices;
mod drafts;
mod engine;
#[cfg(feature = "cuda")]
mod gpu;
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
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use chrysalis_tests::{World, root};
use clap::{Parser, Subcommand, ValueEnum};

use crate::machine::Machine;
use crate::report::Comparison;

/// Measures Chrysalis and prints ratios.
#[derive(Debug, Parser)]
struct Cli {
    /// What to measure; everything if nothing is named.
    #[arg(value_enum, value_name = "WHAT")]
    what: Vec<Section>,
    /// How results are printed; progress goes to standard error.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Where results are kept too, as WHAT.json and WHAT.svg; target/bench if not given.
    #[arg(long, value_name = "DIRECTORY")]
    out: Option<PathBuf>,
    /// Rounds of every comparison; quick ones run more.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// The same as WHAT, one at a time.
    #[arg(long, value_enum, value_name = "WHAT")]
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
    /// All that is measured of the engine: contest, large, callers, depth, drafts and load.
    Engine,
    /// The engine against llama.cpp, on the default model.
    Contest,
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
    /// One NVIDIA GPU against the processor. Only if it is named, and in the build of scripts/gpu.
    #[cfg(feature = "cuda")]
    Gpu,
    /// The same of a model of the 8B class, alone.
    #[cfg(feature = "cuda")]
    GpuLarge,
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
    let asked = [&cli.what[..], &cli.only].concat();
    let out = cli.out.clone().unwrap_or_else(|| root().join("target/bench")).join(name(&asked));
    let mut results = Results { machine: Machine::here(), rounds: cli.rounds, comparisons: vec![] };
    for section in sections(&asked) {
        let measured = section.measure(&cli, &mut results.machine)?;
        results.comparisons.extend(measured);
        // After each, so that a run that ends early leaves what it has.
        results.keep(&out)?;
    }
    progress(&format!("results are in {}.json and .svg", out.display()));
    print(cli.format, &results)
}

/// The sections that are asked for, in the order they are measured in.
fn sections(asked: &[Section]) -> impl Iterator<Item = Section> {
    let wanted = |section: &Section| {
        let group = asked.contains(&Section::Engine) && ENGINE.contains(section);
        let unasked = asked.is_empty() && !section.needs_a_gpu();
        *section != Section::Engine && (unasked || asked.contains(section) || group)
    };
    Section::value_variants().iter().copied().filter(wanted)
}

/// What a file of these results is called.
fn name(asked: &[Section]) -> String {
    let values = asked.iter().filter_map(ValueEnum::to_possible_value);
    let names: Vec<_> = values.map(|value| value.get_name().to_owned()).collect();
    if names.is_empty() { "all".to_owned() } else { names.join("-") }
}

const ENGINE: [Section; 6] = [
    Section::Contest,
    Section::Large,
    Section::Callers,
    Section::Depth,
    Section::Drafts,
    Section::Load,
];

impl Section {
    /// Those are no part of everything.
    const fn needs_a_gpu(self) -> bool {
        #[cfg(feature = "cuda")]
        return matches!(self, Self::Gpu | Self::GpuLarge);
        #[cfg(not(feature = "cuda"))]
        false
    }

    fn measure(self, cli: &Cli, machine: &mut Machine) -> Result<Vec<Comparison>> {
        let rounds = usize::try_from(cli.rounds)?;
        Ok(match self {
            // A name for others.
            Self::Engine => Vec::new(),
            Self::Contest => engine::measure(rounds, cli.contest_seconds, machine)?,
            Self::Large => large::measure(rounds, machine)?,
            Self::Callers => {
                let mut out = callers::measure(rounds, machine)?;
                out.extend(waits::measure(rounds)?);
                out
            }
            Self::Depth => depth::measure(rounds, machine)?,
            Self::Drafts => drafts::measure(rounds)?,
            Self::Vault => vault::measure(rounds)?,
            Self::Load => load::measure(rounds)?,
            Self::Evidence => vec![quotes::measure(rounds)?, devices::measure(rounds)?],
            Self::Receipts => receipts::measure(rounds)?.into(),
            Self::Request => {
                let mut out = request::measure(rounds, world()?)?;
                out.push(seal::measure(rounds)?);
                out
            }
            Self::Start => vec![start::measure(rounds, world()?)?],
            Self::Image => vec![image::measure(rounds)?],
            #[cfg(feature = "cuda")]
            Self::Gpu => gpu::measure(rounds, machine)?,
            #[cfg(feature = "cuda")]
            Self::GpuLarge => gpu::measure_large(rounds, machine)?,
        })
    }
}

/// A run.
struct Results {
    machine: Machine,
    rounds: u32,
    comparisons: Vec<Comparison>,
}

impl Results {
    fn json(&self) -> Result<String> {
        let body = serde_json::json!({
            "schema": "chrysalis/bench/v1",
            "machine": self.machine,
            "rounds": self.rounds,
            "comparisons": self.comparisons,
        });
        Ok(serde_json::to_string_pretty(&body)?)
    }

    /// Writes OUT.json and OUT.svg.
    fn keep(&self, out: &Path) -> Result<()> {
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let picture = plot::svg(&self.comparisons, &self.machine.line());
        for (ending, text) in [("json", self.json()? + "\n"), ("svg", picture)] {
            let file = out.with_extension(ending);
            std::fs::write(&file, text).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }
}

fn print(format: Format, results: &Results) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", results.json()?)?,
        Format::Text => {
            writeln!(out, "{}", results.machine)?;
            for comparison in &results.comparisons {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> Result<Vec<Section>> {
        let words = std::iter::once(&"chrysalis-bench").chain(arguments);
        let cli = Cli::try_parse_from(words)?;
        Ok([cli.what, cli.only].concat())
    }

    #[test]
    fn engine_names_all_that_is_measured_of_it() -> Result<()> {
        let asked = asked(&["engine", "--rounds", "3"])?;
        let mut all = sections(&asked).collect::<Vec<_>>();
        assert_eq!((all.len(), name(&asked)), (ENGINE.len(), "engine".to_owned()));
        all.retain(|section| !ENGINE.contains(section));
        assert_eq!(all, []);
        Ok(())
    }

    #[test]
    fn sections_are_named_with_and_without_an_option_and_measured_in_one_order() -> Result<()> {
        let asked = asked(&["load", "--only", "large"])?;
        assert_eq!(sections(&asked).collect::<Vec<_>>(), [Section::Large, Section::Load]);
        assert_eq!((name(&asked), name(&[])), ("load-large".to_owned(), "all".to_owned()));
        let unasked = Section::value_variants().iter().filter(|section| !section.needs_a_gpu());
        assert_eq!(sections(&[]).count(), unasked.count() - 1);
        Ok(())
    }

    #[test]
    fn the_processes_of_a_contest_are_no_sections() -> Result<()> {
        let cli = Cli::try_parse_from(["chrysalis-bench", "__engine", "2", "16", "model.gguf"])?;
        let command = cli.command;
        assert!(matches!(command, Some(Command::Engine { together: 16, .. })), "{command:?}");
        Ok(())
    }
}
