//! `chrysalis receipt prove`: writes a file that shows one part of a receipt to somebody else.

use std::path::{Path, PathBuf};

use chrysalis_client::limits::MAX_HISTORY_BYTES;
use chrysalis_client::{ChannelHistory, ProvenChild};
use chrysalis_receipt::Child;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::read;
use crate::context::Context;
use crate::exit::Failure;
use crate::files::{self, Existing};

/// `receipt prove`.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The stored receipt.
    file: PathBuf,
    /// The part to show. Request id, price, time and the worker's evidence with its manifest are
    /// shown with every part; the words of the exchange, and what would confirm a guess of them, with none.
    #[arg(long, value_enum, required_unless_present = "history")]
    child: Option<Part>,
    /// Prove instead that the receipt is in the sum that its payer pays by, from the channel's history
    /// (`receipt history`). Of other requests only hashes are shown.
    #[arg(long, value_name = "FILE", conflicts_with = "child")]
    history: Option<PathBuf>,
    /// Where to write the proof. It is not written over a file that is there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A part of a receipt.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Part {
    /// The commitments to request and answer.
    Io,
    /// Tokens, prices, times, and how it ended.
    Usage,
    /// Which model answered on which image, and how it was sampled.
    Model,
    /// The evidence and what it measured.
    Att,
}

pub(super) fn run(arguments: &Prove, context: &Context) -> Result<(), Failure> {
    let child = match (arguments.child, &arguments.history) {
        (Some(Part::Io), _) => Child::Io,
        (Some(Part::Usage), _) => Child::Usage,
        (Some(Part::Model), _) => Child::Model,
        (Some(Part::Att), _) => Child::Att,
        (None, Some(history)) => return counted(arguments, history, context),
        // One of the two is required by the options' own rules.
        (None, None) => return Ok(()),
    };
    let stored = read(&arguments.file)?;
    let proof = ProvenChild::of(&stored, child);
    files::write(&arguments.out, &proof.to_json()?, Existing::Refuse)?;
    let out: &Path = &arguments.out;
    let written = Written { child: child.to_string(), proof: out.display().to_string() };
    context.report.result("chrysalis/proof-written/v1", &written, |out| {
        out.line(format_args!(
            "{} shows the part `{}` and no other; whoever has it runs `chrysalis receipt verify`.",
            written.proof, written.child
        ))
    })
}

/// Proves that the receipt is in a settled sum.
fn counted(arguments: &Prove, history: &Path, context: &Context) -> Result<(), Failure> {
    let stored = read(&arguments.file)?;
    let bytes = files::read(history, MAX_HISTORY_BYTES)?;
    let proof = ChannelHistory::parse(&bytes)
        .and_then(|history| history.proof_of(&stored.receipt().hash()))
        .map_err(|e| Failure::from(e).in_file(history))?;
    files::write(&arguments.out, &proof.to_json()?, Existing::Refuse)?;
    let proof = arguments.out.display().to_string();
    let written = Written { child: "counted".to_owned(), proof };
    context.report.result("chrysalis/proof-written/v1", &written, |out| {
        out.line(format_args!(
            "{} shows that the receipt is in a signed sum; whoever has both runs `chrysalis receipt \
             verify --proof`.",
            written.proof
        ))
    })
}

#[derive(Serialize)]
struct Written {
    child: String,
    proof: String,
}
