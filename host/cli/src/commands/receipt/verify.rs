//! `chrysalis receipt verify`: stored receipts, and proofs of one part that others were given.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use chrysalis_client::limits::{MAX_STORED_RECEIPT_BYTES, MAX_TRANSCRIPT_BYTES};
use chrysalis_client::{
    ProvenChild, ProvenReport, Spoken, StoredReceipt, StoredReport, Transcript, payloads_of,
};
use chrysalis_evidence::{Collateral, Verdict};
use chrysalis_policy::Judge;
use chrysalis_receipt::ReceiptReport;
use chrysalis_wire::{RequestId, SecretBytes};
use clap::Args;

use super::counted;
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::files;
use crate::transcript;
use crate::verifier::Policy;

/// `receipt verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The stored receipts, or proofs of one part made by `receipt prove`. The words of an exchange are
    /// checked too if they were kept: a file `ID.transcript` beside `ID.json` is used by itself.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    policy: Policy,
    #[command(flatten)]
    words: Words,
    /// What shows that the receipt is in the sum that its payer pays by, as `receipt prove --history`
    /// wrote it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["request", "response"])]
    proof: Option<PathBuf>,
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

/// Every file is verified and shown; the first that does not hold is the error.
pub(super) fn run(arguments: &Verify, context: &Context) -> Result<(), Failure> {
    if arguments.words.request.is_some() && arguments.files.len() > 1 {
        let message = "--request and --response are of one receipt, and several were given";
        return Err(Failure::new(Class::Usage, "E-USAGE", message).next("verify it alone"));
    }
    if arguments.proof.is_some() && arguments.files.len() > 1 {
        let message = "--proof is of one receipt, and several were given";
        return Err(Failure::new(Class::Usage, "E-USAGE", message).next("verify it alone"));
    }
    let judge = arguments.policy.load(context)?;
    let mut first = None;
    for path in &arguments.files {
        if let Err(failure) = verify_one(path, &arguments.words, &judge, context) {
            first.get_or_insert(failure);
        }
    }
    if let (Some(proof), [receipt]) = (&arguments.proof, arguments.files.as_slice())
        && let Err(failure) = counted::run(receipt, proof, context)
    {
        first.get_or_insert(failure);
    }
    first.map_or(Ok(()), Err)
}

fn verify_one(
    path: &Path,
    words: &Words,
    (judge, collateral): &(Judge, Collateral),
    context: &Context,
) -> Result<(), Failure> {
    let bytes = files::read(path, MAX_STORED_RECEIPT_BYTES)?;
    if ProvenChild::is_one(&bytes) {
        if words.request.is_some() {
            let message = "a proof of one part has no salt, so no words can be held against it";
            return Err(Failure::new(Class::Usage, "E-USAGE", message)
                .next("verify it without --request and --response"));
        }
        let proof = ProvenChild::parse(&bytes).map_err(|e| Failure::from(e).in_file(path))?;
        let report = proof
            .verify(Some((judge, collateral)), context.now())
            .map_err(|e| Failure::from(e).in_file(path))?;
        show_proof(&report, context)?;
        let (evidence, holds) = (report.evidence, report.holds);
        return conclude(evidence, report.receipt, holds).map_err(|failure| failure.in_file(path));
    }
    let stored = StoredReceipt::parse(&bytes).map_err(|e| Failure::from(e).in_file(path))?;
    let kept = Kept::find(words, path, stored.request_id())?;
    let spoken = kept.as_ref().map(Kept::spoken);
    let report = stored.verify(Some((judge, collateral)), spoken.as_ref());
    show_report(&report, context)?;
    let (evidence, holds) = (report.evidence, report.holds);
    conclude(evidence, report.receipt, holds).map_err(|failure| failure.in_file(path))
}

fn show_proof(report: &ProvenReport, context: &Context) -> Result<(), Failure> {
    if context.report.is_json() {
        // A report carries its own schema.
        return context.report.json(report);
    }
    context.report.text(|out| {
        out.field("proof of", format_args!("{} of request {}", report.child, report.request_id))?;
        if let Some(verdict) = &report.evidence {
            transcript::verdict(out, verdict)?;
        }
        transcript::receipt(out, &report.receipt)?;
        out.verdict(report.holds, &report.conclusion())
    })
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

pub(super) fn conclude(
    evidence: Option<Verdict>,
    receipt: ReceiptReport,
    holds: bool,
) -> Result<(), Failure> {
    if let Some(Err(refusal)) = evidence.map(|verdict| verdict.result) {
        return Err(refusal.into());
    }
    receipt.require().map(drop)?;
    if holds {
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
