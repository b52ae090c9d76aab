//! One part of a receipt, shown to somebody else: the part, the receipt's public root, and the evidence
//! of the worker that signed it. Nothing that opens another part is in it, nor the salt.
//!
//! Whoever gets the file is the one to protect: everything in it is the prover's until
//! [`ProvenChild::verify`], and which request it is about stays the prover's word.

use std::fmt;

use chrysalis_evidence::{Collateral, Session, Verdict};
use chrysalis_policy::Judge;
use chrysalis_receipt::{
    Child, ChildProof, OpenedChild, ReceiptReport, TimeWindow, open_child, verify_proof,
};
use chrysalis_wire::{AttestationDocument, RequestId, UnixTime};
use serde::{Deserialize, Serialize};

use crate::error::{ClientError, sanitise};
use crate::limits::MAX_STORED_RECEIPT_BYTES;
use crate::report::not_checked;
use crate::settle::expectation;
use crate::stored::StoredReceipt;

/// Schema name of a proof of one part with its evidence.
pub const PROVEN_CHILD_SCHEMA: &str = "chrysalis/proven-child/v1";
/// Schema name of a [`ProvenReport`] in JSON.
pub const PROVEN_REPORT_SCHEMA: &str = "chrysalis/proven-child-report/v1";

/// How long after the appraisal of its evidence a receipt may be signed, to be proved by it: a day.
const MAX_PROVEN_SESSION_SECONDS: u64 = 86_400;

/// How far the prover's clock may be ahead: what the sealed channel grants a requester's.
const MAX_PROOF_SKEW_SECONDS: u64 = chrysalis_channel::MAX_CLOCK_SKEW_MILLIS / 1000;

/// One part of a receipt with everything needed to verify it, not verified.
#[derive(Clone, PartialEq, Eq)]
pub struct ProvenChild {
    proof: ChildProof,
    evidence: AttestationDocument,
    session: Session,
    appraised_at: UnixTime,
}

impl ProvenChild {
    /// Opens one part of a stored receipt. The evidence names the worker's manifest, so which model
    /// the worker serves is shown with every part.
    #[must_use]
    pub fn of(stored: &StoredReceipt, child: Child) -> Self {
        Self {
            proof: open_child(stored.receipt(), child),
            evidence: stored.evidence().clone(),
            session: stored.session().clone(),
            appraised_at: stored.appraised_at(),
        }
    }

    /// The opened part and the public root.
    #[must_use]
    pub const fn proof(&self) -> &ChildProof {
        &self.proof
    }

    /// Verifies the proof without any worker: the evidence is appraised by `judge`'s pins and
    /// collateral as of the time the prover names, and the part is held against what it proves. That
    /// time is not after `now`, this machine's: it decides which pins count.
    ///
    /// # Errors
    /// [`ClientError::ProofOfTheFuture`].
    pub fn verify(
        &self,
        judge: Option<(&Judge, &Collateral)>,
        now: UnixTime,
    ) -> Result<ProvenReport, ClientError> {
        let at = self.appraised_at;
        if at.0 > now.0.saturating_add(MAX_PROOF_SKEW_SECONDS) {
            return Err(ClientError::ProofOfTheFuture { at, now });
        }
        let evidence = judge.map(|(judge, collateral)| {
            judge.appraise(&self.evidence, &self.session, collateral, self.appraised_at)
        });
        let verified = evidence.as_ref().and_then(|verdict| verdict.result.as_ref().ok());
        let receipt = match verified {
            None => verify_proof(&self.proof, None),
            Some(verified) => {
                // Proofs have no salt; the one here is compared with nothing.
                let mut expect = expectation(verified, self.proof.public().request_id(), &[0; 32]);
                let (from, at) = (self.appraised_at, self.appraised_at.0);
                let to = UnixTime(at.saturating_add(MAX_PROVEN_SESSION_SECONDS));
                expect.window = Some(TimeWindow { from, to });
                verify_proof(&self.proof, Some(&expect))
            }
        };
        let accepted = evidence.as_ref().is_some_and(Verdict::accepted);
        let simulated = evidence.as_ref().is_some_and(|verdict| verdict.insecure_sim);
        Ok(ProvenReport {
            schema: PROVEN_REPORT_SCHEMA,
            holds: accepted && receipt.ok,
            request_id: self.proof.public().request_id(),
            child: self.proof.opened().child().to_string(),
            statement: statement(&self.proof),
            insecure_sim: simulated || receipt.insecure_sim,
            evidence,
            receipt,
        })
    }

