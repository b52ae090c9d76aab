//! `chrysalis receipt`: shows and verifies a receipt file, without any worker. The file is
//! untrusted; what holds is said by the checks alone.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrysalis_client::StoredReceipt;
use chrysalis_client::limits::MAX_STORED_RECEIPT_BYTES;
use chrysalis_wire::{RequestId, UnixTime};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;
use crate::transcript;
use crate::verifier::Policy;

/// What to do with a receipt.
#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// Say what a receipt claims, without verifying it.
    Show {
        /// The stored receipt.
        file: PathBuf,
    },
    /// Appraise the stored evidence again and check everything the receipt says.
    Verify(Verify),
}

/// `receipt verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The stored receipt.
    file: PathBuf,
    #[command(flatten)]
    policy: Policy,
}

pub(crate) fn run(command: &ReceiptCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        ReceiptCommand::Show { file } => show(file, context)?,
        ReceiptCommand::Verify(arguments) => verify(arguments, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<StoredReceipt, Failure> {
    Ok(StoredReceipt::parse(&files::read(path, MAX_STORED_RECEIPT_BYTES)?)?)
}

fn show(path: &Path, context: &Context) -> Result<(), Failure> {
    let stored = read(path)?;
    let signed = stored.receipt();
    let json = signed.to_json()?;
    let shown = Shown {
        request_id: stored.request_id(),
        pin_name: stored.pin_name(),
        insecure_sim: stored.insecure_sim(),
        appraised_at: stored.appraised_at(),
        saved_at: stored.saved_at(),
        receipt: serde_json::from_str(&json).unwrap_or_default(),
    };
    context.report.result("chrysalis/receipt-shown/v1", &shown, |out| {
        let receipt = signed.receipt();
        let (usage, model, att) = (&receipt.usage, &receipt.model, &receipt.att);
        out.line("What the receipt claims; `chrysalis receipt verify` checks it.")?;
        if shown.insecure_sim {
            out.warning("INSECURE-SIM  of a simulated worker; it is worth nothing")?;
        }
        out.field("request", receipt.request_id)?;
        out.field("network", receipt.network)?;
        out.field("worker pinned as", shown.pin_name)?;
        out.field("model root", model.manifest_sha256)?;
        out.field("measurement", att.measurement_sha256)?;
        out.field(
            "tokens",
            format_args!(
                "{} prompt ({} cached), {} completion ({} reasoning)",
                usage.prompt, usage.cached, usage.completion, usage.reasoning
            ),
        )?;
        out.field("finish", usage.finish)?;
        out.field("amount", format_args!("{} nanogram", receipt.amount))?;
        out.field("issued", format_args!("{} (unix time)", receipt.issued_at.0))?;
        out.field("hash", signed.hash())
    })
}

fn verify(arguments: &Verify, context: &Context) -> Result<(), Failure> {
    let stored = read(&arguments.file)?;
    let (appraiser, collateral) = arguments.policy.load()?;
    let report = stored.verify(Some((&appraiser, &collateral)), None);
    if context.report.is_json() {
        // A report carries its own schema.
        context.report.json(&report)?;
    } else {
        context.report.text(|out| {
            out.field("receipt of", report.request_id)?;
            if let Some(verdict) = &report.evidence {
                transcript::verdict(out, verdict)?;
            }
            transcript::receipt(out, &report.receipt)?;
            out.verdict(report.holds, &report.conclusion())
        })?;
    }
    if let Some(Err(refusal)) = report.evidence.map(|verdict| verdict.result) {
        return Err(refusal.into());
    }
    report.receipt.require().map(drop)?;
    if report.holds {
        return Ok(());
    }
    let message = "the receipt does not hold";
    Err(Failure::new(Class::Refused, "E-RECEIPT", message).next("do not rely on the answer"))
}

#[derive(Serialize)]
struct Shown<'a> {
    request_id: RequestId,
    pin_name: &'a str,
    insecure_sim: bool,
    appraised_at: UnixTime,
    saved_at: UnixTime,
    receipt: serde_json::Value,
}
