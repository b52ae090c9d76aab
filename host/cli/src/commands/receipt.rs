//! `chrysalis receipt`: shows and verifies receipt files, without any worker. Files are untrusted;
//! what holds is said by the checks alone.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrysalis_client::limits::{MAX_STORED_RECEIPT_BYTES, MAX_TRANSCRIPT_BYTES};
use chrysalis_client::{
    ReceiptStore, Spoken, StoredReceipt, StoredReport, Transcript, Utc, payloads_of,
};
use chrysalis_evidence::Collateral;
use chrysalis_policy::Judge;
use chrysalis_wire::{RequestId, SecretBytes, UnixTime};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::commands::ask::receipts;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;
use crate::transcript;
use crate::verifier::Policy;

/// What to do with a receipt.
#[derive(Debug, Subcommand)]
pub(crate) enum ReceiptCommand {
    /// List the stored receipts, newest first.
    List {
        /// Directory that receipts are kept under.
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
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
    /// The stored receipts. The words of an exchange are checked too if they were kept: a file
    /// `ID.transcript` beside `ID.json` is used by itself.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    policy: Policy,
    #[command(flatten)]
    words: Words,
}

/// What was said, where a program kept it itself.
#[derive(Debug, Args)]
struct Words {
    /// The exact body of the request, of one receipt.
    #[arg(long, value_name = "FILE", requires = "response")]
    request: Option<PathBuf>,
    /// The exact body of the response: JSON, or the event stream as it came.
    #[arg(long, value_name = "FILE", requires = "request")]
    response: Option<PathBuf>,
}

pub(crate) fn run(command: &ReceiptCommand, context: &Context) -> Result<ExitCode, Failure> {
    match command {
        ReceiptCommand::List { state } => list(state.as_ref(), context)?,
        ReceiptCommand::Show { file } => show(file, context)?,
        ReceiptCommand::Verify(arguments) => verify(arguments, context)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<StoredReceipt, Failure> {
    let bytes = files::read(path, MAX_STORED_RECEIPT_BYTES)?;
    StoredReceipt::parse(&bytes).map_err(|e| Failure::from(e).in_file(path))
}

fn list(state: Option<&PathBuf>, context: &Context) -> Result<(), Failure> {
    let directory = receipts(state)?;
    let mut paths = Vec::new();
    // Looking makes no directory.
    if directory.exists() {
        let store = ReceiptStore::open(&directory)?;
        paths.extend(store.list()?.into_iter().map(|id| store.path(id).display().to_string()));
    }
    let listed = Listed { directory: directory.display().to_string(), receipts: &paths };
    context.report.result("chrysalis/receipts/v1", &listed, |out| {
        if paths.is_empty() {
            out.line(format_args!("There is no receipt in {}.", listed.directory))?;
        }
        paths.iter().try_for_each(|path| out.line(path))
    })
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
        out.field("issued", Utc(receipt.issued_at))?;
        out.field("hash", signed.hash())
    })
}

/// Every file is verified and shown; the first that does not hold is the error.
fn verify(arguments: &Verify, context: &Context) -> Result<(), Failure> {
    if arguments.words.request.is_some() && arguments.files.len() > 1 {
        let message = "--request and --response are of one receipt, and several were given";
        return Err(Failure::new(Class::Usage, "E-USAGE", message).next("verify it alone"));
    }
    let judge = arguments.policy.load(context)?;
    let mut first = None;
    for path in &arguments.files {
        if let Err(failure) = verify_one(path, &arguments.words, &judge, context) {
            first.get_or_insert(failure);
        }
    }
    first.map_or(Ok(()), Err)
}

fn verify_one(
    path: &Path,
    words: &Words,
    (judge, collateral): &(Judge, Collateral),
    context: &Context,
) -> Result<(), Failure> {
    let stored = read(path)?;
    let kept = Kept::find(words, path, stored.request_id())?;
    let spoken = kept.as_ref().map(Kept::spoken);
    let report = stored.verify(Some((judge, collateral)), spoken.as_ref());
    show_report(&report, context)?;
    conclude(report).map_err(|failure| failure.in_file(path))
}

fn show_report(report: &StoredReport, context: &Context) -> Result<(), Failure> {
    if context.report.is_json() {
        // A report carries its own schema.
        return context.report.json(report);
    }
    context.report.text(|out| {
        out.field("receipt of", report.request_id)?;
        if let Some(verdict) = &report.evidence {
            transcript::verdict(out, verdict)?;
        }
        transcript::receipt(out, &report.receipt)?;
        out.verdict(report.holds, &report.conclusion())
    })
}

fn conclude(report: StoredReport) -> Result<(), Failure> {
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

/// The words of an exchange, from wherever they were kept.
struct Kept {
    request: SecretBytes,
    response: SecretBytes,
}

impl Kept {
    /// The words that were named, else those in the transcript beside the receipt, if there is one.
    fn find(words: &Words, receipt: &Path, id: RequestId) -> Result<Option<Self>, Failure> {
        if let (Some(request), Some(response)) = (&words.request, &words.response) {
            let response = SecretBytes::new(files::read(response, MAX_TRANSCRIPT_BYTES)?);
            let request = SecretBytes::new(files::read(request, MAX_TRANSCRIPT_BYTES)?);
            let response = SecretBytes::new(payloads_of(response.expose()).to_vec());
            return Ok(Some(Self { request, response }));
        }
        let Some(path) = transcript_beside(receipt).filter(|path| path.exists()) else {
            return Ok(None);
        };
        // Escapes can make the file twice as long as its words.
        let limit = MAX_TRANSCRIPT_BYTES.saturating_mul(2);
        let bytes = SecretBytes::new(files::read(&path, limit)?);
        let transcript =
            Transcript::parse(bytes.expose()).map_err(|e| Failure::from(e).in_file(&path))?;
        if transcript.request_id() != id {
            let message = format!("{} is of another request", path.display());
            return Err(Failure::new(Class::Malformed, "E-TRANSCRIPT-ID", message)
                .compared(id, transcript.request_id())
                .next("put the receipt beside its own transcript, or apart from any"));
        }
        Ok(Some(Self {
            request: SecretBytes::new(transcript.request().to_vec()),
            response: SecretBytes::new(transcript.response().to_vec()),
        }))
    }

    fn spoken(&self) -> Spoken<'_> {
        Spoken { request: self.request.expose(), response: self.response.expose() }
    }
}

/// `ID.transcript` for `ID.json`.
fn transcript_beside(receipt: &Path) -> Option<PathBuf> {
    let stem = receipt.file_stem().filter(|_| receipt.extension() == Some(OsStr::new("json")))?;
    let mut name = stem.to_owned();
    name.push(".transcript");
    Some(receipt.with_file_name(name))
}

#[derive(Serialize)]
struct Listed<'a> {
    directory: String,
    receipts: &'a [String],
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
