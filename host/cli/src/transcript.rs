//! Verdicts and receipt checks as transcripts: one line a check, then what it comes to. The words
//! are those of the crates that checked; this only lays them out.

use std::fmt;

use chrysalis_evidence::{Refusal, Verdict, VerifiedWorker};
use chrysalis_receipt::ReceiptReport;

use crate::report::Text;

/// Every rule of an appraisal and its result.
pub(crate) fn verdict(out: &mut Text, verdict: &Verdict) -> fmt::Result {
    if verdict.insecure_sim {
        out.warning("INSECURE-SIM  a simulated platform under a FAKE root; it protects nothing")?;
    }
    for rule in &verdict.rules {
        let title = format!("{} [{}]", rule.title, rule.clause);
        out.check(rule.outcome.word(), &rule.id.to_string(), &title, &rule.detail)?;
    }
    match &verdict.result {
        Ok(worker) => {
            let sim = if verdict.insecure_sim { " (INSECURE-SIM)" } else { "" };
            out.verdict(true, &format!("ACCEPTED{sim}  {}", worker.pin_name()))
        }
        Err(Refusal { code, rule, .. }) => {
            out.verdict(false, &format!("REFUSED  {code} by {rule}"))
        }
    }
}

/// What an accepted worker is.
pub(crate) fn worker(out: &mut Text, worker: &VerifiedWorker) -> fmt::Result {
    let manifest = worker.manifest();
    out.field("model", &manifest.model.name)?;
    out.field("model root", worker.model_root())?;
    out.field("network", manifest.network)?;
    out.field("measurement", worker.measurement_digest())?;
    out.field("manifest", worker.manifest_digest())?;
    if let Some(hash) = worker.image_hash() {
        out.field("Cocoon image hash", hash)?;
    }
    let prices = manifest.prices;
    out.field(
        "prices",
        format_args!(
            "{} prompt, {} cached, {} completion nanogram per 10^6 tokens",
            prices.prompt, prices.cached, prices.completion
        ),
    )
}

/// Every check of a receipt.
pub(crate) fn receipt(out: &mut Text, report: &ReceiptReport) -> fmt::Result {
    for check in &report.checks {
        out.check(&check.outcome.to_string(), check.id, check.title, &check.detail)?;
    }
    Ok(())
}
