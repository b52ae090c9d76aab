//! `chrysalis appraise`: asks a worker for evidence over a fresh nonce and shows every rule. The
//! worker is untrusted until the last line.

use std::process::ExitCode;

use clap::Args;

use crate::context::Context;
use crate::exit::Failure;
use crate::transcript;
use crate::verifier::{EVIDENCE, Policy};
use crate::waiting::Waiting;

/// `appraise`.
#[derive(Debug, Args)]
pub(crate) struct Appraise {
    /// The worker, `HOST:PORT`.
    #[arg(value_name = "ADDR")]
    address: String,
    #[command(flatten)]
    policy: Policy,
}

pub(crate) fn run(arguments: &Appraise, context: &Context) -> Result<ExitCode, Failure> {
    let worker = arguments.policy.worker(&arguments.address, context)?;
    let waiting = Waiting::for_(context.report, EVIDENCE);
    let attestation = context.block_on(async { Ok(worker.attest().await?) })?;
    drop(waiting);
    let verdict = attestation.verdict();
    if context.report.is_json() {
        // A verdict carries its own schema.
        context.report.json(verdict)?;
    } else {
        context.report.text(|out| {
            transcript::verdict(out, verdict)?;
            verdict.result.as_ref().map_or(Ok(()), |worker| transcript::worker(out, worker))
        })?;
    }
    // The verdict and one check that is not the verdict's: whose connection this is.
    attestation.accept()?;
    Ok(ExitCode::SUCCESS)
}
