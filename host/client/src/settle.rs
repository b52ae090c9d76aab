//! Holds a receipt against what was attested, sent and received. The worker that signed it is
//! attested, and still every field is compared: a receipt is worth what its checks are.

use std::sync::Arc;

use chrysalis_evidence::VerifiedWorker;
use chrysalis_receipt::{
    Finish, Outcome, ReceiptExpectation, ReceiptReport, SignedReceipt, TimeWindow, verify,
};
use chrysalis_wire::{Digest, RequestId, UnixMillis};

use crate::error::{ClientError, sanitise};
use crate::evidence::Appraised;
use crate::observed::Observed;
use crate::response::Completed;
use crate::stored::StoredReceipt;

/// What one request's receipt must match.
pub(crate) struct Settled {
    pub(crate) appraised: Arc<Appraised>,
    pub(crate) request_id: RequestId,
    pub(crate) salt: [u8; 32],
    pub(crate) request_commit: Digest,
    pub(crate) sampling_hash: Digest,
    pub(crate) sent: UnixMillis,
}

/// Reads and verifies the receipt of a request; `failed` is the status of the error that ended it.
///
/// # Errors
/// [`ClientError::ReceiptMalformed`], [`ClientError::ReceiptRefused`].
pub(crate) fn settle(
    asked: &Settled,
    json: &[u8],
    response_commit: Digest,
    observed: &Observed,
    failed: Option<u16>,
    now: UnixMillis,
) -> Result<Completed, ClientError> {
    let signed = SignedReceipt::from_json(json)
        .map_err(|e| ClientError::ReceiptMalformed(sanitise(&e.to_string())))?;
    let mut expect = expectation(&asked.appraised.verified, asked.request_id, &asked.salt);
    expect.request_commit = Some(asked.request_commit);
    expect.response_commit = Some(response_commit);
    expect.sampling_hash = Some(asked.sampling_hash);
    expect.tokens = observed.tokens;
    expect.finish = match (failed, signed.receipt().usage.finish) {
        (None, _) => observed.finish,
        // What was asked for could not be done, or whoever asked may not be answered any more: that is
        // billed as if it had left. Where the worker is at fault it is not.
        (Some(400..500), Finish::Aborted) => Some(Finish::Aborted),
        (Some(_), _) => Some(Finish::Failed),
    };
    expect.window = Some(TimeWindow { from: asked.sent.seconds(), to: now.seconds() });
    let report = require(verify(&signed, &expect))?;
    let stored = StoredReceipt::new(&asked.appraised, signed, asked.salt, now.seconds());
    Ok(Completed { stored, report, transcript: None })
}

/// What the evidence alone says about a receipt.
pub(crate) fn expectation<'a>(
    verified: &VerifiedWorker,
    request_id: RequestId,
    salt: &'a [u8; 32],
) -> ReceiptExpectation<'a> {
    ReceiptExpectation {
        network: verified.keyset().network,
        registry: verified.manifest().registry,
        meter_key: verified.keyset().meter_key,
        request_id,
        model_root: verified.model_root(),
        measurement_digest: verified.measurement_digest(),
        evidence_digest: verified.evidence_digest(),
        prices: verified.manifest().prices,
        salt: Some(salt),
        request_commit: None,
        response_commit: None,
        sampling_hash: None,
        tokens: None,
        finish: None,
        window: None,
    }
}

/// # Errors
/// [`ClientError::ReceiptRefused`] naming every check that did not hold.
fn require(report: ReceiptReport) -> Result<ReceiptReport, ClientError> {
    if report.ok {
        return Ok(report);
    }
    let failed = report
        .checks
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| format!("{} ({}): {}", check.title, check.id, check.detail))
        .collect();
    Err(ClientError::ReceiptRefused { failed })
}
