//! `chrysalis embed`: appraise, seal, embed, verify. The vectors go to standard output, one JSON array a
//! line, and only once the receipt holds; what was checked goes to standard error. Texts are the user's
//! secrets and are repeated nowhere.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use chrysalis_client::{Completed, ReceiptStore, Vectors, embed};
use chrysalis_receipt::ReceiptReport;
use chrysalis_wire::RequestId;
use clap::Args;
use serde::Serialize;

use crate::args::state_dir;
use crate::commands::ask::{keep, receipts};
use crate::commands::pay::{Pay, warn_when_near};
use crate::context::Context;
use crate::exit::{Class, Failure};
use crate::transcript;
use crate::verifier::{EVIDENCE, Policy};
use crate::waiting::Waiting;

/// `embed`.
#[derive(Debug, Args)]
pub(crate) struct Embed {
    /// The worker, `HOST:PORT`.
    #[arg(long, value_name = "ADDR")]
    worker: String,
    #[command(flatten)]
    policy: Policy,
    #[command(flatten)]
    pay: Pay,
    /// Directory that receipts are kept under.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The texts.
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<String>,
}

pub(crate) fn run(arguments: &Embed, context: &Context) -> Result<ExitCode, Failure> {
    let texts: Vec<&str> = arguments.texts.iter().map(String::as_str).collect();
    // Before anything is sent: an answer that is paid for must have a place for its receipt.
    let store = ReceiptStore::open(receipts(arguments.state.as_ref())?)?;
    let worker = arguments.policy.worker(&arguments.worker, context)?;
    let (vectors, completed) = context.block_on(async {
        let waiting = Waiting::for_(context.report, EVIDENCE);
        let attestation = worker.attest().await?;
        drop(waiting);
        let report = &context.report;
        report.notes(attestation.verdict(), |out| transcript::verdict(out, attestation.verdict()));
        let attested = attestation.accept()?;
        let state = state_dir(arguments.state.as_ref())?;
        let payer = arguments.pay.attach(&attested, &state, context).await?;
        let answered = embed(&attested, &texts, |failed| keep(&store, &failed, context)).await?;
        // Where the channel stands now. An answer that arrived stays one if the worker does not say.
        if let Err(error) = attested.collect_claim().await
            && error.ends_payments()
        {
            context.report.note(&format!("{}: {error}", error.code()));
        }
        if let Some(payer) = payer {
            warn_when_near(&payer, context, &AtomicBool::new(false));
        }
        Ok(answered)
    })?;
    let path = store.save_completed(&completed)?;
    tell(&vectors, &completed, &path.display().to_string(), context)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(
    vectors: &Vectors,
    completed: &Completed,
    path: &str,
    context: &Context,
) -> Result<(), Failure> {
    let insecure_sim = completed.stored.insecure_sim();
    if context.report.is_json() {
        let body = EmbeddingsBody {
            embeddings: vectors.expose(),
            request_id: completed.stored.request_id(),
            insecure_sim,
            receipt: path,
            checks: &completed.report,
        };
        return context.report.result("chrysalis/embeddings/v1", &body, |_| Ok(()));
    }
    for vector in vectors.expose() {
        let line = serde_json::to_string(vector)
            .map_err(|e| Failure::new(Class::Internal, "E-OUTPUT", e.to_string()))?;
        context.report.out(line.as_bytes())?;
        context.report.out(b"\n")?;
    }
    context.report.notes(&(), |out| {
        transcript::receipt(out, &completed.report)?;
        let sim = if insecure_sim { " (INSECURE-SIM: it is worth nothing)" } else { "" };
        out.verdict(true, &format!("The answer is complete and its receipt holds{sim}."))?;
        out.field("receipt", path)
    });
    Ok(())
}

#[derive(Serialize)]
struct EmbeddingsBody<'a> {
    embeddings: &'a [Vec<f32>],
    request_id: RequestId,
    insecure_sim: bool,
    receipt: &'a str,
    checks: &'a ReceiptReport,
}