    /// The document to show.
    ///
    /// # Errors
    /// [`ClientError::StoredMalformed`] if the result would not be read back.
    pub fn to_json(&self) -> Result<Vec<u8>, ClientError> {
        let malformed = |e: &dyn fmt::Display| ClientError::StoredMalformed(e.to_string());
        let proof = self.proof.to_json().map_err(|e| malformed(&e))?;
        let document = Document {
            schema: PROVEN_CHILD_SCHEMA.to_owned(),
            appraised_at: self.appraised_at,
            proof: serde_json::from_str(&proof).map_err(|e| malformed(&e))?,
            session: self.session.clone(),
            evidence: self.evidence.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&document).map_err(|e| malformed(&e))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Whether these bytes say that they are such a proof. Nothing else is said of them.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        serde_json::from_slice::<SchemaOnly>(bytes).is_ok_and(|d| d.schema == PROVEN_CHILD_SCHEMA)
    }

    /// Reads a proof from untrusted bytes.
    ///
    /// # Errors
    /// [`ClientError::StoredMalformed`] if it is too large, of another schema, or not readable.
    pub fn parse(bytes: &[u8]) -> Result<Self, ClientError> {
        let malformed =
            |e: &dyn fmt::Display| ClientError::StoredMalformed(sanitise(&e.to_string()));
        if bytes.len() > MAX_STORED_RECEIPT_BYTES {
            let text = format!("{} bytes; the limit is {MAX_STORED_RECEIPT_BYTES}", bytes.len());
            return Err(malformed(&text));
        }
        let found: SchemaOnly = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
        if found.schema != PROVEN_CHILD_SCHEMA {
            let text = format!("schema {:?}, expected {PROVEN_CHILD_SCHEMA}", found.schema);
            return Err(malformed(&text));
        }
        let document: Document = serde_json::from_slice(bytes).map_err(|e| malformed(&e))?;
        let proof = serde_json::to_vec(&document.proof).map_err(|e| malformed(&e))?;
        Ok(Self {
            proof: ChildProof::from_json(&proof).map_err(|e| malformed(&e))?,
            evidence: document.evidence,
            session: document.session,
            appraised_at: document.appraised_at,
        })
    }
}

impl fmt::Debug for ProvenChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proven{:?}", self.proof)
    }
}

/// The verification of one part of a receipt.
#[derive(Clone, Debug, Serialize)]
#[must_use = "a report that nobody reads verifies nothing"]
pub struct ProvenReport {
    schema: &'static str,
    /// Whether the proof holds: nothing failed, and the evidence was appraised and accepted.
    pub holds: bool,
    /// Id of the request, as the receipt names it.
    pub request_id: RequestId,
    /// Which part is shown.
    pub child: String,
    /// What it says, in words; true only if the proof holds.
    pub statement: String,
    /// Whether the receipt or the evidence is of the simulated platform, which proves nothing.
    pub insecure_sim: bool,
    /// The evidence appraised again, or `None` if no pins were given.
    pub evidence: Option<Verdict>,
    /// Every check of the part.
    pub receipt: ReceiptReport,
}

impl ProvenReport {
    /// Whether anything that was checked did not hold.
    #[must_use]
    pub fn failed(&self) -> bool {
        !self.receipt.ok || self.evidence.as_ref().is_some_and(|verdict| !verdict.accepted())
    }

    /// The last line of the report.
    #[must_use]
    pub fn conclusion(&self) -> String {
        let sim = if self.insecure_sim { " (INSECURE-SIM: this proves nothing)" } else { "" };
        if self.failed() {
            return format!("REFUSED{sim}  this proof does not hold; do not rely on it");
        }
        let (statement, unchecked) = (&self.statement, not_checked(&self.receipt));
        if self.evidence.is_none() {
            return format!(
                "UNPROVEN{sim}  somebody signed this: {statement}. Who it was is not shown: give pins \
                 and collateral to appraise the evidence{unchecked}"
            );
        }
        format!("HOLDS{sim}  the attested worker signed this: {statement}{unchecked}")
    }
}

fn statement(proof: &ChildProof) -> String {
    let id = proof.public().request_id();
    match proof.opened() {
        OpenedChild::Io(io) => format!(
            "request {id} has the commitment {}, its answer {}",
            io.request_commit, io.response_commit
        ),
        OpenedChild::Usage(usage) => format!(
            "request {id} took {} prompt and {} completion tokens and cost {} nanogram",
            usage.prompt,
            usage.completion,
            proof.public().amount()
        ),
        OpenedChild::Model(model) => format!(
            "request {id} was answered by the model with root {} on the measurement {}",
            model.manifest_sha256, model.engine_image_sha256
        ),
        OpenedChild::Att(att) => format!(
            "request {id} was answered under the evidence {} of the measurement {}",
            att.evidence_sha256, att.measurement_sha256
        ),
    }
}

/// The schema is read first and alone, so that a newer document is refused by its version.
#[derive(Deserialize)]
struct SchemaOnly {
    schema: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    appraised_at: UnixTime,
    proof: serde_json::Value,
    session: Session,
    evidence: AttestationDocument,
}
